"""Which frames make a clip: pure functions of the number of frames, of the clip and of a generator.

A clip of `frames` frames with `stride` spans `(frames - 1) * stride + 1` frames of its video. A video
shorter than that is looped: it plays again from its first frame, at the same stride, as often as needed,
and makes one clip. Only `segments` differs: there a short video is slowed down, frames shown repeatedly.
"""

import numpy as np


def span(frames: int, stride: int) -> int:
    """Frames of the video from a clip's first frame to its last, both counted."""
    return (frames - 1) * stride + 1


def at(start: int, num_frames: int, frames: int, stride: int) -> np.ndarray:
    """The clip that begins at `start`, looping where the video ends.

    Returns:
      int32 [frames], each in 0..num_frames - 1.
    """
    _check(num_frames, frames, stride)
    return ((start + np.arange(frames) * stride) % num_frames).astype(np.int32)


def dense(num_frames: int, frames: int, stride: int, rng: np.random.Generator) -> np.ndarray:
    """One run of frames with a uniformly drawn start, among all that fit; int32 [frames]."""
    _check(num_frames, frames, stride)
    starts = max(num_frames - span(frames, stride) + 1, 1)
    return at(int(rng.integers(starts)), num_frames, frames, stride)


def segments(num_frames: int, frames: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """One frame from each of `frames` equal parts of the whole video (temporal segment networks).

    Args:
      num_frames: in the video.
      frames: parts, and so frames of the clip.
      rng: draws the frame within each part; None takes its middle, as in testing.

    Returns:
      int32 [frames], never falling. Parts are `[i * num_frames / frames, (i + 1) * num_frames / frames)`;
      where a part holds no whole frame, the one it lies in.
    """
    _check(num_frames, frames, 1)
    edges = np.arange(frames + 1) * num_frames // frames
    if rng is None:
        return ((2 * np.arange(frames) + 1) * num_frames // (2 * frames)).astype(np.int32)
    width = np.maximum(np.diff(edges), 1)
    return (edges[:-1] + rng.integers(width)).astype(np.int32)


def every(num_frames: int, frames: int, stride: int) -> np.ndarray:
    """Every non-overlapping clip, from the first frame on, the last full one included.

    The next clip begins `frames * stride` frames after the one before. What is left at the end and too
    short for a clip is not shown; a video shorter than one clip gives that one, looped.

    Returns:
      int32 [clips, frames], at least one clip.
    """
    _check(num_frames, frames, stride)
    count = max((num_frames - span(frames, stride)) // (frames * stride) + 1, 1)
    return np.stack([at(k * frames * stride, num_frames, frames, stride) for k in range(count)])


def uniform(num_frames: int, frames: int, stride: int, views: int) -> np.ndarray:
    """`views` clips with starts spread evenly from the first possible to the last; one view: the middle.

    Always exactly `views` clips: in a video too short for different ones some are alike.

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
    """The whole video as one clip, or as many clips of `max_frames` as cover it where it is longer.

    Args:
      num_frames: in the video.
      stride: between a clip's frames.
      max_frames: of a clip.
      multiple: the one clip is made longer, up to a multiple of this but not beyond `max_frames`, by looping
        the video: programs have fixed shapes, and so videos of many lengths share a few.

    Returns:
      int32 [clips, frames]. Clips that cover a video start evenly spread, and overlap.
    """
    _check(num_frames, max_frames, stride)
    frames = -(-num_frames // stride)
    if frames > max_frames:
        return uniform(num_frames, max_frames, stride, -(-frames // max_frames))
    return at(0, num_frames, min(-(-frames // multiple) * multiple, max_frames), stride)[None]


def _check(num_frames: int, frames: int, stride: int) -> None:
    for name, value in (("num_frames", num_frames), ("frames", frames), ("stride", stride)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
