"""A checkpoint's network as a pure function of a batch for several platforms, for export."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export

from r23d_jax import models
from r23d_jax.data.scaling import target_size
from r23d_jax.errors import UserError
from r23d_jax.inference import clips as video_clips
from r23d_jax.models.functional import Functional, Weights
from r23d_jax.models.ops import hardware
from r23d_jax.transforms import clip as clip_transforms
from r23d_jax.weights.card import Card

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
_ASPECT_TOLERANCE = 0.02  # relative difference of aspect ratios above which frames count as distorted


@dataclasses.dataclass(frozen=True)
class Portable:
    """The function and its input.

    Attributes:
      apply: `(weights, inputs [B, *shape]) -> logits, float32 [B, classes]`, for any B from 1 on.
      weights: flat, numpy.
      card: the checkpoint's, with a fixed number of frames.
      name: of the input: "frames" (decoded uint8) or "clips" (normalised float32).
      shape: of one input, [T, H, W, C].
      platforms: supported ones, each with its own formulation of convolutions.
    """

    apply: Callable[[Weights, jax.Array], jax.Array]
    weights: dict[str, np.ndarray]
    card: Card
    name: str
    shape: tuple[int, int, int, int]
    platforms: tuple[str, ...]

    @property
    def dtype(self) -> str:
        """Dtype of the input."""
        return "uint8" if self.name == "frames" else "float32"

    def stablehlo(self) -> export.Exported:
        """Returns the function with its weights as constants, for a batch of any size."""
        weights = {name: jnp.asarray(value) for name, value in self.weights.items()}
        return self._export(lambda inputs: self.apply(weights, inputs))

    def stablehlo_of_weights(self) -> export.Exported:
        """Returns the function of weights, sorted by name, and inputs, for a batch of any size."""
        return self._export(self.apply, self.weights)

    def _export(self, function: Callable[..., jax.Array], *before: Weights) -> export.Exported:
        (batch,) = export.symbolic_shape("b")
        inputs = jax.ShapeDtypeStruct((batch, *self.shape), self.dtype)
        return export.export(jax.jit(function), platforms=self.platforms)(*before, inputs)


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
      platforms: some of `PLATFORMS`.
      dtype: to compute in.
      frames: in a clip; 0 for the card's number.
      size: height and width of the frames; None for the card's.
      preprocessing: whether the function takes decoded frames, and resizes, crops and normalises them.

    Raises:
      UserError: the card has no number or size of frames and none is given, or the size does not fit the card.
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
            with hardware.trace_for(platform):
                if preprocessing:
                    rows = inputs.shape[0]
                    true_size = jnp.broadcast_to(jnp.asarray((height, width), jnp.int32), (rows, 2))
                    inputs = transform(inputs, true_size, jnp.zeros(rows, jnp.int32))
                return network.eval(weights, weights, inputs)

        return run

    def apply(weights, inputs):
        # Lowering keeps only the branches of the requested platforms.
        return jax.lax.platform_dependent(weights, inputs, **{platform: on(platform) for platform in platforms})

    shape = (spec.frames, height, width, card.model.get("in_channels", 3))
    return Portable(apply, weights, card, "frames" if preprocessing else "clips", shape, tuple(platforms))


def _input(card: Card, size: tuple[int, int] | None) -> tuple[int, int]:
    """Returns height and width of the network's input."""
    spec = card.preprocessing
    fixed = (spec.crop, spec.crop) if spec.crop else spec.resize if isinstance(spec.resize, tuple) else None
    if fixed is None and size is None:
        raise UserError(f"{card.arch} takes frames of any size, an export of one: give --size HEIGHTxWIDTH")
    if fixed and size and fixed != size:
        hint = "another size needs --with-preprocessing"
        raise UserError(f"--size {_text(size)}: this checkpoint's clips are {_text(fixed)}; {hint}")
    return fixed or size


def _decoded(card: Card, size: tuple[int, int] | None) -> tuple[int, int]:
    """Returns height and width of the decoded frames: those of training, or `size` if its aspect ratio is the same."""
    stored = video_clips.stored_size(card)
    if not isinstance(stored, tuple):
        if size is None:
            raise UserError("the frames' size is open, only their short side is fixed: give --size HEIGHTxWIDTH")
        return size
    size = size or stored
    # Resizing to a fixed height and width allows frames of any aspect ratio.
    if not isinstance(card.preprocessing.resize, tuple):
        if abs(size[1] / size[0] / (stored[1] / stored[0]) - 1) > _ASPECT_TOLERANCE:
            raise UserError(f"--size {_text(size)}: the weights were trained on frames brought to {_text(stored)}")
    return size


def comparison_clips(portable: Portable, video: str | None, count: int = 3) -> np.ndarray:
    """Returns decoded clips for a comparison with the export: uint8 [N, T, H, W, C].

    Args:
      portable: determines length and size.
      video: a file, or None for random clips.
      count: largest number of clips.

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
    # Coarse squares, because logits for pixel noise hardly differ between clips.
    coarse = np.random.default_rng(0).integers(0, 256, (count, spec.frames, 7, 7, portable.shape[3]), np.uint8)
    rows, columns = (np.arange(side) * 7 // side for side in (height, width))
    return coarse[:, :, rows][:, :, :, columns]


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
