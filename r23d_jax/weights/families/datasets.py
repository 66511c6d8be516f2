"""Class names of data sets that several families were trained on."""

import functools
from importlib import resources


@functools.cache
def _lines(name: str) -> tuple[str, ...]:
    return tuple(resources.files("r23d_jax.weights.families").joinpath(name).read_text(encoding="utf-8").splitlines())


def kinetics400() -> tuple[str, ...]:
    """Returns Kinetics-400's class names in the order of the published weights' logits (alphabetical)."""
    return _lines("kinetics400.txt")


def ucf101() -> tuple[str, ...]:
    """Returns UCF101's class names in the order of its `classInd.txt`.

    Loaders that sort the folders by `sorted` get another order: HammerThrow and JumpRope come before Hammering and
    JumpingJack there.
    """
    return _lines("ucf101.txt")
