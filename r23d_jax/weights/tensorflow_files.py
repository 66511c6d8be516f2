"""Reads TensorFlow checkpoints without TensorFlow.

Version 2 (tensorflow/core/protobuf/tensor_bundle.proto) is a table of names, PREFIX.index, beside files of raw bytes,
PREFIX.data-SSSSS-of-NNNNN. Version 1 (tensorflow/core/util/saved_tensor_slice.proto) is one table with the numbers in
it. The tables are LevelDB's (google/leveldb, doc/table_format.md), the records in them protocol buffers.
"""

import functools
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from r23d_jax.errors import UserError, one_line

# tensorflow/core/framework/types.proto
_DTYPES = {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 8: "complex64", 9: "int64"}
_DTYPES |= {10: "bool", 14: "bfloat16", 17: "uint16", 18: "complex128", 19: "float16", 22: "uint32", 23: "uint64"}
MAGIC = bytes.fromhex("57fb808b247547db")  # the last eight bytes of a table
_LOG_LANES = 12  # words that are checksummed at once

_Fields = defaultdict[int, list[Any]]  # of a protocol buffer, by their numbers
_Read = tuple[dict[str, np.ndarray], tuple[str, ...], Path]


def read_tensorflow(path: Path, prefix: Path) -> _Read:
    """Reads a checkpoint of either version; every block's and tensor's checksum is verified.

    Args:
      path: what the user named, for messages.
      prefix: of `.index` and `.data-*` (version 2), or else the file itself (version 1).

    Returns:
      Name -> array of the saved shape and dtype, where possible a read-only view into the mapped file; names of what is
      left out (strings, the object graph, types that NumPy lacks); and the file with the tensors, or where several hold
      them the index, which has their checksums.

    Raises:
      UserError: a file is missing, damaged or truncated.
    """
    index = prefix.with_name(prefix.name + ".index")
    try:
        return _read_bundle(path, index) if index.is_file() else _read_slices(prefix)
    except (ValueError, LookupError, TypeError, OverflowError, MemoryError) as error:
        raise UserError(f"{path}: damaged or truncated TensorFlow checkpoint ({one_line(error)[:160]})") from None


def _map(path: Path) -> np.ndarray:
    return np.asarray(np.memmap(path, mode="r")) if path.stat().st_size else np.empty(0, np.uint8)


def _dtype(number: int) -> np.dtype | None:
    name = _DTYPES.get(number)
    return None if name is None else np.dtype(getattr(ml_dtypes, name, name))


def _read_bundle(path: Path, index: Path) -> _Read:
    records = {key: _fields(value) for key, value in _table(_map(index))}
    header = records.pop(b"")
    files, count = [], _get(header, 1)
    for shard in range(count):
        files.append(index.with_name(f"{index.stem}.data-{shard:05d}-of-{count:05d}"))
        if not files[-1].is_file():
            raise UserError(f"{path}: incomplete TensorFlow checkpoint: {files[-1].name} is missing beside the index")
    shards = [_map(file) for file in files]
    if _get(header, 2):
        raise ValueError("written by a big-endian machine")
    if sum(_get(record, 5) for record in records.values()) > sum(map(len, shards)):
        raise ValueError("less data than the index says")

    def values(record: _Fields, dtype: np.dtype) -> np.ndarray:
        start, size = _get(record, 4), _get(record, 5)
        data = shards[_get(record, 3)][start : start + size]
        if len(data) != size or _masked_crc32c(data) != _get(record, 6):
            raise ValueError("a tensor's checksum does not match")
        return data.view(dtype)

    tensors, left_out, parts = {}, [], defaultdict(list)
    for key, record in records.items():  # in order: parts of partitioned variables come before names
        dtype, pieces = _dtype(_get(record, 1)), [((), record)]
        if key[:1] == b"\0":
            parts[key[1:].partition(b"\0\1")[0]].append(record)
        elif dtype is None:
            left_out.append(key.decode())
        else:
            if record[7]:
                pieces = zip(sorted(map(_extents, record[7])), parts[key], strict=True)
            pieces = [(extents, values(piece, dtype)) for extents, piece in pieces]
            tensors[key.decode()] = _assemble(_get(record, 2, b""), pieces)
    return tensors, tuple(left_out), files[0] if len(files) == 1 else index


def _read_slices(path: Path) -> _Read:
    records = dict(_table(_map(path)))
    variables = map(_fields, _fields(_fields(records.pop(b""))[1][0])[1])
    pieces = defaultdict(list)
    for value in records.values():
        piece = _fields(_fields(value)[2][0])
        pieces[str(piece[1][0], "utf-8")].append((_extents(piece[2][0]), _fields(piece[3][0])))

    def values(proto: _Fields, dtype: np.dtype) -> np.ndarray:
        (data,) = [field[0] for number, field in proto.items() if number > 4] or [b""]  # which of them is as the type
        if dtype.kind in "fc" and dtype.itemsize > 2:
            return np.frombuffer(data, dtype)  # all others are varints, even halves
        return _varints(np.frombuffer(data, np.uint8)).astype(f"u{dtype.itemsize}").view(dtype)

    tensors, left_out = {}, []
    for variable in variables:
        name, dtype = str(variable[1][0], "utf-8"), _dtype(_get(variable, 3))
        if name in tensors:  # or a small file could have the same numbers decoded any number of times
            raise ValueError("a variable is listed twice")
        if dtype is None:
            left_out.append(name)
        else:
            found = [(extents, values(proto, dtype)) for extents, proto in pieces[name]]
            tensors[name] = _assemble(_get(variable, 2, b""), found)
    return tensors, tuple(left_out), path


def _assemble(shape: memoryview, pieces: list[tuple[tuple, np.ndarray]]) -> np.ndarray:
    """Joins flat arrays, each of which fills (start, length) per axis of the tensor; length -1 is the whole axis."""
    shape = [_get(_fields(axis), 1) for axis in _fields(shape)[2]]
    # Checked before memory is taken. More axes than NumPy has would take long to multiply.
    if len(shape) > 64 or math.prod(shape) != sum(values.size for _, values in pieces):
        raise ValueError("a tensor does not have as many numbers as its shape")
    if len(pieces) == 1:
        return pieces[0][1].reshape(shape)
    whole = np.zeros(shape, pieces[0][1].dtype)
    for extents, values in pieces:
        part = whole[tuple(slice(start, start + size) if size >= 0 else slice(None) for start, size in extents)]
        part[...] = values.reshape(part.shape)
    return whole


# --- protocol buffers ---


def _numbers(data: memoryview | bytes, at: int, count: int = 1) -> tuple[int, ...]:
    """Returns `count` varints from `at` on, and the place behind them."""
    found = []
    for _ in range(count):
        value = shift = 0
        while (byte := data[at]) > 127 and shift < 63:
            value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        found.append(value | byte << shift)
        at += 1
    return *found, at


def _varints(data: np.ndarray) -> np.ndarray:
    """Decodes packed varints, uint8 [bytes] -> uint64 [numbers]."""
    ends = np.flatnonzero(data < 128) + 1
    lengths = np.diff(ends, prepend=0)
    if lengths.sum() != len(data) or lengths.max(initial=0) > 10:
        raise ValueError("a number of more than 64 bits")
    values = np.zeros(len(ends), np.uint64)
    for place in range(lengths.max(initial=0)):
        (longer,) = np.nonzero(lengths > place)
        digits = data[(ends - lengths)[longer] + place] & 127
        values[longer] |= digits.astype(np.uint64) << np.uint64(7 * place)
    return values


def _fields(data: memoryview) -> _Fields:
    """Returns a message's values, each an integer or a view of its bytes."""
    found, at = defaultdict(list), 0
    while at < len(data):
        tag, at = _numbers(data, at)
        if tag & 7 == 0:
            value, at = _numbers(data, at)
        else:
            size, at = _numbers(data, at) if tag & 7 == 2 else ({1: 8, 5: 4}[tag & 7], at)
            value, at = data[at : at + size], at + size
            if len(value) != size:
                raise ValueError("a record is cut off")
            value = value if tag & 7 == 2 else int.from_bytes(value, "little")
        found[tag >> 3].append(value)
    return found


def _get(fields: _Fields, number: int, default: Any = 0) -> Any:
    return fields[number][-1] if number in fields else default


def _extents(data: memoryview) -> tuple[tuple[int, int], ...]:
    return tuple((_get(axis, 1), _get(axis, 2, -1)) for axis in map(_fields, _fields(data)[1]))


# --- tables ---


def _table(file: np.ndarray) -> Iterator[tuple[bytes, memoryview]]:
    """Yields keys and values, in order of the keys."""
    data, behind = memoryview(file), 0
    if data[-8:] != MAGIC:
        raise ValueError("the end of the table is missing")
    _, _, start, size, _ = _numbers(data[-48:], 0, 4)  # the first two are of filters, which TensorFlow does not write
    for _, handle in _entries(_block(data, start, size)):
        start, size, _ = _numbers(handle, 0, 2)
        if start < behind:  # or a small file could name a large block any number of times
            raise ValueError("blocks overlap")
        behind = start + size + 5  # with its kind and checksum
        yield from _entries(_block(data, start, size))


def _block(data: memoryview, start: int, size: int) -> memoryview:
    block, kind, checksum = data[start : start + size], data[start + size], data[start + size + 1 : start + size + 5]
    if _masked_crc32c(data[start : start + size + 1]) != int.from_bytes(checksum, "little"):
        raise ValueError("a block's checksum does not match")
    if kind > 1:
        raise ValueError(f"compression {kind} is neither none nor snappy")
    return _decompress(bytes(block)) if kind else block


def _entries(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")  # then come the places of keys without a prefix
    key, at, total = b"", 0, 0
    while at < end:
        shared, own, size, at = _numbers(block, at, 3)
        key, at = key[:shared] + bytes(block[at : at + own]), at + own
        value, at = block[at : at + size], at + size
        total += len(key)
        # Every 16th key, or more of them, is whole: keys do not take more than 16 times the block.
        if at > end or len(key) != shared + own or total > 16 * len(block):
            raise ValueError("a block's entries do not fit it")
        yield key, value


def _decompress(data: bytes) -> memoryview:
    """Undoes snappy (google/snappy, format_description.txt); the result is at most 22 times as long."""
    size, at = _numbers(data, 0)
    found = bytearray()
    while at < len(data):
        kind, top, at = data[at] & 3, data[at] >> 2, at + 1
        width = (max(top - 59, 0), 1, 2, 4)[kind]
        number, at = int.from_bytes(data[at : at + width], "little"), at + width
        if kind == 0:
            length = (number if width else top) + 1
            found += data[at : at + length]
            at += length
            continue
        length, offset = (top + 1, number) if kind > 1 else ((top & 7) + 4, (top >> 3 << 8) + number)
        if not 0 < offset <= len(found):
            raise ValueError("a compressed block refers to what is before it")
        start = len(found) - offset
        piece = found[start : start + length]
        found += piece if offset >= length else (piece * (length // offset + 1))[:length]
    if len(found) != size:
        raise ValueError("a compressed block is not as long as it says")
    return memoryview(found)


# --- checksums ---


@functools.cache
def _power(log: int) -> list[np.ndarray]:
    """Returns the products of x^(2^log) with the words of only lower and only upper 16 bits, modulo CRC-32C's."""
    units = np.uint32(1) << np.arange(32, dtype=np.uint32)  # the highest power of x in the lowest bit
    images = _times(_times(units, log - 1), log - 1) if log else np.append(np.uint32(0x82F63B78), units[:31])
    return [
        functools.reduce(lambda table, image: np.append(table, table ^ image), half, np.zeros(1, np.uint32))
        for half in images.reshape(2, 16)
    ]


def _times(words: np.ndarray, log: int) -> np.ndarray:
    low, high = _power(log)
    return low[words & 0xFFFF] ^ high[words >> 16]


def _masked_crc32c(data: memoryview | np.ndarray) -> int:
    """Returns the CRC-32C of bytes, masked as LevelDB stores it.

    A polynomial's remainder stays the same when its front is multiplied by the power of x that moves it back and added
    there. So each row of words is folded onto the next, and the last row onto its second half, again and again.
    """
    row_bytes = 4 << _LOG_LANES
    head = len(data) % row_bytes
    # Zeros in front change nothing; the word after them leaves a remainder of all ones, which is the initial value.
    first = (bytes.fromhex("54641f64") + bytes(data[:head])).rjust(2 * row_bytes, b"\0")
    words = np.zeros(1 << _LOG_LANES, np.uint32)
    for part in (first, data[head:]):
        for row in np.frombuffer(part, np.uint32).reshape(-1, len(words)):
            words = _times(words, 5 + _LOG_LANES) ^ row
    for log in range(4 + _LOG_LANES, 4, -1):
        front, back = words.reshape(2, -1)
        words = _times(front, log) ^ back
    crc = int(_times(words, 5)[0]) ^ 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
