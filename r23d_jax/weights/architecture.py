"""Which network a set of tensors is: read off the shapes, compared with the networks of `models`."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from flax import nnx

from r23d_jax import models
from r23d_jax.errors import UserError
from r23d_jax.models.resnet import ResNetSpec, mid_planes

Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Described:
    """A video ResNet as its shapes tell it.

    Attributes:
      stem: length in time of the first convolution, and whether it is factorised.
      stages: "2d", "3d" or "2+1d" for layer1 to layer4.
      layers: blocks in each.
      width: channels of layer1.
      last_width: width of layer4 over that.
      mid_planes: "conv" or "block" where the inner widths of (2+1)D tell, None where both give the same.
    """

    stem: tuple[int, bool]
    stages: tuple[str, ...]
    layers: tuple[int, ...]
    bottleneck: bool
    width: int
    last_width: int
    mid_planes: str | None


def describe(shapes: Shapes) -> Described:
    """Reads a video ResNet's structure off its shapes (by our paths).

    Raises:
      UserError: tensors without which there is no telling are missing.
    """

    def one(pattern: str) -> tuple[int, ...]:
        """The longest in time of the shapes whose path matches: a damaged file may lack some of them."""
        found = [shape for path, shape in shapes.items() if re.fullmatch(pattern, path)]
        if not found:
            raise UserError(f"incomplete: no tensor {pattern.replace(chr(92), '')}")
        return max(found)

    layers = tuple(
        1 + max((int(m[1]) for path in shapes if (m := re.match(rf"layer{stage}\.(\d+)\.", path))), default=-1)
        for stage in (1, 2, 3, 4)
    )
    if 0 in layers:
        raise UserError(f"incomplete: layer{layers.index(0) + 1} is missing")
    bottleneck = any(re.match(r"layer\d\.\d+\.conv3\.", path) for path in shapes)
    main = "conv2" if bottleneck else "conv[12]"
    stages = []
    for stage in (1, 2, 3, 4):
        if any(re.fullmatch(rf"layer{stage}\.\d+\.{main}\.0\.[03]\.kernel", path) for path in shapes):
            stages.append("2+1d")
        else:
            stages.append("3d" if one(rf"layer{stage}\.\d+\.{main}\.0\.kernel")[0] > 1 else "2d")
    factorised = "stem.3.kernel" in shapes
    stem = one("stem\\.3\\.kernel" if factorised else "stem\\.0\\.kernel")
    planes = [one(rf"layer{stage}\.\d+\.conv2\.1\.(scale|bias|mean|var)")[0] for stage in (1, 4)]
    return Described(
        (stem[0], factorised),
        tuple(stages),
        layers,
        bottleneck,
        planes[0],
        planes[1] // planes[0],
        _mid_planes(shapes, stages, bottleneck),
    )


def _mid_planes(shapes: Shapes, stages: Sequence[str], bottleneck: bool) -> str | None:
    path = "layer4.0.conv2.0.0.kernel"
    if stages[3] != "2+1d" or bottleneck or path not in shapes:
        return None
    planes, inner = shapes[path][3], shapes[path][4]
    return "conv" if inner == mid_planes(planes, planes, (3, 3, 3)) else "block"


def fits(spec: ResNetSpec, found: Described, any_size: bool) -> bool:
    """Whether tensors of that description are of that network.

    Args:
      any_size: also when depth or width are not the published network's (small networks of tests).
    """
    length, factorised = found.stem
    stem = {
        "2d": length == 1 and not factorised,
        "3d": length == spec.stem_frames and not factorised,
        "2+1d": length == spec.stem_frames and factorised,
        # A stem of 3 frames is taken for MC2's unless R2D is asked for by name.
        "frames": length != 1 and not factorised and (any_size or length > 3),
    }[spec.stem]
    return (
        stem
        and spec.stages == found.stages
        and spec.bottleneck == found.bottleneck
        and spec.last_width == found.last_width
        and (found.mid_planes is None or spec.mid_planes == found.mid_planes)
        and (any_size or (spec.layers == found.layers and found.width == 64))
    )


def recognise(shapes: Shapes, candidates: Sequence[str], origin: str) -> str:
    """The one network among the candidates that has these shapes.

    Raises:
      UserError: none or several; the message says what to do.
    """
    if candidates == ("i3d",):
        return "i3d"
    found = describe(shapes)
    matching = [name for name in candidates if fits(models.SPECS[name], found, any_size=False)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise UserError(f"{origin}: ambiguous, could be {' or '.join(matching)}: name it with --arch")
    length, factorised = found.stem
    raise UserError(
        f"{origin}: no known network: stem over {length} frames{' (factorised)' if factorised else ''}, stages "
        f"{', '.join(found.stages)}, blocks {found.layers}{' (bottleneck)' if found.bottleneck else ''}, width "
        f"{found.width}; --arch NAME takes it for a network of another depth or width"
    )


def options(arch: str, shapes: Shapes) -> dict[str, object]:
    """The arguments of `models.create` that these shapes tell: classes, channels, and what is not the usual.

    Keys `num_classes` (0 without a head) and `in_channels` always, `frames` for R2D, `width` and `layers`
    where they differ from the published network's.
    """
    arch = models.canonical(arch)
    stem = shapes.get("Conv3d_1a_7x7.conv3d.kernel" if arch == "i3d" else "stem.0.kernel")
    if stem is None or len(stem) != 5:
        raise UserError("incomplete: the first convolution is missing")
    head = shapes.get("fc.bias") or shapes.get("fc.kernel") or (0,)
    result: dict[str, object] = {"num_classes": head[-1], "in_channels": stem[3]}
    if arch == "i3d":
        return {**result, **({} if stem[4] == 64 else {"width": stem[4]})}
    found, spec = describe(shapes), models.SPECS[arch]
    if spec.stem == "frames":
        result["frames"] = found.stem[0]
    if found.width != 64:
        result["width"] = found.width
    if found.layers != spec.layers:
        result["layers"] = found.layers
    return result


def abstract(arch: str, arguments: Mapping[str, object]) -> nnx.Module:
    """The network without values: every leaf is a `jax.ShapeDtypeStruct`. No time, no memory."""
    return nnx.eval_shape(lambda: models.create(arch, rngs=nnx.Rngs(0), **arguments))


def leaves(model: nnx.Module) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of an abstract network's parameters and statistics, by path as `models.flatten`."""
    state = nnx.to_flat_state(nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat)))
    return {".".join(map(str, path)): variable.get_value() for path, variable in state}


def check(arch: str, model: nnx.Module, values: Mapping[str, np.ndarray]) -> None:
    """Raises a `UserError` unless `values` are all of an abstract network's leaves, in their shapes."""
    wanted = leaves(model)
    wrong = [f"{path} is missing" for path in wanted if path not in values]
    wrong += [f"{path} has no place in the network" for path in values if path not in wanted]
    wrong += [
        f"{path} has shape {list(values[path].shape)}, not {list(leaf.shape)}"
        for path, leaf in wanted.items()
        if path in values and values[path].shape != leaf.shape
    ]
    if wrong:
        raise UserError(f"checkpoint of {arch}: {'; '.join(wrong[:6])}")


def fill(model: nnx.Module, values: Mapping[str, object]) -> nnx.Module:
    """An abstract network with these values, in evaluation mode."""
    import jax.numpy as jnp

    graph, state = nnx.split(model)
    filled = [
        (path, variable.replace(jnp.asarray(values[".".join(map(str, path))])))
        for path, variable in nnx.to_flat_state(state)
    ]
    model = nnx.merge(graph, nnx.from_flat_state(filled))
    model.eval()
    return model
