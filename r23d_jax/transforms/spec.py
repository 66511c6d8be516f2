"""Preprocessing of clips: size, crop, frame rate and normalisation."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

# Statistics of pixels on 0..1. Kinetics' are those of torchvision and VMZ (there on 0..255).
KINETICS = {"mean": (0.43216, 0.394666, 0.37645), "std": (0.22803, 0.22145, 0.216989)}
KENSHOHARA = {"mean": (0.4345, 0.4051, 0.3775), "std": (0.2768, 0.2713, 0.2737)}  # Kinetics', by 3D-ResNets-PyTorch
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
# VMZ's statistics of Farneback flow, in pixels; stored flow is (pixels + 20) / 40 on 0..1 (`data.flow.BOUND`).
FARNEBACK = {
    "mean": tuple((pixels + 20) / 40 for pixels in (0.0046635, 0.0046261)),
    "std": tuple(pixels / 40 for pixels in (0.972347, 0.755146)),
}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How decoded uint8 frames become the network's input.

    Attributes:
      resize: frame size before the crop, in pixels: `(height, width)`, the short side with the aspect ratio kept, or
        None for the stored size.
      crop: side of the centre crop in pixels; None uses the whole frame.
      frames: frames in a clip; 0 for the whole video, or clips of `max_frames` if it is longer.
      stride: step between a clip's frames, in frames of the source.
      fps: frame rate to resample to before `stride`; None keeps the video's.
      mean, std: per channel, on the 0..1 range; the input is `(frame / 255 - mean) / std`.
      channels: "rgb" or "flow".
      flow: the optical-flow algorithm if `channels` is "flow", else None.
      max_frames: longest clip if `frames` is 0.
      sampling: how a clip's frames are taken from the video, see `data.sampling`: "dense" for consecutive ones,
        "segments" for one of each equal part, "linspace" for evenly spaced ones from the first to the last, "fitted"
        (only if `frames` is 0) for evenly spaced ones whose number, one of few, is near the video's own.
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
    sampling: str = "dense"

    @property
    def input(self) -> str:
        """The kind of input as text: "rgb" or "flow (tvl1)"."""
        return self.channels if self.flow is None else f"{self.channels} ({self.flow})"

    @property
    def views(self) -> str:
        """The views (`data.views.plans`) that evaluation takes of a video if nothing else is asked for."""
        return "whole" if not self.frames and self.sampling == "dense" else self.sampling

    @property
    def short_side(self) -> int | None:
        """The short side of resized frames in pixels, None for stored frames."""
        return min(self.resize) if isinstance(self.resize, tuple) else self.resize

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Preprocessing":
        fields = dict(fields)
        if isinstance(fields["resize"], list):
            fields["resize"] = tuple(fields["resize"])
        fields["mean"], fields["std"] = tuple(fields["mean"]), tuple(fields["std"])
        return cls(**fields)


def from_config(config: ConfigDict, channels: str = "rgb", flow: str | None = None) -> Preprocessing:
    """Returns the preprocessing of a config whose `clip` is filled in (`weights.clip_values.resolve`)."""
    resize = config.clip.resize
    return Preprocessing(
        resize=resize[0] if isinstance(resize, tuple) and len(resize) == 1 else resize,
        crop=config.clip.size,
        frames=config.clip.frames,
        stride=config.clip.stride,
        fps=config.clip.fps or None,
        mean=config.clip.mean,
        std=config.clip.std,
        channels=channels,
        flow=flow,
        sampling=config.clip.sampling,
    )


def describe(spec: Preprocessing) -> str:
    """Describes preprocessing in one line."""
    many = {
        "dense": "",
        "segments": ", one of each equal part",
        "linspace": ", evenly spaced over the video",
        "fitted": ", fitted to one of few lengths",
    }
    rate = "the video's own rate" if spec.fps is None else f"{spec.fps:g} frames/s"
    resize = "stored frames" if spec.resize is None else f"frames of {value_text('resize', spec.resize)}"
    crop = "" if spec.crop is None else f", crop {spec.crop}x{spec.crop}"
    return (
        f"{spec.frames or 'all'} frames of stride {spec.stride} at {rate}{many[spec.sampling]}; {resize}{crop}; "
        f"mean {numbers(spec.mean)}, std {numbers(spec.std)}"
    )


def value_text(key: str, value: Any) -> str:
    """Returns a value of preprocessing as text; `key` is its name in `config.clip`."""
    if key == "resize":
        if value is None:
            return "the stored size"
        return "x".join(map(str, value)) if isinstance(value, tuple) and len(value) == 2 else f"short side {value}"
    if (key, value) in (("frames", 0), ("fps", None), ("fps", 0.0)):
        return "whole videos" if key == "frames" else "the video's own rate"
    return numbers(value) if isinstance(value, tuple) else str(value)


def numbers(values: tuple[float, ...]) -> str:
    """Returns numbers as text, six digits each."""
    return " ".join(f"{value:.6g}" for value in values)
