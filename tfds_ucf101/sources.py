"""Finds the videos in a folder and says what each one is: label, group, clip, and side in every split."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from r23d_jax.errors import UserError
from tfds_ucf101 import lists

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
    """Reads the names in `root/videos` or `root/frames` and the lists beside them.

    Args:
      root: holds `videos/<Class>/<file>` or `frames/<Class>/<video>/<image>`, and maybe ucfTrainTestlist.
      use_lists: "auto": lists where the folder has them, else groups; "required"; "ignore": groups.
      classes: only these; all if empty.
      subset: only a part of the listed videos is there, or of UCF101.

    Raises:
      UserError: folders, lists and names do not fit together; the message names the first that does not.
    """
    found = _find(root)
    folder = root / lists.LISTS_FOLDER
    if use_lists == "required" and not folder.is_dir():
        raise UserError(f"{folder} is missing, and the config asks for lists")
    with_lists = use_lists != "ignore" and folder.is_dir()
    if with_lists:
        class_names, splits = lists.read_lists(folder)
    else:
        class_names, splits = _class_order(list(found)), {}
    class_names, found = _choose_classes(class_names, found, classes, root, folder if with_lists else None)
    paths = {f"{name}/{key}": path for name in class_names for key, path in found[name].items()}
    groups = {key: lists.group_and_clip(key)[0] for key in paths}
    absent: list[str] = []
    if with_lists:
        splits, absent = _match(splits, paths, class_names, folder, partial=subset)
    else:
        splits = lists.split_by_groups(groups, str(root))
    lists.check_no_leak(splits, groups)
    if lists.is_ucf101(class_names) and not subset and not classes:
        lists.check_ucf101(len(paths), splits)
    return _plan(root, class_names, paths, splits, absent)


def _find(root: Path) -> dict[str, dict[str, Path]]:
    """Class folder -> video's stem -> path, each in sorted order."""
    if not root.is_dir():
        raise UserError(f"{root} is no folder: give --manual_dir=DIR with DIR/videos/<Class>/<file>")
    bases = [base for base in (root / "videos", root / "frames") if base.is_dir()]
    if len(bases) != 1:
        raise UserError(
            f"{root} must hold a folder videos or a folder frames; it has {len(bases)} of the two"
        )
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
            raise UserError(
                f"{videos[stem]} and {path.name} would both be named {folder.name}/{stem}: rename one"
            )
        videos[stem] = path
    if not videos:
        raise UserError(f"the class folder {folder} is empty: fill it or remove it")
    return videos


def _visible(folder: Path) -> list[Path]:
    paths = [p for p in folder.iterdir() if not p.name.startswith(".") and p.name.lower() not in _IGNORED]
    return sorted(paths, key=lambda p: p.name)


def _class_order(folders: Sequence[str]) -> list[str]:
    """Sorted, but UCF101's own order for its classes: it puts Hammering before HammerThrow."""
    if lists.is_ucf101(folders):
        by_name = {folder.casefold(): folder for folder in folders}
        return [by_name[name.casefold()] for name in lists.UCF101_CLASSES]
    return sorted(folders)


def _choose_classes(
    class_names: Sequence[str],
    found: dict[str, dict[str, Path]],
    classes: Sequence[str],
    root: Path,
    folder: Path | None,
) -> tuple[list[str], dict[str, dict[str, Path]]]:
    """Checks class list and class folders against each other; case may differ where that is unambiguous."""
    by_fold: dict[str, str] = {}
    for name in found:
        if name.casefold() in by_fold:
            other = by_fold[name.casefold()]
            raise UserError(
                f"the class folders {other} and {name} in {root} differ in upper and lower case only"
            )
        by_fold[name.casefold()] = name
    known = {name.casefold(): name for name in class_names}
    unknown = [name for name in classes if name.casefold() not in known]
    if unknown:
        raise UserError(f"the config asks for the class {unknown[0]}, which {folder or root} does not have")
    wanted = {name.casefold() for name in classes} or set(known)
    missing = [name for name in class_names if name.casefold() in wanted and name.casefold() not in by_fold]
    if missing:
        hint = 'name the classes that are there in the config\'s "classes"'
        raise UserError(f"the class {missing[0]} ({len(missing)} in all) has no folder in {root}: {hint}")
    surplus = [name for name in found if name.casefold() not in known]
    if surplus and not classes:
        hint = 'add it there, remove the folder, or name the classes you want in the config\'s "classes"'
        raise UserError(f"the class folder {surplus[0]} in {root} is not in {folder}/classInd.txt: {hint}")
    chosen = [name for name in class_names if name.casefold() in wanted]
    return chosen, {name: found[by_fold[name.casefold()]] for name in chosen}


def _match(
    splits: lists.SplitKeys,
    paths: dict[str, Path],
    class_names: Sequence[str],
    folder: Path,
    *,
    partial: bool,
) -> tuple[lists.SplitKeys, list[str]]:
    """The splits in keys as they are on disk, less the classes left out, and the listed keys not there."""
    by_fold: dict[str, list[str]] = {}
    for key in paths:
        by_fold.setdefault(key.casefold(), []).append(key)
    chosen, absent, matched = set(class_names), [], {}
    for split, sides in splits.items():
        matched[split] = ([], [])
        for side, keys in zip(matched[split], sides, strict=True):
            for key in keys:
                if key.split("/")[0] not in chosen:
                    continue
                there = [key] if key in paths else by_fold.get(key.casefold(), [])
                if len(there) == 1:
                    side.append(there[0])
                else:
                    absent.append(key)
    absent = sorted(set(absent))
    if absent and not partial:
        hint = 'to build without, ask with --config \'{"name": "part", "subset": true}\''
        raise UserError(f"{len(absent)} videos listed in {folder} are not on disk, first {absent[0]}; {hint}")
    return {split: sides for split, sides in matched.items() if all(sides)}, absent


def _plan(
    root: Path,
    class_names: Sequence[str],
    paths: dict[str, Path],
    splits: lists.SplitKeys,
    absent: Sequence[str],
) -> Plan:
    if not splits:
        raise UserError(
            f"{root}: every split has one side without videos; nothing could be trained and tested"
        )
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
    unlisted = tuple(key for key in sorted(paths) if not any(roles[key]))
    return Plan(tuple(class_names), tuple(splits), tuple(sources), unlisted, tuple(absent))
