"""Measures how long the device is idle because the next batch is not ready."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax


class Waiting:
    """Takes batches from a stream, and adds up how long the device waited for them.

    Steps are dispatched asynchronously, so a host that waits for a batch does not mean an idle device: only the time
    after the device has finished its last step counts. A separate thread waits for the device. The loop waits only for
    the step before the last, so that no more than two batches are on the device besides those transferred ahead.

    Attributes:
      seconds: waiting time since the last lap.
    """

    def __init__(self):
        self.seconds = 0.0
        self._watcher = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._last: Future | None = None
        self._before: Future | None = None

    def next(self, stream: Iterator[Any]) -> Any:
        """Returns the next batch, when the device has finished the step before the last."""
        if self._before is not None:
            self._before.result()
        begun = time.perf_counter()
        batch = next(stream)
        arrived = time.perf_counter()
        if self._last is None:
            self.seconds += arrived - begun
        elif self._last.done() and self._last.exception() is None:
            self.seconds += max(0.0, arrived - max(begun, self._last.result()))
        return batch

    def lap(self) -> float:
        """Returns the waiting time since the last lap in seconds, and resets it."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds

    def step(self, outputs: Any) -> None:
        """Registers the outputs of the step just dispatched, without arrays that will be donated."""
        self._before, self._last = self._last, self._watcher.submit(_finished, outputs)

    def close(self) -> None:
        """Waits for the device and ends the thread."""
        self._watcher.shutdown(wait=True, cancel_futures=True)


def _finished(outputs: Any) -> float:
    jax.block_until_ready(outputs)
    return time.perf_counter()
