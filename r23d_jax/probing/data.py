"""Opens what a probe learns from: a folder of videos, a table that lists them, or a built data set.

Folders and tables are read as `tfds build` reads them (docs/own-data.md), but nothing is divided by chance, and nothing
is decoded before it is asked for.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from r23d_jax.data import video as videos
from r23d_jax.data.index import INDEX
from r23d_jax.data.records import BUILDER, VideoDataset
from r23d_jax.data.scaling import Resize
from r23d_jax.errors import UserError
from r23d_jax.inference.clips import Scanned
from r23d_jax.probing.built import BuiltReader
from r23d_jax.probing.files import PICTURES_FPS, FileReader
from r23d_jax.runtime.files import cache_dir
from tfds_ucf101 import lists, sources, splits
from tfds_ucf101.errors import InputError
from tfds_ucf101.layouts.table_forms import ENDINGS as TABLES
from tfds_ucf101.options import ScanOptions

_GIVE = (
    "give a folder that holds a folder of videos a class, a table with the columns path and label, or NAME@DATA_DIR of "
    "a built data set"
)


@dataclass(frozen=True, slots=True)
class LabelledVideo:
    """One video.

    Attributes:
      name: "<Class>/<stem>", unique.
      label: index into the data's class names.
      part: "train", "val", "test" or "neither" in the chosen split.
      group: the recording that it was cut from, the same for all that belong together; "" if it stands for itself.
      shown: its path from the input folder, for messages.
    """

    name: str
    label: int
    part: str
    group: str
    shown: str


class Reader(Protocol):
    """Reads the content of videos by their place in `LabelledVideos.videos`; picklable."""

    def content_sha256(self, index: int) -> str: ...

    def scan(self, index: int, resize: Resize, flow: str | None = None) -> Scanned: ...


@dataclass(frozen=True, eq=False)
class LabelledVideos:
    """Labelled videos and their parts in one split; their content is read on demand.

    Attributes:
      full_name: for results: that of a built data set, else the last part of the folder's or the table's path.
      fingerprint: changes with names, labels, groups and parts, and with the content of a built data set.
      class_names: in the order of the labels.
      videos: sorted by name.
      split: the chosen one.
      splits: those that there are.
      has_test: whether the data say a test part of this split.
      leak_check: False where clips of one recording may be on two sides of a split.
      layout: what the data were taken for and where their sides come from, in one line.
      notes: what the user should know, a line each.
      stored_as: size of the stored frames of a built data set, as in `data.dataset.Dataset`; None for files.
      channels: "rgb" or, in a built data set, "flow".
      flow: the algorithm of stored optical flow, else None.
      dataset: the built data set, None for files.
      positions: place of each video in `dataset`; that in `videos` for files.
      reader: reads the content.
    """

    full_name: str
    fingerprint: str
    class_names: tuple[str, ...]
    videos: tuple[LabelledVideo, ...]
    split: str
    splits: tuple[str, ...]
    has_test: bool
    leak_check: bool
    layout: str
    notes: tuple[str, ...]
    stored_as: list[int] | int | str | None
    channels: str
    flow: str | None
    dataset: VideoDataset | None = field(repr=False)
    positions: tuple[int, ...] = field(repr=False)
    reader: Reader = field(repr=False)

    def content_sha256(self, index: int) -> str:
        """Returns a hash of what the video shows, whatever its name, label and folder are.

        It is that of the file's bytes, of all pictures in their order, or of the stored frames and their times.

        Raises:
          UserError: it cannot be read; a `VideoError` if it is a file.
        """
        return self.reader.content_sha256(index)

    def scan(self, index: int, resize: Resize, flow: str | None = None) -> Scanned:
        """Decodes a whole video once, and keeps its frames if they are not too many, as `inference.clips.scan` does.

        Args:
          index: place of the video in `videos`.
          resize: the size to decode at; frames of a built data set stay as they are stored.
          flow: an algorithm of `data.flow` for optical flow, None for RGB. A built data set must hold that.

        Returns:
          For a video file just what `inference.clips.scan` returns. Stored optical flow is in `frames` as it is, uint8
          [height, width, 2] each, with `flow` None: `inference.clips.read_clips` then gives it as it is.

        Raises:
          UserError: the video is damaged or missing; a `VideoError` if it is a file.
        """
        return self.reader.scan(index, resize, flow)


def open_data(data: str | Path, split: str = "1") -> LabelledVideos:
    """Opens labelled videos; reads names and lists and decodes nothing.

    Args:
      data: a folder of any layout that `tfds build` reads, a table of videos whose paths are relative to its folder or
        absolute, or "NAME@DATA_DIR" of a built data set.
      split: of those that the data have; where nothing says sides there is "1", all of it train.

    Raises:
      UserError: there is no such thing or split, it does not fit together, or fewer than two classes have train videos.
    """
    path = Path(data).expanduser()
    if split == "all":
        raise UserError("split all: give one split at a time, such as 1")
    if path.exists():
        return _of_files(path, split)
    if "@" in os.fspath(data):
        return _of_built(os.fspath(data), split)
    raise UserError(f"{data} does not exist: {_GIVE}")


def _of_files(path: Path, split: str) -> LabelledVideos:
    root, table = (path, "") if path.is_dir() else (path.parent, _table(path))
    if not table:
        _refuse_built(path)
    absolute = os.path.abspath(root)
    unpacked = cache_dir() / "unpacked" / hashlib.sha256(os.fsencode(absolute)).hexdigest()[:16]
    try:
        plan = sources.scan(root, ScanOptions(as_found=True, table=table), unpacked)
    except InputError as error:
        raise UserError(error.plain) from None
    name = os.path.basename(os.path.abspath(path)) or "videos"
    _check_split(split, plan.splits, name)
    groups = splits.together({source.name: source.origin for source in plan.sources})
    notes = list(plan.notes)
    if plan.unlisted:
        notes.append(f"in no list and not used: {len(plan.unlisted):,} videos, first {plan.unlisted[0]}")
    if any(source.media.still for source in plan.sources):
        notes.append(f"pictures do not say their frame rate; {PICTURES_FPS:g} a second is assumed")
    return _labelled(
        f"{path}",
        [
            LabelledVideo(
                name=source.name,
                label=source.label,
                part=lists.ROLES[source.roles[int(split) - 1]],
                group=groups[source.name],
                shown=source.shown,
            )
            for source in plan.sources
        ],
        full_name=name,
        class_names=plan.class_names,
        split=split,
        splits=plan.splits,
        leak_check=plan.leak_check,
        layout=plan.layout,
        notes=notes,
        positions=tuple(range(len(plan.sources))),
        reader=FileReader(tuple(source.media for source in plan.sources)),
    )


def _of_built(data: str, split: str) -> LabelledVideos:
    name, _, folder = data.partition("@")
    if not folder or not Path(folder).expanduser().is_dir():
        raise UserError(f"{data}: {folder or 'nothing'} is no folder: {_GIVE}")
    name = name or BUILDER
    try:
        dataset = VideoDataset.open(folder, name)
    except UserError as error:
        # The key of a training config, which a probe does not have.
        raise UserError(str(error).replace(f"dataset.name={name}:", f"{data}:", 1)) from None
    _check_split(split, dataset.splits, dataset.full_name)
    names = dataset.videos.names()
    positions = tuple(sorted(range(len(names)), key=names.__getitem__))
    records = [dataset.videos[position] for position in positions]
    groups = splits.together({record.name: record.origin for record in records})
    notes = []
    if dataset.unreadable:
        lost = dataset.unreadable
        notes.append(f"left out by the build as unreadable: {len(lost):,} videos, first {lost[0].get('path')}")
    if not dataset.leak_check:
        notes.append("leak check off: a source video may be on both sides of a split")
    return _labelled(
        data,
        [
            LabelledVideo(record.name, record.label, record.splits[split], groups[record.name], record.name)
            for record in records
        ],
        full_name=dataset.full_name,
        class_names=dataset.class_names,
        split=split,
        splits=dataset.splits,
        leak_check=dataset.leak_check,
        layout=f"built data set: {len(records):,} videos of {dataset.stored_size}, splits {', '.join(dataset.splits)}",
        notes=notes,
        positions=positions,
        reader=BuiltReader(dataset, positions),
        dataset=dataset,
    )


def _labelled(
    given: str,
    found: Sequence[LabelledVideo],
    *,
    class_names: tuple[str, ...],
    split: str,
    notes: Sequence[str],
    dataset: VideoDataset | None = None,
    **fields: Any,
) -> LabelledVideos:
    """The result, with what follows from the videos and from the built data set."""
    if len(class_names) < 2:
        raise UserError(f"{given} has one class only, {class_names[0]}: a probe needs two; give a folder a class")
    trained = {video.label for video in found if video.part == "train"}
    without = lists.preview([name for label, name in enumerate(class_names) if label not in trained])
    if len(trained) < 2:
        raise UserError(f"{given}: split {split} has train videos of one class at most, and none of {without}")
    said = [[video.name, video.label, video.part, video.group] for video in found]
    content = [dataset and dataset.fingerprint, class_names, split, said]
    return LabelledVideos(
        fingerprint=hashlib.sha256(json.dumps(content).encode()).hexdigest(),
        class_names=class_names,
        videos=tuple(found),
        split=split,
        has_test=any(video.part == "test" for video in found),
        notes=(*notes, *([f"split {split} has no train video of these classes: {without}"] if without else [])),
        stored_as=dataset and dataset.stored_as,
        channels=dataset.channels if dataset else "rgb",
        flow=dataset and dataset.flow,
        dataset=dataset,
        **fields,
    )


def _table(path: Path) -> str:
    """The name of a table; a `UserError` if a file is none by its ending."""
    ending = path.suffix.casefold()
    if ending in TABLES:
        return path.name
    kind = "an archive" if ending in (".zip", ".rar") else "a video" if ending in videos.ENDINGS else "no table"
    hint = "give the folder that it lies in" if kind == "an archive" else _GIVE
    raise UserError(f"{path} is {kind}: {hint}")


def _refuse_built(folder: Path) -> None:
    """Raises a `UserError` where a folder holds built data sets and no videos beside them."""
    built = next(folder.glob(f"{BUILDER}/*/*/{INDEX}"), None)
    beside = {child.name for child in folder.iterdir() if not child.name.startswith(".")}
    if built is not None and beside <= {BUILDER, "downloads", "unpacked"}:
        name = "/".join(built.relative_to(folder).parts[:-2])
        raise UserError(f"{folder} holds built data sets: give {name}@{folder}")


def _check_split(split: str, there: Sequence[str], name: str) -> None:
    if split not in there:
        known = f"the splits {', '.join(there)}" if len(there) > 1 else f"only the split {there[0]}"
        raise UserError(f"split {split}: {name} has {known}")
