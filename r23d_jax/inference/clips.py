"""Reads the clips that a weights card asks for from video files and arrays.

Frames are scaled during decoding to the size of the stored training frames, and stay uint8. Sampling
(`data.sampling`) and transform (`transforms.clip.eval_transform`) are those of evaluation. The only difference from
an evaluation on a built data set is that its frames are JPEG-compressed.

A file is decoded at most twice. The first pass counts the frames, since headers are unreliable, and keeps them if
they fit in `KEEP_BYTES`; otherwise a second pass holds only the frames that current clips need.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from r23d_jax.data import flow as optical_flow
from r23d_jax.data import sampling, timing
from r23d_jax.data.scaling import Resize, Scaler, target_size
from r23d_jax.data.video import Video, VideoError
from r23d_jax.errors import UserError
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights.card import Card

KEEP_BYTES = 256 * 2**20


@dataclasses.dataclass(frozen=True)
class Scanned:
    """Result of the first pass over a file.

    A picture is a frame or, for optical flow, the field from a frame to the next (one fewer than frames).

    Attributes:
      path: the file.
      count: number of pictures.
      fps: average frame rate, 0 if unknown.
      size: (height, width) of a decoded picture.
      frames: uint8 [height, width, 3] each, for flow uint8 [height, width] grey; None if too large to keep.
      flow: the optical-flow algorithm, None for RGB.
      frame_times: seconds from the first frame to each, float64 [frames], where the frame rate varies; else None.
      notes: what the user should know of the file, each what follows its name in a sentence.
    """

    path: Path
    count: int
    fps: float
    size: tuple[int, int]
    frames: list[np.ndarray] | None
    flow: str | None = None
    frame_times: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def times(self) -> np.ndarray | None:
        """Seconds from the first picture to each, float64 [count], where the rate varies; else None."""
        return None if self.frame_times is None else self.frame_times[: self.count]

    @property
    def seconds(self) -> float:
        """Duration of the video."""
        if not self.fps:
            return 0.0
        return self.count / self.fps if self.times is None else timing.end_of(self.times, self.fps)

    def at(self, pictures: np.ndarray) -> np.ndarray:
        """Returns the times of pictures in seconds, float64, in the shape of `pictures`."""
        if not self.fps:
            return np.zeros(np.shape(pictures))
        return pictures / self.fps if self.times is None else self.times[pictures]


@dataclasses.dataclass(frozen=True)
class Plan:
    """The clips of one video.

    Attributes:
      indices: int64 [clips, frames], pictures of the file.
      start_seconds: float64 [clips], time of each clip's first frame.
      windows: `(start, end, clips)`, in seconds and with the rows of `indices` that are averaged.
    """

    indices: np.ndarray
    start_seconds: np.ndarray
    windows: tuple[tuple[float, float, np.ndarray], ...]


def plan(scanned: Scanned, spec: Preprocessing, views: str | int | None = None) -> Plan:
    """Returns the clips that cover a whole video.

    Args:
      scanned: the video.
      spec: frames, stride and frame rate of a clip; `frames == 0` takes the whole video as one clip or, if it is
        longer, overlapping clips of `max_frames` that cover it.
      views: "dense" for every non-overlapping clip, "segments" or "linspace" for one clip spread over the video,
        "fitted" for the whole video in one of few lengths (`sampling.fitted`), or a number of uniformly spread clips;
        None for `spec.sampling`.
    """
    known = scanned.fps > 0  # else all frames are taken, as in evaluation
    axis = sampling.resample(scanned.count, scanned.fps, spec.fps if known else None, scanned.times)
    indices = axis[_views(len(axis), spec, spec.sampling if views is None else views)]
    return Plan(indices, scanned.at(indices[:, 0]), ((0.0, scanned.seconds, np.arange(len(indices))),))


def sliding(scanned: Scanned, spec: Preprocessing, window: float, step: float) -> Plan:
    """Returns the clips of sliding windows over a long video; a window averages its non-overlapping clips.

    The last window ends with the video, so it may start less than a step after the one before. A video shorter than
    a window is one window. Clips that windows share are listed once. Where the frame rate varies and `spec` asks for
    none, the video is resampled to its average, so that windows are equally long.

    Args:
      scanned: the video.
      spec: as in `plan`; with `frames == 0` a window is taken as a whole video is.
      window: seconds; 0 for the length of one clip, or of 64 frames if `spec` has no length.
      step: seconds between starts; 0 for adjacent windows.

    Raises:
      UserError: the window is shorter than a clip.
    """
    rate = spec.fps or scanned.fps
    wanted = spec.fps if scanned.times is None else rate
    axis = sampling.resample(scanned.count, scanned.fps, wanted, scanned.times)
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
    relative = _views(length, spec, spec.sampling)
    every = axis[np.asarray(starts)[:, None, None] + relative]
    indices, rows = np.unique(every.reshape(-1, every.shape[-1]), axis=0, return_inverse=True)
    rows = rows.reshape(len(starts), -1)
    spans = [(start / rate, min((start + length) / rate, scanned.seconds)) for start in starts]
    windows = tuple((*span, row) for span, row in zip(spans, rows, strict=True))
    return Plan(indices, scanned.at(indices[:, 0]), windows)


def _views(count: int, spec: Preprocessing, views: str | int) -> np.ndarray:
    """Returns int [clips, frames], indices into `count` frames."""
    if views == "fitted":
        return sampling.fitted(count, spec.stride, spec.max_frames)
    frames = spec.frames
    if not frames:
        if views == "dense" or -(-count // spec.stride) <= spec.max_frames:
            return sampling.whole(count, spec.stride, spec.max_frames)
        frames = spec.max_frames
    if views == "dense":
        return sampling.every(count, frames, spec.stride)
    if views in ("segments", "linspace"):
        return getattr(sampling, views)(count, frames)[None]
    return sampling.uniform(count, frames, spec.stride, views)


def stored_size(card: Card) -> Resize:
    """Returns the size to decode at: that of the stored training frames if known, else the card's `resize`.

    `card.source["stored"]` is [height, width], the short side, or "native". It matters if the stored frames have
    another aspect ratio than the video, squares for instance.
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
      keep_bytes: memory above which frames are not kept.
      flow: an algorithm of `data.flow` for optical flow, None for RGB.

    Raises:
      VideoError: the file cannot be read to its end, or has no pictures.
    """
    scaler, size, count = Scaler(), None, 0
    kept: list[np.ndarray] | None = []
    with Video(path) as video:
        for frame in video.frames():
            size = size or target_size(*video.display_size(frame), resize)
            count += 1
            if kept is not None:
                kept.append(_for_network(scaler.rgb(frame, *size, video.orientation(frame)), flow))
                if count * kept[0].nbytes > keep_bytes:
                    kept = None
        if flow:
            count -= 1
        if not count:
            raise VideoError(path, "holds one frame only, and optical flow needs two")
        return Scanned(Path(path), count, video.fps, size, kept, flow, video.times, _notes(video))


def _notes(video: Video) -> tuple[str, ...]:
    if video.streams == 1:
        return ()
    return (f"has {video.streams} video streams; number {video.chosen}, the default or largest, is used",)


def scan_array(frames: np.ndarray, fps: float, resize: Resize, flow: str | None = None) -> Scanned:
    """Does the same as `scan` for frames in memory, uint8 [T, H, W, 3]."""
    kept = list(_scaled(frames, resize, flow))
    count = len(kept) - bool(flow)
    if not count:
        raise UserError("an array of one frame, and optical flow needs two")
    return Scanned(Path("array"), count, fps, kept[0].shape[:2], kept, flow)


def scale(frames: np.ndarray, resize: Resize, flow: str | None = None) -> np.ndarray:
    """Scales frames uint8 [T, H, W, 3] as decoding does: to uint8 [T, h, w, 3], or flow [T - 1, h, w, 2]."""
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
    """Yields `(row of indices, uint8 [frames, height, width, C])` for each row, ordered by last picture.

    C is 3, or 2 for flow. Holds the pictures of all clips that have started and not ended.
    """
    order = np.argsort(indices.max(axis=1), kind="stable")
    first_use = np.minimum.accumulate(indices[order].min(axis=1)[::-1])[::-1]  # by this or any later clip
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
    """Yields the wanted pictures with their numbers, in order."""
    if scanned.flow is None:
        yield from _frames(scanned, wanted)
        return
    # A flow field needs its frame and the next one.
    ends = np.append(wanted, False) | np.insert(wanted, 0, False)
    compute, before = optical_flow.Flow(scanned.flow), None
    for number, frame in _frames(scanned, ends):
        if number and wanted[number - 1]:
            yield number - 1, optical_flow.quantise(compute.field(before, frame))
        before = frame


def _frames(scanned: Scanned, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the wanted frames with their numbers, from memory or from the file."""
    if scanned.frames is not None:
        yield from ((number, frame) for number, frame in enumerate(scanned.frames) if wanted[number])
        return
    scaler = Scaler()
    with Video(scanned.path) as video:
        for number, frame in enumerate(video.frames()):
            if number < len(wanted) and wanted[number]:
                rgb = scaler.rgb(frame, *scanned.size, video.orientation(frame))
                yield number, _for_network(rgb, scanned.flow)


def _for_network(frame: np.ndarray, flow: str | None) -> np.ndarray:
    return optical_flow.grey(frame) if flow else frame
