"""The networks by name.

    model = models.create("r2plus3d_18", num_classes=101, rngs=nnx.Rngs(0))

`NAMES` lists every name, `ALIASES` maps aliases to names, and `get(name)` returns a network's `Architecture`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import nnx

from r23d_jax.errors import UserError
from r23d_jax.models import head as heads
from r23d_jax.models import i3d, resnet, several  # noqa: F401  # the families: they register their networks
from r23d_jax.models.registry import Architecture, aliases, canonical, get, names, register
from r23d_jax.models.resnet import SPECS
from r23d_jax.models.structure import assign, flatten

if TYPE_CHECKING:
    from r23d_jax.weights.card import Card

__all__ = [
    "ALIASES",
    "NAMES",
    "SPECS",
    "Architecture",
    "assign",
    "canonical",
    "create",
    "create_from_arguments",
    "flatten",
    "from_card",
    "get",
    "register",
]
NAMES: tuple[str, ...]
ALIASES: dict[str, str]


def __getattr__(name: str) -> Any:
    if name == "NAMES":
        return names()
    if name == "ALIASES":
        return aliases()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def create(
    name: str,
    num_classes: int = 400,
    *,
    rngs: nnx.Rngs,
    frames: int = 16,
    in_channels: int = 3,
    dropout: float = 0.0,
    dtype: jnp.dtype = jnp.float32,
    bn_epsilon: float | None = None,
    width: int = 64,
    head: Mapping[str, Any] | None = None,
    **options: Any,
) -> nnx.Module:
    """Creates a network by name, with fresh weights and in training mode.

    Args:
      name: one of `NAMES`.
      num_classes: classes of the head.
      rngs: `nnx.Rngs(seed)`.
      frames: clip length; R2D is built for it, the others take any.
      in_channels: 3 for RGB, 2 for optical flow.
      dropout: probability of dropping an element in training.
      dtype: to compute in; parameters and batch statistics stay float32.
      bn_epsilon: BatchNorm epsilon, by default the network's own; VMZ's weights need 1e-3.
      width: channels of the first stage, 64 in every published network; all others scale with it.
      head: JSON values of a `head.HeadSpec`, on which the classifier is then; None for the average of the last map.
      options: further arguments of the network (`get(name).options`), None for the published value. `layers` of a
        ResNet is the number of blocks in each of its four stages.

    Raises:
      UserError: the name is unknown, or the network does not take the arguments.
    """
    architecture = get(name)
    name = architecture.name
    if min(num_classes, frames, in_channels) < 1:
        raise UserError(
            f"{name}: num_classes={num_classes}, frames={frames}, in_channels={in_channels}: each must be at least 1"
        )
    if not 0 <= dropout < 1:
        raise UserError(f"{name}: dropout={dropout} must be at least 0 and below 1")
    if width != 64 or "width" in architecture.options:  # every config has a width, but not every network takes one
        options["width"] = width
    options = {key: _frozen(value) for key, value in options.items() if value is not None}
    for key, value in options.items():
        if key not in architecture.options:
            known = ", ".join(architecture.options) or "none"
            raise UserError(f"{name}: {key}={value}: not an option of this network (it has: {known}); leave it out")
        if not architecture.options[key].check(value):
            raise UserError(f"{name}: {key}={value}: give {architecture.options[key].values}")
    if architecture.fixed_frames:
        options["frames"] = frames
    model = architecture.create(
        num_classes,
        rngs=rngs,
        in_channels=in_channels,
        dropout=dropout,
        dtype=dtype,
        bn_epsilon=architecture.epsilon if bn_epsilon is None else bn_epsilon,
        **options,
    )
    if head is not None:
        heads.attach(model, heads.HeadSpec.from_dict(head), num_classes, rngs)
    return model


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def create_from_arguments(arch: str, arguments: Mapping[str, Any], dtype: str = "float32", seed: int = 0) -> nnx.Module:
    """Creates a network with fresh weights from JSON arguments: `setup.model_arguments` or a card's `model`."""
    return create(arch, rngs=nnx.Rngs(seed), dtype=jnp.dtype(dtype), **arguments)


def from_card(card: "Card", *, dtype: str = "float32", seed: int = 0) -> nnx.Module:
    """Creates the network that a weights card describes, with fresh weights and in training mode.

    All commands use this function, so that all of them respect the card's arguments, BatchNorm epsilon included.

    Args:
      card: of the weights to be loaded.
      dtype: "float32", "bfloat16" or "float16", to compute in.
      seed: of the initial weights.

    Raises:
      UserError: the card's network is unknown or does not take its arguments.
    """
    return create_from_arguments(card.arch, {**card.model, "bn_epsilon": card.bn_epsilon}, dtype, seed)
