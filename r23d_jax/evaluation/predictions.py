"""`predictions.npz`: the scores of every video in an evaluation."""

import dataclasses
import io
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from r23d_jax.errors import UserError, one_line
from r23d_jax.evaluation import metrics
from r23d_jax.runtime.files import open_arrays, write_bytes

_KINDS = {"names": "U", "labels": "iu", "clips": "iu", "class_names": "U"}  # allowed kinds of dtypes
# Aggregates whose array in the file has another name.
_ARRAYS = {"mean_softmax": "scores", "mean_logits": "logits"}
_AGGREGATES = {array: name for name, array in _ARRAYS.items()}


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Scores of V videos, one row each, sorted by name.

    Attributes:
      names: str [V].
      labels: int32 [V].
      aggregates: float32 [V, C] by the aggregate's name; "mean_softmax" and "mean_logits" are always there.
      clips: int32 [V], number of views of each video.
      class_names: str [C].
      clip_top1: accuracy of single views; NaN if unknown.
    """

    names: np.ndarray
    labels: np.ndarray
    aggregates: dict[str, np.ndarray]
    clips: np.ndarray
    class_names: np.ndarray
    clip_top1: float

    @property
    def scores(self) -> np.ndarray:
        """float32 [V, C], mean over the video's views of the softmax ("after softmax"); `top1` is computed from it."""
        return self.aggregates["mean_softmax"]

    @property
    def logits(self) -> np.ndarray:
        """float32 [V, C], mean over the video's views of the logits ("before softmax")."""
        return self.aggregates["mean_logits"]

    def save(self, path: Path) -> None:
        """Writes the file atomically."""
        file = io.BytesIO()
        scores = {_ARRAYS.get(name, name): array for name, array in self.aggregates.items()}
        np.savez_compressed(file, **scores, **{name: getattr(self, name) for name in _KINDS})
        write_bytes(path, file.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Reads what `save` wrote; `clip_top1` is not stored, so it is NaN.

        Raises:
          UserError: the file is missing or damaged, or its arrays do not fit together.
        """
        try:
            with open_arrays(path) as arrays:
                found = {name: np.asarray(arrays[name]) for name in (*_KINDS, *_AGGREGATES, *arrays.files)}
        # A damaged archive can raise any of these.
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{path}: not readable as predictions.npz ({one_line(error)}); evaluate again") from None
        wrong = [name for name, array in found.items() if array.dtype.kind not in _KINDS.get(name, "f")]
        fixed = {name: found.pop(name) for name in _KINDS}
        aggregates = {_AGGREGATES.get(name, name): array for name, array in found.items()}
        predictions = cls(**fixed, aggregates=aggregates, clip_top1=float("nan"))
        if wrong or not predictions.fit_together():
            raise UserError(f"{path}: its arrays do not fit together; evaluate again")
        return predictions

    def fit_together(self) -> bool:
        """Returns whether shapes, labels, scores and counts are consistent."""
        if self.names.ndim != 1 or self.class_names.ndim != 1 or not len(self.names):
            return False
        videos, classes = len(self.names), len(self.class_names)
        shapes = all(scores.shape == (videos, classes) for scores in self.aggregates.values())
        shapes = shapes and self.labels.shape == self.clips.shape == (videos,)
        if not shapes or len(set(self.names)) != videos:
            return False
        finite = all(np.isfinite(scores).all() for scores in self.aggregates.values())
        return bool(finite and self.labels.min() >= 0 and self.labels.max() < classes and self.clips.min() >= 1)

    def in_order(self, rows: np.ndarray) -> "Predictions":
        """Returns the predictions of the videos at `rows` (int [N]), in that order."""
        chosen = {name: getattr(self, name)[rows] for name in ("names", "labels", "clips")}
        aggregates = {name: scores[rows] for name, scores in self.aggregates.items()}
        return dataclasses.replace(self, **chosen, aggregates=aggregates)

    def results(self) -> dict[str, Any]:
        """Returns the scores of `results.json`, in 0..1, without `clip_top1` if it is unknown."""
        everything = np.ones(len(self.labels), bool)
        of = {
            name: metrics.finish(metrics.sums(scores, self.labels, everything))
            for name, scores in self.aggregates.items()
        }
        of_clips = {} if math.isnan(self.clip_top1) else {"clip_top1": self.clip_top1}
        return {**of["mean_softmax"], **of_clips, "top1_logit_mean": of["mean_logits"]["top1"], "aggregates": of}
