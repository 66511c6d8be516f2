"""The report's sections on what was learned: curves, classes, confusions, calibration, clips."""

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from r23d_jax.evaluation import metrics
from r23d_jax.evaluation.predictions import Predictions
from r23d_jax.report import charts, numbers
from r23d_jax.report.document import table
from r23d_jax.report.markup import element
from r23d_jax.report.run import Run, series, x_unit
from r23d_jax.runtime.text import shorten

if TYPE_CHECKING:
    from r23d_jax.report.strips import Strip

_NBSP = "\u00a0"
_SHOWN_CLASSES = 24
_SHOWN_CONFUSIONS = 12


def note(*text: Any) -> Markup:
    """Returns a highlighted paragraph."""
    return element("p", text, class_="note", role="note")


def percent(share: float, digits: int = 1) -> str:
    """Returns a share of 1 as a percentage."""
    return f"{100 * share:.{digits}f}{_NBSP}%"


def score(share: float) -> str:
    """Returns a softmax score in percent; near 0 and 100 % as a bound."""
    if 0 < share < 0.001:
        return f"<{_NBSP}0.1{_NBSP}%"
    return f">{_NBSP}99.9{_NBSP}%" if 0.999 < share < 1 else percent(share)


def label(name: str) -> Markup:
    """Returns a class's name, breakable before its capitals, and shortened above 60 letters."""
    shown = shorten(name, 60)
    words = [part for piece in re.split(r"(?<=[a-z0-9_/])(?=[A-Z])", shown) for part in (element("wbr"), piece)]
    return element("span", words[1:], title=name if shown != name else None)


# --- learning curves ------------------------------------------------------------------------------------


def curves(run: Run) -> list[Any]:
    """Draws loss, accuracy, learning rate, gradient norm, speed and data wait over the run."""
    unit = x_unit(run)
    figures = [figure for spec in _CURVES if (figure := _curve(run, unit, *spec)) is not None]
    if not figures:
        reason = "metrics.jsonl has no line of training" if run.metrics else "this workdir has no metrics.jsonl"
        text = f"Nothing to draw: {reason} (an evaluation alone writes none)."
        return [note(text)]
    logged, _ = series(run, "loss")
    text = (
        f"{len(logged):,} line{'s' if len(logged) > 1 else ''} of the log, each the mean of the steps since the line "
        "before it. The first line's speed includes compiling the step."
    )
    if len(logged) > 240:
        text += " A point of a curve is the mean of several lines; the band runs from the lowest to the highest."
    return [element("p", text), element("div", figures, class_="charts")]


# Scalar, title, how its values are written, top of the axis, and what the caption says: the last value or the median.
_CURVES = (
    ("loss", "Loss", "{:g}", None, "last"),
    ("accuracy", "Accuracy", "{:.0%}", 1.0, "last"),
    ("lr", "Learning rate", "{:g}", None, "last"),
    ("grad_norm", "Norm of the gradient", "{:g}", None, "last"),
    ("loss_scale", "Scale of the loss in float16", "{:g}", None, "last"),
    ("clips_per_second", "Clips a second", "{:g}", None, "median"),
    ("data_wait", "Share of time waiting for data", "{:.0%}", None, "median"),
)


def _curve(run: Run, unit: str, name: str, title: str, style: str, top: float | None, said: str) -> Markup | None:
    x, y = series(run, name)
    if not len(x):
        return None

    def precise(value):
        return percent(value) if "%" in style else f"{value:.4g}" if value > 1e-9 * y.max() else "0"

    drawn = [charts.Series(x, y)]
    extreme = f", lowest {precise(y.min())}" if name == "loss" else ""
    caption = [f"{precise(y[-1])} at the end{extreme}" if said == "last" else f"median {precise(np.median(y))}"]
    told = f"{title} by {unit}: {precise(y[0])} in the first line, {precise(y[-1])} in the last{extreme}."
    if name == "accuracy":
        caption = [element("span", class_="key"), " training clips, as augmented: ", *caption]
        if (tested := _tested(run, unit)) is not None:
            final = percent(tested.y[-1], 2)
            drawn.append(tested)
            told += f" Top-1 on the {run.part} videos: {final} at the end."
            caption += [element("br"), element("span", class_="key b"), f" {run.part} videos: ", final]
    chart = charts.lines(drawn, told, unit, style.format, top)
    return element("figure", element("b", title), chart, element("figcaption", caption))


def _tested(run: Run, unit: str) -> charts.Series | None:
    """Top-1 on the evaluated videos: during the run, and the final one if it belongs to the last step logged."""
    x, y = series(run, "eval_top1")
    last = max((line for line in run.metrics if "loss" in line), key=lambda line: line.get("step", 0), default={})
    final = run.results.get("top1")
    if final is not None and last.get("step") == run.results.get("step") and unit in last:
        x, y = np.append(x[x < last[unit]], last[unit]), np.append(y[x < last[unit]], final)
    return charts.Series(x, y, "b", dots=True) if len(x) else None


# --- classes --------------------------------------------------------------------------------------------


def classes(scores: Predictions, matrix: np.ndarray) -> list[Any]:
    """Draws a bar for every class, lowest accuracy first."""
    accuracy = metrics.per_class(matrix)
    count = matrix.sum(axis=1)
    tested = np.flatnonzero(count)
    order = tested[np.argsort(accuracy[tested], kind="stable")]
    bars = [_bar(scores.class_names[i], accuracy[i], int(matrix[i, i]), int(count[i])) for i in order]
    text = "Share of each class's videos that are recognised, lowest first."
    untested = [str(scores.class_names[i]) for i in np.flatnonzero(count == 0)]
    if untested:
        text += f" Without a video: {', '.join(untested)}."
    content = [element("p", text), element("ol", bars[:_SHOWN_CLASSES], class_="bars")]
    if len(bars) > _SHOWN_CLASSES:
        rest = bars[_SHOWN_CLASSES:]
        folded = element("ol", rest, class_="bars")
        content.append(element("details", element("summary", f"The other {len(rest)} classes"), folded))
    return content


def _bar(name: str, share: float, right: int, count: int) -> Markup:
    fill = element("i", style=f"width:{100 * share:.1f}%")
    figures = element("span", element("b", percent(share)), f"  {right}/{count}")
    return element("li", element("span", name, title=name), element("span", fill, class_="track"), figures)


def confusions(scores: Predictions, matrix: np.ndarray) -> list[Any]:
    """Draws the confusion matrix, with its largest entries as a table."""
    names = [str(name) for name in scores.class_names]
    wrong = int(matrix.sum() - np.trace(matrix))
    if not wrong:
        return [element("p", f"None: all {matrix.sum()} videos are right.")]
    told = (
        f"Confusion matrix of {len(names)} classes, true classes down and predicted classes across: "
        f"{np.trace(matrix)} of {matrix.sum()} videos on the diagonal. A table of the largest entries off it follows."
    )
    text = element(
        "p",
        f"{wrong:,} of {matrix.sum():,} videos under another class. The shade is the share of the true class: ",
        element("span", element("span", class_="key"), " right, ", class_="legend"),
        element("span", element("span", class_="key b"), " wrong.", class_="legend"),
    )
    most = numbers.confusions(matrix, _SHOWN_CONFUSIONS)
    rows = [
        (label(names[true]), label(names[predicted]), str(count), percent(count / matrix[true].sum()))
        for true, predicted, count in most
    ]
    header = ("True class", "Predicted", "Videos", "of its class")
    listed = table(header, rows, (2, 3), "The most frequent confusions")
    chart = element("div", charts.matrix(matrix, names, told), class_="scroll", tabindex="0")
    style = "side" if len(names) <= 12 else None
    return [text, element("div", chart, listed, class_=style)]


def calibration(scores: Predictions) -> list[Any]:
    """Draws the reliability diagram, with expected calibration error and the bins as a table."""
    result = numbers.calibration(scores.scores, scores.labels)
    sure = float(scores.scores.max(axis=1).mean())
    right = float(np.mean(scores.scores.argmax(axis=1) == scores.labels))
    gap = abs(sure - right)
    leaning = "overconfident" if sure > right else "underconfident"
    verdict = f"{leaning} by {100 * gap:.1f} points on average" if gap >= 0.005 else "neither over- nor underconfident"
    text = element(
        "p",
        "Expected calibration error ",
        element("b", element("data", percent(result.ece, 2), value=repr(result.ece))),
        f", in {numbers.BINS} bins of equal width over {len(scores.labels):,} videos. The confidence of a video is its "
        f"highest mean softmax score: {percent(sure)} on average, while {percent(right)} are right: {verdict}.",
    )
    told = (
        f"Reliability diagram: accuracy over confidence in {numbers.BINS} bins, and the number of videos in each; "
        f"expected calibration error {percent(result.ece, 2)}. The bins follow as a table."
    )
    key = element(
        "figcaption",
        "Bars: share that is right. ",
        "Marks: mean confidence of the bin. Dashed: where both agree. Below: videos in each bin.",
    )
    rows = [
        (
            f"{100 * result.edges[i]:.1f} to {percent(result.edges[i + 1])}",
            str(result.count[i]),
            percent(result.confidence[i]),
            percent(result.accuracy[i]),
        )
        for i in np.flatnonzero(result.count)
    ]
    bins = table(("Confidence", "Videos", "Mean confidence", "Right"), rows, (1, 2, 3))
    figure = element("figure", charts.reliability(result, told), key)
    folded = element("details", element("summary", "The bins as a table"), bins)
    return [element("div", figure, element("div", text, folded), class_="two")]


# --- clips ----------------------------------------------------------------------------------------------


def clips(run: Run, strips: dict[str, list["Strip"]], why_not: str) -> list[Any]:
    """Shows the most wrong and the most confidently right videos as strips; without frames as a table."""
    content: list[Any] = []
    if why_not:
        content.append(note(f"No frames and activation maps: {why_not}."))
    if run.scores is None:
        return content
    if strips:
        content.append(element("p", _EXPLANATION))
    for kind, title, pick, order in _CHOICES:
        chosen = pick(run.scores.scores, run.scores.labels, 8)
        content.append(element("h3", title))
        if not len(chosen):
            content.append(element("p", f"No video is {kind}."))
            continue
        content.append(element("p", order))
        content += [_strip(run.scores, one) for one in strips[kind]] if strips else [_listed(run.scores, chosen)]
    return content


_CHOICES = (
    (
        "wrong",
        "Most wrong",
        numbers.most_wrong,
        "By the lead of the wrong class over the true one; each pair of classes once.",
    ),
    (
        "right",
        "Most confidently right",
        numbers.most_confident,
        "By the score of the true class; each class once.",
    ),
)
_EXPLANATION = (
    "Frames of the middle clip of each video, cropped and scaled as the network saw them. Under each frame is a "
    "class activation map: where the network found evidence for a class, in space and time, from none (grey) to the "
    "most in this clip (light yellow). Evidence is counted in logits above the mean of all classes. The scores are the "
    "video's, over all of its clips."
)


def _strip(scores: Predictions, strip: "Strip") -> Markup:
    name = str(scores.names[strip.row])
    classes = [str(scores.class_names[i]) for i in strip.classes]
    rows_of = [["frames"]] + [
        ["evidence for ", label(one), f", up\u00a0to\u00a0{peak:+.1f}"]
        for one, peak in zip(classes, strip.peaks, strict=True)
    ]
    places = "; ".join(f"{one}: {place}" for one, place in zip(classes, strip.places, strict=True))
    told = f"{len(strip.tiles)} frames of {name}, with class activation maps. Strongest evidence for {places}."
    width, height = strip.size
    images = [element("img", src=uri, alt="", width=width, height=height, loading="lazy") for uri in strip.tiles]
    tiles = element("div", images, class_="tiles", role="img", aria_label=told)
    rows = element("div", [element("div", element("span", row)) for row in rows_of], class_="rows")
    own = ", ".join(f"{one} {score(strip.own[i])}" for one, i in zip(classes, strip.classes, strict=True))
    views = int(scores.clips[strip.row])
    counted = f"mean of {views} views; this clip alone: {own}" if views > 1 else "the video's only view"
    head = element("div", element("code", name), " · ", element("span", counted, class_="soft"))
    return element("div", head, _scores(scores, strip.row), element("div", rows, tiles, class_="strip"), class_="clip")


def _scores(scores: Predictions, row: int) -> Markup:
    values, true = scores.scores[row], int(scores.labels[row])
    predicted = int(values.argmax())
    lines = [("true", true, "")] if predicted == true else [("predicted", predicted, "b"), ("true", true, "")]
    cells = []
    for what, i, colour in lines:
        fill = element("i", class_=colour or None, style=f"width:{100 * values[i]:.1f}%")
        what = "true and predicted" if predicted == true else what
        cells += [
            element("span", what, class_="soft"),
            label(str(scores.class_names[i])),
            element("span", fill, class_="track"),
            element("span", score(values[i])),
        ]
    return element("div", cells, class_="scores")


def _listed(scores: Predictions, rows: np.ndarray) -> Markup:
    def named(row: int, i: int) -> tuple[Markup, str]:
        return label(str(scores.class_names[i])), score(scores.scores[row, i])

    body = [
        (element("code", scores.names[i]), *named(i, scores.labels[i]), *named(i, scores.scores[i].argmax()))
        for i in rows
    ]
    return table(("Video", "True", "Score", "Predicted", "Score"), body, (2, 4))
