"""Formulations of 3D convolution, and the choices among them by shape.

All formulations compute the same sums in another order, so outputs and gradients agree up to rounding. The table of
`hardware` says which choice is made on which hardware; `convolution` applies it.

XLA's 3D convolution on CPU is a slow generic loop, so there a kernel is reduced to 2D convolutions; 3-wide kernels of
stride 1 with enough channels and positions use Winograd's method (`winograd`), and strided ones have custom gradients
(`strided`). `benchmarks/layers.py` times every formulation of every layer; the results are in docs/speed.md.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax import lax

from r23d_jax.models.ops import winograd
from r23d_jax.models.ops.strided import conv2d, strided_conv2d

Strides = tuple[int, int, int]
Padding = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
Formulation = Callable[[jax.Array, jax.Array, Strides, Padding], jax.Array]
# From the shapes of input [B, T, H, W, I] and kernel [kt, kh, kw, I, O], strides and padding.
Choice = Callable[[tuple[int, ...], tuple[int, ...], Strides, Padding], Formulation]

_quick: contextvars.ContextVar[bool] = contextvars.ContextVar("quick", default=False)


def always_native(
    shape: tuple[int, ...], kernel_shape: tuple[int, ...], strides: Strides, padding: Padding
) -> Formulation:
    """Returns `native`."""
    del shape, kernel_shape, strides, padding
    return native


def fast_on_cpu(
    shape: tuple[int, ...], kernel_shape: tuple[int, ...], strides: Strides, padding: Padding
) -> Formulation:
    """Returns the fastest formulation on a CPU."""
    time, height, width, inputs, outputs = kernel_shape
    # With fewer channels or positions the transforms cost more than they save.
    if strides == (1, 1, 1) and min(inputs, outputs) >= 32 and max(map(max, padding)) <= 1 and not _quick.get():
        if height == width == 3 and min(shape[2:4]) >= 20:
            return winograd.spatial
        over_time = kernel_shape[:3] == (3, 1, 1) and padding == ((1, 1), (0, 0), (0, 0))
        if over_time and shape[1] in range(8, 1024, winograd.TILE):
            return winograd.temporal
    if time == height == width == 1 and not any(map(any, padding)):
        return pointwise
    if time == 1 and not any(padding[0]):
        return folded
    if height == width == 1 and not any(padding[1] + padding[2]):
        return temporal if strides[0] == 1 and outputs < 256 else shifted
    # A 2D convolution is a matmul with inner dimension kh * kw * I and O columns. If one of them is small, stacking the
    # kernel's frames along it is worth the copies.
    if inputs < 16:
        return stacked_inputs
    if outputs <= 64 and strides[0] == 1:
        return stacked_outputs
    return shifted


def fast_on_gpu(
    shape: tuple[int, ...], kernel_shape: tuple[int, ...], strides: Strides, padding: Padding
) -> Formulation:
    """Returns `native`, or a 2D formulation where XLA does not recognise the native one's gradient of the kernel.

    With no more output frames than the kernel has, XLA takes that gradient for a forward convolution, whose kernel is
    the cotangent, channels are the batch, and batch are the channels: it transposes both, and cuDNN computes it slowly.
    """
    frames = shape[1] + sum(padding[0]) - kernel_shape[0] + 1
    if strides != (1, 1, 1) or frames > kernel_shape[0]:
        return native
    return shifted if shape[1] == 1 else stacked_inputs


@contextlib.contextmanager
def quick_compilation() -> Iterator[None]:
    """Avoids formulations that take long to compile, for programs traced inside that run only a few times."""
    token = _quick.set(True)
    try:
        yield
    finally:
        _quick.reset(token)


def native(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """Computes any kernel by XLA's own 3D convolution."""
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))


def pointwise(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """Computes 1x1x1 without padding: every stride-th position, then one matmul."""
    del padding
    return x[:, :: strides[0], :: strides[1], :: strides[2]] @ kernel[0, 0, 0]


def folded(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """Computes 1 x kh x kw without padding in time: a 2D convolution with the frames in the batch."""
    x = x[:, :: strides[0]]
    batch, time = x.shape[:2]
    planar = strided_conv2d if max(strides[1:]) > 1 and kernel.shape[3] >= 32 else conv2d
    y = planar(x.reshape(batch * time, *x.shape[2:]), kernel[0], strides[1:], padding[1:])
    return y.reshape(batch, time, *y.shape[1:])


def temporal(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """Computes kt x 1 x 1 without padding in space: a 2D convolution over (time, height * width)."""
    x = x[:, :, :: strides[1], :: strides[2]]
    batch, time, height, width, channels = x.shape
    y = conv2d(x.reshape(batch, time, height * width, channels), kernel[:, 0], (strides[0], 1), (padding[0], (0, 0)))
    return y.reshape(batch, y.shape[1], height, width, y.shape[-1])


def shifted(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """Computes any kernel as the sum over its frames of a folded convolution with the input frames under each.

    Skips frames of the padding.
    """
    length, stride, (before, after) = kernel.shape[0], strides[0], padding[0]
    frames = x.shape[1]
    count = (frames + before + after - length) // stride + 1
    total = None
    for offset in range(length):
        meets = [t for t in range(count) if 0 <= t * stride + offset - before < frames]
        if not meets:
            continue
        start = meets[0] * stride + offset - before
        stop = meets[-1] * stride + offset - before + 1
        part = _over_space(x[:, start:stop:stride], kernel[offset : offset + 1], strides, padding)
        part = _pad_time(part, (meets[0], count - 1 - meets[-1]))
        total = part if total is None else total + part
    return total


def stacked_inputs(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """Computes any kernel by one folded convolution of shifts of the input in time, concatenated along the channels.

    Costs kt copies of the input.
    """
    time, height, width, channels, outputs = kernel.shape
    x = _pad_time(x, padding[0])
    x = jnp.concatenate(_shifts(x, time, strides[0]), axis=-1)
    kernel = kernel.transpose(1, 2, 0, 3, 4).reshape(1, height, width, time * channels, outputs)
    return _over_space(x, kernel, strides, padding)


def stacked_outputs(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """Computes any kernel by one folded convolution for all of its frames, then a sum of shifts of the outputs in time.

    Costs kt copies of the output; with a stride in time it computes frames that are not used.
    """
    time, height, width, channels, outputs = kernel.shape
    kernel = kernel.transpose(1, 2, 3, 0, 4).reshape(1, height, width, channels, time * outputs)
    y = _pad_time(_over_space(x, kernel, strides, padding), padding[0])
    shifts = _shifts(y, time, strides[0])
    return functools.reduce(jnp.add, (y[..., i * outputs : (i + 1) * outputs] for i, y in enumerate(shifts)))


def _over_space(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """Convolves with one frame of a kernel."""
    strides, padding = (1, *strides[1:]), ((0, 0), *padding[1:])
    is_point = kernel.shape[1] == kernel.shape[2] == 1 and not any(map(any, padding))
    return (pointwise if is_point else folded)(x, kernel, strides, padding)


def _pad_time(x: jax.Array, padding: tuple[int, int]) -> jax.Array:
    return jnp.pad(x, ((0, 0), padding, (0, 0), (0, 0), (0, 0)))


def _shifts(x: jax.Array, length: int, stride: int) -> list[jax.Array]:
    """Returns, for each frame of a kernel of this length, the frames of x under it."""
    span = x.shape[1] - length + 1
    return [x[:, offset : offset + span : stride] for offset in range(length)]
