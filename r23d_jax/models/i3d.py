"""I3D: Inception-v1 inflated to three dimensions, for RGB or optical flow.

J. Carreira and A. Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset", CVPR 2017, as
released by DeepMind: TensorFlow's SAME padding everywhere, also in max-pools, and 3x3x3 kernels in place of the 5x5
ones of the 2D network. Parameter paths are those of piergiaj/pytorch-i3d (`Mixed_3b.b1b.conv3d`), except the
classifier at `fc`, as in every network of this package.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from r23d_jax.models.layers import BatchNorm, Conv, Linear, check_clips, dropout, max_pool, relu
from r23d_jax.models.ops.convolution import convolve
from r23d_jax.models.registry import WIDTH, Architecture, Shapes, register
from r23d_jax.transforms.spec import Preprocessing

_EPSILON = 1e-3
# As in the other networks: with DeepMind's .999 a short fine-tuning would hardly update the statistics.
_MOMENTUM = 0.9

# Window and strides of the max-pool before a module. The names are DeepMind's endpoints.
_POOLS = {
    "MaxPool3d_2a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_3a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_4a_3x3": ((3, 3, 3), (2, 2, 2)),
    "MaxPool3d_5a_2x2": ((2, 2, 2), (2, 2, 2)),
}
# Output widths of the branches: 1x1x1; 1x1x1 and 3x3x3; 1x1x1 and 3x3x3; 1x1x1 after a max-pool.
_MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
_ORDER = (
    "Conv3d_1a_7x7",
    "MaxPool3d_2a_3x3",
    "Conv3d_2b_1x1",
    "Conv3d_2c_3x3",
    "MaxPool3d_3a_3x3",
    "Mixed_3b",
    "Mixed_3c",
    "MaxPool3d_4a_3x3",
    "Mixed_4b",
    "Mixed_4c",
    "Mixed_4d",
    "Mixed_4e",
    "Mixed_4f",
    "MaxPool3d_5a_2x2",
    "Mixed_5b",
    "Mixed_5c",
)


def same_padding(shape: Sequence[int], window: Sequence[int], strides: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Returns TensorFlow's SAME padding (before, after) for each axis; an odd zero goes behind.

    Args:
      shape: input sizes over time, height and width.
      window, strides: of the convolution or pool over the same axes.
    """
    total = [
        max((-(-size // stride) - 1) * stride + length - size, 0)
        for size, length, stride in zip(shape, window, strides, strict=True)
    ]
    return tuple((zeros // 2, zeros - zeros // 2) for zeros in total)


class Unit(nnx.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inputs, outputs, kernel, strides=(1, 1, 1), *, epsilon, dtype, rngs):
        self.conv3d = Conv(inputs, outputs, kernel, strides, dtype=dtype, rngs=rngs)
        self.bn = BatchNorm(outputs, epsilon=epsilon, momentum=_MOMENTUM)

    def __call__(self, x: jax.Array) -> jax.Array:
        conv = self.conv3d
        kernel = conv.kernel[...]
        padding = same_padding(x.shape[1:4], kernel.shape[:3], conv.strides)
        return relu(self.bn(convolve(x.astype(conv.dtype), kernel, conv.strides, padding)))


class Mixed(nnx.Module):
    """An Inception module: four branches, concatenated along the channels."""

    def __init__(self, inputs: int, widths: Sequence[int], **options):
        self.b0 = Unit(inputs, widths[0], (1, 1, 1), **options)
        self.b1a = Unit(inputs, widths[1], (1, 1, 1), **options)
        self.b1b = Unit(widths[1], widths[2], (3, 3, 3), **options)
        self.b2a = Unit(inputs, widths[3], (1, 1, 1), **options)
        self.b2b = Unit(widths[3], widths[4], (3, 3, 3), **options)
        self.b3b = Unit(inputs, widths[5], (1, 1, 1), **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        pooled = same_max_pool(x, (3, 3, 3), (1, 1, 1))
        branches = []
        for start, names in ((x, ("b0",)), (x, ("b1a", "b1b")), (x, ("b2a", "b2b")), (pooled, ("b3b",))):
            for name in names:
                with jax.named_scope(name):
                    start = getattr(self, name)(start)
            branches.append(start)
        return jnp.concatenate(branches, axis=-1)


class I3D(nnx.Module):
    """I3D for clips of at least 1 frame and 32x32 pixels.

    Without a `head.Head`, features are averaged over space, then over windows of two time steps, then over the windows.
    At 224x224 and 9 or more frames this equals DeepMind's 2x7x7 pool; other sizes work as well.

    Args:
      num_classes: classes of the linear head.
      in_channels: 3 for RGB, 2 for optical flow.
      dropout: probability of element dropout before the head, in training mode only (DeepMind: .5).
      dtype: of convolutions and activations; parameters, statistics, pooled features and logits are float32.
      width: channels of the first convolution, 64 in the published network; everything else scales with it.
      bn_epsilon: of every batch normalisation.
      rngs: stream `params` for the initial weights; stream `dropout` is the default for calls.
    """

    # For class activation maps: input frame and pixel at the centre of the last map's first position, for sizes that
    # halve evenly. Sum over layers of (half the window minus the padding before) times the stride of the layer's input.
    map_offset = (5.0, 23.0, 23.0)
    # The same for the maps from each of these stages on.
    _OFFSETS = {
        "Conv3d_1a_7x7": (1.0, 1.0, 1.0),
        "MaxPool3d_2a_3x3": (1.0, 3.0, 3.0),
        "MaxPool3d_3a_3x3": (1.0, 7.0, 7.0),
        "MaxPool3d_4a_3x3": (3.0, 15.0, 15.0),
        "MaxPool3d_5a_2x2": map_offset,
    }

    def __init__(
        self,
        num_classes: int,
        *,
        rngs: nnx.Rngs,
        in_channels: int = 3,
        dropout: float = 0.0,
        dtype: jnp.dtype = jnp.float32,
        width: int = 64,
        bn_epsilon: float = _EPSILON,
    ):
        self.in_channels = in_channels
        self.dtype = dtype
        self.dropout = dropout
        self.deterministic = False
        options = {"epsilon": bn_epsilon, "dtype": dtype, "rngs": rngs}
        self.Conv3d_1a_7x7 = Unit(in_channels, width, (7, 7, 7), (2, 2, 2), **options)
        self.Conv3d_2b_1x1 = Unit(width, width, (1, 1, 1), **options)
        self.Conv3d_2c_3x3 = Unit(width, 3 * width, (3, 3, 3), **options)
        channels = 3 * width
        widths_of = {"Conv3d_1a_7x7": width, "Conv3d_2b_1x1": width, "Conv3d_2c_3x3": channels}
        for name, published in _MIXED.items():
            widths = [max(1, channels_of * width // 64) for channels_of in published]
            setattr(self, name, Mixed(channels, widths, **options))
            channels = widths[0] + widths[2] + widths[4] + widths[5]
            widths_of[name] = channels
        self.widths = tuple(widths_of.items())  # no dict, since a network's structure has to be hashable
        self.head = None
        self.fc = Linear(channels, num_classes, rngs=rngs)
        # Last, so that the initial weights do not depend on dropout.
        self.dropout_rngs = nnx.data(rngs.dropout.fork() if dropout > 0 else None)

    def __call__(self, video: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Computes logits, averaged over time.

        Args:
          video: normalised float clip `[B, T, H, W, C]`.
          rngs: random streams for dropout in training mode; by default the network's own.

        Returns:
          float32 `[B, num_classes]`.
        """
        if self.head is None:
            windows = _time_windows(self._endpoints(video)["Mixed_5c"])
        else:
            windows = self.head.pool(self._endpoints, video)[:, None]
        if not self.deterministic and self.dropout > 0:
            key = self.dropout_rngs() if rngs is None else rngs.dropout()
            windows = dropout(windows, self.dropout, key)
        with jax.named_scope("fc"):
            return self.fc(jnp.mean(windows, axis=1))  # equals averaging the logits, since the classifier is linear

    def features(self, video: jax.Array, rngs: nnx.Rngs | None = None) -> dict[str, jax.Array]:
        """Returns DeepMind's endpoints as `[B, T', H', W', C']`, and `pool`, float32 `[B, D]`."""
        del rngs  # dropout comes after the features
        if self.head is not None:
            return self.head(self._endpoints, video)
        outputs = self._endpoints(video)
        outputs["pool"] = jnp.mean(_time_windows(outputs["Mixed_5c"]), axis=1)
        return outputs

    def channels(self) -> dict[str, int]:
        """Returns the channels of the stages with weights, by name, in order of depth."""
        return dict(self.widths)

    def offset_of(self, stage: str) -> tuple[float, float, float]:
        """Returns what `map_offset` is for the map of a stage."""
        depth = _ORDER.index(stage)
        return next(at for name, at in reversed(self._OFFSETS.items()) if _ORDER.index(name) <= depth)

    def _endpoints(self, video: jax.Array) -> dict[str, jax.Array]:
        check_clips(video, self.in_channels)
        outputs = {}
        x = video.astype(self.dtype)
        for name in _ORDER:
            with jax.named_scope(name):
                x = same_max_pool(x, *_POOLS[name]) if name in _POOLS else getattr(self, name)(x)
            outputs[name] = x
        return outputs


def same_max_pool(x: jax.Array, window: tuple[int, int, int], strides: tuple[int, int, int]) -> jax.Array:
    """Max-pools `[B, T, H, W, C]` with SAME padding."""
    return max_pool(x, window, strides, same_padding(x.shape[1:4], window, strides))


def _time_windows(x: jax.Array) -> jax.Array:
    """Averages over space and every two neighbouring time steps: float32 `[B, T' - 1, D]`."""
    x = jnp.mean(x.astype(jnp.float32), axis=(2, 3))
    return (x[:, :-1] + x[:, 1:]) / 2 if x.shape[1] > 1 else x


_FIRST_KERNEL = "Conv3d_1a_7x7.conv3d.kernel"


def _size(shapes: Shapes) -> dict[str, Any] | None:
    kernel = shapes.get(_FIRST_KERNEL)
    if kernel is None or len(kernel) != 5:
        return None
    return {} if kernel[4] == 64 else {"width": kernel[4]}


# Carreira and Zisserman 2017: 64 frames, short side 256, crop 224, pixels and flow on -1..1.
_PREPROCESSING = Preprocessing(resize=256, crop=224, frames=64)
_FLOW = dataclasses.replace(_PREPROCESSING, channels="flow", flow="tvl1", mean=(0.5, 0.5), std=(0.5, 0.5))

register(
    Architecture(
        name="i3d",
        create=I3D,
        title="I3D",
        first_kernel=_FIRST_KERNEL,
        size=_size,
        kind="3D",
        options={"width": WIDTH},
        epsilon=_EPSILON,
        preprocessing={"rgb": _PREPROCESSING, "flow": _FLOW},
    )
)
