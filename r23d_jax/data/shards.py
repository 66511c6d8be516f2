"""Reads the JPEG bytes of single frames from ArrayRecord shards.

A record is a whole video, but a clip needs a few of its frames, and the ArrayRecord library copies and hashes all of
a record. So only the first read of a record goes through the library, which verifies its checksum; it also locates
the frames. Later reads take the bytes of the wanted frames from the file. A shard that is compressed (the builder's
are not), or where direct access gives other bytes than the library, is always read through the library.

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

from r23d_jax.data.examples import frame_spans, varint
from r23d_jax.data.recent import OpenFile, Recent
from r23d_jax.errors import UserError

_BLOCK, _BLOCK_HEADER, _CHUNK_HEADER = 1 << 16, 24, 40
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"  # random access, in the calling thread
# Shards held open at once, by the library and for direct access. Linux allows a process 1024 open files by default.
_OPEN_READERS, _OPEN_FILES = 64, 256


class Shards:
    """The shards of one data set; records are numbered consecutively over the files.

    A shard is opened when a record of it is first read, and those not read for the longest time are closed again.
    Thread-safe. Pickled as its paths and counts, so that every process opens its own files.

    Args:
      paths: the shards, in order.
      counts: records in each shard; without, all shards are opened here once to count them.

    Attributes:
      counts: records in each shard.

    Raises:
      UserError: a shard is not a readable ArrayRecord file, or holds another number of records.
    """

    def __init__(self, paths: Sequence[Path], counts: Sequence[int] | None = None):
        self._paths = [Path(path) for path in paths]
        self.counts = None if counts is None else list(counts)
        self._readers = Recent(self._open_reader, _OPEN_READERS)
        self._files = Recent(lambda shard: OpenFile(self._paths[shard]), _OPEN_FILES)
        if self.counts is None:
            self.counts = [self._readers[shard].num_records() for shard in range(len(self._paths))]
        self._first = np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)
        self._direct = [None] * len(self._paths)
        self._spans = {}  # record -> int32 [N, 2], start and end of its frames
        self._lock = threading.Lock()
        self._scratch = threading.local()
        _keep_freed_memory()

    def __len__(self) -> int:
        return int(self._first[-1])

    def __reduce__(self):
        return Shards, (self._paths, self.counts)

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
        if direct is None or direct is False:
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
        if direct is not False:
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
        """Returns the starts of the shard's records, or False if they must be read through the library."""
        shard = self._locate(record)[0]
        if self._direct[shard] is None:
            with self._lock:
                if self._direct[shard] is None:
                    self._direct[shard] = self._starts(shard)
        return self._direct[shard]

    def _starts(self, shard: int):
        """Returns int64 [N]; False if the shard is compressed, has several records per chunk, or is no local file."""
        try:
            file = self._files[shard]  # held, so that it is not closed meanwhile
            return _record_starts(file.fileno(), os.path.getsize(self._paths[shard]), self.counts[shard])
        except (OSError, ValueError, struct.error):
            return False

    def _open_reader(self, shard: int):
        reader = _open(self._paths[shard])
        if self.counts is not None and (count := reader.num_records()) != self.counts[shard]:
            raise UserError(f"{self._paths[shard]}: {count} records where {self.counts[shard]} are due; {_MEND}")
        return reader

    def _read_direct(self, starts, record, spans, indices) -> list[bytes | memoryview]:
        if not hasattr(self._scratch, "buffer"):
            self._scratch.buffer = bytearray(1 << 18)
        shard, index = self._locate(record)
        start, file = int(starts[index]), self._files[shard]
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
            if os.preadv(file.fileno(), [part], base) != length:
                raise UserError(f"{self._paths[shard]}: shorter than it was; {_MEND}")
            for frame, first, last in run:
                found[frame] = _without_headers(part, base, first, last)
            used += length
        return [found[frame] for frame in indices]


def _record_starts(file: int, size: int, count: int) -> np.ndarray:
    """Returns int64 [N], the start of each record; a chunk is a header, then size and bytes of one uncompressed record.

    Raises:
      ValueError, struct.error: the shard is compressed, has several records per chunk, or fewer than it should.
    """
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
            sizes, position = varint(head, _CHUNK_HEADER + 1)
            starts.append(_after(at, position + sizes))
        elif kind not in b"smp":  # signature, metadata, padding
            raise ValueError("transposed")
        at = max(_end_of(at, _CHUNK_HEADER + data_size), at + 1)
    if len(starts) != count:
        raise ValueError("fewer records than the index says")
    return np.asarray(starts, np.int64)


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
