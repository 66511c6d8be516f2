"""How long a run has trained, over all its sessions, and when its budget is used up."""

import time


class Clock:
    """Counts the time of training alone: what goes by before `start` or between a lap and `restart` is not counted.

    Args:
      seconds: trained in earlier sessions.
      budget_minutes: of the whole run; 0 for no end.

    Attributes:
      seconds: trained up to the last lap.
    """

    def __init__(self, seconds: float, budget_minutes: float):
        self.seconds = seconds
        self._budget = budget_minutes * 60
        self._began: float | None = None

    @property
    def out_of_time(self) -> bool:
        """Whether the budget is used up by now; before `start`, by the earlier sessions."""
        running = 0.0 if self._began is None else time.perf_counter() - self._began
        return bool(self._budget) and self.seconds + running > self._budget

    def restart(self) -> None:
        """Counts from now on."""
        self._began = time.perf_counter()

    def lap(self) -> float:
        """Adds the seconds since `restart` or the last lap, and returns them."""
        now = time.perf_counter()
        elapsed, self._began = now - self._began, now
        self.seconds += elapsed
        return elapsed
