"""A checkpoint made ready to use: its network, its preprocessing and what to call them."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from r23d_jax import models
from r23d_jax.errors import UserError
from r23d_jax.inference import cam
from r23d_jax.inference import clips as video_clips
from r23d_jax.models.functional import Functional
from r23d_jax.models.ops import convolution
from r23d_jax.transforms import clip as clip_transforms
from r23d_jax.weights import architecture, checkpoint
from r23d_jax.weights.card import Card


def open_checkpoint(path: str | Path, which: str) -> tuple[dict[str, np.ndarray], Card]:
    """Weights and card of a workdir, a checkpoint folder or a converted one.

    Raises:
      UserError: there is none, or it is damaged.
    """
    path = Path(path)
    if path.is_file():
        raise UserError(f"--checkpoint {path}: is a file; convert it first: python -m r23d_jax.convert {path} FOLDER")
    return checkpoint.load_weights(checkpoint.find(path, which))


def labels_of(card: Card) -> tuple[str, ...]:
    """The card's labels, or "class 0", "class 1" and so on where its source had none."""
    return tuple(card.labels) or tuple(f"class {index}" for index in range(card.model["num_classes"]))


def protocol(
    card: Card, views: str | int, dtype: str, sliding: tuple[float, float] | None = None, what: str = "mean of softmax"
) -> str:
    """One sentence that says how a score or feature came about.

    Args:
      card: clip and preprocessing.
      views: "dense" or a number of clips.
      dtype: computed in.
      sliding: (window, step) in seconds where windows slide over the video, 0 for their defaults.
      what: is had from the clips.
    """
    spec = card.preprocessing
    many = "every non-overlapping" if views == "dense" else f"{views} uniformly spread"
    if spec.frames:
        clips = f"{many} {spec.frames}-frame clip{'s' if views not in ('dense', 1) else ''}"
    else:
        parts = "as many as cover it" if views == "dense" else many
        clips = f"the whole video ({parts} {spec.max_frames}-frame clips of a longer one)"
    if sliding:
        window, step = (f"{value:g} s" if value else "" for value in sliding)
        clips = f"{clips} in windows of {window or 'one clip'}" + (f", one every {step}" if step else "")
    stride = "" if spec.stride == 1 else f" of stride {spec.stride}"
    stride += f" of {spec.flow} optical flow" if spec.flow else ""
    rate = "" if spec.fps is None else f" at {spec.fps:g} frames/s"
    crop = "whole frames" if spec.crop is None else f"centre crop {spec.crop}x{spec.crop} of frames"
    stored = video_clips.stored_size(card)
    decoded = "" if stored == spec.resize else f" (decoded at {_size(stored)})"
    return (
        f"{what} over {clips}{stride}{rate}; {crop} resized to {_size(spec.resize)}{decoded}; {dtype}; "
        f"{card.arch}, weights {card.tensors_sha256[:12]}"
    )


def _size(resize: tuple[int, int] | int | None) -> str:
    if resize is None:
        return "nothing else"
    return f"{resize[0]}x{resize[1]}" if isinstance(resize, tuple) else f"short side {resize}"


class Classifier:
    """A checkpoint's network and preprocessing.

    Args:
      weights: flat, as `open_checkpoint` gives them.
      card: its `preprocessing` is obeyed.
      dtype: "float32" or "bfloat16", to compute in.
    """

    def __init__(self, weights: dict[str, np.ndarray], card: Card, dtype: str = "float32"):
        self.card = card
        # Its shapes alone: initial weights would be thrown away, and drawing them takes seconds.
        self.model = nnx.eval_shape(lambda: models.from_card(card, dtype=dtype))
        architecture.check(card.arch, self.model, weights)
        self._weights = jax.device_put(weights)
        self._functional = Functional(self.model)
        self._activations: cam.ActivationMapper | None = None
        self._transform = jax.jit(clip_transforms.eval_transform(card.preprocessing, 1, dtype))

    def logits(self) -> Callable[[jax.Array], jax.Array]:
        """The function from normalised clips [B, T, H, W, C] to logits, float32 [B, classes]."""
        return self._bind(self._functional.eval)

    def layers(self) -> tuple[str, ...]:
        """Names of the stages that `features` can give, first to last."""
        spec, model = self.card.preprocessing, self.card.model
        side = spec.crop or 112
        clip = (1, spec.frames or 16, side, side, model.get("in_channels", 3))
        names = []

        def trace(weights, video):
            names.extend(self._functional.features(weights, weights, video))  # what is returned would be sorted

        jax.eval_shape(trace, self._weights, jax.ShapeDtypeStruct(clip, np.float32))
        return tuple(names)

    def features(self, layer: str, pool: bool) -> Callable[[jax.Array], jax.Array]:
        """The function from normalised clips to one stage's output, float32 [B, D] or [B, T', H', W', D].

        Args:
          layer: a name of the network's `features`.
          pool: take the mean over time and space of a map.
        """

        if layer not in self.layers():
            raise UserError(f"--layer {layer}: {self.card.arch} has {', '.join(self.layers())}")

        def stage(params, stats, video):
            value = self._functional.features(params, stats, video)[layer].astype(np.float32)
            return value.mean(axis=tuple(range(1, value.ndim - 1))) if pool and value.ndim > 2 else value

        return self._bind(stage)

    def prepare(self, frames: np.ndarray, size: np.ndarray) -> jax.Array:
        """Crop and normalisation of evaluation: uint8 [B, T, H, W, C] on a canvas, int32 sizes [B, 2]."""
        return self._transform(frames, size, np.zeros(len(frames), np.int32))

    def class_maps(self, label: int) -> Callable[[jax.Array], np.ndarray]:
        """The function from normalised clips to one class's activation maps, float32 [B, T', H', W'].

        In logits, relative to the mean of all classes.
        """
        if self._activations is None:
            models.assign(self.model, self._weights)
            self._activations = cam.ActivationMapper(self.model)

        def maps(video):
            seen = self._activations(video)
            counts = seen.weights * len(seen.weights)  # 1, but where the average counts a moment less (I3D's ends)
            return seen.maps(np.full(len(video), label), relative=True) * counts[:, None, None]

        return maps

    def _bind(self, function):
        def run(weights, video):
            with convolution.compiled_soon():  # a video, or a few of its length, are all that it will see
                return function(weights, weights, video)

        compiled = jax.jit(run, compiler_options=convolution.compiler_options())
        return lambda video: compiled(self._weights, video)
