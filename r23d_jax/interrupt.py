"""SIGTERM and SIGINT as a request: finish the step, save, leave with a status of its own."""

import os
import signal

EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: try the same command again


class Interrupted(Exception):
    """The run was asked to stop and has saved its state."""


class Interrupt:
    """Within `with Interrupt() as interrupt`, a first signal sets `interrupt.received`; a second one kills."""

    def __enter__(self) -> "Interrupt":
        self.received = False
        self._before = {s: signal.signal(s, self._receive) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop(self, message: str) -> Interrupted:
        """The exception to raise when the state is saved."""
        return Interrupted(message)

    def _receive(self, number, _frame) -> None:
        self.received = True
        os.write(2, b"\nstopping at the next step; a second signal stops at once\n")
        signal.signal(number, signal.SIG_DFL)
