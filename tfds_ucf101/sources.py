"""Finds the videos in a folder and says what each one is: label, group, clip, and side in every split."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r23d_jax.errors import UserError
from tfds_ucf101 import csv_lists, hmdb51, lists

IMAGES = (".jpg", ".jpeg", ".png")
_IGNORED = frozenset({"thumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class Source:
    """One video to be stored.

    Attributes:
      name: "<Class>/<file stem>", unique.
      path: the video file, or the folder of its frames.
      shown: the path from the input folder, for messages.
      label: index into the plan's class names.
      group, clip: from the name, -1 where it has none.
      roles: `lists.NEITHER`, `TRAIN` or `TEST` in the splits 1, 2, 3.
    """

    name: str
    path: str
    shown: str
    label: int
    group: int
    clip: int
    roles: tuple[int, int, int]


@dataclass(frozen=True)
class Plan:
    """All that is known before a frame is decoded.

    Attributes:
      class_names: in label order.
      splits: those that exist, of "1", "2", "3".
      sources: the videos, sorted by name.
      unlisted: names of videos that no list mentions.
      absent: listed keys that are not on disk; empty unless a part was asked for.
    """

    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    sources: tuple[Source, ...]
    unlisted: tuple[str, ...]
    absent: tuple[str, ...]


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorts `frame10` after `frame9`."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def scan(root: Path, *, use_lists: str, classes: Sequence[str], subset: bool) -> Plan:
    """Reads the lists in a folder, and the names of the videos in it.

    Args:
      root: holds `videos/<Class>/<file>` or `frames/<Class>/<video>/<image>`, and maybe lists: UCF101's in
        ucfTrainTestlist, HMDB51's in testTrainMulti_7030_splits, or tables, videos.csv or lists/*.csv, which
        say themselves where the videos are.
      use_lists: "auto": lists where the folder has them, else groups; "required"; "ignore": groups.
      classes: only these; all if empty.
      subset: only a part of the listed videos is there, or of UCF101 or HMDB51.

    Raises:
      UserError: folders, lists and names do not fit together; the message names the first that does not.
    """
    if not root.is_dir():
        raise UserError(f"{root} is no folder: give --manual_dir=DIR with DIR/videos/<Class>/<file>")
    listed = None if use_lists == "ignore" else find_lists(root)
    if listed is None and use_lists == "required":
        raise UserError(f"{root / lists.LISTS_FOLDER} is missing, as are other lists, and the config asks for lists")
    if listed is not None and listed.files is not None:
        return _scan_files(root, listed, classes, subset)
    found = _find(root)
    class_names = lists.in_order(found) if listed is None else listed.class_names
    class_names, found = _choose_classes(class_names, found, classes, root, listed)
    paths = {f"{name}/{key}": path for name in class_names for key, path in found[name].items()}
    groups = {key: lists.group_and_clip(key)[0] for key in paths}
    absent: list[str] = []
    mentioned: set[str] = set()
    if listed is not None:
        splits, mentioned, absent = _match(listed, paths, class_names)
        _refuse_absent(absent, listed, subset)
    else:
        splits = lists.split_by_groups(groups, str(root))
    lists.check_no_leak(splits, groups)
    if not subset and not classes:
        if lists.is_ucf101(class_names):
            lists.check_ucf101(len(paths), splits)
        elif listed is not None:
            hmdb51.check_counts(listed, splits)
    unlisted = sorted(set(paths) - mentioned) if listed is not None else []
    return _plan(root, class_names, paths, splits, unlisted, absent)


def find_lists(root: Path) -> lists.Lists | None:
    """The lists that lie in a folder, of whatever kind; None where there are none.

    Raises:
      UserError: lists of two kinds are there, or they are malformed.
    """
    tables = csv_lists.tables(root)
    there = [root / name for name in (lists.LISTS_FOLDER, hmdb51.FOLDER) if (root / name).is_dir()] + tables[:1]
    if len(there) > 1:
        raise UserError(f"{there[0]} and {there[1]} are both there: move away the one that is not to count")
    if not there:
        return None
    if tables:
        return csv_lists.read(root, tables)
    return hmdb51.read(there[0]) if there[0].name == hmdb51.FOLDER else lists.read_lists(there[0])


def _scan_files(root: Path, listed: lists.Lists, classes: Sequence[str], subset: bool) -> Plan:
    """The plan of tables that say where every video is. Files that they do not list are passed over."""
    class_names = _wanted(listed.class_names, classes, listed.where)
    keys = [key for key in listed.files if key.split("/")[0] in class_names]
    paths = {key: root / listed.files[key] for key in keys if (root / listed.files[key]).exists()}
    absent = sorted(set(keys) - set(paths))
    _refuse_absent([listed.files[key] for key in absent], listed, subset)
    splits = {
        split: tuple([key for key in side if key in paths] for side in sides) for split, sides in listed.splits.items()
    }
    splits = {split: sides for split, sides in splits.items() if all(sides)}
    lists.check_no_leak(splits, {key: lists.group_and_clip(key)[0] for key in paths})
    return _plan(root, class_names, paths, splits, [], absent)


def _find(root: Path) -> dict[str, dict[str, Path]]:
    """Class folder -> video's stem -> path, each in sorted order."""
    bases = [base for base in (root / "videos", root / "frames") if base.is_dir()]
    if len(bases) != 1:
        raise UserError(f"{root} must hold a folder videos or a folder frames; it has {len(bases)} of the two")
    folders = [p for p in _visible(bases[0]) if p.is_dir()]
    if not folders:
        raise UserError(f"{bases[0]} holds no class folders")
    return {folder.name: _videos_of(folder, bases[0].name == "frames") for folder in folders}


def _videos_of(folder: Path, as_frames: bool) -> dict[str, Path]:
    videos: dict[str, Path] = {}
    for path in _visible(folder):
        if path.is_dir() != as_frames:
            expected = "a folder of images" if as_frames else "a video file"
            raise UserError(f"{path} is not {expected}")
        stem = path.name if as_frames else lists.stem_of(path.name)
        if stem in videos:
            raise UserError(f"{videos[stem]} and {path.name} would both be named {folder.name}/{stem}: rename one")
        videos[stem] = path
    if not videos:
        raise UserError(f"the class folder {folder} is empty: fill it or remove it")
    return videos


def _visible(folder: Path) -> list[Path]:
    paths = [p for p in folder.iterdir() if not p.name.startswith(".") and p.name.lower() not in _IGNORED]
    for path in paths:
        if not lists.is_text(path.name):
            raise UserError(f"{folder}: the name {os.fsencode(path.name)} is not UTF-8: rename it")
    return sorted(paths, key=lambda p: p.name)


def _choose_classes(
    class_names: Sequence[str],
    found: dict[str, dict[str, Path]],
    classes: Sequence[str],
    root: Path,
    listed: lists.Lists | None,
) -> tuple[list[str], dict[str, dict[str, Path]]]:
    """Checks class list and class folders against each other; case may differ where that is unambiguous."""
    by_fold: dict[str, str] = {}
    for name in found:
        if name.casefold() in by_fold:
            other = by_fold[name.casefold()]
            raise UserError(f"the class folders {other} and {name} in {root} differ in upper and lower case only")
        by_fold[name.casefold()] = name
    where = listed.where if listed else root
    chosen = _wanted(class_names, classes, where)
    missing = [name for name in chosen if name.casefold() not in by_fold]
    if missing:
        hint = 'name the classes that are there in the config\'s "classes"'
        raise UserError(f"the class {missing[0]} ({len(missing)} in all) has no folder in {root}: {hint}")
    known = {name.casefold() for name in class_names}
    surplus = [name for name in found if name.casefold() not in known]
    if surplus and not classes:
        where = where / "classInd.txt" if where.name == lists.LISTS_FOLDER else where
        hint = 'add it there, remove the folder, or name the classes you want in the config\'s "classes"'
        raise UserError(f"the class folder {surplus[0]} in {root} is not in {where}: {hint}")
    return chosen, {name: found[by_fold[name.casefold()]] for name in chosen}


def _wanted(class_names: Sequence[str], classes: Sequence[str], where: Path) -> list[str]:
    """The classes that the config asks for, in their own order."""
    known = {name.casefold() for name in class_names}
    unknown = [name for name in classes if name.casefold() not in known]
    if unknown:
        raise UserError(f"the config asks for the class {unknown[0]}, which {where} does not have")
    wanted = {name.casefold() for name in classes} or known
    return [name for name in class_names if name.casefold() in wanted]


def _match(
    listed: lists.Lists, paths: dict[str, Path], class_names: Sequence[str]
) -> tuple[lists.SplitKeys, set[str], list[str]]:
    """The splits in keys as they are on disk, less the classes left out; all listed keys there, and those not."""
    by_fold: dict[str, list[str]] = {}
    for key in paths:
        by_fold.setdefault(key.casefold(), []).append(key)
    chosen = set(class_names)
    there: dict[str, str] = {}
    absent = []
    for key in sorted(listed.mentioned):
        if key.split("/")[0] not in chosen:
            continue
        alike = [key] if key in paths else by_fold.get(key.casefold(), [])
        if len(alike) == 1:
            there[key] = alike[0]
        else:
            absent.append(key)
    splits = {
        split: tuple([there[key] for key in side if key in there] for side in sides)
        for split, sides in listed.splits.items()
    }
    return {split: sides for split, sides in splits.items() if all(sides)}, set(there.values()), absent


def _refuse_absent(absent: Sequence[str], listed: lists.Lists, subset: bool) -> None:
    if absent and not subset:
        hint = 'to build without, ask with --config \'{"name": "part", "subset": true}\''
        raise UserError(f"{len(absent)} videos listed in {listed.where} are not on disk, first {absent[0]}; {hint}")


def _plan(
    root: Path,
    class_names: Sequence[str],
    paths: dict[str, Path],
    splits: lists.SplitKeys,
    unlisted: Sequence[str],
    absent: Sequence[str],
) -> Plan:
    if not splits:
        raise UserError(f"{root}: every split has one side without videos; nothing could be trained and tested")
    roles = {key: [lists.NEITHER] * len(lists.SPLITS) for key in paths}
    for split, (train, test) in splits.items():
        for keys, role in ((train, lists.TRAIN), (test, lists.TEST)):
            for key in keys:
                roles[key][lists.SPLITS.index(split)] = role
    labels = {name: index for index, name in enumerate(class_names)}
    sources = []
    for key in sorted(paths):
        group, clip = lists.group_and_clip(key)
        path, label = paths[key], labels[key.split("/")[0]]
        shown = os.path.relpath(path, root)
        sources.append(Source(key, os.path.abspath(path), shown, label, group, clip, tuple(roles[key])))
    return Plan(tuple(class_names), tuple(splits), tuple(sources), tuple(unlisted), tuple(absent))
