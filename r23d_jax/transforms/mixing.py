"""Mixup and CutMix: blend clips and targets with those of the batch's next row."""

import jax
import jax.numpy as jnp


def mix(
    key: jax.Array, video: jax.Array, targets: jax.Array, mixup: float, cutmix: float
) -> tuple[jax.Array, jax.Array]:
    """Blends every clip with its neighbour in the batch.

    Mixup (Zhang et al. 2018) blends all pixels by a share drawn from Beta(mixup, mixup). CutMix (Yun et al. 2019)
    replaces a rectangle, the same in every frame, whose share of the frame is drawn from Beta(cutmix, cutmix) and
    whose centre is uniform over the frame; it is clipped to the frame, and the target's share corrected. With both
    on, one is chosen per batch with equal probability. Shares are drawn per row.

    Args:
      key: of the batch.
      video: float [B, T, H, W, C].
      targets: float32 [B, classes].
      mixup, cutmix: alphas; one of them may be 0, for off.

    Returns:
      The mixed clips and targets.
    """
    coin_key, share_key, place_key = jax.random.split(key, 3)
    batch, _, height, width, _ = video.shape
    if mixup and cutmix:
        cut = jax.random.bernoulli(coin_key)
        alpha = jnp.where(cut, cutmix, mixup)
    else:
        cut, alpha = jnp.asarray(bool(cutmix)), jnp.float32(cutmix or mixup)
    rows = jnp.arange(batch)  # a key per row, so that draws do not depend on the number of devices
    draws = jax.vmap(lambda row: jax.random.beta(jax.random.fold_in(share_key, row), alpha, alpha))(rows)
    places = jax.vmap(lambda row: jax.random.uniform(jax.random.fold_in(place_key, row), (2,)))(rows)

    sides = jnp.sqrt(1 - draws)[:, None] * jnp.asarray([height, width], jnp.float32)
    centres = places * jnp.asarray([height, width], jnp.float32)
    low, high = (jnp.round(centres + sign * sides / 2)[:, :, None] for sign in (-1, 1))
    y, x = jnp.arange(height), jnp.arange(width)
    inside_y = (y >= low[:, 0]) & (y < high[:, 0])
    inside_x = (x >= low[:, 1]) & (x < high[:, 1])
    kept = 1.0 - (inside_y[:, :, None] & inside_x[:, None, :])  # [B, H, W]

    share = jnp.where(cut, kept.mean((1, 2)), draws)
    mask = jnp.where(cut, kept, draws[:, None, None])[:, None, :, :, None]
    video = video * mask + jnp.roll(video, -1, axis=0) * (1 - mask)
    targets = targets * share[:, None] + jnp.roll(targets, -1, axis=0) * (1 - share[:, None])
    return video, targets
