"""Features of labelled videos as arrays: what heads are fitted to."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from r23d_jax.models.head import VIEWS, shares

PARTS = 3  # of a clip's time, which a head may keep apart


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """What a head sees: the averages of stages over space and over `bins` parts of time; see `models.head`."""

    stages: tuple[str, ...]
    bins: int
    mirrored: bool

    @property
    def views(self) -> tuple[str, ...]:
        """The views that it is the mean of."""
        return VIEWS if self.mirrored else VIEWS[:1]


@dataclasses.dataclass(frozen=True)
class Samples:
    """Features of N clips of V labelled videos.

    Attributes:
      averages: view -> stage -> float32 [N, PARTS, C], averages over space and over equal parts of time.
      video: int [N], place of each clip's video in `labels`.
      labels: int [V].
      groups: str [V]; videos of a group stay together.
      grids: view -> float32 [N, positions, C], averages of `grid_of` over the parts of a grid; None without.
      grid_of: a stage.
    """

    averages: Mapping[str, Mapping[str, np.ndarray]]
    video: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    grids: Mapping[str, np.ndarray] | None = None
    grid_of: str = ""

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages, in order of depth."""
        return tuple(self.averages[VIEWS[0]])

    @property
    def channels(self) -> dict[str, int]:
        """Channels of each stage."""
        return {stage: array.shape[-1] for stage, array in self.averages[VIEWS[0]].items()}

    def feature_sets(self) -> list[FeatureSet]:
        """Returns the sets that are tried: each stage, and the deepest two, three and so on; without and with order.

        Of several networks those of each, and those of all side by side.
        """
        of_each = [_of_one(stages) for stages in by_network(self.stages)]
        together = [sum(parts, ()) for parts in zip(*of_each, strict=False)] if len(of_each) > 1 else []
        chosen = sum(of_each, []) + together
        mirrored = (False, True) if VIEWS[1] in self.averages else (False,)
        return [FeatureSet(names, bins, both) for names in chosen for bins in (1, PARTS) for both in mirrored]

    def vectors(self, features: FeatureSet, view: str) -> np.ndarray:
        """Returns float32 [N, D], what a head sees of one view, in the order of `models.head.in_bins`."""
        arrays = [self.averages[view][stage] for stage in features.stages]
        if features.bins == 1:
            return np.concatenate([array.mean(axis=1) for array in arrays], axis=1)
        return np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)

    def seen(self, features: FeatureSet) -> np.ndarray:
        """Returns float32 [N, D], the mean over the views."""
        return np.mean([self.vectors(features, view) for view in features.views], axis=0)

    def clips_of(self, videos: np.ndarray) -> np.ndarray:
        """Returns the places of the clips of some videos."""
        wanted = np.zeros(len(self.labels), bool)
        wanted[videos] = True
        return np.flatnonzero(wanted[self.video])

    def of_videos(self, values: np.ndarray) -> np.ndarray:
        """Returns the means [V, ...] over each video's clips of values [N, ...]."""
        sums = np.zeros((len(self.labels), *values.shape[1:]))
        np.add.at(sums, self.video, values)
        return sums / np.bincount(self.video, minlength=len(self.labels)).reshape(-1, *[1] * (values.ndim - 1))

    def only(self, videos: Sequence[int] | np.ndarray) -> "Samples":
        """Returns the samples of some videos, in that order."""
        videos = np.asarray(videos)
        place = np.full(len(self.labels), -1)
        place[videos] = np.arange(len(videos))
        clips = np.flatnonzero(place[self.video] >= 0)
        averages = {view: {s: array[clips] for s, array in of.items()} for view, of in self.averages.items()}
        grids = self.grids and {view: array[clips] for view, array in self.grids.items()}
        video = place[self.video[clips]]
        return Samples(averages, video, self.labels[videos], self.groups[videos], grids, self.grid_of)


def by_network(stages: Iterable[str]) -> list[tuple[str, ...]]:
    """Returns the stages of each network; those of several side by side are called "0.layer1" and so on."""
    members: dict[str, list[str]] = {}
    for stage in stages:
        members.setdefault(stage.partition(".")[0] if "." in stage else "", []).append(stage)
    return [tuple(of_one) for of_one in members.values()]


def weights_of(video: np.ndarray) -> np.ndarray:
    """Returns float64 [n], what each row counts if all rows of a video, int [n], count one together."""
    return 1 / np.bincount(video)[video]


def _of_one(stages: tuple[str, ...]) -> list[tuple[str, ...]]:
    chosen = [(stage,) for stage in stages] + [stages[-count:] for count in range(2, len(stages) + 1)]
    return chosen + ([stages[-3:-1]] if len(stages) > 3 else [])


def in_parts(series: np.ndarray) -> np.ndarray:
    """Returns the averages over `PARTS` equal parts of time, float32 [N, PARTS, C], of a series [N, T', C]."""
    return np.einsum("btc,nt->bnc", series, shares(PARTS, series.shape[1]), dtype=np.float32)
