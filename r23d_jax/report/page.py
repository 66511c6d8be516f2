"""The report's page: what was measured and how, the sections, configuration and environment."""

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from r23d_jax import config as configs
from r23d_jax.evaluation.results import score_names
from r23d_jax.report import numbers, sections, tried
from r23d_jax.report.document import document, table
from r23d_jax.report.markup import element
from r23d_jax.report.run import Run
from r23d_jax.report.sections import note, percent
from r23d_jax.runtime.text import duration

if TYPE_CHECKING:
    from r23d_jax.report.strips import Strip

_MISSING = "not recorded"


def build(run: Run, strips: dict[str, list["Strip"]], why_not: str) -> str:
    """Returns the whole page.

    Args:
      run: as read.
      strips: of the "wrong" and the "right" videos, {} without frames.
      why_not: reason for no strips.
    """
    parts = [("result", "Result", _result(run))]
    if run.probe is not None:
        parts.append(("tried", "What was tried", tried.section(run)))
    if "splits" not in run.results:
        if run.probe is None or run.metrics:
            parts.append(("curves", "Learning curves", sections.curves(run)))
        if run.scores is None:
            text = "This workdir has no predictions.npz: nothing to say on classes, confusions, calibration and clips."
            parts.append(("classes", "Classes", note(text)))
        else:
            matrix = numbers.confusion(run.scores.scores, run.scores.labels)
            parts += [
                ("classes", "Classes", sections.classes(run.scores, matrix)),
                ("confusions", "Confusions", sections.confusions(run.scores, matrix)),
                ("calibration", "Calibration", sections.calibration(run.scores)),
                ("clips", "Clips", [_whose_maps(run, strips), *sections.clips(run, strips, why_not)]),
            ]
    parts.append(("configuration", "Configuration", _configuration(run)))
    arch = run.results.get("arch") or run.config.get("arch") or "a network"
    data = run.results.get("dataset") or run.dataset.get("name") or "an unnamed data set"
    title = f"{arch} on {data}"
    nav = element("nav", [element("a", label, href=f"#{name}") for name, label, _ in parts], aria_label="Sections")
    return document(
        title,
        element("header", element("h1", title), element("div", _subtitle(run), class_="soft"), nav),
        element("main", [element("section", element("h2", label), content, id=name) for name, label, content in parts]),
        element("footer", element("p", f"Written by r23d_jax from {run.workdir.resolve().name}/.", class_="soft")),
    )


def _subtitle(run: Run) -> str:
    results = run.results
    split = results.get("split", run.config.get("dataset.split"))
    init = results.get("init")
    parts = [
        ("all splits" if split == "all" else f"split {split}") if split else None,
        ("from scratch" if init == "scratch" else f"initialised from {init}") if init else None,
        "cross-validated" if run.cross_validated else None,
        f"step {results['step']:,}" if "step" in results else None,
        f"seed {results['seed']}" if "seed" in results else None,
    ]
    return " · ".join(part for part in parts if part)


def _whose_maps(run: Run, strips: dict[str, list["Strip"]]) -> Markup | None:
    if not (run.cross_validated and strips):
        return None
    text = (
        "The videos are chosen and scored by the probes that did not see them, one for each fold. Activation maps and "
        "the scores of single clips are by the probe of all videos, which did."
    )
    return element("p", text)


# --- result ---------------------------------------------------------------------------------------------

# Key of results.json, what it is called, and how it is counted.
_MEASURES = (
    ("top1", "Top-1", "a video is right if its class has the highest mean softmax over the video's views"),
    ("top5", "Top-{k}", "a video is right if its class is among the {k} highest mean softmaxes"),
    ("mean_class", "Mean class", "top-1 of every class, averaged over the classes"),
    ("top1_logit_mean", "Top-1 of mean logits", "views averaged before the softmax instead of after it"),
    ("clip_top1", "Clip top-1", "every view counted by itself, nothing averaged"),
)


def _result(run: Run) -> list[Any]:
    results = run.results
    if not results:
        text = "This workdir has no results.json: the run has not been evaluated yet, or was stopped before its end."
        if run.probe is not None and not run.probe.test_videos and not run.probe.folds:
            text = (
                "Nothing was evaluated: there is no test side, and no class has videos of two groups to hold one out."
            )
        return [note(text), _facts(run)]
    classes = len(run.scores.class_names) if run.scores is not None else None
    k = str(min(5, classes)) if classes else "5"
    spread = results.get("spread", {})
    rows = []
    for key, label, how in _MEASURES:
        if key in results:
            score = [_value(results[key]), f" ± {100 * spread[key]:.2f}" if key in spread else None]
            rows.append((label.format(k=k), score, how.format(k=k)))
    known = {key for key, _, _ in _MEASURES}
    rows += [(key, [_value(results[key])], "") for key in score_names([results]) if key not in known]
    caption = "each ± the standard deviation over the splits" if spread else ""
    measured = table(("Measure", "%", "How it is counted"), rows, (1,), caption)
    top = results.get("top1")
    big = None
    if top is not None:
        big = element("div", _value(top), element("small", "\u00a0%"), class_="big")
    under = element("p", "Top-1 ", _counted(run), class_="soft")
    protocol = element("p", element("b", "Protocol, of every figure here: "), f"{results.get('protocol', _MISSING)}.")
    head = element("div", element("div", big, under), element("div", measured), class_="head")
    tables = (_aggregates(results, k), _splits(results), _streams(run))
    return [_warnings(run), head, protocol, *tables, _facts(run)]


def _value(share: float) -> Markup:
    """A share as a percentage; the page also holds the very number of results.json."""
    return element("data", f"{100 * share:.2f}", value=repr(share))


def _counted(run: Run) -> str:
    results, scores = run.results, run.scores
    videos = results.get("videos_evaluated")
    if not videos or "splits" in results:
        return f"over {videos} {run.part} videos" if videos else ""
    right = round(results["top1"] * videos)
    low, high = numbers.wilson_interval(right, videos)
    which = f"{run.part} videos"
    if run.cross_validated:
        which = "training videos, by cross-validation: each scored by a probe that was chosen and fitted without it"
    text = (
        f"= {right:,} of {videos:,} {which}; 95\u00a0% interval {100 * low:.1f} to {100 * high:.1f} "
        "(Wilson, as if videos were independent)"
    )
    if scores is not None:
        text += f"; chance {percent(1 / len(scores.class_names))}"
    return f"{text}."


def _warnings(run: Run) -> list[Markup]:
    results, found = run.results, []
    expected, seen = results.get("videos_expected"), results.get("videos_evaluated")
    if expected != seen:
        found.append(note(f"{seen} videos were evaluated of {expected} expected: these are not scores of the split."))
    if run.scores is not None and "top1" in results and "splits" not in results:
        top = float(np.mean(run.scores.scores.argmax(axis=1) == run.scores.labels))
        if len(run.scores.labels) != seen or abs(top - results["top1"]) > 1e-9:
            what = f"predictions.npz ({len(run.scores.labels)} videos, top-1 {percent(top, 2)})"
            text = "is not of the evaluation in results.json; classes, confusions, calibration and clips are from it."
            found.append(note(f"{what} {text}"))
    return found


def _aggregates(results: dict[str, Any], k: str) -> Markup | None:
    """Every way from a video's views to its scores."""
    rows = [
        (_code(name), *(_value(scores[key]) if key in scores else _MISSING for key in ("top1", "top5", "mean_class")))
        for name, scores in results.get("aggregates", {}).items()
    ]
    return table(("Views of a video by", "Top-1 %", f"Top-{k} %", "Mean class %"), rows, (1, 2, 3)) if rows else None


def _splits(results: dict[str, Any]) -> Markup | None:
    if "splits" not in results:
        return None
    rows = [
        (
            element("a", f"split {part['split']}", href=f"split{part['split']}/report.html"),
            *(f"{100 * part[key]:.2f}" if key in part else _MISSING for key in ("top1", "mean_class", "clip_top1")),
            part.get("videos_evaluated", _MISSING),
        )
        for part in results["splits"]
    ]
    return table(("Split", "Top-1 %", "Mean class %", "Clip top-1 %", "Videos"), rows, (1, 2, 3, 4))


def _streams(run: Run) -> Markup | None:
    """The networks of a two-stream result, each by itself."""
    rows = []
    for part in run.results.get("streams", ()):
        there = (run.workdir / part["stream"] / "report.html").is_file()
        name = element("a", part["stream"], href=f"{part['stream']}/report.html") if there else part["stream"]
        scores = (f"{100 * part[key]:.2f}" if key in part else _MISSING for key in ("top1", "mean_class", "clip_top1"))
        rows.append((name, part.get("arch", _MISSING), part.get("init", _MISSING), *scores))
    header = ("Stream alone", "Network", "Start", "Top-1 %", "Mean class %", "Clip top-1 %")
    return table(header, rows, (3, 4, 5)) if rows else None


def _facts(run: Run) -> Markup:
    results, environment = run.results, run.environment
    seen, expected = results.get("videos_evaluated"), results.get("videos_expected")
    trained = [line["seconds"] for line in run.metrics if "loss" in line and "seconds" in line]
    classes = len(run.scores.class_names) if run.scores is not None else None
    fingerprint = results.get("dataset_fingerprint") or run.dataset.get("fingerprint") or ""
    facts = (
        (
            "Videos, by cross-validation" if run.cross_validated else f"{run.part.capitalize()} videos",
            f"{seen:,} evaluated of {expected:,} expected" if expected else _MISSING,
        ),
        ("Data set", results.get("dataset") or run.dataset.get("name")),
        ("Split", results.get("split", run.config.get("dataset.split"))),
        ("Classes", classes),
        ("Network", results.get("arch") or run.config.get("arch")),
        ("Start", results.get("init")),
        ("Step", f"{results['step']:,}" if "step" in results else None),
        ("Seed", results.get("seed", run.config.get("seed"))),
        ("Training time", duration(max(trained)) if trained else None),
        ("Device", environment.get("devices")),
        ("Commit", _commit(results.get("commit") or environment.get("commit"))),
        ("Fingerprint of the data", _code(fingerprint[:16])),
    )
    items = [
        element("div", element("dt", term), element("dd", _MISSING if value in (None, "") else value))
        for term, value in facts
    ]
    return element("dl", items, class_="facts")


def _commit(commit: str | None) -> Markup | None:
    """The commit's first letters and whether there were changes; all letters where a pointer rests on it."""
    short = re.sub(r"^([0-9a-f]{12})[0-9a-f]+", r"\1", commit or "")
    return element("code", short, title=commit) if short else None


def _code(text: str | None) -> Markup | None:
    return element("code", text) if text else None


# --- configuration --------------------------------------------------------------------------------------


def _configuration(run: Run) -> list[Any]:
    if not run.config:
        text = note("This workdir has no config.json: nothing was trained in it.")
        return [text, _environment(run)]
    defaults = json.loads(json.dumps(configs.flatten(configs.load("common"))))
    changed = {key: value for key, value in run.config.items() if key not in defaults or defaults[key] != value}
    rows = [(_key(key), _code(_json(value)), _code(_json(defaults.get(key)))) for key, value in changed.items()]
    rest = [(_key(key), _code(_json(value))) for key, value in run.config.items() if key not in changed]
    own = table(("Key", "Value", "Default"), rows) if rows else element("p", "Nothing.")
    text = "A probe is not trained by these: they are for fine-tuning from it, as configs/probe.py does."
    return [
        element("p", text) if run.probe is not None else None,
        element("details", element("summary", f"Set by this run ({len(rows)})"), own, open="open"),
        element("details", element("summary", f"At their defaults ({len(rest)})"), table(("Key", "Value"), rest)),
        _environment(run),
    ]


def _environment(run: Run) -> Markup | None:
    if not run.environment:
        return None
    rows = [(name, _MISSING if value in (None, "") else str(value)) for name, value in run.environment.items()]
    return element("details", element("summary", "Environment"), table(("Of", "Version or value"), rows))


def _key(name: str) -> Markup:
    """A config key, breakable where its words end."""
    return element("code", [part for word in re.split(r"(?<=[._])", name) for part in (word, element("wbr"))][:-1])


def _json(value: Any) -> str:
    """The value as JSON, numbers to six digits."""
    if isinstance(value, list):
        return f"[{', '.join(map(_json, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
