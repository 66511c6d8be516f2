"""Dynamic loss scaling for float16 (Micikevicius et al. 2018, "Mixed Precision Training", section 3.2).

float16 rounds gradients below 3e-8 to zero. So the loss is multiplied by a scale before differentiation, and the
gradients of the parameters, which are float32, are divided by it. If they are not finite the step is skipped and the
scale halved; after many finite steps it is doubled. A scale is a power of two, so that neither operation rounds.

The state is `{"scale": float32 [], "finite": int32 [] (finite steps since the last change), "skipped": int32 []}`. It
is empty if nothing is scaled, and then every function here does nothing. `flax.training.dynamic_scale` computes the
gradients itself, each with a check and a change of scale, which leaves no place for accumulation.
"""

from typing import Any

import jax
import jax.numpy as jnp

LossScale = dict[str, jax.Array]

# As in PyTorch's GradScaler, which has no largest scale; NVIDIA's Apex has this one. Without one a loss of exactly zero
# raises the scale to infinity, from where it does not come back.
INITIAL, LARGEST = 2.0**16, 2.0**24
INTERVAL = 2000  # finite steps until the scale is doubled


def initial() -> LossScale:
    """Returns the state before the first step."""
    return {"scale": jnp.float32(INITIAL), "finite": jnp.int32(0), "skipped": jnp.int32(0)}


def scaled(loss: jax.Array, state: LossScale) -> jax.Array:
    """Multiplies the loss by the scale."""
    return loss * state["scale"] if state else loss


def unscaled(tree: Any, state: LossScale) -> Any:
    """Divides a tree of float32 arrays by the scale."""
    return jax.tree.map(lambda x: x / state["scale"], tree) if state else tree


def is_finite(tree: Any) -> jax.Array:
    """Returns bool [], whether all numbers of a tree are finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))


def updated(state: LossScale, finite: jax.Array) -> LossScale:
    """Returns the state after a step whose gradients were finite or not."""
    scale, count = state["scale"], state["finite"] + 1
    grows = finite & (count >= INTERVAL)
    larger = jnp.where(grows, jnp.minimum(2 * scale, LARGEST), scale)
    return {
        "scale": jnp.where(finite, larger, scale / 2),
        "finite": jnp.where(grows | ~finite, 0, count),
        "skipped": state["skipped"] + jnp.where(finite, 0, 1),
    }
