"""Builds network, optimizer, training step and batches of a config, for runs and benchmarks alike."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from r23d_jax import models
from r23d_jax.data import loader
from r23d_jax.data.dataset import Dataset
from r23d_jax.errors import UserError
from r23d_jax.models.functional import Functional, Weights, weights_of
from r23d_jax.models.head import HeadSpec
from r23d_jax.models.ops import hardware
from r23d_jax.models.structure import freeze_batch_norm, stage_names
from r23d_jax.runtime.addresses import public_name
from r23d_jax.runtime.mesh import replicated
from r23d_jax.training import losses, optim
from r23d_jax.training.step import TrainState, init_state, make_train_step
from r23d_jax.transforms import clip as clip_transforms
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights.card import Card


def steps_of(config: ConfigDict, videos: int) -> int:
    """Returns the steps of a whole run of this config on `videos` training videos."""
    return config.steps or max(1, math.ceil(config.epochs * videos / config.batch_size))


def check(config: ConfigDict) -> None:
    """Raises a `UserError` for a loss, optimizer, schedule or argument that does not exist, before anything is done."""
    losses.create(config)
    optim.create(config, optim.schedule(config, total_steps=100, steps_per_epoch=10.0), {"fc.kernel": 1.0})


def model_arguments(config: ConfigDict, classes: int, in_channels: int, origin: Card | None) -> dict[str, Any]:
    """Returns the arguments of `models.create` as JSON values, as a card stores them.

    Args:
      config: reads clip.frames and model; filled in by `weights.clip_values.resolve`.
      classes, in_channels: of the data set.
      origin: card of the initial weights, or of a resumed run's checkpoint; its head and its BatchNorm epsilon are the
        default.

    Raises:
      UserError: the network cannot be trained.
    """
    arguments = {
        "num_classes": classes,
        "frames": config.clip.frames,
        "in_channels": in_channels,
        "dropout": config.model.dropout,
        "width": config.model.width,
        "layers": list(config.model.layers) or None,
        "bn_epsilon": config.model.bn_epsilon or (origin.bn_epsilon if origin else None),
        **({"head": origin.model["head"]} if origin and origin.model.get("head") else {}),
        **config.model.arguments,
    }
    head = arguments.get("head")
    if head is not None and HeadSpec.from_dict(head).kind == "neighbours":
        raise UserError(
            f"init_from {public_name(config.init_from)}: its classifier counts votes of the training clips it was made "
            "from, which cannot be trained further; start from the weights below it, or from a probe with a linear head"
        )
    return arguments


@dataclasses.dataclass(frozen=True)
class Setup:
    """A network with its optimizer and training step.

    Attributes:
      model: the network with fresh weights.
      network: the same as a pure function.
      params, stats: flat fresh parameters and running statistics.
      stages: top-level modules in order of depth, the classifier last.
      learning: names of the trainable parameters.
      tx: optimizer over those.
      learning_rate: the schedule.
      step: `(state, batch) -> (state, metrics)`, jitted, the state donated.
    """

    config: ConfigDict
    model: nnx.Module
    network: Functional
    params: Weights
    stats: Weights
    stages: tuple[str, ...]
    learning: frozenset[str]
    tx: optax.GradientTransformation
    learning_rate: optim.Schedule
    step: Callable[..., Any]

    def state(self, weights: dict[str, Any] | None = None) -> TrainState:
        """Returns the state before the first step; `weights` (flat) replace fresh parameters and statistics."""
        given = {**self.params, **self.stats, **(weights or {})}
        params, stats = ({name: given[name] for name in part} for part in (self.params, self.stats))
        return init_state(params, stats, self.tx, self.learning, self.config.ema, self.config.seed, self.config.dtype)


def create(
    config: ConfigDict,
    arguments: dict[str, Any],
    class_names: Sequence[str],
    spec: Preprocessing,
    mesh: Mesh,
    total_steps: int,
    steps_per_epoch: float,
) -> Setup:
    """Builds network, optimizer and training step of a config.

    Args:
      config: filled in by `weights.clip_values.resolve`.
      arguments: of `models.create`, from `model_arguments`.
      class_names: in the order of the labels.
      spec: preprocessing of the clips.
      mesh: the devices.
      total_steps, steps_per_epoch: of the run, for the schedule.
    """
    model = models.create_from_arguments(config.arch, arguments, config.dtype, config.seed)
    if config.freeze_batch_norm:
        freeze_batch_norm(model)
    network, stages = Functional(model), stage_names(model)
    params, stats = weights_of(model)
    factors = optim.lr_factors(config, params, stages)
    learning = frozenset(name for name, factor in factors.items() if factor)
    learning_rate = optim.schedule(config, total_steps, steps_per_epoch)
    tx = optim.create(config, learning_rate, {name: factor for name, factor in factors.items() if factor})
    step = jax.jit(
        make_train_step(config, network, tx, learning_rate, learning, train_transform(config, class_names, spec)),
        donate_argnums=0,
        out_shardings=replicated(mesh),
        compiler_options=hardware.compiler_options(config.dtype),
    )
    return Setup(config, model, network, params, stats, stages, learning, tx, learning_rate, step)


def train_transform(
    config: ConfigDict, class_names: Sequence[str], spec: Preprocessing
) -> clip_transforms.TrainTransform:
    """Returns the transform of training clips."""
    augmentation = clip_transforms.Augmentation.from_config(config.augment)
    return clip_transforms.train_transform(
        spec, augmentation, class_names, config.dtype, hardware.policy().whole_pixels
    )


def train_batches(config: ConfigDict, dataset: Dataset, positions: np.ndarray, **options: Any) -> loader.BatchStream:
    """Returns this host's rows of a run's batches of `positions`; `options` are those of `loader.train_batches`."""
    settings = {
        "frames": config.clip.frames,
        "stride": config.clip.stride,
        "fps": config.clip.fps or None,
        "sampling": config.clip.sampling,
        "batch_size": config.batch_size,
        "seed": config.seed,
        "balanced": config.dataset.balanced,
        "threads": config.workers,
        "processes": config.processes,
        "prefetch": config.prefetch,
        "process_index": jax.process_index(),
        "process_count": jax.process_count(),
    }
    return loader.train_batches(dataset, positions, **{**settings, **options})
