"""What a folder is: the layout of its videos, and the lists that lie in it."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from r23d_jax.errors import UserError
from tfds_ucf101 import lists
from tfds_ucf101.errors import libraries_for
from tfds_ucf101.layouts import folders, hmdb51, parquet_files, prepared, tables, ucf101
from tfds_ucf101.layouts.found import Found
from tfds_ucf101.layouts.tree import Folder


def _read_parquet(root: Folder, flow_files: bool) -> Found | None:
    there = parquet_files.find(Path(root.path)) if os.path.isdir(root.path) else []
    if not there:
        return None
    with libraries_for(f"{there[0]}: a Parquet file"):
        from tfds_ucf101.layouts import parquet
    return parquet.read(Path(root.path))


# Each returns None for a folder of another layout; the first that does not is taken.
READERS: Mapping[str, Callable[[Folder, bool], Found | None]] = {
    "parquet": _read_parquet,
    "prepared": lambda root, flow_files: prepared.read(Path(root.path)) if os.path.isdir(root.path) else None,
    "folders": folders.read,
}

_LISTS_DEPTH = 6  # folders down to which lists are looked for: two of their own, in as many as videos may lie in
_OF_TFDS = "dataset_info.json"  # lies in every data set of TFDS
_SHOWN = 5  # of what lies in a folder that is of no layout

_CLASSES = (
    "videos/<Class>/<file> or UCF-101/<Class>/<file>, with UCF101's lists in ucfTrainTestlist or names like "
    "v_<Class>_g01_c01.avi"
)
_FRAMES = "frames/<Class>/<video>/<number>.jpg, or frames of many videos in a class folder: <Class>/<video>-0001.jpg"
_SIDES = "train, val and test, each with a folder a class"
_UNDIVIDED = "a folder a class, with videos or folders of frames in it"
_TABLE = "any folder and a table videos.csv with the columns path, label and split"
_PACKED = "UCF101.zip or UCF101.rar as downloaded, the parquet files of flwrlabs/ucf101, or TFDS's own prepared ucf101"


def find_videos(root: Folder, flow_files: bool) -> Found:
    """Returns the videos of the first layout that fits.

    Raises:
      UserError: none does; the message says what lies in the folder, and the two nearest layouts.
    """
    for read in READERS.values():
        found = read(root, flow_files)
        if found is not None:
            return found
    there = [f"{name}/" for name in root.folders] + root.files + [one.pattern for one in root.pictures]
    inside = lists.preview(there, _SHOWN) if there else "nothing"
    nearest = "; ".join(f"({number}) {layout}" for number, layout in enumerate(_nearest(root), 1))
    raise UserError(f"{root} is of no known layout: it holds {inside}. Nearest: {nearest}. docs/own-data.md has all")


def find_lists(root: Folder, flow_files: bool = False) -> tuple[lists.Lists | None, bool]:
    """Returns the lists that lie in a folder, of whatever kind, and whether it is certain that they are meant.

    Tables that lie around under any name may be of something else.

    Raises:
      UserError: several that exclude each other are there, or they are malformed.
    """
    around = _without_media(root)
    of_ucf101 = [folder for folder in around if ucf101.is_lists(folder)]
    of_hmdb51 = [folder for folder in around if hmdb51.is_lists(folder)]
    fixed = tables.find_fixed(root)
    there = [str(folder) for folder in of_ucf101[:1] + of_hmdb51] + [str(table) for table in fixed[:1]]
    if len(there) > 1:
        raise UserError(f"{there[0]} and {there[1]} are both there: move away the one that is not to count")
    if of_ucf101:
        return _one_of(of_ucf101), True
    if of_hmdb51:
        return hmdb51.read_lists(of_hmdb51[0]), True
    if fixed:
        return tables.read(fixed), True
    own = tables.find(around, flow_files)
    return (tables.read(own) if own else None), False


def unused_lists(root: Folder, used: frozenset[str]) -> Iterator[str]:
    """Yields the paths of the files that look like lists and are not used."""
    for folder in _without_media(root):
        for name in folder.others:
            if lists.looks_like_list(name) and folder.show(name) not in used:
                yield folder.show(name)


def _one_of(found: Sequence[Folder]) -> lists.Lists:
    """UCF101's lists; the first of several copies, which archives in each other leave."""
    first = ucf101.read_lists(found[0])
    for folder in found[1:]:
        other = ucf101.read_lists(folder)
        if (other.class_names, other.sides) != (first.class_names, first.sides):
            raise UserError(f"{found[0]} and {folder} are different lists: move away the one that is not to count")
    return first


def _without_media(root: Folder) -> list[Folder]:
    """The folders, not too deep, that lists may lie in: the root, and those that hold no videos or pictures.

    Nor those of built data sets, which list what they hold.
    """
    found = [root]
    for folder in root.folders.values():
        for below in folder.walk(_LISTS_DEPTH - 1):
            if not below.pictures and not below.videos and _OF_TFDS not in below.files:
                found.append(below)
    return found


def _nearest(root: Folder) -> tuple[str, str]:
    """The two layouts that what lies in the folder is most like."""
    files, names = [name.casefold() for name in root.files], {name.casefold() for name in root.folders}
    if any(name.endswith((".zip", ".rar", ".parquet", ".tar", ".gz")) or "tfrecord" in name for name in files):
        return _PACKED, _CLASSES
    if names & lists.SIDE_NAMES.keys():
        return _SIDES, _UNDIVIDED
    if root.pictures:
        return _TABLE, _FRAMES
    return (_TABLE, _UNDIVIDED) if root.videos else (_CLASSES, _UNDIVIDED)
