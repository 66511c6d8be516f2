"""The training time of a run over all its sessions, and its time budget."""

import time


class Clock:
    """Measures training time; time before the first `restart` or between a lap and `restart` does not count.

    Args:
      seconds: training time of earlier sessions.
      budget_minutes: limit for the whole run; 0 for none.

    Attributes:
      seconds: training time up to the last lap.
    """

    def __init__(self, seconds: float, budget_minutes: float):
        self.seconds = seconds
        self._budget = budget_minutes * 60
        self._began: float | None = None

    @property
    def out_of_time(self) -> bool:
        """Whether the budget is used up."""
        running = 0.0 if self._began is None else time.perf_counter() - self._began
        return bool(self._budget) and self.seconds + running > self._budget

    def restart(self) -> None:
        """Starts counting from now."""
        self._began = time.perf_counter()

    def lap(self) -> float:
        """Adds the seconds since `restart` or the last lap to `seconds`, and returns them."""
        now = time.perf_counter()
        elapsed, self._began = now - self._began, now
        self.seconds += elapsed
        return elapsed
