"""What a built network consists of: its stages in order, and its batch normalisations."""

import jax
from flax import nnx

from r23d_jax.models.layers import BatchNorm


def stage_names(model: nnx.Module) -> tuple[str, ...]:
    """Top-level modules with parameters, in order of depth (the order they were built in), the head last."""
    return tuple(
        name
        for name, value in vars(model).items()
        if isinstance(value, nnx.Module) and jax.tree.leaves(nnx.state(value, nnx.Param))
    )


def batch_norm_epsilon(model: nnx.Module) -> float:
    """Epsilon of the model's batch normalisations, which is the same in all of them."""
    return next(module.epsilon for _, module in nnx.iter_modules(model) if isinstance(module, BatchNorm))


def freeze_batch_norm(model: nnx.Module) -> None:
    """Makes every BatchNorm use and keep its running statistics, in training too."""
    model.set_attributes(BatchNorm, frozen=True)
