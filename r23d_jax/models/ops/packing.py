"""Pairs of frames side by side as channels: `[B, T, H, W, C]` as `[B, T/2, H, W, 2C]`.

A TPU computes 128 channels at once, and stores no fewer. Layers of 64 channels use half of it; of pairs of frames they
use all of it. A convolution of pairs is one whose kernel connects each frame of a pair with those that the original
kernel connects it with, and has zeros elsewhere, so it computes the same sums.
"""

import jax
import jax.numpy as jnp

from r23d_jax.models.ops.formulations import Padding, Strides, native

PAIR = 2


def pack(x: jax.Array) -> jax.Array:
    """Returns `[B, T, H, W, C]` as `[B, T/2, H, W, 2C]`, T even."""
    return jnp.concatenate([x[:, ::PAIR], x[:, 1::PAIR]], axis=-1)


def unpack(x: jax.Array) -> jax.Array:
    """Returns `[B, T/2, H, W, 2C]` as `[B, T, H, W, C]`."""
    return _interleave(jnp.split(x, PAIR, axis=-1))


def convolve(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding, packed: bool) -> jax.Array:
    """Convolves pairs of frames `[B, T/2, H, W, 2I]` with `[kt, kh, kw, I, O]`.

    Args:
      packed: whether the output is of pairs, `[B, T'/2, H', W', 2O]`, for which the stride over time has to be 1 and
        T' even; otherwise it is `[B, T', H', W', O]`.
    """
    stride, frames = strides[0], PAIR * x.shape[1]
    count = (frames + sum(padding[0]) - kernel.shape[0]) // stride + 1
    if stride % PAIR == 0:
        return _of_pairs(x, kernel, (0,), stride // PAIR, strides, padding, count)
    if packed:
        return _of_pairs(x, kernel, (0, 1), stride, strides, padding, count // PAIR)
    halves = [_of_pairs(x, kernel, (offset,), stride, strides, padding, count // PAIR) for offset in range(PAIR)]
    return _interleave(halves)


def _of_pairs(x, kernel, offsets, stride, strides, padding, count):
    """Computes the output frames at these offsets in steps of so many pairs, side by side as channels."""
    time, height, width, inputs, outputs = kernel.shape
    # Input frame of a tap relative to the first frame of the output's pair.
    frame = {(o, tap): strides[0] * o + tap - padding[0][0] for o in offsets for tap in range(time)}
    first, last = (choose(frame.values()) // PAIR for choose in (min, max))
    taps = [[[jnp.zeros_like(kernel[0])] * len(offsets) for _ in range(PAIR)] for _ in range(first, last + 1)]
    for (offset, tap), relative in frame.items():
        taps[relative // PAIR - first][relative % PAIR][offsets.index(offset)] = kernel[tap]
    kernel = jnp.stack([jnp.concatenate([jnp.concatenate(row, -1) for row in tap], -2) for tap in taps])
    after = stride * (count - 1) + len(taps) - x.shape[1] + first
    return native(x, kernel, (stride, *strides[1:]), ((-first, after), *padding[1:]))


def _interleave(halves: list[jax.Array]) -> jax.Array:
    """Returns frames of the first and the second in turn."""
    batch, time, *rest = halves[0].shape
    return jnp.stack(halves, axis=2).reshape(batch, PAIR * time, *rest)
