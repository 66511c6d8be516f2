"""3D convolution, computed as the hardware's policy says. Networks do not depend on the platform."""

import functools
from collections.abc import Callable

import jax
from jax.ad_checkpoint import checkpoint_name

from r23d_jax.models.ops import hardware, packing
from r23d_jax.models.ops.formulations import Padding, Strides

NAME = "convolution"  # checkpoint name of every output, for rematerialisation policies


def convolve(x: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding, inner: bool = False) -> jax.Array:
    """Convolves `[B, T, H, W, I]` with `[kt, kh, kw, I, O]` to `[B, T', H', W', O]`.

    Where the hardware's policy computes on pairs of frames, x may be those, `[B, T/2, H, W, 2I]`. Then so is the
    output, unless there is a stride over time or there are too many channels for that.

    Args:
      x: input, of the dtype to compute in and of the output.
      kernel: weights, rounded to the dtype of x; their gradient has their own dtype.
      strides: over time, height and width.
      padding: zeros (before, after) over time, height and width.
      inner: whether the next layer to convolve is one to fewer channels, so that pairs are kept whatever O is.
    """
    policy = hardware.policy()
    if policy.lanes and x.shape[-1] == packing.PAIR * kernel.shape[3]:
        packed = strides[0] == 1 and (inner or policy.pairs(kernel.shape[4]))
        compute = functools.partial(packing.convolve, strides=strides, padding=padding, packed=packed)
    else:
        formulation = policy.choice(x.shape, kernel.shape, strides, padding)
        compute = functools.partial(formulation, strides=strides, padding=padding)
    if policy.unrounded_gradients and kernel.dtype != x.dtype:
        return checkpoint_name(_with_unrounded_gradient(compute, x, kernel), NAME)
    return checkpoint_name(compute(x, kernel.astype(x.dtype)), NAME)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _with_unrounded_gradient(compute: Callable[..., jax.Array], x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Computes a convolution in the dtype of x, and the kernel's gradient from the same rounded values without rounding
    it to that dtype."""
    return compute(x, kernel.astype(x.dtype))


def _forward(compute, x, kernel):
    return compute(x, kernel.astype(x.dtype)), (x, kernel)


def _backward(compute, saved, dy):
    x, kernel = saved
    rounded = kernel.astype(x.dtype)
    (dx,) = jax.vjp(lambda x: compute(x, rounded), x)[1](dy)
    # A TPU multiplies float32 values that were 16 bits as those: what differs is the result.
    wide = x.astype(kernel.dtype)
    (dkernel,) = jax.vjp(lambda kernel: compute(wide, kernel), kernel)[1](dy.astype(kernel.dtype))
    return dx, dkernel


_with_unrounded_gradient.defvjp(_forward, _backward)
