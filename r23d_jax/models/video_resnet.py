"""The video ResNet. Variants are `ResNetSpec`s; parameter paths are torchvision's.

Papers: D. Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018
(R2D, f-R2D, MCx, rMCx, R3D, R(2+1)D); K. Hara et al., "Can Spatiotemporal 3D CNNs Retrace the History of
2D CNNs and ImageNet?", CVPR 2018; T. Han et al., "Video Representation Learning by Dense Predictive
Coding", 2019 (the 2D-3D networks).
"""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from r23d_jax.errors import UserError
from r23d_jax.models.layers import (
    BatchNorm,
    Conv,
    Linear,
    MaxPool,
    Sequential,
    check_clips,
    dropout,
    one_by_one,
    relu,
    side_by_side,
)

Kind = Literal["2d", "3d", "2+1d"]
STAGES = ("layer1", "layer2", "layer3", "layer4")


@dataclasses.dataclass(frozen=True)
class ResNetSpec:
    """A variant of the video ResNet.

    Attributes:
      stem: kind of the first convolution, always 7x7 and stride 2 in space, stride 1 in time; "frames" is a kernel
        over the whole clip that leaves a single time step.
      stages: kinds of layer1 to layer4. 2d: 1x3x3; 3d: 3x3x3; 2+1d: 1x3x3, BatchNorm, ReLU, 3x1x1.
        Stages 2 to 4 halve space; those that are 3d or 2+1d also halve time, shortcuts alike.
      layers: blocks in each stage.
      bottleneck: blocks are 1x1x1, a convolution of the stage's kind, 1x1x1 to 4 times the width; otherwise two
        convolutions of the stage's kind.
      stem_frames: length in time of a 3d or 2+1d stem.
      stem_mid: width between the two convolutions of a 2+1d stem at width 64; None for the formula.
      stem_pool: window and strides of a max-pool at the end of the stem.
      mid_planes: input width in the formula for the inner width of a 2+1d convolution: that of the convolution
        ("conv"), or that of its block for both convolutions ("block").
      epsilon: of every batch normalisation.
      last_width: width of layer4 over the base width.
      last_relu: whether the last block ends in a ReLU.
      head_dropout: whether dropout is applied once, before the linear head, instead of after every block.
    """

    stem: Literal["2d", "3d", "2+1d", "frames"]
    stages: tuple[Kind, Kind, Kind, Kind]
    layers: tuple[int, int, int, int]
    bottleneck: bool = False
    stem_frames: int = 3
    stem_mid: int | None = None
    stem_pool: tuple[tuple[int, int, int], tuple[int, int, int]] | None = None
    mid_planes: Literal["block", "conv"] = "conv"
    epsilon: float = 1e-5
    last_width: int = 8
    last_relu: bool = True
    head_dropout: bool = False


@dataclasses.dataclass(frozen=True)
class _Make:
    """Creates the layers of one network."""

    spec: ResNetSpec
    dtype: jnp.dtype
    rngs: nnx.Rngs

    def conv(self, inputs, outputs, kernel, strides=(1, 1, 1), padding=None, inner=False) -> Conv:
        return Conv(inputs, outputs, kernel, strides, padding, inner=inner, dtype=self.dtype, rngs=self.rngs)

    def norm(self, features: int) -> BatchNorm:
        return BatchNorm(features, epsilon=self.spec.epsilon, momentum=0.9)

    def of_kind(self, kind: Kind, inputs: int, outputs: int, stride: int, mid_inputs: int) -> nnx.Module:
        """Creates a stage's convolution; `mid_inputs` is the input width in the formula for the inner width."""
        if kind == "2d":
            return self.conv(inputs, outputs, (1, 3, 3), (1, stride, stride))
        if kind == "3d":
            return self.conv(inputs, outputs, (3, 3, 3), (stride, stride, stride))
        mid = mid_planes(mid_inputs, outputs, (3, 3, 3))
        return Sequential(
            self.conv(inputs, mid, (1, 3, 3), (1, stride, stride), inner=True),
            self.norm(mid),
            relu,
            self.conv(mid, outputs, (3, 1, 1), (stride, 1, 1)),
        )


def mid_planes(inputs: int, outputs: int, kernel: tuple[int, int, int]) -> int:
    """Returns the inner width that gives a (2+1)D convolution as many parameters as 3D (Tran et al., section 3.5)."""
    time, height, width = kernel
    space = height * width
    return max(1, time * space * inputs * outputs // (space * inputs + time * outputs))


class Block(nnx.Module):
    """A residual block: `conv1`, `conv2`, in a bottleneck `conv3`, and `downsample` if the shortcut needs it.

    Args:
      make: creates the layers.
      kind: of the stage's convolutions.
      inputs: input channels.
      planes: width of the stage; a bottleneck has four times as many output channels.
      stride: 2 in the first block of a stage that halves its input.
      last_relu: whether the block ends in a ReLU.
    """

    def __init__(self, make: _Make, kind: Kind, inputs: int, planes: int, stride: int, last_relu: bool):
        spec = make.spec
        outputs = 4 * planes if spec.bottleneck else planes
        self.last_relu = last_relu
        if spec.bottleneck:
            mid_inputs = inputs if spec.mid_planes == "block" else planes
            middle = make.of_kind(kind, planes, planes, stride, mid_inputs)
            self.conv1 = Sequential(make.conv(inputs, planes, (1, 1, 1)), make.norm(planes), relu)
            self.conv2 = Sequential(middle, make.norm(planes), relu)
            self.conv3 = Sequential(make.conv(planes, outputs, (1, 1, 1)), make.norm(outputs))
        else:
            mid_inputs = inputs if spec.mid_planes == "block" else planes
            first = make.of_kind(kind, inputs, planes, stride, inputs)
            second = make.of_kind(kind, planes, planes, 1, mid_inputs)
            self.conv1 = Sequential(first, make.norm(planes), relu)
            self.conv2 = Sequential(second, make.norm(planes))
        self.bottleneck = spec.bottleneck
        self.projects = stride != 1 or inputs != outputs
        if self.projects:
            strides = (1 if kind == "2d" else stride, stride, stride)
            self.downsample = Sequential(make.conv(inputs, outputs, (1, 1, 1), strides), make.norm(outputs))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        for name in ("conv1", "conv2", "conv3") if self.bottleneck else ("conv1", "conv2"):
            with jax.named_scope(name):
                y = getattr(self, name)(y)
        if self.projects:
            with jax.named_scope("downsample"):
                x = self.downsample(x)
        y = y + x
        return relu(y) if self.last_relu else y


class VideoResNet(nnx.Module):
    """A residual network for video clips.

    Args:
      spec: the variant.
      num_classes: classes of the linear head.
      frames: clip length; matters only if the stem covers the whole clip (R2D).
      in_channels: 3 for RGB, 2 for optical flow.
      dropout: probability of element dropout, in training mode only: after the last ReLU of every residual block
        (as in the study), or once before the head with `spec.head_dropout`.
      dtype: of convolutions and activations; parameters, statistics, pooled features and logits are float32.
      width: channels of the stem and of layer1; everything else scales with it.
      layers: blocks in each stage; by default the spec's.
      bn_epsilon: by default the spec's.
      rngs: stream `params` for the initial weights; stream `dropout` is the default for calls.
    """

    def __init__(
        self,
        spec: ResNetSpec,
        num_classes: int,
        *,
        rngs: nnx.Rngs,
        frames: int = 16,
        in_channels: int = 3,
        dropout: float = 0.0,
        dtype: jnp.dtype = jnp.float32,
        width: int = 64,
        layers: tuple[int, int, int, int] | None = None,
        bn_epsilon: float | None = None,
    ):
        spec = dataclasses.replace(
            spec,
            layers=spec.layers if layers is None else tuple(layers),
            epsilon=spec.epsilon if bn_epsilon is None else bn_epsilon,
        )
        self.spec = spec
        self.frames = frames
        self.in_channels = in_channels
        self.dtype = dtype
        self.dropout = dropout
        self.deterministic = False

        make = _Make(spec, dtype, rngs)
        self.stem = _stem(make, in_channels, width, frames)
        widths = [width]  # of the stem and the stages
        channels = width
        for index, stage in enumerate(STAGES):
            planes = width * (spec.last_width if stage == "layer4" else 2**index)
            blocks = []
            for position in range(spec.layers[index]):
                stride = 2 if index > 0 and position == 0 else 1
                is_last = stage == "layer4" and position == spec.layers[index] - 1
                blocks.append(Block(make, spec.stages[index], channels, planes, stride, spec.last_relu or not is_last))
                channels = 4 * planes if spec.bottleneck else planes
            setattr(self, stage, Sequential(*blocks))
            widths.append(channels)
        self.widths = tuple(widths)
        self.head = None
        self.fc = Linear(channels, num_classes, rngs=rngs)
        # Last, so that the initial weights do not depend on dropout.
        self.dropout_rngs = nnx.data(rngs.dropout.fork() if dropout > 0 else None)

    def __call__(self, video: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Computes logits.

        Args:
          video: normalised float clip `[B, T, H, W, C]`.
          rngs: random streams for dropout in training mode; by default the network's own.

        Returns:
          float32 `[B, num_classes]`.
        """
        key = self._dropout_key(rngs)
        stages_of = functools.partial(self._stages, key=None if self.spec.head_dropout else key)
        pooled = _average(stages_of(video)) if self.head is None else self.head.pool(stages_of, video)
        if self.spec.head_dropout:
            pooled = dropout(pooled, self.dropout, key)
        with jax.named_scope("fc"):
            return self.fc(pooled)

    def features(self, video: jax.Array, rngs: nnx.Rngs | None = None) -> dict[str, jax.Array]:
        """Returns `stem` and `layer1` to `layer4` as `[B, T', H', W', C']`, and `pool`, float32 `[B, D]`."""
        stages_of = functools.partial(self._stages, key=None if self.spec.head_dropout else self._dropout_key(rngs))
        if self.head is not None:
            return self.head(stages_of, video)
        outputs = stages_of(video)
        return {**outputs, "pool": _average(outputs)}

    def channels(self) -> dict[str, int]:
        """Returns the channels of the stages, by name, in order of depth."""
        return dict(zip(("stem", *STAGES), self.widths, strict=True))

    def offset_of(self, stage: str) -> tuple[float, float, float]:
        """Returns the input position of a stage's first output: every window is padded by half of its size."""
        del stage
        return (0.0, 0.0, 0.0)

    def _stages(self, video: jax.Array, key: jax.Array | None) -> dict[str, jax.Array]:
        self._check(video)
        outputs, widths = {}, self.channels()
        with jax.named_scope("stem"):
            x = video.astype(self.dtype)
            if self.spec.stem != "frames" and self.spec.stem_pool is None:
                x = side_by_side(x, widths["stem"])
            x = self.stem(x)
        outputs["stem"] = one_by_one(x, widths["stem"])
        block_number = 0
        for stage in STAGES:
            with jax.named_scope(stage):
                for index, block in enumerate(getattr(self, stage)):
                    with jax.named_scope(str(index)):
                        x = block(x)
                    if key is not None:
                        x = dropout(x, self.dropout, jax.random.fold_in(key, block_number))
                    block_number += 1
            outputs[stage] = one_by_one(x, widths[stage])
        return outputs

    def _dropout_key(self, rngs: nnx.Rngs | None) -> jax.Array | None:
        if self.deterministic or self.dropout == 0:
            return None
        return self.dropout_rngs() if rngs is None else rngs.dropout()

    def _check(self, video: jax.Array) -> None:
        check_clips(video, self.in_channels)
        if self.spec.stem == "frames" and video.shape[1] != self.frames:
            raise UserError(
                f"clips of {video.shape[1]} frames: this network's first convolution spans exactly "
                f"{self.frames}; create it with frames={video.shape[1]}"
            )


def _average(outputs: dict[str, jax.Array]) -> jax.Array:
    return jnp.mean(outputs[STAGES[-1]].astype(jnp.float32), axis=(1, 2, 3))


def _stem(make: _Make, inputs: int, width: int, frames: int) -> Sequential:
    spec = make.spec
    length = {"2d": 1, "frames": frames}.get(spec.stem, spec.stem_frames)
    if spec.stem == "2+1d":
        mid = mid_planes(inputs, width, (length, 7, 7))
        if spec.stem_mid is not None:
            mid = max(1, spec.stem_mid * width // 64)
        steps = [
            make.conv(inputs, mid, (1, 7, 7), (1, 2, 2), inner=True),
            make.norm(mid),
            relu,
            make.conv(mid, width, (length, 1, 1)),
        ]
    else:
        pad_time = 0 if spec.stem == "frames" else length // 2
        steps = [make.conv(inputs, width, (length, 7, 7), (1, 2, 2), (pad_time, 3, 3))]
    steps += [make.norm(width), relu]
    if spec.stem_pool is not None:
        steps.append(MaxPool(*spec.stem_pool))
    return Sequential(*steps)
