"""A run's state as flat dicts of arrays, which is how a checkpoint holds it, and back."""

from typing import Any

import jax
import numpy as np

from r23d_jax.training.step import TrainState


def flat_rest(state: TrainState) -> dict[str, Any]:
    """What the weights that are evaluated do not already say of the state."""
    leaves = jax.tree_util.tree_leaves_with_path(state.opt_state)
    rest = {f"opt_state{jax.tree_util.keystr(path)}": leaf for path, leaf in leaves}
    if state.ema:
        rest |= {f"raw.{name}": value for name, value in {**state.params, **state.stats}.items()}
    return {**rest, "step": state.step, "key": state.key}


def flat(state: TrainState) -> dict[str, Any]:
    """All of it."""
    return {**state.evaluated(), **flat_rest(state)}


def restore(like: TrainState, weights: dict[str, np.ndarray], rest: dict[str, np.ndarray]) -> TrainState:
    """The state whose evaluated weights and `flat_rest` these are; `like` gives its structure."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(like.opt_state)
    names = [f"opt_state{jax.tree_util.keystr(path)}" for path, _ in leaves]
    now = {name: rest[f"raw.{name}"] for name in weights} if like.ema else weights
    return TrainState(
        step=rest["step"],
        key=rest["key"],
        params={name: now[name] for name in like.params},
        stats={name: now[name] for name in like.stats},
        opt_state=jax.tree_util.tree_unflatten(structure, [rest[name] for name in names]),
        ema=weights if like.ema else {},
    )
