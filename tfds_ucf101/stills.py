"""One extracted frame: an encoded picture (JPEG, PNG, BMP, WebP and what else FFmpeg knows) to its decoded frame.

FFmpeg decodes, so that a picture has the colours of a video's frame. It also patches up damaged JPEGs without a word,
so libjpeg is asked about each.
"""

import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import simplejpeg
from PIL import Image

from r23d_jax.data.orientation import UPRIGHT, Orientation, of_exif
from r23d_jax.data.video import Video, VideoError

# libjpeg's warnings after which pixels may be wrong; after others they are right.
_WRONG_PIXELS = ("Huffman", "instead of RST", "progression", "arithmetic")

_MOST_PIXELS = 1 << 28  # about as many as FFmpeg takes; a small damaged file may claim sixteen times as many

# The next marker behind a scan's data, in which 0xFF is followed by a zero or is a restart marker.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


@dataclass(frozen=True)
class Still:
    """A decoded picture.

    Attributes:
      frame: as decoded.
      orientation: what makes it upright.
      flawless_jpeg: the picture's own bytes if it is a JPEG in which libjpeg finds no fault.
      repaired: whether it is a JPEG with superfluous bytes, read all the same.
      damaged: whether pixels may be wrong that the decoder patched up.
    """

    frame: av.VideoFrame
    orientation: Orientation
    flawless_jpeg: bytes | None = None
    repaired: bool = False
    damaged: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), upright. A density of print does not count."""
        return self.orientation.size(self.frame.height, self.frame.width)


def read(folder: Path, name: str, data: bytes) -> Still:
    """Decodes a picture.

    Args:
      folder: where it lies, for messages.
      name: its file's name.
      data: the file.

    Raises:
      VideoError: it is no picture, several ones, one of too many pixels, or a JPEG that ends early.
    """
    if not data.startswith(b"\xff\xd8"):
        try:
            return _decode(folder / name, data, only_one=True)
        except VideoError as error:
            raise VideoError(folder, f"holds {name}, which {error.reason}") from error
    height, width = _claimed_size(data)
    if height * width > _MOST_PIXELS:
        raise VideoError(folder, f"holds {name}, which claims {width}x{height} pixels: too many to decode")
    warning = _warning(data)
    try:
        # Phones append further pictures, and an archive's tail may follow: the first one is meant.
        still = _decode(folder / name, data, only_one=False)
    except VideoError as error:
        still = None if _ends_early(warning, data) else _by_libjpeg(data)  # FFmpeg lacks arithmetic coding
        if still is None:
            raise VideoError(folder, f"holds {name}, which {error.reason}") from error
        return still
    if warning is None:
        return Still(still.frame, still.orientation, data[: _end_of_jpeg(data)], damaged=still.damaged)
    if _ends_early(warning, data):
        raise VideoError(folder, f"holds {name}, a damaged JPEG ({warning})")
    # The two go on differently after a fault, and all other programs use libjpeg.
    frame = (_by_libjpeg(data) or still).frame
    damaged = still.damaged or any(words in warning for words in _WRONG_PIXELS)
    return Still(frame, still.orientation, repaired=not damaged, damaged=damaged)


def _decode(path: Path, data: bytes, only_one: bool) -> Still:
    with Video(path, threads=1, data=data) as video:
        frames = video.frames()
        frame = next(frames)
        still = Still(frame, video.orientation(frame), damaged=frame.is_corrupt)
        others = sum(1 for _ in frames) if only_one else 0
    if others:
        raise VideoError(path, f"is {1 + others} pictures")
    return still


def _claimed_size(data: bytes) -> tuple[int, int]:
    """(height, width) by a JPEG's header; zeros if it has none."""
    try:
        return simplejpeg.decode_jpeg_header(data, strict=False)[:2]
    except (ValueError, KeyError):  # the latter is a fault of the library's
        return 0, 0


def _warning(data: bytes) -> str | None:
    """The first fault that libjpeg finds in a JPEG, whether it goes on after it or not."""
    try:
        simplejpeg.decode_jpeg(data, strict=True)
    except ValueError as error:
        return str(error)
    return None


def _ends_early(warning: str | None, data: bytes) -> bool:
    """Whether a JPEG with this first fault has less data than pixels, so that the rest of it is grey."""
    if warning is None or "remature end" in warning:
        return warning is not None
    # The first fault may hide another. Bytes before the end are read only if something is missing.
    end = _end_of_jpeg(data) - 2
    try:
        with_more = simplejpeg.decode_jpeg(data[:end] + b"\x35\x6a" * 500 + data[end:], strict=False)
        return not np.array_equal(with_more, simplejpeg.decode_jpeg(data, strict=False))
    except ValueError:
        return False


def _end_of_jpeg(data: bytes) -> int:
    """Returns the offset behind a JPEG's end marker; the length of the data if there is none."""
    at = 2
    while found := _MARKER.search(data, at):
        marker, at = data[found.start() + 1], found.end()
        if marker == 0xD9:
            return at
        if marker not in (0x01, 0xD8):  # those that stand alone; the others say how long they are
            at += int.from_bytes(data[at : at + 2], "big")
    return len(data)


def _by_libjpeg(data: bytes) -> Still | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as picture:
                pixels = np.asarray(picture.convert("RGB"))
    except Exception:  # whatever Pillow raises for data that it cannot read
        return None
    return Still(av.VideoFrame.from_ndarray(pixels, "rgb24"), of_exif(data) or UPRIGHT)
