"""`python -m r23d_jax.predict --checkpoint DIR VIDEO... [--top 5] [--json FILE]`

Says what is done in videos. Files, folders (searched to any depth) and patterns. Labels, frame size, frame
rate and crop come with the checkpoint. A video's scores are the mean of its clips' softmax.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.evaluation import metrics
from r23d_jax.inference import classifier, runner, sources
from r23d_jax.inference import clips as video_clips
from r23d_jax.inference.sources import VideoSource
from r23d_jax.runtime.compile import enable_cache
from r23d_jax.runtime.console import Reporter, add_shared_arguments, bar, positive, printable, seconds
from r23d_jax.runtime.files import write_json
from r23d_jax.viz import overlay, timeline


def parser() -> argparse.ArgumentParser:
    """The command line."""
    description = __doc__.split("\n\n")[1]
    command = Parser(prog="python -m r23d_jax.predict", description=description)
    add_shared_arguments(command)
    command.add_argument("--top", type=positive, default=5, metavar="K", help="labels a video (default 5)")
    command.add_argument("--json", metavar="FILE", help="write the results there; - prints them instead of the table")
    command.add_argument(
        "--annotate",
        metavar="OUT",
        help="a copy of the video with its labels, OUT.mp4 or OUT.gif; for several videos a folder of .mp4",
    )
    command.add_argument("--cam", action="store_true", help="show in that copy where the network saw the first label")
    command.add_argument(
        "--timeline",
        metavar="OUT",
        help="scores of sliding windows, as OUT.csv and OUT.png; for several videos a folder",
    )
    command.add_argument("--window", type=seconds, default=0, metavar="S", help="seconds of a window (default: a clip)")
    command.add_argument("--step", type=seconds, default=0, metavar="S", help="seconds between windows' starts")
    return command


def main() -> int:
    flags = parser().parse_args()
    sliding = bool(flags.timeline or flags.window or flags.step)
    if flags.cam and not flags.annotate:
        raise UserError("--cam: name the video to show it in, --annotate OUT.mp4")
    if sliding and flags.clips not in (None, "dense"):
        raise UserError(f"--clips {flags.clips}: sliding windows use every clip in them; leave it out")
    if flags.json and flags.json != "-":
        if Path(flags.json).is_dir():
            raise UserError(f"--json {flags.json}: is a folder; name a file")
        Path(flags.json).parent.mkdir(parents=True, exist_ok=True)  # now, not when the work is done
    reporter = Reporter(quiet=flags.json == "-")
    found, problems = sources.find(flags.videos)
    for problem in problems:
        reporter.problem(problem)
    copies, timelines = _copies(flags.annotate, found), _timelines(flags.timeline, found)
    answers = _predict(flags, sliding, found, reporter, copies, timelines) if found else []
    if flags.json == "-":
        print(json.dumps(answers, indent=1))
    elif flags.json:
        write_json(Path(flags.json), answers)
    reporter.summary(len(answers), len(found))
    return 1 if reporter.problems else 0


def _predict(flags, sliding, found, reporter, copies, timelines) -> list[dict[str, Any]]:
    enable_cache()
    network = classifier.Classifier(*classifier.open_checkpoint(flags.checkpoint, flags.which), flags.dtype)
    spec, labels = network.card.preprocessing, classifier.labels_of(network.card)
    views = flags.clips or "dense"
    slid = (flags.window, flags.step) if sliding else None
    protocol = classifier.protocol(network.card, views, flags.dtype, slid)

    def make_plan(scanned):
        if sliding:
            return video_clips.sliding(scanned, spec, flags.window, flags.step)
        return video_clips.plan(scanned, spec, views)

    answers = []
    with reporter.bar(found) as videos:
        for result in runner.run(network, network.logits(), videos, make_plan, reporter.failed, flags.batch):
            scores = metrics.softmax(result.outputs)
            top = top_labels(scores.mean(axis=0), labels, flags.top)
            answers.append({"video": str(result.source.path), "top": top, "clips": len(scores), "protocol": protocol})
            reporter.say(table(answers[-1]))
            try:
                if timelines:
                    _write_timeline(timelines[result.source], result, scores, labels, flags.top)
                if copies:
                    _write_copy(copies[result.source], result, scores, labels, network if flags.cam else None)
            except (UserError, OSError) as error:
                reporter.failed(result.source, error)
    return answers


def top_labels(scores: np.ndarray, labels: Sequence[str], top: int) -> list[dict[str, Any]]:
    """`{"label", "score"}` of the highest scores, highest first; ties in the order of the labels."""
    best = np.argsort(-scores, kind="stable")[:top]
    return [{"label": labels[index], "score": float(scores[index])} for index in best]


def table(answer: dict[str, Any], width: int = 30) -> str:
    """One video's result for the terminal: a line with its name, and one a label with its bar."""
    clips = answer["clips"]
    lines = [f"{answer['video']}  ({clips} clip{'s' if clips > 1 else ''})"]
    longest = max(len(row["label"]) for row in answer["top"])
    for row in answer["top"]:
        drawn = bar(row["score"], width, sys.stdout)
        lines.append(f"  {row['label']:<{longest}}  {row['score']:6.4f}  {drawn}".rstrip())
    return "\n".join(lines) + "\n"


def _copies(given: str | None, found: list[VideoSource]) -> dict[VideoSource, Path]:
    """Where `--annotate` writes each video's copy."""
    if not given:
        return {}
    path = Path(given)
    if path.suffix.lower() in overlay.ENDINGS:
        return _only(f"--annotate {given}", path, found)
    if path.suffix and not path.is_dir():
        raise UserError(f"--annotate {given}: must end in {' or '.join(overlay.ENDINGS)}, or be a folder")
    return dict(zip(found, sources.outputs(found, path, ".mp4"), strict=True))


def _timelines(given: str | None, found: list[VideoSource]) -> dict[VideoSource, Path]:
    """Where `--timeline` writes each video's table; the picture lies beside it."""
    if not given:
        return {}
    path = Path(given)
    if path.suffix.lower() in (".csv", ".png"):
        return _only(f"--timeline {given}", path.with_suffix(".csv"), found)
    if len(found) == 1 and not path.is_dir():
        return {found[0]: path.with_name(path.name + ".csv")}
    return dict(zip(found, sources.outputs(found, path, ".csv"), strict=True))


def _only(option: str, path: Path, found: list[VideoSource]) -> dict[VideoSource, Path]:
    if len(found) > 1:
        raise UserError(f"{option}: there are {len(found)} videos; name a folder")
    return dict.fromkeys(found, path)


def _window_scores(result: runner.VideoResult, scores: np.ndarray) -> np.ndarray:
    """Mean of each window's clips, float [windows, classes]."""
    return np.stack([scores[rows].mean(axis=0) for _, _, rows in result.plan.windows])


def _write_timeline(
    path: Path, result: runner.VideoResult, scores: np.ndarray, labels: Sequence[str], top: int
) -> None:
    spans = [(start, end) for start, end, _ in result.plan.windows]
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = _window_scores(result, scores)
    timeline.write_csv(path, spans, rows, labels, top)
    timeline.write_png(path.with_suffix(".png"), spans, rows, labels, printable(result.source.path.name, sys.stdout))


def _write_copy(
    path: Path,
    result: runner.VideoResult,
    scores: np.ndarray,
    labels: Sequence[str],
    network: classifier.Classifier | None,
) -> None:
    """The annotated copy; with class activation maps of the video's first label where a network is given."""
    means = _window_scores(result, scores)
    edges = timeline.edges_of([(start, end) for start, end, _ in result.plan.windows])
    segments = [
        overlay.Segment(start, end, [(row["label"], row["score"]) for row in top_labels(mean, labels, 3)])
        for start, end, mean in zip(edges[:-1], edges[1:], means, strict=True)
    ]
    heat = None
    if network is not None:
        heat = overlay.class_heat(network, result, int(np.argmax(scores.mean(axis=0))))
    overlay.write(path, result.source.path, result.scanned.fps, segments, heat)


if __name__ == "__main__":
    run_command(main)
