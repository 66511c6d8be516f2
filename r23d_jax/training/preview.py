"""Previews of the clips a run feeds its network, from the same batches, transforms and random keys."""

import dataclasses
import itertools
import math
from collections.abc import Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from r23d_jax.data import loader, views
from r23d_jax.data.dataset import Dataset
from r23d_jax.training import setup, step
from r23d_jax.transforms import clip as clip_transforms
from r23d_jax.transforms.spec import from_config
from r23d_jax.weights import clip_values


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip.

    Attributes:
      name: of its video.
      partner: name of the video mixed into it (mixup, CutMix), or "".
      shares: its target as `(label, share)`, largest share first.
      video: float32 [T, S, S, C], the network's input.
      stored: uint8 [H, W, C], its first frame as stored in the data set.
    """

    name: str
    partner: str
    shares: tuple[tuple[str, float], ...]
    video: np.ndarray
    stored: np.ndarray


def training(config: ConfigDict, dataset: Dataset, count: int, first_step: int = 0) -> list[Clip]:
    """Returns the first clips of a run's batches, sampled and augmented bit for bit as in training.

    Args:
      config: from `config.load`.
      dataset: the one that the config names.
      count: number of clips; they may span several batches.
      first_step: step of the first batch.
    """
    config = clip_values.of_config(config, dataset.channels, dataset.flow)
    spec = from_config(config, dataset.channels, dataset.flow)
    transform = jax.jit(setup.train_transform(config, dataset.class_names, spec))
    rows = min(config.batch_size, count + 1)  # mixing needs the next row as well
    mixing = bool(config.augment.mixup or config.augment.cutmix)
    positions, steps = dataset.subset(config.dataset.split, "train"), math.ceil(count / config.batch_size)
    found: list[Clip] = []
    with setup.train_batches(
        config, dataset, positions, start_step=first_step, num_steps=steps, processes=0, prefetch=1
    ) as stream:
        for number, batch in enumerate(stream, first_step):
            key, _ = step.keys_of(jax.random.key(config.seed), number)
            batch = {name: value[:rows] for name, value in batch.items()}
            video, targets = jax.device_get(transform(key, batch["frames"], batch["size"], batch["label"]))
            found += itertools.islice(_clips(dataset, batch, video, targets, mixing), count - len(found))
    return found


def testing(config: ConfigDict, dataset: Dataset, count: int) -> list[Clip]:
    """Returns the middle view of each of `count` videos spread evenly over the evaluated part of the split."""
    config = clip_values.of_config(config, dataset.channels, dataset.flow)
    spec, options = from_config(config, dataset.channels, dataset.flow), config.eval
    positions = dataset.subset(config.dataset.split, options.part)
    chosen = np.unique(np.linspace(0, len(positions) - 1, min(count, len(positions))).round().astype(int))
    plans = views.plans(
        dataset,
        positions[chosen],
        frames=spec.frames,
        stride=spec.stride,
        fps=spec.fps,
        max_frames=options.max_frames or spec.max_frames,
        views=options.views,
        crops=options.crops,
    )
    transform = jax.jit(clip_transforms.eval_transform(spec, options.crops, config.dtype))
    one_hot = np.eye(len(dataset.class_names), dtype=np.float32)
    found: list[Clip] = []
    for plan in map(_middle_views, plans):
        with loader.eval_batches(dataset, plan, batch_size=min(len(plan), 8), threads=config.workers) as stream:
            for batch in stream:
                video = jax.device_get(transform(batch["frames"], batch["size"], batch["crop"]))
                real = int(batch["mask"].sum())
                found += itertools.islice(_clips(dataset, batch, video, one_hot[batch["label"]]), real)
    return found


def _middle_views(plan: views.Views) -> views.Views:
    """Returns the middle view of each video."""
    of_video = np.split(np.arange(len(plan)), np.flatnonzero(np.diff(plan.video)) + 1)
    middle = [rows[len(rows) // 2] for rows in of_video]
    fields = {name: getattr(plan, name)[middle] for name in ("video", "position", "view", "crop", "indices")}
    return views.Views(**fields, crops=plan.crops)


def _clips(dataset: Dataset, batch: loader.Batch, video, targets, mixing=False) -> Iterator[Clip]:
    names = [dataset.videos[position].name for position in batch["video"]]
    for row, name in enumerate(names):
        height, width = batch["size"][row]
        labels = [label for label in np.argsort(-targets[row], kind="stable") if targets[row, label] > 0]
        yield Clip(
            name=name,
            partner=names[(row + 1) % len(names)] if mixing else "",
            shares=tuple((dataset.class_names[label], float(targets[row, label])) for label in labels),
            video=np.asarray(video[row], np.float32),
            stored=batch["frames"][row, 0, :height, :width].copy(),
        )
