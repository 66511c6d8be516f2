"""`predictions.npz`: what an evaluation says of every video."""

import dataclasses
import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from r23d_jax.errors import UserError, one_line
from r23d_jax.evaluation import metrics
from r23d_jax.runtime.files import write_bytes

_KINDS = {"names": "U", "labels": "iu", "scores": "f", "logits": "f", "clips": "iu", "class_names": "U"}  # of dtypes


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What `predictions.npz` holds: one row a video, in the order of their names.

    Attributes:
      names: str [V].
      labels: int32 [V].
      scores: float32 [V, C], mean over the video's views of the softmax ("after softmax").
      logits: float32 [V, C], mean over the video's views of the logits ("before softmax").
      clips: int32 [V], views averaged.
      class_names: str [C].
      clip_top1: share of single views that are right.
    """

    names: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    logits: np.ndarray
    clips: np.ndarray
    class_names: np.ndarray
    clip_top1: float

    def save(self, path: Path) -> None:
        """Writes the arrays, atomically."""
        arrays, file = dataclasses.asdict(self), io.BytesIO()
        del arrays["clip_top1"]
        np.savez_compressed(file, **arrays)
        write_bytes(path, file.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Reads what `save` wrote. `clip_top1` is not in it, and NaN.

        Raises:
          UserError: no such file, damaged, or arrays that do not fit together.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: np.asarray(arrays[name]) for name in _KINDS}
        # A flipped bit anywhere in the archive may be one of these.
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{path}: not readable as predictions.npz ({one_line(error)}); evaluate again") from None
        wrong = [name for name, kinds in _KINDS.items() if found[name].dtype.kind not in kinds]
        predictions = cls(**found, clip_top1=float("nan"))
        if wrong or not predictions.fit_together():
            raise UserError(f"{path}: its arrays do not fit together; evaluate again")
        return predictions

    def fit_together(self) -> bool:
        """Whether shapes, labels and numbers are those of an evaluation."""
        if self.names.ndim != 1 or self.class_names.ndim != 1 or not len(self.names):
            return False
        videos, classes = len(self.names), len(self.class_names)
        shapes = self.scores.shape == self.logits.shape == (videos, classes)
        shapes = shapes and self.labels.shape == self.clips.shape == (videos,)
        if not shapes or len(set(self.names)) != videos:
            return False
        finite = np.isfinite(self.scores).all() and np.isfinite(self.logits).all()
        return bool(finite and self.labels.min() >= 0 and self.labels.max() < classes and self.clips.min() >= 1)

    def results(self) -> dict[str, float]:
        """The scores of `results.json`, in 0..1."""
        everything = np.ones(len(self.labels), bool)
        after = metrics.finish(metrics.sums(self.scores, self.labels, everything))
        before = metrics.finish(metrics.sums(self.logits, self.labels, everything))
        return {**after, "clip_top1": self.clip_top1, "top1_logit_mean": before["top1"]}
