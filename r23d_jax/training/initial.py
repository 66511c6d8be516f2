"""The initial weights of a run: those of `init_from` where they fit, fresh ones elsewhere."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from r23d_jax import models
from r23d_jax.errors import UserError
from r23d_jax.runtime.addresses import public_name
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights import adapt
from r23d_jax.weights.card import Card
from r23d_jax.weights.checkpoint import Tensors


def initial_weights(
    config: ConfigDict,
    target: dict[str, Any],
    head: str,
    labels: tuple[str, ...],
    ours: Preprocessing,
    source: dict[str, Any],
    card: Card,
) -> tuple[dict[str, Any], list[str]]:
    """Returns the weights of `config.init_from`, with a fresh head if the classes differ.

    Args:
      config: the run's config; reads `arch`, `init_from`, `init_other_input` and `model.width`.
      target: flat fresh weights of the network.
      head: top-level name of its classifier.
      labels: class names of the data set.
      ours: preprocessing of the run.
      source, card: weights and card from `loading.load_flat`.

    Returns:
      Flat weights, and lines to print: what was loaded, re-initialised and unused.

    Raises:
      UserError: the weights are of another width, input or network.
    """
    width = card.model.get("width") or 64
    if width != config.model.width:
        raise UserError(
            f"init_from {public_name(config.init_from)}: a network of width {width}, here config.model.width is "
            f"{config.model.width}: set it to {width}, or start from weights of that width or from nothing"
        )
    source, card = adapt.reorder_labels(source, card, labels, head)
    source, lines = _for_input(config, target, ours, source, card)
    weights, report = init_from(target, source, head, card.labels == labels, public_name(config.init_from))
    lines = [report, *lines]
    if card.labels != labels:
        lines.append(f"labels: {len(card.labels)} classes in the source, {len(labels)} here: new head")
    return weights, lines


def _for_input(config, target, ours, source, card) -> tuple[dict[str, Any], list[str]]:
    """Returns weights adapted to the network's input channels, and lines to print; raises if the config forbids it."""
    theirs = card.preprocessing
    image = card.source.get("arch") == "2D"  # inflated from images, so it fits RGB and flow equally
    if theirs.input != ours.input and not image and not config.init_other_input:
        raise UserError(
            f"init_from {public_name(config.init_from)}: trained on {theirs.input}, the data set is {ours.input}; "
            "--config.init_other_input=true takes these weights all the same"
        )
    stem = models.get(config.arch).first_kernel
    wanted, found = target[stem].shape[3], source[stem].shape[3] if stem in source else None
    lines = [] if theirs.input == ours.input else [f"input: {theirs.input} in the source, {ours.input} here"]
    if found in (None, wanted):
        return source, lines
    lines.append(f"{stem} averaged over its {found} input channels, for {wanted} here")
    return {**source, stem: adapt.other_channels(np.asarray(source[stem]), wanted)}, lines


def init_from(
    target: Mapping[str, Any], source: Mapping[str, np.ndarray], head: str, keep_head: bool, origin: str
) -> tuple[Tensors, str]:
    """Returns the source's weights, with the target's head unless `keep_head`.

    Args:
      target: flat fresh weights of the new network.
      source: flat weights of the other checkpoint.
      head: top-level name of the classifier; nothing else may be re-initialised.
      keep_head: load the source's head as well (the classes are the same).
      origin: name of the source in messages.

    Returns:
      The weights, and a report of what was loaded, re-initialised and unused.

    Raises:
      UserError: a tensor does not fit; the first of them are named. Nothing is loaded in part.
    """

    def in_head(name):
        return name.startswith(f"{head}.") and not keep_head

    result, loaded, fresh, wrong = {}, [], [], []
    for name, value in target.items():
        if in_head(name):
            fresh.append(name)
            result[name] = np.asarray(value)
        elif name not in source:
            wrong.append(f"{name} is not in it")
        elif source[name].shape != value.shape:
            wrong.append(f"{name} is {list(source[name].shape)}, here {list(value.shape)}")
        else:
            loaded.append(name)
            result[name] = np.asarray(source[name]).astype(value.dtype)
    unused = [name for name in source if name not in target or in_head(name)]
    wrong += [f"{name} has no place here" for name in unused if not in_head(name)]
    if wrong:
        shown = "; ".join(wrong[:4]) + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        raise UserError(f"init_from {origin}: these are weights of another network: {shown}")
    report = (
        f"init_from {origin}: {len(loaded)} tensors loaded; re-initialised: {', '.join(fresh) or 'none'}; "
        f"unused: {', '.join(unused) or 'none'}"
    )
    return result, report
