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
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int, int],
        strides: tuple[int, int, int] = (1, 1, 1),
        padding: tuple[int, int, int] | None = None,
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.strides = strides
        padding = tuple(size // 2 for size in kernel) if padding is None else padding
        self.padding = tuple((size, size) for size in padding)
        self.dtype = dtype
        # Kaiming normal with fan-out and ReLU's gain (He et al. 2015), as in torchvision/models/video/resnet.py.
        std = math.sqrt(2 / (out_channels * math.prod(kernel)))
        self.kernel = nnx.Param(normal(rngs.params(), (*kernel, in_channels, out_channels), std))

    def __call__(self, x: jax.Array) -> jax.Array:
        return convolve(x.astype(self.dtype), self.kernel[...].astype(self.dtype), self.strides, self.padding)


class BatchNorm(nnx.Module):
    """Batch normalisation with PyTorch's arithmetic (Ioffe and Szegedy 2015).

    Statistics are float32 over every axis but the last; under `jit` they cover the global batch, however it is
    sharded. The biased variance normalises, the unbiased one updates the running average.

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
        if self.use_running_average or self.frozen:
            inverse = lax.rsqrt(self.var[...] + self.epsilon)
            return _affine(x, self.mean[...], inverse * self.scale[...], self.bias[...])
        y, mean, var = _normalize(x, self.scale[...], self.bias[...], self.epsilon)
        count = x.size // x.shape[-1]
        unbiased = var * (count / max(count - 1, 1))
        keep = self.momentum
        self.mean[...] = keep * self.mean[...] + (1 - keep) * lax.stop_gradient(mean)
        self.var[...] = keep * self.var[...] + (1 - keep) * lax.stop_gradient(unbiased)
        return y


def _affine(x: jax.Array, mean: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    return ((x.astype(jnp.float32) - mean) * scale + bias).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalize(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns x normalised over all axes but the last, and its mean and biased variance (without gradients).

    The variance is computed in a second pass, which is accurate for any mean. The custom gradient (Ioffe and Szegedy
    2015, section 3) needs only x and two sums; automatic differentiation stores more.
    """
    return _normalize_forward(x, scale, bias, epsilon)[0]


def _normalize_forward(x, scale, bias, epsilon):
    wide, axes = x.astype(jnp.float32), tuple(range(x.ndim - 1))
    mean = jnp.mean(wide, axes)
    var = jnp.mean(jnp.square(wide - mean), axes)
    inverse = lax.rsqrt(var + epsilon)
    return (_affine(x, mean, scale * inverse, bias), mean, var), (x, scale, mean, inverse)


def _normalize_backward(epsilon, kept, cotangents):
    del epsilon
    x, scale, mean, inverse = kept
    axes, count = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    dy = cotangents[0].astype(jnp.float32)
    centered = x.astype(jnp.float32) - mean
    dbias = jnp.sum(dy, axes)
    dscale = jnp.sum(dy * centered, axes) * inverse
    dx = (scale * inverse) * (dy - dbias / count - centered * (inverse * dscale / count))
    return dx.astype(x.dtype), dscale, dbias


_normalize.defvjp(_normalize_forward, _normalize_backward)


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
        for step in self:
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
