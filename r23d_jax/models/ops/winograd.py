"""3x3 convolutions over space and 3-frame ones over time with fewer multiplications, in cache-sized pieces, for CPU.

Winograd's minimal filtering (A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016):
inputs and kernel are transformed so that 4 outputs along an axis take 6 multiplications instead of 12, which for a
3x3 kernel leaves a quarter of the arithmetic, as 36 matrix products. The transforms only add and scale; what they
cost is memory traffic, so a convolution is computed in pieces whose transforms stay in the processor's cache.

The transforms belong to the interpolation points 0, 1, -1, 1/2, -2 and infinity, whose rounding errors are about half
those of the usual 0, 1, -1, 2, -2 (B. Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd
Convolution for Deep Neural Networks", ACM TOMS 2020): below 1e-5 of the largest output over 256 channels of random
numbers, where direct summation has 6e-7. All arithmetic is float32, whatever the input's type.
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
_TAPS = 3  # of a kernel along an axis
_WIDE = TILE + _TAPS - 1  # inputs of a tile, and products
_PIECE = 6272  # positions of an input that a piece has at most: two frames of 56x56


def spatial(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """kt x 3 x 3 of stride 1, padded by 2 at most: tiles over height and width, summed over the kernel's frames."""
    _refuse(kernel.shape[1:3] != (_TAPS, _TAPS), kernel, strides, padding)
    return _convolve(x, kernel, _SPACE, padding)


def temporal(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """3 x 1 x 1 of stride 1, padded by 2 at most and in time alone: tiles over time."""
    _refuse(kernel.shape[:3] != (_TAPS, 1, 1) or any(padding[1] + padding[2]), kernel, strides, padding)
    return _convolve(x, kernel, _TIME, padding)


def _refuse(other: bool, kernel: jax.Array, strides: Strides, padding: Padding) -> None:
    too_wide = any(max(sides) >= size for sides, size in zip(padding, kernel.shape, strict=False) if any(sides))
    if other or strides != (1, 1, 1) or too_wide:
        raise ValueError(f"kernel {kernel.shape}, strides {strides}, padding {padding}: not for this formulation")


def _transforms() -> tuple[Matrix, Matrix, Matrix]:
    """Of outputs (4x6), kernel (6x3) and inputs (6x6), by Cook and Toom's construction over the points above."""
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
    """The matrix times the vector of parts."""

    def row(factors: tuple[float, ...]) -> jax.Array:
        terms = [(factor, part) for factor, part in zip(factors, parts, strict=True) if factor]
        scaled = [part if factor == 1 else -part if factor == -1 else factor * part for factor, part in terms]
        return functools.reduce(jnp.add, scaled)

    return [row(factors) for factors in matrix]


def _tiles(x: jax.Array, axis: int, count: int, before: int) -> Arrays:
    """The six inputs of every tile along an axis, zeros beyond its ends, transformed; each with `count` tiles."""
    around = [(0, 0)] * x.ndim
    around[axis] = (before, count * TILE + _TAPS - 1 - before - x.shape[axis])
    x = jnp.pad(x, around)
    last = (count - 1) * TILE + 1
    return _apply(_INPUTS, [lax.slice_in_dim(x, i, i + last, TILE, axis) for i in range(_WIDE)])


def _cotangent_tiles(dy: jax.Array, axis: int, count: int) -> Arrays:
    """The four cotangents of every tile along an axis, brought to the six products by the outputs' transform."""
    around = [(0, 0)] * dy.ndim
    around[axis] = (0, count * TILE - dy.shape[axis])
    dy = jnp.pad(dy, around)
    parts = [lax.slice_in_dim(dy, i, None, TILE, axis) for i in range(TILE)]
    return _apply(_transposed(_OUTPUTS), parts)


def _from_tiles(products: Sequence[jax.Array], axis: int, size: int) -> jax.Array:
    """Outputs along an axis, of the six products of every tile."""
    outputs = jnp.stack(_apply(_OUTPUTS, products), axis + 1)
    outputs = outputs.reshape(*outputs.shape[:axis], -1, *outputs.shape[axis + 2 :])
    return lax.slice_in_dim(outputs, 0, size, axis=axis)


def _count(size: int) -> int:
    return -(-size // TILE)


class _Tiling(NamedTuple):
    """What the two formulations differ in.

    Attributes:
      inputs: (frames [S, F, H, W, C], the output's H' and W', padding) to products [S, F', P, C].
      cotangents: [S, F, H', W', O] to products [S, F', P, O].
      outputs: (products [S, F', P, O], shape [S, F, H', W', O]) to the outputs.
      kernel: [kt, kh, kw, C, O] to products [C, O] for each of the frames that are summed over.
      kernel_gradient: from those back, transposed.
      unit: a piece's output frames are a multiple of it.
    """

    inputs: Callable[[jax.Array, tuple[int, int], Padding], Arrays]
    cotangents: Callable[[jax.Array], Arrays]
    outputs: Callable[[Arrays, tuple[int, ...]], jax.Array]
    kernel: Callable[[jax.Array], list[Arrays]]
    kernel_gradient: Callable[[list[Arrays]], jax.Array]
    unit: int


def _flat_space(x: jax.Array) -> jax.Array:
    """[S, F, H, W, C] to [S, F, H * W, C]."""
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
    """The frames that meet the kernel's frame `offset`, of `summed` that are summed over."""
    return x[:, offset : x.shape[1] - summed + 1 + offset]


class _Pieces:
    """The outputs of a convolution in pieces of some samples and frames, one after the other.

    Only one device's samples are taken apart: of a batch that is divided over devices each piece has all of it,
    and so has one of unknown size.

    Args:
      samples, frames, size: of the outputs.
      unit: a piece's frames are a multiple of it.
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
        """What the piece's outputs see of x, float32 `[S, frames + taps - 1, H, W, C]`, zeros beyond its ends."""
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
        """All outputs, of a function of a piece's number; seed is any scalar that is computed."""
        if self._count == 1:
            return piece(0)
        like = jax.eval_shape(piece, 0)
        # Where the outputs go, of any content but not a constant: those of all convolutions would be one, and copied.
        y = jnp.broadcast_to(seed.astype(like.dtype), (self._count, *like.shape))
        y = lax.fori_loop(0, self._count, lambda i, y: lax.dynamic_update_index_in_dim(y, piece(i), i, 0), y)
        y = y.reshape(-1, self._along, *y.shape[1:]).swapaxes(1, 2)  # a copy only where both are cut
        return y.reshape(self._all, self._total, *y.shape[4:])

    def sum(self, piece: Callable[[jax.Array | int], list[Arrays]]) -> list[Arrays]:
        """The sum over all pieces."""
        if self._count == 1:
            return piece(0)
        shapes = jax.eval_shape(piece, 0)
        zeros = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes)
        return lax.fori_loop(0, self._count, lambda i, total: jax.tree.map(jnp.add, total, piece(i)), zeros)


def _divisor(size: int, most: int, unit: int) -> int:
    """The largest divisor of size that is a multiple of unit and at most `most`; else the smallest one, or size."""
    fitting = [d for d in range(unit, size + 1, unit) if size % d == 0]
    return max((d for d in fitting if d <= most), default=fitting[0] if fitting else size)
