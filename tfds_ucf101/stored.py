"""What is made of one video."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from r23d_jax.data.scaling import Resize


@dataclass(frozen=True)
class FrameOptions:
    """How frames are stored.

    Attributes:
      resize: an exact (height, width), the length of the short side, or None for the size in the file.
      quality: of the JPEG, 1 to 100.
      min_frames: a video with fewer is refused as too short.
      fps: the rate of extracted frames, whose files do not say it.
      flow: store the optical flow between the frames by this algorithm of `r23d_jax.data.flow`, not the frames.
      flow_files: the flow is there as pictures, made by that algorithm.
    """

    resize: Resize
    quality: int
    min_frames: int
    fps: float
    flow: str | None = None
    flow_files: bool = False


@dataclass(frozen=True)
class StoredVideo:
    """The pictures of one video: its frames as JPEG, or N-1 PNG of flow.

    Attributes:
      frames: the encoded pictures.
      fps: average frame rate.
      height, width: of the stored frames.
      source_height, source_width: of the source's frames, upright and in square pixels.
      times: seconds from the first picture to each, float64 [N], where the rate varies; None where it is constant.
      findings: what the build report counts, by the names in `FINDINGS`; zeros are left out.
    """

    frames: list[bytes]
    fps: float
    height: int
    width: int
    source_height: int
    source_width: int
    times: np.ndarray | None = None
    findings: Mapping[str, int] = field(default_factory=dict)


# What can be found out about a video while it is stored, and what the build report says of it.
FINDINGS = {
    "cut_off": "maybe cut off: packets fewer than its header claims",
    "damaged_frames": "frames that the decoder patched up",
    "repaired_frames": "pictures with superfluous bytes, read all the same",
    "missing_numbers": "numbers left out between the first picture and the last",
    "variable_rate": "variable frame rate",
    "interlaced_frames": "interlaced frames, stored as they are",
    "hdr_frames": "frames of high dynamic range, stored without tone mapping",
    "streams": "video streams, of which the default or largest is stored",
}
