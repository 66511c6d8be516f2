"""The evaluation step: one pure function of (weights, batch)."""

from collections.abc import Callable

import jax

from r23d_jax.models.functional import Functional


def make_eval_step(
    network: Functional, transform: Callable[..., jax.Array]
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Builds `step(weights, batch) -> (logits float32 [B, classes], index int32 [B])`.

    `weights` are `TrainState.evaluated()`; `index` is the batch's own, -1 where a row is padding, so that
    whoever gathers the logits knows which view each one is of.
    """

    def step(weights, batch):
        video = transform(batch["frames"], batch["size"], batch["crop"])
        return network.eval(weights, weights, video), batch["index"]

    return step
