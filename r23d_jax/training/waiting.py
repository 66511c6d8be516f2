"""How long the device has nothing to do because the next batch is not there yet."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax


class Waiting:
    """Takes batches for steps that run behind the host, and adds up how long the device waited for them.

    The host runs steps ahead of the device, so the time that it waits for a batch itself would say nothing: only what
    is left of it once the device has done all it was given counts. A thread of its own waits for the device, never
    the loop.

    Attributes:
      seconds: waited since the last lap.
    """

    def __init__(self):
        self.seconds = 0.0
        self._watcher = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._last: Future | None = None

    def next(self, stream: Iterator[Any]) -> Any:
        """The next batch."""
        begun = time.perf_counter()
        batch = next(stream)
        arrived = time.perf_counter()
        if self._last is None:
            self.seconds += arrived - begun
        elif self._last.done() and self._last.exception() is None:
            self.seconds += max(0.0, arrived - max(begun, self._last.result()))
        return batch

    def lap(self) -> float:
        """Returns the seconds since the last lap, and begins to count anew."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds

    def step(self, outputs: Any) -> None:
        """Tells what the step just started will give, of arrays that are not donated."""
        self._last = self._watcher.submit(_finished, outputs)

    def close(self) -> None:
        """Ends the thread, when the device has finished."""
        self._watcher.shutdown(wait=True, cancel_futures=True)


def _finished(outputs: Any) -> float:
    jax.block_until_ready(outputs)
    return time.perf_counter()
