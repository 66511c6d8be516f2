"""Views of an evaluation: the clips and crops of every video, listed by clip length."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from r23d_jax.data import sampling
from r23d_jax.data.dataset import Dataset, column
from r23d_jax.errors import UserError

WHOLE = ("whole", "fitted")  # views of whole videos, whose clips have several lengths
WHOLE_MULTIPLE = 16  # frames; "whole" rounds lengths up to a multiple


@dataclasses.dataclass(frozen=True)
class Views:
    """V views with clips of one length.

    Attributes:
      video: int32 [V], index into the `positions` that were listed.
      position: int32 [V], of the video in the data set.
      view: int32 [V], number of the clip within its video.
      crop: int32 [V], number of the crop, below `crops`.
      indices: int32 [V, T], frames.
      crops: 1 or 3.
    """

    video: np.ndarray
    position: np.ndarray
    view: np.ndarray
    crop: np.ndarray
    indices: np.ndarray
    crops: int

    def __len__(self) -> int:
        return len(self.video)


def eval_views(
    dataset: Dataset,
    positions: np.ndarray,
    *,
    frames: int,
    stride: int = 1,
    fps: float | None = None,
    views: str | int = "dense",
    crops: int = 1,
) -> Views:
    """Lists every view of every video, video by video, the crops of a clip side by side.

    Args:
      dataset, positions: the videos.
      frames, stride: of a clip.
      fps: frame rate to resample to; None keeps the stored frames.
      views: "dense" for every non-overlapping clip, "segments" for one clip of the middles of equal parts, "linspace"
        for one clip of evenly spaced frames, or a number of clips spread evenly; see `data.sampling`.
      crops: 1 or 3.
    """
    if not (views in sampling.SAMPLINGS or (isinstance(views, int) and views >= 1)):
        raise UserError(f'eval.views={views}: must be "dense", "segments", "linspace" or a number of at least 1')

    def of(length: int) -> np.ndarray:
        if views == "dense":
            return sampling.every(length, frames, stride)
        if views == "segments":
            return sampling.segments(length, frames)[None]
        if views == "linspace":
            return sampling.linspace(length, frames)[None]
        return sampling.uniform(length, frames, stride, views)

    found = [stored[of(len(stored))] for stored in _axes(dataset, positions, fps)]
    return _views(positions, np.arange(len(positions)), found, crops)


def plans(
    dataset: Dataset,
    positions: np.ndarray,
    *,
    frames: int,
    stride: int = 1,
    fps: float | None = None,
    max_frames: int,
    views: str | int = "dense",
    crops: int = 1,
) -> list[Views]:
    """Returns `Views` for each clip length: from `whole_views` if `views` is of `WHOLE`, else one from `eval_views`."""
    if views in WHOLE:
        options = {"stride": stride, "fps": fps, "max_frames": max_frames, "crops": crops}
        return whole_views(dataset, positions, **options, fitted=views == "fitted")
    return [eval_views(dataset, positions, frames=frames, stride=stride, fps=fps, views=views, crops=crops)]


def whole_views(
    dataset: Dataset,
    positions: np.ndarray,
    *,
    stride: int = 1,
    fps: float | None = None,
    max_frames: int,
    crops: int = 1,
    fitted: bool = False,
) -> list[Views]:
    """Lists the views of whole videos, grouped by length, the shortest first.

    A video is one clip, looped to a multiple of `WHOLE_MULTIPLE` frames; a video longer than `max_frames` is covered
    by overlapping clips of that length. See `sampling.whole`, and `sampling.fitted` for `fitted`.

    Args:
      dataset, positions: the videos; `Views.video` indexes all of them.
      stride: of a clip.
      fps: frame rate to resample to; None keeps the stored frames.
      max_frames: the longest clip.
      crops: 1 or 3.
      fitted: whether a video is played a little faster or slower instead of looped.

    Raises:
      UserError: `max_frames` is too short for fitted clips.
    """

    def of(length: int) -> np.ndarray:
        if fitted:
            return sampling.fitted(length, stride, max_frames)
        return sampling.whole(length, stride, max_frames, WHOLE_MULTIPLE)

    found = [stored[of(len(stored))] for stored in _axes(dataset, positions, fps)]
    groups: dict[int, list[int]] = {}
    for index, part in enumerate(found):
        groups.setdefault(part.shape[1], []).append(index)
    return [
        _views(positions, np.asarray(group), [found[index] for index in group], crops)
        for _, group in sorted(groups.items())
    ]


def without_rate(dataset: Dataset, positions: np.ndarray) -> int:
    """Returns how many of these videos have no frame rate, so that they cannot be resampled."""
    return int(np.sum(column(dataset.videos, "fps")[np.asarray(positions)] <= 0))


def _axes(dataset: Dataset, positions: np.ndarray, fps: float | None) -> Iterator[np.ndarray]:
    """Yields the stored frames of each video at a frame rate; see `sampling.axis`."""
    if fps is None:
        yield from map(np.arange, column(dataset.videos, "num_frames")[np.asarray(positions)].tolist())
    else:
        yield from (sampling.axis(dataset.videos[position], fps) for position in np.asarray(positions).tolist())


def _views(positions: np.ndarray, videos: np.ndarray, found: list[np.ndarray], crops: int) -> Views:
    """Returns the views of the videos at `positions[videos]`; `found` are the clips of each, int [clips, T]."""
    if crops not in (1, 3):
        raise UserError(f"eval.crops={crops}: must be 1 or 3")
    counts = [len(part) for part in found]
    video = np.repeat(videos.astype(np.int32), counts)
    view = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
    indices = np.concatenate(found).astype(np.int32)
    video, view, indices = (np.repeat(x, crops, axis=0) for x in (video, view, indices))
    crop = np.tile(np.arange(crops, dtype=np.int32), sum(counts))
    return Views(video, np.asarray(positions, np.int32)[video], view, crop, indices, crops)
