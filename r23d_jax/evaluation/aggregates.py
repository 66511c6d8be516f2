"""From the logits of a video's clips to the video's scores, in several ways side by side."""

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
      video: int [N], which video a clip is of; every number below `count` occurs.
      count: of videos, V.

    Returns:
      float32 [V, C]. Sums are in float64 and in the order of the clips.
    """
    return _mean(logits.astype(np.float64), video, count)


def _mean(values: np.ndarray, video: np.ndarray, count: int) -> np.ndarray:
    total = np.zeros((count, values.shape[1]), np.float64)
    np.add.at(total, video, values)
    return (total / np.bincount(video, minlength=count)[:, None]).astype(np.float32)


# An aggregate is a function like `mean_logits`; its name here is its key in `results.json` and `predictions.npz`.
AGGREGATES: dict[str, Aggregate] = {"mean_softmax": mean_softmax, "mean_logits": mean_logits}
