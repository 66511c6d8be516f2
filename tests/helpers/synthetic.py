"""Features that no network computed: what a probe chooses between, with as much of the class in them as asked for."""

from collections.abc import Sequence

import numpy as np

from r23d_jax.probing.samples import PARTS, Samples

STAGES = {"low": 5, "high": 8}


def make(
    labels: Sequence[int],
    groups: Sequence[str] | None = None,
    *,
    signal: float = 1.0,
    spread: float = 1.0,
    clips: Sequence[int] | int = 1,
    views: Sequence[str] = ("plain",),
    stages: dict[str, int] | None = None,
    seed: int = 0,
) -> Samples:
    """Features of videos: their class's place, their group's place, and noise.

    Args:
      labels: [V].
      groups: [V], by default one a video.
      signal: standard deviation of the classes' places; that of the groups' is 1.
      spread: standard deviation within a group.
      clips: of each video.
      views: of `models.head.VIEWS`.
      stages: name -> channels.
      seed: of everything.
    """
    labels = np.asarray(labels)
    names = np.asarray(groups if groups is not None else [f"g{n}" for n in range(len(labels))])
    group = np.unique(names, return_inverse=True)[1]
    video = np.repeat(np.arange(len(labels)), clips)
    averages = {}
    for view_number, view in enumerate(views):
        averages[view] = {}
        for number, (stage, channels) in enumerate((stages or STAGES).items()):
            # The classes lie where they do whatever the seed is: it stands for other videos of the same classes.
            of_class = np.random.default_rng([1, number]).normal(size=(1 + labels.max(), PARTS, channels))
            rng = np.random.default_rng([2, seed, number])
            of_group = rng.normal(size=(1 + group.max(), PARTS, channels))
            noise = np.random.default_rng([3 + view_number, seed, number]).normal(size=(len(video), PARTS, channels))
            places = signal * of_class[labels[video]] + of_group[group[video]] + spread * noise
            averages[view][stage] = (3.0 + 2.0 * places).astype(np.float32)
    return Samples(averages, video, labels, names)
