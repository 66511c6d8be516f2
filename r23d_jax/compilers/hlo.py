"""Reads XLA's text of a compiled program into instructions.

Only what the figures need is read: names, operations, shapes with their layouts, operands and attributes. The text is
that of `jax.stages.Compiled.as_text()`, in which the instructions of a computation stand in the order of execution.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping

_BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16}
_SHAPE = re.compile(r"([a-z][a-z0-9]*)\[([0-9,<=]*)\](?:\{([^{}]*)\})?")
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.<>-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.<>-]+) = ")
_OPERAND = re.compile(r"%([\w.<>-]+)")
_CALLED = re.compile(
    r"\b(calls|to_apply|body|condition|called_computations|branch_computations|true_computation|false_computation)="
    r"(\{[^{}]*\}|%?[\w.<>-]+)"
)
_COUNT = re.compile(r'"known_trip_count":\{"n":"?(\d+)')


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array's shape.

    Attributes:
      dtype: XLA's name of it ("bf16").
      dims: sizes of the logical axes.
      order: logical axes from the slowest to the fastest in memory.
      space: number of the memory that a TPU keeps it in: 0 is HBM, 1 the vector memory.
      tile: sizes to whose multiples a TPU pads the fastest axes, (8, 128) say; empty without padding.
    """

    dtype: str
    dims: tuple[int, ...]
    order: tuple[int, ...]
    space: int = 0
    tile: tuple[int, ...] = ()

    @property
    def bytes(self) -> int:
        """Size in bytes, with the padding of a TPU's tiles."""
        digits = re.search(r"\d+", self.dtype)
        bits = _BITS.get(self.dtype) or (int(digits[0]) if digits else 0)
        sizes = [self.dims[axis] for axis in self.order]
        for place, unit in enumerate(reversed(self.tile[-len(sizes) :] if sizes else ()), 1):
            sizes[-place] = -(-sizes[-place] // unit) * unit
        return math.prod(sizes) * bits // 8

    def physical(self) -> list[int]:
        """Returns the logical axes as they lie in memory, without those of size 1."""
        return [axis for axis in self.order if self.dims[axis] != 1]


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
      name, operation: such as "fusion.3" and "fusion".
      shapes: of the results; several for a tuple, nested tuples made flat.
      operands: names of instructions of the same computation.
      text: the attributes, as they are written.
      root: whether its results are those of its computation.
    """

    name: str
    operation: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    text: str
    root: bool

    @property
    def bytes(self) -> int:
        """Size of all results in bytes."""
        return sum(shape.bytes for shape in self.shapes)

    @functools.cached_property
    def op_name(self) -> str:
        """Where the program asked for it, as JAX names it ("jit(step)/jvp(layer1)/0/conv1/..."); empty if unknown."""
        found = re.search(r'op_name="((?:[^"\\]|\\.)*)"', self.text)
        return found[1].replace("\\'", "'") if found else ""

    def attribute(self, name: str) -> str:
        """Returns the value of an attribute without braces, for example "2,3" of `dimensions={2,3}`; "" if missing."""
        found = re.search(rf"\b{name}=(?:\{{([^{{}}]*)\}}|\"([^\"]*)\"|([^\s,]+))", self.text)
        return next((group for group in found.groups() if group is not None), "") if found else ""

    @functools.cached_property
    def called(self) -> dict[str, tuple[str, ...]]:
        """Names of the computations it calls, by the attribute that says so ("calls", "body", "to_apply", ...)."""
        return {kind: tuple(re.findall(r"[\w.<>-]+", names)) for kind, names in _CALLED.findall(self.text)}


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program.

    Attributes:
      computations: instructions by name, for each computation by its name.
      entry: name of the one that runs.
    """

    computations: Mapping[str, Mapping[str, Instruction]]
    entry: str

    def body(self, name: str) -> tuple[Instruction, ...]:
        """Returns a computation's instructions in order; none if there is no such computation."""
        return tuple(self.computations.get(name, {}).values())

    def operand_shapes(self, computation: str, instruction: Instruction) -> list[Shape]:
        """Returns the shapes of an instruction's operands, tuples made flat."""
        within = self.computations[computation]
        return [shape for name in instruction.operands if name in within for shape in within[name].shapes]

    def executed(self) -> Iterator[tuple[str, Instruction, int]]:
        """Yields computation, instruction and how often it runs, for all but those inside fusions and reductions.

        Loops count as often as `trips` says, every branch of a conditional once.
        """
        stack = [(self.entry, 1)]
        while stack:
            name, times = stack.pop()
            for instruction in self.body(name):
                yield name, instruction, times
                if instruction.operation in ("while", "call", "conditional", "async-start"):
                    inner = times * (self.trips(instruction) or 1)
                    stack += [(called, inner) for names in instruction.called.values() for called in names]

    def inside(self, instruction: Instruction) -> Iterator[tuple[str, Instruction]]:
        """Yields computation and instruction of all that a fusion computes, those of fusions within it too."""
        for name in instruction.called.get("calls", ()):
            for inner in self.body(name):
                yield name, inner
                if inner.operation == "fusion":
                    yield from self.inside(inner)

    def trips(self, instruction: Instruction) -> int | None:
        """Returns how often a `while` runs its body, 1 for all else; None if neither XLA nor the condition says it.

        A condition says it if it compares the loop's counter, which begins at 0 as in `jax.lax.scan`, with a constant.
        """
        if instruction.operation != "while":
            return 1
        known = _COUNT.search(instruction.text)
        if known:
            return int(known[1])
        conditions = [inner for name in instruction.called.get("condition", ()) for inner in self._flat(name)]
        compares = [one for one in conditions if one.operation == "compare"]
        limits = [
            int(found[1])
            for one in conditions
            if one.operation == "constant" and (found := re.match(r"\((\d+)\)", one.text))
        ]
        counted = len(compares) == 1 and "direction=LT" in compares[0].text and len(limits) == 1
        return limits[0] if counted else None

    def _flat(self, name: str) -> Iterator[Instruction]:
        for instruction in self.body(name):
            yield instruction
            yield from (inner for _, inner in self.inside(instruction))


def parse(text: str) -> Program:
    """Reads a program's text; lines that are none of an instruction or computation are left out."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        head = None if line[:1].isspace() else _COMPUTATION.match(line)
        if head:
            current = computations.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif current is not None and (found := _INSTRUCTION.match(line)):
            instruction = _instruction(found, line)
            current[instruction.name] = instruction
    return Program(computations, entry)


def _instruction(found: re.Match, line: str) -> Instruction:
    shape_end = _balanced(line, found.end()) if line[found.end()] == "(" else line.index(" ", found.end())
    opening = line.index("(", shape_end)
    closing = _balanced(line, opening)
    operation = line[shape_end:opening].strip()
    # What stands between a constant's parentheses is its value.
    inside = line[opening:closing]
    text = inside + line[closing:] if operation == "constant" else line[closing:]
    shapes = tuple(map(_shape, _SHAPE.findall(line[found.end() : shape_end])))
    return Instruction(found[2], operation, shapes, tuple(_OPERAND.findall(inside)), text, bool(found[1]))


def _balanced(line: str, start: int) -> int:
    """Returns the place after the parenthesis that closes the one at `start`."""
    depth = 0
    for found in re.finditer(r"[()]", line[start:]):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return start + found.end()
    return len(line)


def _shape(found: tuple[str, str, str]) -> Shape:
    dtype, dims, layout = found
    sizes = tuple(int(size.lstrip("<=")) for size in dims.split(",") if size)
    minor, _, rest = layout.partition(":")
    order = tuple(int(axis) for axis in reversed(minor.split(",")) if axis.strip().isdigit())
    space, tile = re.search(r"S\((\d+)\)", rest), re.search(r"T\(([\d,]+)\)", rest)
    if len(order) != len(sizes):
        order = tuple(range(len(sizes)))
    tiles = tuple(map(int, tile[1].split(","))) if tile else ()
    return Shape(dtype, sizes, order, int(space[1]) if space else 0, tiles)
