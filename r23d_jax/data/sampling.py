"""Sampling of clips: pure functions that return the indices of a clip's frames.

A clip of `frames` frames with `stride` spans `(frames - 1) * stride + 1` frames of its video. A shorter video is
looped from its first frame at the same stride and makes one clip; only `segments`, `linspace` and `fitted` repeat
each frame instead. Where a frame rate is wanted, these indices are those of the resampled video, and `resample` maps
them to the stored one's.
"""

from typing import TYPE_CHECKING

import numpy as np

from r23d_jax.data.timing import end_of
from r23d_jax.errors import UserError

if TYPE_CHECKING:
    from r23d_jax.data.dataset import VideoRecord

SAMPLINGS = ("dense", "segments", "linspace")  # of clips of a given length; `fitted` chooses the length itself

# Frames in a clip of `fitted`. From 32 on a step is at most a quarter.
LENGTHS = (8, 16, 24, *(part << power for power in range(3, 13) for part in (4, 5, 6, 7)))

# Seconds. Matroska and FLV round the time of a frame to a millisecond, so it may come half of one late.
_ROUNDING = 6e-4


def span(frames: int, stride: int) -> int:
    """Returns the number of video frames from a clip's first to its last, inclusive."""
    return (frames - 1) * stride + 1


def at(start: int, num_frames: int, frames: int, stride: int) -> np.ndarray:
    """Returns the clip that starts at `start`, looping at the end of the video.

    Returns:
      int32 [frames], each in 0..num_frames - 1.
    """
    _check(num_frames, frames, stride)
    return ((start + np.arange(frames) * stride) % num_frames).astype(np.int32)


def dense(num_frames: int, frames: int, stride: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a clip with a start drawn uniformly from all that fit; int32 [frames]."""
    _check(num_frames, frames, stride)
    starts = max(num_frames - span(frames, stride) + 1, 1)
    return at(int(rng.integers(starts)), num_frames, frames, stride)


def segments(num_frames: int, frames: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Returns one frame from each of `frames` equal parts of the video (temporal segment networks).

    Args:
      num_frames: in the video.
      frames: number of parts, and of frames in the clip.
      rng: draws the frame within each part; None takes its middle, as in testing.

    Returns:
      int32 [frames], non-decreasing. Parts are `[i * num_frames / frames, (i + 1) * num_frames / frames)`; a part
      shorter than a frame gives the frame it lies in.
    """
    _check(num_frames, frames, 1)
    edges = np.arange(frames + 1) * num_frames // frames
    if rng is None:
        return ((2 * np.arange(frames) + 1) * num_frames // (2 * frames)).astype(np.int32)
    width = np.maximum(np.diff(edges), 1)
    return (edges[:-1] + rng.integers(width)).astype(np.int32)


def linspace(num_frames: int, frames: int) -> np.ndarray:
    """Returns frames spaced evenly from the first to the last, rounded down; int32 [frames], non-decreasing."""
    _check(num_frames, frames, 1)
    return np.linspace(0, num_frames - 1, frames).astype(np.int32)


def every(num_frames: int, frames: int, stride: int) -> np.ndarray:
    """Returns every non-overlapping clip from the first frame on, including the last full one.

    Clips start `frames * stride` frames apart. A remainder too short for a clip is dropped; a video shorter than a
    clip gives one, looped.

    Returns:
      int32 [clips, frames], at least one clip.
    """
    _check(num_frames, frames, stride)
    count = max((num_frames - span(frames, stride)) // (frames * stride) + 1, 1)
    return np.stack([at(k * frames * stride, num_frames, frames, stride) for k in range(count)])


def uniform(num_frames: int, frames: int, stride: int, views: int) -> np.ndarray:
    """Returns `views` clips with starts spread evenly from the first possible to the last; a single one is central.

    There are always `views` clips; in a short video some are equal.

    Returns:
      int32 [views, frames].
    """
    _check(num_frames, frames, stride)
    if views < 1:
        raise ValueError(f"views must be at least 1, not {views}")
    last = max(num_frames - span(frames, stride), 0)
    starts = [last // 2] if views == 1 else [last * k // (views - 1) for k in range(views)]
    return np.stack([at(start, num_frames, frames, stride) for start in starts])


def whole(num_frames: int, stride: int, max_frames: int, multiple: int = 1) -> np.ndarray:
    """Returns the whole video as one clip or, if it is longer than `max_frames`, overlapping clips that cover it.

    Args:
      num_frames: in the video.
      stride: between a clip's frames.
      max_frames: of a clip.
      multiple: a single clip is extended by looping to a multiple of this (at most `max_frames`), so that videos of
        many lengths share a few compiled programs.

    Returns:
      int32 [clips, frames]. Overlapping clips start evenly spread.
    """
    _check(num_frames, max_frames, stride)
    frames = -(-num_frames // stride)
    if frames > max_frames:
        return uniform(num_frames, max_frames, stride, -(-frames // max_frames))
    return at(0, num_frames, min(-(-frames // multiple) * multiple, max_frames), stride)[None]


def fitted(num_frames: int, stride: int, max_frames: int) -> np.ndarray:
    """Returns the whole video in one of few lengths, so that videos of all lengths share few compiled programs.

    At its stride a video has n = num_frames / stride frames, rounded up. If these are at most `max_frames`, the video
    is one clip. Its length is the one of `LENGTHS` that is nearest to n in ratio, the shorter of two equally near, and
    none above `max_frames`. Its frames are spaced evenly from the first of the video to the last, rounded down as in
    `linspace`: the video is played a little faster, or slower with some frames shown twice, rather than cut or looped.
    A video of fewer than 8 frames is slowed down to 8.

    A longer video is covered by overlapping clips at its own speed, as in `whole`, all of the largest of `LENGTHS` that
    is not above `max_frames`.

    Args:
      num_frames: in the video, resampled where a frame rate is wanted.
      stride: between frames.
      max_frames: of a clip, at least 8.

    Returns:
      int32 [clips, frames].

    Raises:
      UserError: `max_frames` is below 8.
    """
    _check(num_frames, max_frames, stride)
    lengths = _lengths(max_frames)
    frames = -(-num_frames // stride)
    if frames > max_frames:
        return whole(num_frames, stride, lengths[-1])
    nearest = min(lengths, key=lambda length: max(length, frames) / min(length, frames))
    return linspace(num_frames, nearest)[None]


def fitted_in_words(max_frames: int) -> str:
    """Describes `fitted` in a part of a sentence."""
    longest = _lengths(max_frames)[-1]
    return (
        f"the whole video as one clip of {LENGTHS[0]} to {longest} frames, whichever of few lengths is nearest to its "
        f"own, spaced evenly from the first to the last (of more than {max_frames} frames: the clips of {longest} that "
        "cover it)"
    )


def _lengths(max_frames: int) -> list[int]:
    if max_frames < LENGTHS[0]:
        raise UserError(f"max_frames={max_frames}: must be at least {LENGTHS[0]} for fitted clips")
    return [length for length in LENGTHS if length <= max_frames]


def resample(num_frames: int, fps: float, wanted: float | None, times: np.ndarray | None = None) -> np.ndarray:
    """Resamples a video to another frame rate by dropping or repeating frames: at each moment the frame shown then.

    Args:
      num_frames: in the video.
      fps: its average rate.
      wanted: the new rate; None keeps every frame.
      times: seconds from the first frame to each, float [num_frames], ascending; None where the rate is constant.

    Returns:
      int64 indices of the frames shown at the moments 0, 1 / wanted, 2 / wanted and so on up to the end of the video:
      non-decreasing, at least one.
    """
    if wanted is None:
        return np.arange(num_frames)
    if times is None:
        moments = max(1, int(num_frames * wanted / fps + 1e-6))
        return np.minimum((np.arange(moments) * (fps / wanted) + 1e-6).astype(np.int64), num_frames - 1)
    moments = max(1, int((end_of(times, fps) + 2 * _ROUNDING) * wanted))  # the end is reckoned from two times
    return np.searchsorted(times, np.arange(moments) / wanted + _ROUNDING, side="right") - 1


def axis(video: "VideoRecord", wanted: float | None) -> np.ndarray:
    """Returns the stored frames of a video resampled to `wanted` frames a second, int64; see `resample`.

    A video without a frame rate keeps all of its frames.
    """
    return resample(video.num_frames, video.fps, wanted if video.fps > 0 else None, video.times)


def _check(num_frames: int, frames: int, stride: int) -> None:
    for name, value in (("num_frames", num_frames), ("frames", frames), ("stride", stride)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
