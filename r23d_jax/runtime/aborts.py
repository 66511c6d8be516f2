"""One line and an exit status of our own where JAX would abort the process.

When a process of several is lost, JAX's coordination service ends all others: its C++ log writes twenty lines to
descriptor 2 and calls abort(). No Python code is asked (the callback jaxlib has for it fails on its argument in
0.10.2), so this stands in between: descriptor 2 becomes a file whose lines are shown a moment later, and a
handler of SIGABRT replaces what the coordination service wrote by one line. Any other abort is left as it was.
"""

import atexit
import ctypes
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import TextIO

_EVERY = 0.5  # seconds
_HELD = 60.0  # seconds from the first line of a failure to the abort, at the most; usually milliseconds
_FAILURE = re.compile(
    rb"^[A-Z]\d{4} [\d:.]+ +\d+ (?:coordination_service\w*|preemption_sync_manager|client)\.(?:cc|h):", re.MULTILINE
)


class Aborts:
    """From `install` to the end of the process, C++ messages are shown late and aborts are explained.

    Args:
      explain: from what the coordination service wrote, the line to show instead and the status to exit with.
    """

    def __init__(self, explain: Callable[[str], tuple[str, int]]):
        self._explain = explain
        self._lock = threading.Lock()
        self._ending = threading.Lock()
        self._shown = 0

    def install(self) -> None:
        """Only for a process that joins others: it stays in place until the process ends."""
        self._log = tempfile.TemporaryFile()
        self._stderr = os.dup(2)
        sys.stderr.flush()
        os.dup2(self._log.fileno(), 2)
        # What Python writes goes on to the terminal, at once.
        sys.stderr = _line_buffered(os.dup(self._stderr))
        self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._aborted)  # kept, or it would be freed
        # Not by `signal.signal`, whose handlers wait for the main thread: abort() does not.
        self._signal = ctypes.CDLL(None).signal
        self._signal.restype, self._signal.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
        self._signal(signal.SIGABRT, ctypes.cast(self._handler, ctypes.c_void_p))
        threading.Thread(target=self._show_late, daemon=True, name="stderr").start()
        atexit.register(self._show)

    def end(self, line: str, status: int) -> None:
        """Shows the line and ends the process at once. Of several calls the first one counts."""
        self._ending.acquire()  # never released: the others wait here for the end
        self._show(hold=True)
        os.write(self._stderr, f"{line}\n".encode())
        sys.stdout.flush()
        os._exit(status)

    def _aborted(self, number: int) -> None:
        text = self._unshown()
        if _FAILURE.search(text):
            self.end(*self._explain(text.decode(errors="replace")))
        self._show()
        self._signal(number, None)  # the default: abort() raises it again

    def _unshown(self) -> bytes:
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size - self._shown, self._shown)

    def _show(self, hold: bool = False) -> bool:
        """Shows what was not yet shown; with `hold` only what comes before a failure. True if it held something."""
        with self._lock:
            data = self._unshown()
            failure = _FAILURE.search(data) if hold else None
            data = data[: failure.start()] if failure else data
            self._shown += len(data)
            os.write(self._stderr, data)
            return failure is not None

    def _show_late(self) -> None:
        held_since = None
        while True:
            time.sleep(_EVERY)
            held = self._show(hold=held_since is None or time.monotonic() < held_since + _HELD)
            held_since = (held_since or time.monotonic()) if held else None


def _line_buffered(descriptor: int) -> TextIO:
    return os.fdopen(descriptor, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
