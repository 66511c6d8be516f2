"""The report's charts as inline SVG: colours come from the page's style sheet, so they follow light and dark mode."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup

from r23d_jax.report.markup import element
from r23d_jax.report.numbers import Calibration, downsample
from r23d_jax.runtime.text import shorten

_POINTS = 240
_WIDTH, _HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 10, 34


@dataclasses.dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
      x, y: float [N].
      style: "a" or "b", the first and the second colour.
      dots: mark every point, for few points, instead of a line with a band.
    """

    x: np.ndarray
    y: np.ndarray
    style: str = "a"
    dots: bool = False


def lines(
    series: Sequence[Series], label: str, x_label: str, write: Callable[[float], str], top: float | None = None
) -> Markup:
    """Returns a line chart that begins at 0.

    Args:
      series: at least one, none empty.
      label: the text alternative.
      x_label: under the axis.
      write: formats a value of the y axis.
      top: where the y axis ends; by default above the highest value.
    """
    high = max(float(np.max(one.y)) for one in series)
    y_ticks = ticks(top or high or 1.0)
    x_ticks = ticks(max(float(np.max(one.x)) for one in series) or 1.0)
    x_high, y_high = max(float(max(one.x.max() for one in series)), x_ticks[1]), y_ticks[-1]

    def at(x, y):
        return (
            _LEFT + (_WIDTH - _LEFT - _RIGHT) * np.asarray(x, float) / x_high,
            _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * np.asarray(y, float) / y_high,
        )

    parts = []
    for value in y_ticks:
        _, y = at(0, value)
        parts.append(_line(_LEFT, y, _WIDTH - _RIGHT, y, "axis" if value == 0 else "grid"))
        parts.append(_text(_LEFT - 6, float(y) + 4, write(value), "end"))
    for value in x_ticks:
        if value <= x_high:
            x, _ = at(value, 0)
            parts.append(_text(x, _HEIGHT - _BOTTOM + 15, f"{value:g}", "middle"))
    parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 4, x_label, "end"))
    for one in series:
        parts += _dots(one, at) if one.dots else _band(one, at)
    return _svg(parts, _WIDTH, _HEIGHT, label)


def _band(one: Series, at) -> list[Markup]:
    x, mean, low, high = downsample(one.x, one.y, _POINTS)
    parts = []
    if mean is not low:
        outline = [*zip(*at(x, high), strict=True), *reversed(list(zip(*at(x, low), strict=True)))]
        parts.append(element("path", class_=f"band {one.style}", d=f"{_path(outline)}Z"))
    points = list(zip(*at(x, mean), strict=True))
    parts.append(element("path", class_=f"curve {one.style}", d=_path(points)))
    if len(points) == 1:
        parts.append(element("circle", class_=f"dot {one.style}", cx=points[0][0], cy=points[0][1], r=3))
    return parts


def _dots(one: Series, at) -> list[Markup]:
    points = list(zip(*at(one.x, one.y), strict=True))
    parts = [element("path", class_=f"thin {one.style}", d=_path(points))] if len(points) > 1 else []
    if len(points) <= 60:
        parts += [element("circle", class_=f"dot {one.style}", cx=x, cy=y, r=3.5) for x, y in points]
    return parts


def reliability(result: Calibration, label: str) -> Markup:
    """Returns a reliability diagram: accuracy of each bin over its confidence, and below the number of videos."""
    left, side, gap, low, width = 46, 270, 10, 54, 330
    floor, bottom = 10 + side, 10 + side + gap + low
    parts = []
    for value in (0, 0.25, 0.5, 0.75, 1):
        y = floor - side * value
        parts.append(_line(left, y, left + side, y, "grid" if value else "axis"))
        parts.append(_text(left - 6, y + 4, f"{value:.0%}", "end"))
        parts.append(_text(left + side * value, bottom + 15, f"{value:.0%}", "middle"))
    most = result.count.max()
    inner = side / len(result.count)
    for i in np.flatnonzero(result.count):
        x = left + side * result.edges[i]
        height = side * result.accuracy[i]
        title = element(
            "title",
            f"confidence {result.edges[i]:.0%} to {result.edges[i + 1]:.0%}: {result.count[i]} videos, "
            f"{result.accuracy[i]:.1%} right, mean confidence {result.confidence[i]:.1%}",
        )
        bar = {"x": x + 1, "width": inner - 2}
        parts.append(_rect("bar a", bar | {"y": floor - height, "height": height}, title))
        y = floor - side * result.confidence[i]
        parts.append(_line(x + 1, y, x + inner - 1, y, "mark"))
        height = max(1.0, low * result.count[i] / most)
        parts.append(_rect("count", bar | {"y": bottom - height, "height": height}, title))
    parts.append(_line(left, floor, left + side, floor - side, "ideal"))
    parts.append(_line(left, bottom, left + side, bottom, "axis"))
    parts.append(_text(left - 6, bottom - low + 10, f"{most}", "end"))
    parts.append(_text(left + side, bottom + 30, "confidence", "end"))
    return _svg(parts, width, bottom + 36, label)


def matrix(counts: np.ndarray, names: Sequence[str], label: str) -> Markup:
    """Returns the confusion matrix: true classes down, predicted across, shaded by share of the true class."""
    classes = len(names)
    cell = 40 if classes <= 8 else 30 if classes <= 16 else 20 if classes <= 40 else 9
    size = 12 if classes <= 16 else 10 if classes <= 40 else 8
    shown = [shorten(name, 24) for name in names]
    margin = 24 + math.ceil(max(map(len, shown)) * size * 0.58)
    side = classes * cell
    every = 1 if classes <= 40 else 9
    parts = [_text(margin, 12, "predicted →", "start"), _text(margin - 6, margin - 8, "true ↓", "end")]
    for i, name in enumerate(shown):
        place = margin + cell * i
        middle = place + cell / 2 + size * 0.35
        parts.append(_text(margin - 6, middle, name, "end", size, names[i]))
        turned = f"rotate(-90 {middle:.2f} {margin - 6})"
        parts.append(_text(middle, margin - 6, name, "start", size, names[i], turned))
    for i in range(0, classes + 1, every):
        place = margin + cell * i
        parts.append(_line(margin, place, margin + side, place, "grid"))
        parts.append(_line(place, margin, place, margin + side, "grid"))
    total = np.maximum(counts.sum(axis=1), 1)
    cells = np.argwhere(counts)
    for true, predicted in cells:
        share = counts[true, predicted] / total[true]
        x, y = margin + cell * predicted, margin + cell * true
        kind = "right" if true == predicted else "wrong"
        title = None
        if len(cells) <= 5000:  # each makes the page longer
            count = f"{counts[true, predicted]} of {counts[true].sum()}"
            title = element("title", f"{names[true]} → {names[predicted]}: {count}")
        box = {"x": x + 0.5, "y": y + 0.5, "width": cell - 1, "height": cell - 1}
        parts.append(_rect(kind, box | {"fill_opacity": f"{0.15 + 0.85 * share**0.6:.2f}"}, title))
        if cell >= 30:
            on = "on" if share > 0.4 else "figure"
            middle = {"x": x + cell / 2, "y": y + cell / 2 + 4.5, "text_anchor": "middle", "class_": on}
            parts.append(element("text", counts[true, predicted], **middle))
    return _svg(parts, margin + side + 2, margin + side + 2, label)


def ticks(high: float) -> list[float]:
    """Returns ticks from 0 to at least `high`, in three to six steps of 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(high / 4))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power * 5 >= high * 0.999)
    return [round(i * step, 12) for i in range(math.ceil(high / step - 1e-9) + 1)]


def _svg(parts: list[Markup], width: float, height: float, label: str) -> Markup:
    size = {"viewBox": f"0 0 {width:g} {height:g}", "width": float(width), "height": float(height)}
    return element("svg", parts, role="img", aria_label=label, **size)


def _rect(style: str, box: dict[str, object], title: Markup | None) -> Markup:
    body = element("rect", class_=style, **box)
    return element("g", title, body) if title else body


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return element("line", class_=style, x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2))


def _text(x, y, text, anchor, size=None, title=None, turned=None) -> Markup:
    hint = element("title", title) if title and title != text else None
    return element("text", hint, text, x=float(x), y=float(y), text_anchor=anchor, font_size=size, transform=turned)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
