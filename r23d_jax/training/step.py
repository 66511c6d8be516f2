"""The training step: a pure function of (state, batch), compiled once a run."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from r23d_jax.models.functional import Functional, Weights
from r23d_jax.models.ops import convolution
from r23d_jax.training import loss_scale, losses, optim


@struct.dataclass
class TrainState:
    """The complete state of a run; a checkpoint stores all of it.

    Attributes:
      step: int32, updates done.
      key: uint32 [2], data of the run's random key. It is state rather than a constant of the program, so that runs
        with different seeds share one compiled program.
      params: flat parameters.
      stats: flat running statistics.
      opt_state: optimizer state of the trainable parameters.
      ema: flat moving averages of parameters and statistics; empty if `config.ema` is 0.
      loss_scale: state of the loss scaling, see `loss_scale`; empty if `config.dtype` is not float16.
    """

    step: jax.Array
    key: jax.Array
    params: Weights
    stats: Weights
    opt_state: Any
    ema: Weights
    loss_scale: loss_scale.LossScale

    def evaluated(self) -> Weights:
        """Returns the weights to evaluate: the moving averages if there are any."""
        return self.ema or {**self.params, **self.stats}


def init_state(
    params: Weights,
    stats: Weights,
    tx: optax.GradientTransformation,
    learning: set[str],
    ema: float,
    seed: int,
    dtype: str = "float32",
) -> TrainState:
    """Returns the state before the first step."""
    key = jax.random.key_data(jax.random.key(seed))
    learned = {name: params[name] for name in params if name in learning}
    averages = {**params, **stats} if ema else {}
    averages = jax.tree.map(jnp.copy, averages)
    scale = loss_scale.initial() if dtype == "float16" else {}
    return TrainState(jnp.zeros((), jnp.int32), key, params, stats, tx.init(learned), averages, scale)


def keys_of(key: jax.Array, step: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """Returns the keys of one step's augmentation and dropout, derived from the run's key."""
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
    """Returns `step(state, batch) -> (state, metrics)`, to be compiled with the state donated.

    All randomness is a function of (state.key, state.step). `config.accumulate` splits the batch into that many
    parts, computed one after the other, and averages their gradients; BatchNorm normalises and updates its running
    statistics per part. With a loss scale in the state, a step whose gradients are not finite only counts the step
    and lowers the scale.

    Args:
      config: reads accumulate, loss, label_smoothing, ema and remat.
      network: the network.
      tx: optimizer over the trainable parameters.
      learning_rate: the schedule, for the metrics.
      learning: names of the trainable parameters; gradients are computed for these only.
      transform: `(key, frames, size, labels) -> (video, targets)`, from `transforms.clip.train_transform`.

    Returns:
      The step. Metrics are float32 scalars: loss, accuracy (by the unmixed labels), lr, grad_norm; with a loss scale
      also loss_scale (after the step) and skipped (0 or 1).
    """
    apply, loss_of = network.train, losses.create(config)
    if config.remat:
        # Store only the outputs of convolutions; recompute BatchNorm and ReLU.
        apply = jax.checkpoint(apply, policy=jax.checkpoint_policies.save_only_these_names(convolution.NAME))

    def loss_fn(learned, frozen, stats, video, targets, key, scale):
        logits, stats = apply({**learned, **frozen}, stats, video, key)
        return loss_scale.scaled(loss_of(logits, targets).mean(), scale), (stats, logits)

    def gradients(learned, frozen, stats, video, targets, key, scale):
        if config.accumulate == 1:
            (loss, (stats, logits)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
                learned, frozen, stats, video, targets, key, scale
            )
            return loss, grads, stats, logits

        def part(carry, inputs):
            grads, stats = carry
            index, video, targets = inputs
            (loss, (stats, logits)), new = jax.value_and_grad(loss_fn, has_aux=True)(
                learned, frozen, stats, video, targets, jax.random.fold_in(key, index), scale
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
        scale = state.loss_scale
        loss, grads, stats, logits = gradients(learned, frozen, state.stats, video, targets, dropout_key, scale)
        loss, grads = loss_scale.unscaled((loss, grads), scale)
        updates, opt_state = tx.update(grads, state.opt_state, learned)
        params = {**frozen, **optax.apply_updates(learned, updates)}
        now = {**params, **stats}
        ema = {name: config.ema * old + (1 - config.ema) * now[name] for name, old in state.ema.items()}
        updates_done = state.step - scale["skipped"] if scale else state.step  # as the optimizer counts
        metrics = {
            "loss": loss,
            "accuracy": jnp.mean(jnp.argmax(logits, -1) == batch["label"], dtype=jnp.float32),
            "lr": jnp.asarray(learning_rate(updates_done), jnp.float32),
            "grad_norm": optax.tree.norm(grads),
        }
        after = TrainState(state.step + 1, state.key, params, stats, opt_state, ema, scale)
        if scale:
            finite = loss_scale.is_finite((loss, grads))
            before = state.replace(step=after.step)
            after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, before)
            after = after.replace(loss_scale=loss_scale.updated(scale, finite))
            metrics |= {"loss_scale": after.loss_scale["scale"], "skipped": 1.0 - finite}
        return after, metrics

    return step


def _interleave(x: jax.Array, parts: int) -> jax.Array:
    """Splits [B, ...] into [parts, B/parts, ...], every part with rows of every device."""
    return jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)
