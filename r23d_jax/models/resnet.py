"""One residual network for video; its variants are `ResNetSpec`s, and its parameters stand at torchvision's paths.

Papers: D. Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018
(R2D, f-R2D, MCx, rMCx, R3D, R(2+1)D); K. Hara et al., "Can Spatiotemporal 3D CNNs Retrace the History of
2D CNNs and ImageNet?", CVPR 2018; T. Han et al., "Video Representation Learning by Dense Predictive
Coding", 2019 (the 2D-3D networks).
"""

import dataclasses
import functools
import re
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from r23d_jax.errors import UserError
from r23d_jax.models.layers import BatchNorm, Conv, Linear, MaxPool, Sequential, dropout, relu
from r23d_jax.models.registry import WIDTH, Architecture, Option, Shapes, is_size, register

Kind = Literal["2d", "3d", "2+1d"]
STAGES = ("layer1", "layer2", "layer3", "layer4")


@dataclasses.dataclass(frozen=True)
class ResNetSpec:
    """What tells one video residual network from another.

    Attributes:
      stem: kind of the first convolution, always 7x7 and stride 2 in space, stride 1 in time;
        "frames" is a kernel over the whole clip, after which no time is left.
      stages: kinds of layer1 to layer4. 2d: 1x3x3; 3d: 3x3x3; 2+1d: 1x3x3, BatchNorm, ReLU, 3x1x1.
        Stages 2 to 4 halve space; those that are 3d or 2+1d also halve time, shortcuts alike.
      layers: blocks in each stage.
      bottleneck: blocks of 1x1x1, one convolution of the stage's kind, 1x1x1 to 4 times the width; else of
        two convolutions of the stage's kind.
      stem_frames: length in time of a 3d or 2+1d stem.
      stem_mid: width between a 2+1d stem's two convolutions at width 64, whatever the input's channels;
        None: by the formula.
      stem_pool: window and strides of the max-pool that ends the stem.
      mid_planes: what the formula for a 2+1d convolution's inner width takes as input width: that of the
        convolution ("conv"), or that of its block, once for both convolutions ("block").
      epsilon: of every batch normalisation.
      last_width: width of layer4 over the base width.
      last_relu: whether the last block ends in a ReLU.
      head_dropout: dropout comes once, before the linear head, instead of after every block.
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
    """What every layer of one network is made with."""

    spec: ResNetSpec
    dtype: jnp.dtype
    rngs: nnx.Rngs

    def conv(self, inputs, outputs, kernel, strides=(1, 1, 1), padding=None) -> Conv:
        return Conv(inputs, outputs, kernel, strides, padding, dtype=self.dtype, rngs=self.rngs)

    def norm(self, features: int) -> BatchNorm:
        return BatchNorm(features, epsilon=self.spec.epsilon, momentum=0.9)

    def of_kind(self, kind: Kind, inputs: int, outputs: int, stride: int, mid_inputs: int) -> nnx.Module:
        """The stage's convolution; `mid_inputs` is the input width that the inner width is computed from."""
        if kind == "2d":
            return self.conv(inputs, outputs, (1, 3, 3), (1, stride, stride))
        if kind == "3d":
            return self.conv(inputs, outputs, (3, 3, 3), (stride, stride, stride))
        mid = mid_planes(mid_inputs, outputs, (3, 3, 3))
        return Sequential(
            self.conv(inputs, mid, (1, 3, 3), (1, stride, stride)),
            self.norm(mid),
            relu,
            self.conv(mid, outputs, (3, 1, 1), (stride, 1, 1)),
        )


def mid_planes(inputs: int, outputs: int, kernel: tuple[int, int, int]) -> int:
    """Inner width at which a (2+1)D convolution has the parameters of the 3D one (Tran et al., sec. 3.5)."""
    time, height, width = kernel
    space = height * width
    return max(1, time * space * inputs * outputs // (space * inputs + time * outputs))


class Block(nnx.Module):
    """A residual block, basic or bottleneck: `conv1`, `conv2`, `conv3` where there is one, `downsample`.

    Args:
      inputs: channels in.
      planes: the stage's width; a bottleneck puts out four times as many channels.
      stride: 2 where the stage halves its input.
      last_relu: whether the sum goes through a ReLU.
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
        y = self.conv2(self.conv1(x))
        if self.bottleneck:
            y = self.conv3(y)
        y = y + (self.downsample(x) if self.projects else x)
        return relu(y) if self.last_relu else y


class VideoResNet(nnx.Module):
    """A residual network for video clips.

    Args:
      spec: the variant.
      num_classes: classes of the linear head.
      frames: clip length; only a network whose stem covers the whole clip (R2D) is bound to it.
      in_channels: 3 for RGB, 2 for optical flow.
      dropout: probability of element dropout, in training mode only: after the last ReLU of every residual
        block (the study's), or once before the head where the spec says so.
      dtype: of convolutions and activations; parameters, statistics, pooled features and logits are float32.
      width: channels of the stem and of layer1; everything else scales with it.
      layers: blocks in each stage, instead of the spec's.
      bn_epsilon: instead of the spec's.
      rngs: `params` initialises; with dropout, the stream `dropout` is kept for calls that bring none.
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
        self.fc = Linear(channels, num_classes, rngs=rngs)
        # Last, so that the weights are the same with and without dropout.
        self.dropout_rngs = nnx.data(rngs.dropout.fork() if dropout > 0 else None)

    def __call__(self, video: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Class scores before the softmax.

        Args:
          video: normalised float clip `[B, T, H, W, C]`.
          rngs: random streams for dropout in training mode; the network's own by default.

        Returns:
          float32 `[B, num_classes]`.
        """
        key = self._dropout_key(rngs)
        pooled = self._features(video, None if self.spec.head_dropout else key)["pool"]
        if self.spec.head_dropout:
            pooled = dropout(pooled, self.dropout, key)
        with jax.named_scope("fc"):
            return self.fc(pooled)

    def features(self, video: jax.Array, rngs: nnx.Rngs | None = None) -> dict[str, jax.Array]:
        """Outputs of `stem`, `layer1` to `layer4` as `[B, T', H', W', C']`, and `pool`, float32 `[B, D]`."""
        return self._features(video, None if self.spec.head_dropout else self._dropout_key(rngs))

    def _features(self, video: jax.Array, key: jax.Array | None) -> dict[str, jax.Array]:
        self._check(video)
        outputs = {}
        with jax.named_scope("stem"):
            x = outputs["stem"] = self.stem(video.astype(self.dtype))
        block_number = 0
        for stage in STAGES:
            with jax.named_scope(stage):
                for block in getattr(self, stage):
                    x = block(x)
                    if key is not None:
                        x = dropout(x, self.dropout, jax.random.fold_in(key, block_number))
                    block_number += 1
            outputs[stage] = x
        outputs["pool"] = jnp.mean(x.astype(jnp.float32), axis=(1, 2, 3))
        return outputs

    def _dropout_key(self, rngs: nnx.Rngs | None) -> jax.Array | None:
        if self.deterministic or self.dropout == 0:
            return None
        return self.dropout_rngs() if rngs is None else rngs.dropout()

    def _check(self, video: jax.Array) -> None:
        if video.ndim != 5 or video.shape[-1] != self.in_channels:
            raise UserError(
                f"input of shape {tuple(video.shape)}: this network takes [batch, frames, height, width, "
                f"{self.in_channels}]"
            )
        if not jnp.issubdtype(video.dtype, jnp.floating):
            raise UserError(f"input of type {video.dtype}: normalise the clips to floats first")
        if self.spec.stem == "frames" and video.shape[1] != self.frames:
            raise UserError(
                f"clips of {video.shape[1]} frames: this network's first convolution spans exactly "
                f"{self.frames}; create it with frames={video.shape[1]}"
            )


def _stem(make: _Make, inputs: int, width: int, frames: int) -> Sequential:
    spec = make.spec
    length = {"2d": 1, "frames": frames}.get(spec.stem, spec.stem_frames)
    if spec.stem == "2+1d":
        mid = mid_planes(inputs, width, (length, 7, 7))
        if spec.stem_mid is not None:
            mid = max(1, spec.stem_mid * width // 64)
        steps = [
            make.conv(inputs, mid, (1, 7, 7), (1, 2, 2)),
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


# --- the networks by name ------------------------------------------------------------------------------------

_LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def _kinds(early: str, late: str, first_late: int) -> tuple[str, ...]:
    """Kinds of the five groups (stem, layer1 to layer4): `late` from group `first_late` on."""
    return tuple(late if group >= first_late else early for group in range(1, 6))


def _spec(groups: tuple[str, ...], depth: int, **differences: Any) -> ResNetSpec:
    return ResNetSpec(stem=groups[0], stages=groups[1:], layers=_LAYERS[depth], bottleneck=depth >= 50, **differences)


def _specs() -> dict[str, ResNetSpec]:
    specs = {}
    for depth in (18, 34):
        # Tran et al.'s R2D folds the frames into the first convolution's channels and has no time after it;
        # as a kernel over the whole clip that is the same sum, and the layout of VMZ's weights.
        specs[f"r2d_{depth}"] = _spec(("frames", "2d", "2d", "2d", "2d"), depth)
        specs[f"f_r2d_{depth}"] = _spec(("2d",) * 5, depth)
    # VMZ's own 18-layer R(2+1)D: not torchvision's, see `mid_planes`.
    specs["vmz_r2plus1d_18"] = _spec(("2+1d",) * 5, 18, stem_mid=45, mid_planes="conv", epsilon=1e-3)
    for group in (2, 3, 4, 5):
        specs[f"mc{group}_18"] = _spec(_kinds("3d", "2d", group), 18)
        specs[f"rmc{group}_18"] = _spec(_kinds("2d", "3d", group), 18)
    for depth in (18, 34, 50):
        specs[f"r3d_{depth}"] = _spec(("3d",) * 5, depth)
        # torchvision's 18-layer network; VMZ's and IG-65M's 34-layer one, and VMZ's way for 50 layers.
        ours = {"mid_planes": "block"} if depth == 18 else {"mid_planes": "conv", "epsilon": 1e-3}
        specs[f"r2plus1d_{depth}"] = _spec(("2+1d",) * 5, depth, stem_mid=45, **ours)
        if depth > 18:
            specs[f"r2plus3d_{depth}"] = _spec(_kinds("2d", "3d", 4), depth)
            specs[f"r3plus2d_{depth}"] = _spec(_kinds("3d", "2d", 4), depth)
        specs[f"resnet{depth}_2d3d_full"] = _spec(
            _kinds("2d", "3d", 4),
            depth,
            stem_pool=((1, 3, 3), (1, 2, 2)),
            last_width=4,
            last_relu=False,
            head_dropout=True,
        )
        hara = {"stem_frames": 7, "stem_pool": ((3, 3, 3), (2, 2, 2))}
        specs[f"hara_r3d_{depth}"] = _spec(("3d",) * 5, depth, **hara)
        specs[f"hara_r2plus1d_{depth}"] = _spec(("2+1d",) * 5, depth, **hara)
    return specs


SPECS: dict[str, ResNetSpec] = _specs()
_ALIASES = {"rmc4_18": {"r2plus3d_18": "R(2+3)D"}, "mc4_18": {"r3plus2d_18": "R(3+2)D"}}
_TITLES = {
    "r2d": "R2D",
    "f_r2d": "f-R2D",
    "r3d": "R3D",
    "r2plus1d": "R(2+1)D",
    "r2plus3d": "R(2+3)D",
    "r3plus2d": "R(3+2)D",
    "vmz_r2plus1d": "R(2+1)D, VMZ's",
    "hara_r3d": "R3D, Hara's",
    "hara_r2plus1d": "R(2+1)D, Hara's",
}


def _title(name: str) -> str:
    if name.endswith("_2d3d_full"):
        return f"2D3D-ResNet-{name.removeprefix('resnet').partition('_')[0]}"
    family, _, depth = name.rpartition("_")
    title = _TITLES.get(family, family.replace("mc", "MC"))
    return title if depth == "18" else f"{title}-{depth}"


def _kind(spec: ResNetSpec) -> str:
    kinds = {"2d" if kind == "frames" else kind for kind in (spec.stem, *spec.stages)}
    if len(kinds) == 1:
        return {"2d": "2D", "3d": "3D", "2+1d": "(2+1)D"}[kinds.pop()]
    return "2D early, 3D late" if spec.stages[-1] == "3d" else "3D early, 2D late"


# --- from the shapes of weights back to the network ------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Structure:
    """A video ResNet as the shapes of its tensors tell it.

    Attributes:
      stem: length in time of the first convolution, and whether it is factorised.
      stages: kinds of layer1 to layer4.
      layers: blocks in each.
      width: channels of layer1.
      last_width: width of layer4 over that.
      mid_planes: as in `ResNetSpec` where the inner widths of (2+1)D tell, None where both give the same.
    """

    stem: tuple[int, bool]
    stages: tuple[str, ...]
    layers: tuple[int, ...]
    bottleneck: bool
    width: int
    last_width: int
    mid_planes: str | None

    def __str__(self) -> str:
        length, factorised = self.stem
        return (
            f"stem over {length} frames{' (factorised)' if factorised else ''}, stages {', '.join(self.stages)}, "
            f"blocks {self.layers}{' (bottleneck)' if self.bottleneck else ''}, width {self.width}"
        )


def structure(shapes: Shapes) -> Structure:
    """Reads a video ResNet's structure off its shapes, by path.

    Raises:
      UserError: tensors without which there is no telling are missing.
    """
    return _structure(frozenset(shapes.items()))


@functools.lru_cache(maxsize=1)  # every network is asked about the same shapes
def _structure(items: frozenset) -> Structure:
    shapes = dict(items)

    def one(pattern: str) -> tuple[int, ...]:
        """The longest in time of the shapes whose path matches: a damaged file may lack some of them."""
        found = [shape for path, shape in shapes.items() if re.fullmatch(pattern, path)]
        if not found:
            raise UserError(f"incomplete: no tensor {pattern.replace(chr(92), '')}")
        return max(found)

    layers = tuple(
        1 + max((int(m[1]) for path in shapes if (m := re.match(rf"{stage}\.(\d+)\.", path))), default=-1)
        for stage in STAGES
    )
    if 0 in layers:
        raise UserError(f"incomplete: {STAGES[layers.index(0)]} is missing")
    bottleneck = any(re.match(r"layer\d\.\d+\.conv3\.", path) for path in shapes)
    main = "conv2" if bottleneck else "conv[12]"
    stages = []
    for stage in STAGES:
        if any(re.fullmatch(rf"{stage}\.\d+\.{main}\.0\.[03]\.kernel", path) for path in shapes):
            stages.append("2+1d")
        else:
            stages.append("3d" if one(rf"{stage}\.\d+\.{main}\.0\.kernel")[0] > 1 else "2d")
    factorised = "stem.3.kernel" in shapes
    stem = one("stem\\.3\\.kernel" if factorised else "stem\\.0\\.kernel")
    first, last = (one(rf"{stage}\.\d+\.conv2\.1\.(scale|bias|mean|var)")[0] for stage in (STAGES[0], STAGES[-1]))
    inner, mid = shapes.get("layer4.0.conv2.0.0.kernel"), None
    if inner is not None and stages[3] == "2+1d" and not bottleneck:
        mid = "conv" if inner[4] == mid_planes(inner[3], inner[3], (3, 3, 3)) else "block"
    return Structure((stem[0], factorised), tuple(stages), layers, bottleneck, first, last // first, mid)


def _size(spec: ResNetSpec, shapes: Shapes) -> dict[str, Any] | None:
    found = structure(shapes)
    if (found.bottleneck, found.last_width) != (spec.bottleneck, spec.last_width):
        return None
    size = {"frames": found.stem[0]} if spec.stem == "frames" else {}
    if found.width != 64:
        size["width"] = found.width
    if found.layers != spec.layers:
        size["layers"] = found.layers
    return size


def _matches(spec: ResNetSpec, shapes: Shapes) -> bool:
    found = structure(shapes)
    length, factorised = found.stem
    stem = {
        "2d": length == 1 and not factorised,
        "3d": length == spec.stem_frames and not factorised,
        "2+1d": length == spec.stem_frames and factorised,
        "frames": length != 1 and not factorised,
    }[spec.stem]
    return stem and found.stages == spec.stages and found.mid_planes in (None, spec.mid_planes)


_BLOCKS = Option(
    lambda value: isinstance(value, list | tuple) and len(value) == len(STAGES) and all(map(is_size, value)),
    f"the number of blocks, 1 or more, of {len(STAGES)} stages",
)

register(
    *(
        Architecture(
            name=name,
            create=functools.partial(VideoResNet, spec),
            title=_title(name),
            first_kernel="stem.0.kernel",
            size=functools.partial(_size, spec),
            matches=functools.partial(_matches, spec),
            describe=lambda shapes: str(structure(shapes)),
            kind=_kind(spec),
            options={"width": WIDTH, "layers": _BLOCKS},
            fixed_frames=spec.stem == "frames",
            epsilon=spec.epsilon,
            aliases=_ALIASES.get(name, {}),
        )
        for name, spec in SPECS.items()
    )
)
