"""`python -m r23d_jax.predict --checkpoint DIR VIDEO... [--top 5] [--json FILE]`

Classifies the actions in videos, given as files, folders (searched recursively) or patterns. Labels, frame size, frame
rate and crop come from the checkpoint. A video's scores are the mean softmax over its clips.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.inference import classifier, sources
from r23d_jax.runtime.compile import enable_cache
from r23d_jax.runtime.console import Reporter, add_shared_arguments, bar, positive, seconds
from r23d_jax.runtime.files import write_json
from r23d_jax.viz import overlay, timeline


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    description = __doc__.split("\n\n")[1]
    command = Parser(prog="python -m r23d_jax.predict", description=description)
    add_shared_arguments(command)
    command.add_argument("--top", type=positive, default=5, metavar="K", help="labels per video (default 5)")
    command.add_argument("--json", metavar="FILE", help="write the results there; - prints them instead of the table")
    command.add_argument(
        "--annotate",
        metavar="OUT",
        help="a copy of the video with its labels, OUT.mp4 or OUT.gif; for several videos a folder of .mp4",
    )
    command.add_argument("--cam", action="store_true", help="show the first label's class activation map in that copy")
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
    sliding = (flags.window, flags.step) if flags.timeline or flags.window or flags.step else None
    if flags.cam and not flags.annotate:
        raise UserError("--cam: name the video to show it in, --annotate OUT.mp4")
    if sliding and flags.clips not in (None, "dense"):
        raise UserError(f"--clips {flags.clips}: sliding windows use every clip in them; leave it out")
    if flags.json and flags.json != "-":
        if Path(flags.json).is_dir():
            raise UserError(f"--json {flags.json}: is a folder; name a file")
        Path(flags.json).parent.mkdir(parents=True, exist_ok=True)  # fails before the work, not after
    reporter = Reporter(quiet=flags.json == "-")
    found, problems = sources.find(flags.videos)
    for problem in problems:
        reporter.problem(problem)
    answers = _predict(flags, sliding, found, reporter) if found else []
    if flags.json == "-":
        print(json.dumps(answers, indent=1))
    elif flags.json:
        write_json(Path(flags.json), answers)
    reporter.summary(len(answers), len(found))
    return 1 if reporter.problems else 0


def _predict(flags, sliding, found, reporter) -> list[dict[str, Any]]:
    copies = sources.targets("--annotate", flags.annotate, found, overlay.ENDINGS, ".mp4")
    timelines = sources.targets("--timeline", flags.timeline, found, (".csv", ".png"), ".csv", ending_optional=True)
    enable_cache()
    clf = classifier.load(flags.checkpoint, which=flags.which, dtype=flags.dtype)
    options = {"top": flags.top, "clips": flags.clips, "sliding": sliding, "batch_size": flags.batch}
    answers = []
    with reporter.bar(found) as videos:
        for prediction in clf.iter_predictions(videos, failed=reporter.failed, **options):
            answers.append(prediction.to_dict())
            reporter.say(table(answers[-1]))
            source = prediction.result.source
            reporter.notes(source, prediction.result.scanned.notes)
            try:
                if timelines:
                    timeline.write_prediction(timelines[source], prediction, clf.labels, flags.top)
                if copies:
                    overlay.write_prediction(copies[source], prediction, clf, with_heat=flags.cam)
            except (UserError, OSError) as error:
                reporter.failed(source, error)
    return answers


def table(answer: dict[str, Any], width: int = 30) -> str:
    """Formats a video's result for the terminal: a line with its name, and a line with a bar for each label."""
    clips = answer["clips"]
    lines = [f"{answer['video']}  ({clips} clip{'s' if clips > 1 else ''})"]
    longest = max(len(row["label"]) for row in answer["top"])
    for row in answer["top"]:
        drawn = bar(row["score"], width, sys.stdout)
        lines.append(f"  {row['label']:<{longest}}  {row['score']:6.4f}  {drawn}".rstrip())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_command(main)
