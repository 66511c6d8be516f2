"""The training step: one pure function of (state, batch), compiled once for a whole run."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from r23d_jax.models.functional import Functional, Weights
from r23d_jax.models.ops import convolution
from r23d_jax.training import losses, optim


@struct.dataclass
class TrainState:
    """Everything a run is at one step; all of it goes into a checkpoint.

    Attributes:
      step: int32, updates done.
      key: uint32 [2], data of the key that all the run's randomness comes from. It is state, not a constant of the
        program, so that runs that differ by their seed alone share one compiled program.
      params: flat parameters.
      stats: flat running statistics.
      opt_state: the optimizer's, over the parameters that learn.
      ema: flat averages of parameters and statistics; empty when `config.ema` is 0.
    """

    step: jax.Array
    key: jax.Array
    params: Weights
    stats: Weights
    opt_state: Any
    ema: Weights

    def evaluated(self) -> Weights:
        """The weights an evaluation uses: the averages where there are any."""
        return self.ema or {**self.params, **self.stats}


def init_state(
    params: Weights, stats: Weights, tx: optax.GradientTransformation, learning: set[str], ema: float, seed: int
) -> TrainState:
    """The state before the first step."""
    key = jax.random.key_data(jax.random.key(seed))
    learned = {name: params[name] for name in params if name in learning}
    averages = {**params, **stats} if ema else {}
    averages = jax.tree.map(jnp.copy, averages)
    return TrainState(jnp.zeros((), jnp.int32), key, params, stats, tx.init(learned), averages)


def keys_of(key: jax.Array, step: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """The keys of one step's augmentation and dropout, of the run's key."""
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(key, step))
    return augment_key, dropout_key


def make_train_step(
    config: ConfigDict,
    network: Functional,
    tx: optax.GradientTransformation,
    learning_rate: optim.Schedule,
    learning: set[str],
    transform: Callable[..., tuple[jax.Array, jax.Array]],
) -> Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]:
    """Builds `step(state, batch) -> (state, metrics)`; compile it with the state donated.

    All randomness is a function of (state.key, state.step). With `config.accumulate` the batch is
    computed in that many parts, one after the other, and their gradients averaged; BatchNorm normalises
    each part by itself and its running statistics move once a part.

    Args:
      config: reads accumulate, loss, label_smoothing, ema and remat.
      network: the network.
      tx: optimizer over the learning parameters.
      learning_rate: only to report it.
      learning: names of the parameters that learn; the backward pass covers no others.
      transform: `(key, frames, size, labels) -> (video, targets)`, see `data.augment`.

    Returns:
      The step. Metrics are float32 scalars: loss, accuracy (of the unmixed labels), lr, grad_norm.
    """
    apply, loss_of = network.train, losses.create(config)
    if config.remat:
        # Keeps what convolutions give, and computes BatchNorm and ReLU again.
        apply = jax.checkpoint(apply, policy=jax.checkpoint_policies.save_only_these_names(convolution.NAME))

    def loss_fn(learned, frozen, stats, video, targets, key):
        logits, stats = apply({**learned, **frozen}, stats, video, key)
        return loss_of(logits, targets).mean(), (stats, logits)

    def gradients(learned, frozen, stats, video, targets, key):
        if config.accumulate == 1:
            (loss, (stats, logits)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
                learned, frozen, stats, video, targets, key
            )
            return loss, grads, stats, logits

        def part(carry, inputs):
            grads, stats = carry
            index, video, targets = inputs
            (loss, (stats, logits)), new = jax.value_and_grad(loss_fn, has_aux=True)(
                learned, frozen, stats, video, targets, jax.random.fold_in(key, index)
            )
            return (jax.tree.map(jnp.add, grads, new), stats), (loss, logits)

        parts = config.accumulate
        zeros = jax.tree.map(jnp.zeros_like, learned)
        inputs = jnp.arange(parts), _interleave(video, parts), _interleave(targets, parts)
        (grads, stats), (loss, logits) = jax.lax.scan(part, (zeros, stats), inputs)
        grads = jax.tree.map(lambda g: g / parts, grads)
        return loss.mean(), grads, stats, jnp.swapaxes(logits, 0, 1).reshape(video.shape[0], -1)

    def step(state, batch):
        augment_key, dropout_key = keys_of(jax.random.wrap_key_data(state.key), state.step)
        video, targets = transform(augment_key, batch["frames"], batch["size"], batch["label"])
        learned = {name: state.params[name] for name in state.params if name in learning}
        frozen = {name: state.params[name] for name in state.params if name not in learning}
        loss, grads, stats, logits = gradients(learned, frozen, state.stats, video, targets, dropout_key)
        updates, opt_state = tx.update(grads, state.opt_state, learned)
        params = {**frozen, **optax.apply_updates(learned, updates)}
        now = {**params, **stats}
        ema = {name: config.ema * old + (1 - config.ema) * now[name] for name, old in state.ema.items()}
        metrics = {
            "loss": loss,
            "accuracy": jnp.mean(jnp.argmax(logits, -1) == batch["label"], dtype=jnp.float32),
            "lr": jnp.asarray(learning_rate(state.step), jnp.float32),
            "grad_norm": optax.global_norm(grads),
        }
        return TrainState(state.step + 1, state.key, params, stats, opt_state, ema), metrics

    return step


def _interleave(x: jax.Array, parts: int) -> jax.Array:
    """[B, ...] -> [parts, B/parts, ...], every part with rows of every device."""
    return jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)
