"""Lists of one's own: CSV tables with a line of column names, and a video a line.

    path,label,split                           path,label,split1,split2
    anna/morning.mp4,wave,train                anna/morning.mp4,wave,train,test
    ben/evening.mp4,wave,test                  ben/evening.mp4,wave,test,train

Paths are relative to the input folder and stay in it; where the video lies and what it is called there mean
nothing else. A side is train, test, or empty for neither. Several tables are read as one: `split` in `list2.csv`
is split 2, and `train.csv` and `test.csv` need no such column. Other columns are passed over.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from r23d_jax.errors import UserError
from tfds_ucf101 import lists

FILE = "videos.csv"
FOLDER = "lists"

_ROLES = {"train": lists.TRAIN, "test": lists.TEST, "neither": lists.NEITHER, "none": lists.NEITHER, "": lists.NEITHER}
_STEM = re.compile(r"(?P<what>.*?)[ _-]*(?:(?<!\d)0*(?P<split>[123]))?")


@dataclass
class _Video:
    """What the tables say of one file; `given` is where they say its side in a split."""

    label: str
    place: str
    roles: dict[str, int]
    given: dict[str, str]


def tables(root: Path) -> list[Path]:
    """`root/videos.csv`, or every `root/lists/*.csv`; empty if there are neither.

    Raises:
      UserError: both are there.
    """
    one, many = root / FILE, sorted((root / FOLDER).glob("*.csv"))
    if one.is_file() and many:
        raise UserError(f"{one} and {many[0]} are both there: keep one table, or all of them in {root / FOLDER}")
    return [one] if one.is_file() else many


def read(root: Path, files: Sequence[Path]) -> lists.Lists:
    """Reads the tables; classes come sorted, but UCF101's and no others in its own order.

    Raises:
      UserError: a table is malformed, a path leaves the folder, a video comes twice, has two labels, is on both
        sides of a split, or would have another's name; or a class is tested and never trained.
    """
    videos: dict[str, _Video] = {}
    for file in files:
        for path, video in _rows(file):
            _merge(videos, path, video)
    where = files[0] if len(files) == 1 else files[0].parent
    if not videos:
        raise UserError(f"{where} lists no videos")
    class_names = lists.check_class_names(lists.in_order({video.label for video in videos.values()}), where)
    names: dict[str, str] = {}
    for path, video in videos.items():
        name = _name(path, video.label)
        if name in names:
            raise UserError(f"{video.place}: {path} and {names[name]} would both be named {name}: rename one")
        names[name] = path
    splits = {}
    for split in sorted({split for video in videos.values() for split in video.roles}):
        sides = [
            [name for name, path in names.items() if videos[path].roles.get(split) == role]
            for role in (lists.TRAIN, lists.TEST)
        ]
        splits[split] = (sides[0], sides[1])
        trained = {name.split("/")[0] for name in sides[0]}
        orphan = next((name for name in sides[1] if name.split("/")[0] not in trained), None)
        if orphan is not None and trained:
            video = videos[names[orphan]]
            raise UserError(f"{video.place}: the label {video.label!r} is tested but never trained in split {split}")
    return lists.Lists(where, class_names, splits, frozenset(names), names)


def _merge(videos: dict[str, _Video], path: str, video: _Video) -> None:
    """Adds a row to what earlier ones say of its file."""
    known = videos.setdefault(path, video)
    if known is video:
        return
    if known.label != video.label:
        raise UserError(f"{video.place}: {path} is {video.label!r} here and {known.label!r} in {known.place}")
    for split, role in video.roles.items():
        if split in known.roles:
            here, there = lists.ROLES[role], lists.ROLES[known.roles[split]]
            what = "listed twice" if here == there else f"{here} here and {there} there"
            raise UserError(f"{video.place}: {path} is in split {split} by {known.given[split]} already: {what}")
        known.roles[split], known.given[split] = role, video.given[split]


def _rows(file: Path) -> Iterator[tuple[str, _Video]]:
    """The file's path in POSIX form, and the rest of its row."""
    reader = csv.reader(io.StringIO(lists.text_of(file), newline=""), strict=True)
    columns: dict[str, int] | None = None
    try:
        for fields in reader:
            place = f"{file} line {reader.line_num}"
            if not any(field.strip() for field in fields):
                continue
            if columns is None:
                columns, width = _columns(file, fields), len(fields)
                splits, side = _splits(file, columns)
                continue
            if len(fields) != width:
                raise UserError(f"{place}: {len(fields)} fields, the first line has {width}; quote those with commas")
            path = _path(fields[columns["path"]].strip(), place)
            label = fields[columns["label"]].strip()
            if not label:
                raise UserError(f"{place}: no label")
            roles = {split: _role(fields[columns[column]], column, place) for column, split in splits.items()}
            roles = roles or {side[0]: side[1]}
            yield path, _Video(label, place, roles, dict.fromkeys(roles, place))
    except csv.Error as error:
        raise UserError(f"{file} line {reader.line_num}: not a CSV table ({error})") from None
    if columns is None:
        raise UserError(f"{file} is empty; its first line must be path,label,split")


def _columns(file: Path, header: Sequence[str]) -> dict[str, int]:
    """Place of every column by its name."""
    names = [name.strip().casefold() for name in header]
    for name in ("path", "label"):
        if name not in names:
            raise UserError(f"{file} line 1: no column {name!r} in {','.join(header)!r}; name path,label,split")
    for name in names:
        if name and names.count(name) > 1:
            raise UserError(f"{file} line 1: the column {name!r} is there twice")
        if name.startswith("split") and name not in ("split", *(f"split{split}" for split in lists.SPLITS)):
            raise UserError(f"{file} line 1: unknown column {name!r}; give split, or split1, split2 and split3")
    return {name: place for place, name in enumerate(names)}


def _splits(file: Path, columns: dict[str, int]) -> tuple[dict[str, str], tuple[str, int] | None]:
    """Which column says which split; without any, the split and side that the file's name says."""
    match = _STEM.fullmatch(file.stem)
    number, what = match["split"] or "1", match["what"].casefold()
    splits = {f"split{split}": split for split in lists.SPLITS if f"split{split}" in columns}
    if "split" in columns:
        if splits:
            raise UserError(f"{file} line 1: split and {next(iter(splits))} exclude each other")
        splits = {"split": number}
    side = {"train": lists.TRAIN, "test": lists.TEST}.get(what)
    if not splits and side is None:
        raise UserError(f"{file} line 1: no column 'split'; give it, with train or test for every video")
    return splits, None if side is None else (number, side)


def _path(text: str, place: str) -> str:
    path = PurePosixPath(text.replace("\\", "/"))
    if not path.parts or not text.isprintable():
        raise UserError(f"{place}: the path is {text!r}; give that of a video")
    if path.is_absolute() or PureWindowsPath(text).drive or ".." in path.parts:
        raise UserError(f"{place}: {text!r} does not stay in the input folder; give paths relative to it, without ..")
    return str(path)


def _role(text: str, column: str, place: str) -> int:
    role = _ROLES.get(text.strip().casefold())
    if role is None:
        raise UserError(f"{place}: {column} is {text.strip()!r}; give train or test, or leave it empty for neither")
    return role


def _name(path: str, label: str) -> str:
    """`<label>/<path without its ending>`, less a leading `videos` or `frames` and the label's own folder.

    So a table over UCF101's layout gives its videos the names that UCF101's lists give them.
    """
    parts = list(PurePosixPath(path).parts)
    if len(parts) > 1 and parts[0] in ("videos", "frames"):
        parts.pop(0)
    if len(parts) > 1 and parts[0] == label:
        parts.pop(0)
    return "/".join([label, *parts[:-1], lists.stem_of(parts[-1])])
