"""The votes of the most similar training clips."""

import jax
import jax.numpy as jnp
from jax import lax

TAU = 0.1  # differences in cosine similarity that change a vote by a factor of e; Wu et al. 2018 use 0.07
TINY = 1e-12  # squared length below which a vector has no direction


def neighbour_weights(
    x: jax.Array, mean: jax.Array, scale: jax.Array, points: jax.Array, k: int, tau: float = TAU
) -> jax.Array:
    """Returns how much each training clip counts for each clip: a softmax over the k most similar ones.

    The similarity is the cosine between standardised features, as in the weighted nearest neighbours of Wu et al. 2018,
    "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", section 3.4; here the votes sum to 1.
    Of equally similar ones the first counts.

    Args:
      x: float [B, D], raw features.
      mean: float32 [D], subtracted from the features.
      scale: float32 [D], multiplies what is left.
      points: float32 [N, D]: the training clips' features, standardised and of unit length.
      k: how many may vote; all of them where there are fewer.
      tau: temperature of the softmax over similarities in -1..1.

    Returns:
      float32 [B, N], rows that sum to 1, with zeros for all but the k most similar.
    """
    z = (x.astype(jnp.float32) - mean) * scale
    z = z * lax.rsqrt(jnp.maximum(jnp.sum(z * z, axis=-1, keepdims=True), TINY))
    # Rounding to bfloat16 or TF32, which accelerators do by default, would change who is near.
    similarity = jnp.matmul(z, points.T, precision=lax.Precision.HIGHEST)
    nearest, places = lax.top_k(similarity, min(k, len(points)))
    rows = jnp.arange(z.shape[0])[:, None]  # not len(), which is no number in an export
    return jnp.zeros_like(similarity).at[rows, places].set(jax.nn.softmax(nearest / tau, axis=-1))
