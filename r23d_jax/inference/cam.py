"""Class activation maps over space and time, for every network that is linear on an average of a map.

Such a network ends in a linear classifier `fc` over an average of its last feature map, or of that of a linear
`models.head.Head`. `features(video)` returns the map, `[B, T', H', W', D]`, as its last entry before the average,
`pool`. Applying the classifier at every position before averaging gives the map of each class, in logits; its average
plus the bias is the class's logit (B. Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR
2016).

A network needs `features`, `fc.kernel` `[D, classes]` and `fc.bias`. The first position of the map is assumed to lie
at the input's first frame and pixel, which holds for padding by half the kernel; any other network has an attribute
`map_offset` with the position in frames and pixels (time, height, width), None along an axis on which the map lies
symmetrically over the input, as the mean of a clip's and its mirror image's does.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from r23d_jax.errors import UserError
from r23d_jax.models.functional import Functional, Weights, weights_of
from r23d_jax.models.ops import hardware

Offset = tuple[float | None, float | None, float | None]

# Luminance rises with the value, so the colours are readable in greyscale and with any colour vision.
_HEAT = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32)


@dataclasses.dataclass(frozen=True)
class Activation:
    """Output of a network for a batch of clips, from which class activation maps are computed.

    Attributes:
      logits: float32 [B, classes].
      features: float32 [B, T', H', W', D], the last feature map.
      weights: float32 [T'], the weight of each time step in the average; 1/T' except in I3D.
      kernel, bias: of the head, float32 [D, classes] and [classes].
      offset: input frame and pixel (time, height, width) at the map's first position, None for a symmetric axis.
    """

    logits: np.ndarray
    features: np.ndarray
    weights: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    offset: Offset = (0.0, 0.0, 0.0)

    def maps(self, classes: np.ndarray, relative: bool = False) -> np.ndarray:
        """Returns the maps of some classes, in logits.

        Args:
          classes: int [B] or [B, K], the classes for each clip.
          relative: subtract the mean over all classes at every position. This does not change the softmax; 0 then
            means no evidence for the class over the average class.

        Returns:
          float32 [B, T', H', W'] or [B, K, T', H', W']. Unless relative, their mean over space, summed over time
          with `weights`, plus the bias is the logit.
        """
        kernel = self.kernel - self.kernel.mean(axis=1, keepdims=True) if relative else self.kernel
        rows = kernel.T[np.asarray(classes)]
        if rows.ndim == 2:
            return np.einsum("bthwd,bd->bthw", self.features, rows, optimize=True)
        return np.einsum("bthwd,bkd->bkthw", self.features, rows, optimize=True)


class ActivationMapper:
    """Computes `Activation`s of a network in evaluation mode; compiles once per shape of clips.

    Args:
      model: from `models.create`, with weights.

    Raises:
      UserError: its classifier is not linear on an average of a map.
    """

    def __init__(self, model: nnx.Module):
        head = getattr(model, "head", None)
        if head is not None and head.spec.kind != "linear":
            raise UserError(
                f"class activation maps are of linear heads, and this network's is of kind {head.spec.kind}"
            )
        params, stats = weights_of(model)
        if "fc.kernel" not in params or params["fc.kernel"].ndim != 2:
            raise UserError(f"{type(model).__name__}: class activation maps need a linear head at `fc`")
        self._params, self._stats = params, stats
        self._network = Functional(model)
        self._offset = tuple(getattr(model, "map_offset", (0.0, 0.0, 0.0)))
        self._run = jax.jit(self._forward, compiler_options=hardware.compiler_options(getattr(model, "dtype", None)))

    def __call__(self, video: jax.Array | np.ndarray) -> Activation:
        """Runs the network on `video`, normalised float clips [B, T, H, W, C]."""
        last, pool, logits = map(np.asarray, self._run(self._params, self._stats, jnp.asarray(video)))
        kernel, bias = (np.asarray(self._params[f"fc.{name}"]) for name in ("kernel", "bias"))
        if last.shape[-1] != len(kernel):
            raise UserError(
                f"class activation maps need a linear head on the average of the last map, which has {last.shape[-1]} "
                f"channels where the head takes {len(kernel)}"
            )
        return Activation(logits, last, time_weights(last, pool), kernel, bias, self._offset)

    def _forward(self, params: Weights, stats: Weights, video: jax.Array):
        features = self._network.features(params, stats, video)
        pool = features["pool"]
        last = [value for value in features.values() if value.ndim == 5][-1].astype(jnp.float32)
        logits = jnp.matmul(pool, params["fc.kernel"], precision=lax.Precision.HIGHEST) + params["fc.bias"]
        return last, pool, logits


def time_weights(features: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """Returns the weights of the time steps in an average, solved from its input and output.

    Args:
      features: float [B, T', H', W', D].
      pool: float [B, D], the mean over space and a weighted mean over time with the same weights for every channel.

    Returns:
      float32 [T']; equal weights if those fit.
    """
    steps = features.shape[1]
    even = np.full(steps, 1 / steps)
    rows = features.mean(axis=(2, 3), dtype=np.float64).transpose(0, 2, 1).reshape(-1, steps)
    if np.allclose(rows @ even, pool.reshape(-1), rtol=1e-4, atol=1e-5):
        return even.astype(np.float32)
    return np.linalg.lstsq(rows, pool.reshape(-1).astype(np.float64), rcond=1e-6)[0].astype(np.float32)


def upsample(maps: np.ndarray, frames: int, height: int, width: int, offset: Offset = (0.0, 0.0, 0.0)) -> np.ndarray:
    """Interpolates maps linearly to the size of the clip, constant beyond the outermost positions.

    Networks shrink by powers of two: position i of a map is centred at input pixel `offset + i * 2**n`. Stretching
    the map over the clip would put it elsewhere.

    Args:
      maps: float [..., T', H', W'].
      frames, height, width: of the clip.
      offset: see `Activation.offset`.

    Returns:
      float32 [..., frames, height, width].
    """
    sizes = zip(maps.shape[-3:], (frames, height, width), offset, strict=True)
    time, rows, columns = (_interpolation(*size) for size in sizes)
    return np.einsum("...thw,ft,yh,xw->...fyx", maps, time, rows, columns, optimize=True).astype(np.float32)


def normalise(maps: np.ndarray, axes: tuple[int, ...] | None = None) -> np.ndarray:
    """Scales evidence for the class to 0..1 for display; evidence against it becomes 0.

    Args:
      maps: float, relative maps in logits.
      axes: that share a scale; by default all.
    """
    positive = np.maximum(maps, 0)
    most = positive.max(axis=axes, keepdims=True)
    return np.divide(positive, most, out=np.zeros_like(positive), where=most > 0)


def overlay(frames: np.ndarray, heat: np.ndarray, strength: float = 0.7) -> np.ndarray:
    """Draws a heat map over grey frames, from transparent at 0 to light yellow at 1.

    Args:
      frames: uint8 [..., H, W, 3].
      heat: float [..., H, W], 0 to 1, at the same size.
      strength: opacity of the heat at 1.

    Returns:
      uint8 [..., H, W, 3].
    """
    grey = frames.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    place = heat[..., None] * (len(_HEAT) - 1)
    colour = sum(level * np.clip(1 - np.abs(place - index), 0, 1) for index, level in enumerate(_HEAT))
    opacity = strength * heat[..., None] ** 1.5  # keeps low values, which may cover most of a frame, transparent
    mixed = 0.85 * grey[..., None] * (1 - opacity) + colour * opacity
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _interpolation(positions: int, size: int, offset: float | None) -> np.ndarray:
    """Returns the [size, positions] matrix of linear interpolation along one axis."""
    step = 2 ** int(np.ceil(np.log2(size / positions))) if positions < size else 1
    if offset is None:
        offset = (size - 1 - (positions - 1) * step) / 2
    place = np.clip((np.arange(size) - offset) / step, 0, positions - 1)
    return np.clip(1 - np.abs(place[:, None] - np.arange(positions)), 0, None).astype(np.float32)
