"""What is made of one video."""

from dataclasses import dataclass

from r23d_jax.data.video import Resize


@dataclass(frozen=True)
class FrameOptions:
    """How frames are stored.

    Attributes:
      resize: an exact (height, width), the length of the short side, or None for the size in the file.
      quality: of the JPEG, 1 to 100.
      min_frames: a video with fewer is refused as too short.
      fps: the rate of extracted frames, whose files do not say it.
      flow: store the optical flow between the frames by this algorithm of `r23d_jax.data.flow`, not the frames.
    """

    resize: Resize
    quality: int
    min_frames: int
    fps: float
    flow: str | None = None


@dataclass(frozen=True)
class StoredVideo:
    """The pictures of one video: its frames as JPEG, or N-1 PNG of flow; from frames of the source's size.

    `height` and `width` are a frame's; `header_frames` is the number of pictures that a video file's header
    leads to expect, 0 where it claims none.
    """

    frames: list[bytes]
    fps: float
    height: int
    width: int
    source_height: int
    source_width: int
    header_frames: int = 0
