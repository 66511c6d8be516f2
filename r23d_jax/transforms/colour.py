"""Colour jitter, and further augmentations of the pixels, for training clips.

`AUGMENTATIONS` is where one of your own goes: a function `f(keys, video, strength) -> video`, with keys [B], float32
video [B, T, H, W, 3] in 0..255 before and after, and the number that `config.augment.extra.NAME` gives. It runs under
jit and treats all frames of a clip alike.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

_TO_YIQ = np.asarray([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])  # NTSC's


def colour_jitter(
    keys: jax.Array, video: jax.Array, brightness: float, contrast: float, saturation: float, hue: float
) -> jax.Array:
    """Applies random brightness, contrast, saturation and hue to each clip, the same in all its frames.

    Contrast blends with the mean grey of the whole clip (one mean per frame would flicker), saturation with each
    pixel's grey; hue rotates the chroma plane of YIQ. Values are clipped to 0..255 after each.

    Args:
      keys: [B].
      video: float32 [B, T, H, W, 3], 0..255.
      brightness, contrast, saturation: largest change of the factor.
      hue: largest shift, in turns.
    """

    def one(key, clip):
        draws = jax.random.uniform(key, (4,), minval=-1, maxval=1)
        factors = jnp.maximum(1 + draws[:3] * jnp.asarray([brightness, contrast, saturation]), 0)
        grey = jnp.asarray(_TO_YIQ[0], jnp.float32)
        clip = jnp.clip(clip * factors[0], 0, 255)
        mean = jnp.mean(jnp.sum(clip * grey, -1))
        clip = jnp.clip(mean + (clip - mean) * factors[1], 0, 255)
        luma = jnp.sum(clip * grey, -1, keepdims=True)
        clip = jnp.clip(luma + (clip - luma) * factors[2], 0, 255)
        if not hue:
            return clip
        angle = draws[3] * hue * 2 * np.pi
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        turn = jnp.asarray([[1, 0, 0], [0, 0, 0], [0, 0, 0]], jnp.float32)
        turn = turn.at[1:, 1:].set(jnp.stack([jnp.stack([cosine, -sine]), jnp.stack([sine, cosine])]))
        matrix = jnp.asarray(np.linalg.inv(_TO_YIQ), jnp.float32) @ turn @ jnp.asarray(_TO_YIQ, jnp.float32)
        turned = jnp.einsum("ij,thwj->thwi", matrix, clip, precision=jax.lax.Precision.HIGHEST)
        return jnp.clip(turned, 0, 255)

    return jax.vmap(one)(keys, video)


def grayscale(keys: jax.Array, video: jax.Array, strength: float) -> jax.Array:
    """Makes a clip grey with probability `strength`, by NTSC's luma; shapes as in `colour_jitter`."""
    grey = jnp.sum(video * jnp.asarray(_TO_YIQ[0], jnp.float32), -1, keepdims=True)
    chosen = jax.vmap(lambda key: jax.random.bernoulli(key, strength))(keys)
    return jnp.where(chosen[:, None, None, None, None], grey, video)


AUGMENTATIONS: dict[str, Callable[[jax.Array, jax.Array, float], jax.Array]] = {"grayscale": grayscale}
