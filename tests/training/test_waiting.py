"""What counts as waiting for data: only while the device has nothing to do."""

import threading
import time

from r23d_jax.training.waiting import Waiting


class Output:
    """A result of a device that is finished when `event` is set."""

    def __init__(self, event):
        self._event = event

    def block_until_ready(self):
        self._event.wait()
        return self


def slow(seconds, first=None):
    while True:
        if first is not None:
            first.set()
        time.sleep(seconds)
        yield "batch"


def test_a_device_that_is_busy_does_not_wait():
    waiting, busy = Waiting(), threading.Event()
    waiting.step(Output(busy))
    assert waiting.next(slow(0.05)) == "batch" and waiting.seconds == 0
    busy.set()
    waiting.close()


def test_a_device_that_is_finished_waits_from_then_on():
    waiting, busy = Waiting(), threading.Event()
    waiting.step(Output(busy))
    threading.Timer(0.2, busy.set).start()
    waiting.next(slow(0.5))
    assert 0 < waiting.seconds < 0.45  # not the 0.5 s that the host waited
    before = waiting.seconds
    waiting.next(slow(0.05))
    assert waiting.seconds - before >= 0.05
    waiting.close()
