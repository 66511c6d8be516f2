"""The evaluation step: a pure function of (weights, batch)."""

from collections.abc import Callable

import jax

from r23d_jax.models.functional import Functional


def make_eval_step(
    network: Functional, transform: Callable[..., jax.Array]
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Returns `step(weights, batch) -> (logits float32 [B, classes], index int32 [B])`.

    `weights` are `TrainState.evaluated()`; `index` is the batch's, the view of each row or -1 for padding.
    """

    def step(weights, batch):
        video = transform(batch["frames"], batch["size"], batch["crop"])
        return network.eval(weights, weights, video), batch["index"]

    return step
