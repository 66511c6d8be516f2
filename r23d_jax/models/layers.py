"""The layers all networks are made of: convolution, batch normalisation, pooling, linear head."""

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
    """Normally distributed float32 values, drawn in blocks of one size.

    XLA compiles a draw anew for every shape, which adds up over a network; blocks compile once, and outside of a
    trace they are put together without compiling anything.
    """
    size = math.prod(shape)
    blocks = [_normal_block(key, index) for index in range(-(-size // _BLOCK))]
    xp = jnp if isinstance(key, jax.core.Tracer) else np
    return jnp.asarray((std * xp.concatenate(blocks)[:size]).astype(jnp.float32).reshape(shape))


@jax.jit
def _normal_block(key: jax.Array, index: int) -> jax.Array:
    return jax.random.normal(jax.random.fold_in(key, index), (_BLOCK,))


def _full(size: int, value: float) -> jax.Array:
    return jnp.asarray(np.full(size, value, np.float32))  # through NumPy: nothing to compile


class Conv(nnx.Module):
    """3D convolution without bias; `kernel` is `[kt, kh, kw, I, O]` float32, computed in `dtype`.

    Args:
      padding: zeros on either side over time, height and width; half the kernel by default.
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
        # Kaiming normal over the fan-out with ReLU's gain, as torchvision's video networks start
        # (He et al. 2015; torchvision/models/video/resnet.py).
        std = math.sqrt(2 / (out_channels * math.prod(kernel)))
        self.kernel = nnx.Param(normal(rngs.params(), (*kernel, in_channels, out_channels), std))

    def __call__(self, x: jax.Array) -> jax.Array:
        return convolve(x.astype(self.dtype), self.kernel[...].astype(self.dtype), self.strides, self.padding)


class BatchNorm(nnx.Module):
    """Batch normalisation with PyTorch's arithmetic (Ioffe and Szegedy 2015).

    Statistics are float32 over every axis but the last; in a step under `jit` that is the global batch,
    however it is sharded. The biased variance normalises, the unbiased one enters the running average.

    Attributes:
      scale, bias: trained, float32 `[C]`.
      mean, var: running statistics, float32 `[C]`.
      use_running_average: set by `model.train()` and `model.eval()`.
      frozen: True keeps and uses the running statistics in training mode too:
        `model.set_attributes(BatchNorm, frozen=True)`.
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
    """x normalised over all axes but the last, and its mean and biased variance, which carry no gradient.

    The variance takes a second pass over x, and so is exact for any mean. The gradient is written out
    (Ioffe and Szegedy 2015, section 3) because it needs only x and two sums: derived by JAX it keeps more.
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
    """The classifier: float32 `[B, D]` to float32 `[B, classes]`, in full precision on every platform."""

    def __init__(self, in_features: int, out_features: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(normal(rngs.params(), (in_features, out_features), 0.01))
        self.bias = nnx.Param(_full(out_features, 0.0))

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.matmul(x, self.kernel[...], precision=lax.Precision.HIGHEST) + self.bias[...]


class MaxPool(nnx.Module):
    """Max-pooling over `[B, T, H, W, C]`, padded with minus infinity by half the window on either side."""

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
    """Max-pooling over time, height and width of `[B, T, H, W, C]`, padded with minus infinity.

    One axis after the other, since a window's maximum is separable, and as a maximum of shifts: the
    gradient of `lax.reduce_window` is slower on CPU. Equal maxima share the gradient, where
    PyTorch gives it to the first.
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
    """Steps in order, at the paths "0", "1", ... as in PyTorch; a plain function takes a number too."""

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
    """max(x, 0), with gradient 0 at 0 as in PyTorch."""
    return jax.nn.relu(x)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Element dropout: zeroes each element with probability `rate`, scales the rest; no key, no dropout."""
    if key is None:
        return x
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), jnp.zeros_like(x))


def check_clips(video: jax.Array, channels: int) -> None:
    """Raises a `UserError` unless `video` is normalised clips [B, T, H, W, channels]."""
    if video.ndim != 5 or video.shape[-1] != channels:
        raise UserError(
            f"input of shape {tuple(video.shape)}: this network takes [batch, frames, height, width, {channels}]"
        )
    if not jnp.issubdtype(video.dtype, jnp.floating):
        raise UserError(f"input of type {video.dtype}: normalise the clips to floats first")
