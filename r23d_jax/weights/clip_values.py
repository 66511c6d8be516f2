"""The `clip` values of a config: its own where it has any, else those that the weights were trained with."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from r23d_jax import config as configs
from r23d_jax import models
from r23d_jax.transforms import spec as specs
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights import loading

# Keys of `config.clip` -> fields of `Preprocessing`.
_FIELDS = {
    "frames": "frames",
    "stride": "stride",
    "fps": "fps",
    "size": "crop",
    "resize": "resize",
    "sampling": "sampling",
    "mean": "mean",
    "std": "std",
}


def resolve(
    config: ConfigDict, channels: str | None = None, flow: str | None = None, weights: Preprocessing | None = None
) -> tuple[ConfigDict, list[str]]:
    """Fills in what a config leaves to the initial weights or, without any, to the network.

    Args:
      config: from `config.load`; reads `arch`, `clip`, `eval.views`, and the data set's name for the input.
      channels, flow: input of the data set; by default what its name says.
      weights: preprocessing of the initial weights; None to train from nothing.

    Returns:
      A locked copy in which every value of `clip` and `eval.views` is set, and lines to print: what the weights say,
      and every value of the config that differs from it.

    Raises:
      UserError: the values do not go together, such as a crop larger than the frames.
    """
    channels = channels or stream(config)
    own = models.get(config.arch).preprocessing[channels]
    base = own if weights is None else weights
    lines = [f"clip as the weights say: {specs.describe(base)}"]
    if base.channels != channels or len(base.mean) != len(own.mean):
        base = dataclasses.replace(base, mean=own.mean, std=own.std)
        lines.append(f"mean {specs.numbers(own.mean)}, std {specs.numbers(own.std)}: the network's own for {channels}")
    filled = config.copy_and_resolve_references().unlock()
    for key, theirs in _values(base).items():
        if config.clip[key] is None:
            filled.clip[key] = 0.0 if key == "fps" and theirs is None else theirs
    lines += [f"{what} by the config; the weights say {theirs}" for what, theirs in _differing(config, base)]
    if not filled.clip.frames:
        filled.clip.frames = own.frames
        lines.append(f"clips of {own.frames} frames, the network's own: these weights were trained for whole videos")
    if filled.clip.sampling == "fitted":
        filled.clip.sampling = "dense"
        lines.append("clip.sampling=dense: these weights say fitted, which is for evaluation")
    if config.eval.views is None:
        filled.eval.views = filled.clip.sampling
    configs.validate(filled)
    return filled.lock(), [] if weights is None else lines


def of_config(config: ConfigDict, channels: str | None = None, flow: str | None = None) -> ConfigDict:
    """Returns `resolve`'s config for the weights that `config.init_from` names.

    Published weights need not be there: the registry knows their preprocessing.
    """
    known = all(config.clip[key] is not None for key in _FIELDS)  # then no weights need be read
    weights = loading.preprocessing_of(config.init_from, config.arch) if config.init_from and not known else None
    return resolve(config, channels, flow, weights)[0]


def stream(config: ConfigDict) -> str:
    """Returns the input of a config's network, "rgb" or "flow": by its statistics or by the name of its data set."""
    if config.clip.mean is not None:
        return "flow" if len(config.clip.mean) == 2 else "rgb"
    return "flow" if any(part.startswith("flow") for part in config.dataset.name.split("/")) else "rgb"


def evaluated(
    config: ConfigDict, card_spec: Preprocessing, trained_here: bool = False
) -> tuple[Preprocessing, str | int, list[str]]:
    """Returns how weights are evaluated.

    Args:
      config: as given, not filled in.
      card_spec: preprocessing of the weights.
      trained_here: of a run's checkpoint the card decides, whatever config it is evaluated with; of other weights the
        values that the config sets itself win, as they do where training starts from such weights.

    Returns:
      The preprocessing, the views (see `evaluate`), and lines to print: every value of the config that differs from
      the card's.
    """
    says = "has no effect; the checkpoint was trained with" if trained_here else "by the config; the weights say"
    lines = [f"{what} {says} {theirs}" for what, theirs in _differing(config, card_spec)]
    if trained_here:
        config = config.copy_and_resolve_references().unlock()
        for key, theirs in _values(card_spec).items():
            config.clip[key] = config.clip[key] if key == "frames" and not theirs else None
    filled, _ = resolve(config, card_spec.channels, card_spec.flow, card_spec)
    whole = not card_spec.frames and config.clip.frames is None and config.clip.sampling is None
    spec = specs.from_config(filled, card_spec.channels, card_spec.flow)
    spec = dataclasses.replace(spec, max_frames=card_spec.max_frames)
    return spec, config.eval.views or (card_spec.views if whole else filled.eval.views), lines


def _values(spec: Preprocessing) -> dict[str, Any]:
    return {key: getattr(spec, field) for key, field in _FIELDS.items()}


def _differing(config: ConfigDict, base: Preprocessing) -> list[tuple[str, str]]:
    """Returns "clip.KEY=VALUE" of every value that a config sets otherwise than `base`, and the value there."""
    found = []
    for key, theirs in _values(base).items():
        here = config.clip[key]
        here = here[0] if key == "resize" and isinstance(here, tuple) and len(here) == 1 else here
        if here is not None and here != theirs and not (here == 0 and theirs is None):
            found.append((f"clip.{key}={specs.value_text(key, here)}", specs.value_text(key, theirs)))
    return found
