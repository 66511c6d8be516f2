"""The network of a probe: a frozen one with whole videos as its clips, and later with the chosen head."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from r23d_jax import models
from r23d_jax.errors import UserError
from r23d_jax.inference.classifier import Classifier
from r23d_jax.models.head import HeadSpec
from r23d_jax.probing.attention import Attention
from r23d_jax.probing.heads import Linear, Neighbours
from r23d_jax.probing.samples import FeatureSet
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights import architecture
from r23d_jax.weights.card import Card, tree_sha256

_LONGEST = 128  # frames of a clip; of longer videos the clips that cover it are averaged
_LARGE = 160  # pixels; on a CPU weights for larger crops are used at half their size


def frozen(weights: dict[str, np.ndarray], card: Card, dtype: str, size: int = 0) -> Classifier:
    """Returns the network with the preprocessing of a probe, and without a classifier of its own.

    Args:
      weights, card: from `weights.loading.load_flat`.
      dtype: to compute in.
      size: side of the crop in pixels; 0 for that of the weights, on a CPU half of it if that is large.
    """
    spec = preprocessing(card, size)
    if "members" in card.model:
        card = _sized(card, spec.crop)
    weights = _without_head(weights)
    # The classifier is not used; a network has one.
    arguments = {**card.model, "num_classes": 1, "head": None}
    plain = dataclasses.replace(card, model=arguments, labels=("none",), preprocessing=spec, published=())
    wanted = models.flatten(nnx.eval_shape(lambda: models.from_card(plain)))
    weights |= {name: np.zeros(wanted[name].shape, np.float32) for name in ("fc.kernel", "fc.bias")}
    source = {**card.source, "whole_sha256": card.tensors_sha256}
    for key in ("classifier", "stored"):  # files are decoded at the size that `spec` says, in training and after it
        source.pop(key, None)
    return Classifier(weights, dataclasses.replace(plain, tensors_sha256=tree_sha256(weights), source=source), dtype)


def joined(several: Sequence[tuple[dict[str, np.ndarray], Card]]) -> tuple[dict[str, np.ndarray], Card]:
    """Returns weights and card of several networks as one, `models.several`; clips are the first one's.

    Raises:
      UserError: they do not see the same kind of input, or one takes only clips of its own length.
    """
    cards = [card for _, card in several]
    if any(card.preprocessing.input != cards[0].preprocessing.input for card in cards):
        raise UserError(f"--weights: {' and '.join(card.preprocessing.input for card in cards)} cannot be side by side")
    fixed = [card.arch for card in cards if models.get(card.arch).fixed_frames or card.arch == "several"]
    if fixed:
        raise UserError(f"--weights: {fixed[0]} cannot be side by side with other networks")
    members, values = [], {}
    for place, (weights, card) in enumerate(several):
        own = {"num_classes", "in_channels", "frames", "head"}
        arguments = {key: value for key, value in card.model.items() if key not in own}
        spec = card.preprocessing
        members.append(
            {
                "arch": card.arch,
                "arguments": {**arguments, "bn_epsilon": card.bn_epsilon},
                "size": _side(spec),
                "mean": list(spec.mean),
                "std": list(spec.std),
            }
        )
        values |= {f"nets.{place}.{name}": value for name, value in _without_head(weights).items()}
    card = dataclasses.replace(
        cards[0],
        arch="several",
        model={"num_classes": 1, "in_channels": len(cards[0].preprocessing.mean), "members": members},
        labels=("none",),
        source={"file": " + ".join(str(card.source.get("file", card.arch)) for card in cards)},
        licence=" and ".join(sorted({card.licence or "unknown" for card in cards})),
        published=(),
        extra={},
    )
    return values, dataclasses.replace(card, tensors_sha256=tree_sha256(values))


def _without_head(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in weights.items() if not name.startswith(("fc.", "head."))}


def _sized(card: Card, side: int) -> Card:
    """Returns the card of several networks with the sizes of their inputs; of the first this."""
    first, *others = card.model["members"]
    sized = [{**first, "size": side}, *({**member, "size": _usual(member["size"])} for member in others)]
    return dataclasses.replace(card, model={**card.model, "members": sized})


def _side(spec: Preprocessing) -> int:
    return spec.crop or spec.short_side or 112


def _usual(side: int) -> int:
    """The side that weights for crops of this side are used at."""
    return side // 2 if side >= _LARGE and jax.default_backend() == "cpu" else side


def preprocessing(card: Card, size: int = 0) -> Preprocessing:
    """Returns how a probe sees videos: as the weights do, but whole, and at the aspect ratio 4:3.

    At its own aspect ratio a crop of a wide frame would lose more of its sides; and frames of one size share programs.
    """
    spec = card.preprocessing
    side = _side(spec)
    wanted = size or _usual(side)
    if size and size < 32:
        raise UserError(f"--size {wanted}: give at least 32 pixels")
    resize = spec.resize
    if isinstance(resize, tuple):
        resize = tuple(max(round(pixels * wanted / side), wanted) for pixels in resize)
    elif resize is not None or wanted != side or spec.crop is None:
        height = max(round((resize or side * 8 / 7) * wanted / side), wanted)
        resize = height, round(height * 4 / 3)
    spec = dataclasses.replace(spec, resize=resize, crop=wanted)
    if models.get(card.arch).fixed_frames:
        return spec  # it takes clips of its own length only
    longest = min(_LONGEST, spec.max_frames) if spec.max_frames >= 8 else _LONGEST
    return dataclasses.replace(spec, frames=0, sampling="fitted", max_frames=longest)


def with_head(
    clf: Classifier,
    features: FeatureSet,
    head: Linear | Neighbours | Attention,
    labels: Sequence[str],
    init: str,
    source: dict[str, Any],
) -> tuple[dict[str, np.ndarray], Card]:
    """Returns weights and card of the network with a fitted head.

    Args:
      clf: from `frozen`.
      features: what the head sees.
      head: fitted.
      labels: class names.
      init, source: of the card.
    """
    values = {name: np.asarray(value) for name, value in clf.weights.items() if not name.startswith("fc.")}
    spec = HeadSpec(features.stages, features.bins, features.mirrored)
    if isinstance(head, Linear):
        values |= {"fc.kernel": head.kernel, "fc.bias": head.bias}
    elif isinstance(head, Attention):
        spec = dataclasses.replace(spec, kind="attention")
        values |= {f"head.{name}": getattr(head, name) for name in ("mean", "scale", "query", "position")}
        values |= {"fc.kernel": head.kernel, "fc.bias": head.bias}
    else:
        points = len(head.points)
        spec = dataclasses.replace(spec, kind="neighbours", points=points, neighbours=min(head.k, points))
        values |= {f"head.{name}": getattr(head, name) for name in ("mean", "scale", "points")}
        values |= {"fc.kernel": head.sharpness * head.labels, "fc.bias": np.zeros(len(labels))}
    values = {name: np.asarray(value, np.float32) for name, value in values.items()}
    card = dataclasses.replace(
        clf.card,
        model={**clf.card.model, "num_classes": len(labels), "head": spec.to_dict()},
        labels=tuple(labels),
        init=init,
        source=source,
        tensors_sha256=tree_sha256(values),
    )
    architecture.check(card.arch, nnx.eval_shape(lambda: models.from_card(card)), values)
    return values, card
