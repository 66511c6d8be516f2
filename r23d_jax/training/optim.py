"""From the config to the optimizer: schedule, weight decay mask, rates per stage, what is frozen."""

import math
from collections.abc import Callable, Iterable, Mapping

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

Schedule = Callable[[jnp.ndarray | int], jnp.ndarray]


def effective_lr(config: ConfigDict) -> float:
    """`lr`, scaled to the batch where the config states it per `lr_batch` clips (Goyal et al. 2017)."""
    return config.lr * (config.batch_size / config.lr_batch if config.lr_batch else 1.0)


def schedule(config: ConfigDict, total_steps: int, steps_per_epoch: float) -> Schedule:
    """Learning rate at each step.

    `cosine_study` is the study's `lr * cos(7/16 * pi * t)`, t from 0 to 1 over the run: it ends at a fifth
    of the rate, not at zero. `cosine` is Loshchilov & Hutter's half period to zero.

    Args:
      config: the run's config; reads `lr`, `lr_batch`, `batch_size` and `schedule`.
      total_steps: steps of the whole run, warm-up included.
      steps_per_epoch: may be fractional.
    """
    peak, name = effective_lr(config), config.schedule.name
    warmup = min(round(config.schedule.warmup_epochs * steps_per_epoch), total_steps)
    rest = max(total_steps - warmup, 1)
    if name == "constant":
        main = optax.constant_schedule(peak)
    elif name == "cosine":
        main = optax.cosine_decay_schedule(peak, rest)
    elif name == "cosine_study":

        def main(step):
            return peak * jnp.cos(7 / 16 * math.pi * jnp.minimum(step / rest, 1.0))
    else:
        gamma = config.schedule.gamma
        drops = {max(round(share * total_steps) - warmup, 0): gamma for share in config.schedule.milestones}
        main = optax.piecewise_constant_schedule(peak, drops)
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), main], [warmup])


def kind(name: str, names: Iterable[str]) -> str:
    """What a parameter is: "kernel", "norm" (BatchNorm's scale and bias) or "bias" (a layer's own).

    Raises:
      ValueError: for a name of no known kind, so that no parameter can slip past the masks.
    """
    owner, _, leaf = name.rpartition(".")
    if leaf == "kernel":
        return "kernel"
    if leaf == "scale" or (leaf == "bias" and f"{owner}.scale" in names):
        return "norm"
    if leaf == "bias":
        return "bias"
    raise ValueError(f"parameter {name}: neither kernel, scale nor bias")


def decay_mask(config: ConfigDict, names: Iterable[str]) -> dict[str, bool]:
    """Which parameters weight decay reaches: kernels always, the others as the config says."""
    names = set(names)
    decayed = {"kernel": True, "norm": config.optimizer.decay_norm, "bias": config.optimizer.decay_bias}
    return {name: decayed[kind(name, names)] for name in sorted(names)}


def lr_factors(config: ConfigDict, names: Iterable[str], stages: tuple[str, ...]) -> dict[str, float]:
    """Each parameter's rate over `lr`: `layer_decay` to the power of its distance from the head.

    Args:
      config: reads `optimizer.layer_decay` and `freeze_backbone`.
      names: the parameters.
      stages: top-level names in order of depth, the head's last; every parameter is below one of them.
    """
    factors = {}
    for name in names:
        top = name.split(".")[0]
        if top not in stages:
            raise ValueError(f"parameter {name}: not below any of {', '.join(stages)}")
        distance = len(stages) - 1 - stages.index(top)
        frozen = config.freeze_backbone and distance > 0
        factors[name] = 0.0 if frozen else config.optimizer.layer_decay**distance
    return factors


def create(config: ConfigDict, learning_rate: Schedule, factors: Mapping[str, float]) -> optax.GradientTransformation:
    """The optimizer over a flat dict of the parameters that learn.

    SGD is PyTorch's: decay is added to the gradient, then momentum, then the rate. AdamW's decay is
    decoupled (Loshchilov & Hutter 2019) and scaled by the rate.
    """
    options = config.optimizer
    parts = [optax.clip_by_global_norm(options.clip_norm)] if options.clip_norm else []
    decay = optax.add_decayed_weights(options.weight_decay, mask=lambda params: decay_mask(config, params))
    if options.name == "adamw":
        parts += [optax.scale_by_adam(*options.betas), decay]
    else:
        parts += [decay, optax.trace(options.momentum, nesterov=options.momentum > 0)]
    parts += [optax.scale_by_learning_rate(learning_rate)]
    if set(factors.values()) != {1.0}:
        parts += [optax.stateless(lambda updates, _: {k: factors[k] * u for k, u in updates.items()})]
    return optax.chain(*parts)
