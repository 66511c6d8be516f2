"""The study's plot: accuracy against cost, every run a dot, every network a mark with its spread."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r23d_jax.runtime.files import write_bytes

_BESIDE = 6  # points from a network's mark to the dots of its runs
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
    marks = [_draw(axes, row) for row in rows]
    _axes(axes, study, rows)
    canvas.draw()
    _place(axes, canvas.get_renderer(), rows, marks)
    data = io.BytesIO()
    canvas.print_png(data)
    write_bytes(path, data.getvalue())


def _kind(row: Mapping[str, Any]) -> str:
    return row["kind"] if row["kind"] in _KINDS else "other"


def _draw(axes, row) -> tuple[float, float]:
    """The network's runs, mean and spread; returns where its mark is."""
    from matplotlib.transforms import ScaledTranslation

    colour, mark = _KINDS[_kind(row)]
    x, score = row["gmacs"], row["top1"]
    values = [100 * value for value in score["values"]]
    mean, deviation = 100 * score["mean"], 100 * (score["deviation"] or 0)
    if len(values) > 1:  # beside the mark, which would hide them
        beside = axes.transData + ScaledTranslation(_BESIDE / 72, 0, axes.figure.dpi_scale_trans)
        axes.scatter([x] * len(values), values, s=8, color=colour, alpha=0.6, linewidths=0, zorder=2, transform=beside)
    axes.errorbar(
        x,
        mean,
        deviation or None,
        fmt=mark,
        color=colour,
        markersize=6.5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        elinewidth=1,
        capsize=2.5,
        zorder=3,
    )
    return x, mean


def _axes(axes, study, rows) -> None:
    from matplotlib.lines import Line2D

    chance, scores = 100 / study["classes"], [row["top1"] for row in rows]
    spread = [score["mean"] + sign * (score["deviation"] or 0) for score in scores for sign in (-1, 1)]
    shown = [chance, *(100 * value for value in [*spread, *(v for score in scores for v in score["values"])])]
    low, high = min(shown), max(shown)
    span = max(high - low, 5)
    axes.axhline(chance, color=_SOFT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    axes.annotate(
        "chance",
        (1, chance),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 3),
        textcoords="offset points",
        ha="right",
        color=_SOFT,
        fontsize=8,
    )
    axes.set_ylim(max(low - 0.08 * span, -2), min(high + 0.10 * span, 104))
    axes.set_xlim(0, 1.12 * max(row["gmacs"] for row in rows))
    axes.set_xlabel("GMAC a clip, forward, by the compiler's analysis", color=_INK)
    axes.set_ylabel("top-1, % of test videos", color=_INK)
    axes.grid(color=_RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_SOFT, length=0)
    for side in axes.spines.values():
        side.set_visible(False)
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


def _place(axes, renderer, rows, marks) -> None:
    """Writes the names beside their marks, each where it covers least of marks, spreads and other names."""
    from matplotlib.transforms import Bbox

    taken = []
    for row, (x, y) in zip(rows, marks, strict=True):
        at = axes.transData.transform((x, y))
        taken.append(Bbox([at - 9, at + 9]))
        score = row["top1"]
        spread = [score["mean"] + sign * (score["deviation"] or 0) for sign in (-1, 1)]
        low, high = (axes.transData.transform((x, 100 * value))[1] for value in spread)
        taken.append(Bbox([[at[0] - 6, low - 3], [at[0] + 6, high + 3]]))
        runs = [
            axes.transData.transform((x, 100 * value)) + (_BESIDE / 72 * axes.figure.dpi, 0)
            for value in score["values"]
        ]
        taken += [Bbox([run - 4, run + 4]) for run in runs]
    frame = axes.get_window_extent(renderer)
    # The most crowded first: they have the fewest places left.
    crowd = [sum(abs(x - u) / axes.get_xlim()[1] + abs(y - v) / 100 < 0.1 for u, v in marks) for x, y in marks]
    for index in sorted(range(len(rows)), key=lambda index: -crowd[index]):
        _place_one(axes, renderer, rows[index], marks[index], taken, frame)


def _place_one(axes, renderer, row, mark, taken, frame) -> None:
    colour = _KINDS[_kind(row)][0]
    at = axes.transData.transform(mark)
    best = None
    for distance in (8, 14, 22, 32, 44, 58, 74):
        for dx, dy in ((1, 0), (-1, 0), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7), (0, 1), (0, -1)):
            across = "left" if dx > 0 else "right" if dx < 0 else "center"
            up = "bottom" if dy > 0 else "top" if dy < 0 else "center"
            far = distance > 14
            note = axes.annotate(
                row["network"],
                mark,
                xytext=(dx * distance, dy * distance),
                textcoords="offset points",
                ha=across,
                va=up,
                fontsize=8.5,
                color=colour,
                zorder=4,
                arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.5, "linewidth": 0.7, "shrinkB": 4}
                if far
                else None,
            )
            box = note.get_window_extent(renderer) if not far else _text_box(note, renderer)
            covered = sum(_overlap(box, other) for other in taken) + 10 * _outside(box, frame)
            price = 3 * covered + 0.6 * distance + abs(at[0] - (box.x0 + box.x1) / 2) * 0.01
            if best is None or price < best[0]:
                if best is not None:
                    best[1].remove()
                best = price, note, box
            else:
                note.remove()
    taken.append(best[2])


def _text_box(note, renderer):
    """The box of the words alone: an annotation's own includes its line."""
    from matplotlib.text import Text

    note.update_positions(renderer)
    return Text.get_window_extent(note, renderer)


def _overlap(a, b) -> float:
    """Square pixels that two boxes share."""
    width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(width, 0) * max(height, 0)


def _outside(box, frame) -> float:
    """Square pixels of a box outside the frame."""
    return box.width * box.height - _overlap(box, frame)
