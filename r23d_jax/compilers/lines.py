"""The figures of `measure` as lines of text."""

from collections.abc import Mapping
from typing import Any

from r23d_jax.runtime.text import bytes_text


def lines(result: dict[str, Any]) -> list[str]:
    """Returns what a compiler said of a config's steps as lines of text, whether it fits last."""
    where = f"each of {result['chips']} chips" if result["chips"] > 1 else "one chip"
    made = [
        f"{result['arch']}, {result['batch']} clips of {result['clip']} on {where}, {result['dtype']}, "
        f"compiled for {result['target']} and not run"
    ]
    if result["compile_s"] is not None:
        made += step_lines("training step", result, 6e9 * result["gmacs_per_clip"])
    evaluation = result["evaluation"]
    if evaluation and evaluation["compile_s"] is not None:
        made += step_lines("evaluation step", evaluation, 2e9 * result["gmacs_per_clip"])
    options = {**result["options"], **result["environment"]}
    made.append(
        f"by {versions_text(result['versions'])}" + "".join(f", {name}={value}" for name, value in options.items())
    )
    made.append(largest_line(result))
    whole = result["memory_is"] == "whole"
    if evaluation:
        said = memory_line(evaluation, whole, _FEWER_EVALUATED)
        made.append(f"evaluation of {evaluation['batch']} clips a chip: {said}")
    return [*made, f"training: {memory_line(result, whole, _FEWER)}"]


def versions_text(versions: Mapping[str, str]) -> str:
    """Returns "jax 0.12.0, jaxlib 0.12.0"."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def layouts_text(counts: Mapping[str, int]) -> str:
    """Returns "50 NDHWC, 9 NHWC"."""
    return ", ".join(f"{count} {layout}" for layout, count in counts.items())


def step_lines(name: str, found: dict[str, Any], own: float) -> list[str]:
    """Returns the lines of one step's figures; `own` are the network's operations a clip."""
    per_clip = f"{name}: {found['flops_per_clip'] / 1e9:.1f} GFLOP and {bytes_text(found['bytes_per_clip'])} a clip"
    if found["estimated_cycles_per_clip"]:
        per_clip += f", {found['estimated_cycles_per_clip'] / 1e6:.3f} M estimated cycles a clip"
    made = [f"{per_clip}; compiled in {found['compile_s']:.0f} s"]
    by = f"by the network's own {own / 1e9:.1f} GFLOP a clip"
    if found["estimated_clips_per_s"]:
        made.append(
            f"  the compiler's ESTIMATE is {found['estimated_clips_per_s']:.1f} clips/s a chip, without time between "
            f"chips: {found['estimated_peak_share']:.1%} of the peak rate {by}"
        )
    else:
        rate = f"{found['clips_per_s_at_peak']:.0f} clips/s"
        made.append(f"  this compiler estimates no time; at the peak rate {rate} {by}")
    layouts = layouts_text(found["convolutions"]) or "none"
    odd = {"fallbacks": "neither cuDNN's nor fused", "gradients_as_forward": "gradients computed as forward ones"}
    counts = [f"; {found[kind]['count']} {what}" for kind, what in odd.items() if found[kind]["count"]]
    made.append(f"  convolutions: {layouts}{''.join(counts)}")
    moved = [f"{found[kind]['count']} {kind} ({bytes_text(found[kind]['bytes'])})" for kind in ("transposes", "copies")]
    between = found["collectives"]
    overlapped = f" ({bytes_text(between['overlapped_bytes'])})" if between["overlapped"] else ""
    meanwhile = f"{between['overlapped']} of them{overlapped} while something is computed"
    moved += [f"{between['count']} collectives ({bytes_text(between['bytes'])})", meanwhile]
    made.append(f"  {', '.join(moved)}")
    if found["loops_of_unknown_length"]:
        made.append(f"  {found['loops_of_unknown_length']} loops of unknown length count once in these figures")
    return made


_BUT = " but for cuDNN's workspaces"
_FEWER = "use fewer clips a chip, config.remat or config.accumulate"
_FEWER_EVALUATED = "set config.eval.batch_size (of all chips) to less"


def memory_line(result: dict[str, Any], whole: bool, advice: str) -> str:
    """Returns the line that says whether a step fits in a chip, and what to do if not.

    Args:
      result: of a step.
      whole: whether its memory is all that it needs, or a lower bound.
      advice: what to do if it does not fit.
    """
    usable = f"{bytes_text(result['usable_bytes'])} that a program can have"
    needed = result["program_bytes"]
    total = "more than it has" if needed is None else bytes_text(needed + result["waiting_bytes"])
    if needed is not None and not (whole and result["temp_bytes"] is not None):
        total = f"at least {total}"
    if not result["fits"]:
        return f"DOES NOT FIT: {total} a chip, of {usable}; {advice}"
    return (
        f"fits{'' if whole else _BUT}: {total} a chip, of {usable} ({bytes_text(result['argument_bytes'])} arguments, "
        f"{bytes_text(result['temp_bytes'])} temporaries, {bytes_text(result['waiting_bytes'])} waiting beside it)"
    )


def largest_line(result: dict[str, Any]) -> str:
    """Returns the line on the largest batch."""
    largest, how = result["largest_batch"], result["largest_batch_is"]
    if largest is None:
        return "largest batch: not known; --largest finds it by compiling"
    hint = "" if how == "proven" else " from this compilation's memory; --largest proves one by compiling"
    but = "" if result["memory_is"] == "whole" else _BUT
    return f"largest batch a chip: {largest} clips{but}, {how}{hint}"
