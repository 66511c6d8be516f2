"""The classical heads of a probe: linear ones by four methods, nearest neighbours, and the temperature of logits.

A linear head is fitted in a `Space` and folded back to raw features:

    space = Space.of(x, weights)
    head = space.fold(HEADS["lda"].fit(space.project(x), labels, classes, weights, 0.3))
    logits = head(x)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from r23d_jax.models.neighbours import TAU, TINY
from r23d_jax.probing.space import Linear, Space, moments

__all__ = ["HEADS", "NEIGHBOURS", "Head", "Linear", "Neighbours", "Space", "neighbour_votes", "temperature"]

NEIGHBOURS = (1, 5, 15)  # the numbers of neighbours that are tried

# Returns kernel [R, C] and bias [C] from rows [N, R], labels [N] of which each class has some, the number of classes,
# weights [N] and the value of the regularisation.
Solver = Callable[[np.ndarray, np.ndarray, int, np.ndarray, float], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Head:
    """A method for linear heads.

    Attributes:
      solve: the method.
      values: of its regularisation, that are tried.
    """

    solve: Solver
    values: tuple[float, ...]

    def fit(self, z: np.ndarray, y: np.ndarray, classes: int, weights: np.ndarray | None, value: float) -> Linear:
        """Returns the head that the method fits; the same for the same arguments, in any thread.

        A class without rows gets a constant logit: as far below the lowest logit of any row as that is below the
        highest. It is finite, so that one held-out row of the class does not make the cross entropy infinite.

        Args:
          z: float64 [N, R], rows of `Space.project`.
          y: int [N], labels from 0 to `classes` - 1.
          classes: number of logits.
          weights: float [N], what each row counts, 1 on average over whole videos; None for 1 each.
          value: of the regularisation, such as one of `values`.
        """
        weights = np.ones(len(z)) if weights is None else np.asarray(weights, np.float64)
        z, y, weights = z[weights > 0], np.asarray(y)[weights > 0], weights[weights > 0]
        present, places = np.unique(y, return_inverse=True)
        if len(present) == 1:
            found = Linear(np.zeros((z.shape[1], 1)), np.zeros(1))
        else:
            found = Linear(*self.solve(z, places, len(present), weights, value))
        if len(present) == classes:
            return found
        logits = found(z)
        low, high = logits.min(), logits.max()
        head = Linear(np.zeros((z.shape[1], classes)), np.full(classes, low - max(high - low, 1.0)))
        head.kernel[:, present], head.bias[present] = found.kernel, found.bias
        return head


def _logistic(z, y, classes, weights, value):
    # Rows of a `Space` are short, and so are gradients: at the default tolerance logits are off by up to a tenth.
    model = LogisticRegression(C=value, tol=1e-6, max_iter=5000).fit(z, y, sample_weight=weights)
    return _columns(model.coef_, model.intercept_)


def _svm(z, y, classes, weights, value):
    # The dual problem would be faster, but all threads of a process draw its order from one generator.
    model = LinearSVC(C=value, dual=False, max_iter=5000).fit(z, y, sample_weight=weights)
    return _columns(model.coef_, model.intercept_)


def _columns(coefficients: np.ndarray, intercepts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns kernel and bias with a column a class; of two, scikit-learn gives only the second less the first."""
    if len(coefficients) == 1:
        halves = np.array([-0.5, 0.5])
        return coefficients.T * halves, intercepts * halves
    return coefficients.T, intercepts


def _lda(z, y, classes, weights, value):
    """Linear discriminant analysis with the covariance within classes shrunk to a multiple of the identity.

    `(1 - value) * S + value * trace(S) / R * I`, as scikit-learn's with `solver="lsqr"`, which takes no weights: here
    means, covariance and the classes' shares, the priors, are weighted. R is the size of the space: by its number of
    features `value` would mean less, the fewer rows there are.
    """
    members, means = _class_means(z, y, classes, weights)
    residuals = (z - means[y]) * np.sqrt(weights / weights.sum())[:, None]
    covariance = residuals.T @ residuals
    # With one row a class the trace is 0; in a `Space` that of all rows is about 1.
    identity = max(np.trace(covariance), 1e-6) / len(covariance)
    covariance *= 1 - value
    covariance[np.diag_indices_from(covariance)] += value * identity
    kernel = np.linalg.solve(covariance, means.T)
    return kernel, np.log(members.sum(axis=0) / weights.sum()) - 0.5 * np.sum(means.T * kernel, axis=0)


def _nearest_mean(z, y, classes, weights, value):
    """The nearest class mean: `-|z - mean|^2` less `|z|^2`, which all classes share."""
    _, means = _class_means(z, y, classes, weights)
    return 2 * means.T, -np.sum(means**2, axis=1)


def _class_means(z, y, classes, weights):
    members = weights[:, None] * np.eye(classes)[y]
    return members, members.T @ z / members.sum(axis=0)[:, None]


HEADS: Mapping[str, Head] = MappingProxyType(
    {
        "logistic": Head(_logistic, (1.0, 10.0, 100.0)),  # C: more is less regularisation
        "lda": Head(_lda, (0.03, 0.1, 0.3, 0.6, 0.9)),  # shrinkage
        "svm": Head(_svm, (0.1, 1.0)),  # C, one class against the rest
        "means": Head(_nearest_mean, (0.0,)),  # has none
    }
)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Votes of the most similar training rows; `models.neighbours.neighbour_weights` is the same in a network.

    Attributes:
      mean: float32 [D].
      scale: float32 [D], 1 / standard deviation.
      points: float32 [N, D], the training rows, standardised and of unit length.
      labels: float32 [N, C], one-hot.
      k: how many vote.
      tau: temperature of the votes.
      sharpness: the logit of a class that has all votes.
    """

    mean: np.ndarray
    scale: np.ndarray
    points: np.ndarray
    labels: np.ndarray
    k: int
    tau: float = TAU
    sharpness: float = 10.0

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, classes: int, k: int, weights: np.ndarray | None = None) -> "Neighbours":
        """Returns the head of training rows.

        Args:
          x: float [N, D], raw features.
          y: int [N], labels.
          classes: number of logits.
          k: how many vote.
          weights: float [N], what each row counts in mean and standard deviation; all votes count the same.
        """
        mean, scale = (values.astype(np.float32) for values in moments(x, weights))
        return cls(mean, scale, _unit(x, mean, scale), np.eye(classes, dtype=np.float32)[y], k)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Returns float32 [B, C], the logits of raw features, float [B, D]."""
        votes = neighbour_votes(_unit(x, self.mean, self.scale), self.points, self.k, self.tau)
        return self.sharpness * (votes @ self.labels)


def _unit(x: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    z = (np.asarray(x, np.float32) - mean) * scale
    return z / np.sqrt(np.maximum(np.sum(z * z, axis=1, keepdims=True), TINY))


def neighbour_votes(x: np.ndarray, points: np.ndarray, k: int, tau: float = TAU) -> np.ndarray:
    """Returns how much each point counts for each row: a softmax over the k most similar ones, of equal ones the first.

    Args:
      x: float32 [B, D], of unit length.
      points: float32 [N, D], of unit length.
      k: how many may vote; all of them where there are fewer.
      tau: temperature of the softmax over the similarities, inner products.

    Returns:
      float32 [B, N], rows that sum to 1, with zeros for all but the k most similar.
    """
    similarity = x @ points.T
    places = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    nearest = np.take_along_axis(similarity, places, axis=1)
    votes = np.exp((nearest - nearest[:, :1]) / tau)
    weights = np.zeros_like(similarity)
    np.put_along_axis(weights, places, votes / votes.sum(axis=1, keepdims=True), axis=1)
    return weights


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the factor on held-out logits that minimises their cross entropy.

    C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2, divide by its inverse.

    Where all n rows are right, a larger factor is always better: the answer is then the factor at which the cross
    entropy falls to that of a chance of (n + 1/2) / (n + 1) to be right, Jeffreys' estimate from n successes. No other
    case gets there, since one wrong row costs log(2) / n at least.

    Args:
      logits: float [N, C].
      labels: int [N].
    """
    logits = np.asarray(logits, np.float64)
    spread = logits.std(axis=1).max()
    if not spread:
        return 1.0
    # Relative to the spread, the factors between chance and a decision without any doubt.
    low, high = np.log(1e-3 / spread), np.log(1e4 / spread)
    margins = logits - logits[np.arange(len(labels)), labels][:, None]
    least = np.log((len(labels) + 1) / (len(labels) + 0.5))
    for _ in range(60):  # cross entropy is convex in the factor: halve the interval by the sign of its slope
        middle = (low + high) / 2
        scaled = np.exp(middle) * margins
        top = scaled.max(axis=1, keepdims=True)
        odds = np.exp(scaled - top)
        totals = odds.sum(axis=1, keepdims=True)
        slope = np.mean(np.sum(odds / totals * margins, axis=1))
        if slope < 0 and np.mean(top + np.log(totals)) > least:
            low = middle
        else:
            high = middle
    return float(np.exp(low))
