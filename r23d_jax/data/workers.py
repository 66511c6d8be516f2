"""Worker threads or processes that decode a batch together, and the host memory they decode into."""

import collections
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import shared_memory
from typing import NamedTuple

import numpy as np

from r23d_jax.data.dataset import Dataset
from r23d_jax.errors import UserError

_ALIGNMENT = 64  # JAX's CPU backend uses an array without a copy if its address is a multiple of this


class Job(NamedTuple):
    """Rows of a batch with the same clip: position of the video (-1 for black) and its frames."""

    rows: tuple[int, ...]
    position: int
    indices: tuple[int, ...]


class Stopped(Exception):
    """The workers were stopped while they decoded a batch."""


class Threads:
    """Decodes in threads of this process; the decoder releases the GIL.

    Args:
      dataset: to read from.
      shape: of a batch's frames.
      count: number of threads.
    """

    def __init__(self, dataset: Dataset, shape: tuple[int, ...], count: int):
        self.buffers = Buffers(shape)
        self._dataset, self._count = dataset, count
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="decode")

    def decode(self, canvas: np.ndarray, jobs: Sequence[Job]) -> None:
        """Fills a batch with all threads. Exceptions of jobs are raised here."""
        queue = collections.deque(jobs)
        count = min(self._count, len(jobs))
        _wait([_submit(self._pool, self._work, queue, canvas) for _ in range(count)])

    def _work(self, queue: collections.deque, canvas: np.ndarray) -> None:
        while True:
            if self._stopped.is_set():
                raise Stopped
            try:
                job = queue.popleft()  # atomic
            except IndexError:
                return
            _decode(self._dataset, job, canvas)

    def stop(self) -> None:
        """Ends the threads; each finishes its current clip at most."""
        self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)


class Processes:
    """Decodes in processes, into shared memory; for more cores than threads can use.

    Args:
      dataset: to read from; every process opens its own.
      shape: of a batch's frames.
      count: number of processes.
    """

    def __init__(self, dataset: Dataset, shape: tuple[int, ...], count: int):
        self._segments = {}  # by address
        self.buffers = Buffers(shape, self._allocate, keep=1 << 30)  # freed when the processes stop
        self._shape, self._count = shape, count
        # Spawned, because a fork of a process with JAX's threads can deadlock.
        self._pool = ProcessPoolExecutor(
            count, multiprocessing.get_context("spawn"), initializer=_start_process, initargs=(dataset,)
        )

    def _allocate(self, size: int) -> np.ndarray:
        segment = _Segment(create=True, size=size)
        owner = np.frombuffer(segment.buf, np.uint8, size)  # unlike `np.ndarray(buffer=)`, keeps the memory mapped
        self._segments[owner.ctypes.data] = segment
        return owner

    def decode(self, canvas: np.ndarray, jobs: Sequence[Job]) -> None:
        """Fills a batch with all processes. Exceptions of jobs are raised here.

        Raises:
          UserError: a process died.
        """
        name = self._segments[canvas.ctypes.data].name  # starts at a page, so `Buffers` added no offset
        size = -(-len(jobs) // (4 * self._count))  # few jobs per message balance the load, many save messages
        parts = [tuple(jobs[at : at + size]) for at in range(0, len(jobs), size)]
        try:
            with _signals_blocked():  # the first submissions start the processes, which inherit the signal mask
                tasks = [_submit(self._pool, _work_in_process, name, self._shape, part) for part in parts]
            _wait(tasks)
        except BrokenProcessPool:
            raise UserError("a decoding process died, most likely out of memory: use fewer of them") from None

    def stop(self) -> None:
        """Ends the processes, which finish their current clips at most, and releases the shared memory.

        Batches that the caller still holds stay valid.
        """
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.buffers.close()
        while self._segments:
            segment = self._segments.popitem()[1]
            segment.unlink()


class _Segment(shared_memory.SharedMemory):
    """Shared memory that is freed with the last array in it, even after this object is gone."""

    def __del__(self):
        try:
            self.close()
        except BufferError:
            return


class Buffers:
    """A pool of arrays of one shape that avoids the page faults of new ones.

    An array is free again once nothing refers to it: no variable, no view, no pending transfer.

    Args:
      shape: of the uint8 arrays.
      allocate: returns a flat uint8 array of a number of bytes.
      keep: number of arrays to keep; if more are in use, further ones are allocated and not kept.
    """

    def __init__(self, shape: tuple[int, ...], allocate: Callable[[int], np.ndarray] | None = None, keep: int = 8):
        self._shape, self._keep = shape, keep
        self._allocate = allocate or (lambda size: np.empty(size, np.uint8))
        self._size = int(np.prod(shape))
        self._owners: list[np.ndarray] = []
        self._closed = False
        self._lock = threading.Lock()

    def take(self) -> np.ndarray:
        """Returns a contiguous, uninitialised uint8 array of the shape."""
        with self._lock:
            if self._closed:
                raise Stopped
            for index in range(len(self._owners)):
                if sys.getrefcount(self._owners[index]) == 2:  # references of the list and of this call
                    return self._view(self._owners[index])
            owner = self._allocate(self._size + _ALIGNMENT)
            if len(self._owners) < self._keep:
                self._owners.append(owner)
            return self._view(owner)

    def close(self) -> None:
        """Drops all arrays; `take` raises `Stopped` from now on."""
        with self._lock:
            self._closed = True
            self._owners.clear()

    def _view(self, owner: np.ndarray) -> np.ndarray:
        start = -owner.ctypes.data % _ALIGNMENT
        return owner[start : start + self._size].reshape(self._shape)


def cores() -> int:
    """Returns the number of CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _decode(dataset: Dataset, job: Job, canvas: np.ndarray) -> None:
    first, *others = job.rows
    if job.position < 0:
        canvas[first] = 0
    else:
        dataset.decode(job.position, job.indices, canvas[first])
    for other in others:
        canvas[other] = canvas[first]


def _submit(pool: Executor, *call) -> Future:
    try:
        return pool.submit(*call)
    except BrokenProcessPool:
        raise
    except RuntimeError:  # after shutdown
        raise Stopped from None


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Blocks SIGINT and SIGTERM in this thread, and in processes it starts until they unblock them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(tasks: list[Future]) -> None:
    for task in tasks:
        task.result()


# In a decoding process

_dataset: Dataset | None = None
_attached: dict[str, _Segment] = {}


def _start_process(dataset: Dataset) -> None:
    global _dataset
    _dataset = dataset
    # A launcher or terminal signals all processes, but the parent decides. Both signals are still blocked here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_by_parent, daemon=True).start()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_by_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        continue
    os._exit(1)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _work_in_process(name: str, shape: tuple[int, ...], jobs: tuple[Job, ...]) -> None:
    if name not in _attached:
        _attached[name] = _Segment(name)
    canvas = np.frombuffer(_attached[name].buf, np.uint8, int(np.prod(shape))).reshape(shape)
    for job in jobs:
        _decode(_dataset, job, canvas)
