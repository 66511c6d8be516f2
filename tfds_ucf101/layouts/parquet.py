"""Frames as rows of Parquet files, as in Hugging Face's flwrlabs/ucf101.

The columns are image, video_id, clip_id, frame and label. `image` is a struct with the encoded picture as `bytes`, or
these bytes themselves; `video_id` names a source video ("v_Archery_g01") and `clip_id` a clip of it
("v_Archery_g01_c01"), which is a video here; `frame` is its number; `label` is a number, whose name stands in the
metadata of Hugging Face's `datasets`, or a text. Files are named by side and number, such as
data/train-00000-of-00036.parquet, and a clip may go on in the next.

Finding the videos reads the four small columns only. Format: https://parquet.apache.org/docs/file-format/
"""

import itertools
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from r23d_jax.errors import UserError, one_line
from tfds_ucf101 import lists
from tfds_ucf101.layouts.found import Found
from tfds_ucf101.layouts.parquet_files import SIDES, find
from tfds_ucf101.layouts.parquet_frames import ParquetFrames, reading

_NEEDED = ("image", "video_id", "frame", "label")
_ROWS = 1 << 16  # at a time, when the small columns are read


@dataclass(frozen=True)
class _Head:
    """What is alike in all files: the column of the pictures' bytes, and the names of labels that are numbers."""

    column: str
    class_names: tuple[str, ...] | None


@dataclass
class _Clip:
    """What is known of a video while the files are read.

    Attributes:
      name: its key.
      ids: values of the columns video_id and clip_id.
      label: value of the column label.
      side: of `lists`, None where the files' names do not say it.
      runs: file's index, first row, number of rows and number of the first frame of each stretch of rows.
    """

    name: str
    ids: tuple[str, str]
    label: int | str
    side: int | None
    runs: list[tuple[int, int, int, int]] = field(default_factory=list)


def read(root: Path) -> Found | None:
    """Finds the videos in the Parquet files of a folder; None if there are none with the columns named above.

    Args:
      root: holds the files, or a folder `data` with them, or one for each side.

    Raises:
      UserError: a file is damaged, labels have no names, or two rows are the same frame.
    """
    paths = find(root)
    if not paths or (head := _head(paths[0])) is None:
        return None
    for path in paths[1:]:
        if _head(path) != head:
            raise UserError(f"{path} has other columns or classes than {paths[0]}: give data sets one at a time")
    clips = _clips(paths, head.class_names)
    if not clips:
        raise UserError(f"{root}: its {len(paths)} Parquet files have no rows")
    broken, notes = _cut_off(paths, clips)
    media: dict[str, ParquetFrames] = {}
    for clip in clips:
        if clip.name not in broken:
            media[clip.name] = _media(paths, clip, head.column)
    return Found(
        where=os.path.abspath(paths[0].parent),
        layout=f"frames in Parquet files, as in Hugging Face's flwrlabs/ucf101 ({len(paths)} files)",
        media=media,
        shown={key: f"{os.path.relpath(one.path, root)} row {one.runs[0][1]}" for key, one in media.items()},
        class_names=head.class_names,
        sides=_sides({clip.name: clip.side for clip in clips if clip.name not in broken}),
        notes=tuple(notes),
    )


def _head(path: Path) -> _Head | None:
    """What a file's footer says; None where the columns are others.

    Raises:
      UserError: the file is damaged, or pictures or labels are of a kind that is not known.
    """
    with reading(path) as file:
        schema = file.schema_arrow
    if not set(_NEEDED) <= set(schema.names):
        return None
    pictures, labels = schema.field("image").type, schema.field("label").type
    if pa.types.is_struct(pictures) and pictures.get_field_index("bytes") >= 0:
        column = "image.bytes"
    elif pa.types.is_binary(pictures) or pa.types.is_large_binary(pictures):
        column = "image"
    else:
        raise UserError(f"{path}: its column image is {pictures}, not a picture's bytes or a struct with bytes")
    if pa.types.is_integer(labels):
        return _Head(column, _class_names(path, schema.metadata))
    if pa.types.is_dictionary(labels):
        labels = labels.value_type
    if not pa.types.is_string(labels) and not pa.types.is_large_string(labels):
        raise UserError(f"{path}: its column label is {labels}, not a number or a text")
    return _Head(column, None)


def _class_names(path: Path, metadata: dict[bytes, bytes] | None) -> tuple[str, ...]:
    """The names of numbered labels by the metadata of `datasets`."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{path}: labels are numbers without names, which Hugging Face's datasets writes into the file: write it "
            "with a ClassLabel feature, or with the classes' names as labels"
        ) from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: the names of its labels are no list of texts")
    return lists.check_class_names(names, str(path))


def _clips(paths: Sequence[Path], class_names: Sequence[str] | None) -> list[_Clip]:
    """All videos, each with its rows in the order of the files."""
    clips: dict[tuple[str, str, Any], _Clip] = {}
    by_name: dict[str, _Clip] = {}
    for index, path in enumerate(paths):
        side = _side(path)
        for ids, label, run in _runs(path):
            clip = clips.get((*ids, label))
            if clip is None:
                name = _key(path, ids, label, class_names)
                clip = clips[*ids, label] = _Clip(name, ids, label, side)
                other = by_name.setdefault(name, clip)
                if other is not clip:
                    raise UserError(f"{path}: {ids} and {other.ids} would both be the video {name}")
            if clip.side != side:
                raise UserError(f"{path}: {clip.name} is on another side in {paths[clip.runs[0][0]].name}")
            clip.runs.append((index, *run))
    return list(clips.values())


def _runs(path: Path) -> Iterator[tuple[tuple[str, str], Any, tuple[int, int, int]]]:
    """Ids, label, and (first row, number of rows, first frame) of each stretch of rows with ascending frames."""
    with reading(path) as file:
        has_clips = "clip_id" in file.schema_arrow.names
        columns = [name for name in ("video_id", "clip_id", "frame", "label") if has_clips or name != "clip_id"]
        at = 0
        for batch in file.iter_batches(_ROWS, columns=columns, use_threads=False):
            values = {name: batch.column(name) for name in columns}
            for name, value in values.items():
                if value.null_count:
                    row = at + pc.index(value.is_null(), True).as_py()
                    raise UserError(f"{path}: row {row} has no {name}")
            frames = _integers(values["frame"], path, at)
            keys = [pc.dictionary_encode(values[name].cast(pa.string())) for name in columns if name != "frame"]
            codes = [key.indices.to_numpy(zero_copy_only=False) for key in keys]
            new = np.ones(len(frames), bool)
            new[1:] = np.diff(frames) != 1
            for code in codes:
                new[1:] |= np.diff(code) != 0
            firsts = np.flatnonzero(new)
            counts = np.diff(np.append(firsts, len(frames)))
            names = [key.dictionary.to_pylist() for key in keys]
            for first, count in zip(firsts.tolist(), counts.tolist(), strict=True):
                texts = [name[code[first]] for name, code in zip(names, codes, strict=True)]
                ids = (texts[0], texts[1] if has_clips else "")
                yield ids, values["label"][first].as_py(), (at + first, count, int(frames[first]))
            at += len(frames)


def _integers(values: pa.Array, path: Path, at: int) -> np.ndarray:
    try:
        return values.cast(pa.int64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: near row {at}, frame is no number ({one_line(error)})") from None


def _key(path: Path, ids: tuple[str, str], label: int | str, class_names: Sequence[str] | None) -> str:
    """The key of a video: "<Class>/v_<Class>_gNN_cNN" where the ids carry group and clip."""
    if class_names is None:
        name = lists.check_class_names([str(label)], str(path))[0]
    elif 0 <= label < len(class_names):
        name = class_names[label]
    else:
        raise UserError(f"{path}: the label {label} of {ids[0]} is none of the {len(class_names)} that it names")
    video, clip = (lists.stem_of(text.replace("\\", "/").rpartition("/")[2]) for text in ids)
    for stem in (clip, video):
        if lists.group_and_clip(stem) != (-1, -1):
            return f"{name}/{stem}"
    group, number = re.fullmatch(r"(?:.*_)?g?(\d{1,3})", video), re.fullmatch(r"(?:.*_)?c?(\d{1,3})", clip)
    if group and number:
        return f"{name}/v_{name}_g{int(group[1]):02d}_c{int(number[1]):02d}"
    return f"{name}/{clip if clip.startswith(video) or not video else f'{video}_{clip}'.rstrip('_')}"


def _side(path: Path) -> int | None:
    """The side that a file's name says, or its folder's."""
    words = [word for word in re.split(r"[-_.]", path.stem.lower()) if word in SIDES]
    return SIDES[words[0]] if words else SIDES.get(path.parent.name.lower())


def _sides(found: dict[str, int | None]) -> dict[str, dict[str, int]]:
    if all(side is None for side in found.values()):
        return {}
    return {"1": {key: lists.NEITHER if side is None else side for key, side in found.items()}}


def _media(paths: Sequence[Path], clip: _Clip, column: str) -> ParquetFrames:
    runs = sorted(clip.runs, key=lambda run: run[3])
    for (_, _, count, frame), (index, row, _, after) in itertools.pairwise(runs):
        if after < frame + count:
            raise UserError(f"{paths[index]}: row {row} is frame {after} of {clip.name}, which another row is too")
    merged: list[tuple[str, int, int]] = []
    for index, row, count, _ in runs:
        path = os.path.abspath(paths[index])
        if merged and merged[-1][0] == path and merged[-1][1] + merged[-1][2] == row:
            merged[-1] = (path, merged[-1][1], merged[-1][2] + count)
        else:
            merged.append((path, row, count))
    total = sum(count for _, _, count, _ in runs)
    span = runs[-1][3] + runs[-1][2] - runs[0][3]
    return ParquetFrames(merged[0][0], tuple(merged), column, span - total)


def _cut_off(paths: Sequence[Path], clips: Sequence[_Clip]) -> tuple[set[str], list[str]]:
    """The videos that may go on in a file that is not there, by the numbers in the files' names; and what to say."""
    numbered: dict[tuple[Path, str, int], dict[int, int]] = {}
    for index, path in enumerate(paths):
        match = re.fullmatch(r"(.*?)-(\d+)-of-(\d+)(?:-\w+)?", path.stem)
        if match:
            numbered.setdefault((path.parent, match[1], int(match[3])), {})[int(match[2])] = index
    edges: set[tuple[int, bool]] = set()  # file's index, and whether it is its end that lacks the next file
    missing = []
    for (_, name, count), there in numbered.items():
        lacking = [number for number in range(count) if number not in there]
        missing += [f"{name}-{number:05d}-of-{count:05d}.parquet" for number in lacking]
        for number, index in there.items():
            edges |= {(index, end) for end, beside in ((False, number - 1), (True, number + 1)) if beside in lacking}
    if not missing:
        return set(), []
    rows = {}
    for index in {index for index, _ in edges}:
        with reading(paths[index]) as file:
            rows[index] = file.metadata.num_rows
    broken = {
        clip.name
        for clip in clips
        for index, row, count, _ in clip.runs
        if ((index, False) in edges and row == 0) or ((index, True) in edges and row + count == rows[index])
    }
    said = f"{len(missing)} Parquet files are missing, first {missing[0]}"
    return broken, [f"{said}; {len(broken)} videos that may go on in them are left out"]
