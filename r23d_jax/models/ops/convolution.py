"""3D convolution, computed as the hardware's policy says. Networks do not depend on the platform."""

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
      x: input, of the same dtype as `kernel` and the output.
      kernel: weights.
      strides: over time, height and width.
      padding: zeros (before, after) over time, height and width.
      inner: whether the next layer to convolve is one to fewer channels, so that pairs are kept whatever O is.
    """
    policy = hardware.policy()
    if policy.lanes and x.shape[-1] == packing.PAIR * kernel.shape[3]:
        packed = strides[0] == 1 and (inner or policy.pairs(kernel.shape[4]))
        return checkpoint_name(packing.convolve(x, kernel, strides, padding, packed), NAME)
    formulation = policy.choice(x.shape, kernel.shape, strides, padding)
    return checkpoint_name(formulation(x, kernel, strides, padding), NAME)
