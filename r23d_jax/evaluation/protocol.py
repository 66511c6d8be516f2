"""Describes in one sentence how a score was computed."""

from r23d_jax.data import sampling
from r23d_jax.data import views as planning
from r23d_jax.transforms.spec import Preprocessing


def describe_protocol(
    spec: Preprocessing,
    *,
    views: str | int,
    crops: int,
    stored: str,
    split: str,
    part: str,
    dtype: str,
    weights: str,
    leak_check: bool = True,
    without_rate: int = 0,
) -> str:
    """Returns one sentence that describes how a score was computed.

    Args:
      spec: clip and preprocessing.
      views, crops: as in `evaluate`.
      stored: size of the frames in the records.
      split, part: of the data set.
      dtype: the network computes in.
      weights: describes the weights ("last checkpoint").
      leak_check: False where clips of one recording may be on both sides of the split, which makes a score too high.
      without_rate: videos without a frame rate, of which all frames were taken.
    """
    if views == "whole":
        clips = (
            f"the whole video as one clip (of more than {spec.max_frames} frames: the clips of {spec.max_frames} that "
            f"cover it), lengths rounded up to a multiple of {planning.WHOLE_MULTIPLE} by looping the video"
        )
    elif views == "fitted":
        clips = sampling.fitted_in_words(spec.max_frames)
    elif views == "segments":
        clips = f"one clip of the middles of equal parts: {spec.frames}-frame clips"
    elif views == "linspace":
        clips = f"one clip of {spec.frames} frames evenly spaced over the whole video"
    else:
        many = "every non-overlapping" if views == "dense" else f"{views} uniformly spread"
        clips = f"{many} {spec.frames}-frame clip{'s' if views not in ('dense', 1) else ''}"
    stride = "" if spec.stride == 1 or views in ("segments", "linspace") else f" of stride {spec.stride}"
    stride += f" of {spec.flow} optical flow" if spec.flow else ""
    stride += f" at {spec.fps:g} frames/s" if spec.fps else ""
    stride += f" ({without_rate} videos without a rate: all frames)" if without_rate else ""
    frames = "frames as stored" if spec.resize is None else f"frames resized to {_size(spec.resize)}"
    crop = "centre crop" if crops == 1 else f"{crops} crops"
    return (
        f"video level, mean of softmax over {clips}{stride}; {crop} "
        f"{spec.crop}x{spec.crop} of {frames} (stored {stored}); "
        f"{part} videos of split {split}; {weights}; {dtype}"
        f"{'' if leak_check else '; leak check off'}"
    )


def _size(resize: tuple[int, int] | int) -> str:
    return "x".join(map(str, resize)) if isinstance(resize, tuple) and len(resize) == 2 else f"short side {resize}"
