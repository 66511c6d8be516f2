"""What compiling a program took, and the memory it needs."""

import time
from collections.abc import Callable
from typing import Any

import jax


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


def bytes_text(size: int) -> str:
    """A size in MiB or GiB."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


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
