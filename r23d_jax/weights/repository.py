"""The form in which weights are published: `model.safetensors`, their card as `config.json`, and `README.md`.

The tensors have our own names and layouts, as in a checkpoint; `r23d convert` writes those of PyTorch.
"""

import dataclasses
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from r23d_jax.errors import UserError
from r23d_jax.runtime.addresses import is_address, public_name
from r23d_jax.runtime.files import read_json, sync, write_json, write_text
from r23d_jax.weights import card as cards
from r23d_jax.weights import readers
from r23d_jax.weights.card import Card

CONFIG, TENSORS, README = "config.json", "model.safetensors", "README.md"
# Other projects name their description config.json too; none has all of these keys.
_OURS = {"format", "arch", "model", "labels", "preprocessing", "tensors_sha256"}
# From the root, a home or a drive, or through a parent: the path of one machine. An address (`https://`) is none.
_LOCAL_PATH = re.compile(r"(?<![\w:/.~-])(?:file:|~|\.{1,2}|[A-Za-z]:(?=[/\\][^/]))?[/\\][^\s,;:\"']+")


def is_repository(folder: Path) -> bool:
    """Returns whether a folder has the weights and card of a published repository of ours."""
    return (Path(folder) / TENSORS).is_file() and is_card(Path(folder) / CONFIG)


def is_card(path: Path) -> bool:
    """Returns whether a `config.json` is a weights card, of this version or another."""
    try:
        fields = read_json(path)
    except (OSError, ValueError):
        return False
    return isinstance(fields, dict) and fields.keys() >= _OURS


def read(folder: Path) -> tuple[dict[str, np.ndarray], Card]:
    """Reads weights and card, and verifies that they belong together.

    Raises:
      UserError: a file is missing or damaged, or the tensors are not the card's.
    """
    path = Path(folder) / CONFIG
    try:
        card = Card.from_dict(read_json(path))
    except FileNotFoundError:
        raise UserError(f"{folder}: no {CONFIG} in it, so it is no repository of r23d_jax") from None
    except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a readable weights card ({error}); fetch or push it again") from None
    values = readers.read_tensors(Path(folder) / TENSORS).tensors
    if cards.tree_sha256(values) != card.tensors_sha256:
        raise UserError(
            f"{Path(folder) / TENSORS}: not the tensors that {CONFIG} was written for (tensors_sha256 "
            f"{card.tensors_sha256[:12]!r}); fetch or push both again"
        )
    return values, card


def write(folder: Path, values: Mapping[str, np.ndarray], card: Card, readme: str) -> Path:
    """Writes the three files under another name, then renames.

    Args:
      folder: must not exist yet, or be empty.
      values: flat `{name: array}` of parameters and running statistics.
      card: written with its `tensors_sha256` filled in.
      readme: Markdown.

    Raises:
      UserError: there is something at `folder`.
    """
    from safetensors.numpy import save_file

    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists already; name a folder that does not, or remove it first")
    writing = folder.parent / f".writing-{folder.name}"
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir(parents=True)
    try:
        # safetensors writes the memory as it lies, whatever the strides.
        arrays = {name: np.asarray(value, order="C") for name, value in values.items()}
        save_file(arrays, writing / TENSORS, metadata={"format": "r23d_jax"})
        write_json(writing / CONFIG, {**card.to_dict(), "tensors_sha256": cards.tree_sha256(arrays)})
        write_text(writing / README, readme)
        shutil.copymode(writing / CONFIG, writing / TENSORS)  # which safetensors makes the owner's alone
        sync(writing)
        if folder.exists():
            folder.rmdir()  # fails unless it is empty
        os.replace(writing, folder)
    finally:
        shutil.rmtree(writing, ignore_errors=True)
    return folder


def public(card: Card, licence: str | None = None) -> Card:
    """Returns the card without paths of this machine, which are reduced to the names of files.

    Args:
      card: of a checkpoint.
      licence: of the weights, by default the card's.
    """
    return dataclasses.replace(
        card,
        init=public_origin(card.init),
        source=public_values({**card.source, **{k: _base(card.source[k]) for k in ("file",) if k in card.source}}),
        published=tuple(public_values(score) for score in card.published),
        licence=card.licence if licence is None else licence,
    )


def public_origin(init: str) -> str:
    """Returns `config.init_from` or the `init` of a card without a local path; addresses and names stay."""
    if is_address(init):  # with a password or a key, perhaps
        return public_name(init)
    said = init if init.startswith("hf://") else public_values(init)
    return said if said.startswith("hf://") or not re.search(r"[/\\]", said) else _base(said)


def public_values(value: Any) -> Any:
    """Returns the value of a JSON file with the local paths in its texts reduced to the names of files."""
    if isinstance(value, str):
        whole = _LOCAL_PATH.match(value)  # to its end: a path may have spaces in it
        return _base(value) if whole else _LOCAL_PATH.sub(lambda found: _base(found[0]), value)
    if isinstance(value, dict):
        return {name: public_values(inner) for name, inner in value.items()}
    return [public_values(inner) for inner in value] if isinstance(value, list | tuple) else value


def _base(path: Any) -> Any:
    if not isinstance(path, str):
        return path
    return PureWindowsPath(path).name if "\\" in path else PurePosixPath(path).name
