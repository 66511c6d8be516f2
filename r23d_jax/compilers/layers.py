"""The figures of a compiled training step by layer, forward and backward apart."""

import collections
import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence

from r23d_jax.compilers import figures
from r23d_jax.compilers.hlo import Instruction, Program
from r23d_jax.compilers.products import products

OTHER = "input, loss and optimizer"
UNNAMED = "not named by the compiler"
_WRAPPED = re.compile(r"^(\w+)\((.*)\)$")
_WEIGHT = re.compile(r"state\.params\['([^']+)'\]")
_TRANSFORMS = ("jit", "pjit", "jvp", "transpose", "vmap", "remat", "checkpoint", "custom_jvp", "custom_vjp")


@dataclasses.dataclass
class Layer:
    """What the instructions of one layer add up to, in one direction.

    Attributes:
      name: path of the module ("layer1/0/conv1/0"), `OTHER` or `UNNAMED`.
      direction: "forward" or "backward"; "" for `OTHER` and `UNNAMED`.
      cycles: estimated for a TPU, a clip.
      flops, bytes: as in `figures.figures`, a clip.
      layouts: of its convolutions.
      transposes: instructions that only write values in another order of axes.
    """

    name: str
    direction: str
    cycles: float = 0
    flops: float = 0
    bytes: float = 0
    layouts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    transposes: int = 0


def layers(program: Program, modules: Iterable[str], stages: Sequence[str], batch: int) -> list[Layer]:
    """Returns the layers by depth, each forward and then backward; those without work left out.

    A fusion counts where most of it comes from: at its convolution or matrix product if it has one, else where JAX
    says its result is from.

    Args:
      program: the compiled training step.
      modules: dotted paths of the network's modules with weights ("layer1.0.conv1.0").
      stages: the first parts of these, in order of depth.
      batch: clips a chip.
    """
    paths = _paths(modules)
    found: dict[tuple[str, str], Layer] = {}
    for computation, instruction, times in program.executed():
        cycles, size = figures.cycles(instruction), figures.traffic(program, computation, instruction)
        inner = list(products(program, computation, instruction))
        if not (cycles or size or inner):
            continue
        named = next((one.op_name for one, _ in inner if one.op_name), instruction.op_name)
        name, direction = place(named or _inside(program, instruction), paths)
        layer = found.setdefault((name, direction), Layer(name, direction))
        layer.cycles += cycles * times / batch
        layer.bytes += size * times / batch
        layer.flops += sum(product.flops for _, product in inner) * times / batch
        for _, product in inner:
            if product.kind == "convolution":
                layer.layouts[product.layout] += times
        layer.transposes += times * (figures.moves(program, computation, instruction)[0] == "transposes")
    depth = {name: index for index, name in enumerate((*stages, OTHER, UNNAMED))}

    def order(layer: Layer) -> tuple:
        stage, *rest = layer.name.split("/")
        parts = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in rest]
        return depth.get(stage, len(depth)), parts, layer.direction != "forward"

    return sorted(found.values(), key=order)


def stages(found: Iterable[Layer]) -> list[Layer]:
    """Returns the sums of the layers of each stage ("layer1"), in each direction, in the order of the layers."""
    sums: dict[tuple[str, str], Layer] = {}
    for layer in found:
        name = layer.name.split("/")[0]
        stage = sums.setdefault((name, layer.direction), Layer(name, layer.direction))
        for figure in ("cycles", "flops", "bytes", "transposes"):
            setattr(stage, figure, getattr(stage, figure) + getattr(layer, figure))
        stage.layouts += layer.layouts
    order = list(dict.fromkeys(name for name, _ in sums))
    return sorted(sums.values(), key=lambda stage: (order.index(stage.name), stage.direction != "forward"))


def place(op_name: str, paths: frozenset[str]) -> tuple[str, str]:
    """Returns the layer and the direction of an operation that JAX names so.

    Args:
      op_name: such as "jit(step)/transpose(jvp(layer1))/0/conv1/0/conv_general_dilated".
      paths: of all modules, with slashes.
    """
    weight = _WEIGHT.match(op_name)
    if weight:  # as it lies among the arguments, laid out anew for its layer
        return weight[1].rpartition(".")[0].replace(".", "/"), "forward"
    if "/" not in op_name:
        return (OTHER if op_name.startswith(("state.", "batch[")) else UNNAMED), ""
    parts = [part for piece in _split(op_name) for part in _unwrapped(piece)]
    best = ""
    for start in range(len(parts)):
        for end in range(start + 1, len(parts) + 1):
            path = "/".join(parts[start:end])
            if path in paths and len(path) > len(best):
                best = path
    if not best:
        return OTHER, ""
    again = "rematted_computation" in op_name
    return best, "backward" if "transpose(" in op_name or again else "forward"


def _paths(modules: Iterable[str]) -> frozenset[str]:
    """Returns the modules' paths and those of all modules around them, with slashes."""
    parts = [module.split(".") for module in modules]
    return frozenset("/".join(part[:length]) for part in parts for length in range(1, len(part) + 1))


def _split(op_name: str) -> Iterator[str]:
    """Yields the pieces between the slashes that no parenthesis encloses."""
    depth, begun = 0, 0
    for index, letter in enumerate(op_name):
        depth += (letter == "(") - (letter == ")")
        if letter == "/" and not depth:
            yield op_name[begun:index]
            begun = index + 1
    yield op_name[begun:]


def _unwrapped(piece: str) -> list[str]:
    """Returns the scopes within transformations: "transpose(jvp(layer1))" is layer1; names of functions are none."""
    wrapped = _WRAPPED.match(piece)
    if not wrapped or wrapped[1] not in _TRANSFORMS:
        return [piece]
    if wrapped[1] in ("jit", "pjit"):
        return []
    return [part for inner in _split(wrapped[2]) for part in _unwrapped(inner)]


def _inside(program: Program, instruction: Instruction) -> str:
    """Returns the most frequent name of what a fusion computes; "" if nothing in it has one."""
    names = collections.Counter(inner.op_name for _, inner in program.inside(instruction) if "/" in inner.op_name)
    return names.most_common(1)[0][0] if names else ""
