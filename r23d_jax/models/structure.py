"""Access to a network's weights by path, its stages and its batch normalisations."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, traverse_util

from r23d_jax.errors import UserError
from r23d_jax.models.layers import BatchNorm


def flatten(model: nnx.Module) -> dict[str, jax.Array]:
    """Returns parameters and batch statistics by path: `layer1.0.conv1.0.kernel`, `...scale/bias/mean/var`.

    For an abstract model (`nnx.eval_shape`), returns their shapes and dtypes.
    """
    return flat_values(nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat)))


def flat_values(state: nnx.State) -> dict[str, jax.Array]:
    """Returns the values of a state by dotted path."""
    flat = traverse_util.flatten_dict(nnx.to_pure_dict(state))
    return {dotted(path): flat[path] for path in sorted(flat)}


def dotted(path: tuple) -> str:
    """Returns a path of NNX, of names and numbers, as `flatten` writes it."""
    return ".".join(map(str, path))


def assign(model: nnx.Module, values: Mapping[str, Any]) -> None:
    """Sets all parameters and statistics of the model from `values`, with the keys of `flatten`.

    Raises:
      UserError: keys are missing or unknown, or shapes are wrong; the message lists all. Nothing is set then.
    """
    state = flatten(model)
    faults = [f"{key} is missing" for key in state.keys() - values.keys()]
    faults += [f"{key} is unknown" for key in values.keys() - state.keys()]
    faults += [
        f"{key} has shape {tuple(values[key].shape)}, not {tuple(state[key].shape)}"
        for key in state.keys() & values.keys()
        if tuple(values[key].shape) != tuple(state[key].shape)
    ]
    if faults:
        raise UserError(f"values do not fit the network: {'; '.join(sorted(faults))}")
    # NumPy's arrays are copied: JAX may share their memory, and would change with it.
    own = {key: value if isinstance(value, jax.Array) else np.array(value) for key, value in values.items()}
    variables = nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))
    new = {path: jnp.asarray(own[dotted(path)], variable.dtype) for path, variable in nnx.to_flat_state(variables)}
    nnx.update(model, nnx.State(traverse_util.unflatten_dict(new)))


def stage_names(model: nnx.Module) -> tuple[str, ...]:
    """Returns the top-level modules with parameters in order of depth (as constructed), the head last."""
    return tuple(
        name
        for name, value in vars(model).items()
        if isinstance(value, nnx.Module) and jax.tree.leaves(nnx.state(value, nnx.Param))
    )


def batch_norm_epsilon(model: nnx.Module) -> float:
    """Returns the epsilon of the model's batch normalisations, which all share it."""
    return next(module.epsilon for _, module in nnx.iter_graph(model) if isinstance(module, BatchNorm))


def freeze_batch_norm(model: nnx.Module) -> None:
    """Makes every BatchNorm use its running statistics in training too, without updating them."""
    model.set_attributes(BatchNorm, frozen=True)
