"""Compiled programs kept on disk, so that the next command starts at once."""

import os
import platform
from pathlib import Path

import jax

from r23d_jax.weights.download import cache_dir


def enable() -> None:
    """Keeps programs that took over a second to compile below `$R23D_CACHE` (or `~/.cache/r23d_jax`).

    Each machine has a folder of its own, since a CPU's programs may use instructions that another one lacks.
    Where the user has chosen a folder (`JAX_COMPILATION_CACHE_DIR`) or the cache cannot be written, nothing changes.
    """
    if jax.config.jax_compilation_cache_dir:
        return
    folder: Path = cache_dir() / "compiled" / (platform.node() or "machine")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
