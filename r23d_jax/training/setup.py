"""From a config or a card to a network, and from a config to the card of what it trains."""

from typing import Any

from ml_collections import ConfigDict

from r23d_jax.weights.card import Card


def model_arguments(config: ConfigDict, classes: int, in_channels: int, origin: Card | None) -> dict[str, Any]:
    """The arguments of `models.create`, in JSON's types: what a card keeps.

    `origin` is the card of the weights the run starts from: its epsilon holds where the config sets none.
    """
    return {
        "num_classes": classes,
        "frames": config.clip.frames,
        "in_channels": in_channels,
        "dropout": config.model.dropout,
        "width": config.model.width,
        "layers": list(config.model.layers) or None,
        "bn_epsilon": config.model.bn_epsilon or (origin.bn_epsilon if origin else None),
    }
