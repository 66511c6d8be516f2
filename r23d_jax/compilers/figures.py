"""Figures of one compiled program, read from its text."""

import collections
from typing import Any

from r23d_jax.compilers.hlo import Instruction, Program
from r23d_jax.compilers.products import products

_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_COMPUTES = ("fusion", "convolution", "dot", "custom-call", "while", "call")
_NO_WORK = ("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "partition-id", "replica-id")
_UNKNOWN = 2**63 - 1  # what a TPU's compiler writes where it has not estimated


def figures(program: Program, platform: str) -> dict[str, Any]:
    """Returns the figures of one run of a program on one device.

    Args:
      program: from `hlo.parse`.
      platform: "tpu" or "gpu".

    Returns:
      `cycles`: what a TPU's compiler estimates, summed over the instructions executed; None without estimates. It does
        not estimate collectives: their time is not in it.
      `flops`: operations of convolutions and matrix products at two a multiply-add, without those with zeros.
      `bytes`: sizes of operands and results of every instruction executed; a fusion counts as one instruction.
      `convolutions`: how many there are of each layout; `matmuls`: how many matrix products.
      `fallbacks`: `{"count", "names"}` of convolutions that are not computed well: on a GPU not by cuDNN, on a TPU not
        in a fusion with what comes before or after.
      `gradients_as_forward`: `{"count", "names"}` of gradients that cuDNN computes as a forward convolution. The
        compiler found no call for the gradient itself; with a stride it fills the operand with zeros, which `flops`
        counts.
      `transposes`, `copies`, `prefetches`, `collectives`: `{"count", "bytes"}`, see `moves` and `collectives`.
      `loops_of_unknown_length`: loops that count once in all of these.
    """
    total = collections.Counter()
    layouts, fallbacks, as_forward, matmuls = collections.Counter(), [], [], 0
    moved = {name: {"count": 0, "bytes": 0} for name in ("transposes", "copies", "prefetches")}
    for computation, instruction, times in program.executed():
        total["cycles"] += cycles(instruction) * times
        total["bytes"] += traffic(program, computation, instruction) * times
        total["loops"] += program.trips(instruction) is None
        for inner, product in products(program, computation, instruction):
            total["flops"] += product.flops * times
            if product.kind == "matmul":
                matmuls += times
                continue
            layouts[product.layout] += times
            name = inner.op_name or inner.name
            if product.library == "xla" and (platform == "gpu" or instruction.operation != "fusion"):
                fallbacks.append(name)
            if product.library == "cudnn" and "transpose(" in name and "convForward" in inner.text:
                as_forward.append(name)
        kind, size = moves(program, computation, instruction)
        if kind:
            moved[kind]["count"] += times
            moved[kind]["bytes"] += size * times
    return {
        "cycles": total["cycles"] or None,
        "flops": total["flops"],
        "bytes": total["bytes"],
        "collectives": collectives(program),
        **moved,
        "convolutions": dict(layouts.most_common()),
        "matmuls": matmuls,
        "fallbacks": {"count": len(fallbacks), "names": fallbacks},
        "gradients_as_forward": {"count": len(as_forward), "names": as_forward},
        "loops_of_unknown_length": total["loops"],
    }


def cycles(instruction: Instruction) -> int:
    """Returns the cycles that a TPU's compiler estimates for one instruction; 0 where it says none."""
    _, found, rest = instruction.text.partition('"estimated_cycles":"')
    value = int(rest[: rest.index('"')]) if found else 0
    return 0 if value == _UNKNOWN else value


def traffic(program: Program, computation: str, instruction: Instruction) -> int:
    """Returns the bytes of an instruction's operands and results; 0 where it only names or awaits a value.

    A slice reads as much as it writes. An asynchronous start has its operands among its results.
    """
    operation = instruction.operation
    if operation in _NO_WORK or operation.endswith("-done") or operation in ("while", "call", "conditional"):
        return 0
    if operation in ("slice", "dynamic-slice", "gather"):
        return 2 * instruction.bytes
    if operation in ("slice-start", "copy-start"):
        return 2 * min(shape.bytes for shape in instruction.shapes[:2])
    if operation.endswith("-start"):
        return instruction.bytes
    return instruction.bytes + sum(shape.bytes for shape in program.operand_shapes(computation, instruction))


def moves(program: Program, computation: str, instruction: Instruction) -> tuple[str, int]:
    """Returns what an executed instruction that only moves values is, and the bytes that it writes.

    "transposes" write an array whose axes lie in another order in memory: the operation `transpose`, a `copy` between
    different layouts, and fusions in which such a transpose is computed (with what else they compute; the bytes are
    those of their largest transpose). "copies" write the same array again. "prefetches" copy from one of a TPU's
    memories to another. An order of axes that differs in axes of size 1 alone is the same order.
    """
    if instruction.operation == "fusion":
        sizes = [
            inner.bytes
            for within, inner in program.inside(instruction)
            if inner.operation in ("transpose", "copy") and _reorders(program, within, inner)
        ]
        return ("transposes", max(sizes)) if sizes else ("", 0)
    if instruction.operation == "copy-start":
        result, source = instruction.shapes[:2]
        return "copies" if result.space == source.space else "prefetches", result.bytes
    if instruction.operation not in ("transpose", "copy"):
        return "", 0
    source = program.operand_shapes(computation, instruction)[:1]
    if _reorders(program, computation, instruction):
        return "transposes", instruction.bytes
    moved = source and source[0].space != instruction.shapes[0].space
    return "prefetches" if moved else "copies", instruction.bytes


def _reorders(program: Program, computation: str, instruction: Instruction) -> bool:
    """Returns whether a transpose or copy writes its operand's axes in another order in memory."""
    source = program.operand_shapes(computation, instruction)
    if len(source) != 1 or len(instruction.shapes) != 1:
        return False
    result = instruction.shapes[0]
    axes = range(len(result.dims))
    if instruction.operation == "transpose":
        axes = [int(axis) for axis in instruction.attribute("dimensions").split(",") if axis]
    return [axes[axis] for axis in result.physical()] != source[0].physical()


def collectives(program: Program) -> dict[str, int]:
    """Returns `{"count", "bytes", "asynchronous", "overlapped"}` of the operations between devices.

    Bytes are those of the results on one device. Asynchronous ones are a pair of a start and its end; overlapped are
    those with a fusion, convolution, matrix product or library call between the two.
    """
    found = {"count": 0, "bytes": 0, "asynchronous": 0, "overlapped": 0}
    open_starts: dict[str, bool] = {}  # whether something was computed since
    for computation, instruction, times in program.executed():
        parts = [(computation, instruction), *program.inside(instruction)]
        for _, inner in parts:
            if inner.operation in _COLLECTIVES:
                found["count"] += times
                found["bytes"] += inner.bytes * times
        operation = instruction.operation
        if operation.removesuffix("-start") in _COLLECTIVES and operation.endswith("-start"):
            open_starts[instruction.name] = False
        elif operation.removesuffix("-done") in _COLLECTIVES and operation.endswith("-done"):
            found["count"] += times
            found["bytes"] += instruction.bytes * times
            found["asynchronous"] += times
            found["overlapped"] += times * open_starts.pop(instruction.operands[0], False)
        elif operation in _COMPUTES:
            open_starts = dict.fromkeys(open_starts, True)
    return found
