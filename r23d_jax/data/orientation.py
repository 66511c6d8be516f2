"""How a decoded picture is turned to stand upright: one of the eight right-angle transforms.

Containers and still pictures say it by a matrix or by EXIF. As ffmpeg does, the whole matrix counts: phones mirror the
videos of their front cameras.
"""

import io
import warnings
from typing import NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type
from PIL import Image

_EXIF_ORIENTATION = 0x0112


class Orientation(NamedTuple):
    """What makes a picture upright: `transposed` first, then the flips of its rows and of its columns."""

    transposed: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Returns (height, width) after the transform; before it, given those after."""
        return (width, height) if self.transposed else (height, width)

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """Returns a picture [H, W, C] upright; the same array if it is so already."""
        if self == UPRIGHT:
            return picture
        turned = picture.swapaxes(0, 1) if self.transposed else picture
        return np.ascontiguousarray(
            turned[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1],
        )


UPRIGHT = Orientation()
# The values of EXIF's tag Orientation, 1 to 8.
EXIF = (
    UPRIGHT,
    Orientation(False, False, True),
    Orientation(False, True, True),
    Orientation(False, True, False),
    Orientation(True, False, False),
    Orientation(True, False, True),
    Orientation(True, True, True),
    Orientation(True, True, False),
)
# Of `frame.rotation`, in quarter turns counter-clockwise.
_TURNS = (EXIF[0], EXIF[7], EXIF[2], EXIF[5])


def of_matrix(matrix: np.ndarray) -> Orientation:
    """Returns the transform nearest to a display matrix, int32 [9] as FFmpeg has it: a, b, u, c, d, v, x, y, w.

    A pixel at (x, y) is shown at (a x + c y, b x + d y).
    """
    a, b, c, d = (int(matrix[place]) for place in (0, 1, 3, 4))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, d < 0, a < 0)
    return Orientation(True, b < 0, c < 0)


def of_exif(data: bytes) -> Orientation | None:
    """Returns what the EXIF of an encoded picture says; None if the data is no picture with a valid orientation."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF
            with Image.open(io.BytesIO(data)) as picture:
                value = picture.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # whatever Pillow raises for data that it cannot read
        return None
    return EXIF[value - 1] if isinstance(value, int) and 1 <= value <= 8 else None


def of_frame(frame: av.VideoFrame, packet: av.Packet | None = None) -> Orientation:
    """Returns what makes a decoded frame upright.

    Args:
      frame: with the display matrix of its container, or the one that the decoder made of EXIF.
      packet: what it was decoded from, if known. PyAV 18 does not hand out a frame's matrix where EXIF lies beside it;
        then the EXIF in here is read instead.
    """
    try:
        data = frame.side_data
        if not len(data):
            return UPRIGHT
        matrix = data.get(Type.DISPLAYMATRIX)
    except ValueError:  # a kind of data beside it that this PyAV does not know
        found = of_exif(bytes(packet)) if packet is not None else None
        return found or _TURNS[round(frame.rotation / 90) % 4]
    return UPRIGHT if matrix is None else of_matrix(np.frombuffer(bytes(matrix), np.int32))
