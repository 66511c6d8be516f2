"""The data set interface that training and evaluation use.

`data.records.VideoDataset` reads what `tfds build tfds_ucf101` wrote. Any other object with these attributes and
methods works as well: `train_and_evaluate(config, workdir, dataset)`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from r23d_jax.errors import UserError

PARTS = ("train", "val", "test", "neither")  # parts of a split; "neither" for videos outside it


@dataclasses.dataclass(frozen=True, slots=True)
class VideoRecord:
    """One video.

    Attributes:
      name: unique in the data set.
      label: index of its class in `class_names`.
      num_frames: at least 1.
      height, width: of its decoded frames, in pixels.
      splits: name of a split -> one of `PARTS`; a missing split means "neither".
      fps: frame rate, 0 if unknown.
      group, clip: UCF101's numbers of the recording and of the clip in it, -1 if there are none.
      times: seconds of each frame from the first, float64 [num_frames], where the frame rate varies; None where it is
        constant.
      origin: the recording that the video was cut from, the same for all of its clips; "" if unknown.
    """

    name: str
    label: int
    num_frames: int
    height: int
    width: int
    splits: Mapping[str, str]
    fps: float = 0.0
    group: int = -1
    clip: int = -1
    times: np.ndarray | None = dataclasses.field(default=None, compare=False)
    origin: str = ""


class Dataset(Protocol):
    """Labelled videos, their splits, and their frames decoded on demand.

    Attributes:
      full_name: for messages, cards and `results.json`.
      fingerprint: hash of the content; a run is only resumed with the same one.
      class_names: in the order of the labels.
      videos: the position of a video is its index here. Where there are many, they may have the methods of
        `data.videos.Videos`, by which `column` and `positions` read all at once.
      splits: names of the splits. "all" is reserved: as `dataset.split` it means all of them.
      channels: "rgb", or "flow" for optical flow.
      flow: the optical-flow algorithm if `channels` is "flow", else None.
      canvas: (height, width) that holds every frame; smaller frames are at its top left.
      num_channels: of a decoded frame, 3 for RGB and 2 for flow (x, y).
      stored_as: size of the stored frames: [height, width], a short side, "native", or None if unknown. Weights trained
        on frames of another shape are refused.
      stored_size: the same as text, such as "128x171".
      leak_check: False where clips of one recording may be on both sides of a split, which every result then says; may
        be missing, for True.
    """

    full_name: str
    fingerprint: str
    class_names: Sequence[str]
    videos: Sequence[VideoRecord]
    splits: Sequence[str]
    channels: str
    flow: str | None
    canvas: tuple[int, int]

    @property
    def num_channels(self) -> int: ...

    @property
    def stored_as(self) -> list[int] | int | str | None: ...

    @property
    def stored_size(self) -> str: ...

    def subset(self, split: str, part: str) -> np.ndarray:
        """Returns int32 [V], the positions of the videos in a part of a split; see `positions` for an implementation.

        Their order affects the order of training, so it must be the same at every start.

        Raises:
          UserError: there is no such split, or no video in that part of it.
        """

    def decode(self, position: int, indices: Sequence[int], out: np.ndarray) -> None:
        """Decodes frames `indices` [T] of the video at `position`; must be thread-safe.

        `out` is uint8 [T, *canvas, num_channels], contiguous and uninitialised; every element must be written, with
        zeros around frames smaller than the canvas. With `config.processes` the data set is pickled and decodes in
        other processes.
        """


def positions(dataset: Dataset, split: str, part: str) -> np.ndarray:
    """Returns int32 [V], the positions of the videos in a part of a split, sorted by name.

    Raises:
      UserError: there is no such split, or no video in that part of it.
    """
    if split not in dataset.splits:
        there = ", ".join(dataset.splits) or "none"
        raise UserError(f"dataset.split={split}: {dataset.full_name} has these splits: {there}")
    parts = _parts(dataset.videos, split)
    chosen = np.flatnonzero(parts == PARTS.index(part))
    if not len(chosen):
        there = ", ".join(sorted(PARTS[found] for found in np.unique(parts)))
        raise UserError(f"dataset.split={split}: no {part} video in {dataset.full_name}; its videos are {there}")
    names = dataset.videos.names() if hasattr(dataset.videos, "names") else [video.name for video in dataset.videos]
    return np.asarray(sorted(chosen.tolist(), key=names.__getitem__), np.int32)


def column(videos: Sequence[VideoRecord], key: str) -> np.ndarray:
    """Returns "label", "num_frames", "height", "width", "fps", "group" or "clip" of every video, as an array [V]."""
    if hasattr(videos, "column"):
        return videos.column(key)
    return np.asarray([getattr(video, key) for video in videos])


def _parts(videos: Sequence[VideoRecord], split: str) -> np.ndarray:
    """Returns uint8 [V], the index into `PARTS` of every video's part of a split."""
    if hasattr(videos, "parts"):
        return videos.parts(split)
    return np.asarray([PARTS.index(video.splits.get(split, "neither")) for video in videos], np.uint8)
