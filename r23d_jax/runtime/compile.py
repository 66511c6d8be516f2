"""The persistent compilation cache, and reports on compiled programs."""

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
    """Caches programs that took over a second to compile below `$R23D_CACHE` (or `~/.cache/r23d_jax`).

    Each machine has its own folder, since CPU programs may use instructions that another machine lacks. Does nothing
    if `JAX_COMPILATION_CACHE_DIR` is set or the cache cannot be written.
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
    """A jitted function that compiles at its first call, and reports time and memory.

    Args:
      name: of the function in the report.
      function: from `jax.jit`. All calls must have arguments of the same shapes, dtypes and devices.
      say: called with the report, a line.
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
    """Returns the bytes of a program's arguments, results and temporaries on a device; None if XLA does not know."""
    plan = program.memory_analysis()
    if plan is None:
        return None
    return plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes - plan.alias_size_in_bytes


def peak_bytes(program: jax.stages.Compiled) -> int | None:
    """Returns the device's peak memory in bytes if it records it, else `planned_bytes`."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use") or planned_bytes(program)
