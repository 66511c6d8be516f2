"""The index of a built data set: `videos.json`, and beside it the columns of its videos, `videos.npz`.

Format 2 keeps in `videos.json` what is said of the whole data set, and one array for each property of the videos in
`videos.npz`, uncompressed. Format 1, which is read but no longer written, had a JSON object for every video.
"""

import dataclasses
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r23d_jax.data.dataset import PARTS
from r23d_jax.data.videos import ROLES, Texts, Videos, ends
from r23d_jax.errors import UserError, one_line
from r23d_jax.runtime.files import open_arrays, read_json

INDEX, COLUMNS = "videos.json", "videos.npz"
FORMAT = 2
_LARGEST = 1 << 30  # bytes of videos.json
_LONGEST_SIDE = 65535  # JPEG's limit

_WHOLE = ("label", "group", "clip", "num_frames", "height", "width")
# The columns and their types; those named *_end say where each video's part of the column before them ends.
KINDS = {
    "name": np.uint8,
    "name_end": np.int64,
    "origin": np.uint8,
    "origin_end": np.int64,
    **dict.fromkeys(_WHOLE, np.int32),
    "fps": np.float64,
    "roles": np.uint8,
    "sha256": np.uint8,
    "times": np.float64,
    "times_end": np.int64,
}
_LAZY = ("sha256", "times")  # not read before they are asked for

# What reading a damaged `.npz` raises.
DAMAGES = (OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)
_AGAIN = "build the data set again"


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of records: its name, its size in bytes, and its number of records; None where the index lacks it."""

    name: str
    size: int
    records: int | None


@dataclasses.dataclass(frozen=True)
class Index:
    """What an index says, checked.

    Attributes:
      head: the content of `videos.json`.
      videos: in the order of the records.
      shards: sorted by name.
    """

    head: Mapping[str, Any]
    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    videos: Videos
    shards: tuple[Shard, ...]


def read(folder: Path) -> Index:
    """Reads and checks the index of a built data set, of format 1 or 2.

    Raises:
      UserError: it is damaged, does not fit together, or is of another format.
      OSError: a file cannot be read.
    """
    path = folder / INDEX
    try:
        head = read_json(path, limit=_LARGEST)
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({error}); {_AGAIN}") from None
    try:
        class_names, splits, shards = _parse_head(head)
        if head["format"] == 1:
            videos = _read_entries(folder, head["videos"], class_names, splits)
        else:
            videos = _read_columns(folder, len(class_names), splits)
        _check_records(videos, shards)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"no key {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: not an index of this version ({reason}); {_AGAIN}") from None
    return Index(head, class_names, splits, videos, shards)


def columns(entries: Iterable[Mapping[str, Any]], splits: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the columns of videos, in order, as `videos.npz` has them.

    Args:
      entries: one object a video: "name", "label", "group", "clip", "fps", "num_frames", "height", "width", "splits"
        (name of a split -> one of `PARTS`), "sha256" (hexadecimal), "origin", and where the frame rate varies "times",
        seconds of each frame.
      splits: the order of the columns of `roles`.
    """
    entries = list(entries)
    names = [entry["name"].encode() for entry in entries]
    origins = [entry.get("origin", "").encode() for entry in entries]
    roles = [[ROLES.index(entry["splits"].get(split, "neither")) for split in splits] for entry in entries]
    times = [np.asarray([] if entry.get("times") is None else entry["times"], np.float64) for entry in entries]
    found = {
        "name": np.frombuffer(b"".join(names), np.uint8),
        "name_end": ends(names),
        "origin": np.frombuffer(b"".join(origins), np.uint8),
        "origin_end": ends(origins),
        **{key: [entry[key] for entry in entries] for key in (*_WHOLE, "fps")},
        "roles": np.reshape(roles, (len(entries), len(splits))),
        "sha256": np.reshape([list(bytes.fromhex(entry["sha256"])) for entry in entries], (len(entries), 32)),
        "times": np.concatenate(times) if times else [],
        "times_end": ends(times),
    }
    return {key: np.asarray(found[key], dtype) for key, dtype in KINDS.items()}


def write_columns(folder: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Writes `videos.npz`, the same bytes for the same columns."""
    with open(folder / COLUMNS, "wb") as file:
        np.savez(file, **columns)


def _parse_head(head: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Shard, ...]]:
    """Checks all but the videos; a bad head raises ValueError, KeyError, TypeError or AttributeError."""
    if head["format"] not in (1, FORMAT) or isinstance(head["format"], bool):
        raise ValueError(f"format {head['format']}, this version reads 1 and {FORMAT}")
    class_names, splits = tuple(head["class_names"]), tuple(head["splits"])
    if not all(isinstance(name, str) for name in class_names + splits + (head["fingerprint"],)):
        raise TypeError("names and fingerprint must be text")
    if len(set(splits)) != len(splits):
        raise ValueError(f"splits are named {', '.join(splits)}")
    if "all" in splits or any("/" in split for split in splits):  # "all" is reserved, and names become folders
        raise ValueError(f"splits are named {', '.join(splits)}")
    if not isinstance(head["config"], dict) or not head["shards"]:
        raise ValueError("no config or no shards")
    if not isinstance(head.get("unreadable", []), list):
        raise ValueError(f"unreadable is {head['unreadable']!r}")
    if not isinstance(head.get("leak_check", True), bool):
        raise ValueError(f"leak_check is {head['leak_check']!r}")
    shards = []
    for name, facts in sorted(head["shards"].items()):
        if Path(name).name != name:
            raise ValueError(f"shard {name!r}")
        records = facts["records"] if head["format"] != 1 else None
        sizes = [facts["bytes"]] if records is None else [facts["bytes"], records]
        if not all(type(size) is int and size >= 0 for size in sizes):
            raise ValueError(f"shard {name!r} has {sizes}")
        shards.append(Shard(name, facts["bytes"], records))
    return class_names, splits, tuple(shards)


def _check_records(videos: Videos, shards: Sequence[Shard]) -> None:
    """The videos against the shards that hold them."""
    stored = sum(shard.size for shard in shards)
    frames = videos.column("num_frames")
    if (longest := int(frames.max())) > stored:  # impossible (a frame takes at least a byte), and may exhaust memory
        name = videos[int(frames.argmax())].name
        raise ValueError(f"num_frames is {longest} in video {name}, of shards of {stored} bytes")
    if all(shard.records is not None for shard in shards):
        records = sum(shard.records for shard in shards)
        if records != len(videos):
            raise ValueError(f"{records} records in the shards, {len(videos)} videos")


# Format 2


def _read_columns(folder: Path, classes: int, splits: tuple[str, ...]) -> Videos:
    found = _load(folder, [key for key in KINDS if key not in _LAZY])
    count = len(found["name_end"])
    if not count:
        raise ValueError("no videos")
    for key, array in found.items():
        if key in ("name", "origin"):
            continue
        shape = (count, len(splits)) if key == "roles" else (count,)
        if array.shape != shape:
            raise ValueError(f"{COLUMNS}: {key} has the shape {array.shape}, not {shape}")
    names, origins = (Texts(found.pop(key), found.pop(f"{key}_end"), f"{COLUMNS}: {key}") for key in ("name", "origin"))
    if not names.all_differ():
        raise ValueError("two videos of one name")
    lengths = np.diff(found["times_end"], prepend=0)

    def refuse(wrong: np.ndarray, key: str) -> None:
        if wrong.any():
            place = int(np.argmax(wrong))
            value = found[key][place].tolist() if key != "times_end" else f"{int(lengths[place])} times"
            of = f" of {classes} classes" if key == "label" else ""
            raise ValueError(f"{key} is {value}{of} in video {names[place]}")

    for key in _WHOLE:
        least = {"group": -1, "clip": -1, "label": 0}.get(key, 1)
        refuse(found[key] < least, key)
    for key in ("height", "width"):
        refuse(found[key] > _LONGEST_SIDE, key)
    refuse(found["label"] >= classes, "label")
    refuse(~(np.isfinite(found["fps"]) & (found["fps"] >= 0)), "fps")
    refuse((found["roles"] >= len(ROLES)).any(axis=1), "roles")
    refuse((lengths != 0) & (lengths != found["num_frames"]), "times_end")
    return Videos(found, names, origins, splits, folder, _load_times)


def _load(folder: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Reads columns; a damaged file raises UserError, a column of another kind ValueError."""
    path = folder / COLUMNS
    try:
        with open_arrays(path) as arrays:
            found = {key: arrays[key] for key in keys}
    except DAMAGES as error:
        if isinstance(error, FileNotFoundError):
            raise UserError(f"{path} is missing; {_AGAIN} or copy the file again") from None
        raise UserError(f"{path}: damaged ({one_line(error)}); {_AGAIN} or copy the file again") from None
    for key, array in found.items():
        dimensions = 2 if key in ("roles", "sha256") else 1
        if array.dtype != KINDS[key] or array.ndim != dimensions:
            kind = np.dtype(KINDS[key]).name
            raise ValueError(f"{COLUMNS}: {key} is {array.dtype} in {array.ndim} dimensions, not {kind}")
    return found


def _load_times(folder: Path, total: int) -> np.ndarray:
    """Reads the time stamps; float64 [total]."""
    path = folder / COLUMNS
    try:
        times = _load(folder, ["times"])["times"]
    except ValueError as error:
        raise UserError(f"{path}: not the columns of an index ({error}); {_AGAIN}") from None
    if len(times) != total or not np.isfinite(times).all():
        raise UserError(f"{path}: not the columns of an index (times); {_AGAIN}")
    return times


# Format 1


def _read_entries(
    folder: Path, entries: Iterable[Mapping[str, Any]], class_names: Sequence[str], splits: tuple[str, ...]
) -> Videos:
    if not entries:
        raise ValueError("no videos")
    checked = [_checked(entry, len(class_names), splits) for entry in entries]
    if len({entry["name"] for entry in checked}) != len(checked):
        raise ValueError("two videos of one name")
    found = columns(checked, splits)
    names, origins = (Texts(found.pop(key), found.pop(f"{key}_end"), key) for key in ("name", "origin"))
    return Videos(found, names, origins, splits, folder, _load_times)


def _checked(entry: Mapping[str, Any], classes: int, splits: tuple[str, ...]) -> dict[str, Any]:
    """The entry as `columns` takes it; a bad one raises ValueError, KeyError, TypeError or AttributeError."""
    for key in _WHOLE:
        value = entry[key]
        if type(value) is not int or value < (-1 if key in ("group", "clip") else 0 if key == "label" else 1):
            raise ValueError(f"{key} is {value!r} in video {entry['name']}")
        if value > (_LONGEST_SIDE if key in ("height", "width") else 2**31 - 1):
            raise ValueError(f"{key} is {value} in video {entry['name']}")
    if not isinstance(entry["name"], str) or entry["label"] >= classes:
        raise ValueError(f"label is {entry['label']} of {classes} classes in video {entry['name']}")
    membership = {split: entry["splits"].get(split, "neither") for split in splits}
    if not set(membership.values()) <= set(PARTS):
        raise ValueError(f"splits are {entry['splits']} in video {entry['name']}")
    whole = {key: entry[key] for key in _WHOLE}
    return whole | {"name": entry["name"], "fps": float(entry["fps"]), "splits": membership, "sha256": "00" * 32}
