"""Rates of steps that run one after the other, as in training."""

import statistics
import time
from collections.abc import Callable
from typing import Any


def rates(step: Callable[[], Any], wait: Callable[[], Any], work: float, rounds: int, window: float) -> dict[str, Any]:
    """Measures a step that has run before.

    Args:
      step: starts one step.
      wait: waits until all steps that were started are done.
      work: of a step, clips for example.
      rounds, window: measurements, and the approximate seconds of each.

    Returns:
      `rate`, the median work a second, with `least` and `largest`.
    """

    def timed(repeats: int) -> float:
        begun = time.perf_counter()
        for _ in range(repeats):
            step()
        wait()
        return time.perf_counter() - begun

    repeats = max(1, round(window / min(timed(1), timed(1))))
    found = [work * repeats / timed(repeats) for _ in range(rounds)]
    return {"rate": statistics.median(found), "least": min(found), "largest": max(found)}
