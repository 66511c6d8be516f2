"""The forms of tables that say of every video where it lies and its label, and maybe its side.

    path,label,split                           with a line of column names; other names for these three will do
    anna/morning.mp4,wave,train
    label,youtube_id,time_start,time_end,split          Kinetics: the video is <id>_<start>_<end>, in six digits
    wave/v1.avi 0        wave/v1 120 0                  mmaction2, SlowFast: label, or frames and label
    34870;Drumming Fingers                              Jester
    [{"id": "78687", "template": "Holding [something]"}]        Something-Something v2

What a table is read as is decided by its first lines, for all of its lines.
"""

import csv
import io
import json
import ntpath
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from r23d_jax.errors import UserError
from tfds_ucf101.layouts.tree import Folder
from tfds_ucf101.lists import NEITHER, SIDE_NAMES, is_number, stem_of
from tfds_ucf101.options import MOST_SPLITS

ENDINGS = (".csv", ".tsv", ".txt", ".json")
FILE = "videos.csv"

_ROLES = SIDE_NAMES | {"neither": NEITHER, "none": NEITHER, "": NEITHER}
_ALIASES = {
    "path": ("path", "clip_path", "video_path", "file_path", "filepath", "filename", "file_name", "file", "video",
             "video_name", "clip_name", "name", "youtube_id", "video_id"),
    "label": ("label", "class", "class_name", "classname", "action", "category", "label_name"),
    "split": ("split", "subset", "side", "set", "partition"),
}  # fmt: skip
_NUMBER = re.compile(r"(?:split|train|test|val|list|fold)[ _-]*0*(\d{1,2})(?!\d)|[ _-]0*(\d{1,2})$", re.IGNORECASE)
_WORD = re.compile(r"(?<![A-Za-z])(train|val|test)(?:ing|id|idation|idate)?(?:list|set)?(?![A-Za-z])", re.IGNORECASE)
_SPLIT_COLUMN = re.compile(rf"split0*([1-9]|{MOST_SPLITS})")
_HEAD, _HEAD_BYTES = 20, 1 << 16  # lines that decide of a table's form, and the bytes that they are in


@dataclass(frozen=True)
class Table:
    """A table whose form is known.

    Attributes:
      folder, name: where it lies.
      form: "columns", "words", "pairs" or "json".
      delimiter: between its fields.
      meant: whether it is certain that this is a table of the videos, which then need not say a side.
    """

    folder: Folder
    name: str
    form: str
    delimiter: str
    meant: bool = False

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}"

    def place(self, line: int) -> str:
        """One line of it, for messages."""
        return f"{self} {'entry' if self.form == 'json' else 'line'} {line}"

    @property
    def shown(self) -> str:
        """The path from the input folder."""
        return self.folder.show(self.name)

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def side(self) -> int | None:
        """The side that its name says, if it does."""
        return side_of(self.stem)

    @property
    def split(self) -> str:
        """The split that its name says: `train_2`, `val_split_3_videos`; "1" where it says none."""
        found = [match[1] or match[2] for match in _NUMBER.finditer(self.stem)]
        return next((str(int(number)) for number in found if 1 <= int(number) <= MOST_SPLITS), "1")

    @property
    def roles(self) -> Mapping[str, int]:
        """What its name says of all its videos: split -> side; empty where it says no side."""
        return {} if self.side is None else {self.split: self.side}

    @property
    def family(self) -> tuple[str, str, str]:
        """The same for the tables of all sides and splits: its folder, form, and name without side and number."""
        rest = re.sub(r"[\W_\d]", "", _WORD.sub("", _spaced(self.stem)))
        return self.folder.path, self.form, re.sub("split|list|fold", "", rest.casefold())


@dataclass(frozen=True, slots=True)
class Row:
    """What a table says of one video.

    Attributes:
      path: in POSIX form, or its name alone.
      label: its class, or the number of it.
      roles: its side in every split that the table tells of.
      table, line: where it is said; the line or the entry of a JSON, from 1.
    """

    path: str
    label: str
    roles: Mapping[str, int]
    table: Table
    line: int

    @property
    def place(self) -> str:
        """Table and line, for messages."""
        return self.table.place(self.line)


def recognise(folder: Folder, name: str, meant: bool = False) -> Table | None:
    """Returns the table, if its first lines have one of the forms and its side is said; None for other files.

    Args:
      folder, name: of the file.
      meant: it is certain that this is a table of the videos, which then need not say a side.
    """
    try:
        text = folder.text(name, _HEAD_BYTES)
    except UserError:
        return None
    head = [line.strip() for line in text.splitlines() if line.strip()][:_HEAD]
    side = side_of(name.rpartition(".")[0])
    if not head:
        return None
    if name.casefold().endswith(".json"):
        rows = head[0].startswith("[") and '"id"' in text[:1000]
        return Table(folder, name, "json", "", meant) if rows and (meant or side is not None) else None
    for delimiter in (",", ";", "\t"):
        columns = _names(head[0].split(delimiter))
        if columns & set(_ALIASES["path"]) and columns & set(_ALIASES["label"]):
            sided = columns & set(_ALIASES["split"]) or any(map(_SPLIT_COLUMN.fullmatch, columns))
            return Table(folder, name, "columns", delimiter, meant) if meant or sided or side is not None else None
        if meant and columns & {*_ALIASES["path"], *_ALIASES["label"]}:
            return Table(folder, name, "columns", delimiter, meant)  # which will miss the other column
    of_ucf101 = re.fullmatch(r"(train|test|val)list\d*", name.rpartition(".")[0], re.IGNORECASE)
    if not meant and (side is None or of_ucf101):
        return None
    for delimiter in (";", ","):
        if all(line.count(delimiter) == 1 and all(line.split(delimiter)) for line in head):
            paths = [line.split(delimiter)[0] for line in head]
            named = meant and stem_of(paths[0]) == paths[0] and any(stem_of(path) != path for path in paths[1:])
            return Table(folder, name, "columns" if named else "pairs", delimiter, meant)
    words = all(len(fields := line.rsplit(maxsplit=1)) == 2 and is_number(fields[1]) for line in head)
    return Table(folder, name, "words", " ", meant) if words else None


def rows(table: Table) -> Iterator[Row]:
    """Yields what a table says, line by line.

    Raises:
      UserError: a line is malformed, or a path leaves the input folder.
    """
    return _READERS[table.form](table)


def _names(header: Sequence[str]) -> set[str]:
    return {column.strip().strip('"').casefold() for column in header}


def _spaced(stem: str) -> str:
    """The name with the parts of it as words."""
    return re.sub(r"[\d_]", " ", stem)


def side_of(stem: str) -> int | None:
    """Returns the side that the name of a file says, without its ending; None where it says none, or several."""
    found = {SIDE_NAMES[word.casefold()] for word in _WORD.findall(_spaced(stem))}
    return found.pop() if len(found) == 1 else None


def _bare_rows(table: Table) -> Iterator[Row]:
    """Lines `path label`, `folder frames label`, or `id;label`."""
    lines = table.folder.lines(table.name)
    words = table.form == "words"
    counted = words and all(_is_counted(line) for _, line in lines)
    roles = table.roles
    for number, line in lines:
        path, label = _cut(line, None if words else table.delimiter)
        if counted:
            path = _cut(path)[0]
        if not path or not label or (words and not is_number(label)):
            raise UserError(f"{table.place(number)}: {line!r} is not a video and a label, as the first line is")
        yield Row(_path(path, table, number), label, roles, table, number)


def _cut(line: str, delimiter: str | None = None) -> tuple[str, str]:
    """A line before and after its last delimiter, which is white space without one; "" where there is none."""
    path, *label = line.rsplit(delimiter, 1)
    return path.strip(), "".join(label).strip()


def _is_counted(line: str) -> bool:
    """Whether a line is a folder, its number of frames and a label, and not a file and a label."""
    fields = line.split()
    return len(fields) >= 3 and is_number(fields[-2]) and stem_of(fields[-3]) == fields[-3]


def _json_rows(table: Table) -> Iterator[Row]:
    try:
        entries = json.loads(table.folder.text(table.name))
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{table}: not JSON ({error})") from None
    roles = table.roles
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or "id" not in entry:
            raise UserError(f"{table.place(number)}: no id")
        label = entry.get("template") or entry.get("label")
        if label:  # the test side of Something-Something has none
            label = str(label).replace("[", "").replace("]", "")
            yield Row(_path(str(entry["id"]), table, number), label, roles, table, number)


def _column_rows(table: Table) -> Iterator[Row]:
    text = io.StringIO(table.folder.text(table.name), newline="")
    reader = csv.reader(text, strict=True, delimiter=table.delimiter)
    columns: dict[str, int] | None = None
    alike: dict[tuple[int, ...], dict[str, int]] = {}  # one for all rows of a side
    try:
        for fields in reader:
            line = reader.line_num
            if not any(field.strip() for field in fields):
                continue
            if columns is None:
                columns, width = _columns(table, fields), len(fields)
                splits = _splits(table, columns)
                fixed = {} if splits else table.roles
                timed = {"youtube_id", "time_start", "time_end"} <= set(columns)
                continue
            if len(fields) != width:
                there = f"{len(fields)} fields, the first line has {width}"
                raise UserError(f"{table.place(line)}: {there}; quote those with commas")
            path = fields[columns["path"]].strip()
            path = _path(path + _times(fields, columns, table.place(line)) if timed else path, table, line)
            label = fields[columns["label"]].strip()
            if not label:
                raise UserError(f"{table.place(line)}: no label")
            sides = tuple([_role(fields[columns[column]], column, table, line) for column in splits])
            roles = alike.setdefault(sides, dict(zip(splits.values(), sides, strict=True)))
            yield Row(path, sys.intern(label), roles or fixed, table, line)
    except csv.Error as error:
        raise UserError(f"{table.place(reader.line_num)}: not a CSV table ({error})") from None
    if columns is None:
        raise UserError(f"{table} is empty; its first line must be path,label,split")


def _columns(table: Table, header: Sequence[str]) -> dict[str, int]:
    """Place of every column by its name; the three that count by the first of `_ALIASES`."""
    names = [name.strip().casefold() for name in header]
    for name in names:
        if name and names.count(name) > 1:
            raise UserError(f"{table} line 1: the column {name!r} is there twice")
        if re.fullmatch(r"split[ _]?\d+", name) and not _SPLIT_COLUMN.fullmatch(name):
            raise UserError(
                f"{table} line 1: unknown column {name!r}; give split, or split1, split2 and so on to {MOST_SPLITS}"
            )
    columns = {name: place for place, name in enumerate(names)}
    for name, aliases in _ALIASES.items():
        known = next((alias for alias in aliases if alias in columns), None)
        if known is not None:
            columns[name] = columns[known]
        elif name != "split":
            raise UserError(f"{table} line 1: no column {name!r} in {','.join(header)!r}; name path,label,split")
    return columns


def _splits(table: Table, columns: Mapping[str, int]) -> dict[str, str]:
    """Which column says which split; none where the file's name says split and side, or no side need be said."""
    splits = {name: match[1] for name in columns if (match := _SPLIT_COLUMN.fullmatch(name))}
    if "split" in columns:
        if splits:
            raise UserError(f"{table} line 1: split and {next(iter(splits))} exclude each other")
        splits = {"split": table.split}
    if not splits and table.side is None and not table.meant:
        raise UserError(f"{table} line 1: no column 'split'; give it, with train, val or test for every video")
    return splits


def _times(fields: Sequence[str], columns: Mapping[str, int], place: str) -> str:
    """What Kinetics adds to the name of a clip: its seconds, in six digits each."""
    start, end = (fields[columns[name]].strip() for name in ("time_start", "time_end"))
    try:
        return f"_{round(float(start)):06d}_{round(float(end)):06d}"
    except (ValueError, OverflowError):
        raise UserError(f"{place}: time_start and time_end are {start!r} and {end!r}; give seconds") from None


def _path(text: str, table: Table, line: int) -> str:
    """A path in POSIX form, which stays in the input folder."""
    if not text.isprintable() or not text.strip("./\\ "):
        raise UserError(f"{table.place(line)}: the path is {text!r}; give that of a video")
    path = text.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or ntpath.splitdrive(text)[0]:
        hint = "give paths relative to it, without .."
        raise UserError(f"{table.place(line)}: {text!r} does not stay in the input folder; {hint}")
    return "/" * path.startswith("/") + "/".join(parts)


def _role(text: str, column: str, table: Table, line: int) -> int:
    role = _ROLES.get(text.strip().casefold())
    if role is None:
        given = f"{table.place(line)}: {column} is {text.strip()!r}"
        raise UserError(f"{given}; give train, val or test, or leave it empty for neither")
    return role


_READERS: Mapping[str, Callable[[Table], Iterator[Row]]] = {
    "columns": _column_rows,
    "words": _bare_rows,
    "pairs": _bare_rows,
    "json": _json_rows,
}
