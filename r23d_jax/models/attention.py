"""Attentive pooling: each of several learned queries takes its own weighted mean over the positions of a grid."""

import jax
import jax.numpy as jnp
from jax import lax


def attend(tokens: jax.Array, mean: jax.Array, scale: jax.Array, query: jax.Array, position: jax.Array) -> jax.Array:
    """Returns every query's weighted mean of the positions, side by side.

    The weights are a softmax over `<x_p, query_h> / sqrt(D) + position[h, p]`, with `x` the standardised tokens. With
    zeros for `query` and `position` each is the plain mean. A pooling by learned queries as in Lee et al. 2019, "Set
    Transformer", section 3.2, without projections of its own.

    Args:
      tokens: float [B, P, D]: P positions of a fixed grid.
      mean: float32 [D], subtracted from the tokens.
      scale: float32 [D], multiplies what is left.
      query: float32 [H, D].
      position: float32 [H, P].

    Returns:
      float32 [B, H * D], query by query.
    """
    x = (tokens.astype(jnp.float32) - mean) * scale
    # TPUs, and GPUs with TF32, would round to fewer bits than the weights were trained with. Queries come last because
    # XLA's code for CPUs is much faster with them there.
    scores = jnp.einsum("bpd,hd->bph", x, query / x.shape[-1] ** 0.5, precision=lax.Precision.HIGHEST)
    shares = jax.nn.softmax(scores + position.T, axis=1)
    pooled = jnp.einsum("bpd,bph->bdh", x, shares, precision=lax.Precision.HIGHEST)
    return pooled.transpose(0, 2, 1).reshape(x.shape[0], -1)
