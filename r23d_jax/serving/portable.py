"""A checkpoint's network as one pure function of a batch, whatever the platform: what an export writes."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export

from r23d_jax import models
from r23d_jax.data.video import target_size
from r23d_jax.errors import UserError
from r23d_jax.inference import clips as video_clips
from r23d_jax.models.functional import Functional, Weights
from r23d_jax.models.ops import convolution
from r23d_jax.transforms import clip as clip_transforms
from r23d_jax.weights.card import Card

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
_SQUEEZED = 0.02  # a difference of aspect from which frames are another picture


@dataclasses.dataclass(frozen=True)
class Portable:
    """The function and what it takes.

    Attributes:
      apply: `(weights, inputs [B, *shape]) -> logits, float32 [B, classes]`; B is any number from 1 on.
      weights: flat, numpy.
      card: the checkpoint's, its number of frames settled.
      name: of the input: "frames", uint8 as decoded, or "clips", normalised float32.
      shape: of one input, [T, H, W, C].
      platforms: it is for these, each with its own formulation of the convolutions.
    """

    apply: Callable[[Weights, jax.Array], jax.Array]
    weights: dict[str, np.ndarray]
    card: Card
    name: str
    shape: tuple[int, int, int, int]
    platforms: tuple[str, ...]

    @property
    def dtype(self) -> str:
        """Of the input."""
        return "uint8" if self.name == "frames" else "float32"

    def stablehlo(self) -> export.Exported:
        """The function with its weights inside, for a batch of any size."""
        (batch,) = export.symbolic_shape("b")
        weights = {name: jnp.asarray(value) for name, value in self.weights.items()}
        inputs = jax.ShapeDtypeStruct((batch, *self.shape), self.dtype)
        return export.export(jax.jit(lambda x: self.apply(weights, x)), platforms=self.platforms)(inputs)


def make(
    weights: dict[str, np.ndarray],
    card: Card,
    platforms: Sequence[str],
    *,
    dtype: str = "float32",
    frames: int = 0,
    size: tuple[int, int] | None = None,
    preprocessing: bool = False,
) -> Portable:
    """Makes a checkpoint portable.

    Args:
      weights, card: from `weights.loading.load_flat`.
      platforms: of `PLATFORMS`.
      dtype: to compute in.
      frames: of a clip; 0 for the card's.
      size: height and width of the frames; None for the card's.
      preprocessing: take decoded frames, and resize, crop and normalise inside.

    Raises:
      UserError: the card leaves the number of frames or their size open, or a size does not fit it.
    """
    spec = card.preprocessing
    if not (frames or spec.frames):
        raise UserError(f"{card.arch} takes a whole video, an export a fixed number of frames: give --frames 64, say")
    spec = dataclasses.replace(spec, frames=frames or spec.frames)
    card = dataclasses.replace(card, preprocessing=spec)
    height, width = _decoded(card, size) if preprocessing else _input(card, size)
    network = Functional(nnx.eval_shape(lambda: models.from_card(card, dtype=dtype)))
    transform = clip_transforms.eval_transform(spec, 1, dtype)

    def on(platform):
        def run(weights, inputs):
            with convolution.trace_for(platform):
                if preprocessing:
                    rows = inputs.shape[0]
                    true_size = jnp.broadcast_to(jnp.asarray((height, width), jnp.int32), (rows, 2))
                    inputs = transform(inputs, true_size, jnp.zeros(rows, jnp.int32))
                return network.eval(weights, weights, inputs)

        return run

    def apply(weights, inputs):
        # Only the branches of the platforms that are lowered for end up in the program.
        return jax.lax.platform_dependent(weights, inputs, **{platform: on(platform) for platform in platforms})

    shape = (spec.frames, height, width, card.model.get("in_channels", 3))
    return Portable(apply, weights, card, "frames" if preprocessing else "clips", shape, tuple(platforms))


def _input(card: Card, size: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the network's input."""
    spec = card.preprocessing
    fixed = (spec.crop, spec.crop) if spec.crop else spec.resize if isinstance(spec.resize, tuple) else None
    if fixed is None and size is None:
        raise UserError(f"{card.arch} takes frames of any size, an export of one: give --size HEIGHTxWIDTH")
    if fixed and size and fixed != size:
        hint = "another size needs --with-preprocessing"
        raise UserError(f"--size {_text(size)}: this checkpoint's clips are {_text(fixed)}; {hint}")
    return fixed or size


def _decoded(card: Card, size: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the decoded frames: those of training, or others of the same shape."""
    stored = video_clips.stored_size(card)
    if not isinstance(stored, tuple):
        if size is None:
            raise UserError("the frames' size is open, only their short side is fixed: give --size HEIGHTxWIDTH")
        return size
    size = size or stored
    # Where the card resizes to a height and a width, frames of any shape end up as in training.
    if not isinstance(card.preprocessing.resize, tuple):
        if abs(size[1] / size[0] / (stored[1] / stored[0]) - 1) > _SQUEEZED:
            raise UserError(f"--size {_text(size)}: the weights were trained on frames brought to {_text(stored)}")
    return size


def comparison_clips(portable: Portable, video: str | None, count: int = 3) -> np.ndarray:
    """Decoded clips to compare an export by: uint8 [N, T, H, W, C].

    Args:
      portable: whose frames are wanted.
      video: a file, or None for random ones.
      count: how many; fewer where the video has fewer.

    Raises:
      UserError: the video cannot be read.
    """
    spec = portable.card.preprocessing
    exact = portable.name == "frames" or spec.crop is None
    size = portable.shape[1:3] if exact else video_clips.stored_size(portable.card)
    if video is not None:
        scanned = video_clips.scan(video, size, flow=spec.flow)
        plan = video_clips.plan(scanned, spec, count)
        clips = dict(video_clips.read_clips(scanned, plan.indices))
        return np.stack([clips[row] for row in range(len(plan.indices))])
    height, width = target_size(*portable.shape[1:3], size)
    # Coarse squares: of noise a network sees next to nothing, and its logits would hardly differ.
    coarse = np.random.default_rng(0).integers(0, 256, (count, spec.frames, 7, 7, portable.shape[3]), np.uint8)
    rows, columns = (np.arange(side) * 7 // side for side in (height, width))
    return coarse[:, :, rows][:, :, :, columns]


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
