"""Crop boxes of clips, random in training and fixed in evaluation.

A box is (top, left, height, width). It is chosen on the resized frame and converted to pixels of the stored one.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from r23d_jax.errors import UserError
from r23d_jax.transforms.colour import AUGMENTATIONS
from r23d_jax.transforms.spec import Preprocessing

CROPS = ("multi_scale", "random_resized", "random", "center")
_ATTEMPTS = 10  # to draw a random-resized box that fits before falling back to the centre; as in torchvision


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random augmentation of training clips.

    Attributes:
      crop: how to draw the box, in whole pixels after `Preprocessing.resize`:
        "multi_scale": a square of one of `scales` of the short side, at a random place (the study's);
        "random_resized": a share `area` of the frame with an aspect `ratio`, at a random place (Inception's);
        "random": a square of `Preprocessing.crop` at a random place; "center": the same in the centre.
      scales: of multi_scale.
      area: of random_resized, smallest and largest share of the frame.
      ratio: of random_resized, smallest and largest width over height, log-uniform.
      flip: probability of a horizontal flip.
      flip_sensitive: names of classes that are never flipped.
      brightness, contrast, saturation: factors are drawn from 1 - x to 1 + x.
      hue: shift in turns, drawn from -x to x.
      mixup, cutmix: alpha of the Beta distribution, 0 for off; see `transforms.mixing`.
      extra: strength of further ones by name, in the order of `colour.AUGMENTATIONS`.
    """

    crop: str = "multi_scale"
    scales: tuple[float, ...] = (1.0, 2**-0.25, 2**-0.5, 2**-0.75, 0.5)
    area: tuple[float, float] = (0.25, 1.0)
    ratio: tuple[float, float] = (0.75, 4 / 3)
    flip: float = 0.5
    flip_sensitive: tuple[str, ...] = ()
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    extra: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.crop not in CROPS:
            raise UserError(f"config.augment.crop={self.crop!r}: must be one of {', '.join(CROPS)}")
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            raise UserError(f"config.augment.scales={self.scales}: needs numbers above 0 and up to 1")
        for name, most in (("area", 1.0), ("ratio", float("inf"))):
            value = getattr(self, name)
            if len(value) != 2 or not 0 < value[0] <= value[1] <= most:
                limit = " up to 1" if name == "area" else ""
                raise UserError(f"config.augment.{name}={value}: needs a least and a largest value above 0{limit}")
        for name, value in self.extra.items():
            if name not in AUGMENTATIONS:
                raise UserError(
                    f"config.augment.extra.{name}: there is no such augmentation; there are {', '.join(AUGMENTATIONS)}"
                )
            if type(value) not in (int, float) or not 0 <= value < math.inf:
                raise UserError(f"config.augment.extra.{name}={value!r}: must be a number of at least 0")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Augmentation":
        """Reads the config's `augment`, which has exactly these keys."""
        values = {field.name: config[field.name] for field in dataclasses.fields(cls)}
        values |= {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        return cls(**values | {"extra": dict(config["extra"])})


def resized(size: jax.Array, spec: Preprocessing) -> jax.Array:
    """Returns float32 [2], height and width after `spec.resize`; the long side is rounded down as in torchvision."""
    if spec.resize is None:
        return size.astype(jnp.float32)
    if isinstance(spec.resize, tuple):
        return jnp.asarray(spec.resize, jnp.float32)
    # In integers, because a floating-point quotient can fall just below a whole number.
    return (spec.resize * size // jnp.min(size)).astype(jnp.float32)


def train_box(key: jax.Array, size: jax.Array, spec: Preprocessing, augmentation: Augmentation) -> jax.Array:
    """Draws a training clip's box.

    Args:
      key: of this clip.
      size: int32 [2], the frame's true height and width.
      spec, augmentation: resize and crop.

    Returns:
      float32 [4]: top, left, height and width in pixels of the stored frame.
    """
    shape_key, place_key = jax.random.split(key)
    full = resized(size, spec)
    if augmentation.crop == "center":
        return _to_frame(_centred(full, spec.crop), full, size)
    if augmentation.crop == "multi_scale":
        scale = jax.random.choice(shape_key, jnp.asarray(augmentation.scales, jnp.float32))
        shape = jnp.full(2, jnp.floor(scale * jnp.min(full)))
    elif augmentation.crop == "random_resized":
        shape = _random_shape(shape_key, full, augmentation)
    else:
        shape = jnp.full(2, float(spec.crop))
    room = jnp.maximum(full - shape, 0) + 1
    # The product can round up to `room`, hence the minimum.
    start = jnp.minimum(jnp.floor(jax.random.uniform(place_key, (2,)) * room), room - 1)
    if augmentation.crop == "random_resized":  # the centre, if no attempt fits
        start = jnp.where(shape[0] < 0, jnp.floor((full + shape) / 2), start)
        shape = jnp.abs(shape)
    return _to_frame(jnp.concatenate([start, shape]), full, size)


def eval_box(size: jax.Array, crop: jax.Array, spec: Preprocessing, crops: int) -> jax.Array:
    """Returns the box of crop number `crop` of `crops` in evaluation; float32 [4], as `train_box`."""
    full = resized(size, spec)
    if spec.crop is None:
        return jnp.concatenate([jnp.zeros(2), size.astype(jnp.float32)])
    box = _centred(full, spec.crop)
    if crops == 3:
        ends = jnp.stack([jnp.zeros(2), box[:2], full - spec.crop])[crop]
        longer = jnp.arange(2) == jnp.where(full[0] > full[1], 0, 1)
        box = box.at[:2].set(jnp.where(longer, ends, box[:2]))
    return _to_frame(box, full, size)


def _random_shape(key: jax.Array, full: jax.Array, augmentation: Augmentation) -> jax.Array:
    """Returns height and width of a random-resized box; negative, for the centre, if no attempt fits the frame."""
    area_key, ratio_key = jax.random.split(key)
    low, high = augmentation.area
    area = jnp.prod(full) * jax.random.uniform(area_key, (_ATTEMPTS,), minval=low, maxval=high)
    low, high = np.log(augmentation.ratio[0]), np.log(augmentation.ratio[1])
    ratio = jnp.exp(jax.random.uniform(ratio_key, (_ATTEMPTS,), minval=low, maxval=high))
    shapes = jnp.round(jnp.stack([jnp.sqrt(area / ratio), jnp.sqrt(area * ratio)], -1))
    fits = jnp.all((shapes >= 1) & (shapes <= full), -1)
    # The fallback: the largest box of an allowed aspect ratio.
    aspect = jnp.clip(full[1] / full[0], *augmentation.ratio)
    middle = jnp.round(jnp.minimum(full, jnp.stack([full[1] / aspect, full[0] * aspect])))
    return jnp.where(jnp.any(fits), shapes[jnp.argmax(fits)], -middle)


def _centred(full: jax.Array, side: int) -> jax.Array:
    return jnp.concatenate([jnp.round((full - side) / 2), jnp.full(2, float(side))])


def _to_frame(box: jax.Array, full: jax.Array, size: jax.Array) -> jax.Array:
    """Converts a box from pixels of the resized frame to pixels of the stored frame."""
    return box * jnp.tile(size.astype(jnp.float32) / full, 2)
