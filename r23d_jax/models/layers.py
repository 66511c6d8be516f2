"""Layers of all networks: convolution, batch normalisation, pooling, linear head."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from r23d_jax.errors import UserError
from r23d_jax.models.ops import hardware, packing
from r23d_jax.models.ops.convolution import convolve

_BLOCK = 2**18


def normal(key: jax.Array, shape: tuple[int, ...], std: float) -> jax.Array:
    """Draws float32 values from a normal distribution, in blocks of one size.

    XLA compiles a draw for every shape, which takes long for a whole network; blocks compile once.
    """
    size = math.prod(shape)
    blocks = [_normal_block(key, index) for index in range(-(-size // _BLOCK))]
    xp = jnp if isinstance(key, jax.core.Tracer) else np
    return jnp.asarray((std * xp.concatenate(blocks)[:size]).astype(jnp.float32).reshape(shape))


@jax.jit
def _normal_block(key: jax.Array, index: int) -> jax.Array:
    return jax.random.normal(jax.random.fold_in(key, index), (_BLOCK,))


def _full(size: int, value: float) -> jax.Array:
    return jnp.asarray(np.full(size, value, np.float32))  # NumPy needs no compilation


class Conv(nnx.Module):
    """3D convolution without bias; `kernel` is `[kt, kh, kw, I, O]` float32, computed in `dtype`.

    Args:
      padding: zeros on both sides of time, height and width; by default half the kernel.
      inner: whether only BatchNorm, ReLU and one more convolution, to fewer channels, see the output. It then has
        channels of zeros behind the others if the hardware's policy asks for them, and stays in pairs of frames if the
        input is.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int, int],
        strides: tuple[int, int, int] = (1, 1, 1),
        padding: tuple[int, int, int] | None = None,
        *,
        inner: bool = False,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.strides = strides
        self.inner = inner
        padding = tuple(size // 2 for size in kernel) if padding is None else padding
        self.padding = tuple((size, size) for size in padding)
        self.dtype = dtype
        # Kaiming normal with fan-out and ReLU's gain (He et al. 2015), as in torchvision/models/video/resnet.py.
        std = math.sqrt(2 / (out_channels * math.prod(kernel)))
        self.kernel = nnx.Param(normal(rngs.params(), (*kernel, in_channels, out_channels), std))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.astype(self.dtype)
        kernel = _fitting(self.kernel[...], x, axis=3)
        if self.inner:
            kernel = _widen(kernel, 4, hardware.policy().padded(kernel.shape[4], self.dtype))
        return convolve(x, kernel, self.strides, self.padding, self.inner)


def _fitting(values: jax.Array, x: jax.Array, axis: int = 0, fill: float = 0) -> jax.Array:
    """Returns the parameters of x's channels, or of each frame's of pairs, with `fill` for those of zeros behind."""
    width = hardware.policy().padded(values.shape[axis], x.dtype)
    return _widen(values, axis, width, fill) if x.shape[-1] in (width, packing.PAIR * width) else values


def _widen(values: jax.Array, axis: int, width: int, fill: float = 0) -> jax.Array:
    around = [(0, 0)] * values.ndim
    around[axis] = (0, width - values.shape[axis])
    return jnp.pad(values, around, constant_values=fill) if any(map(any, around)) else values


class BatchNorm(nnx.Module):
    """Batch normalisation with PyTorch's arithmetic (Ioffe and Szegedy 2015).

    Statistics are float32 over every axis but the last; under `jit` they cover the global batch, however it is
    sharded. The biased variance normalises, the unbiased one updates the running average. Channels of zeros behind the
    `C` that it has stay zeros.

    Attributes:
      scale, bias: trained, float32 `[C]`.
      mean, var: running statistics, float32 `[C]`.
      use_running_average: set by `model.train()` and `model.eval()`.
      frozen: whether training mode, too, uses the running statistics and does not update them.
    """

    def __init__(self, features: int, *, epsilon: float, momentum: float = 0.9):
        self.epsilon = epsilon
        self.momentum = momentum
        self.use_running_average = False
        self.frozen = False
        self.scale = nnx.Param(_full(features, 1.0))
        self.bias = nnx.Param(_full(features, 0.0))
        self.mean = nnx.BatchStat(_full(features, 0.0))
        self.var = nnx.BatchStat(_full(features, 1.0))

    def __call__(self, x: jax.Array) -> jax.Array:
        scale, bias, mean = (_fitting(values[...], x) for values in (self.scale, self.bias, self.mean))
        if self.use_running_average or self.frozen:
            inverse = lax.rsqrt(_fitting(self.var[...], x, fill=1) + self.epsilon)
            return _affine(x, mean, inverse * scale, bias)
        # In one pass, as many digits are lost as (mean - shift)^2 / variance has. Rounding x to 16 bits lost more.
        in_one = hardware.policy().statistics == "one pass" and x.dtype.itemsize == 2
        y, mean, var = _normalize(x, scale, bias, mean if in_one else None, self.epsilon)
        count = x.size // mean.size
        mean, var = mean[: self.mean.shape[0]], var[: self.var.shape[0]]
        unbiased = var * (count / max(count - 1, 1))
        keep = self.momentum
        self.mean[...] = keep * self.mean[...] + (1 - keep) * lax.stop_gradient(mean)
        self.var[...] = keep * self.var[...] + (1 - keep) * lax.stop_gradient(unbiased)
        return y


def _affine(x: jax.Array, mean: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    mean, scale, bias = (_for(x, values) for values in (mean, scale, bias))
    return ((x.astype(jnp.float32) - mean) * scale + bias).astype(x.dtype)


def _for(x: jax.Array, values: jax.Array) -> jax.Array:
    """Returns [C] values for every channel of x, which may be pairs of frames with C channels each."""
    return jnp.tile(values, packing.PAIR) if x.shape[-1] == packing.PAIR * values.size else values


def _sum(x: jax.Array, channels: int) -> jax.Array:
    """Sums over positions, and over the frames of pairs: float32 [C]."""
    total = jnp.sum(x, tuple(range(x.ndim - 1)))
    return total if total.size == channels else jnp.sum(total.reshape(-1, channels), 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, shift: jax.Array | None, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns x normalised over all axes but the last, and its mean and biased variance (without gradients).

    Without `shift`, the variance is computed in a second pass, which is accurate for any mean. With it, both are
    computed in one pass from the differences from it. The custom gradient (Ioffe and Szegedy 2015, section 3) needs
    only x and two sums; automatic differentiation stores more.
    """
    return _normalize_forward(x, scale, bias, shift, epsilon)[0]


def _normalize_forward(x, scale, bias, shift, epsilon):
    wide, channels = x.astype(jnp.float32), scale.size
    count = x.size // channels
    if shift is None:
        mean = _sum(wide, channels) / count
        var = _sum(jnp.square(wide - _for(x, mean)), channels) / count
    else:
        away = _sum(wide - _for(x, shift), channels) / count
        mean = shift + away
        var = jnp.maximum(_sum(jnp.square(wide - _for(x, shift)), channels) / count - jnp.square(away), 0)
    inverse = lax.rsqrt(var + epsilon)
    return (_affine(x, mean, scale * inverse, bias), mean, var), (x, scale, mean, inverse)


def _normalize_backward(epsilon, kept, cotangents):
    del epsilon
    x, scale, mean, inverse = kept
    channels = scale.size
    count = x.size // channels
    dy = cotangents[0].astype(jnp.float32)
    centered = x.astype(jnp.float32) - _for(x, mean)
    dbias = _sum(dy, channels)
    dscale = _sum(dy * centered, channels) * inverse
    dx = _for(x, scale * inverse) * (dy - _for(x, dbias / count) - centered * _for(x, inverse * dscale / count))
    return dx.astype(x.dtype), dscale, dbias, None


_normalize.defvjp(_normalize_forward, _normalize_backward)


def side_by_side(video: jax.Array, channels: int) -> jax.Array:
    """Returns a video for layers of so many channels: `[B, T, H, W, C]`, or pairs of its frames side by side.

    Convolutions and normalisations take both, and give what they took, until a stride over time or more channels.
    """
    return packing.pack(video) if hardware.policy().pairs(channels) and video.shape[1] % 2 == 0 else video


def one_by_one(x: jax.Array, channels: int) -> jax.Array:
    """Returns `[B, T, H, W, channels]` of these, or of pairs of frames side by side."""
    return packing.unpack(x) if x.shape[-1] > channels else x


class Linear(nnx.Module):
    """The classifier: float32 `[B, D]` to float32 `[B, classes]`, with full precision on every platform."""

    def __init__(self, in_features: int, out_features: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(normal(rngs.params(), (in_features, out_features), 0.01))
        self.bias = nnx.Param(_full(out_features, 0.0))

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.matmul(x, self.kernel[...], precision=lax.Precision.HIGHEST) + self.bias[...]


class MaxPool(nnx.Module):
    """Max-pooling over `[B, T, H, W, C]`, padded with minus infinity by half the window on both sides."""

    def __init__(self, window: tuple[int, int, int], strides: tuple[int, int, int]):
        self.window = window
        self.strides = strides

    def __call__(self, x: jax.Array) -> jax.Array:
        return max_pool(x, self.window, self.strides, tuple((size // 2, size // 2) for size in self.window))


def max_pool(
    x: jax.Array,
    window: tuple[int, int, int],
    strides: tuple[int, int, int],
    padding: tuple[tuple[int, int], ...],
) -> jax.Array:
    """Max-pools time, height and width of `[B, T, H, W, C]`, padded with minus infinity.

    Computed one axis after the other as a maximum of shifts, because the gradient of `lax.reduce_window` is slow on
    CPU. Equal maxima share the gradient, while PyTorch gives it to the first.
    """
    for axis, (length, stride, pad) in enumerate(zip(window, strides, padding, strict=True), start=1):
        if length == 1 and stride == 1:
            continue
        around = [(0, 0)] * x.ndim
        around[axis] = pad
        padded = jnp.pad(x, around, constant_values=-jnp.inf)
        span = padded.shape[axis] - length + 1
        shifts = [lax.slice_in_dim(padded, start, start + span, stride, axis) for start in range(length)]
        x = functools.reduce(jnp.maximum, shifts)
    return x


class Sequential(nnx.Module):
    """Steps in order, at the paths "0", "1", ... as in PyTorch; plain functions are numbered too."""

    def __init__(self, *steps: Callable[[jax.Array], jax.Array]):
        self.length = len(steps)
        for index, step in enumerate(steps):
            setattr(self, str(index), step)

    def __iter__(self):
        return (getattr(self, str(index)) for index in range(self.length))

    def __call__(self, x: jax.Array) -> jax.Array:
        for index, step in enumerate(self):
            with jax.named_scope(str(index)):
                x = step(x)
        return x


def relu(x: jax.Array) -> jax.Array:
    """Returns max(x, 0), with gradient 0 at 0 as in PyTorch."""
    return jax.nn.relu(x)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zeroes each element with probability `rate` and scales the others; without a key, returns x."""
    if key is None:
        return x
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), jnp.zeros_like(x))


def check_clips(video: jax.Array, channels: int) -> None:
    """Raises a `UserError` unless `video` is float [B, T, H, W, channels]."""
    if video.ndim != 5 or video.shape[-1] != channels:
        raise UserError(
            f"input of shape {tuple(video.shape)}: this network takes [batch, frames, height, width, {channels}]"
        )
    if not jnp.issubdtype(video.dtype, jnp.floating):
        raise UserError(f"input of type {video.dtype}: normalise the clips to floats first")
