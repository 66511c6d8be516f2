"""The report's arithmetic: calibration, confusions, intervals, and which videos to show."""

import dataclasses

import numpy as np

from r23d_jax.evaluation import metrics

BINS = 15


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Confidence (the best mean softmax score) against accuracy, in bins of equal width.

    Attributes:
      edges: float [bins + 1], from 0 to 1; a bin has its upper edge, not its lower one.
      count, confidence, accuracy: of each bin; confidence and accuracy are NaN where count is 0.
      ece: expected calibration error: mean over the videos of |accuracy - confidence| of their bin
        (C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    ece: float


def calibration(scores: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Calibration:
    """Returns confidence against accuracy of classified videos.

    Args:
      scores: float [V, C], probabilities.
      labels: int [V].
      bins: number of bins.
    """
    sure = scores.max(axis=1).astype(np.float64)
    right = (scores.argmax(axis=1) == labels).astype(np.float64)
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, sure, side="left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(place, sure, bins) / count
        accuracy = np.bincount(place, right, bins) / count
    filled = count > 0
    gaps = np.abs(accuracy - confidence)[filled]
    return Calibration(edges, count, confidence, accuracy, float(np.sum(gaps * count[filled]) / len(labels)))


def confusion(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns int [C, C]: counts with true classes down and predicted classes across."""
    return metrics.sums(scores, labels, np.ones(len(labels), bool))["confusion"]


def confusions(matrix: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    """Returns the most frequent mistakes: `(true, predicted, videos)`, by number of videos, then share of the class."""
    off = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    share = off / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    pairs = np.argwhere(off)
    pairs = sorted(pairs.tolist(), key=lambda pair: (-off[*pair], -share[*pair], pair))
    return [(true, predicted, int(off[true, predicted])) for true, predicted in pairs[:most]]


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """Returns Wilson's 95 % interval of a proportion, for independent trials (E. B. Wilson, 1927)."""
    z = 1.959964
    share = right / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    return max(0.0, centre - half) if right else 0.0, min(1.0, centre + half) if right < count else 1.0


def most_wrong(scores: np.ndarray, labels: np.ndarray, most: int) -> np.ndarray:
    """Returns the videos with the largest lead of a wrong class over the true one; each pair of classes once.

    Returns:
      int rows of `scores`, worst first.
    """
    predicted = scores.argmax(axis=1)
    lead = scores.max(axis=1) - np.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    rows = [row for row in np.argsort(-lead, kind="stable") if predicted[row] != labels[row]]
    return _first_of_each(rows, [(labels[row], predicted[row]) for row in rows], most)


def most_confident(scores: np.ndarray, labels: np.ndarray, most: int) -> np.ndarray:
    """Returns the correct videos with the highest scores, each class once, as int rows of `scores`."""
    predicted = scores.argmax(axis=1)
    rows = [row for row in np.argsort(-scores.max(axis=1), kind="stable") if predicted[row] == labels[row]]
    return _first_of_each(rows, [labels[row] for row in rows], most)


def _first_of_each(rows: list, kinds: list, most: int) -> np.ndarray:
    seen, kept = set(), []
    for row, kind in zip(rows, kinds, strict=True):
        if kind not in seen:
            seen.add(kind)
            kept.append(row)
    return np.asarray(kept[:most], np.int64)


def downsample(x: np.ndarray, y: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Averages a long series to `points` means, with the lowest and highest value in each.

    Returns:
      x, mean, lowest, highest; the series itself where it is short enough.
    """
    if len(x) <= points:
        return x, y, y, y
    starts = np.linspace(0, len(x), points, endpoint=False).astype(int)
    sizes = np.diff(np.append(starts, len(x)))
    mean = np.add.reduceat(y, starts) / sizes
    last = starts + sizes - 1
    return x[last], mean, np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
