"""Exports weights under the PyTorch names of the network's family."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from r23d_jax import models
from r23d_jax.errors import UserError
from r23d_jax.weights import adapt, families, torch_files
from r23d_jax.weights.card import Card

ENDINGS = (".pth", ".pt", ".safetensors")


def to_state_dict(values: Mapping[str, np.ndarray], card: Card) -> tuple[dict[str, np.ndarray], list[str]]:
    """Converts weights to a PyTorch state dict, including BatchNorm's counters.

    Args:
      values: path -> array, as from `structure.flatten`.
      card: of these weights.

    Returns:
      The state dict as contiguous arrays, and notes for the user.

    Raises:
      UserError: tensors have no name in the family, which are listed, or the family's network has no such head.
    """
    family = families.writer(models.canonical(card.arch))
    table, project, usual = family.table(values), family.naming.project, family.naming.epsilon
    if card.model.get("head"):
        raise UserError(
            f"{card.arch}: cannot be written with the names of {project}, whose network classifies the average of its "
            f"last map, and this one has a {card.model['head'].get('kind', 'linear')} head on "
            f"{', '.join(card.model['head']['stages'])}; `r23d push` and `r23d export` write all of it"
        )
    dtypes = card.extra.get("dtypes", {})
    stored = {path: _as(value, dtypes[path]) if path in dtypes else value for path, value in values.items()}
    state, errors = table.export(stored)
    adapt.raise_all(card.arch, f"cannot be written with the names of {project}", errors)
    state = {name: np.ascontiguousarray(value) for name, value in state.items()}
    counters = card.extra.get("num_batches_tracked")
    if counters is None:  # weights trained here; PyTorch's modules require the counters but do not use them
        counters = {path.removesuffix(".mean"): 0 for path in values if path.endswith(".mean")}
    for path, count in counters.items():
        name = table.to_source(f"{path}.mean")[0].removesuffix(".running_mean")
        state[f"{name}.num_batches_tracked"] = np.asarray(count, np.int64)
    notes = [f"{len(state)} tensors with the names of {project}"]
    if card.bn_epsilon != usual:
        notes.append(
            f"these weights need epsilon {card.bn_epsilon:g} in every BatchNorm; PyTorch's default is {usual:g}"
        )
    return state, notes


def write(state: Mapping[str, np.ndarray], dest: Path) -> None:
    """Writes a `.pth`, `.pt` or `.safetensors` atomically.

    Raises:
      UserError: another ending, or the file exists.
    """
    dest = Path(dest)
    if dest.suffix not in ENDINGS:
        raise UserError(f"{dest}: weights are written as {', '.join(ENDINGS)}")
    if dest.exists():
        raise UserError(f"{dest}: exists already; remove it first or name another file")
    dest.parent.mkdir(parents=True, exist_ok=True)
    temporary = dest.with_name(f".writing-{dest.name}")
    try:
        if dest.suffix == ".safetensors":
            from safetensors.numpy import save_file

            save_file(dict(state), temporary, metadata={"format": "pt"})
        else:
            torch_files.write(temporary, state)
        os.replace(temporary, dest)
    finally:
        temporary.unlink(missing_ok=True)


def _as(value: np.ndarray, dtype: str) -> np.ndarray:
    import ml_dtypes

    return value.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
