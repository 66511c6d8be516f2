"""What a video shows when: a table (CSV) and a picture (PNG) of the scores of sliding windows."""

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from r23d_jax.inference.classifier import Prediction
from r23d_jax.runtime.console import printable
from r23d_jax.runtime.files import write_bytes, write_text
from r23d_jax.runtime.text import shorten

# Okabe and Ito's colours, told apart by nearly everyone.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")
_DARK = ("#0072B2", "#009E73", "#D55E00")
_OTHER = "#BBBBBB"
_LEAST = 0.05  # of the highest score: a class that never comes near it is a line on the floor


def edges_of(spans: Sequence[tuple[float, float]]) -> np.ndarray:
    """Returns the bounds of the time that each window stands for: the middles between the centres of windows.

    Args:
      spans: (start, end) of each window in seconds; they may overlap.

    Returns:
      float64 [windows + 1], seconds; window i stands for the time between edges i and i + 1.
    """
    starts, ends = (np.asarray(values) for values in zip(*spans, strict=True))
    centres = (starts + ends) / 2
    return np.concatenate([starts[:1], (centres[1:] + centres[:-1]) / 2, ends[-1:]])


def write_prediction(path: Path, prediction: Prediction, labels: Sequence[str], top: int) -> None:
    """Writes the table of a video's windows to `path`, ending .csv, and the picture beside it as .png."""
    path, (spans, scores) = path.with_suffix(".csv"), prediction.windows()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, spans, scores, labels, top)
    write_png(path.with_suffix(".png"), spans, scores, labels, printable(Path(prediction.video).name, sys.stdout))


def write_csv(
    path: Path, spans: Sequence[tuple[float, float]], scores: np.ndarray, labels: Sequence[str], top: int
) -> None:
    """Writes one line for each window: start and end in seconds, then the highest scores with their labels.

    Args:
      path: written whole or not at all.
      spans: (start, end) of each window.
      scores: float [windows, classes].
      labels: [classes].
      top: labels a line; fewer where there are fewer classes.
    """
    top = min(top, scores.shape[1])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [name for rank in range(1, top + 1) for name in (f"label_{rank}", f"score_{rank}")]
    writer.writerow(["start_seconds", "end_seconds", *names])
    for (start, end), row in zip(spans, scores, strict=True):
        best = np.argsort(-row, kind="stable")[:top]
        writer.writerow([f"{start:.3f}", f"{end:.3f}", *(v for c in best for v in (labels[c], f"{row[c]:.6f}"))])
    write_text(path, text.getvalue())


def write_png(
    path: Path, spans: Sequence[tuple[float, float]], scores: np.ndarray, labels: Sequence[str], title: str
) -> None:
    """Draws the highest classes' scores over time, above a strip with the best class of each window.

    Arguments as for `write_csv`; `title` goes above. At most seven classes have a colour, the others are grey.
    """
    from matplotlib.figure import Figure

    winners, shown = scores.argmax(axis=1), top_classes(scores)
    colour = dict(zip(shown, _COLOURS, strict=False))
    edges = edges_of(spans)

    figure = Figure(figsize=(10, 4.6), dpi=120, layout="constrained")
    lines, strip = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
    for c in reversed(shown):
        lines.stairs(scores[:, c], edges, color=colour[c], linewidth=1.8, baseline=None, label=labels[c])
    lines.set(ylabel="score", ylim=(0, min(1.02, 1.15 * scores.max())), title=title)
    lines.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    lines.set_axisbelow(True)
    handles, names = lines.get_legend_handles_labels()
    names = [shorten(name, 36) for name in names[::-1]]
    lines.legend(handles[::-1], names, loc="upper left", bbox_to_anchor=(1.005, 1.02), frameon=False)
    lines.spines[["top", "right"]].set_visible(False)
    _draw_strip(strip, edges, winners, colour, labels)
    strip.set(xlabel="seconds", xlim=(edges[0], edges[-1]), yticks=[], ylabel="best")
    data = io.BytesIO()
    figure.savefig(data, format="png")
    write_bytes(path, data.getvalue())


def top_classes(scores: np.ndarray) -> list[int]:
    """Returns the classes worth a line: those best in a window, most windows first, then those with the highest peaks.

    Args:
      scores: float [windows, classes].
    """
    wins, peaks = np.bincount(scores.argmax(axis=1), minlength=scores.shape[1]), scores.max(axis=0)
    worth = np.flatnonzero((wins > 0) | (peaks >= _LEAST * peaks.max()))
    return sorted(worth.tolist(), key=lambda c: (-wins[c], -peaks[c]))[: len(_COLOURS)]


def _draw_strip(axes, edges: np.ndarray, winners: np.ndarray, colour: dict[int, str], labels: Sequence[str]) -> None:
    """Draws neighbouring windows of the same best class as one bar, with its name where that fits."""
    bounds = [0, *(np.flatnonzero(np.diff(winners)) + 1), len(winners)]
    for first, last in zip(bounds[:-1], bounds[1:], strict=True):
        left, right = edges[first], edges[last]
        name, filling = labels[winners[first]], colour.get(winners[first], _OTHER)
        axes.barh(0, right - left, left=left, height=1, color=filling, edgecolor="white")
        letters = int((right - left) / (edges[-1] - edges[0]) * 90) - 1  # about 90 fit into the whole strip
        if letters >= min(len(name), 8):
            ink = "white" if filling in _DARK else "black"
            how = {"ha": "center", "va": "center", "fontsize": 9, "color": ink, "clip_on": True}
            axes.text((left + right) / 2, 0, shorten(name, letters), **how)
    axes.set_ylim(-0.5, 0.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
