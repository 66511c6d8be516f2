"""Figures of one compiled program, read from its text."""

import collections
import dataclasses
from typing import Any

from r23d_jax.compilers.hlo import Instruction, Program
from r23d_jax.compilers.products import products

_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_COMPUTES = ("fusion", "convolution", "dot", "custom-call", "while", "call")
_NO_WORK = ("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "partition-id", "replica-id")
_MOVES = (*_NO_WORK, "custom-call", "copy", "slice", "broadcast", "reshape", "transpose")
_UNKNOWN = 2**63 - 1  # what a TPU's compiler writes where it has not estimated


def figures(program: Program, platform: str) -> dict[str, Any]:
    """Returns the figures of one run of a program on one device.

    Args:
      program: from `hlo.parse`.
      platform: "tpu" or "gpu".

    Returns:
      `cycles`: what a TPU's compiler estimates, summed over the instructions executed; None without estimates. It does
        not estimate collectives: their time is not in it.
      `flops`: operations of convolutions and matrix products at two a multiply-add, without those with zeros of padding
        and dilation. Pairs of frames and padded channels have more of them than the network itself.
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

    A slice reads as much as it writes. An asynchronous start has its operands among its results. Of a fusion with a
    piece of a collective, what the piece hands on to the next does not count.
    """
    operation = instruction.operation
    for called in instruction.called.get("calls", ()) if operation == "fusion" else ():
        if any(map(_collective, program.body(called))):
            return _traffic_around_piece(program.body(called))
    if operation in _NO_WORK or operation.endswith("-done") or operation in ("while", "call", "conditional"):
        return 0
    if operation in ("slice", "dynamic-slice", "gather"):
        return 2 * instruction.bytes
    if operation in ("slice-start", "copy-start"):
        return 2 * min(shape.bytes for shape in instruction.shapes[:2])
    if operation.endswith(("-start", "-update")):
        return instruction.bytes
    return instruction.bytes + sum(shape.bytes for shape in program.operand_shapes(computation, instruction))


def _traffic_around_piece(body: tuple[Instruction, ...]) -> int:
    """Returns the bytes that a fusion with a piece of a collective reads and writes for what else it computes.

    A fusion that only starts or ends the collective reads or writes its values.
    """
    inside, root = {inner.name: inner for inner in body}, body[-1]
    (collective, *_) = filter(_collective, body)
    if root.operation != "tuple":
        return collective.bytes
    handed_on = {*root.operands, *collective.operands}
    read = sum(inner.bytes for inner in body if inner.operation == "parameter" and inner.name not in handed_on)
    results = [inside[name] for name in root.operands if name in inside]
    return read + sum(one.bytes for one in results if one.operation != "parameter" and not _collective(one))


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
    """Returns `{"count", "bytes", "asynchronous", "overlapped", "overlapped_bytes"}` of operations between devices.

    Bytes are those of the results on one device. Asynchronous ones consist of several instructions: a start and its
    end, or, on a TPU, a call of its SparseCores, or fusions that each have a piece of one channel's operation in them.
    Overlapped are those with a fusion, convolution, matrix product or library call after the first and before the last,
    or in a piece itself.
    """
    found: dict[str, _Collective] = {}
    calls: dict[str, str] = {}
    for computation, instruction, times in program.executed():
        parts = [part for _, part in [(computation, instruction), *program.inside(instruction)]]
        here = {_collective(part): part for part in parts if _collective(part)}
        if call := _call(program, instruction, calls):
            calls[instruction.name] = call
            here = {call: instruction} if instruction.operands else {}  # it starts when it gets what to add up
        computes = instruction.operation in _COMPUTES
        if here:
            computes = any(part.operation not in _MOVES and not _collective(part) for part in parts[1:])
        for name, part in here.items():
            one = found.setdefault(name, _Collective(times))
            one.bytes = part.bytes  # a start's are more than its end's
            one.pieces += 1
            one.overlapped |= one.computed_since or computes
        if computes:
            for one in found.values():
                one.computed_since = True
    every = found.values()
    overlapped = [one for one in every if one.pieces > 1 and one.overlapped]
    return {
        "count": sum(one.times for one in every),
        "bytes": sum(one.times * one.bytes for one in every),
        "asynchronous": sum(one.times for one in every if one.pieces > 1),
        "overlapped": sum(one.times for one in overlapped),
        "overlapped_bytes": sum(one.times * one.bytes for one in overlapped),
    }


def _call(program: Program, instruction: Instruction, calls: dict[str, str]) -> str:
    """Returns the name of the collective's call that an instruction starts, feeds or awaits, "" for other instructions.

    Args:
      calls: the names by those of the instructions so far.
    """
    if instruction.operation == "call-start":
        called = [inner for names in instruction.called.values() for name in names for inner in program.body(name)]
        return instruction.name if any(map(_collective, called)) else ""
    awaits = instruction.operation in ("call-update", "call-done")
    return calls.get(instruction.operands[0], "") if awaits else ""


@dataclasses.dataclass
class _Collective:
    times: int
    bytes: int = 0
    pieces: int = 0
    computed_since: bool = False  # its first piece
    overlapped: bool = False


def _collective(instruction: Instruction) -> str:
    """Returns a name that the pieces of one operation between devices share; empty for other instructions."""
    operation = instruction.operation
    if operation.removesuffix("-start").removesuffix("-done") not in _COLLECTIVES:
        return ""
    if operation.endswith("-done"):
        return instruction.operands[0]
    return instruction.name if operation.endswith("-start") else instruction.attribute("channel_id") or instruction.name
