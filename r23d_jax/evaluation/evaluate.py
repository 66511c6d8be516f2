"""Exact video-level evaluation: every expected view is scored exactly once.

Clip logits are gathered on the host and summed in float64 in a fixed order, so that counts do not depend on the
batch size or the number of devices and hosts.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from r23d_jax.data import loader
from r23d_jax.data import views as planning
from r23d_jax.data.dataset import Dataset
from r23d_jax.errors import UserError
from r23d_jax.evaluation import metrics
from r23d_jax.evaluation.aggregates import AGGREGATES
from r23d_jax.evaluation.predictions import Predictions
from r23d_jax.runtime.mesh import Batch, to_device
from r23d_jax.transforms.spec import Preprocessing


def evaluate(
    eval_step: Callable[..., Any],
    weights: Any,
    dataset: Dataset,
    positions: np.ndarray,
    *,
    spec: Preprocessing,
    views: str | int,
    crops: int,
    batch_size: int,
    mesh: Mesh,
    threads: int = 0,
    processes: int = 0,
    prefetch: int = 2,
    progress: bool = True,
    before_batch: Callable[[], None] = lambda: None,
) -> Predictions:
    """Evaluates the videos at `positions`.

    Args:
      eval_step: jitted `(weights, batch) -> (logits, index)`, both replicated.
      weights: its first argument.
      dataset, positions: the videos, in the order of the result.
      spec: frames, stride and frame rate of a clip.
      views: "dense" for every non-overlapping clip, "segments" or "linspace" for one clip of evenly spread frames, a
        number of uniformly spread clips, or "whole" or "fitted" for the whole video, see `data.views.whole_views`.
        Whole videos are evaluated one length after another, and each length compiles a program.
      crops: 1 or 3.
      batch_size: views of `spec.frames` frames per step, over all devices; fewer for longer whole videos, so that
        a batch has no more frames. Rounded up to a multiple of the number of devices.
      mesh, threads, prefetch: as in training.
      processes: as in training. Whole videos of several lengths are decoded in threads, because processes would be
        restarted for every length.
      progress: whether to show a progress bar.
      before_batch: called before every batch in every process; an exception ends the evaluation.

    Raises:
      UserError: a view was not scored exactly once, or an output is not finite.
    """
    plans = planning.plans(
        dataset,
        positions,
        frames=spec.frames,
        stride=spec.stride,
        fps=spec.fps,
        max_frames=spec.max_frames,
        views=views,
        crops=crops,
    )
    total = sum(map(len, plans))
    shown = progress and jax.process_index() == 0
    bar = tqdm(total=total, unit="clip", desc="evaluate", leave=False, disable=None if shown else True)
    parts = []
    with bar:
        for plan in plans:
            whole, length = views in planning.WHOLE, plan.indices.shape[1]
            size = max(1, batch_size * spec.frames // length) if whole else batch_size
            size = -(-min(size, len(plan)) // mesh.size) * mesh.size
            stream = loader.eval_batches(
                dataset,
                plan,
                batch_size=size,
                process_index=jax.process_index(),
                process_count=jax.process_count(),
                threads=threads,
                processes=processes if len(plans) == 1 else 0,
                prefetch=prefetch,
            )
            with stream:
                on_device = to_device(stream, mesh)
                parts.append(_logits(eval_step, weights, on_device, len(plan), bar, before_batch))
    logits, seen = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    if not np.all(seen == 1):
        missed, twice = int(np.sum(seen == 0)), int(np.sum(seen > 1))
        raise UserError(f"evaluation refused: of {total} views {missed} were not seen, {twice} more than once")
    video = np.concatenate([plan.video for plan in plans])
    if not np.all(np.isfinite(logits)):
        name = dataset.videos[positions[video[np.argmin(np.isfinite(logits).all(axis=1))]]].name
        raise UserError(f"evaluation refused: the network's output for video {name} is not finite")
    return average(dataset, positions, video, logits)


def _logits(
    eval_step: Callable[..., Any],
    weights: Any,
    stream: Iterable[Batch],
    count: int,
    bar: tqdm,
    before_batch: Callable[[], None],
) -> tuple[np.ndarray, np.ndarray]:
    """Returns float32 [count, C], the logits of each view, and int64 [count], how often each was scored."""
    logits, seen = None, np.zeros(count, np.int64)

    def collect(output):
        nonlocal logits
        rows, index = jax.device_get(output)
        if logits is None:
            logits = np.zeros((count, rows.shape[1]), np.float32)
        valid = index >= 0
        logits[index[valid]] = rows[valid]
        np.add.at(seen, index[valid], 1)
        bar.update(int(valid.sum()))

    pending = None
    for batch in stream:
        before_batch()
        output = eval_step(weights, batch)
        if pending is not None:  # collect one batch late, so that the device never waits for the host
            collect(pending)
        pending = output
    collect(pending)
    return logits, seen


def average(dataset: Dataset, positions: np.ndarray, video: np.ndarray, logits: np.ndarray) -> Predictions:
    """Returns the scores of videos from those of their views.

    Args:
      dataset, positions: int [V], the videos.
      video: int [N], index into `positions` of each view.
      logits: float [N, C] of each view.

    Raises:
      UserError: there is no view of a video.
    """
    videos = [dataset.videos[p] for p in positions]
    labels = np.asarray([video.label for video in videos], np.int32)
    clips = np.bincount(video, minlength=len(videos))
    if not np.all(clips):
        raise UserError(f"evaluation refused: no view of video {videos[int(np.argmin(clips))].name}")
    right = metrics.ranks(logits, labels[video]) < 1
    return Predictions(
        names=np.asarray([video.name for video in videos]),
        labels=labels,
        aggregates={name: aggregate(logits, video, len(videos)) for name, aggregate in AGGREGATES.items()},
        clips=clips.astype(np.int32),
        class_names=np.asarray(dataset.class_names),
        clip_top1=float(np.mean(right)),
    )
