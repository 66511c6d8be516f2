"""Linear heads, and the space that they are fitted in: its way there from raw features, and back to them."""

from dataclasses import dataclass

import numpy as np
from sklearn.utils.extmath import randomized_svd

# Rows and features above which only the `_LARGEST` directions are kept: all would take hours and tens of GB.
_WHOLE, _LARGEST = 3000, 1024
_ROWS = 64  # rows that are converted to float64 at a time
_FLAT = 1e-6  # a spread, as a share of the mean, that is rounding of float32


@dataclass(frozen=True, eq=False)
class Linear:
    """`logits = x @ kernel + bias`.

    Attributes:
      kernel: [D, C]; float64 in a `Space`, float32 on raw features.
      bias: [C], of the same type.
    """

    kernel: np.ndarray
    bias: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Returns float64 [N, C], the logits of float [N, D]."""
        return np.asarray(x, np.float64) @ self.kernel + self.bias


def moments(x: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and 1 / standard deviation of every feature, float64 [D] each; 0 / 1 of one that never changes.

    Args:
      x: float [N, ..., D].
      weights: float [N], by default equal ones.
    """
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    shares = weights / (weights.sum() * x[0, ..., 0].size)
    blocks = [slice(start, start + _ROWS) for start in range(0, len(x), _ROWS)]
    mean = sum(_weighted_sum(np.asarray(x[block], np.float64), shares[block]) for block in blocks)
    variance = sum(_weighted_sum((np.asarray(x[block], np.float64) - mean) ** 2, shares[block]) for block in blocks)
    spread = np.sqrt(variance)
    varies = spread > _FLAT * np.abs(mean)
    return mean, np.divide(1.0, spread, out=np.zeros_like(spread), where=varies)


def _weighted_sum(x: np.ndarray, shares: np.ndarray) -> np.ndarray:
    return shares @ x.reshape(len(x), -1, x.shape[-1]).sum(axis=1)


@dataclass(frozen=True, eq=False)
class Space:
    """The span of the training rows, standardised: a small space where fits cost rows, not features.

    Linear heads with an L2 penalty, class means, and discriminants shrunk to a multiple of the identity are the same in
    it as on all standardised features, because they never leave the span of the rows. Of more than 3000 rows and
    features the 1024 directions of the largest variance stand for all (N. Halko et al., "Finding Structure with
    Randomness", 2011).

    Attributes:
      mean: float64 [D].
      scale: float64 [D]: 1 / standard deviation / sqrt(number of features that vary), so that a row is about 1 long and
        a regularisation means the same for any number of features; 0 for a feature that does not vary.
      rotation: float64 [D, R], orthonormal columns; R is at most the number of rows and of features.
    """

    mean: np.ndarray
    scale: np.ndarray
    rotation: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, weights: np.ndarray | None = None) -> "Space":
        """Returns the space of training rows.

        Args:
          x: float [N, D], raw features.
          weights: float [N], what each row counts in mean and standard deviation; by default the same.
        """
        mean, scale = moments(x, weights)
        scale = scale / np.sqrt(max(np.count_nonzero(scale), 1))
        rows = (np.asarray(x, np.float64) - mean) * scale
        if min(rows.shape) > _WHOLE:
            _, _, vectors = randomized_svd(rows, _LARGEST, random_state=0)
            return cls(mean, scale, vectors.T)
        few = rows.shape[0] < rows.shape[1]
        values, vectors = np.linalg.eigh(rows @ rows.T if few else rows.T @ rows)
        kept = values > 1e-9 * values[-1]
        kept[-1] = True  # one direction even where all rows are the same
        vectors = vectors[:, kept]
        if few:
            vectors = rows.T @ vectors / np.sqrt(np.maximum(values[kept], np.finfo(np.float64).tiny))
        return cls(mean, scale, vectors)

    def project(self, x: np.ndarray) -> np.ndarray:
        """Returns float64 [N, R], the place in the space of raw features, float [N, D]."""
        return ((np.asarray(x, np.float64) - self.mean) * self.scale) @ self.rotation

    def fold(self, head: Linear) -> Linear:
        """Returns the head on raw features that gives the same logits as `head` on projected ones, in float32."""
        kernel = (self.scale[:, None] * (self.rotation @ head.kernel)).astype(np.float32)
        bias = head.bias - self.mean @ kernel.astype(np.float64)  # of the rounded kernel, so that the mean row is exact
        return Linear(kernel, bias.astype(np.float32))
