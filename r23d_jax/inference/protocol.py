"""Describes in one sentence how scores or features of a video file were computed."""

from r23d_jax.data import sampling
from r23d_jax.inference import clips as video_clips
from r23d_jax.weights.card import Card


def describe(
    card: Card,
    views: str | int | None,
    dtype: str,
    sliding: tuple[float, float] | None = None,
    aggregate: str = "mean of softmax",
) -> str:
    """Returns the sentence.

    Args:
      card: clip and preprocessing.
      views: as in `clips.plan`.
      dtype: the network computes in.
      sliding: (window, step) in seconds of sliding windows, 0 for the defaults; None without windows.
      aggregate: how clips are combined.
    """
    spec = card.preprocessing
    views = spec.sampling if views is None else views
    many = "every non-overlapping" if views == "dense" else f"{views} uniformly spread"
    if views in ("segments", "linspace"):
        spread = "the middles of equal parts" if views == "segments" else "frames evenly spaced over the whole video"
        clips = f"one clip of {spec.frames} frames, {spread}"
    elif views == "fitted":
        clips = sampling.fitted_in_words(spec.max_frames)
    elif spec.frames:
        clips = f"{many} {spec.frames}-frame clip{'s' if views not in ('dense', 1) else ''}"
    else:
        parts = "as many as cover it" if views == "dense" else many
        clips = f"the whole video ({parts} {spec.max_frames}-frame clips of a longer one)"
    if sliding:
        window, step = (f"{value:g} s" if value else "" for value in sliding)
        clips = f"{clips} in windows of {window or 'one clip'}" + (f", one every {step}" if step else "")
    stride = "" if spec.stride == 1 or views in ("segments", "linspace") else f" of stride {spec.stride}"
    stride += f" of {spec.flow} optical flow" if spec.flow else ""
    rate = "" if spec.fps is None else f" at {spec.fps:g} frames/s"
    crop = "whole frames" if spec.crop is None else f"centre crop {spec.crop}x{spec.crop} of frames"
    stored = video_clips.stored_size(card)
    decoded = "" if stored == spec.resize else f" (decoded at {_size(stored)})"
    return (
        f"{aggregate} over {clips}{stride}{rate}; {crop} resized to {_size(spec.resize)}{decoded}; {dtype}; "
        f"{card.arch}, weights {card.tensors_sha256[:12]}"
    )


def _size(resize: tuple[int, int] | int | None) -> str:
    if resize is None:
        return "nothing else"
    return f"{resize[0]}x{resize[1]}" if isinstance(resize, tuple) else f"short side {resize}"
