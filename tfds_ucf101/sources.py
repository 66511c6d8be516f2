"""Plans a build: what the input folder is, its videos, their labels, and their sides in every split."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from r23d_jax.errors import UserError, printable
from tfds_ucf101 import classes, divide, lists, splits
from tfds_ucf101.errors import InputError
from tfds_ucf101.layouts import detect, hmdb51, references, tables, ucf101
from tfds_ucf101.layouts.found import Found
from tfds_ucf101.layouts.opening import open_input
from tfds_ucf101.layouts.tree import Folder
from tfds_ucf101.media import Media
from tfds_ucf101.options import ScanOptions

_PART = 'ask with --config \'{"name": "part", "subset": true}\''


@dataclass(frozen=True, slots=True)
class Source:
    """One video to be stored.

    Attributes:
      name: "<Class>/<file stem>", unique.
      media: where its pictures lie.
      shown: the path from the input folder, for messages.
      label: index into the plan's class names.
      group, clip: from the name, -1 where it has none.
      roles: `lists.NEITHER`, `TRAIN`, `VAL` or `TEST` in the splits "1", "2" and so on.
      origin: the source video that it was cut from; "" if unknown. Clips of one origin belong on one side of a split.
    """

    name: str
    media: Media
    shown: str
    label: int
    group: int
    clip: int
    roles: tuple[int, ...]
    origin: str = ""


@dataclass(frozen=True)
class Plan:
    """All that is known before a frame is decoded.

    Attributes:
      class_names: in label order.
      splits: those that exist, of "1", "2" and so on.
      sources: the videos, sorted by name.
      unlisted: names of videos that no list mentions.
      absent: listed keys that are not on disk; empty unless a part was asked for.
      layout: what the folder was taken for, and where its splits come from, in one line.
      notes: what the user should know before the build, a line each.
      leak_check: False where a source video may be on both sides of a split.
    """

    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    sources: tuple[Source, ...]
    unlisted: tuple[str, ...]
    absent: tuple[str, ...]
    layout: str = ""
    notes: tuple[str, ...] = ()
    leak_check: bool = True


def scan(root: Path, config: ScanOptions, scratch: Path) -> Plan:
    """Finds out what a folder is, and reads the names of its videos and the lists in it; decodes nothing.

    Args:
      root: of any layout of `tfds_ucf101.layouts`.
      config: `config.VideoConfig`, or the options alone.
      scratch: a folder that a rar file may be unpacked into; zip files are read as they are.

    Raises:
      UserError: it is of no layout, or folders, lists and names do not fit together; the message names the first.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder", config=": give --manual_dir=DIR with your videos")
    folder = Folder(root) if config.table else open_input(root, scratch)
    listed, found = _read(folder, config)
    used = listed.used if listed is not None else frozenset()
    unused = [] if config.table else list(detect.unused_lists(folder, used))
    notes = [*found.notes, *([f"not used, though they look like lists: {lists.preview(unused)}"] if unused else [])]
    found, class_names = classes.choose(found, listed, config)
    if listed is None and not config.classes:
        classes.refuse_none(found, class_names, unused)
    origins = {key: lists.origin_of(key) for key in found.media}
    sides, whence, mentioned, absent = _divide(found, listed, class_names, splits.together(origins), config)
    usable = lists.usable(sides, tested=not config.as_found)
    if not usable:
        raise InputError(
            f"{root}: every split has ",
            config=f"one side without videos (they are from {whence}); give train and test some",
            plain=f"no train video (they are from {whence}); give it some",
        )
    left_out = [split for split in sides if split not in usable]
    notes += [f"without train or without test videos, and left out: {_in_words(left_out)}"] if left_out else []
    notes += [] if config.as_found else _untrained(usable)
    if len(class_names) == 1 and listed is None and any(key.count("/") > 1 for key in found.media):
        notes.append(f"there is one class only, {class_names[0]}: is it the folder around your classes?")
    if config.leak_check:
        lists.check_no_leak(usable, origins)
    else:
        whence += "; leak check off"
    if not config.subset and not config.classes:
        notes += _check_official(class_names, found, usable, listed, config.as_found)
    divided = f"{_in_words(tuple(usable))} from {whence}" if whence else "nothing in it says train and test"
    return Plan(
        tuple(class_names),
        tuple(usable),
        _sources(found, class_names, usable, origins, config.split_names),
        tuple(sorted(set(found.media) - mentioned)),
        tuple(absent),
        printable(f"{found.layout}: {len(found.media):,} videos, {divided}"),
        tuple(map(printable, notes)),
        config.leak_check,
    )


def _read(folder: Folder, config: ScanOptions) -> tuple[lists.Lists | None, Found]:
    """The lists that count, and the videos, with their sides as they are meant."""
    listed, found = _as_written(folder, config)
    if config.as_found:
        return listed, found
    if listed is not None:
        listed = dataclasses.replace(listed, sides=lists.two_are_train_and_test(listed.sides))
    return listed, dataclasses.replace(found, sides=lists.two_are_train_and_test(found.sides))


def _as_written(folder: Folder, config: ScanOptions) -> tuple[lists.Lists | None, Found]:
    """The lists that count, and the videos: those that tables name, or those of the folder's layout."""
    if config.lists in ("ignore", "folders"):
        return None, detect.find_videos(folder, config.flow_files)
    if config.table:
        listed, meant = tables.read([tables.named(folder, config.table)]), True
    else:
        listed, meant = detect.find_lists(folder, config.flow_files)
    if listed is None and config.lists == "required":
        raise UserError(f"{folder}/{ucf101.FOLDER} is missing, as are other lists, and the config asks for lists")
    if listed is None or listed.files is None:
        return listed, detect.find_videos(folder, config.flow_files)
    wanted = {name.casefold() for name in classes.wanted(listed.class_names or (), config.classes, listed.where)}
    files = {key: file for key, file in listed.files.items() if key.split("/")[0].casefold() in wanted}
    listed_now = dataclasses.replace(listed, files=files)
    found, missing = references.resolve(folder, listed_now, config.flow_files, anywhere=bool(config.table))
    if not found.media and not meant and config.lists != "required":
        return None, detect.find_videos(folder, config.flow_files)
    _refuse_absent([files[key] for key in missing], listed, config.subset)
    return listed, found


def _divide(
    found: Found,
    listed: lists.Lists | None,
    class_names: Sequence[str],
    together: Mapping[str, str],
    config: ScanOptions,
) -> tuple[lists.Sides, str, set[str], list[str]]:
    """All splits, where they come from, the keys that lists mention, and those that they name and that are not there.

    Without lists all are mentioned.
    """
    if listed is None:
        sides, whence = splits.choose(found, together, config)
        mentioned, absent = set(found.media), []
    else:
        sides, mentioned, absent = _match(listed, found, class_names)
        _refuse_absent(absent, listed, config.subset)
        whence = listed.kind + _beside(found, sides)
        if not listed.sides:
            sides, whence = splits.choose(found, together, config)
    if config.validation:
        sides = divide.with_validation(sides, together, config.validation, config.split_seed)
        whence += f", {config.validation:.0%} of train as val (seed {config.split_seed})"
    return sides, whence, mentioned, absent


def _beside(found: Found, sides: lists.Sides) -> str:
    """What the folders' own sides are beside those of lists, in words; "" where there are none."""
    for split, own in found.sides.items():
        if split in sides:
            differ = splits.differing(own, sides[split])
            how = f"differ from split {split} in {len(differ):,} videos" if differ else f"agree with split {split}"
            return f"; the folders' own sides {how}"
    return ""


def _untrained(usable: lists.Sides) -> list[str]:
    """Notes of splits with classes that they test and do not train."""
    notes = []
    for split, one in usable.items():
        of_role = {role: {key.split("/")[0] for key in lists.of_side(one, role)} for role in (lists.TRAIN, lists.TEST)}
        if untrained := sorted(of_role[lists.TEST] - of_role[lists.TRAIN]):
            notes.append(f"split {split} tests classes of which it trains nothing: {lists.preview(untrained)}")
    return notes


def _check_official(
    class_names: Sequence[str], found: Found, usable: lists.Sides, listed: lists.Lists | None, tell: bool
) -> list[str]:
    """Asserts that UCF101 and HMDB51 are whole, unless a table says itself which videos there are.

    Returns:
      What they lack, if that is to be told and no error.
    """
    try:
        if listed is None:
            if ucf101.is_most(class_names):
                ucf101.check_videos(found.media)
        elif listed.files is None:
            if ucf101.is_ucf101(class_names):
                ucf101.check_videos(found.media)
                ucf101.check_counts(usable)
            hmdb51.check(class_names, usable)
    except InputError as error:
        if not tell:
            raise
        return [error.plain]
    return []


def _in_words(splits: Sequence[str]) -> str:
    """The splits, for a line of text: "split 1", "splits 1 and 3", "splits 1 to 3"."""
    if len(splits) == 1:
        return f"split {splits[0]}"
    if len(splits) > 2 and [int(split) for split in splits] == list(range(int(splits[0]), int(splits[-1]) + 1)):
        return f"splits {splits[0]} to {splits[-1]}"
    return f"splits {', '.join(splits[:-1])} and {splits[-1]}"


def _match(listed: lists.Lists, found: Found, class_names: Sequence[str]) -> tuple[lists.Sides, set[str], list[str]]:
    """The splits in keys as they are on disk, less the classes left out; all listed keys there, and those not."""
    by_fold: dict[str, list[str]] = {}
    for key in found.media:
        by_fold.setdefault(key.casefold(), []).append(key)
    chosen = set(class_names)
    there: dict[str, str] = {}
    absent = []
    for key in sorted(listed.mentioned):
        if key.split("/")[0] not in chosen:
            continue
        alike = [key] if key in found.media else by_fold.get(key.casefold(), [])
        if len(alike) == 1:
            there[key] = alike[0]
        else:
            absent.append(key)
    sides = {
        split: {there[key]: role for key, role in one.items() if key in there} for split, one in listed.sides.items()
    }
    return sides, set(there.values()), absent


def _refuse_absent(absent: Sequence[str], listed: lists.Lists, subset: bool) -> None:
    if absent and not subset:
        raise InputError(
            f"{len(absent):,} videos listed in {listed.where} are not on disk, first {absent[0]}",
            config=f'; to build without, {_PART}; to build without the lists, set the config\'s lists to "ignore"',
            plain=": add them, or take them out of the lists",
        )


def _sources(
    found: Found,
    class_names: Sequence[str],
    usable: lists.Sides,
    origins: Mapping[str, str],
    split_names: Sequence[str],
) -> tuple[Source, ...]:
    labels = {name: index for index, name in enumerate(class_names)}
    surplus = [split for split in usable if split not in split_names]
    if surplus:
        raise UserError(
            f"{found.where} has the split {surplus[-1]}; set the config's folds to {surplus[-1]} to store it"
        )
    sources = []
    for key in sorted(found.media):
        group, clip = lists.group_and_clip(key.rpartition("/")[2])
        roles = tuple(usable.get(split, {}).get(key, lists.NEITHER) for split in split_names)
        label = labels[key.split("/")[0]]
        sources.append(Source(key, found.media[key], found.shown[key], label, group, clip, roles, origins[key]))
    return tuple(sources)
