"""What a network is fed: size, crop, rate and normalisation of a clip."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """From decoded uint8 frames to the network's input.

    Attributes:
      resize: frame size before the crop, in pixels: `(height, width)` exactly, or one number for the
        short side with the aspect ratio kept, or None for the stored frames as they are.
      crop: side of the centre crop in pixels; None feeds the whole frame.
      frames: frames in a clip; 0 means the whole video, up to `max_frames`, then windows of that many.
      stride: step between a clip's frames, in frames of the source.
      fps: frames per second to resample to before `stride`; None keeps the video's own rate.
      mean, std: per channel, on the 0..1 range; the input is `(frame / 255 - mean) / std`.
      channels: "rgb" or "flow".
      flow: the optical-flow algorithm where `channels` is "flow", else None.
      max_frames: the bound for `frames == 0`.
    """

    resize: tuple[int, int] | int | None
    crop: int | None
    frames: int
    stride: int = 1
    fps: float | None = None
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    channels: str = "rgb"
    flow: str | None = None
    max_frames: int = 256

    @property
    def input(self) -> str:
        """What the network sees, for people to read: "rgb" or "flow (tvl1)"."""
        return self.channels if self.flow is None else f"{self.channels} ({self.flow})"

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Preprocessing":
        fields = dict(fields)
        if isinstance(fields["resize"], list):
            fields["resize"] = tuple(fields["resize"])
        fields["mean"], fields["std"] = tuple(fields["mean"]), tuple(fields["std"])
        return cls(**fields)


def from_config(config: ConfigDict, channels: str = "rgb", flow: str | None = None) -> Preprocessing:
    """What the config feeds the network."""
    resize = config.clip.resize
    return Preprocessing(
        resize=resize[0] if isinstance(resize, tuple) and len(resize) == 1 else resize,
        crop=config.clip.size,
        frames=config.clip.frames,
        stride=config.clip.stride,
        mean=config.clip.mean,
        std=config.clip.std,
        channels=channels,
        flow=flow,
    )
