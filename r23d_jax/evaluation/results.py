"""Reads and checks `results.json`."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r23d_jax.errors import UserError, one_line
from r23d_jax.runtime.files import read_json

SCORES = ("top1", "top5", "mean_class", "clip_top1", "top1_logit_mean")
_TEXTS = (
    "dataset",
    "input",
    "split",
    "part",
    "protocol",
    "arch",
    "init",
    "commit",
    "dataset_fingerprint",
    "stream",
    "from",
)
_COUNTS = ("videos_expected", "videos_evaluated", "step", "width", "seed")
_PARTS = {"streams": "stream", "splits": "split"}  # keys of lists -> key that every item needs
_NEEDED = ("top1", "videos_expected", "videos_evaluated")


def score_names(parts: Sequence[dict[str, Any]]) -> list[str]:
    """Returns the keys of scores that all of several results have: every fraction in them is one."""
    return [name for name, value in parts[0].items() if all(type(part.get(name)) is float for part in parts)]


def read_results(path: Path, needed: Sequence[str] = _NEEDED) -> dict[str, Any]:
    """Returns the file's content.

    Args:
      path: of the file.
      needed: keys that must be there; the values of all known keys are checked.

    Raises:
      UserError: the file is unreadable, or a key is missing or has an impossible value.
    """
    try:
        found = read_json(path)
        _check(found, needed)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: not readable as results ({one_line(error)}); evaluate again") from None
    return found


def _check(found: Any, needed: Sequence[str], inside: str = "") -> None:
    if not isinstance(found, dict):
        raise TypeError(f"{inside or 'it'} is {type(found).__name__}, not an object")
    missing = [key for key in needed if key not in found]
    if missing:
        raise ValueError(f"no key {inside}{missing[0]}")
    for key, value in found.items():
        if key in _TEXTS:
            fits = isinstance(value, str)
        elif key in _COUNTS:
            fits = type(value) is int and value >= 0
        elif key in SCORES or isinstance(value, float):
            fits = type(value) in (int, float) and 0 <= value <= 1
        elif key == "aggregates":
            fits = isinstance(value, dict)
            for name, scores in value.items() if fits else ():
                _check(scores, ["top1"], f"{key}.{name}.")
        elif key == "spread":
            fits = isinstance(value, dict) and all(type(x) in (int, float) and math.isfinite(x) for x in value.values())
        elif key in _PARTS:
            fits = isinstance(value, list)
            for part in value if fits else ():
                _check(part, [_PARTS[key]], f"{key}.")
        else:
            fits = True
        if not fits:
            raise ValueError(f"{inside}{key}={value!r:.80}")
