"""Recognises a network by the shapes of its tensors, and loads tensors into a network."""

from collections.abc import Mapping, Sequence

import numpy as np
from flax import nnx

from r23d_jax import models
from r23d_jax.errors import UserError
from r23d_jax.models.registry import Shapes
from r23d_jax.models.structure import dotted, flat_values


def recognise(shapes: Shapes, candidates: Sequence[str], origin: str) -> str:
    """Returns the candidate with tensors of these shapes, in its published size or, for a single candidate, in any.

    Raises:
      UserError: no or several candidates fit; the message says what to do.
    """
    if len(candidates) == 1:
        return candidates[0]
    entries = [models.get(name) for name in candidates]
    matching = [entry for entry in entries if entry.fits(shapes, any_size=False)]
    # For clips of three frames R2D has the shapes of MC2, which is preferred; R2D has to be named.
    matching = [entry for entry in matching if not entry.fixed_frames] or matching
    if len(matching) == 1:
        return matching[0].name
    if matching:
        names = " or ".join(entry.name for entry in matching)
        raise UserError(f"{origin}: ambiguous, could be {names}: name it with --arch")
    raise UserError(
        f"{origin}: no known network: {entries[0].describe(shapes)}; --arch NAME takes it for a network of another "
        "depth or width"
    )


def options(arch: str, shapes: Shapes) -> dict[str, object]:
    """Returns the arguments of `models.create` that follow from these shapes.

    They are `num_classes` (0 without a head), `in_channels`, `frames` if fixed, and those options of the network that
    differ from the published one.
    """
    architecture = models.get(arch)
    kernel = shapes.get(architecture.first_kernel)
    if kernel is None or len(kernel) != 5:
        raise UserError("incomplete: the first convolution is missing")
    head = shapes.get("fc.bias") or shapes.get("fc.kernel") or (0,)
    return {"num_classes": head[-1], "in_channels": kernel[3], **(architecture.size(shapes) or {})}


def abstract(arch: str, arguments: Mapping[str, object]) -> nnx.Module:
    """Returns the network without values: every leaf is a `jax.ShapeDtypeStruct`."""
    return nnx.eval_shape(lambda: models.create(arch, rngs=nnx.Rngs(0), **arguments))


def check(arch: str, model: nnx.Module, values: Mapping[str, np.ndarray]) -> None:
    """Raises a `UserError` unless `values` have exactly the paths and shapes of an abstract network."""
    wanted = models.flatten(model)
    wrong = [f"{path} is missing" for path in wanted if path not in values]
    wrong += [f"{path} has no place in the network" for path in values if path not in wanted]
    wrong += [
        f"{path} has shape {list(values[path].shape)}, not {list(leaf.shape)}"
        for path, leaf in wanted.items()
        if path in values and values[path].shape != leaf.shape
    ]
    if wrong:
        raise UserError(f"checkpoint of {arch}: {'; '.join(wrong[:6])}")


def fill(model: nnx.Module, values: Mapping[str, object]) -> nnx.Module:
    """Returns an abstract network with these values, in evaluation mode; streams of random numbers begin at key 0."""
    import jax
    import jax.numpy as jnp

    graph, state = nnx.split(model)
    leaves = flat_values(state)

    def value_of(name):
        if name in values:
            return jnp.asarray(values[name])
        is_key = jnp.issubdtype(leaves[name].dtype, jax.dtypes.prng_key)
        return jax.random.key(0) if is_key else jnp.zeros(leaves[name].shape, leaves[name].dtype)

    filled = [(path, variable.replace(value_of(dotted(path)))) for path, variable in nnx.to_flat_state(state)]
    model = nnx.merge(graph, nnx.from_flat_state(filled))
    model.eval()
    return model
