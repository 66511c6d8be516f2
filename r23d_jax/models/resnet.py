"""The video ResNets by name, each a `ResNetSpec`, and their recognition by the shapes of weights.

The network and its papers are in `video_resnet`.
"""

import dataclasses
import functools
import re
from typing import Any

from r23d_jax.errors import UserError
from r23d_jax.models.registry import WIDTH, Architecture, Option, Shapes, is_size, preprocessing, register
from r23d_jax.models.video_resnet import STAGES, ResNetSpec, VideoResNet, mid_planes
from r23d_jax.transforms.spec import KENSHOHARA, KINETICS, Preprocessing

_LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def _kinds(early: str, late: str, first_late: int) -> tuple[str, ...]:
    """Returns the kinds of the five groups (stem, layer1 to layer4): `late` from group `first_late` on."""
    return tuple(late if group >= first_late else early for group in range(1, 6))


def _spec(groups: tuple[str, ...], depth: int, **differences: Any) -> ResNetSpec:
    return ResNetSpec(stem=groups[0], stages=groups[1:], layers=_LAYERS[depth], bottleneck=depth >= 50, **differences)


def _specs() -> dict[str, ResNetSpec]:
    specs = {}
    for depth in (18, 34):
        # Tran et al.'s R2D folds the frames into the first convolution's channels. A kernel over the whole clip
        # computes the same sum, and has the layout of VMZ's weights.
        specs[f"r2d_{depth}"] = _spec(("frames", "2d", "2d", "2d", "2d"), depth)
        specs[f"f_r2d_{depth}"] = _spec(("2d",) * 5, depth)
    # VMZ's 18-layer R(2+1)D differs from torchvision's, see `ResNetSpec.mid_planes`.
    specs["vmz_r2plus1d_18"] = _spec(("2+1d",) * 5, 18, stem_mid=45, mid_planes="conv", epsilon=1e-3)
    for group in (2, 3, 4, 5):
        specs[f"mc{group}_18"] = _spec(_kinds("3d", "2d", group), 18)
        specs[f"rmc{group}_18"] = _spec(_kinds("2d", "3d", group), 18)
    for depth in (18, 34, 50):
        specs[f"r3d_{depth}"] = _spec(("3d",) * 5, depth)
        # 18 layers as in torchvision; 34 as in VMZ and IG-65M; 50 in the same way.
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


# --- recognition of a network by the shapes of its weights -----------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Structure:
    """The structure of a video ResNet, read from the shapes of its tensors.

    Attributes:
      stem: length in time of the first convolution, and whether it is factorised.
      stages: kinds of layer1 to layer4.
      layers: blocks in each.
      bottleneck: whether blocks are bottlenecks.
      width: channels of layer1.
      last_width: width of layer4 over that of layer1.
      mid_planes: as in `ResNetSpec`; None if both rules give the same widths.
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


def read_structure(shapes: Shapes) -> Structure:
    """Reads a video ResNet's structure from the shapes of its tensors by path.

    Raises:
      UserError: tensors that determine the structure are missing.
    """
    return _structure(frozenset(shapes.items()))


@functools.lru_cache(maxsize=1)  # all networks are compared with the same shapes
def _structure(items: frozenset) -> Structure:
    shapes = dict(items)

    def one(pattern: str) -> tuple[int, ...]:
        """Returns the longest in time of the matching shapes; a damaged file may lack some of them."""
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
    found = read_structure(shapes)
    if (found.bottleneck, found.last_width) != (spec.bottleneck, spec.last_width):
        return None
    size = {"frames": found.stem[0]} if spec.stem == "frames" else {}
    if found.width != 64:
        size["width"] = found.width
    if found.layers != spec.layers:
        size["layers"] = found.layers
    return size


def _matches(spec: ResNetSpec, shapes: Shapes) -> bool:
    found = read_structure(shapes)
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


def _preprocessing(name: str) -> dict[str, Preprocessing]:
    """Returns that of the network's authors, in its published size."""
    if name.startswith("hara_"):
        return preprocessing(112, 112, 16, **KENSHOHARA)
    if name.endswith("_2d3d_full"):  # the study's
        return preprocessing(136, 112, 16)
    return preprocessing((128, 171), 112, 32 if name == "r2plus1d_34" else 16, **KINETICS)


register(
    *(
        Architecture(
            name=name,
            create=functools.partial(VideoResNet, spec),
            title=_title(name),
            first_kernel="stem.0.kernel",
            size=functools.partial(_size, spec),
            matches=functools.partial(_matches, spec),
            describe=lambda shapes: str(read_structure(shapes)),
            kind=_kind(spec),
            options={"width": WIDTH, "layers": _BLOCKS},
            fixed_frames=spec.stem == "frames",
            epsilon=spec.epsilon,
            aliases=_ALIASES.get(name, {}),
            preprocessing=_preprocessing(name),
        )
        for name, spec in SPECS.items()
    )
)
