"""Loads weights from any source: a file, a published name, a checkpoint folder or a workdir."""

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from flax import nnx

from r23d_jax import models
from r23d_jax.errors import UserError
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights import architecture, checkpoint, importing, registry, repository, sources
from r23d_jax.weights.card import FILE_NAME, Card, read_card, tree_sha256


def load(
    source: str | Path,
    arch: str | None = None,
    labels: str | Path | Sequence[str] | None = None,
    *,
    in_channels: int | None = None,
    which: str = "best",
    key: str | None = None,
) -> tuple[nnx.Module, Card]:
    """Loads a network with weights, in evaluation mode.

    Args:
      source: a published name, a weights file of another project, a TensorFlow prefix or folder, a checkpoint folder
        or workdir, `hf://OWNER/REPO[/FILE][@REVISION]`, or an http(s) address.
      arch: a name of `models.NAMES`, by default recognised; see `importing.convert`.
      labels: class names in the order of the logits, or a file with one per line.
      in_channels: number of input channels if not the source's 3.
      which: "best" or "last" checkpoint of a workdir.
      key: which state dict of a PyTorch file with several.

    Returns:
      The network, and its card.

    Raises:
      UserError: the source is missing, damaged, or does not fit.
    """
    values, card = load_flat(source, arch, labels, in_channels=in_channels, which=which, key=key)
    return build(card, values), card


def load_flat(
    source: str | Path | sources.Located,
    arch: str | None = None,
    labels: str | Path | Sequence[str] | None = None,
    *,
    in_channels: int | None = None,
    which: str = "best",
    key: str | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[dict[str, np.ndarray], Card]:
    """Does the same as `load`, but returns the weights by path instead of a network.

    `say` is called with a line for everything that was done to weights of another project; without it only what was
    assumed of them is printed, to stderr.
    """
    names = importing.read_labels(labels) if isinstance(labels, str | Path) else labels
    located = sources.locate(source)
    if is_ours(located.path):
        values, card = checkpoint.load_weights(checkpoint.find(located.path, which))
    elif repository.is_repository(located.path):
        values, card = repository.read(located.path)
    else:
        imported = importing.convert(located, arch, names, in_channels, key)
        for note in imported.assumed if say is None else imported.notes:
            _note(f"{located.name}: {note}") if say is None else say(note)
        return imported.values, dataclasses.replace(imported.card, tensors_sha256=tree_sha256(imported.values))
    if arch is not None and models.canonical(arch) != models.canonical(card.arch):
        raise UserError(f"{located.name}: a checkpoint of {card.arch}, not of {arch}: set arch to {card.arch}")
    if names is not None and tuple(names) != card.labels:
        raise UserError(f"{located.name}: a checkpoint with its own {len(card.labels)} labels; leave out the others")
    channels = len(card.preprocessing.mean)
    if in_channels not in (None, channels):
        raise UserError(f"{located.name}: a checkpoint for {channels} input channels, not {in_channels}")
    return values, card


def preprocessing_of(source: str | Path, arch: str | None = None) -> Preprocessing:
    """Returns the preprocessing of weights: of a published name without fetching it, of others by their card.

    Raises as `load`.
    """
    if str(source) in registry.published() and not Path(source).exists():
        return registry.get(str(source)).preprocessing
    located = sources.locate(source)
    if is_ours(located.path):
        return read_card(checkpoint.find(located.path)).preprocessing
    return load_flat(located, arch, say=lambda note: None)[1].preprocessing


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def build(card: Card, values: Mapping[str, np.ndarray]) -> nnx.Module:
    """Returns the network of a card with these weights, in evaluation mode."""
    model = nnx.eval_shape(lambda: models.from_card(card))
    architecture.check(card.arch, model, values)
    return architecture.fill(model, values)


def is_ours(source: str | Path) -> bool:
    """Returns whether a path is a checkpoint folder or a workdir of this project."""
    path = Path(source)
    return path.is_dir() and ((path / FILE_NAME).is_file() or (path / "checkpoints").is_dir())
