"""Applies a network to videos: batches clips across videos, and collects the results of each video."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from r23d_jax.errors import UserError
from r23d_jax.inference import clips as video_clips
from r23d_jax.inference.clips import Plan, Scanned
from r23d_jax.inference.sources import VideoSource
from r23d_jax.transforms.spec import Preprocessing

if TYPE_CHECKING:
    from r23d_jax.inference.classifier import Classifier

# Frames with a fixed short side differ in size; on canvases rounded up to this multiple they share programs.
_CANVAS = 32
_CLIP_PIXELS = 16 * 112 * 112


@dataclasses.dataclass(frozen=True)
class VideoResult:
    """Outputs for one video.

    Attributes:
      source, scanned, plan: the video; `scanned.frames` is None.
      outputs: numpy arrays [clips, ...], in the order of the plan.
    """

    source: VideoSource
    scanned: Scanned
    plan: Plan
    outputs: Any


def run(
    network: "Classifier",
    apply: Callable[[jax.Array], Any],
    sources: Iterable[VideoSource],
    make_plan: Callable[[Scanned], Plan],
    failed: Callable[[VideoSource, Exception], None],
    batch_size: int = 0,
) -> Iterator[VideoResult]:
    """Applies a function to every clip of every video; clips of different videos share batches.

    Args:
      network: prepares the clips.
      apply: maps normalised clips to arrays with the batch as first axis.
      sources: the videos.
      make_plan: chooses the clips of a video.
      failed: called with each video that cannot be processed and its error; the others continue.
      batch_size: clips per batch; 0 for 4 on a CPU and 16 elsewhere, fewer for large clips.

    Yields:
      The results in the order of the videos.
    """
    open_videos: dict[int, tuple[VideoSource, Scanned, Plan]] = {}
    outputs: dict[int, dict[int, Any]] = {}
    broken = set()

    size, flow = video_clips.stored_size(network.card), network.card.preprocessing.flow

    def clips():
        for number, source in enumerate(sources):
            try:
                if source.frames is None:
                    scanned = video_clips.scan(source.path, size, flow=flow)
                else:
                    scanned = video_clips.scan_array(source.frames, source.fps, size, flow)
                plan = make_plan(scanned)
                open_videos[number] = source, dataclasses.replace(scanned, frames=None), plan
                outputs[number] = {}
                for row, frames in video_clips.read_clips(scanned, plan.indices):
                    yield (number, row), frames
            except (UserError, OSError) as error:
                broken.add(number)
                outputs.pop(number, None)
                failed(source, error)

    for (number, row), output in _batched(network, apply, clips(), batch_size):
        if number in broken:
            continue
        outputs[number][row] = output
        source, scanned, plan = open_videos[number]
        if len(outputs[number]) == len(plan.indices):
            rows = outputs.pop(number)
            del open_videos[number]
            stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *(rows[row] for row in range(len(rows))))
            if all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(stacked)):
                yield VideoResult(source, scanned, plan, stacked)
            else:
                failed(source, UserError(f"{source.path}: the network's output is not finite"))


def _batched(network, apply, clips, batch_size) -> Iterator[tuple[Any, Any]]:
    """Yields `(key, output)` for each `(key, frames)`, in order.

    Consecutive clips of the same length and canvas share a batch. To avoid compilation, a batch that is not full is
    padded to the next compiled size or to the full size, unless it is the first of its shape.
    """
    spec = network.card.preprocessing
    compiled: dict[tuple[int, ...], set[int]] = {}
    waiting: list[tuple[Any, np.ndarray]] = []

    def most(shape):
        return batch_size or _batch_size(shape)

    def dispatch():
        canvas = _canvas(waiting[0][1], spec)
        shape = _input_shape(canvas, spec)
        sizes = compiled.setdefault(shape, set())
        large_enough = [size for size in sizes if size >= len(waiting)]
        rows = min(large_enough) if large_enough else most(shape) if sizes else len(waiting)
        sizes.add(rows)
        frames, true_sizes = np.zeros((rows, *canvas, waiting[0][1].shape[-1]), np.uint8), np.zeros((rows, 2), np.int32)
        for place in range(rows):
            clip = waiting[min(place, len(waiting) - 1)][1]
            frames[place, :, : clip.shape[1], : clip.shape[2]] = clip
            true_sizes[place] = clip.shape[1:3]
        keys = [key for key, _ in waiting]
        waiting.clear()
        return keys, apply(network.prepare(frames, true_sizes))

    def collect(done):
        if done is not None:
            keys, result = done
            arrays = jax.device_get(result)
            rows = zip(*map(list, jax.tree.leaves(arrays)), strict=True)
            structure = jax.tree.structure(arrays)
            yield from ((key, jax.tree.unflatten(structure, row)) for key, row in zip(keys, rows, strict=False))

    pending = None
    for key, frames in clips:
        canvas = _canvas(frames, spec)
        full = waiting and len(waiting) == most(_input_shape(canvas, spec))
        if full or (waiting and canvas != _canvas(waiting[0][1], spec)):
            pending, done = dispatch(), pending
            yield from collect(done)  # one batch late, so that decoding overlaps with computing
        waiting.append((key, frames))
    if waiting:
        pending, done = dispatch(), pending
        yield from collect(done)
    yield from collect(pending)


def _canvas(frames: np.ndarray, spec: Preprocessing) -> tuple[int, int, int]:
    """Returns (frames, height, width) of the canvas for a clip; the transform crops its padding again."""
    length, *size = frames.shape[:3]
    if spec.crop is None and spec.resize is None:
        return length, *size
    return length, *(-(-pixels // _CANVAS) * _CANVAS for pixels in size)


def _input_shape(canvas: tuple[int, int, int], spec: Preprocessing) -> tuple[int, int, int]:
    """Returns (frames, height, width) of the network's input."""
    return (canvas[0], spec.crop, spec.crop) if spec.crop else (canvas[0], *(spec.resize or canvas[1:]))


def _batch_size(shape: tuple[int, int, int]) -> int:
    most = 4 if jax.default_backend() == "cpu" else 16
    return max(1, min(most, most * _CLIP_PIXELS // math.prod(shape)))
