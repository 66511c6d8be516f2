"""Reads the JPEG bytes of single frames from ArrayRecord shards.

A record is a whole video, but a clip needs a few of its frames, and the ArrayRecord library copies and hashes all of
a record. So only the first read of a record goes through the library, which verifies its checksum; it also locates
the frames. Later reads take the bytes of the wanted frames from the file. A shard that is compressed (the builder's
are not), or where direct access gives other bytes than the library, is always read through the library.

File layout: https://github.com/google/riegeli/blob/master/doc/riegeli_records_file_format.md;
records: `tf.train.Example` in protocol buffers' wire format.
"""

import contextlib
import ctypes
import functools
import os
import struct
import sys
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from array_record.python import array_record_module

from r23d_jax.errors import UserError

_BLOCK, _BLOCK_HEADER, _CHUNK_HEADER = 1 << 16, 24, 40
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"  # random access, in the calling thread


class Shards:
    """The shards of one data set; records are numbered consecutively over the files.

    Thread-safe. Pickled as its paths, so that every process opens its own files.

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
        self._spans = {}  # record -> int32 [N, 2], start and end of its frames
        self._lock = threading.Lock()
        self._scratch = threading.local()
        _keep_freed_memory()

    def __len__(self) -> int:
        return int(self._first[-1])

    def __reduce__(self):
        return Shards, (self._paths,)

    def path(self, record: int) -> Path:
        """Returns the file that holds a record."""
        return self._paths[self._locate(record)[0]]

    def read(self, record: int) -> bytes:
        """Returns a whole record after verifying its checksum.

        Raises:
          UserError: the record is damaged.
        """
        shard, index = self._locate(record)
        try:
            return self._readers[shard].read([index])[0]
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            raise UserError(f"{self._paths[shard]}: record {index} is damaged ({_brief(error)}); {_MEND}") from None

    def frames(self, record: int, indices: Sequence[int]) -> list[bytes | memoryview]:
        """Returns the JPEG data of some frames of a record, valid until this thread's next call.

        Args:
          record: its number.
          indices: of frames, in any order and possibly repeated.

        Raises:
          UserError: the record is damaged or has fewer frames.
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
        """Returns the shard's `_Direct`, or False if its records must be read through the library."""
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
        for frame, first, last in places:  # adjacent frames share a read
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
    """The file of an uncompressed shard, and the start of each record in it."""

    def __init__(self, path: Path, file, starts: list[int]):
        self.path, self.file, self.starts = path, file, starts
        weakref.finalize(self, file.close)  # a data set is not closed by those who use it

    @classmethod
    def create(cls, path: Path, count: int) -> "_Direct | None":
        """Opens a shard; returns None if it is compressed, has several records per chunk, or is not a local file."""
        with contextlib.ExitStack() as opened:
            try:
                file = opened.enter_context(open(path, "rb", buffering=0))
                starts = _record_starts(file.fileno(), os.path.getsize(path), count)
            except (OSError, ValueError, struct.error):
                return None
            opened.pop_all()
            return cls(path, file, starts)


def _record_starts(file: int, size: int, count: int) -> list[int]:
    """Returns the start of each record; a chunk is a header, then the size and bytes of one uncompressed record."""
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
        at = max(_end_of(at, _CHUNK_HEADER + data_size), at + 1)
    if len(starts) != count:
        raise ValueError("fewer records than the index says")
    return starts


def _end_of(position: int, length: int) -> int:
    """Returns the end of `length` bytes that start at `position`, counting the headers of the blocks in between."""
    usable = _BLOCK - _BLOCK_HEADER
    headers = (length + (position + usable - 1) % _BLOCK) // usable
    return position + length + headers * _BLOCK_HEADER


def _after(position: int, length: int) -> int:
    """Returns the position of the byte `length` bytes after `position`; never inside a block's header."""
    end = _end_of(position, int(length))
    return end if end % _BLOCK else end + _BLOCK_HEADER


def _without_headers(data: memoryview, base: int, start: int, end: int) -> bytes | memoryview:
    """Returns the file's bytes from `start` to `end` without block headers; `data` holds the file from `base` on."""
    boundary = start - start % _BLOCK + _BLOCK
    if boundary >= end:
        return data[start - base : end - base]
    parts = []
    while start < end:
        parts.append(data[start - base : min(boundary, end) - base])
        start, boundary = boundary + _BLOCK_HEADER, boundary + _BLOCK
    return b"".join(parts)


def frame_spans(record: bytes) -> np.ndarray:
    """Locates the values of the feature `frames` in a serialised `tf.train.Example`.

    Returns:
      int32 [N, 2], start and end of each in bytes.

    Raises:
      ValueError: the record is no such message, or has no frames.
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
    """Returns start and end of each length-delimited field with this number in the message `data[at:end]`."""
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
    """Makes glibc reuse freed memory; by default every record read through the library causes new page faults."""
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: smaller blocks come from the heap
    mallopt(-1, 256 << 20)  # M_TRIM_THRESHOLD: free memory kept at the end of the heap
