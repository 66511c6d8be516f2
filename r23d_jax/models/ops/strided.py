"""2D convolution, and a version with gradients that are fast on CPU if it has a stride."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

Strides = tuple[int, int]
Padding = tuple[tuple[int, int], tuple[int, int]]


def conv2d(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """Convolves `[N, H, W, I]` with `[kh, kw, I, O]` to `[N, H', W', O]`."""
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def outer(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Sums the outer products over all positions: `[..., I]` with `[..., O]` to float32 `[I, O]`.

    XLA's CPU matmul transposes no operand in this form; others cost copies.
    """
    x, dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    return lax.dot_general(x, dy, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def strided_conv2d(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding) -> jax.Array:
    """Does the same as `conv2d`, with custom gradients.

    XLA's gradient of the kernel transposes the input, and recomputes it by fusion; its gradient of the input
    multiplies the zeros that it inserts between cotangents.
    """
    return conv2d(x, kernel, strides, padding)


def _strided_forward(x, kernel, strides, padding):
    return conv2d(x, kernel, strides, padding), (x, kernel)


def _strided_backward(strides, padding, kept, dy):
    x, kernel = kept
    return _input_gradient(dy, kernel, strides, padding, x.shape), _kernel_gradient(x, dy, kernel, strides, padding)


def _input_gradient(dy, kernel, strides, padding, shape):
    """Computes the input's gradient, one phase of the stride at a time.

    Inputs of a phase only meet every stride-th element of the kernel, so each phase is a dense convolution of dy.
    """
    kernel = kernel.swapaxes(2, 3)
    lengths = [-(-(size + sum(pad)) // stride) for size, pad, stride in zip(shape[1:3], padding, strides, strict=True)]

    def phase(row: int, column: int) -> jax.Array:
        part = kernel[row :: strides[0], column :: strides[1]][::-1, ::-1]
        if part.size == 0:
            return jnp.zeros((shape[0], *lengths, shape[3]), dy.dtype)
        around = tuple(
            (taps - 1, length - size) for taps, length, size in zip(part.shape, lengths, dy.shape[1:3], strict=False)
        )
        return conv2d(dy, part, (1, 1), around)

    rows = [jnp.stack([phase(i, j) for j in range(strides[1])], 3) for i in range(strides[0])]
    dx = jnp.stack(rows, 2)
    dx = dx.reshape(shape[0], lengths[0] * strides[0], lengths[1] * strides[1], shape[3])
    (top, _), (left, _) = padding
    return dx[:, top : top + shape[1], left : left + shape[2]]


def _kernel_gradient(x, dy, kernel, strides, padding):
    """Computes the kernel's gradient by a matmul for each of its elements."""
    x = lax.optimization_barrier(jnp.pad(x, ((0, 0), *padding, (0, 0))))  # else XLA recomputes it for each element
    height, width = ((size - 1) * stride + 1 for size, stride in zip(dy.shape[1:3], strides, strict=True))

    def met(row: int, column: int) -> jax.Array:
        return x[:, row : row + height : strides[0], column : column + width : strides[1]]

    rows = [jnp.stack([outer(met(i, j), dy) for j in range(kernel.shape[1])]) for i in range(kernel.shape[0])]
    return jnp.stack(rows).astype(kernel.dtype)


strided_conv2d.defvjp(_strided_forward, _strided_backward)
