"""Losses by name; each returns one number per clip."""

import functools
from collections.abc import Callable

import jax
import optax
from ml_collections import ConfigDict

from r23d_jax.errors import UserError

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns float32 [B]: the cross entropy of the softmax with each clip's target distribution.

    Args:
      logits: float32 [B, C].
      targets: float32 [B, C], rows that sum to 1: one-hot, mixed or smoothed.
    """
    return optax.softmax_cross_entropy(logits, targets)


# Values of `config.loss`.
LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy}


def create(config: ConfigDict) -> Loss:
    """Returns the loss that the config names, with label smoothing (Szegedy et al. 2016) if it sets any.

    Raises:
      UserError: there is no loss of that name.
    """
    if config.loss not in LOSSES:
        raise UserError(f"config.loss={config.loss!r}: must be one of {', '.join(LOSSES)}")
    loss = LOSSES[config.loss]
    return functools.partial(_smoothed, loss, config.label_smoothing) if config.label_smoothing else loss


def _smoothed(loss: Loss, share: float, logits: jax.Array, targets: jax.Array) -> jax.Array:
    return loss(logits, optax.smooth_labels(targets, share))
