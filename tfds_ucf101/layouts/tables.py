"""Tables of videos as lists: which of the files that lie around are read, and what they say together.

`videos.csv`, or all of `lists/*.csv`, or the files of one family, such as `train.csv`, `val.csv` and `test.csv`, of any
of the forms of `table_forms`. A table without a column of sides is of the side, and of the split, that its name says.
"""

import dataclasses
import hashlib
import itertools
import posixpath
from collections.abc import Iterable, Mapping, Sequence

from r23d_jax.errors import UserError
from tfds_ucf101.layouts import ucf101
from tfds_ucf101.layouts.labels import is_called_so, label_names
from tfds_ucf101.layouts.table_forms import ENDINGS, FILE, Row, Table, recognise, rows
from tfds_ucf101.layouts.tree import Folder
from tfds_ucf101.lists import (
    NEITHER,
    ROLES,
    SIDE_NAMES,
    TEST,
    TRAIN,
    VAL,
    Lists,
    Sides,
    check_class_names,
    is_number,
    preview,
    stem_of,
)

FOLDER = "lists"
_HOLDERS = ("", "videos", "frames", "rawframes")


def find_fixed(root: Folder) -> list[Table]:
    """Returns `videos.csv`, or all of `lists/*.csv`; empty where there are neither.

    Raises:
      UserError: both are there.
    """
    many = root.folders.get(FOLDER)
    files = many.files if many is not None else ()
    tables = [name for name in files if name.casefold().endswith(".csv") and not is_called_so(name)]
    if FILE in root.files and tables:
        raise UserError(f"{root}/{FILE} and {many}/{tables[0]} are both there: keep one, or all of them in {many}")
    if FILE in root.files:
        return [named(root, FILE)]
    return [_fixed(many, name) for name in tables] if many is not None else []


def named(folder: Folder, name: str) -> Table:
    """Returns a table that is surely meant as one, which so need say no sides."""
    return recognise(folder, name, meant=True) or Table(folder, name, "columns", ",", meant=True)


def find(folders: Iterable[Folder], flow_files: bool = False) -> list[Table]:
    """Returns the tables of one family that tell train and another side; empty where there is none.

    mmaction2 leaves lists of videos and lists of frames side by side: of two families the one of videos is taken.

    Args:
      folders: where to look, the more likely first.
      flow_files: take the one of frames.
    """
    families: dict[tuple[str, str, str], list[Table]] = {}
    for folder in folders:
        for name in folder.files:
            if name.casefold().endswith(ENDINGS) and (table := recognise(folder, name)) is not None:
                families.setdefault(table.family, []).append(table)
    complete = [tables for tables in families.values() if _is_complete(tables)]
    word = "frames" if flow_files else "videos"
    named = [tables for tables in complete if word in tables[0].name.casefold()]
    return next(iter(named or complete), [])


def read(tables: Sequence[Table]) -> Lists:
    """Reads tables as one. Classes come in the order of their numbers, else of a list of labels, else sorted.

    Raises:
      UserError: a table is malformed, a path leaves the folder, a video comes twice, has two labels, is on two
        sides of a split, or would have another's name; or a class is tested and never trained.
    """
    where = str(tables[0]) if len(tables) == 1 else str(tables[0].folder)
    tables = _without_copies(tables)
    labels_file, labels = label_names(tables[0].folder, besides={table.name for table in tables})
    found, class_names = _named(list(itertools.chain.from_iterable(map(rows, tables))), tables, labels)
    if not found:
        raise UserError(f"{where} lists no videos")
    videos: dict[str, list[Row]] = {}
    for row in found:
        _add(videos.setdefault(row.path, []), row)
    names = _names({path: rows[0] for path, rows in videos.items()})
    sides: dict[str, dict[str, int]] = {}
    for name, path in names.items():
        for row in videos[path]:
            for split, role in row.roles.items():
                sides.setdefault(split, {})[name] = role
    in_order = dict(sorted(sides.items(), key=lambda one: int(one[0])))
    _check_trained(in_order, {name: videos[path][0] for name, path in names.items()})
    kind = preview([table.shown for table in tables])
    used = frozenset(table.shown for table in tables)
    if set(class_names) <= set(labels):
        used |= {tables[0].folder.show(labels_file)}
    return Lists(where, kind, check_class_names(class_names, where), in_order, frozenset(names), names, used)


def _fixed(folder: Folder, name: str) -> Table:
    return recognise(folder, name) or Table(folder, name, "columns", ",")


def _is_complete(tables: Sequence[Table]) -> bool:
    """Whether they tell train and another side: by a column, or by their names."""
    sides = {table.side for table in tables}
    return None in sides or (TRAIN in sides and len(sides) > 1)


def _without_copies(tables: Sequence[Table]) -> list[Table]:
    """Without those of a val side that are the test side's over again, as SlowFast's users make them."""
    content = {table.name: hashlib.sha256(table.folder.read(table.name)).digest() for table in tables}
    tests = {content[table.name] for table in tables if table.side == TEST}
    return [table for table in tables if table.side != VAL or content[table.name] not in tests]


def _named(found: list[Row], tables: Sequence[Table], labels: Sequence[str]) -> tuple[list[Row], list[str]]:
    """The rows with names of classes for numbers, and the classes in order.

    A number's name is that of the folder that all its videos lie in, or what a list of labels says; else the number.
    """
    given = {row.label for row in found}
    if not all(map(is_number, given)):
        if given <= set(labels):
            return found, [label for label in labels if label in given]
        return found, ucf101.in_order(given)
    numbers = sorted(given, key=int)
    names = _by_folder(found) if tables[0].form in ("words", "pairs") else {}
    if not names and labels:
        # A list of labels counts from 0, unless the tables count from 1.
        first = 1 if int(numbers[-1]) == len(labels) and numbers[0] != "0" else 0
        beyond = next((row for row in found if int(row.label) - first >= len(labels)), None)
        if beyond is not None:
            there = f"the list of labels in {tables[0].folder} has {len(labels)}"
            raise UserError(f"{beyond.place}: {beyond.path} has label {beyond.label}, and {there}")
        names = {number: labels[int(number) - first] for number in numbers}
    if not names:
        return found, numbers
    named = [dataclasses.replace(row, label=names[row.label]) for row in found]
    return named, list(dict.fromkeys(names[number] for number in numbers))


def _by_folder(found: Sequence[Row]) -> dict[str, str]:
    """Label -> the name of the folder of all its videos; empty unless each label has one and each folder one label."""
    folders: dict[str, set[str]] = {}
    for row in found:
        folders.setdefault(row.label, set()).add(posixpath.dirname(row.path).rpartition("/")[2])
    names = {label: next(iter(one)) for label, one in folders.items() if len(one) == 1}
    alone = len(names) == len(folders) == len(set(names.values()))
    return names if alone and not set(names.values()) & {"", *SIDE_NAMES} else {}


def _add(known: list[Row], row: Row) -> None:
    """Adds a row to the earlier ones of its video."""
    for other in known:
        if other.label != row.label:
            raise UserError(f"{row.place}: {row.path} is {row.label!r} here and {other.label!r} in {other.place}")
        for split in row.roles.keys() & other.roles.keys():
            here, there = ROLES[row.roles[split]], ROLES[other.roles[split]]
            what = "listed twice" if here == there else f"{here} here and {there} there"
            raise UserError(f"{row.place}: {row.path} is in split {split} by {other.place} already: {what}")
    known.append(row)


def _names(videos: Mapping[str, Row]) -> dict[str, str]:
    """Key -> path. A key is `<label>/<path>` without what says nothing in it, unless two videos would be called so."""
    common = _common_folders(videos)
    short = {path: _name(path, row.label, common, True) for path, row in videos.items()}
    several = len(set(short.values())) < len(short)
    names: dict[str, str] = {}
    for path, row in videos.items():
        name = _name(path, row.label, common, False) if several else short[path]
        if name in names:
            raise UserError(f"{row.place}: {path} and {names[name]} would both be named {name}: rename one")
        names[name] = path
    return names


def _common_folders(paths: Iterable[str]) -> int:
    """How many leading parts all paths share, where they are absolute: they tell of a machine, not of the videos."""
    folders = {posixpath.dirname(path) for path in paths}
    if not all(folder.startswith("/") for folder in folders):
        return 0
    return len(posixpath.commonpath(folders).rstrip("/").split("/"))


def _name(path: str, label: str, common: int, short: bool) -> str:
    """`<label>/<path without its ending>`, less leading folders of videos and the label's own folder.

    So a table over UCF101's layout gives its videos the names that UCF101's lists give them. A short name also lacks
    the folder of a side, and all that is around the label's folder.
    """
    *folders, file = path.split("/")[common:]
    if short and label in folders:
        folders = folders[folders.index(label) :]
    while folders and (folders[0].casefold() in _HOLDERS or (short and folders[0].casefold() in SIDE_NAMES)):
        folders.pop(0)
    if folders and folders[0] == label:
        folders.pop(0)
    return "/".join([label, *folders, stem_of(file)])


def _check_trained(sides: Sides, videos: Mapping[str, Row]) -> None:
    for split, one in sides.items():
        trained = {videos[key].label for key, role in one.items() if role == TRAIN}
        held_out = (key for key, role in one.items() if role not in (TRAIN, NEITHER))
        orphan = next((videos[key] for key in held_out if videos[key].label not in trained), None)
        if orphan is not None and trained:
            raise UserError(f"{orphan.place}: the label {orphan.label!r} is tested but never trained in split {split}")
