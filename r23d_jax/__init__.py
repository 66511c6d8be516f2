"""Spatiotemporal convolution networks for action recognition in video, in JAX and Flax.

Importing this package takes no time: `r23d_jax.models` and the others below are imported when they are first
used. No import starts a JAX backend or needs TensorFlow or PyTorch.
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"
__all__ = ["cam", "checkpoint", "config", "convert", "evaluate", "inference", "models", "report", "score", "train"]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"r23d_jax.{name}")
    raise AttributeError(f"module 'r23d_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
