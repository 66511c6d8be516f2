"""What an evaluation looks at: which clips and crops of which videos, all of one shape in one list."""

import dataclasses

import numpy as np

from r23d_jax.data import sampling
from r23d_jax.data.dataset import Dataset
from r23d_jax.errors import UserError

WHOLE_MULTIPLE = 16  # frames: lengths of whole videos are rounded up to it


@dataclasses.dataclass(frozen=True)
class Views:
    """What an evaluation looks at, in order; V rows.

    Attributes:
      video: int32 [V], index into the `positions` it was made of.
      position: int32 [V], of the video in the data set.
      view: int32 [V], number of the clip within its video.
      crop: int32 [V], 0 for the centre of one, or 0, 1, 2 of three.
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
    views: str | int = "dense",
    crops: int = 1,
) -> Views:
    """Lists every view of every video, video by video, the crops of a clip side by side.

    Args:
      dataset, positions: which videos.
      frames, stride: of a clip.
      views: "dense" for every non-overlapping clip, "segments" for one clip of the middles of equal parts,
        or a number of clips spread evenly; see `data.clips`.
      crops: 1 or 3.
    """
    if not (views in ("dense", "segments") or (isinstance(views, int) and views >= 1)):
        raise UserError(f'eval.views={views}: must be "dense", "segments" or a number of at least 1')

    def of(length: int) -> np.ndarray:
        if views == "dense":
            return sampling.every(length, frames, stride)
        if views == "segments":
            return sampling.segments(length, frames)[None]
        return sampling.uniform(length, frames, stride, views)

    found = [of(dataset.videos[position].num_frames) for position in positions]
    return _views(positions, np.arange(len(positions)), found, crops)


def plans(
    dataset: Dataset,
    positions: np.ndarray,
    *,
    frames: int,
    stride: int = 1,
    max_frames: int,
    views: str | int = "dense",
    crops: int = 1,
) -> list[Views]:
    """Every view of every video, in one list for each length of a clip: `whole_views`, or the one of `eval_views`."""
    if views == "whole":
        return whole_views(dataset, positions, stride=stride, max_frames=max_frames, crops=crops)
    return [eval_views(dataset, positions, frames=frames, stride=stride, views=views, crops=crops)]


def whole_views(
    dataset: Dataset, positions: np.ndarray, *, stride: int = 1, max_frames: int, crops: int = 1
) -> list[Views]:
    """Lists the views of videos that are seen whole, those of one length together, the shortest first.

    A video is one clip, its length rounded up to a multiple of 16 frames by looping it; a video of more than
    `max_frames` is as many clips of that length as cover it. See `clips.whole`. All views of a video have one
    length.

    Args:
      dataset, positions: which videos; `Views.video` counts in all of them.
      stride: of a clip.
      max_frames: the longest clip.
      crops: 1 or 3.
    """
    lengths = [dataset.videos[position].num_frames for position in positions]
    found = [sampling.whole(length, stride, max_frames, WHOLE_MULTIPLE) for length in lengths]
    groups: dict[int, list[int]] = {}
    for index, part in enumerate(found):
        groups.setdefault(part.shape[1], []).append(index)
    return [
        _views(positions, np.asarray(group), [found[index] for index in group], crops)
        for _, group in sorted(groups.items())
    ]


def _views(positions: np.ndarray, videos: np.ndarray, found: list[np.ndarray], crops: int) -> Views:
    """The views of some of the videos at `positions`: `videos` [N] says which, `found` N times int [clips, T]."""
    if crops not in (1, 3):
        raise UserError(f"eval.crops={crops}: must be 1 or 3")
    counts = [len(part) for part in found]
    video = np.repeat(videos.astype(np.int32), counts)
    view = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
    indices = np.concatenate(found)
    video, view, indices = (np.repeat(x, crops, axis=0) for x in (video, view, indices))
    crop = np.tile(np.arange(crops, dtype=np.int32), sum(counts))
    return Views(video, np.asarray(positions, np.int32)[video], view, crop, indices, crops)
