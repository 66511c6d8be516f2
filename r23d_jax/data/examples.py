"""Locates the values in a serialised `tf.train.Example`, without copying them and without TensorFlow.

Wire format: https://protobuf.dev/programming-guides/encoding/
"""

import mmap

import numpy as np

Data = bytes | memoryview | mmap.mmap


def frame_spans(record: bytes) -> np.ndarray:
    """Locates the values of the feature `frames`.

    Returns:
      int32 [N, 2], start and end of each in bytes.

    Raises:
      ValueError: the record is no such message, or has no frames.
    """
    spans = np.asarray(bytes_values(record, "frames"), np.int32)
    if not len(spans):
        raise ValueError("no frames in the feature frames")
    return spans


def bytes_values(data: Data, name: str) -> list[tuple[int, int]]:
    """Returns start and end of each value of a feature of bytes; a `ValueError` if there is no such feature."""
    return fields(data, *field(data, *feature(data, 0, len(data), name), 1), 1)


def integer(data: Data, start: int, end: int, name: str) -> int:
    """Returns the value of a feature that is one integer, of the Example `data[start:end]`.

    Raises:
      ValueError: there is no such feature, or it has another number of values.
    """
    integers = field(data, *feature(data, start, end, name), 3)
    first, last = field(data, *integers, 1)
    value, after = varint(data[first:last], 0)
    if after != last - first:
        raise ValueError(f"the feature {name} has several values")
    return value


def feature(data: Data, start: int, end: int, name: str) -> tuple[int, int]:
    """Returns start and end of the feature `name` in the Example `data[start:end]`; a `ValueError` if it is missing."""
    wanted = name.encode()
    for first, last in fields(data, *field(data, start, end, 1), 1):
        key_start, key_end = field(data, first, last, 1)
        if data[key_start:key_end] == wanted:
            return field(data, first, last, 2)
    raise ValueError(f"no feature named {name}")


def fields(data: Data, at: int, end: int, number: int) -> list[tuple[int, int]]:
    """Returns start and end of each length-delimited field with this number in the message `data[at:end]`.

    Raises:
      ValueError: it is no message of such fields alone.
    """
    found, tag = [], number << 3 | 2
    try:
        while at < end:
            seen, length = data[at], data[at + 1]
            if seen & 7 != 2:
                raise ValueError("unexpected wire type")
            if length < 0x80:
                at += 2
            else:
                length, at = varint(data, at + 1)
            if seen == tag:
                found.append((at, at + length))
            at += length
    except IndexError:
        raise ValueError("message ends early") from None
    if at != end:
        raise ValueError("message ends early")
    return found


def field(data: Data, at: int, end: int, number: int) -> tuple[int, int]:
    """Does the same for a field that is there once; a `ValueError` if it is missing, or there several times."""
    found = fields(data, at, end, number)
    if len(found) != 1:
        raise ValueError(f"{len(found)} fields {number} where one is due")
    return found[0]


def varint(data: Data, at: int) -> tuple[int, int]:
    """Returns the number at an offset, and the offset behind it; a `ValueError` if it has no end within 64 bits."""
    value = shift = 0
    while True:
        if at >= len(data):
            raise ValueError("message ends early")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("overlong number")
