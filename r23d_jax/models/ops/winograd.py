"""Winograd convolution on CPU: 3x3 kernels over space and 3-frame kernels over time, in cache-sized pieces.

Winograd's minimal filtering (A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016)
transforms inputs and kernel so that 4 outputs along an axis take 6 multiplications instead of 12; a 3x3 kernel takes
36 matrix products, a quarter of the arithmetic. The transforms are bound by memory traffic, so a convolution is
computed in pieces whose transforms stay in the cache.

The interpolation points are 0, 1, -1, 1/2, -2 and infinity, with about half the rounding errors of the usual 0, 1,
-1, 2, -2 (B. Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural
Networks", ACM TOMS 2020). Expect errors of up to 1e-5 of the largest output over 256 channels. All arithmetic is
float32, whatever the dtype of the input.
"""

import functools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from r23d_jax.models.ops.strided import outer

Strides = tuple[int, int, int]
Padding = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
Matrix = tuple[tuple[float, ...], ...]
Arrays = list[jax.Array]

TILE = 4  # outputs along an axis
_TAPS = 3  # elements of a kernel along an axis
_WIDE = TILE + _TAPS - 1  # inputs, and products, of a tile along an axis
_PIECE = 6272  # most positions in a piece: two frames of 56x56


def spatial(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """Computes kt x 3 x 3 of stride 1 and padding up to 2: tiles over space, summed over the kernel's frames."""
    _refuse(kernel.shape[1:3] != (_TAPS, _TAPS), kernel, strides, padding)
    return _convolve(x, kernel, _SPACE, padding)


def temporal(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """Computes 3 x 1 x 1 of stride 1 and padding up to 2 in time only: tiles over time."""
    _refuse(kernel.shape[:3] != (_TAPS, 1, 1) or any(padding[1] + padding[2]), kernel, strides, padding)
    return _convolve(x, kernel, _TIME, padding)


def _refuse(other: bool, kernel: jax.Array, strides: Strides, padding: Padding) -> None:
    too_wide = any(max(sides) >= size for sides, size in zip(padding, kernel.shape, strict=False) if any(sides))
    if other or strides != (1, 1, 1) or too_wide:
        raise ValueError(f"kernel {kernel.shape}, strides {strides}, padding {padding}: not for this formulation")


def _transforms() -> tuple[Matrix, Matrix, Matrix]:
    """Returns the transforms of outputs (4x6), kernel (6x3) and inputs (6x6), by the Cook-Toom construction."""
    points = [Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(-2)]

    def polynomial(roots: list[Fraction]) -> list[Fraction]:
        coefficients = [Fraction(1)]
        for root in roots:
            raised, scaled = [Fraction(0), *coefficients], [*(root * c for c in coefficients), Fraction(0)]
            coefficients = [a - b for a, b in zip(raised, scaled, strict=True)]
        return coefficients

    others = [[other for other in points if other != point] for point in points]
    scales = [np.prod([point - other for other in rest]) for point, rest in zip(points, others, strict=True)]
    outputs = [[point**i for point in points] + [i == TILE - 1] for i in range(TILE)]
    kernel = [[point**i / scale for i in range(_TAPS)] for point, scale in zip(points, scales, strict=True)]
    kernel.append([i == _TAPS - 1 for i in range(_TAPS)])
    inputs = [[*polynomial(rest), 0] for rest in others] + [polynomial(points)]
    return tuple(tuple(tuple(map(float, row)) for row in matrix) for matrix in (outputs, kernel, inputs))


_OUTPUTS, _KERNEL, _INPUTS = _transforms()


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def _apply(matrix: Matrix, parts: Sequence[jax.Array]) -> Arrays:
    """Multiplies the matrix with the vector of parts."""

    def row(factors: tuple[float, ...]) -> jax.Array:
        terms = [(factor, part) for factor, part in zip(factors, parts, strict=True) if factor]
        scaled = [part if factor == 1 else -part if factor == -1 else factor * part for factor, part in terms]
        return functools.reduce(jnp.add, scaled)

    return [row(factors) for factors in matrix]


def _tiles(x: jax.Array, axis: int, count: int, before: int) -> Arrays:
    """Returns the transformed six inputs of `count` tiles along an axis, with zeros beyond its ends."""
    around = [(0, 0)] * x.ndim
    around[axis] = (before, count * TILE + _TAPS - 1 - before - x.shape[axis])
    x = jnp.pad(x, around)
    last = (count - 1) * TILE + 1
    return _apply(_INPUTS, [lax.slice_in_dim(x, i, i + last, TILE, axis) for i in range(_WIDE)])


def _cotangent_tiles(dy: jax.Array, axis: int, count: int) -> Arrays:
    """Returns the cotangents of the six products of every tile along an axis."""
    around = [(0, 0)] * dy.ndim
    around[axis] = (0, count * TILE - dy.shape[axis])
    dy = jnp.pad(dy, around)
    parts = [lax.slice_in_dim(dy, i, None, TILE, axis) for i in range(TILE)]
    return _apply(_transposed(_OUTPUTS), parts)


def _from_tiles(products: Sequence[jax.Array], axis: int, size: int) -> jax.Array:
    """Returns the outputs along an axis from the six products of every tile."""
    outputs = jnp.stack(_apply(_OUTPUTS, products), axis + 1)
    outputs = outputs.reshape(*outputs.shape[:axis], -1, *outputs.shape[axis + 2 :])
    return lax.slice_in_dim(outputs, 0, size, axis=axis)


def _count(size: int) -> int:
    return -(-size // TILE)


class _Tiling(NamedTuple):
    """The differences between tiles over space and tiles over time.

    Attributes:
      inputs: (frames [S, F, H, W, C], the output's (H', W'), padding) -> transformed inputs [S, F', P, C].
      cotangents: [S, F, H', W', O] -> cotangents of products [S, F', P, O].
      outputs: (products [S, F', P, O], shape [S, F, H', W', O]) -> outputs.
      kernel: [kt, kh, kw, C, O] -> transformed kernel [C, O], for each frame that is summed over.
      kernel_gradient: the transpose of `kernel`.
      unit: divides the number of output frames of a piece.
    """

    inputs: Callable[[jax.Array, tuple[int, int], Padding], Arrays]
    cotangents: Callable[[jax.Array], Arrays]
    outputs: Callable[[Arrays, tuple[int, ...]], jax.Array]
    kernel: Callable[[jax.Array], list[Arrays]]
    kernel_gradient: Callable[[list[Arrays]], jax.Array]
    unit: int


def _flat_space(x: jax.Array) -> jax.Array:
    """Reshapes [S, F, H, W, C] to [S, F, H * W, C]."""
    return x.reshape(*x.shape[:2], -1, x.shape[4])


def _space_inputs(x: jax.Array, size: tuple[int, int], padding: Padding) -> Arrays:
    rows = _tiles(x, 2, _count(size[0]), padding[1][0])
    return [_flat_space(part) for row in rows for part in _tiles(row, 3, _count(size[1]), padding[2][0])]


def _space_cotangents(dy: jax.Array) -> Arrays:
    height, width = dy.shape[2:4]
    rows = _cotangent_tiles(dy, 2, _count(height))
    return [_flat_space(part) for row in rows for part in _cotangent_tiles(row, 3, _count(width))]


def _space_outputs(products: Arrays, shape: tuple[int, ...]) -> jax.Array:
    _, _, height, width, _ = shape
    products = [p.reshape(*p.shape[:2], _count(height), _count(width), p.shape[3]) for p in products]
    rows = [_from_tiles(products[i : i + _WIDE], 3, width) for i in range(0, _WIDE**2, _WIDE)]
    return _from_tiles(rows, 2, height)


def _space_kernel(kernel: jax.Array) -> list[Arrays]:
    def of_frame(frame: jax.Array) -> Arrays:
        return [part for row in _apply(_KERNEL, list(frame)) for part in _apply(_KERNEL, list(row))]

    return [of_frame(frame) for frame in kernel]


def _space_kernel_gradient(products: list[Arrays]) -> jax.Array:
    back = _transposed(_KERNEL)

    def of_frame(parts: Arrays) -> jax.Array:
        rows = [jnp.stack(_apply(back, parts[i : i + _WIDE])) for i in range(0, _WIDE**2, _WIDE)]
        return jnp.stack(_apply(back, rows))

    return jnp.stack([of_frame(parts) for parts in products])


_SPACE = _Tiling(_space_inputs, _space_cotangents, _space_outputs, _space_kernel, _space_kernel_gradient, 1)
_TIME = _Tiling(
    inputs=lambda x, size, padding: _tiles(_flat_space(x), 1, _count(x.shape[1] - _TAPS + 1), 0),
    cotangents=lambda dy: _cotangent_tiles(_flat_space(dy), 1, _count(dy.shape[1])),
    outputs=lambda products, shape: _from_tiles(products, 1, shape[1]).reshape(shape),
    kernel=lambda kernel: [_apply(_KERNEL, list(kernel[:, 0, 0]))],
    kernel_gradient=lambda products: jnp.stack(_apply(_transposed(_KERNEL), products[0]))[:, None, None],
    unit=TILE,
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: jax.Array, kernel: jax.Array, tiling: _Tiling, padding: Padding) -> jax.Array:
    taps, frames = kernel.shape[0], x.shape[1] + sum(padding[0]) - kernel.shape[0] + 1
    size = tuple(x.shape[axis] + sum(padding[axis - 1]) - kernel.shape[axis - 1] + 1 for axis in (2, 3))
    pieces = _Pieces(x.shape[0], frames, size, tiling.unit)
    products_of_kernel = tiling.kernel(kernel.astype(jnp.float32))

    def piece(index: jax.Array | int) -> jax.Array:
        inputs = tiling.inputs(pieces.inputs(x, index, taps, padding[0][0]), size, padding)
        products = [
            functools.reduce(jnp.add, (_frames(part, d, len(transformed)) @ w for d, w in enumerate(transformed)))
            for part, *transformed in zip(inputs, *products_of_kernel, strict=True)
        ]
        shape = (inputs[0].shape[0], pieces.frames, *size, kernel.shape[4])
        return tiling.outputs(products, shape).astype(x.dtype)

    return pieces.join(piece, x.ravel()[0])


def _forward(x, kernel, tiling, padding):
    return _convolve(x, kernel, tiling, padding), (x, kernel)


def _backward(tiling, padding, kept, dy):
    x, kernel = kept
    taps = kernel.shape[0]
    turned = kernel[::-1, ::-1, ::-1].swapaxes(3, 4)
    around = tuple(
        (size - 1 - before, size - 1 - after) for size, (before, after) in zip(kernel.shape[:3], padding, strict=True)
    )
    dx = _convolve(dy, turned, tiling, around)
    pieces = _Pieces(dy.shape[0], dy.shape[1], dy.shape[2:4], tiling.unit)

    def piece(index: jax.Array | int) -> list[Arrays]:
        inputs = tiling.inputs(pieces.inputs(x, index, taps, padding[0][0]), dy.shape[2:4], padding)
        cotangents = tiling.cotangents(pieces.inputs(dy, index, 1, 0))
        summed = inputs[0].shape[1] - cotangents[0].shape[1] + 1
        return [
            [outer(_frames(a, d, summed), b) for a, b in zip(inputs, cotangents, strict=True)] for d in range(summed)
        ]

    return dx, tiling.kernel_gradient(pieces.sum(piece)).astype(kernel.dtype)


_convolve.defvjp(_forward, _backward)


def _frames(x: jax.Array, offset: int, summed: int) -> jax.Array:
    """Returns the frames under frame `offset` of a kernel with `summed` frames."""
    return x[:, offset : x.shape[1] - summed + 1 + offset]


class _Pieces:
    """Divides the outputs of a convolution into pieces, computed one after the other.

    A piece has some frames of some samples; of a batch that is sharded over devices or of unknown size, it has some
    frames of all samples.

    Args:
      samples, frames, size: of the outputs.
      unit: divides the number of frames of a piece.
    """

    def __init__(self, samples: int, frames: int, size: tuple[int, int], unit: int):
        self._all, self._total = samples, frames
        self.samples, self.frames = samples, frames
        alone = isinstance(samples, int) and jax.device_count() == 1
        room = max(1, _PIECE // (size[0] * size[1]))
        if alone:
            self.samples = _divisor(samples, room // frames, 1)
        here = self.samples if alone else samples // jax.device_count() if isinstance(samples, int) else 1
        self.frames = _divisor(frames, room // max(here, 1), unit)
        self._along = self._total // self.frames
        self._count = self._along * (1 if self.samples is samples else samples // self.samples)

    def inputs(self, x: jax.Array, index: jax.Array | int, taps: int, before: int) -> jax.Array:
        """Returns the inputs of a piece's outputs, float32 `[S, frames + taps - 1, H, W, C]`, zeros beyond x."""
        start, length = (index % self._along) * self.frames - before, self.frames + taps - 1
        if self._count == 1:
            after = length - before - x.shape[1]
            return jnp.pad(x, ((0, 0), (before, after), (0, 0), (0, 0), (0, 0))).astype(jnp.float32)
        if self.samples is not self._all:
            x = lax.dynamic_slice_in_dim(x, index // self._along * self.samples, self.samples)
        if taps == 1:
            return lax.dynamic_slice_in_dim(x, start, length, 1).astype(jnp.float32)

        def frame(at: jax.Array) -> jax.Array:
            within = (at >= 0) & (at < x.shape[1])
            return jnp.where(within, lax.dynamic_index_in_dim(x, at, 1, keepdims=False), 0)

        return jnp.stack([frame(start + offset) for offset in range(length)], 1).astype(jnp.float32)

    def join(self, piece: Callable[[jax.Array | int], jax.Array], seed: jax.Array) -> jax.Array:
        """Returns all outputs, of a function from a piece's number to its outputs; seed is any computed scalar."""
        if self._count == 1:
            return piece(0)
        like = jax.eval_shape(piece, 0)
        # The content is overwritten. A constant would be shared among all convolutions, and so copied for each.
        y = jnp.broadcast_to(seed.astype(like.dtype), (self._count, *like.shape))
        y = lax.fori_loop(0, self._count, lambda i, y: lax.dynamic_update_index_in_dim(y, piece(i), i, 0), y)
        y = y.reshape(-1, self._along, *y.shape[1:]).swapaxes(
            1, 2
        )  # a copy only if both samples and frames are divided
        return y.reshape(self._all, self._total, *y.shape[4:])

    def sum(self, piece: Callable[[jax.Array | int], list[Arrays]]) -> list[Arrays]:
        """Returns the sum of `piece(number)` over all pieces."""
        if self._count == 1:
            return piece(0)
        shapes = jax.eval_shape(piece, 0)
        zeros = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes)
        return lax.fori_loop(0, self._count, lambda i, total: jax.tree.map(jnp.add, total, piece(i)), zeros)


def _divisor(size: int, most: int, unit: int) -> int:
    """Returns the divisor of size that is a multiple of unit, the largest up to `most` or the smallest; else size."""
    fitting = [d for d in range(unit, size + 1, unit) if size % d == 0]
    return max((d for d in fitting if d <= most), default=fitting[0] if fitting else size)
