"""Optimizer and learning rate schedule of a config: weight decay mask, rates per stage, frozen parameters."""

import difflib
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from r23d_jax.errors import UserError, one_line

Schedule = Callable[[jnp.ndarray | int], jnp.ndarray]


def effective_lr(config: ConfigDict) -> float:
    """Returns `lr`, scaled linearly to the batch size if the config sets `lr_batch` (Goyal et al. 2017)."""
    return config.lr * (config.batch_size / config.lr_batch if config.lr_batch else 1.0)


def cosine_study_schedule(init_value: float, decay_steps: int) -> Schedule:
    """Returns the study's schedule `lr * cos(7/16 * pi * t)`, t from 0 to 1, which ends at about `lr / 5`."""
    return lambda step: init_value * jnp.cos(7 / 16 * math.pi * jnp.minimum(step / decay_steps, 1.0))


# Names of our own; any other is `optax.NAME` or `optax.NAME_schedule`.
_SCHEDULES = {
    "cosine": optax.cosine_decay_schedule,
    "cosine_study": cosine_study_schedule,
    "step": optax.piecewise_constant_schedule,
}


def schedule(config: ConfigDict, total_steps: int, steps_per_epoch: float) -> Schedule:
    """Returns the learning rate schedule, with linear warm-up.

    `cosine` decays over half a period to zero (Loshchilov & Hutter 2017); `step` drops at `schedule.milestones`.
    Arguments of an optax schedule come from `schedule.arguments`. By default `value`, `peak_value` and `init_value`
    are `lr`, and `decay_steps` and `transition_steps` are the steps after the warm-up. A schedule that takes
    `warmup_steps` does the warm-up itself: `init_value` is 0 and `decay_steps` are those of the whole run.

    Args:
      config: the run's config; reads `lr`, `lr_batch`, `batch_size` and `schedule`.
      total_steps: steps of the whole run, warm-up included.
      steps_per_epoch: may be fractional.

    Raises:
      UserError: there is no schedule of that name, or its arguments do not fit it.
    """
    options, peak = config.schedule, effective_lr(config)
    warmup = min(round(options.warmup_epochs * steps_per_epoch), total_steps)
    rest = max(total_steps - warmup, 1)
    factory = _named("schedule", options.name, _SCHEDULES | _of_optax({"value", "init_value", "peak_value"}))
    takes = inspect.signature(factory).parameters
    if options.name == "step":
        drops = {max(round(share * total_steps) - warmup, 0): options.gamma for share in options.milestones}
        main = _call("schedule", options, factory, {"init_value": peak, "boundaries_and_scales": drops})
    else:
        from_zero = "warmup_steps" in takes
        usual = {
            "value": peak,
            "peak_value": peak,
            "init_value": 0.0 if "peak_value" in takes else peak,
            "decay_steps": total_steps if from_zero else rest,
            "transition_steps": rest,
            "warmup_steps": warmup,
        }
        usual = {name: value for name, value in usual.items() if name in takes and name not in options.arguments}
        main = _call("schedule", options, factory, usual)
        warmup = 0 if from_zero else warmup
    _try("schedule", options, lambda: jax.eval_shape(main, jax.ShapeDtypeStruct((), jnp.int32)))
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), main], [warmup])


def kind(name: str, names: Iterable[str]) -> str:
    """Returns the kind of parameter `name`: "kernel", "norm" (BatchNorm's scale and bias) or "bias" (of other layers).

    Of an attentive head, queries are kernels and what is added for their positions are biases.

    Raises:
      ValueError: the parameter is of no known kind.
    """
    owner, _, leaf = name.rpartition(".")
    if leaf in ("kernel", "query"):
        return "kernel"
    if leaf == "scale" or (leaf == "bias" and f"{owner}.scale" in names):
        return "norm"
    if leaf in ("bias", "position"):
        return "bias"
    raise ValueError(f"parameter {name}: neither kernel, scale nor bias")


def decay_mask(config: ConfigDict, names: Iterable[str]) -> dict[str, bool]:
    """Returns which parameters weight decay applies to: kernels always, the others as the config says."""
    names = set(names)
    decayed = {"kernel": True, "norm": config.optimizer.decay_norm, "bias": config.optimizer.decay_bias}
    return {name: decayed[kind(name, names)] for name in sorted(names)}


def lr_factors(config: ConfigDict, names: Iterable[str], stages: tuple[str, ...]) -> dict[str, float]:
    """Returns the factor on each parameter's learning rate: `layer_decay` to the power of its distance from the head.

    Args:
      config: reads `optimizer.layer_decay` and `freeze_backbone` (factor 0 except for the head).
      names: of the parameters.
      stages: top-level modules in order of depth, the head last.

    Raises:
      ValueError: a parameter belongs to no stage.
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
    """Returns the optimizer over a flat dict of the trainable parameters.

    "sgd" is PyTorch's: weight decay is added to the gradient, then come momentum and learning rate. The weight decay
    of "adamw" is decoupled (Loshchilov & Hutter 2019) and scaled by the learning rate. Any other name is an optimizer
    of optax, called with `optimizer.arguments`; its own weight decay is used if it takes a mask, else weight decay is
    added to the gradient.

    Args:
      config: reads `optimizer`.
      learning_rate: the schedule.
      factors: of the trainable parameters, from `lr_factors`.

    Raises:
      UserError: there is no optimizer of that name, it needs more than gradients, or its arguments do not fit it.
    """
    options = config.optimizer
    decay_mask(config, factors)  # raises for a parameter of no known kind

    def masked(params):
        return decay_mask(config, params)

    decay = optax.add_decayed_weights(options.weight_decay, mask=masked)
    if options.name == "sgd":
        given = {"decay": options.momentum, "nesterov": options.momentum > 0}
        own = [decay, _call("optimizer", options, optax.trace, given), optax.scale_by_learning_rate(learning_rate)]
    elif options.name == "adamw":
        b1, b2 = options.betas
        adam = _call("optimizer", options, optax.scale_by_adam, {"b1": b1, "b2": b2})
        own = [adam, decay, optax.scale_by_learning_rate(learning_rate)]
    else:
        factory = _named("optimizer", options.name, _of_optax({"learning_rate"}))
        takes = inspect.signature(factory).parameters
        rate = next((name for name in ("weight_decay", "weight_decay_rate") if name in takes), None)
        mask = next((name for name in ("mask", "weight_decay_mask") if name in takes), None)
        given = {"learning_rate": learning_rate}
        if rate and mask:
            given |= {rate: options.weight_decay, mask: masked}
        elif rate:
            given |= {rate: 0.0}
        own = [_call("optimizer", options, factory, given)]
        own = own if rate and mask else [decay, *own]
    parts = [optax.clip_by_global_norm(options.clip_norm)] if options.clip_norm else []
    parts += own
    if set(factors.values()) != {1.0}:
        parts += [optax.stateless(lambda updates, _: {k: factors[k] * u for k, u in updates.items()})]
    tx = optax.chain(*parts)
    _try("optimizer", options, lambda: _dry_run(tx, factors))
    return tx


def _dry_run(tx: optax.GradientTransformation, names: Iterable[str]) -> None:
    """Traces one update, to raise for bad arguments before the training step is compiled."""
    params = {name: jax.ShapeDtypeStruct((1, 1), jnp.float32) for name in names}
    state = jax.eval_shape(tx.init, params)
    if any(jnp.issubdtype(leaf.dtype, jax.dtypes.extended) for leaf in jax.tree.leaves(state)):
        raise TypeError("its state has a random key, which no checkpoint holds")
    jax.eval_shape(tx.update, params, state, params)


def _of_optax(needed: set[str]) -> dict[str, Callable[..., Any]]:
    """Returns the functions of optax that take any of these parameters, by name without "_schedule"."""
    found = {}
    for name, function in vars(optax).items():
        routine = inspect.isfunction(function) or isinstance(function, functools.partial)
        if routine and not name.startswith(("_", "scale_by_")) and needed & set(inspect.signature(function).parameters):
            found[name.removesuffix("_schedule")] = function
    return found


def _named(key: str, name: str, known: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    name = name.removesuffix("_schedule")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)
        raise UserError(f"config.{key}.name={name!r}: there is no such {key}, here or in optax; try {', '.join(near)}")
    return known[name]


def _call(key: str, options: ConfigDict, function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """Calls an optimizer or schedule with `given`, which other config keys set, and with `options.arguments`."""
    takes, place = inspect.signature(function).parameters, f"config.{key}.arguments"
    for name in options.arguments:
        if name in given:
            raise UserError(f"{place}.{name}: another key of the config already says it; set that one")
        if name not in takes:
            free = [other for other in takes if other not in given]
            near = difflib.get_close_matches(name, free, n=3, cutoff=0.5) or free
            raise UserError(f"{place}.{name}: {options.name} takes no such argument; try {', '.join(near) or 'none'}")
    missing = [
        name
        for name, parameter in takes.items()
        if parameter.default is parameter.empty and name not in given and name not in options.arguments
    ]
    if missing:
        raise UserError(f"config.{key}.name={options.name!r}: needs {missing[0]}; set {place}.{missing[0]}")
    return _try(key, options, lambda: function(**given, **options.arguments))


def _try(key: str, options: ConfigDict, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except (TypeError, ValueError, AttributeError) as error:
        arguments = f" with {dict(options.arguments)}" if options.arguments else ""
        reason = one_line(error)
        raise UserError(f"config.{key}.name={options.name!r}{arguments}: cannot be used ({reason})") from None
