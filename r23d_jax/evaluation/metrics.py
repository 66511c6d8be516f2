"""Classification metrics as masked sums that are divided once at the end.

Sums over parts add up to those of the whole, so that results do not depend on the batch size or the number of
devices and hosts. Ties rank the lower class index first.
"""

import numpy as np


def ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the rank of each row's true class, 0 for the best score.

    Args:
      scores: float [N, C].
      labels: int [N], in 0..C-1.

    Returns:
      int [N]. A class with the same score and a lower index ranks before the true one.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    before = np.arange(scores.shape[1])[None] < labels[:, None]
    return np.sum((scores > own) | ((scores == own) & before), axis=1)


def sums(scores: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the counts over some rows.

    Args:
      scores: float [N, C], logits or probabilities.
      labels: int [N].
      mask: bool [N]; rows that are False (padding) do not count.

    Returns:
      `count`, `top1`, `top5` as int64 scalars (top5 is top-min(5, C)), and `confusion`, int64 [C, C] with a row
      for each true class and a column for each predicted one.
    """
    classes = scores.shape[1]
    scores, labels = scores[mask], labels[mask]
    rank = ranks(scores, labels)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, np.argmax(scores, axis=1)), 1)
    return {
        "count": np.int64(len(labels)),
        "top1": np.sum(rank < 1, dtype=np.int64),
        "top5": np.sum(rank < min(5, classes), dtype=np.int64),
        "confusion": confusion,
    }


def add(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Adds the sums of two disjoint parts."""
    return {key: a[key] + b[key] for key in a}


def per_class(confusion: np.ndarray) -> np.ndarray:
    """Returns float64 [C], the accuracy of each class; NaN for a class without a video."""
    total = confusion.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.diag(confusion) / total


def finish(total: dict[str, np.ndarray]) -> dict[str, float]:
    """Returns `top1`, `top5` and `mean_class` (over the classes that have a video) in 0..1."""
    count = int(total["count"])
    return {
        "top1": float(total["top1"] / count),
        "top5": float(total["top5"] / count),
        "mean_class": float(np.nanmean(per_class(total["confusion"]))),
    }


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax over the last axis in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exp = np.exp(shifted)
    return exp / exp.sum(axis=-1, keepdims=True)
