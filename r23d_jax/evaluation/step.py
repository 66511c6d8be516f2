"""The evaluation step: a pure function of (weights, batch)."""

from collections.abc import Callable

import jax
from jax.sharding import Mesh

from r23d_jax.models.functional import Functional
from r23d_jax.models.ops import hardware
from r23d_jax.runtime.mesh import replicated
from r23d_jax.transforms import clip as clip_transforms
from r23d_jax.transforms.spec import Preprocessing


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


def jitted_eval_step(
    network: Functional, spec: Preprocessing, crops: int, dtype: str, mesh: Mesh
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Returns the step of `make_eval_step` with `eval_transform(spec, crops, dtype)`, jitted for a mesh."""
    transform = clip_transforms.eval_transform(spec, crops, dtype, hardware.policy().whole_pixels)
    return jax.jit(
        make_eval_step(network, transform),
        out_shardings=replicated(mesh),
        compiler_options=hardware.compiler_options(dtype),
    )
