"""When a run stops early: after a signal on any host, or when its time budget is used up."""

from r23d_jax.runtime import hosts
from r23d_jax.runtime.signals import Interrupt
from r23d_jax.training.clock import Clock


class Stopping:
    """The decision to stop, on which all processes agree.

    Args:
      interrupt: the active signal handler.
      clock: with the budget.

    Attributes:
      interrupted: whether any process received a signal.
      out_of_time: whether the budget is used up.
    """

    def __init__(self, interrupt: Interrupt, clock: Clock):
        self._interrupt, self._clock = interrupt, clock
        self.interrupted, self.out_of_time = False, clock.out_of_time

    def decide(self, due: bool = True) -> None:
        """Updates the decision.

        Args:
          due: the same on all hosts. Several hosts only update if it is set, since they have to wait for each other.
        """
        self.interrupted, self.out_of_time = hosts.sync_stop(self._interrupt.received, self._clock.out_of_time, due=due)

    def requested(self) -> bool:
        """Returns whether any process has received a signal; ignores the budget."""
        return hosts.sync_stop(self._interrupt.received, False)[0]
