"""Scales decoded frames and converts their colours."""

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from r23d_jax.data.orientation import Orientation, of_frame

# (height, width), the length of the short side, or None for the size in the file.
Resize = tuple[int, int] | int | None

# AVColorSpace values that mean BT.601: unspecified (FFmpeg's default), and its two names.
_BT601 = (2, 5, 6)
_SCALE = Interpolation.BILINEAR
# Without these flags swscale darkens by one or two levels, and two pixels share a chroma sample.
_CONVERT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


def target_size(height: int, width: int, resize: Resize) -> tuple[int, int]:
    """Returns (height, width) of a frame after `resize`; the long side is rounded down."""
    if resize is None:
        return height, width
    if isinstance(resize, int):
        if height <= width:
            return resize, max(1, resize * width // height)
        return max(1, resize * height // width), resize
    return resize


class Scaler:
    """Scales and converts the frames of one video; caches swscale's state for its format.

    Antialiased bilinear, on one thread: at these sizes more threads are slower.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def rgb(self, frame: av.VideoFrame, height: int, width: int, orientation: Orientation | None = None) -> np.ndarray:
        """Returns the upright frame, uint8 [height, width, 3] in full-range RGB.

        Args:
          frame: as decoded.
          height, width: of the result.
          orientation: what makes the frame upright, from `Video.orientation`; None to ask the frame itself.
        """
        orientation = of_frame(frame) if orientation is None else orientation
        return orientation.apply(self._scale(frame, *orientation.size(height, width), "rgb24").to_ndarray())

    def planes(self, frame: av.VideoFrame, height: int, width: int) -> list[np.ndarray]:
        """Returns the frame as it is decoded, not turned, in JPEG's full-range BT.601 with 4:2:0 chroma.

        Returns:
          Y uint8 [height, width], and U, V uint8 [ceil(height / 2), ceil(width / 2)]; views of the decoder's memory,
          valid until the next frame.
        """
        scaled = self._scale(frame, height, width, "yuvj420p")
        return [
            np.ndarray((plane.height, plane.width), np.uint8, plane, strides=(plane.line_size, 1))
            for plane in scaled.planes
        ]

    def _scale(self, frame: av.VideoFrame, height: int, width: int, pixels: str) -> av.VideoFrame:
        # Asking for BT.601 explicitly would add a conversion even if nothing changes.
        alike = pixels != "rgb24" and frame.colorspace in _BT601
        return self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format=pixels,
            dst_colorspace=None if alike else Colorspace.ITU601,
            dst_color_range=ColorRange.JPEG,
            interpolation=_SCALE if alike else _CONVERT,
            threads=1,
        )
