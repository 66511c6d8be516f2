"""The study's plot: accuracy against cost, every run a dot, every network a mark with its spread."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from r23d_jax.runtime.files import write_bytes

_BESIDE = 6  # points from a network's mark to the dots of its runs
# Where a name may stand: points from its mark, nearest first.
_WAYS = ((1, 0), (-1, 0), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7), (0, 1), (0, -1))
_PLACES = np.array([np.multiply(distance, way) for distance in (8, 14, 22, 32, 44, 58, 74) for way in _WAYS])
_LINE_FROM = 14  # points from which on a line joins name and mark
_INK, _SOFT, _RULE = "#1d2024", "#5c636c", "#dfdfd8"
# Colour and mark of the networks of a kind, in the legend's order; kinds that are not here are drawn as "other".
_KINDS = {
    "2D": ("#6b7280", "s"),
    "3D early, 2D late": ("#b4481a", "v"),
    "2D early, 3D late": ("#1f5c99", "^"),
    "3D": ("#1d2024", "o"),
    "(2+1)D": ("#2f7d4f", "D"),
    "other": ("#7a4e9e", "P"),
}


def write(path: Path, study: Mapping[str, Any]) -> None:
    """Draws what `study_table.build` returns, as a PNG; networks without a result are left out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in study["rows"] if row["top1"]]
    figure = Figure(figsize=(9, 5.6), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    lines = [_draw(axes, row) for row in rows]
    _decorate(axes, study, rows)
    canvas.draw()
    _write_names(axes, canvas.get_renderer(), rows, lines)
    data = io.BytesIO()
    canvas.print_png(data)
    write_bytes(path, data.getvalue())


def _kind(row: Mapping[str, Any]) -> str:
    return row["kind"] if row["kind"] in _KINDS else "other"


def _draw(axes, row) -> list[Any]:
    """Draws the network's runs, mean and standard deviation; returns their lines."""
    from matplotlib.transforms import ScaledTranslation

    colour, mark = _KINDS[_kind(row)]
    x, score = row["gmacs"], row["top1"]
    values = [100 * value for value in score["values"]]
    lines = []
    if len(values) > 1:  # beside the mark, which would hide them
        beside = axes.transData + ScaledTranslation(_BESIDE / 72, 0, axes.figure.dpi_scale_trans)
        dots = {"color": colour, "markersize": 2.8, "alpha": 0.6, "markeredgewidth": 0, "zorder": 2}
        lines = axes.plot([x] * len(values), values, "o", transform=beside, **dots)
    mark, caps, _ = axes.errorbar(
        x,
        100 * score["mean"],
        100 * (score["deviation"] or 0) or None,
        fmt=mark,
        color=colour,
        markersize=6.5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        elinewidth=1,
        capsize=2.5,
        zorder=3,
    )
    return [*lines, mark, *caps]


def _decorate(axes, study, rows) -> None:
    """Sets limits, labels, title, legend and the line of chance."""
    from matplotlib.lines import Line2D

    chance, scores = 100 / study["classes"], [row["top1"] for row in rows]
    spread = [score["mean"] + sign * (score["deviation"] or 0) for score in scores for sign in (-1, 1)]
    shown = [chance, *(100 * value for value in [*spread, *(v for score in scores for v in score["values"])])]
    low, high = min(shown), max(shown)
    span = max(high - low, 5)
    axes.axhline(chance, color=_SOFT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    at = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "bottom"}
    axes.text(0.995, chance, "chance", color=_SOFT, fontsize=8, **at)
    axes.set_ylim(max(low - 0.08 * span, -2), min(high + 0.10 * span, 104))
    axes.set_xlim(0, 1.12 * max(row["gmacs"] for row in rows))
    axes.set_xlabel("GMAC a clip, forward, by the compiler's analysis", color=_INK)
    axes.set_ylabel("top-1, % of test videos", color=_INK)
    axes.grid(color=_RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_SOFT, length=0)
    axes.spines[:].set_visible(False)
    runs = max(len(row["top1"]["values"]) for row in rows)
    seeds = f"; mean and standard deviation of {runs} seeds, dots are runs" if runs > 1 else "; one seed"
    axes.set_title(f"{study['dataset']}, split {study['split']}{seeds}", loc="left", fontsize=10, color=_INK)
    kinds = {kind: style for kind, style in _KINDS.items() if kind in map(_kind, rows)}
    handles = [
        Line2D([], [], color=colour, marker=mark, linestyle="", label=kind) for kind, (colour, mark) in kinds.items()
    ]
    axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, -0.11),
        ncols=len(kinds),
        frameon=False,
        fontsize=8.5,
        labelcolor=_INK,
        handletextpad=0.2,
        columnspacing=1.4,
        borderaxespad=0,
    )


def _write_names(axes, renderer, rows, lines) -> None:
    """Writes each network's name where it covers least of all networks' `lines` and of the names before it."""
    from matplotlib.transforms import Bbox

    frame, pixel = axes.get_window_extent(renderer), axes.figure.dpi / 72
    taken = [Bbox.union([line.get_window_extent(renderer) for line in drawn]).padded(2) for drawn in lines]
    marks = [(row["gmacs"], 100 * row["top1"]["mean"]) for row in rows]
    # The most crowded first: they have the fewest places left.
    crowd = [sum(abs(x - u) / axes.get_xlim()[1] + abs(y - v) / 100 < 0.1 for u, v in marks) for x, y in marks]
    for index in sorted(range(len(rows)), key=lambda index: -crowd[index]):
        name, mark = rows[index]["network"], marks[index]
        text = {"fontsize": 8.5, "color": _KINDS[_kind(rows[index])][0], "zorder": 4}
        measured = axes.text(*mark, name, **text)
        size = measured.get_window_extent(renderer).size
        measured.remove()
        corners = axes.transData.transform(mark) + pixel * _PLACES + (np.sign(_PLACES) - 1) / 2 * size
        boxes = [Bbox.from_bounds(*corner, *size) for corner in corners]

        def cost(place, boxes=boxes):
            covered = sum(_overlap(boxes[place], other) for other in taken)
            outside = np.prod(boxes[place].size) - _overlap(boxes[place], frame)
            return 3 * covered + 30 * outside + np.hypot(*_PLACES[place])

        best = min(range(len(boxes)), key=cost)
        taken.append(boxes[best])
        line = {"arrowstyle": "-", "color": text["color"], "alpha": 0.5, "linewidth": 0.7, "shrinkB": 4}
        across, up = np.sign(_PLACES[best]).astype(int) + 1
        axes.annotate(
            name,
            mark,
            xytext=_PLACES[best],
            textcoords="offset points",
            ha=("right", "center", "left")[across],
            va=("top", "center", "bottom")[up],
            arrowprops=line if np.hypot(*_PLACES[best]) > _LINE_FROM else None,
            **text,
        )


def _overlap(a, b) -> float:
    """Returns the square pixels that two boxes share."""
    width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(width, 0) * max(height, 0)
