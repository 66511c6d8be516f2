"""Shared by the converter's tests: clips, comparison of every stage, and small files."""

import jax
import numpy as np
import torch
from flax import nnx


def clip(frames: int = 8, size: int = 32, channels: int = 3, batch: int = 1, seed: int = 0) -> np.ndarray:
    """A random clip `[B, T, H, W, C]`, float32 on -1..1."""
    shape = (batch, frames, size, size, channels)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def to_torch(video: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(video.transpose(0, 4, 1, 2, 3).copy())


def ours(model: nnx.Module, video: np.ndarray) -> dict[str, np.ndarray]:
    """Every stage's output and the logits, compiled once."""
    graph, state = nnx.split(model)

    @jax.jit
    def run(state, video):
        model = nnx.merge(graph, state)
        return {**model.features(video), "logits": model(video)}

    return {name: np.asarray(value) for name, value in run(state, video).items()}


def assert_same(found: dict, expected: dict[str, torch.Tensor], tolerance: float = 1e-4) -> None:
    """Every output of the reference within `tolerance` of its largest value."""
    for name, tensor in expected.items():
        reference = tensor.detach().numpy()
        if reference.ndim == 5:
            reference = reference.transpose(0, 2, 3, 4, 1)
        assert found[name].shape == reference.shape, name
        worst = np.abs(found[name] - reference).max() / np.abs(reference).max()
        assert worst < tolerance, f"{name}: relative difference {worst:.2g}"
        assert np.abs(reference).max() > 1e-3 and reference.std() > 1e-4, f"{name}: a trivial reference"


def assert_identical(state: dict, expected: dict[str, torch.Tensor]) -> None:
    """Two PyTorch state dicts, bit for bit."""
    assert set(state) == set(expected)
    for name, tensor in expected.items():
        assert state[name].dtype == tensor.dtype, name
        assert torch.equal(state[name], tensor), name
