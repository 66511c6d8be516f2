"""The `clip` values of a config: its own where it has any, else those that the initial weights were trained with."""

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
    """Fills in what a config leaves to the weights or, without any, to the network.

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
    if base.channels != channels or len(base.mean) != len(own.mean):  # the statistics are those of another input
        base = dataclasses.replace(base, mean=own.mean, std=own.std)
    filled, lines = config.copy_and_resolve_references().unlock(), [f"clip as the weights say: {describe(base)}"]
    for key, field in _FIELDS.items():
        theirs, here = getattr(base, field), config.clip[key]
        if here is None:
            filled.clip[key] = 0.0 if key == "fps" and theirs is None else theirs
        elif not _equal(here, theirs):
            lines.append(f"clip.{key}={_value(key, here)} by the config; the weights say {_value(key, theirs)}")
    if not filled.clip.frames:
        filled.clip.frames = own.frames
        lines.append(f"clips of {own.frames} frames, the network's own: these weights were trained for whole videos")
    if config.eval.views is None:
        filled.eval.views = filled.clip.sampling
    configs.validate(filled)
    return filled.lock(), [] if weights is None else lines


def of_config(config: ConfigDict, channels: str | None = None, flow: str | None = None) -> ConfigDict:
    """Returns `resolve`'s config for the weights that `config.init_from` names, of which only the card is read.

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


def evaluated(config: ConfigDict, card_spec: Preprocessing) -> tuple[Preprocessing, str | int, list[str]]:
    """Returns how weights are evaluated: as their card says, but for the values that the config sets itself.

    Args:
      config: as given, not filled in.
      card_spec: preprocessing of the weights.

    Returns:
      The preprocessing, the views (see `evaluate`), and lines to print: every value of the config that differs from
      the card's.
    """
    filled, lines = resolve(config, card_spec.channels, card_spec.flow, card_spec)
    whole = not card_spec.frames and config.clip.frames is None
    views = config.eval.views or ("whole" if whole else filled.eval.views)
    if whole and views == "whole":  # the length then has no effect
        lines.pop()
    spec = dataclasses.replace(
        specs.from_config(filled, card_spec.channels, card_spec.flow), max_frames=card_spec.max_frames
    )
    return spec, views, lines[1:]


def describe(spec: Preprocessing) -> str:
    """Describes preprocessing in one line."""
    many = {"dense": "", "segments": ", one of each equal part", "linspace": ", evenly spaced over the video"}
    rate = "the video's own rate" if spec.fps is None else f"{spec.fps:g} frames/s"
    resize = "stored frames" if spec.resize is None else f"frames of {_value('resize', spec.resize)}"
    crop = "" if spec.crop is None else f", crop {spec.crop}x{spec.crop}"
    return (
        f"{spec.frames or 'all'} frames of stride {spec.stride} at {rate}{many[spec.sampling]}; {resize}{crop}; "
        f"mean {_numbers(spec.mean)}, std {_numbers(spec.std)}"
    )


def _value(key: str, value: Any) -> str:
    if key == "resize":
        if value is None:
            return "the stored size"
        return "x".join(map(str, value)) if isinstance(value, tuple) and len(value) == 2 else f"short side {value}"
    if (key, value) in (("frames", 0), ("fps", None), ("fps", 0.0)):
        return "whole videos" if key == "frames" else "the video's own rate"
    return _numbers(value) if isinstance(value, tuple) else str(value)


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.6g}" for value in values)


def _equal(here: Any, theirs: Any) -> bool:
    if isinstance(here, tuple) and len(here) == 1 and isinstance(theirs, int):  # --config.clip.resize=128,
        here = here[0]
    return here == theirs or (here == 0 and theirs is None)
