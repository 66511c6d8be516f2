"""Which network a set of tensors is, by their shapes; and tensors put into a network."""

from collections.abc import Mapping, Sequence

import numpy as np
from flax import nnx

from r23d_jax import models
from r23d_jax.errors import UserError
from r23d_jax.models.registry import Shapes


def recognise(shapes: Shapes, candidates: Sequence[str], origin: str) -> str:
    """The one network among the candidates that has these shapes in its published size; a single one in any size.

    Raises:
      UserError: none or several; the message says what to do.
    """
    if len(candidates) == 1:
        return candidates[0]
    entries = [models.get(name) for name in candidates]
    matching = [entry for entry in entries if entry.fits(shapes, any_size=False)]
    # A kernel over the whole clip may as well be one of three frames (MC2's): R2D has to be asked for by name then.
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
    """The arguments of `models.create` that these shapes tell: classes, channels, and what is not the usual.

    Keys `num_classes` (0 without a head) and `in_channels` always, `frames` where they are fixed, and the network's
    own options where they differ from the published network's.
    """
    architecture = models.get(arch)
    kernel = shapes.get(architecture.first_kernel)
    if kernel is None or len(kernel) != 5:
        raise UserError("incomplete: the first convolution is missing")
    head = shapes.get("fc.bias") or shapes.get("fc.kernel") or (0,)
    return {"num_classes": head[-1], "in_channels": kernel[3], **(architecture.size(shapes) or {})}


def abstract(arch: str, arguments: Mapping[str, object]) -> nnx.Module:
    """The network without values: every leaf is a `jax.ShapeDtypeStruct`. No time, no memory."""
    return nnx.eval_shape(lambda: models.create(arch, rngs=nnx.Rngs(0), **arguments))


def check(arch: str, model: nnx.Module, values: Mapping[str, np.ndarray]) -> None:
    """Raises a `UserError` unless `values` are all of an abstract network's leaves, in their shapes."""
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
    """An abstract network with these values, in evaluation mode."""
    import jax.numpy as jnp

    graph, state = nnx.split(model)
    filled = [
        (path, variable.replace(jnp.asarray(values[".".join(map(str, path))])))
        for path, variable in nnx.to_flat_state(state)
    ]
    model = nnx.merge(graph, nnx.from_flat_state(filled))
    model.eval()
    return model
