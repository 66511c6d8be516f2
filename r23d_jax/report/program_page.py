"""The page on a program that was compiled for hardware: its summary and its layers."""

from typing import Any

from markupsafe import Markup

from r23d_jax.compilers.layers import Layer, stages
from r23d_jax.compilers.lines import layouts_text, lines
from r23d_jax.report.document import document, table
from r23d_jax.report.markup import element
from r23d_jax.runtime.text import bytes_text

_SAID = (
    "A fusion counts at the layer of its convolution, or else at the one it is mostly from. What is moved is what "
    "operands and results take, whichever memory they lie in."
)


def build(result: dict[str, Any], layers: list[Layer]) -> str:
    """Returns the page of what `compilers.measure.measure` returned."""
    title = f"{result['arch']} for {result['target']}"
    about, *said, memory = lines(result)
    return document(
        title,
        element("header", element("h1", title), element("p", about, class_="soft")),
        element(
            "main",
            element("section", element("p", memory, class_="note"), _facts(result)),
            [
                element("section", element("h2", "Stages of the training step"), _table(stages(layers))),
                element("section", element("h2", "Its layers"), element("p", _SAID), _table(layers)),
            ]
            if layers
            else None,
            element("section", element("h2", "All figures"), [element("p", line) for line in said]),
        ),
        element("footer", element("p", "Written by r23d_jax.", class_="soft")),
    )


def _facts(result: dict[str, Any]) -> Markup:
    facts = {"Chips": result["chips"], "Clips a chip": result["batch"]}
    if result["largest_batch"] is not None:
        bound = "" if result["memory_is"] == "whole" else "at most, "
        facts[f"Largest batch, {bound}{result['largest_batch_is']}"] = result["largest_batch"]
    if result["compile_s"] is not None:
        facts["GFLOP a clip"] = f"{result['flops_per_clip'] / 1e9:.1f}"
        facts["Transposes"] = result["transposes"]["count"]
        facts["Collectives"] = result["collectives"]["count"]
    if result["estimated_clips_per_s"]:
        facts["Estimated cycles a clip"] = f"{result['estimated_cycles_per_clip'] / 1e6:.2f} M"
        facts["Estimated clips/s a chip"] = f"{result['estimated_clips_per_s']:.1f}"
        facts["Estimated share of the peak rate"] = f"{result['estimated_peak_share']:.1%}"
    return element(
        "dl",
        [element("div", element("dt", name), element("dd", value)) for name, value in facts.items()],
        class_="facts",
    )


def _table(layers: list[Layer]) -> Markup:
    cycles = sum(layer.cycles for layer in layers)
    header = ["Layer", "Direction", *(["estimated M cycles a clip", "share of them"] if cycles else [])]
    header += ["GFLOP a clip", "moved a clip", "transposes", "layouts"]
    rows = [
        [
            layer.name,
            layer.direction,
            *([f"{layer.cycles / 1e6:.4f}", f"{layer.cycles / cycles:.1%}"] if cycles else []),
            f"{layer.flops / 1e9:.3f}" if layer.flops else "",
            bytes_text(layer.bytes),
            layer.transposes or "",
            layouts_text(layer.layouts),
        ]
        for layer in layers
    ]
    return element("div", table(header, rows, numeric=range(2, len(header) - 1)), class_="scroll")
