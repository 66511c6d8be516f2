"""Losses by name: what training minimises, one number a clip."""

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


# A loss is a function like `cross_entropy`; its name here is what `config.loss` may be.
LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy}


def create(config: ConfigDict) -> Loss:
    """Returns the loss `config.loss`, on targets smoothed by `config.label_smoothing` (Szegedy et al. 2016).

    Raises:
      UserError: there is no such loss.
    """
    if config.loss not in LOSSES:
        raise UserError(f"config.loss={config.loss!r}: must be one of {', '.join(LOSSES)}")
    loss = LOSSES[config.loss]
    return functools.partial(_smoothed, loss, config.label_smoothing) if config.label_smoothing else loss


def _smoothed(loss: Loss, share: float, logits: jax.Array, targets: jax.Array) -> jax.Array:
    return loss(logits, optax.smooth_labels(targets, share))
