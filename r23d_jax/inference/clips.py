"""A video file becomes the clips that a weights card asks for.

Frames are scaled while they are decoded, to the size that the training frames were stored in, and stay uint8.
What follows is evaluation's own: its rules say which frames make a clip (`data.clips`), and its transform resizes,
crops and normalises (`data.augment.eval_transform`). One thing differs from an evaluation on a built data set:
its frames went through JPEG once, these did not.

A file is decoded twice at most. The first pass counts the frames, which no header says reliably, and keeps
them while they are few; if they were not, a second pass keeps only what the clips at hand still need.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from r23d_jax.data import flow as optical_flow
from r23d_jax.data import sampling
from r23d_jax.data.video import Resize, Scaler, Video, VideoError, display_size, target_size
from r23d_jax.errors import UserError
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights.card import Card

KEEP_BYTES = 256 * 2**20


@dataclasses.dataclass(frozen=True)
class Scanned:
    """What the first pass over a file found.

    A picture is a frame, or the optical flow from a frame to the next: one fewer than there are frames.

    Attributes:
      path: the file.
      count: pictures in it.
      fps: frames a second, on average.
      size: (height, width) of a picture as decoded for the network.
      frames: uint8 [height, width, 3] each, for flow uint8 [height, width] grey ones; None where they are too
        many to keep.
      flow: the optical-flow algorithm, None for the frames themselves.
    """

    path: Path
    count: int
    fps: float
    size: tuple[int, int]
    frames: list[np.ndarray] | None
    flow: str | None = None

    @property
    def seconds(self) -> float:
        """The video's length."""
        return self.count / self.fps


@dataclasses.dataclass(frozen=True)
class Plan:
    """The clips of one video.

    Attributes:
      indices: int64 [clips, frames], pictures of the file.
      start_seconds: float64 [clips], time of each clip's first frame.
      windows: `(start, end, clips)` in seconds and rows of `indices`, the clips that each is the mean of.
    """

    indices: np.ndarray
    start_seconds: np.ndarray
    windows: tuple[tuple[float, float, np.ndarray], ...]


def plan(scanned: Scanned, spec: Preprocessing, views: str | int) -> Plan:
    """The clips that stand for a whole video.

    Args:
      scanned: the video.
      spec: frames, stride and frame rate of a clip; `frames == 0` takes the whole video as one clip, or
        clips of `max_frames` where it is longer.
      views: "dense" for every non-overlapping clip (parts of a whole video overlap until they cover it), or
        a number of uniformly spread ones.
    """
    axis = frame_axis(scanned.count, scanned.fps, spec.fps)
    indices = axis[_views(len(axis), spec, views)]
    return Plan(indices, indices[:, 0] / scanned.fps, ((0.0, scanned.seconds, np.arange(len(indices))),))


def sliding(scanned: Scanned, spec: Preprocessing, window: float, step: float) -> Plan:
    """Windows over a long video, each the mean of its non-overlapping clips.

    The last window ends with the video, so it may begin less than a step after the one before it. A video
    shorter than a window is one. A clip in several windows is there once.

    Args:
      scanned: the video.
      spec: as in `plan`; with `frames == 0` a window is one clip.
      window: seconds; 0 for one clip, or 64 frames where a clip has no length of its own.
      step: seconds between the starts; 0 for one window after another.

    Raises:
      UserError: a window shorter than a clip.
    """
    rate = spec.fps or scanned.fps
    axis = frame_axis(scanned.count, scanned.fps, spec.fps)
    shortest = sampling.span(spec.frames, spec.stride) if spec.frames else 1
    length = round(window * rate) if window else (spec.frames or 64) * spec.stride
    if length < shortest:
        raise UserError(
            f"--window {window:g}: shorter than this checkpoint's clip, which takes {shortest / rate:.2f} s of "
            f"{scanned.path}"
        )
    length = min(length, len(axis))
    starts = list(range(0, len(axis) - length + 1, max(1, round(step * rate)) if step else length))
    if starts[-1] + length < len(axis):
        starts.append(len(axis) - length)
    relative = _views(length, spec, "dense")
    every = axis[np.asarray(starts)[:, None, None] + relative]
    indices, rows = np.unique(every.reshape(-1, every.shape[-1]), axis=0, return_inverse=True)
    rows = rows.reshape(len(starts), -1)
    spans = [(start / rate, min((start + length) / rate, scanned.seconds)) for start in starts]
    windows = tuple((*span, row) for span, row in zip(spans, rows, strict=True))
    return Plan(indices, indices[:, 0] / scanned.fps, windows)


def frame_axis(count: int, fps: float, wanted: float | None) -> np.ndarray:
    """The frames of a video at another frame rate: of each moment the frame that is on the screen then.

    Args:
      count: frames in the video.
      fps: its rate.
      wanted: the rate to bring it to; None keeps every frame.

    Returns:
      int64, never falling: frames are left out or repeated. At least one.
    """
    if wanted is None:
        return np.arange(count)
    moments = max(1, int(count * wanted / fps + 1e-6))
    return np.minimum((np.arange(moments) * (fps / wanted) + 1e-6).astype(np.int64), count - 1)


def _views(count: int, spec: Preprocessing, views: str | int) -> np.ndarray:
    """int [clips, frames] into an axis of `count` frames."""
    frames = spec.frames
    if not frames:
        if views == "dense" or -(-count // spec.stride) <= spec.max_frames:
            return sampling.whole(count, spec.stride, spec.max_frames)
        frames = spec.max_frames
    if views == "dense":
        return sampling.every(count, frames, spec.stride)
    return sampling.uniform(count, frames, spec.stride, views)


def stored_size(card: Card) -> Resize:
    """The size to decode at: that of the stored frames the weights were trained on, else the card's `resize`.

    A run notes the former in `card.source["stored"]`: [height, width], the short side, or "native". It matters
    where the stored frames have another shape than the video's, squares for instance.
    """
    stored = card.source.get("stored")
    if isinstance(stored, list | tuple):
        return int(stored[0]), int(stored[1])
    return stored if isinstance(stored, int) else card.preprocessing.resize


def scan(path: Path, resize: Resize, keep_bytes: int = KEEP_BYTES, flow: str | None = None) -> Scanned:
    """Decodes the whole file once.

    Args:
      path: any file that PyAV reads.
      resize: the size to decode at.
      keep_bytes: memory that frames may take before they are dropped again.
      flow: an algorithm of `data.flow` where its pictures are wanted and not the frames.

    Raises:
      VideoError: it cannot be read to its end, or has no pictures.
    """
    scaler, size, count = Scaler(), None, 0
    kept: list[np.ndarray] | None = []
    with Video(path) as video:
        for frame in video.frames():
            size = size or target_size(*display_size(frame), resize)
            count += 1
            if kept is not None:
                kept.append(_for_network(scaler.rgb(frame, *size), flow))
                if count * kept[0].nbytes > keep_bytes:
                    kept = None
        if flow:
            count -= 1
        if not count:
            raise VideoError(path, "holds one frame only, and optical flow needs two")
        return Scanned(Path(path), count, video.fps, size, kept, flow)


def scan_array(frames: np.ndarray, fps: float, resize: Resize, flow: str | None = None) -> Scanned:
    """The same for frames in memory, uint8 [T, H, W, 3]."""
    kept = list(_scaled(frames, resize, flow))
    count = len(kept) - bool(flow)
    if not count:
        raise UserError("an array of one frame, and optical flow needs two")
    return Scanned(Path("array"), count, fps, kept[0].shape[:2], kept, flow)


def scale(frames: np.ndarray, resize: Resize, flow: str | None = None) -> np.ndarray:
    """Frames uint8 [T, H, W, 3] scaled as decoding does it: uint8 [T, h, w, 3], or flow [T - 1, h, w, 2]."""
    scanned = scan_array(frames, 1.0, resize, flow)
    ((_, pictures),) = read_clips(scanned, np.arange(scanned.count)[None])
    return pictures


def _scaled(frames: np.ndarray, resize: Resize, flow: str | None) -> Iterator[np.ndarray]:
    scaler, size = Scaler(), target_size(*frames.shape[1:3], resize)
    for frame in frames:
        same = frame.shape[:2] == tuple(size)
        scaled = frame if same else scaler.rgb(av.VideoFrame.from_ndarray(frame, "rgb24"), *size)
        yield _for_network(scaled, flow)


def read_clips(scanned: Scanned, indices: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields `(row of indices, uint8 [frames, height, width, C])`, each row once, by its last picture.

    C is 3, or 2 for flow. Memory: what `scanned` kept, and the pictures of clips that have begun and not ended.
    """
    order = np.argsort(indices.max(axis=1), kind="stable")
    first_use = np.minimum.accumulate(indices[order].min(axis=1)[::-1])[::-1]  # of this clip and all later ones
    wanted = np.zeros(scanned.count, bool)
    wanted[indices] = True
    held: dict[int, np.ndarray] = {}
    position = 0
    for number, picture in _pictures(scanned, wanted):
        held[number] = picture
        while position < len(order) and indices[order[position]].max() <= number:
            row = order[position]
            yield int(row), np.stack([held[i] for i in indices[row]])
            position += 1
            if position < len(order):
                held = {i: value for i, value in held.items() if i >= first_use[position]}
        if position == len(order):
            return
    raise VideoError(scanned.path, "has changed while it was read")


def _pictures(scanned: Scanned, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The wanted pictures with their numbers, in order."""
    if scanned.flow is None:
        yield from _frames(scanned, wanted)
        return
    # A field takes the frame of its number and the next one.
    ends = np.append(wanted, False) | np.insert(wanted, 0, False)
    compute, before = optical_flow.Flow(scanned.flow), None
    for number, frame in _frames(scanned, ends):
        if number and wanted[number - 1]:
            yield number - 1, optical_flow.quantise(compute.field(before, frame))
        before = frame


def _frames(scanned: Scanned, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The wanted frames: those that were kept, else from the file again."""
    if scanned.frames is not None:
        yield from ((number, frame) for number, frame in enumerate(scanned.frames) if wanted[number])
        return
    scaler = Scaler()
    with Video(scanned.path) as video:
        for number, frame in enumerate(video.frames()):
            if number < len(wanted) and wanted[number]:
                yield number, _for_network(scaler.rgb(frame, *scanned.size), scanned.flow)


def _for_network(frame: np.ndarray, flow: str | None) -> np.ndarray:
    return optical_flow.grey(frame) if flow else frame
