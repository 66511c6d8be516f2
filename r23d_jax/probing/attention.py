"""The attentive head of a probe: learned queries that look at some positions of the clip more than at others.

Trained like the attentive probes of Bardes et al. 2024, "Revisiting Feature Prediction for Learning Visual
Representations from Video", whose cross-attention block is here the smaller pooling of `models.attention`.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

from r23d_jax.models.attention import attend
from r23d_jax.models.head import QUERIES
from r23d_jax.probing.space import moments

BATCH = 64  # also of evaluation
RATE = 1e-2  # of Adam, at its peak
DROPOUT = 0.5  # of the pooled vector
SMOOTHING = 0.1  # of the labels
WARMUP = 0.1  # share of the steps
FEWEST, MOST = 600, 6000  # steps that a fit takes by default
EPOCHS = 30  # by default, within these bounds


@dataclass(frozen=True, eq=False)
class Attention:
    """Attentive pooling and a linear classifier on it, in float32.

    Attributes:
      mean: [D], of the tokens.
      scale: [D], 1 / standard deviation of the tokens.
      query: [H, D].
      position: [H, P].
      kernel: [H * D, C].
      bias: [C].
    """

    mean: np.ndarray
    scale: np.ndarray
    query: np.ndarray
    position: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """Returns float32 [N, C], the logits of tokens, float [N, P, D]."""
        blocks = [tokens[start : start + BATCH] for start in range(0, len(tokens), BATCH)]
        arrays = (self.mean, self.scale, self.query, self.position)
        return np.concatenate([np.asarray(_pool(block, *arrays)) @ self.kernel + self.bias for block in blocks])


_pool = jax.jit(attend)


def fit(
    tokens: np.ndarray,
    labels: np.ndarray,
    classes: int,
    weights: np.ndarray | None = None,
    seed: int = 0,
    epochs: int | None = None,
    weight_decay: float = 1.0,
) -> Attention:
    """Trains an attentive head with AdamW and cosine decay; the same for the same arguments.

    It starts from mean pooling: queries and positions are zero. Tokens stay on the host, from where batches go to the
    device, so that they may be more than its memory holds.

    Args:
      tokens: float [N, P, D], raw features at P positions of a fixed grid over time, height and width.
      labels: int [N], from 0 to `classes` - 1.
      classes: number of logits.
      weights: float [N], what each row counts; by default the same.
      seed: of the initial classifier, the order of rows, and dropout.
      epochs: passes over the rows; by default `EPOCHS`, or as many as make from `FEWEST` to `MOST` steps.
      weight_decay: decoupled (Loshchilov & Hutter 2019), of queries and kernel.
    """
    count, places, width = tokens.shape
    batch = min(BATCH, count)
    steps = math.ceil((epochs or EPOCHS) * count / batch)
    steps = steps if epochs else min(max(steps, FEWEST), MOST)
    weights = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    mean, scale = (values.astype(np.float32) for values in moments(tokens, weights))
    weights = (weights / weights.mean()).astype(np.float32)
    targets = np.asarray(optax.smooth_labels(np.eye(classes, dtype=np.float32)[labels], SMOOTHING))

    start, noise = jax.random.split(jax.random.key(seed))
    params = _initial(start, places, width, classes)
    state = _optimizer(0.0, weight_decay).init(params)
    for step, rows in enumerate(_batches(count, batch, steps, seed)):
        warm = min(1.0, (step + 1) / max(WARMUP * steps, 1.0))
        rate = RATE * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
        data = (tokens[rows], targets[rows], weights[rows], mean, scale)
        params, state = _step(params, state, data, rate, weight_decay, jax.random.fold_in(noise, step))
    return Attention(mean, scale, **{name: np.asarray(value) for name, value in params.items()})


def _initial(key: jax.Array, places: int, width: int, classes: int) -> dict[str, jax.Array]:
    # A classifier of zeros would give all queries the same gradient for ever.
    kernel = jax.random.normal(key, (QUERIES * width, classes)) / math.sqrt(QUERIES * width)
    zeros = {"query": (QUERIES, width), "position": (QUERIES, places), "bias": (classes,)}
    return {name: jnp.zeros(shape) for name, shape in zeros.items()} | {"kernel": kernel}


def _batches(count: int, batch: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """Yields the rows of each step: every row once before any comes again, in an order of the seed."""
    random, waiting = np.random.default_rng(seed), np.zeros(0, np.int64)
    for _ in range(steps):
        if len(waiting) < batch:
            waiting = np.concatenate([waiting, random.permutation(count)])
        yield waiting[:batch]
        waiting = waiting[batch:]


def _optimizer(rate: jax.Array | float, weight_decay: jax.Array | float) -> optax.GradientTransformation:
    decayed = {"query": True, "position": False, "kernel": True, "bias": False}
    return optax.adamw(rate, weight_decay=weight_decay, mask=decayed)


# Rate and weight decay are arguments, so that all fits of a cross-validation share one compiled step.
@functools.partial(jax.jit, donate_argnums=(0, 1))
def _step(params, state, data, rate, weight_decay, key):
    tokens, targets, weights, mean, scale = data

    def loss(params):
        pooled = attend(tokens, mean, scale, params["query"], params["position"])
        kept = jax.random.bernoulli(key, 1 - DROPOUT, pooled.shape)
        logits = jnp.where(kept, pooled / (1 - DROPOUT), 0) @ params["kernel"] + params["bias"]
        return jnp.mean(weights * optax.softmax_cross_entropy(logits, targets))

    updates, state = _optimizer(rate, weight_decay).update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state
