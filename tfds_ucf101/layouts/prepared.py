"""UCF101 as TFDS itself prepares it (`tfds build ucf101`), or another data set of its form: a video and its label.

A record holds the frames as encoded pictures, and nothing of the file that they come from. Finding the videos in
TFRecord files reads the records' lengths and labels only; ArrayRecord files, which TFDS compresses, are read whole.

TFRecord: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details; the records are
`tf.train.Example` in protocol buffers' wire format.
"""

import abc
import functools
import json
import mmap
import os
import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from r23d_jax.data import examples
from r23d_jax.data.shards import Shards
from r23d_jax.data.video import VideoError
from r23d_jax.errors import UserError
from tfds_ucf101 import lists
from tfds_ucf101.errors import libraries_for
from tfds_ucf101.layouts import ucf101
from tfds_ucf101.layouts.found import Found
from tfds_ucf101.layouts.tree import Folder
from tfds_ucf101.media import Stills, stamp

INFO_FILE, FEATURES_FILE = "dataset_info.json", "features.json"
_FORMATS = ("tfrecord", "array_record")
_AGAIN = "prepare the data set again or copy the file again"
_NOTE = (
    "TFDS's records do not say which file a video comes from: whether clips of one source video lie on both sides "
    "cannot be checked"
)
# The length of a record and its checksum stand before it, the checksum of its data behind it.
_HEAD, _TAIL = struct.Struct("<QI"), struct.Struct("<I")


@dataclass(frozen=True)
class _Record(Stills):
    """A record of a shard.

    Attributes:
      path: the shard.
      number: of the record in it, from 0.
      feature: that holds the frames.
    """

    path: str
    number: int
    feature: str

    def pictures(self) -> Iterator[tuple[str, bytes]]:
        """Yields the frames of the record, once its checksum is verified.

        Raises:
          VideoError: the record is damaged.
        """
        try:
            data = self._data()
            spans = examples.bytes_values(data, self.feature)
        except ValueError as error:
            raise VideoError(self.path, f"record {self.number} is damaged ({error}); {_AGAIN}") from None
        for index, (start, end) in enumerate(spans):
            yield f"frame {index} of record {self.number}", data[start:end]

    def identity(self) -> list[Any]:
        return [self.number, *stamp(self.path)]

    @abc.abstractmethod
    def _data(self) -> bytes:
        """Returns the serialised Example; a `ValueError` or `VideoError` if its checksum is another."""


@dataclass(frozen=True)
class TFRecordFrames(_Record):
    """The frames of a record in a TFRecord file.

    Attributes:
      start, length: of its data, in bytes.
    """

    start: int
    length: int

    def _data(self) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.start)
            data, tail = file.read(self.length), file.read(_TAIL.size)
        if len(tail) != _TAIL.size:
            raise ValueError("the file ends in it")
        if _masked_crc(data) != _TAIL.unpack(tail)[0]:
            raise ValueError("its checksum is another")
        return data


class ArrayRecordFrames(_Record):
    """The frames of a record in an ArrayRecord file."""

    def _data(self) -> bytes:
        try:
            return _shard(self.path).read(self.number)
        except UserError as error:
            raise VideoError(self.path, str(error).removeprefix(f"{self.path}: ")) from None


class _Labelled(Protocol):
    def __call__(self, path: str, features: "_Features") -> Iterator[tuple[int, _Record]]:
        """Yields label and frames of each record of a shard; a `UserError` if one cannot be found."""


@dataclass(frozen=True)
class _Features:
    """The names of the features that hold the frames and the label."""

    frames: str
    label: str


def read(root: Path) -> Found | None:
    """Finds the videos of a data set that TFDS prepared; None if there is none.

    Args:
      root: the folder of the version (`ucf101/ucf101_1_256/2.0.0`) or one above it, up to TFDS's data folder.

    Raises:
      UserError: there are several, or files are missing, cut off or damaged.
    """
    folders = [(folder, features) for folder in _candidates(root) if (features := _features(folder))]
    if not folders:
        return None
    if len(folders) > 1:
        first, second = folders[0][0], folders[1][0]
        raise UserError(f"{root} holds {first.relative_to(root)} and {second.relative_to(root)}: give one of them")
    return _read(root, *folders[0])


def _candidates(root: Path) -> list[Path]:
    """The folders where TFDS's files may lie: few names, since `root` may hold millions of other files."""
    folders = [root, *_below(root, "ucf101")]
    folders += [config for folder in folders for config in _below(folder, r"ucf101_\w+")]
    folders += [version for folder in folders for version in _below(folder, r"\d+\.\d+\.\d+")]
    return [folder for folder in folders if (folder / INFO_FILE).is_file()]


def _below(folder: Path, pattern: str) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry) for entry in entries if re.fullmatch(pattern, entry.name) and entry.is_dir())


def _features(folder: Path) -> _Features | None:
    """The features of a data set that is one of labelled videos, else None."""
    path = folder / FEATURES_FILE
    if not path.is_file():
        return None
    try:
        features = _json(path).get("featuresDict", {}).get("features", {})
        kinds = {name: str(value.get("pythonClassName", "")).rpartition(".")[2] for name, value in features.items()}
    except AttributeError:  # another program's file of that name
        return None
    videos = [name for name, kind in kinds.items() if kind == "Video"]
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    return _Features(videos[0], labels[0]) if len(videos) == len(labels) == 1 else None


def _read(root: Path, folder: Path, features: _Features) -> Found:
    info = _json(folder / INFO_FILE)
    file_format = info.get("fileFormat", _FORMATS[0])
    if file_format not in _FORMATS:
        raise UserError(f"{folder / INFO_FILE}: the file format is {file_format!r}, not one of {', '.join(_FORMATS)}")
    class_names = _class_names(folder, features.label, info)
    labelled: _Labelled = _tfrecords if file_format == _FORMATS[0] else _array_records
    media: dict[str, _Record] = {}
    sides: dict[str, int] = {}
    try:
        splits = _shards(folder, info, file_format)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{folder / INFO_FILE} does not say its splits as TFDS does: {_AGAIN}") from None
    for split, paths in splits.items():
        for shard, (path, count) in enumerate(paths):
            before = len(media)
            for label, record in labelled(os.path.abspath(path), features):
                if not 0 <= label < len(class_names):
                    raise UserError(f"{path}: record {record.number} has the label {label} of {len(class_names)}")
                key = f"{class_names[label]}/{split}_{shard:05d}_{record.number:05d}"
                media[key], sides[key] = record, lists.SIDE_NAMES.get(split, lists.NEITHER)
            if len(media) - before != count:
                raise UserError(f"{path} has {len(media) - before} records, {INFO_FILE} says {count}: {_AGAIN}")
    config = info.get("configName", "")
    numbered = re.fullmatch(r"ucf101_([123])(_\d+)?", config)
    shown = {key: f"{os.path.relpath(record.path, root)} record {record.number}" for key, record in media.items()}
    name = " ".join(part for part in (info.get("name"), config, info.get("version")) if part)
    return Found(
        where=os.path.abspath(folder),
        layout=f"{name} as TFDS prepared it",
        media=media,
        shown=shown,
        class_names=class_names,
        sides={numbered[1] if numbered else "1": sides},
        notes=(_NOTE,),
    )


def _class_names(folder: Path, feature: str, info: dict[str, Any]) -> tuple[str, ...]:
    path = folder / f"{feature}.labels.txt"
    if path.is_file():
        return lists.check_class_names([name for _, name in Folder(folder).lines(path.name)], str(path))
    if info.get("name") == "ucf101":
        return ucf101.CLASSES  # in TFDS's own order
    raise UserError(f"{path} is missing, which names the classes: {_AGAIN}")


def _shards(folder: Path, info: dict[str, Any], file_format: str) -> dict[str, list[tuple[Path, int]]]:
    """The files of each split and the number of records in each."""
    found: dict[str, list[tuple[Path, int]]] = {}
    default = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    for split in info.get("splits", []):
        counts = [int(count) for count in split.get("shardLengths", [])]
        paths = []
        for index, count in enumerate(counts):
            name = split.get("filepathTemplate", default)
            for field, value in {
                "DATASET": info.get("name", ""),
                "SPLIT": split["name"],
                "FILEFORMAT": file_format,
                "SHARD_INDEX": f"{index:05d}",
                "NUM_SHARDS": f"{len(counts):05d}",
                "SHARD_X_OF_Y": f"{index:05d}-of-{len(counts):05d}",
            }.items():
                name = name.replace("{" + field + "}", value)
            path = folder / name
            if path.parent != folder:
                raise ValueError(f"{name} is in another folder")
            if not path.is_file():
                raise UserError(f"{path} is missing, which {INFO_FILE} names: {_AGAIN}")
            paths.append((path, count))
        found[split["name"]] = paths
    if not any(found.values()):
        raise UserError(f"{folder / INFO_FILE} names no records: {_AGAIN}")
    return found


def _tfrecords(path: str, features: _Features) -> Iterator[tuple[int, TFRecordFrames]]:
    size = os.path.getsize(path)
    if not size:
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = number = 0
        while at < size:
            try:
                length, check = _HEAD.unpack_from(data, at)
                if _masked_crc(data[at : at + 8]) != check:
                    raise ValueError("its length is damaged")
                start = at + _HEAD.size
                at = start + length + _TAIL.size
                if at > size:
                    raise ValueError("the file ends in it")
                label = examples.integer(data, start, start + length, features.label)
            except (ValueError, struct.error) as error:
                reason = "the file ends in it" if isinstance(error, struct.error) else error
                raise UserError(f"{path}: record {number} cannot be read ({reason}); {_AGAIN}") from None
            yield label, TFRecordFrames(path, number, features.frames, start, length)
            number += 1


def _array_records(path: str, features: _Features) -> Iterator[tuple[int, ArrayRecordFrames]]:
    print(f"reading {path} for the labels ...", file=sys.stderr)
    shard = Shards([Path(path)])
    for number in range(len(shard)):
        data = shard.read(number)
        try:
            label = examples.integer(data, 0, len(data), features.label)
        except ValueError as error:
            raise UserError(f"{path}: record {number} cannot be read ({error}); {_AGAIN}") from None
        yield label, ArrayRecordFrames(path, number, features.frames)


def _masked_crc(data: bytes) -> int:
    """TFRecord's checksum: CRC-32C, rotated and moved so that a checksum of data with checksums does not repeat."""
    with libraries_for("a TFRecord file"):
        import google_crc32c
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@functools.lru_cache(maxsize=4)
def _shard(path: str) -> Shards:
    return Shards([Path(path)])


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(Folder(path.parent).text(path.name))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): {_AGAIN}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object: {_AGAIN}")
    return value
