"""Fits tensors to a network: completeness, inflation from 2D, transplants from 3D to 2D, other input channels."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from r23d_jax.errors import UserError

if TYPE_CHECKING:
    from r23d_jax.weights.card import Card

Tensors = Mapping[str, np.ndarray]
_SHOWN, _SHOWN_ERRORS = 6, 12


@dataclasses.dataclass
class Report:
    """What happened to every tensor, for the user and for the card.

    Attributes:
      loaded: leaves taken unchanged.
      inflated: kernels repeated over time and divided by their length.
      summed: kernels summed over time.
      channels: the kernel whose input channels were averaged, if any.
      implied: leaves set to a constant, because the source's network has no such tensor.
      fresh: newly initialised leaves.
      unused: names in the source that were ignored on purpose, by reason.
      widened: leaves that were stored in half precision.
    """

    loaded: list[str] = dataclasses.field(default_factory=list)
    inflated: list[str] = dataclasses.field(default_factory=list)
    summed: list[str] = dataclasses.field(default_factory=list)
    channels: list[str] = dataclasses.field(default_factory=list)
    implied: list[str] = dataclasses.field(default_factory=list)
    fresh: list[str] = dataclasses.field(default_factory=list)
    unused: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    widened: list[str] = dataclasses.field(default_factory=list)

    def lines(self) -> list[str]:
        """Returns the report as lines of text."""
        said = [f"{len(self.loaded)} tensors taken as they are"]
        for names, what in (
            (self.inflated, "2D kernels repeated over time and divided by the length"),
            (self.summed, "3D kernels summed over time"),
            (self.channels, "first kernel averaged over its input channels"),
            (self.implied, "set to 1: the source's batch normalisation has no scale"),
            (self.widened, "stored in half precision, widened to float32"),
        ):
            if names:
                said.append(f"{len(names)} {what}")
        if self.fresh:
            said.append(f"initialised anew: {listed(self.fresh)}")
        said += [f"left out: {len(names)} x {why} ({listed(names, 2)})" for why, names in self.unused.items()]
        return said


def reorder_labels(
    values: Tensors, card: "Card", labels: Sequence[str], head: str = "fc"
) -> tuple[dict[str, np.ndarray], "Card"]:
    """Returns weights and card with the classes in another order, if these are the same classes.

    Args:
      values: flat weights, whose classifier is `head`.
      card: of them.
      labels: the wanted order; with other classes nothing is changed.
      head: top-level name of the classifier.
    """
    if tuple(card.labels) == tuple(labels) or sorted(card.labels) != sorted(labels):
        return dict(values), card
    order = [card.labels.index(label) for label in labels]
    moved = {name: np.asarray(value)[..., order] for name, value in values.items() if name.startswith(f"{head}.")}
    return {**values, **moved}, dataclasses.replace(card, labels=tuple(labels))


def listed(names: Sequence[str], shown: int = _SHOWN) -> str:
    """Returns the first names as text, and how many more there are."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def fit(
    source: Tensors,
    target: Mapping[str, Any],
    *,
    first_kernel: str,
    image: bool,
    transplant: bool,
    fresh: Sequence[str],
    implied: Mapping[str, float],
    report: Report,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Fits the source's tensors to every leaf of the target.

    Args:
      source: with our paths and layouts.
      target: path -> anything with `shape`.
      first_kernel: path of the kernel that is adapted to another number of input channels.
      image: whether the source is a 2D network, whose kernels are repeated over time.
      transplant: whether 3D kernels may be summed over time to fit 2D ones.
      fresh: endings of paths that may be missing; the caller initialises them.
      implied: leaf -> constant to use if the source has no such tensor.
      report: is filled in.

    Returns:
      float32 values without the fresh ones, and a line for every error.
    """
    values: dict[str, np.ndarray] = {}
    errors: list[str] = []
    for path, wanted in target.items():
        leaf = path.rsplit(".", 1)[1]
        if path in source:
            try:
                values[path] = _fit_one(
                    path, source[path], tuple(wanted.shape), path == first_kernel, image, transplant, report
                )
            except ValueError as error:
                errors.append(str(error))
        elif leaf in implied:
            values[path] = np.full(wanted.shape, implied[leaf], np.float32)
            report.implied.append(path)
        elif any(path == ending or (ending[0] == "." and path.endswith(ending)) for ending in fresh):
            report.fresh.append(path)
        else:
            errors.append(f"{path} is missing")
    errors += [f"{path} has no place in the network" for path in source if path not in target]
    return values, errors


def _fit_one(
    path: str, value: np.ndarray, shape: tuple[int, ...], first: bool, image: bool, transplant: bool, report: Report
) -> np.ndarray:
    value = _to_float32(path, value, report)
    if value.shape == shape:
        report.loaded.append(path)
        return np.array(value, order="C")  # a copy, because the source may be memory-mapped from a file that changes
    same_but = [axis for axis, (a, b) in enumerate(zip(value.shape, shape, strict=False)) if a != b]
    if value.ndim == len(shape) == 5 and set(same_but) <= {0, 3}:
        if 3 in same_but and first and value.shape[3] == 3:
            value = other_channels(value, shape[3])
            report.channels.append(path)
        if value.shape[0] != shape[0] and image and value.shape[0] == 1:
            value = np.repeat(value / np.float32(shape[0]), shape[0], axis=0)
            report.inflated.append(path)
        elif value.shape[0] != shape[0] and transplant and shape[0] == 1:
            value = value.sum(axis=0, keepdims=True)
            report.summed.append(path)
        if value.shape == shape:
            return np.array(value, np.float32, order="C")
    raise ValueError(f"{path} has shape {list(value.shape)}, the network's is {list(shape)}")


def other_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Adapts a first kernel [T, H, W, in, out] to `channels` input channels, each the mean of the given ones.

    Source: cross-modality pre-training of L. Wang et al., "Temporal Segment Networks", ECCV 2016.
    """
    return np.repeat(kernel.mean(axis=3, keepdims=True), channels, axis=3)


def _to_float32(path: str, value: np.ndarray, report: Report) -> np.ndarray:
    if value.dtype == np.float32:
        return value
    if value.dtype.name in ("float16", "bfloat16"):
        report.widened.append(path)
        return value.astype(np.float32)
    raise ValueError(f"{path} is of type {value.dtype}, float32 was expected")


def raise_all(origin: str, what: str, errors: Sequence[str]) -> None:
    """Raises one `UserError` for all errors, if there are any."""
    if errors:
        more = f"; and {len(errors) - _SHOWN_ERRORS} more" if len(errors) > _SHOWN_ERRORS else ""
        raise UserError(f"{origin}: {what}: {'; '.join(errors[:_SHOWN_ERRORS])}{more}")
