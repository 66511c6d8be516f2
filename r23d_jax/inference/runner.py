"""Applies a network to videos: batches clips across videos, and collects the results of each video."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from r23d_jax.data.scaling import Resize
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
# Clips; so many may wait for others of their canvas. It bounds memory, and how many videos wait for an unfinished one.
_WAITING = 64


@dataclasses.dataclass(frozen=True)
class VideoResult:
    """Outputs for one video.

    Attributes:
      source: the `VideoSource` of `run`, the name of the video in `run_scanned`.
      scanned, plan: the video; `scanned.frames` is None.
      outputs: numpy arrays [clips, ...], in the order of the plan.
    """

    source: Any
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
    in_order: bool = True,
) -> Iterator[VideoResult]:
    """Applies a function to every clip of every video; clips of different videos share batches.

    Args:
      network: prepares the clips.
      apply: maps normalised clips to arrays with the batch as first axis.
      sources: the videos.
      make_plan: chooses the clips of a video.
      failed: called with each video that cannot be processed and its error; the others continue.
      batch_size: clips per batch; 0 for 4 on a CPU and 16 elsewhere, fewer for large clips.
      in_order: whether results come in the order of the videos; else as they are finished, which fills more batches.

    Yields:
      The results.
    """
    size, flow = video_clips.stored_size(network.card), network.card.preprocessing.flow
    videos = ((source, _scan(source, size, flow)) for source in sources)
    return run_scanned(network, apply, videos, make_plan, failed, batch_size, in_order)


def _scan(source: VideoSource, size: Resize, flow: str | None) -> Scanned | Exception:
    try:
        if source.frames is None:
            return video_clips.scan(source.path, size, flow=flow)
        return video_clips.scan_array(source.frames, source.fps, size, flow)
    except (UserError, OSError) as error:
        return error


@dataclasses.dataclass
class _Unfinished:
    """A video whose clips are not all computed; `outputs` of the others by row of the plan."""

    key: Any
    scanned: Scanned
    plan: Plan
    outputs: dict[int, Any] = dataclasses.field(default_factory=dict)


def run_scanned(
    network: "Classifier",
    apply: Callable[[jax.Array], Any],
    videos: Iterable[tuple[Any, Scanned | Exception]],
    make_plan: Callable[[Scanned], Plan],
    failed: Callable[[Any, Exception], None],
    batch_size: int = 0,
    in_order: bool = True,
) -> Iterator[VideoResult]:
    """Does the same as `run` for videos that are scanned already, by threads for instance.

    Args:
      network, apply, make_plan, batch_size, in_order: as in `run`.
      videos: the caller's name of each video and what was scanned, or the error of one that could not be.
      failed: called with the name of each video that cannot be processed and its error; the others continue.

    Yields:
      The results; `source` is the name.
    """
    unfinished: dict[int, _Unfinished] = {}  # by number, in order
    finished: dict[int, VideoResult] = {}  # those that wait for earlier ones

    def clips():
        for number, (key, scanned) in enumerate(videos):
            if isinstance(scanned, Exception):
                failed(key, scanned)
                continue
            try:
                plan = make_plan(scanned)
                unfinished[number] = _Unfinished(key, dataclasses.replace(scanned, frames=None), plan)
                for row, frames in video_clips.read_clips(scanned, plan.indices):
                    yield (number, row), frames
            except (UserError, OSError) as error:
                unfinished.pop(number, None)
                failed(key, error)

    def ready():
        first = next(iter(unfinished), math.inf) if in_order else math.inf
        for number in sorted(number for number in finished if number < first):
            yield finished.pop(number)

    for (number, row), output in _batched(network, apply, clips(), batch_size, in_order):
        video = unfinished.get(number)
        if video is None:  # it failed at a later clip
            continue
        video.outputs[row] = output
        if len(video.outputs) == len(video.plan.indices):
            del unfinished[number]
            rows = [video.outputs[row] for row in range(len(video.outputs))]
            stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
            if all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(stacked)):
                finished[number] = VideoResult(video.key, video.scanned, video.plan, stacked)
            else:
                failed(video.key, UserError(f"{video.scanned.path}: the network's output is not finite"))
            yield from ready()
    yield from ready()  # those before which videos failed


def _batched(network, apply, clips, batch_size, in_order) -> Iterator[tuple[Any, Any]]:
    """Yields `(key, output)` for each `(key, frames)`, batch by batch.

    Clips of the same length and canvas share a batch, which is computed when it is full. The batch with the oldest clip
    is computed earlier where `_WAITING` clips, or those of two batches, are held up: if `in_order`, all that came after
    the oldest one, since their videos wait with it; else those that wait for their own batch.

    To avoid compilation, a batch that is not full is padded to the next compiled size or to the full size, unless no
    clips follow and it is the first of its shape.
    """
    spec = network.card.preprocessing
    compiled: dict[tuple[int, ...], set[int]] = {}
    waiting: dict[tuple[int, ...], list[tuple[int, Any, np.ndarray]]] = {}  # by canvas; first that of the oldest clip
    patience, pending = max(_WAITING, 2 * batch_size), None

    def most(canvas):
        return batch_size or _batch_size(_input_shape(canvas, spec))

    def late(number):
        if not waiting:
            return False
        (oldest, *_), *_ = next(iter(waiting.values()))
        return (number - oldest if in_order else sum(map(len, waiting.values()))) >= patience

    def compute(canvas, last=False):
        nonlocal pending
        batch = waiting.pop(canvas)
        sizes = compiled.setdefault(_input_shape(canvas, spec), set())
        large_enough = [size for size in sizes if size >= len(batch)]
        rows = min(large_enough) if large_enough else len(batch) if last and not sizes else most(canvas)
        sizes.add(rows)
        frames, true_sizes = np.zeros((rows, *canvas, batch[0][-1].shape[-1]), np.uint8), np.zeros((rows, 2), np.int32)
        for place in range(rows):
            _, _, clip = batch[min(place, len(batch) - 1)]
            frames[place, :, : clip.shape[1], : clip.shape[2]] = clip
            true_sizes[place] = clip.shape[1:3]
        done, pending = pending, ([key for _, key, _ in batch], apply(network.prepare(frames, true_sizes)))
        yield from collect(done)  # one batch late, so that decoding overlaps with computing

    def collect(done):
        if done is not None:
            keys, result = done
            arrays = jax.device_get(result)
            rows = zip(*map(list, jax.tree.leaves(arrays)), strict=True)
            structure = jax.tree.structure(arrays)
            yield from ((key, jax.tree.unflatten(structure, row)) for key, row in zip(keys, rows, strict=False))

    for number, (key, frames) in enumerate(clips):
        canvas = _canvas(frames, spec)
        waiting.setdefault(canvas, []).append((number, key, frames))
        if len(waiting[canvas]) == most(canvas):
            yield from compute(canvas)
        if late(number):
            yield from compute(next(iter(waiting)))
    for canvas in list(waiting):
        yield from compute(canvas, last=True)
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
