"""The report's section on a probe: what was chosen, how it was judged, and all that was tried."""

from collections.abc import Iterator, Sequence
from typing import Any

from markupsafe import Markup

from r23d_jax.report.document import table
from r23d_jax.report.markup import element
from r23d_jax.report.probe import Candidate, FineTuning, Probe, Validated
from r23d_jax.report.run import Run
from r23d_jax.runtime.text import duration

_SHOWN = 10
_NBSP = "\u00a0"
# Name of a head -> what it is called, and how the value of its regularisation is written.
_HEADS = {
    "logistic": ("logistic regression", "C {:g}"),
    "lda": ("linear discriminant analysis", "shrinkage {:g}"),
    "svm": ("linear SVM", "C {:g}"),
    "means": ("nearest class mean", "none"),
    "neighbours": ("nearest neighbours", "{:g} neighbours"),
    "attention": ("attentive head", "its own"),
}
_HEADER = (
    "Rank",
    "Stages",
    "Parts of time",
    "Mirrored",
    "Head",
    "Regularisation",
    "Top-1 %, by cross-validation",
    "Cross entropy",
    "Chosen",
)


def section(run: Run) -> list[Any]:
    """Returns the section of a run with a probe."""
    probe = run.probe
    content: list[Any] = [_chosen(probe), _figures(run), _how_to_read(run), _facts(probe)]
    if run.fine_tuning is not None:
        content += _fine_tuning(run.fine_tuning, run.cross_validated)
    return content + _candidates(probe)


def _chosen(probe: Probe) -> Markup:
    head = element("b", probe.chosen[:1].upper() + probe.chosen[1:])
    stages = "stage " if len(probe.stages) == 1 else "stages "
    how = "averaged over space and time"
    if probe.bins > 1:
        how = f"averaged over space and over {probe.bins} parts of time, which are kept in their order"
    if any(one.head == "attention" for one in probe.members):
        how = "at places in space and time that it weighs by itself"
    seen = f", {how}{'; and the same of the mirror image' if probe.mirrored else ''}."
    return element("p", head, f". It sees the {stages}", _stages(probe.stages), " of the frozen network", seen)


def _stages(names: Sequence[str]) -> list[Any]:
    return [part for name in names for part in (" + ", element("code", name))][1:]


def _figures(run: Run) -> Markup | None:
    """Top-1 by cross-validation, by which was chosen, beside that of what was evaluated."""
    probe, rows = run.probe, []
    if probe.result is not None:
        drawn = ", drawn twice" if probe.repeats > 1 else ""
        how = f"{probe.training_videos:,} training videos in {probe.folds} folds{drawn}"
        rows.append(("Cross-validation, by which it was chosen", _with_spread(probe.result), how))
    if "top1" in run.results:
        evaluated, seen = _percent(run.results["top1"]), run.results["videos_evaluated"]
        if run.cross_validated:
            what = f"{seen:,} training videos, each by a probe that was chosen and fitted without its group"
            rows.append(("Cross-validation of the choice as well", evaluated, what))
        else:
            tuned = run.fine_tuning is not None and run.fine_tuning.kept
            what = f"{run.part.capitalize()} videos{', by the fine-tuned network' if tuned else ''}"
            rows.append((what, evaluated, f"{seen:,} {run.part} videos, each once"))
    return table(("Top-1 by", "%", "Of"), rows, (1,), "What was chosen, and how often it is right") if rows else None


def _how_to_read(run: Run) -> Markup:
    probe = run.probe
    said = []
    if probe.test_videos:
        said.append(
            "No test video was looked at for the choice: features, head, regularisation and the temperature of the "
            f"scores rest on the {probe.training_videos:,} training videos."
        )
    elif run.cross_validated:
        said.append(
            "The data have no test side, so the second figure takes its place: for every fold the whole choice was "
            "made again without its videos."
        )
    else:
        said.append("The data have no test side.")
    if probe.result is None:
        said.append("No class has videos of two groups to hold one out, so nothing was compared.")
        return element("p", " ".join(said))
    said.append(
        f"The first figure also chose among {len(probe.tried):,} candidates, so it rather flatters; ± is the standard "
        "deviation over the folds."
    )
    if probe.groups < probe.training_videos:
        said.append(f"Videos of one recording ({probe.groups:,} groups) were held out together.")
    else:
        said.append(
            "No two videos are known to be of one recording. If some are, cross-validation flatters, and their names "
            "should say so (docs/probe.md)."
        )
    return element("p", " ".join(said))


def _facts(probe: Probe) -> Markup:
    videos = probe.training_videos + probe.test_videos
    computed = min(probe.videos_computed, videos)  # plain and mirrored counts twice if they were computed apart
    kept = f"{computed:,} videos computed in {duration(probe.feature_seconds)}"
    if not computed:
        kept = "all kept from before"
    elif computed < videos:
        kept += ", the others kept from before"
    facts = (
        ("Training videos", f"{probe.training_videos:,}"),
        ("Groups of them", f"{probe.groups:,}"),
        ("Folds", f"{probe.folds}{', drawn twice' if probe.repeats > 1 else ''}" if probe.folds else "none"),
        ("Test videos", f"{probe.test_videos:,}"),
        ("Candidates", f"{len(probe.tried):,}"),
        ("Features", kept),
        ("Features, choice and scores", duration(probe.seconds)),
    )
    return element(
        "dl", [element("div", element("dt", term), element("dd", value)) for term, value in facts], class_="facts"
    )


def _fine_tuning(tuning: FineTuning, cross_validated: bool) -> list[Markup]:
    kept = ("", "kept") if tuning.kept else ("kept", "")
    names = ("The probe", f"Fine-tuned for {tuning.steps:,} steps")
    rows = [
        (name, _percent(top1), f"{loss:.3f}", word)
        for name, (top1, loss), word in zip(names, (tuning.probe, tuning.tuned), kept, strict=True)
    ]
    caption = (
        f"On {tuning.videos:,} training videos that both were fitted without; kept is the one that has more of them "
        "right by more than a standard error"
    )
    header = ("Network", "Top-1 %", "Cross entropy", "Which was kept")
    content = [element("h3", "Fine-tuning"), table(header, rows, (1, 2), caption)]
    if tuning.kept:
        whose = "are of the probe, by cross-validation" if cross_validated else "are of it"
        text = f"The fine-tuned network is now that of the run, and the figures of the page's other sections {whose}."
        content.append(element("p", f"{text} It was trained without these {tuning.videos:,} videos."))
    return content


def _candidates(probe: Probe) -> list[Markup]:
    if not probe.tried:
        return []
    caption = "Best first, by top-1 and then by cross entropy; a larger C regularises less"
    content = [element("h3", "The candidates"), _listed(list(_rows(probe))[:_SHOWN], caption)]
    rest = list(_rows(probe))[_SHOWN:]
    if rest:
        inside = sum(one in probe.members for one, _ in probe.tried[_SHOWN:])
        chosen = f", {inside} of them chosen" if inside else ""
        label = f"The other {len(rest):,} candidates{chosen}"
        content.append(element("details", element("summary", label), _listed(rest, caption)))
    return content


def _listed(rows: Sequence[Sequence[Any]], caption: str) -> Markup:
    found = element("div", table(_HEADER, rows, (0, 2, 6, 7), caption), style="min-width:46rem")
    return element("div", found, class_="scroll", tabindex="0", role="region", aria_label="Candidates, a wide table")


def _rows(probe: Probe) -> Iterator[tuple[Any, ...]]:
    for rank, (one, judged) in enumerate(probe.tried, 1):
        seen = (_stages(one.stages), one.bins, "yes" if one.mirrored else "no")
        found = (_with_spread(judged), f"{judged.loss:.3f}")
        yield (rank, *seen, *_head(one), *found, "yes" if one in probe.members else "")


def _head(one: Candidate) -> tuple[str, str]:
    name, value = _HEADS.get(one.head, (one.head, "{:g}"))
    return name, value.format(one.value)


def _percent(share: float) -> Markup:
    return element("data", f"{100 * share:.2f}", value=repr(share))


def _with_spread(judged: Validated) -> list[Any]:
    return [_percent(judged.top1), f"{_NBSP}±{_NBSP}{100 * judged.spread:.2f}"]
