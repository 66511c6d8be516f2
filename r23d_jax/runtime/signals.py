"""Handling of SIGTERM and SIGINT: finish the step, save, and exit with a status of its own."""

import contextlib
import os
import signal
from collections.abc import Iterator

EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: try the same command again


class Interrupted(BaseException):
    """The run stopped after a signal, with its state saved; several processes stop at the same step.

    Not an `Exception`, so that no handler of other errors catches it.
    """


class InterruptedAlone(Interrupted):
    """An interruption that the other processes of the run do not know of."""


class Interrupt:
    """Context in which a first signal sets `received`, and a second one ends the process."""

    def __enter__(self) -> "Interrupt":
        self.received = False
        self._before = {s: signal.signal(s, self._receive) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, *_) -> None:
        self.received = True
        os.write(2, b"\nstopping at the next step; a second signal stops at once\n")
        for either in self._before:
            signal.signal(either, signal.SIG_DFL)


@contextlib.contextmanager
def exit_on_signal() -> Iterator[None]:
    """Raises `InterruptedAlone` at a signal, for use where there is nothing to save (setup, separate evaluation).

    An `Interrupt` inside takes precedence.
    """

    def receive(number, _frame):
        signal.signal(number, signal.SIG_DFL)
        raise InterruptedAlone("there was nothing new to save; the same command continues")

    before = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
