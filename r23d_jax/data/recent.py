"""Keeps what was used last: files, of which a process may have only so many open."""

import collections
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Recent:
    """Makes things by number and keeps those that were used last; one that is in use lives until it no longer is.

    Thread-safe. Two threads may make the same one at once; both are good.
    """

    def __init__(self, make: Callable[[int], Any], limit: int):
        self._make, self._limit = make, limit
        self._kept: collections.OrderedDict[int, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, number: int) -> Any:
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
        made = self._make(number)
        with self._lock:
            self._kept[number] = made
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        return made


class OpenFile:
    """A file open for reading, closed with the last reference to this."""

    def __init__(self, path: Path):
        file = open(path, "rb", buffering=0)
        self.fileno = file.fileno
        weakref.finalize(self, file.close)
