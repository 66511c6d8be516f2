"""JPEG bytes of single frames out of ArrayRecord shards.

Parsed by hand, for a clip needs a few frames of a whole-video record, of which the library copies and hashes all.
So the library reads a record once, the first time it is asked for: it verifies the record's checksum and shows
where its frames lie. From then on only the bytes of the wanted frames are read from the file, which works where the
shard is not compressed (ours are not: JPEG does not compress).
A shard where the two ways ever differ, or that is compressed, is read through the library always.

File layout: https://github.com/google/riegeli/blob/master/doc/riegeli_records_file_format.md;
records: `tf.train.Example` in protocol buffers' wire format.
"""

import ctypes
import functools
import os
import struct
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from array_record.python import array_record_module

from r23d_jax.errors import UserError

_BLOCK, _BLOCK_HEADER, _CHUNK_HEADER = 1 << 16, 24, 40
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"  # random access, in the calling thread


class Shards:
    """The shards of one data set, records numbered through in the order of the files.

    Safe to use from many threads. Pickles as its paths, so that a process opens files of its own.

    Args:
      paths: the shards, in order.

    Attributes:
      counts: records in each shard.

    Raises:
      UserError: a shard is not a readable ArrayRecord file.
    """

    def __init__(self, paths: Sequence[Path]):
        self._paths = [Path(path) for path in paths]
        self._readers = [_open(path) for path in self._paths]
        self.counts = [reader.num_records() for reader in self._readers]
        self._first = np.concatenate([[0], np.cumsum(self.counts)])
        self._direct = [None] * len(self._paths)
        self._spans = {}  # record -> int32 [N, 2]: where its frames begin and end
        self._lock = threading.Lock()
        self._scratch = threading.local()
        _keep_freed_memory()

    def __len__(self) -> int:
        return int(self._first[-1])

    def __reduce__(self):
        return Shards, (self._paths,)

    def path(self, record: int) -> Path:
        """The file that holds a record."""
        return self._paths[self._locate(record)[0]]

    def read(self, record: int) -> bytes:
        """A whole record, its checksum verified.

        Raises:
          UserError: the shard is damaged there.
        """
        shard, index = self._locate(record)
        try:
            return self._readers[shard].read([index])[0]
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            raise UserError(f"{self._paths[shard]}: record {index} is damaged ({_brief(error)}); {_MEND}") from None

    def frames(self, record: int, indices: Sequence[int]) -> list[bytes | memoryview]:
        """The JPEG data of some frames of a record.

        What is returned is overwritten by this thread's next call.

        Args:
          record: its number.
          indices: of frames, in any order; a frame can be asked for more than once.

        Raises:
          UserError: the shard is damaged there, or has fewer frames.
        """
        spans = self._spans.get(record)
        if spans is None:
            return self._first_time(record, indices)
        direct = self._direct[self._locate(record)[0]]
        if not direct:
            return _slices(self.read(record), spans, self._checked(record, spans, indices))
        return self._read_direct(direct, record, spans, self._checked(record, spans, indices))

    def _locate(self, record: int) -> tuple[int, int]:
        if not 0 <= record < len(self):
            raise IndexError(f"record {record} of {len(self)}")
        shard = int(np.searchsorted(self._first, record, side="right")) - 1
        return shard, record - int(self._first[shard])

    def _checked(self, record, spans, indices):
        if max(indices) >= len(spans):
            raise UserError(f"{self.path(record)}: a record has {len(spans)} frames, not {max(indices) + 1}; {_MEND}")
        return indices

    def _first_time(self, record: int, indices: Sequence[int]) -> list[bytes | memoryview]:
        data = self.read(record)
        try:
            spans = frame_spans(data)
        except ValueError as error:
            raise UserError(f"{self.path(record)}: not a record of frames ({error}); {_MEND}") from None
        frames = _slices(data, spans, self._checked(record, spans, indices))
        direct = self._direct_access(record)
        if direct:
            try:
                again = self._read_direct(direct, record, spans, indices)
                alike = all(bytes(a) == bytes(b) for a, b in zip(frames, again, strict=True))
            except (UserError, IndexError):
                alike = False
            if not alike:
                self._direct[self._locate(record)[0]] = False
        self._spans[record] = spans
        return frames

    def _direct_access(self, record: int):
        """The shard's `_Direct`; False where its records have to be read through the library."""
        shard = self._locate(record)[0]
        if self._direct[shard] is None:
            with self._lock:
                if self._direct[shard] is None:
                    self._direct[shard] = _Direct.create(self._paths[shard], self.counts[shard]) or False
        return self._direct[shard]

    def _read_direct(self, direct, record, spans, indices) -> list[bytes | memoryview]:
        if not hasattr(self._scratch, "buffer"):
            self._scratch.buffer = bytearray(1 << 18)
        start = direct.starts[self._locate(record)[1]]
        frames, places, found = sorted(set(indices)), [], {}
        for (first, last), frame in zip(spans[frames].tolist(), frames, strict=True):
            places.append((frame, _after(start, first), _after(start, last)))
        used, runs = 0, []
        for frame, first, last in places:  # neighbours in one read
            if runs and frame == runs[-1][-1][0] + 1:
                runs[-1].append((frame, first, last))
            else:
                runs.append([(frame, first, last)])
        total = sum(run[-1][2] - run[0][1] for run in runs)
        if len(self._scratch.buffer) < total:
            self._scratch.buffer = bytearray(2 * total)
        view = memoryview(self._scratch.buffer)
        for run in runs:
            base, length = run[0][1], run[-1][2] - run[0][1]
            part = view[used : used + length]
            if os.preadv(direct.file.fileno(), [part], base) != length:
                raise UserError(f"{direct.path}: shorter than it was; {_MEND}")
            for frame, first, last in run:
                found[frame] = _without_headers(part, base, first, last)
            used += length
        return [found[frame] for frame in indices]


class _Direct:
    """An uncompressed shard's file, and where each record's bytes begin in it."""

    def __init__(self, path: Path, file, starts: list[int]):
        self.path, self.file, self.starts = path, file, starts

    @classmethod
    def create(cls, path: Path, count: int) -> "_Direct | None":
        """None where the shard is compressed, holds several records a chunk, or is on no local file."""
        try:
            file = open(path, "rb", buffering=0)  # noqa: SIM115 - lives as long as the data set
            starts = _record_starts(file.fileno(), os.path.getsize(path), count)
        except (OSError, ValueError, struct.error):
            return None
        return cls(path, file, starts)


def _record_starts(file: int, size: int, count: int) -> list[int]:
    """Walks the chunks; a chunk is a header, then for a single uncompressed record its size and its bytes."""
    starts, at = [], 0
    while at < size and len(starts) < count:
        start = _after(at, 0)
        raw = os.pread(file, 2 * _BLOCK_HEADER + _CHUNK_HEADER + 24, start)
        head = bytes(_without_headers(memoryview(raw), start, start, start + len(raw)))
        _, data_size, _, kind_and_records, _ = struct.unpack_from("<5Q", head)
        kind, records = kind_and_records & 0xFF, kind_and_records >> 8
        if kind == ord("r"):
            if records != 1 or head[_CHUNK_HEADER] != 0:
                raise ValueError("compressed, or several records in a chunk")
            sizes, position = _varint(head, _CHUNK_HEADER + 1)
            starts.append(_after(at, position + sizes))
        elif kind not in b"smp":  # signature, metadata, padding
            raise ValueError("transposed")
        at = max(_end(at, _CHUNK_HEADER + data_size), at + 1)
    if len(starts) != count:
        raise ValueError("fewer records than the index says")
    return starts


def _end(position: int, length: int) -> int:
    """Where `length` bytes that begin at `position` end: each block of the file opens with a header."""
    usable = _BLOCK - _BLOCK_HEADER
    headers = (length + (position + usable - 1) % _BLOCK) // usable
    return position + length + headers * _BLOCK_HEADER


def _after(position: int, length: int) -> int:
    """Where the byte that comes `length` bytes after `position` lies: never in a block's header."""
    end = _end(position, int(length))
    return end if end % _BLOCK else end + _BLOCK_HEADER


def _without_headers(data: memoryview, base: int, start: int, end: int) -> bytes | memoryview:
    """The bytes of the file from `start` to `end`, of which `data` holds those from `base` on, less headers."""
    boundary = start - start % _BLOCK + _BLOCK
    if boundary >= end:
        return data[start - base : end - base]
    parts = []
    while start < end:
        parts.append(data[start - base : min(boundary, end) - base])
        start, boundary = boundary + _BLOCK_HEADER, boundary + _BLOCK
    return b"".join(parts)


def frame_spans(record: bytes) -> np.ndarray:
    """Where the values of the feature `frames` lie in a serialised `tf.train.Example`.

    Returns:
      int32 [N, 2]: begin and end of each in bytes.

    Raises:
      ValueError: it is not such a message or has no frames.
    """
    features = _field(record, 0, len(record), 1)
    for start, end in _fields(record, *features, 1):
        name_start, name_end = _field(record, start, end, 1)
        if record[name_start:name_end] == b"frames":
            feature = _field(record, start, end, 2)
            spans = np.asarray(_fields(record, *_field(record, *feature, 1), 1), np.int32)
            if len(spans):
                return spans
    raise ValueError("no feature named frames")


def _fields(data: bytes, at: int, end: int, number: int) -> list[tuple[int, int]]:
    """Begin and end of each length-delimited field with this number in the message `data[at:end]`."""
    found, tag = [], number << 3 | 2
    try:
        while at < end:
            seen, length = data[at], data[at + 1]
            if seen & 7 != 2:
                raise ValueError("unexpected wire type")
            if length < 0x80:
                at += 2
            else:
                length, at = _varint(data, at + 1)
            if seen == tag:
                found.append((at, at + length))
            at += length
    except IndexError:
        raise ValueError("message ends early") from None
    if at != end:
        raise ValueError("message ends early")
    return found


def _field(data: bytes, at: int, end: int, number: int) -> tuple[int, int]:
    found = _fields(data, at, end, number)
    if len(found) != 1:
        raise ValueError(f"{len(found)} fields {number} where one is due")
    return found[0]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("overlong number")


def _slices(data: bytes, spans: np.ndarray, indices: Sequence[int]) -> list[memoryview]:
    view = memoryview(data)
    return [view[start:end] for start, end in spans[list(indices)].tolist()]


_MEND = "build the data set again or copy the file again"


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def _open(path: Path):
    try:
        reader = array_record_module.ArrayRecordReader(
            str(path), options=_READER_OPTIONS, file_reader_buffer_size=32768
        )
        if reader.ok():
            return reader
        reason = "its index is damaged"
    except (RuntimeError, ValueError, OSError) as error:
        reason = _brief(error)
    raise UserError(f"{path}: not a readable ArrayRecord shard ({reason}); {_MEND}")


@functools.cache
def _keep_freed_memory() -> None:
    """Asks glibc to keep freed memory: by default it returns every record's to the kernel at once.

    Each record read through the library then faults its pages in again, three copies of it.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: smaller blocks come from the heap
    mallopt(-1, 256 << 20)  # M_TRIM_THRESHOLD: freed memory at its end that is kept
