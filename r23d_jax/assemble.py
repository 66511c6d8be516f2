"""From a config or a card to a network, and from a config to the card of what it trains."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from r23d_jax import checkpoint, models
from r23d_jax.errors import UserError
from r23d_jax.models.layers import BatchNorm
from r23d_jax.weights import adapt
from r23d_jax.weights.card import Card, Preprocessing


def preprocessing(config: ConfigDict, channels: str = "rgb", flow: str | None = None) -> Preprocessing:
    """What the config feeds the network."""
    resize = config.clip.resize
    return Preprocessing(
        resize=resize[0] if isinstance(resize, tuple) and len(resize) == 1 else resize,
        crop=config.clip.size,
        frames=config.clip.frames,
        stride=config.clip.stride,
        mean=config.clip.mean,
        std=config.clip.std,
        channels=channels,
        flow=flow,
    )


def model_arguments(config: ConfigDict, classes: int, in_channels: int, origin: Card | None) -> dict[str, Any]:
    """The arguments of `models.create`, in JSON's types: what a card keeps.

    `origin` is the card of the weights the run starts from: its epsilon holds where the config sets none.
    """
    return {
        "num_classes": classes,
        "frames": config.clip.frames,
        "in_channels": in_channels,
        "dropout": config.model.dropout,
        "width": config.model.width,
        "layers": list(config.model.layers) or None,
        "bn_epsilon": config.model.bn_epsilon or (origin.bn_epsilon if origin else None),
    }


def create(arch: str, arguments: Mapping[str, Any], dtype: str = "float32", seed: int = 0) -> nnx.Module:
    """A network with fresh weights from `model_arguments` or a card's `model`."""
    arguments = dict(arguments)
    if arguments.get("layers"):
        arguments["layers"] = tuple(arguments["layers"])
    return models.create(arch, rngs=nnx.Rngs(seed), dtype=jnp.dtype(dtype), **arguments)


def stages(model: nnx.Module) -> tuple[str, ...]:
    """Top-level modules with parameters, in order of depth (the order they were built in), the head last."""
    return tuple(
        name
        for name, value in vars(model).items()
        if isinstance(value, nnx.Module) and jax.tree.leaves(nnx.state(value, nnx.Param))
    )


def bn_epsilon(model: nnx.Module) -> float:
    """Epsilon of the model's batch normalisations, which is the same in all of them."""
    return next(module.epsilon for _, module in nnx.iter_modules(model) if isinstance(module, BatchNorm))


def freeze_batch_norm(model: nnx.Module) -> None:
    """Makes every BatchNorm use and keep its running statistics, in training too."""
    model.set_attributes(BatchNorm, frozen=True)


def initial_weights(
    config: ConfigDict,
    target: dict[str, Any],
    head: str,
    labels: tuple[str, ...],
    ours: Preprocessing,
    source: dict[str, Any],
    card: Card,
) -> tuple[dict[str, Any], list[str]]:
    """The weights of `config.init_from` where they fit, fresh ones below a new head.

    Args:
      config: names the source in messages.
      target: flat fresh weights of the network.
      head: top-level name of its classifier.
      labels, ours: what the network is trained for and on.
      source, card: the other weights, from `convert.load_flat`.

    Returns:
      Flat weights, and lines to print: what was loaded, re-initialised and unused, and where the source's
      card differs from the config, which decides.
    """
    width = card.model.get("width") or 64
    if width != config.model.width:
        raise UserError(
            f"init_from {config.init_from}: a network of width {width}, here config.model.width is "
            f"{config.model.width}: set it to {width}, or start from weights of that width or from nothing"
        )
    source, lines = _for_input(config, target, ours, source, card)
    weights, report = checkpoint.init_from(target, source, head, card.labels == labels, config.init_from)
    lines = [report, *lines]
    if card.labels != labels:
        lines.append(f"labels: {len(card.labels)} classes in the source, {len(labels)} here: new head")
    for field in ("resize", "crop", "frames", "stride", "fps", "mean", "std"):
        theirs, here = getattr(card.preprocessing, field), getattr(ours, field)
        if theirs != here:
            lines.append(f"{field}: {theirs} in the source, {here} here (the config decides)")
    return weights, lines


def _for_input(config, target, ours, source, card) -> tuple[dict[str, Any], list[str]]:
    """The weights fitted to the network's input, and lines to print; or a refusal where that was not asked for."""
    theirs = card.preprocessing
    image = card.source.get("arch") == "2D"  # knows no motion, so what it is inflated for is as good as any
    if theirs.input != ours.input and not image and not config.init_other_input:
        raise UserError(
            f"init_from {config.init_from}: trained on {theirs.input}, the data set is {ours.input}; "
            "--config.init_other_input=true takes these weights all the same"
        )
    stem = next(name for name in adapt.STEMS if name in target)
    wanted, found = target[stem].shape[3], source[stem].shape[3] if stem in source else None
    lines = [] if theirs.input == ours.input else [f"input: {theirs.input} in the source, {ours.input} here"]
    if found in (None, wanted):
        return source, lines
    lines.append(f"{stem} averaged over its {found} input channels, for {wanted} here")
    return {**source, stem: adapt.other_channels(np.asarray(source[stem]), wanted)}, lines
