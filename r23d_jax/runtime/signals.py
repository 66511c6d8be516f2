"""SIGTERM and SIGINT as a request: finish the step, save, leave with a status of its own."""

import contextlib
import os
import signal
from collections.abc import Iterator

EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: try the same command again


class Interrupted(BaseException):
    """The run was asked to stop, and has saved what there was to save. Several processes stop at one step.

    No `Exception`: it may be raised anywhere, and whoever handles the errors of a file or of a library means those.
    """


class InterruptedAlone(Interrupted):
    """The same, where of several processes only this one knows of it."""


class Interrupt:
    """Within `with Interrupt() as interrupt`, a first signal sets `interrupt.received`; a second one kills."""

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
    """Where there is nothing to save (before training, in an evaluation by itself) a signal raises `InterruptedAlone`.

    An `Interrupt` inside it takes over for as long as it lasts.
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
