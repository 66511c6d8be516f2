"""Whether a video file can be opened and is as long as it says, without decoding it."""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from r23d_jax.data.video import Video, VideoError

# Sizes that programs write which do not know them yet: streamed files keep them.
_UNKNOWN_32 = (0, 0xFFFFFFFF)
_ISO_FIRST = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"sidx", b"moof")
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


@dataclass(frozen=True)
class Checked:
    """What a video's header says.

    Attributes:
      frames: number of frames, from its duration where it does not say it; often wrong; 0 if unknown.
      height, width: of a decoded frame in pixels, neither turned nor in square pixels; 0 if unknown.
      fps: average frame rate; 25 if unknown.
    """

    frames: int
    height: int
    width: int
    fps: float


def check(path: str | os.PathLike) -> Checked:
    """Checks a video file in a few milliseconds; reads no more than its header and index.

    It proves that the file is there, may be read, has a container and a codec that PyAV knows and a video stream, and
    that no piece of it reaches beyond its end: MP4 and MOV, AVI and Matroska say how long they are, other containers
    do not. It does not prove that a single frame can be decoded.

    Raises:
      VideoError: one of these does not hold.
    """
    path = Path(path)
    if path.is_symlink() and not path.exists():
        raise VideoError(path, f"is a broken link to {os.readlink(path)}")
    try:
        with Video(path, threads=1) as video:
            index_end = video.index_end()
            header = video.header()
    except VideoError as error:
        reason = _cut_off(path, 0) if path.is_file() and path.stat().st_size else None
        raise VideoError(path, reason or error.reason) from error
    reason = _cut_off(path, index_end)
    if reason:
        raise VideoError(path, reason)
    return Checked(*header)


def _cut_off(path: Path, index_end: int) -> str | None:
    """Returns what is wrong with the file's length, None if nothing is known to be.

    Args:
      path: a file that is not empty.
      index_end: where the last packet ends that an MP4's tables list; 0 if unknown.
    """
    try:
        there = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(12)
            if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
                claimed = _avi_end(file, there)
            elif start[:4] == _EBML:
                claimed = _matroska_end(file)
            elif start[4:8] in _ISO_FIRST:
                boxes = list(_boxes(file, there))
                if not any(name in (b"moov", b"moof") for name, _ in boxes):
                    claimed = max((end for _, end in boxes), default=0)
                    if claimed <= there:
                        return "has no moov box, which says where the frames are: its recording was not finished"
                else:
                    # Where the tables list no packet beyond the end, a box that is too large harms nothing.
                    media = max((end for name, end in boxes if name in (b"mdat", b"moov", b"moof")), default=0)
                    claimed = max(index_end, media if index_end > there or not index_end else 0)
            else:
                return None
    except OSError:
        return None  # opening it says why
    return f"is cut off: {there} bytes of the {claimed} that its header claims" if claimed > there else None


def _boxes(file: BinaryIO, there: int) -> Iterator[tuple[bytes, int]]:
    """Yields the name of each box at the top of an ISO file, and the offset of its end."""
    start = 0
    while start + 8 <= there:
        file.seek(start)
        header = file.read(16)
        (size,), name = struct.unpack(">I", header[:4]), header[4:8]
        if not name.isalnum():
            return  # something else was appended
        if size == 1 and len(header) == 16:
            (size,) = struct.unpack(">Q", header[8:])
        elif size == 0:  # to the end, however long that gets
            size = there - start
        if size < 8:
            return
        yield name, start + size
        start += size


def _avi_end(file: BinaryIO, there: int) -> int:
    """Returns how long an AVI claims to be if pictures are missing, else 0.

    Beyond 1 GB it is a row of RIFF chunks. Some programs count eight bytes too many in RIFF's size, so what decides is
    the list of the pictures.
    """
    start, claimed = 0, 0
    while start + 12 <= there:
        file.seek(start)
        name, size, kind = struct.unpack("<4sI4s", file.read(12))
        if name != b"RIFF" or kind not in (b"AVI ", b"AVIX") or size in _UNKNOWN_32:
            break
        claimed = start + 8 + size
        pictures = _pictures_end(file, start + 12, min(claimed, there))
        if pictures is not None and pictures <= there:
            pass
        elif claimed > there:
            return claimed
        start = claimed + size % 2
    return 0


def _pictures_end(file: BinaryIO, start: int, stop: int) -> int | None:
    """Returns where the list of pictures ends that lies in this part of an AVI; None if there is none."""
    while start + 12 <= stop:
        file.seek(start)
        name, size, kind = struct.unpack("<4sI4s", file.read(12))
        if name == b"LIST" and kind == b"movi":
            return 0 if size in _UNKNOWN_32 else start + 8 + size
        start += 8 + size + size % 2
    return None


def _matroska_end(file: BinaryIO) -> int:
    """Returns where the segment of a Matroska file ends; 0 if it does not say."""
    file.seek(0)
    head = file.read(4096)
    header, size = _vint(head, 4)
    start = header + (size or 0)
    if size is None or head[start : start + 4] != _SEGMENT:
        return 0
    content, size = _vint(head, start + 4)
    return 0 if size is None else content + size


def _vint(data: bytes, at: int) -> tuple[int, int | None]:
    """Returns the offset behind a number of Matroska's, and the number; None if it is missing or means unknown."""
    if at >= len(data) or not data[at]:
        return at, None
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    return at + length, None if value == (1 << 7 * length) - 1 else value
