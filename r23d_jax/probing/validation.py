"""Cross-validation of heads over groups of videos."""

import concurrent.futures
import dataclasses
import itertools
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from r23d_jax.evaluation import metrics
from r23d_jax.models.head import VIEWS
from r23d_jax.probing.heads import HEADS, Neighbours, temperature
from r23d_jax.probing.samples import FeatureSet, Samples, weights_of
from r23d_jax.probing.space import Space

FOLDS = 5
_MEMORY = 8 << 30  # bytes that fits at the same time may take, about
_REPEATED = 1000  # up to so many videos the folds are drawn twice, since the choice between candidates is noisy

# (number of the repeat, training videos, held-out videos)
Fold = tuple[int, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to classify.

    Attributes:
      features: what the head sees.
      head: a name of `HEADS`, "neighbours" or "attention".
      value: of its regularisation, or the number of neighbours.
    """

    features: FeatureSet
    head: str
    value: float

    def describe(self) -> dict[str, Any]:
        """Returns the row's first columns of the table of what was tried."""
        described = {"stages": list(self.features.stages), "bins": self.features.bins}
        return {**described, "mirrored": self.features.mirrored, "head": self.head, "value": self.value}


@dataclasses.dataclass(frozen=True)
class Tried:
    """A candidate's cross-validation.

    Attributes:
      candidate: what was tried.
      logits: float64 [N, C] of every training clip, by heads that saw no clip of its group.
      temperature: factor of the logits that fits them to the labels best.
      top1: share of the videos that are right.
      spread: standard deviation of `top1` over the folds.
      loss: mean cross entropy of the videos at that temperature.
    """

    candidate: Candidate
    logits: np.ndarray
    temperature: float
    top1: float
    spread: float
    loss: float


def folds(samples: Samples, seed: int = 0) -> Iterator[Fold]:
    """Yields (number of the repeat, training videos, held-out videos), by whole groups and class by class.

    So many parts as half of the classes have groups at least, from 2 to `FOLDS`; none where no class has two groups,
    since then nothing can be held out that is also learned. Videos are places in `samples.labels`.
    """
    groups = [len(set(samples.groups[samples.labels == label])) for label in np.unique(samples.labels)]
    if max(groups) < 2:
        return
    parts = min(FOLDS, max(2, int(np.median(groups))), len(set(samples.groups)))
    for repeat in range(2 if len(samples.labels) <= _REPEATED else 1):
        split = StratifiedGroupKFold(parts, shuffle=True, random_state=seed + repeat)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a class with fewer videos than parts: it is as said above
            drawn = list(split.split(samples.labels, samples.labels, samples.groups))
        for train, held_out in drawn:
            if len(train) and len(held_out):
                yield repeat, train, held_out


def cross_validate(
    samples: Samples, classes: int, parts: Sequence[Fold], candidates: Sequence[Candidate]
) -> list[Tried]:
    """Returns the cross-validation of candidates; those that see the same features share the work."""
    if not candidates:
        return []
    by_features = {
        key: list(those)
        for key, those in itertools.groupby(sorted(candidates, key=lambda c: repr(c.features)), lambda c: c.features)
    }
    jobs = [(features, part) for features in by_features for part in parts]

    def run(job) -> dict[Candidate, np.ndarray]:
        features, (_, train, held_out) = job
        rows, labels, weights = rows_of(samples, features, train)
        clips = samples.clips_of(held_out)
        views = [samples.vectors(features, view)[clips] for view in features.views]
        space = Space.of(rows, weights)
        inside, outside = space.project(rows), [space.project(view) for view in views]
        found = {}
        for candidate in by_features[features]:
            if candidate.head == "neighbours":
                head, seen = Neighbours.of(rows, labels, classes, int(candidate.value), weights), views
            else:
                head, seen = HEADS[candidate.head].fit(inside, labels, classes, weights, candidate.value), outside
            found[candidate] = np.mean([head(view) for view in seen], axis=0)
        return found

    most = max(sum(samples.channels[s] for s in features.stages) * features.bins for features in by_features)
    rows = len(samples.video) * len(VIEWS)
    workers = max(1, min(os.cpu_count() or 1, _MEMORY // (4 * 8 * rows * most)))
    logits = {candidate: np.zeros((len(samples.video), classes)) for candidate in candidates}
    counts = np.zeros(len(samples.video))
    for _, _, held_out in parts:
        counts[samples.clips_of(held_out)] += 1
    with threadpool_limits(1), concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for (_, (_, _, held_out)), found in zip(jobs, pool.map(run, jobs), strict=True):
            clips = samples.clips_of(held_out)
            for candidate, values in found.items():
                logits[candidate][clips] += values / counts[clips, None]
    return [judge(candidate, values, samples, parts) for candidate, values in logits.items()]


def judge(candidate: Candidate | None, logits: np.ndarray, samples: Samples, parts: Sequence[Fold]) -> Tried:
    """Returns the cross-validation of a candidate, None for a mean of several, from its held-out logits."""
    scale = temperature(logits, samples.labels[samples.video])
    scores = samples.of_videos(metrics.softmax(scale * logits))
    right = scores.argmax(axis=1) == samples.labels
    of_parts = [right[held_out].mean() for _, _, held_out in parts]
    loss = -np.log(np.maximum(scores[np.arange(len(right)), samples.labels], 1e-12)).mean()
    return Tried(candidate, logits, scale, float(right.mean()), float(np.std(of_parts)), float(loss))


def rows_of(
    samples: Samples, features: FeatureSet, videos: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns features [n, D], labels [n] and weights [n] of videos: each clip, and each clip mirrored if so asked.

    All clips and mirror images of a video weigh one together.
    """
    clips = np.arange(len(samples.video)) if videos is None else samples.clips_of(videos)
    rows = np.concatenate([samples.vectors(features, view)[clips] for view in features.views])
    video = np.tile(samples.video[clips], len(features.views))
    return rows, samples.labels[video], weights_of(video)
