"""Aggregates: ways to combine the logits of a video's clips into scores of the video."""

from collections.abc import Callable

import numpy as np

from r23d_jax.evaluation import metrics

Aggregate = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def mean_softmax(logits: np.ndarray, video: np.ndarray, count: int) -> np.ndarray:
    """Returns each video's mean of its clips' softmaxes ("after softmax"); see `mean_logits`."""
    return _mean(metrics.softmax(logits), video, count)


def mean_logits(logits: np.ndarray, video: np.ndarray, count: int) -> np.ndarray:
    """Returns each video's mean of its clips' logits ("before softmax").

    Args:
      logits: float32 [N, C], of all clips.
      video: int [N], index of each clip's video; every number below `count` occurs.
      count: number of videos, V.

    Returns:
      float32 [V, C], summed in float64 in the order of the clips.
    """
    return _mean(logits.astype(np.float64), video, count)


def _mean(values: np.ndarray, video: np.ndarray, count: int) -> np.ndarray:
    total = np.zeros((count, values.shape[1]), np.float64)
    np.add.at(total, video, values)
    return (total / np.bincount(video, minlength=count)[:, None]).astype(np.float32)


# The names are keys in `results.json` and `predictions.npz`.
AGGREGATES: dict[str, Aggregate] = {"mean_softmax": mean_softmax, "mean_logits": mean_logits}
