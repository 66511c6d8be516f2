"""Parameters, multiply-adds and output shapes of a network, from tracing it without computing anything."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import Jaxpr, JaxprEqn

from r23d_jax import models
from r23d_jax.models.ops import hardware


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage: the shape of its output for one clip, its parameters and multiply-adds."""

    name: str
    shape: tuple[int, ...]
    parameters: int
    macs: int


@dataclasses.dataclass(frozen=True)
class Summary:
    """A whole network.

    Attributes:
      stages: in order of depth, the classifier last.
      parameters: number of trainable values.
      macs: multiply-adds of convolutions and matmuls in the forward pass of one clip.
      features: size of the vector that the classifier sees.
    """

    name: str
    parameters: int
    macs: int
    features: int
    stages: tuple[Stage, ...]


def summarize(
    name: str,
    *,
    num_classes: int = 400,
    frames: int = 16,
    size: int = 112,
    in_channels: int = 3,
    width: int = 64,
    head: Mapping[str, Any] | None = None,
) -> Summary:
    """Summarises a network for one `frames x size x size` clip; arguments as in `models.create`."""
    options = {"frames": frames, "in_channels": in_channels, "width": width, "head": head}
    model = nnx.eval_shape(lambda: models.create(name, num_classes, rngs=nnx.Rngs(0), **options))
    model.eval()
    graphdef, state = nnx.split(model)
    video = jax.ShapeDtypeStruct((1, frames, size, size, in_channels), jnp.float32)

    shapes = {}  # filled during tracing, because a returned dict would be sorted

    def features(state, video):
        outputs = nnx.merge(graphdef, state).features(video)
        shapes.update((stage, output.shape[1:]) for stage, output in outputs.items())

    def forward(state, video):
        return nnx.merge(graphdef, state)(video)

    # The native formulation has one operation for every convolution.
    with hardware.use(hardware.Policy()):
        jax.eval_shape(features, state, video)
        traced = jax.make_jaxpr(forward)(state, video)  # apart, without the maps that a head makes for features only
    macs = Counter()
    for scope, count in _macs(traced.jaxpr):
        macs[scope] += count
    parameters = Counter()
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        top = str(path[0])
        parameters["pool" if top == "head" else top] += math.prod(variable.shape)  # a head is what makes `pool`

    rest = [part for part in parameters if part not in shapes]  # the classifier
    stages = [
        Stage(stage, shapes.get(stage, (num_classes,)), parameters[stage], macs[stage]) for stage in [*shapes, *rest]
    ]
    return Summary(name, parameters.total(), macs.total(), shapes["pool"][-1], tuple(stages))


@dataclasses.dataclass(frozen=True)
class Cost:
    """Cost of the forward pass of one clip.

    Attributes:
      parameters: number of trainable values.
      macs: half of the floating-point operations in the compiler's analysis of the whole program.
      nominal_macs: multiply-adds of convolutions and matmuls by their shapes, as in papers.
    """

    parameters: int
    macs: float
    nominal_macs: int


def cost(create: Callable[[], nnx.Module], clip: tuple[int, int, int, int]) -> Cost:
    """Returns the cost of one clip of shape `[T, H, W, C]` for the network that `create` returns.

    The compiler's count excludes products with zeros of the padding, and includes BatchNorm, ReLU, shortcuts and
    pooling. It is usually the lower one.
    """
    with hardware.use(hardware.Policy()):  # as in `summarize`
        model, traced = _traced(create, clip)
        flops = traced.lower().cost_analysis()["flops"]
    parameters = sum(math.prod(value.shape) for value in jax.tree.leaves(nnx.state(model, nnx.Param)))
    return Cost(parameters, flops / 2, sum(count for _, count in _macs(traced.jaxpr.jaxpr)))


def nominal_macs(create: Callable[[], nnx.Module], clip: tuple[int, int, int, int]) -> int:
    """Returns that of `cost`, without the compiler."""
    with hardware.use(hardware.Policy()):
        _, traced = _traced(create, clip)
    return sum(count for _, count in _macs(traced.jaxpr.jaxpr))


def _traced(create: Callable[[], nnx.Module], clip: tuple[int, int, int, int]) -> tuple[nnx.Module, jax.stages.Traced]:
    model = nnx.eval_shape(create)
    model.eval()
    graphdef, state = nnx.split(model)

    def forward(state, video):
        return nnx.merge(graphdef, state)(video)

    return model, jax.jit(forward).trace(state, jax.ShapeDtypeStruct((1, *clip), jnp.float32))


def _macs(jaxpr: Jaxpr, scope: str = "") -> Iterator[tuple[str, int]]:
    """Yields the outermost named scope and the multiply-adds of every convolution and matmul."""
    for equation in jaxpr.eqns:
        here = scope or str(equation.source_info.name_stack).split("/")[0]
        yield here, _equation_macs(equation)
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda value: hasattr(value, "jaxpr")):
            if hasattr(inner, "jaxpr"):
                yield from _macs(inner.jaxpr, here)


def _equation_macs(equation: JaxprEqn) -> int:
    if equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        outputs = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
        return math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // outputs
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
    return 0
