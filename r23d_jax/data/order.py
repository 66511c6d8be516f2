"""The order of training: maps the number of a sample in the run to a video, given the seed."""

import functools
from collections.abc import Callable

import numpy as np

from r23d_jax.data.dataset import Dataset, column

# Purposes of random generators, so that no two share their random numbers.
_ORDER, _CLASS_ORDER, _VIDEO_OF_CLASS, _CLIP = range(4)


def shuffled(positions: np.ndarray, seed: int) -> Callable[[int], int]:
    """Returns a function from a sample's number to a video's position, with a new permutation every epoch."""
    order = functools.lru_cache(4)(lambda epoch: _permutation(seed, _ORDER, epoch, 0, len(positions)))
    return lambda sample: int(positions[order(sample // len(positions))[sample % len(positions)]])


def balanced(dataset: Dataset, positions: np.ndarray, seed: int) -> Callable[[int], int]:
    """Does the same as `shuffled` with all classes equally often: permutes the classes, and the videos of each."""
    labels = column(dataset.videos, "label")[positions]
    members = [positions[labels == label] for label in np.unique(labels)]
    classes = functools.lru_cache(4)(lambda turn: _permutation(seed, _CLASS_ORDER, turn, 0, len(members)))
    videos = functools.lru_cache(4 * len(members))(
        lambda chosen, turn: _permutation(seed, _VIDEO_OF_CLASS, turn, chosen, len(members[chosen]))
    )

    def draw(sample: int) -> int:
        turn, place = divmod(sample, len(members))
        chosen = int(classes(turn)[place])
        turn, place = divmod(turn, len(members[chosen]))
        return int(members[chosen][videos(chosen, turn)[place]])

    return draw


def clip_rng(seed: int, sample: int) -> np.random.Generator:
    """Returns the generator that draws the frames of a sample's clip."""
    return _rng(seed, _CLIP, sample)


def _rng(seed: int, purpose: int, number: int, extra: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, purpose], counter=[0, 0, extra, number]))


def _permutation(seed: int, purpose: int, number: int, extra: int, size: int) -> np.ndarray:
    # NumPy guarantees a stable stream for the raw bits, but not for `Generator.permutation`.
    bits = _rng(seed, purpose, number, extra).bit_generator.random_raw(size)
    return np.argsort(np.atleast_1d(bits), kind="stable")
