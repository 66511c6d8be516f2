"""Converts a run's state to and from the flat dicts of arrays that a checkpoint stores."""

from typing import Any

import jax
import numpy as np

from r23d_jax.training.step import TrainState


def flat_rest(state: TrainState) -> dict[str, Any]:
    """Returns the state without the evaluated weights, which are stored separately."""
    leaves = jax.tree_util.tree_leaves_with_path(state.opt_state)
    rest = {f"opt_state{jax.tree_util.keystr(path)}": leaf for path, leaf in leaves}
    if state.ema:
        rest |= {f"raw.{name}": value for name, value in {**state.params, **state.stats}.items()}
    rest |= {f"loss_scale.{name}": value for name, value in state.loss_scale.items()}
    return {**rest, "step": state.step, "key": state.key}


def flat(state: TrainState) -> dict[str, Any]:
    """Returns the whole state."""
    return {**state.evaluated(), **flat_rest(state)}


def restore(like: TrainState, weights: dict[str, np.ndarray], rest: dict[str, np.ndarray]) -> TrainState:
    """Returns the state of these evaluated weights and this `flat_rest`, with the structure of `like`."""
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
        loss_scale={name: rest[f"loss_scale.{name}"] for name in like.loss_scale},
    )
