"""The results as Markdown, for docs/speed.md."""

import contextlib
from pathlib import Path
from typing import Any

from gpu_parts.combinations import Combination
from gpu_parts.parts import agrees, winners
from r23d_jax.errors import UserError, one_line
from r23d_jax.runtime.files import read_json

_UNMEASURED = "unmeasured"
_LISTS = ("calls", "step", "torch", "loop", "numerics", "failures", "left")


def read_results(flag: str, path: Path) -> dict[str, Any]:
    """Returns the content of a `gpu.json`.

    Args:
      flag: that names the file, for the error.
      path: of the file.

    Raises:
      UserError: there is none, or no table can be made of what it has.
    """
    why = "JSON of something else"
    try:
        content = read_json(path)
        kinds = {"machine": dict, **dict.fromkeys(_LISTS, list)}
        if isinstance(content, dict) and all(isinstance(content.get(name), kind) for name, kind in kinds.items()):
            with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
                markdown(content)
                return content
    except (OSError, ValueError) as error:
        why = one_line(error)
    raise UserError(f"{flag} {path}: no results of this benchmark ({why}); name a gpu.json that it wrote")


def markdown(content: dict[str, Any]) -> str:
    """Returns the content of `gpu.json` as a section of a Markdown file; what is not there is "unmeasured"."""
    parts = [_machine(content["machine"]), _networks(content), _combinations(content), _loop(content["loop"])]
    parts += [_numerics(content), _missing(content)]
    return "\n\n".join(part for part in parts if part)


def _machine(machine: dict[str, Any]) -> str:
    if not machine:
        return f"Device: {_UNMEASURED}."
    names = {"jax": "JAX", "jaxlib": "jaxlib", "cudnn": "cuDNN", "torch": "PyTorch", "torchvision": "torchvision"}
    versions = ", ".join(f"{names[key]} {machine[key]}" for key in names if machine.get(key, "none") != "none")
    ceiling = machine.get("matmul_tflops")
    rate = f"{ceiling:.0f} TFLOP/s" if ceiling else _UNMEASURED
    device, driver, cores, python = (machine.get(key, "?") for key in ("device", "driver", "cores", "python"))
    return (
        f"{device}, driver {driver}, {cores} cores, Python {python}, {versions}. A matrix product in bfloat16: {rate}."
    )


def _networks(content: dict[str, Any]) -> str:
    """The fastest way of every network, beside PyTorch's."""
    best, ceiling = winners(content), content["machine"].get("matmul_tflops")
    theirs = {(record["arch"], record["mode"]): record["clips_per_s"] for record in content["torch"]}
    archs = dict.fromkeys([*best, *(arch for arch, _ in theirs)]) or {"r2plus1d_18": None, "r3d_18": None}
    head = ("training step, clips/s", "ours", "GiB", "MFU", "torchvision, eager", "compiled", "ratio to its faster")
    rows = []
    for arch in archs:
        record, rates = best.get(arch), [theirs.get((arch, mode)) for mode in ("eager", "compiled")]
        known = [rate for rate in rates if rate]
        rows.append(
            (
                arch,
                record and f"{record['clips_per_s']:.1f}",
                record and record["bytes"] and f"{record['bytes'] / 2**30:.1f}",
                record and ceiling and f"{record['tflops'] / ceiling:.1%}",
                *(rate and f"{rate:.1f}" for rate in rates),
                record and known and f"{record['clips_per_s'] / max(known):.2f}",
            )
        )
    return _table(head, rows)


def _combinations(content: dict[str, Any]) -> str:
    """Every combination that was measured, the fastest of a network first."""
    head = (
        "network",
        "convolutions",
        "compiler options",
        "mid-planes",
        "BatchNorm",
        "clips/s",
        "GiB",
        "compiled in, s",
    )
    rows = []
    for record in sorted(content["step"], key=lambda record: (record["arch"], -record["clips_per_s"])):
        way, marks = Combination.of(record), ""
        if not agrees(record, content["step"]):
            marks += f" (first step unlike the others': loss {record['loss']:.3g}, gradient {record['grad_norm']:.3g})"
        if record["compiling_beside"]:
            marks += " (compiling beside)"
        planes = f"multiples of {way.multiple}" if way.multiple > 1 else "as they are"
        rate = f"{record['clips_per_s']:.1f} ({record['least']:.1f} to {record['largest']:.1f}){marks}"
        size = record["bytes"] and f"{record['bytes'] / 2**30:.1f}"
        rows.append((*way[:3], planes, way.statistics, rate, size, f"{record['compile_s']:.0f}"))
    return _table(head, rows) if rows else ""


def _loop(records: list[dict[str, Any]]) -> str:
    head = ("whole loop, fed from shards", "clips/s", "waiting for data", "hours for 300 epochs of UCF101")
    rows = [
        (
            f"{record['arch']}, {record['cores']} cores decoding in {record['decoding']}",
            f"{record['clips_per_s']:.1f}",
            f"{record['data_wait']:.0%}",
            f"{record['hours_for_300_epochs_of_ucf101']:.2f}",
        )
        for record in records
    ]
    return _table(head, rows or [("r2plus1d_18", None, None, None)])


def _numerics(content: dict[str, Any]) -> str:
    lines, curves = [], {record["dtype"]: record for record in content["numerics"] if "dtype" in record}
    if curves:
        tenths = max(len(record["loss"]) for record in curves.values())
        head = ("loss in each tenth of a run", *map(str, range(1, tenths + 1)), "accuracy in the last")
        rows = [
            (dtype, *(f"{loss:.3f}" for loss in record["loss"]), f"{record['accuracy'][-1]:.1%}")
            for dtype, record in curves.items()
        ]
        lines.append(_table(head, rows))
    for record in content["numerics"]:
        plain = [other for other in content["step"] if Combination.of(other) == _plain(record)]
        if plain:
            cost = 1 - record["clips_per_s"] / plain[0]["clips_per_s"]
            lines.append(f"Deterministic operations cost {cost:.1%} of {record['arch']}'s training rate.")
    return "\n\n".join(lines)


def _plain(record: dict[str, Any]) -> Combination | None:
    return Combination.of(record)._replace(deterministic=False) if "deterministic" in record else None


def _missing(content: dict[str, Any]) -> str:
    lines = [f"- failed: {failure['name']}: {failure['why']}" for failure in content["failures"]]
    return "\n".join(lines + [f"- no time left: {name}" for name in content["left"]])


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join(lines + [f"| {' | '.join(str(cell or _UNMEASURED) for cell in row)} |" for row in rows])
