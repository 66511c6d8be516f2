"""A training step that compiles in a second: three stages on bright and dark noise."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from r23d_jax import config as configs
from r23d_jax.models import layers
from r23d_jax.models.functional import Functional, weights_of
from r23d_jax.models.structure import freeze_batch_norm, stage_names
from r23d_jax.training import optim
from r23d_jax.training.step import init_state, make_train_step

CLASSES, BATCH = 3, 8


class Tiny(nnx.Module):
    """Three stages: a convolution with BatchNorm, another, dropout, a head."""

    def __init__(self, dtype, dropout):
        rngs = nnx.Rngs(0)
        options = {"dtype": jnp.dtype(dtype), "rngs": rngs}
        self.stem = layers.Sequential(
            layers.Conv(3, 4, (1, 3, 3), (1, 2, 2), **options), layers.BatchNorm(4, epsilon=1e-5)
        )
        self.layer1 = layers.Conv(4, 4, (3, 1, 1), **options)
        self.fc = layers.Linear(4, CLASSES, rngs=rngs)
        self.dropout, self.deterministic = dropout, False

    def __call__(self, video, rngs=None):
        x = jax.nn.relu(self.layer1(jax.nn.relu(self.stem(video))))
        if self.dropout and not self.deterministic:
            x = layers.dropout(x, self.dropout, rngs.dropout())
        return self.fc(jnp.mean(x.astype(jnp.float32), (1, 2, 3)))


def network(dtype="float32", dropout=0.0, frozen_norm=False):
    model = Tiny(dtype, dropout)
    if frozen_norm:
        freeze_batch_norm(model)
    return model


def batch(seed=0):
    labels = np.arange(BATCH) % CLASSES  # the brighter, the higher
    noise = np.random.default_rng(seed).integers(0, 100, (BATCH, 4, 16, 16, 3))
    return {
        "frames": jnp.asarray(noise + 70 * labels[:, None, None, None, None], jnp.uint8),
        "size": jnp.full((BATCH, 2), 16, jnp.int32),
        "label": jnp.asarray(labels),
    }


def plain(key, frames, size, labels):
    return frames.astype(jnp.float32) / 255 - 0.5, jax.nn.one_hot(labels, CLASSES)


def prepare(*overrides, model=None, transform=plain):
    """The step, not yet compiled, and the state before it."""
    plain_run = ("lr=0.1", "schedule.name=constant", "schedule.warmup_epochs=0", f"batch_size={BATCH}")
    config = configs.load("demo", [*plain_run, *overrides])
    model = model or network(config.dtype, config.model.dropout, config.freeze_batch_norm)
    params, stats = weights_of(model)
    factors = optim.lr_factors(config, params, stage_names(model))
    learning = {name for name, factor in factors.items() if factor}
    rate = optim.schedule(config, 100, 10)
    tx = optim.create(config, rate, {name: factors[name] for name in learning})
    step = jax.jit(make_train_step(config, Functional(model), tx, rate, learning, transform))
    return step, init_state(params, stats, tx, learning, config.ema, config.seed, config.dtype)


def take_steps(*overrides, count=1, model=None, transform=plain):
    step, before = prepare(*overrides, model=model, transform=transform)
    state, metrics = before, None
    for index in range(count):
        state, metrics = step(state, batch(index))
    return before, state, jax.device_get(metrics)


def changed(before, after):
    return {name for name in before if not np.array_equal(before[name], after[name])}
