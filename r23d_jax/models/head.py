"""What the classifier sees of a network: by default the average of the last map, with a `Head` more of it.

A head looks at several stages, keeps the order in time, and may look at the mirrored clip too. The classifier `fc` is
linear on what it returns, as in every network of this package.
"""

import dataclasses
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from r23d_jax.errors import UserError
from r23d_jax.models.attention import attend
from r23d_jax.models.layers import Linear
from r23d_jax.models.neighbours import neighbour_weights

KINDS = ("linear", "neighbours", "attention")
QUERIES = 4  # of an attentive head
VIEWS = ("plain", "mirrored")
# Larger ones in an edited card would exhaust the memory.
_MOST_BINS, _MOST_POINTS, _MOST_POSITIONS = 64, 1 << 20, 4096
_MOST_VALUES = 1 << 28  # of one array: 1 GB


@dataclasses.dataclass(frozen=True)
class HeadSpec:
    """A head; its fields are JSON values in a card's `model["head"]`.

    Attributes:
      stages: whose averages over space are put side by side; of an attentive head the one stage it attends to.
      bins: equal parts of the clip, averaged by themselves and put side by side; 1 averages over all time. An attentive
        head has none.
      mirrored: the result is the mean for the clip and for its mirror image.
      kind: "linear": the classifier is linear on the averages. "neighbours": it is linear on votes of the most similar
        training clips. "attention": it is linear on positions weighted by learned queries.
      points: neighbours: number of training clips that may vote.
      neighbours: neighbours: how many of them vote.
      grid: attention: equal parts over (time, height, width) that are its positions.
    """

    stages: tuple[str, ...]
    bins: int = 1
    mirrored: bool = False
    kind: str = "linear"
    points: int = 0
    neighbours: int = 0
    grid: tuple[int, int, int] = (8, 4, 4)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "HeadSpec":
        """Reads a card's value.

        Raises:
          UserError: it is no head; the message names the field and what it may be.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(fields, Mapping) or "stages" not in fields or any(key not in known for key in fields):
            raise UserError(f"head: {reprlib.repr(fields)}: give its stages and any of {', '.join(known[1:])}")
        spec = cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})
        for name, (is_right, wanted) in _RULES.items():
            if not is_right(spec):
                raise UserError(f"head: {name}={reprlib.repr(getattr(spec, name))}: give {wanted}")
        return spec

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}


def _whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _are_stages(names: Any, kind: str) -> bool:
    if not isinstance(names, tuple) or not names or not all(isinstance(name, str) for name in names):
        return False
    return len(set(names)) == len(names) and (kind != "attention" or len(names) == 1)


def _is_grid(grid: Any) -> bool:
    sizes = grid if isinstance(grid, tuple) and len(grid) == 3 else (0,)
    return all(_whole(size, 1, _MOST_POSITIONS) for size in sizes) and math.prod(sizes) <= _MOST_POSITIONS


# What each field may be; later rules rely on the earlier ones.
_RULES: dict[str, tuple[Callable[[HeadSpec], bool], str]] = {
    "kind": (lambda spec: spec.kind in KINDS, f"one of {', '.join(KINDS)}"),
    "stages": (lambda spec: _are_stages(spec.stages, spec.kind), "names of stages, each once, and one for attention"),
    "bins": (lambda spec: _whole(spec.bins, 1, _MOST_BINS), f"1 to {_MOST_BINS}"),
    "mirrored": (lambda spec: type(spec.mirrored) is bool, "true or false"),
    "points": (
        lambda spec: _whole(spec.points, int(spec.kind == "neighbours"), _MOST_POINTS),
        f"a number of training clips, at most {_MOST_POINTS}",
    ),
    "neighbours": (
        lambda spec: _whole(spec.neighbours, int(spec.kind == "neighbours"), spec.points),
        "how many of the points vote",
    ),
    "grid": (lambda spec: _is_grid(spec.grid), f"three whole numbers with a product of at most {_MOST_POSITIONS}"),
}


class Head(nnx.Module):
    """Turns the outputs of a network's stages into the vector that the classifier sees.

    What comes from the training clips and is not trained, `mean`, `scale` and `points`, counts as statistics.

    Args:
      spec: what it looks at.
      channels: of the network's stages, by name.

    Attributes:
      size: of the vector.

    Raises:
      UserError: the network has no such stage, or the head is too large.
    """

    def __init__(self, spec: HeadSpec, channels: Mapping[str, int]):
        unknown = [name for name in spec.stages if name not in channels]
        if unknown:
            raise UserError(f"head: no stage {unknown[0]!r}; this network has {', '.join(channels)}")
        self.spec = spec
        width = sum(channels[name] for name in spec.stages)
        if spec.kind == "attention":
            self.query = nnx.Param(jnp.zeros((QUERIES, width)))
            self.position = nnx.Param(jnp.zeros((QUERIES, math.prod(spec.grid))))
            self.size = QUERIES * width
        else:
            width *= spec.bins
            self.size = width
        if spec.kind == "neighbours":
            _check_size("points", spec.points, width)
            self.points = nnx.BatchStat(jnp.zeros((spec.points, width)))
            self.size = spec.points
        if spec.kind != "linear":
            self.mean = nnx.BatchStat(jnp.zeros(width))
            self.scale = nnx.BatchStat(jnp.ones(width))

    def __call__(
        self, stages_of: Callable[[jax.Array], dict[str, jax.Array]], video: jax.Array
    ) -> dict[str, jax.Array]:
        """Returns the stages of the clip itself, and what the classifier sees.

        Args:
          stages_of: returns the outputs of the network's stages, `[B, T', H', W', C']`, by name.
          video: `[B, T, H, W, C]`.

        Returns:
          By name, in order of depth: the outputs of the stages; of a linear head `head`, float32
          `[B, T', H', W', size]`, whose average over time and space is `pool`; and `pool`, float32 `[B, size]`.
        """
        count = video.shape[0]
        outputs = stages_of(self._seen(video))
        features = {name: value[:count] for name, value in outputs.items()}
        if self.spec.kind == "linear":
            maps = _map(outputs, self.spec)
            features["head"] = _mean_of_both(maps[:count], jnp.flip(maps[count:], 3)) if self.spec.mirrored else maps
        return {**features, "pool": self._pool(outputs, count)}

    def pool(self, stages_of: Callable[[jax.Array], dict[str, jax.Array]], video: jax.Array) -> jax.Array:
        """Returns only `pool` of a call with these arguments, for which no maps are made."""
        return self._pool(stages_of(self._seen(video)), video.shape[0])

    def _seen(self, video: jax.Array) -> jax.Array:
        return views_of(video, VIEWS if self.spec.mirrored else VIEWS[:1])

    def _pool(self, outputs: Mapping[str, jax.Array], count: int) -> jax.Array:
        with jax.named_scope("pool"):
            vectors = self._vectors(outputs)
            return _mean_of_both(vectors[:count], vectors[count:]) if self.spec.mirrored else vectors

    def _vectors(self, outputs: Mapping[str, jax.Array]) -> jax.Array:
        spec = self.spec
        if spec.kind == "attention":
            arrays = (self.mean[...], self.scale[...], self.query[...], self.position[...])
            return attend(positions(outputs[spec.stages[0]], spec.grid), *arrays)
        vectors = in_bins([over_space(outputs[name]) for name in spec.stages], spec.bins)
        if spec.kind == "linear":
            return vectors
        return neighbour_weights(vectors, self.mean[...], self.scale[...], self.points[...], spec.neighbours)


def attach(model: nnx.Module, spec: HeadSpec, classes: int, rngs: nnx.Rngs) -> None:
    """Gives a network a head, and a fresh classifier on it.

    Args:
      model: a network with `channels()`, `offset_of(stage)` and the attribute `head`.
      spec: of the head.
      classes: of the classifier.
      rngs: stream `params` for its initial weights.

    Raises:
      UserError: the network takes no such head.
    """
    if not hasattr(model, "head"):
        raise UserError(f"head: {type(model).__name__} has only its own classifier")
    if spec.mirrored and model.in_channels != 3:
        raise UserError(
            f"head: mirrored is for RGB, and this network sees {model.in_channels} channels; the mirror image of "
            "optical flow is another one"
        )
    channels = model.channels()
    head = Head(spec, channels)
    _check_size("classifier", head.size, classes)
    model.head = nnx.data(head)  # where there was None, and no data
    model.fc = Linear(head.size, classes, rngs=rngs)
    time, height, width = model.offset_of(min(spec.stages, key=list(channels).index))  # the finest grid
    model.map_offset = (time, height, None if spec.mirrored else width)


def _check_size(what: str, rows: int, columns: int) -> None:
    if rows * columns > _MOST_VALUES:
        raise UserError(f"head: its {what} would have {rows} x {columns} values, more than {_MOST_VALUES}")


def views_of(video: jax.Array, views: Sequence[str]) -> jax.Array:
    """Returns views of clips `[B, T, H, W, C]`, of `VIEWS`, one after the other: `[views * B, T, H, W, C]`."""
    return jnp.concatenate([jnp.flip(video, 3) if view == "mirrored" else video for view in views])


def over_space(x: jax.Array) -> jax.Array:
    """Returns the average of `[B, T', H', W', C]` over height and width, float32 `[B, T', C]`."""
    return jnp.mean(x.astype(jnp.float32), axis=(2, 3))


def in_bins(series: list[jax.Array], bins: int) -> jax.Array:
    """Returns the averages over equal parts of time, side by side.

    Args:
      series: float32 `[B, T', C]` of each stage.
      bins: number of parts; a step of time that lies in two counts in each by its share.

    Returns:
      float32 `[B, bins * sum of C]`: stage by stage, in each part by part.
    """
    parts = [jnp.einsum("btc,nt->bnc", x, shares(bins, x.shape[1]), precision=lax.Precision.HIGHEST) for x in series]
    return jnp.concatenate([x.reshape(x.shape[0], -1) for x in parts], axis=1)


def positions(x: jax.Array, grid: tuple[int, int, int]) -> jax.Array:
    """Returns the averages over a grid of equal parts, float32 `[B, positions, C]`, of `[B, T', H', W', C]`."""
    return _resized(x, grid).reshape(x.shape[0], -1, x.shape[-1])


def shares(parts: int, cells: int) -> np.ndarray:
    """Returns float32 [parts, cells]: the share of each cell in the average over each of equal parts of a line.

    With more parts than cells a cell is repeated. Averages over all parts are averages over all cells.
    """
    edges = np.arange(parts + 1) * cells / parts
    left, right = np.maximum(edges[:-1, None], np.arange(cells)), np.minimum(edges[1:, None], np.arange(cells) + 1)
    overlap = np.clip(right - left, 0, None)
    return (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)


def _resized(x: jax.Array, grid: tuple[int, int, int]) -> jax.Array:
    time, rows, columns = (shares(size, cells) for size, cells in zip(grid, x.shape[1:4], strict=True))
    x = x.astype(jnp.float32)
    return jnp.einsum("bthwc,nt,yh,xw->bnyxc", x, time, rows, columns, precision=lax.Precision.HIGHEST)


def _map(outputs: Mapping[str, jax.Array], spec: HeadSpec) -> jax.Array:
    """Returns float32 `[B, T', H', W', size]`, whose average over time and space is the vector of a linear head.

    On the grid of the finest stage. A part of time is zero outside itself, and as much larger within.
    """
    grid = tuple(max(outputs[name].shape[axis] for name in spec.stages) for axis in (1, 2, 3))
    parts = []
    for name in spec.stages:
        steps = outputs[name].shape[1]
        # Of each cell in time the share in each part, on the stage's own grid: [T', bins].
        within = (shares(spec.bins, steps) * steps).T
        x = outputs[name].astype(jnp.float32)[..., None, :] * within[:, None, None, :, None]
        parts.append(_resized(x.reshape(*x.shape[:4], -1), grid))
    return jnp.concatenate(parts, axis=-1)


def _mean_of_both(plain: jax.Array, mirrored: jax.Array) -> jax.Array:
    return (plain + mirrored) / 2
