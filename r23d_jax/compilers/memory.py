"""Whether a step fits in a chip's memory, and the largest batch that would."""

import math
from collections.abc import Callable
from typing import Any

from r23d_jax.compilers.programs import Compiled, DoesNotFitError, Steps
from r23d_jax.compilers.targets import Chip


def figures(compiled: Compiled, waiting: int, chip: Chip) -> dict[str, Any]:
    """Returns the memory of a step on one chip, in bytes.

    Args:
      waiting: bytes that are on the chip meanwhile and none of its arguments, from `Steps`.

    Returns:
      `argument_bytes`, `temp_bytes` and `program_bytes` as the compiler plans them, `waiting_bytes`, `capacity_bytes`
      and `usable_bytes` of the chip, and `fits`.
    """
    return {
        "temp_bytes": compiled.temporaries,
        "argument_bytes": compiled.arguments,
        "program_bytes": compiled.planned,
        "waiting_bytes": waiting,
        "capacity_bytes": chip.memory,
        "usable_bytes": chip.usable,
        "fits": compiled.planned + waiting <= chip.usable,
    }


def not_fitting(error: DoesNotFitError, waiting: int, chip: Chip) -> dict[str, Any]:
    """Returns the same where the compiler found no place for the program; it says only how much it needs, if that."""
    unknown = {"temp_bytes": None, "argument_bytes": None, "program_bytes": error.needed}
    usable = error.available or chip.usable
    sizes = {"waiting_bytes": waiting, "capacity_bytes": chip.memory, "usable_bytes": usable}
    return unknown | sizes | {"fits": False}


def largest_batch(found: dict[str, Any], steps: Steps, batch: int, multiple: int = 1) -> int | None:
    """Estimates the largest batch a chip from the memory of one compiled batch; None if that is not known.

    The training state and the gradients take the same memory in any batch, all else is taken to be proportional to it.
    The compiler plans differently for every batch, so the truth may be some clips off.

    Args:
      found: from `figures` or `not_fitting`.
      batch: clips a chip that were compiled.
      multiple: what batches are to be multiples of.
    """
    if found["program_bytes"] is None:
        return None
    constant = min(steps.state + steps.gradients, found["program_bytes"])
    each = (found["program_bytes"] - constant + found["waiting_bytes"]) / batch
    return max(0, int((found["usable_bytes"] - constant) / each)) // multiple * multiple


def proven_largest(
    fits: Callable[[int], bool], guess: int, say: Callable[[str], None], known: int = 0, multiple: int = 1
) -> int:
    """Returns the largest batch a chip that fits, in steps of 8 clips from 64 on, by compiling; 0 if none does.

    Args:
      fits: compiles a batch of so many clips a chip, and returns whether that fits.
      guess: where to begin.
      say: called with a line before every compilation.
      known: a batch that is known to fit.
      multiple: what batches are to be multiples of.
    """
    low, high, tried, step = known, None, max(1, guess), max(1, guess // 8)
    while high is None or high - low > _unit(low, multiple):
        unit = _unit(tried, multiple)
        tried = max(tried // unit * unit, low + _unit(low, multiple))
        say(f"largest batch: {low} fits{'' if high is None else f', {high} does not'}; compiling {tried}")
        if fits(tried):
            low = tried
        else:
            high = tried
        # Near the guess in small steps that grow, between two known ends by halves.
        tried, step = low + step if high is None else max((low + high) // 2, high - step), step * 2
    return low


def _unit(batch: int, multiple: int) -> int:
    return math.lcm(8 if batch >= 64 else 1, multiple)
