"""When a run stops before its last step: told to by a signal on any host, or out of its budget."""

from r23d_jax.runtime import hosts
from r23d_jax.runtime.signals import Interrupt
from r23d_jax.training.clock import Clock


class Stopping:
    """What all processes have decided, the same in each of them.

    Args:
      interrupt: entered.
      clock: with the budget.

    Attributes:
      interrupted: a process was told to stop.
      out_of_time: the budget is used up.
    """

    def __init__(self, interrupt: Interrupt, clock: Clock):
        self._interrupt, self._clock = interrupt, clock
        self.interrupted, self.out_of_time = False, clock.out_of_time

    def decide(self, due: bool = True) -> None:
        """Decides anew. With several hosts only where `due`, the same for all: asking the others waits for devices."""
        self.interrupted, self.out_of_time = hosts.sync_stop(self._interrupt.received, self._clock.out_of_time, due=due)

    def told(self) -> bool:
        """Whether any process has been told to stop by now, whatever the budget."""
        return hosts.sync_stop(self._interrupt.received, False)[0]
