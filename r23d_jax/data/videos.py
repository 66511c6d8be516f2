"""Many videos as columns: a sequence of `VideoRecord` that takes some ten bytes a property and no object a video."""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from r23d_jax.data.dataset import PARTS, VideoRecord
from r23d_jax.errors import UserError

# The parts of a split by their numbers in the index, which are those of the records' features.
ROLES = ("neither", "train", "test", "val")
_TO_PARTS = np.asarray([PARTS.index(role) for role in ROLES], np.uint8)


class Videos(Sequence[VideoRecord]):
    """The videos of a data set; a `VideoRecord` is made when it is asked for. Thread-safe.

    Args:
      columns: of `data.index`, of equal length and checked, but for texts and "times".
      names, origins: of the videos.
      splits: the columns of "roles".
      folder: of the data set; pickled as this.
      load_times: returns float64 [total], the time stamps of all videos whose frame rate varies.
    """

    def __init__(
        self,
        columns: dict[str, np.ndarray],
        names: "Texts",
        origins: "Texts",
        splits: Sequence[str],
        folder: Path,
        load_times: Callable[[Path, int], np.ndarray],
    ):
        self._columns, self._splits, self._folder = columns, tuple(splits), folder
        self._names, self._origins = names, origins
        self._load_times, self._times, self._lock = load_times, None, threading.Lock()

    def __reduce__(self):
        return _open, (self._folder,)

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, place: int) -> VideoRecord: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[VideoRecord, ...]: ...
    def __getitem__(self, place):
        if isinstance(place, slice):
            return tuple(self[at] for at in range(*place.indices(len(self))))
        at = int(place) + (len(self) if place < 0 else 0)
        if not 0 <= at < len(self):
            raise IndexError(f"video {place} of {len(self)}")
        columns = self._columns
        roles = columns["roles"][at].tolist()
        return VideoRecord(
            name=self._names[at],
            label=int(columns["label"][at]),
            num_frames=int(columns["num_frames"][at]),
            height=int(columns["height"][at]),
            width=int(columns["width"][at]),
            splits={split: ROLES[role] for split, role in zip(self._splits, roles, strict=True)},
            fps=float(columns["fps"][at]),
            group=int(columns["group"][at]),
            clip=int(columns["clip"][at]),
            times=self._times_of(at),
            origin=self._origins[at],
        )

    def __iter__(self) -> Iterator[VideoRecord]:
        return (self[at] for at in range(len(self)))

    def names(self) -> Sequence[str]:
        """Returns the name of every video, made when it is asked for."""
        return self._names

    def column(self, key: str) -> np.ndarray:
        """Returns "label", "num_frames", "height", "width", "fps", "group" or "clip" of every video, read-only [V]."""
        view = self._columns[key].view()
        view.flags.writeable = False
        return view

    def parts(self, split: str) -> np.ndarray:
        """Returns uint8 [V], the index into `PARTS` of every video's part of a split."""
        if split not in self._splits:
            return np.full(len(self), PARTS.index("neither"), np.uint8)
        return _TO_PARTS[self._columns["roles"][:, self._splits.index(split)]]

    def _times_of(self, at: int) -> np.ndarray | None:
        ends = self._columns["times_end"]
        start, end = int(ends[at - 1]) if at else 0, int(ends[at])
        if start == end:
            return None
        with self._lock:
            if self._times is None:
                self._times = self._load_times(self._folder, int(ends[-1]))
        times = self._times[start:end]
        if (np.diff(times) < 0).any():
            name = self._names[at]
            raise UserError(f"{self._folder}: the time stamps of video {name} descend; build the data set again")
        return times


class Texts(Sequence[str]):
    """Texts one after the other in UTF-8, and the end of each.

    Args:
      data: uint8 [bytes].
      ends: int64 [V].
      what: they are, for the error.

    Raises:
      ValueError: `ends` does not cut `data` into texts.
    """

    def __init__(self, data: np.ndarray, ends: np.ndarray, what: str):
        fits = len(ends) and ends[0] >= 0 and (np.diff(ends) >= 0).all() and ends[-1] == len(data)
        starts = np.concatenate([[0], ends[:-1]]) if fits else ends[:0]
        # A byte 10xxxxxx continues a character, which may not be cut.
        if not fits or (data[starts[starts < len(data)]] & 0xC0 == 0x80).any():
            raise ValueError(f"{what}: its ends do not fit")
        self._data, self._ends = data.tobytes(), ends
        try:
            self._data.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{what}: {error}") from None

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, place):
        return self._bytes(place).decode()

    def all_differ(self) -> bool:
        """Returns whether no two are the same; by their hashes first, which take less memory than the texts."""

        def encoded() -> Iterator[bytes]:
            start = 0
            for end in self._ends:
                yield self._data[start:end]
                start = end

        hashes = np.fromiter(map(hash, encoded()), np.int64, len(self))
        return len(np.unique(hashes)) == len(self) or len(set(encoded())) == len(self)

    def _bytes(self, place: int) -> bytes:
        if not 0 <= place < len(self):
            raise IndexError(f"text {place} of {len(self)}")
        return self._data[int(self._ends[place - 1]) if place else 0 : int(self._ends[place])]


def ends(parts: Sequence[Sequence[Any]]) -> np.ndarray:
    """Returns int64 [V], where each part ends once all are put one after the other."""
    return np.cumsum([len(part) for part in parts], dtype=np.int64)


def _open(folder: Path) -> Videos:
    from r23d_jax.data import index  # which imports this module

    return index.read(folder).videos
