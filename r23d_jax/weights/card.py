"""The weights card: network, labels, preprocessing and origin of a set of weights.

Every checkpoint, trained or converted, has one as `card.json`, so that a checkpoint and a video are enough for a
prediction.
"""

import dataclasses
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np

from r23d_jax import models
from r23d_jax.data.sampling import LENGTHS, SAMPLINGS
from r23d_jax.errors import UserError
from r23d_jax.models.head import HeadSpec
from r23d_jax.runtime.files import read_json
from r23d_jax.transforms.spec import Preprocessing

FILE_NAME = "card.json"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Card:
    """Description of a set of weights.

    Attributes:
      arch: a name of `models.NAMES`.
      model: further arguments of `models.create`: num_classes, frames, in_channels, dropout, `head` if it is not the
        network's own, and the network's options (width and layers of a ResNet) if they differ from the published ones.
      labels: class names in the order of the logits; empty if the source has none.
      preprocessing: as in training; used for prediction and evaluation.
      bn_epsilon: epsilon of every batch normalisation.
      init: "scratch", or the source of the initial weights.
      source: origin of the weights; for converted ones `{"file", "sha256", "family"}`, for trained ones `{"dataset",
        "split", "fingerprint", "stored"}`.
      licence: the licence of the weights, "" if unknown.
      published: published scores, each `{"metric", "value", "protocol"}`.
      tensors_sha256: hash of all tensors, see `tree_sha256`.
      extra: values needed only for export (PyTorch's `num_batches_tracked`).
    """

    arch: str
    model: dict[str, Any]
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    bn_epsilon: float = 1e-5
    init: str = "scratch"
    source: dict[str, Any] = dataclasses.field(default_factory=dict)
    licence: str = ""
    published: tuple[dict[str, Any], ...] = ()
    tensors_sha256: str = ""
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Card":
        fields = dict(fields)
        found = fields.pop("format", None)
        if found != FORMAT:
            raise UserError(f"weights card of format {found}: this version reads format {FORMAT}")
        known = {field.name for field in dataclasses.fields(cls)}
        if set(fields) - known:
            raise UserError(f"weights card with unknown keys {sorted(set(fields) - known)}")
        fields["preprocessing"] = Preprocessing.from_dict(fields["preprocessing"])
        fields["labels"], fields["published"] = tuple(fields["labels"]), tuple(fields["published"])
        card = cls(**fields)
        _check(card)
        return card


_SIDES = range(1, 1 << 14)  # pixels or frames; larger values in an edited card would exhaust the memory
_ARGUMENTS = {
    "num_classes": lambda value: _whole(range(1, 1 << 20), value),
    "frames": lambda value: _whole(_SIDES, value),
    "in_channels": lambda value: _whole(_SIDES, value),
    "dropout": lambda value: _number(value) and 0 <= value < 1,
    "bn_epsilon": lambda value: value is None or _positive(value),
    "head": lambda value: value is None or bool(HeadSpec.from_dict(value)),  # raises and says what is wrong
}


def _check(card: Card) -> None:
    """Checks every field, since cards come from outside and are used long after they are read.

    Raises:
      ValueError: a value is of the wrong type or out of range; the message names it.
      UserError: there is no such network, or no such head.
    """
    spec, model = card.preprocessing, card.model
    stored = card.source.get("stored") if isinstance(card.source, dict) else None
    texts = (card.arch, card.init, card.licence, card.tensors_sha256, *card.labels)
    wrong = {
        "arch, init, licence, tensors_sha256 and labels": not all(isinstance(text, str) for text in texts),
        "source, extra, model and published": not all(
            isinstance(value, dict) for value in (card.source, card.extra, model, *card.published)
        ),
        "resize": spec.resize is not None and not _size(spec.resize),
        "source.stored": stored not in (None, "native") and not _size(stored),
        "crop": spec.crop is not None and not _whole(_SIDES, spec.crop),
        "frames": not _whole(range(1 << 14), spec.frames),
        "stride and max_frames": not _whole(_SIDES, spec.stride, spec.max_frames)
        or (spec.sampling == "fitted" and spec.max_frames < LENGTHS[0]),
        "fps": spec.fps is not None and not _positive(spec.fps, below=1e4),
        "mean": not all(_number(value) and abs(value) < 1e6 for value in spec.mean),
        "std": not (spec.std and len(spec.std) == len(spec.mean) and _positive(*spec.std)),
        "sampling": spec.sampling not in (SAMPLINGS if spec.frames else ("dense", "fitted")),
        "crop and resize": _whole(_SIDES, spec.crop) and _size(spec.resize) and spec.crop > spec.short_side,
        "channels": spec.channels not in ("rgb", "flow"),
        "flow": not isinstance(spec.flow, str if spec.channels == "flow" else type(None)),
        "bn_epsilon": not _positive(card.bn_epsilon),
    }
    if isinstance(model, dict) and isinstance(card.arch, str):
        architecture = models.get(card.arch)
        wrong |= {f"model.{key}": not _is_argument(architecture, key, value) for key, value in model.items()}
        wrong.setdefault("model.num_classes", True)  # missing
        wrong["labels"] = bool(card.labels) and model.get("num_classes", len(card.labels)) != len(card.labels)
        wrong["mean and std"] = model.get("in_channels", len(spec.mean)) != len(spec.mean)
    found = [name for name, is_wrong in wrong.items() if is_wrong]
    if found:
        raise ValueError(f"{found[0]} cannot be what it says")


def _is_argument(architecture: models.Architecture, key: str, value: Any) -> bool:
    """Returns whether `models.create` takes this argument for this network."""
    if key in _ARGUMENTS:
        return _ARGUMENTS[key](value)
    if key not in architecture.options:  # every config has these keys, with defaults that have no effect
        return value is None or (key, value) == ("width", 64)
    return value is None or architecture.options[key].check(value)


def _size(value: Any) -> bool:
    """Returns whether the value is a short side, or height and width."""
    return len(value) == 2 and _whole(_SIDES, *value) if isinstance(value, list | tuple) else _whole(_SIDES, value)


def _whole(allowed: range, *values: Any) -> bool:
    return all(type(value) is int and value in allowed for value in values)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _positive(*values: Any, below: float = 1e6) -> bool:
    return all(_number(value) and 0 < value < below for value in values)


def read_card(folder: Path) -> Card:
    """Reads `folder/card.json`.

    Raises:
      UserError: the file is missing, damaged or no card.
    """
    path = Path(folder) / FILE_NAME
    try:
        return Card.from_dict(read_json(path))
    except FileNotFoundError:
        raise UserError(f"{folder}: no {FILE_NAME} in it, so it is not a checkpoint of r23d_jax") from None
    except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a readable weights card ({error})") from None


def tree_sha256(flat: dict[str, np.ndarray]) -> str:
    """Returns a hash over names, shapes, dtypes and bytes of tensors, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(flat):
        value = np.ascontiguousarray(flat[name])
        digest.update(f"{name}|{value.dtype.str}|{value.shape}|".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
