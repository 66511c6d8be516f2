"""Compiled programs kept on disk, so that the next command starts at once."""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from r23d_jax.runtime.files import cache_dir
from r23d_jax.runtime.text import bytes_text


def enable_cache() -> None:
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


class Reported:
    """A jitted function that is compiled once, by its first call, and says what that took.

    Args:
      name: what it is called in the line.
      function: from `jax.jit`. All calls have arguments of the same shapes, types and devices; others are an error.
      say: takes the line.
    """

    def __init__(self, name: str, function: Any, say: Callable[[str], None]):
        self._name, self._function, self._say = name, function, say
        self._program = None

    def __call__(self, *arguments: Any) -> Any:
        if self._program is None:
            begun = time.perf_counter()
            self._program = self._function.lower(*arguments).compile()
            taken, size = time.perf_counter() - begun, planned_bytes(self._program)
            memory = "" if size is None else f", {bytes_text(size)} on each device"
            self._say(f"{self._name} compiled in {taken:.1f} s{memory}")
        return self._program(*arguments)


def planned_bytes(program: jax.stages.Compiled) -> int | None:
    """What a device holds while the program runs: arguments, results and temporaries; None where XLA does not say."""
    plan = program.memory_analysis()
    if plan is None:
        return None
    return plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes - plan.alias_size_in_bytes


def peak_bytes(program: jax.stages.Compiled) -> int | None:
    """The device's own account of the most it held; where it keeps none, what the program was given."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use") or planned_bytes(program)
