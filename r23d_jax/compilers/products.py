"""Convolutions and matrix products of a compiled program: which there are, their layouts and operations."""

import dataclasses
import functools
import re
from collections.abc import Iterator

from r23d_jax.compilers.hlo import Instruction, Program, Shape

_CUDNN = re.compile(r"__cudnn\$conv(Forward|BackwardInput|BackwardFilter|\w+)")
_AXES = {1: "W", 2: "HW", 3: "DHW"}  # names of the spatial axes, the last one always W


@dataclasses.dataclass(frozen=True)
class Product:
    """One convolution or matrix product.

    Attributes:
      kind: "convolution" or "matmul".
      flops: operations at two a multiply-add, without those with zeros of padding and dilation.
      layout: how a convolution's first operand lies in memory, from the slowest axis to the fastest ("NDHWC"); S for
        each spatial axis where a compiler made more than three of them; "" for a matmul.
      library: who computes it: "cudnn", "cublas" or "xla" (the compiler's own code).
    """

    kind: str
    flops: int
    layout: str
    library: str


def products(program: Program, computation: str, instruction: Instruction) -> Iterator[tuple[Instruction, Product]]:
    """Yields every convolution and matrix product of an executed instruction, those inside a fusion too."""
    if instruction.operation == "fusion":
        library = "cudnn" if '"__cudnn$fusion"' in instruction.text else "xla"
        for within, inner in program.inside(instruction):
            found = _product(inner, program.operand_shapes(within, inner), library)
            if found:
                yield inner, found
    else:
        found = _product(instruction, program.operand_shapes(computation, instruction), "xla")
        if found:
            yield instruction, found


def _product(instruction: Instruction, operands: list[Shape], library: str) -> Product | None:
    if instruction.operation == "convolution":
        return _convolution(instruction, operands[0], operands[1], instruction.shapes[0], operands[0], library)
    if instruction.operation == "dot":
        contracted = _numbers(instruction.attribute("lhs_contracting_dims"))
        return _matmul(instruction.shapes[0], operands[0], contracted, library)
    if instruction.operation != "custom-call":
        return None
    target = instruction.attribute("custom_call_target")
    if target.startswith("__cublas"):
        found = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', instruction.text)
        return _matmul(instruction.shapes[0], operands[0], _numbers(found[1] if found else ""), "cublas")
    named = _CUDNN.match(target)
    if not named or not instruction.attribute("dim_labels"):
        return None
    # The labels and the window are those of the forward convolution in all three.
    result, (first, second) = instruction.shapes[0], operands[:2]
    forward = {"BackwardInput": (result, second, first), "BackwardFilter": (first, result, second)}
    return _convolution(instruction, *forward.get(named[1], (first, second, result)), first, "cudnn")


def _matmul(result: Shape, left: Shape, contracted: list[int], library: str) -> Product:
    flops = 2
    for size in (*result.dims, *(left.dims[axis] for axis in contracted)):
        flops *= size
    return Product("matmul", flops, "", library)


def _convolution(
    instruction: Instruction, source: Shape, kernel: Shape, result: Shape, first: Shape, library: str
) -> Product:
    """Returns the product of a convolution of these shapes as in the forward direction; `first` is its first operand.

    A dot product that the compiler wrote as a convolution is a matmul.
    """
    source_labels, kernel_labels, result_labels = re.split("_|->", instruction.attribute("dim_labels"))
    groups = int(instruction.attribute("feature_group_count") or 1)
    batches = int(instruction.attribute("batch_group_count") or 1)
    flops = 2 * kernel.dims[kernel_labels.index("o")]
    flops *= source.dims[source_labels.index("f")] // groups * (source.dims[source_labels.index("b")] // batches)
    window = _window(instruction.attribute("window"), len(source_labels) - 2)
    for axis, (stride, low, base, dilation) in enumerate(window):
        place = str(axis)
        sizes = [
            shape.dims[labels.index(place)]
            for shape, labels in ((source, source_labels), (kernel, kernel_labels), (result, result_labels))
        ]
        flops *= _meetings(*sizes, stride, low, base, dilation)
    if instruction.op_name.rpartition("/")[2].startswith("dot_general"):
        return Product("matmul", flops, "", library)
    labels = result_labels if first is not source and first is not kernel else source_labels
    return Product("convolution", flops, _layout(first, labels), library)


def _window(text: str, axes: int) -> list[tuple[int, int, int, int]]:
    """Returns stride, padding before, dilation of the input and dilation of the kernel of each axis."""
    parts = dict(re.findall(r"(\w+)=([\w.x-]+)", text))

    def values(name: str, default: str) -> list[str]:
        return parts[name].split("x") if name in parts else [default] * axes

    pads = [int(pad.split("_")[0]) for pad in values("pad", "0_0")]
    strides, bases, dilations = (
        [int(value) for value in values(name, "1")] for name in ("stride", "lhs_dilate", "rhs_dilate")
    )
    return list(zip(strides, pads, bases, dilations, strict=True))


@functools.cache
def _meetings(source: int, kernel: int, result: int, stride: int, low: int, base: int, dilation: int) -> int:
    """Returns how many pairs of output and kernel position of one axis meet a value of the input."""
    reach = (source - 1) * base + 1
    places = (out * stride + tap * dilation - low for out in range(result) for tap in range(kernel))
    return sum(0 <= place < reach and place % base == 0 for place in places)


def _layout(shape: Shape, labels: str) -> str:
    spatial = _AXES.get(len(labels) - 2, "")
    names = {"b": "N", "f": "C"} | {str(place): name for place, name in enumerate(spatial)}
    return "".join(names.get(labels[axis], "S") for axis in shape.order)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]
