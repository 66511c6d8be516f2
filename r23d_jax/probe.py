"""`python -m r23d_jax.probe --weights WEIGHTS DATA --out RUN`

A classifier for your own clips in minutes. Features of a frozen network are computed once for every video and kept;
heads on them are compared by cross-validation over the training videos, and the best become one network, which is
evaluated once on the test videos. RUN is a workdir like any other: predict, export and features take it.
"""

import argparse
import sys
from pathlib import Path

from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.runtime.console import check_output, positive
from r23d_jax.runtime.signals import EXIT_STATUS, Interrupted


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    command = Parser(prog="python -m r23d_jax.probe", description=__doc__.split("\n\n")[1])
    command.add_argument(
        "data",
        metavar="DATA",
        help="a folder with a folder of videos a class (and train/test or lists, if any), a CSV with the columns path, "
        "label and split, or NAME@DATA_DIR of a built data set",
    )
    command.add_argument(
        "--weights",
        required=True,
        help="a published name (`r23d weights` lists them), a weights file, an address, a checkpoint or a workdir; "
        "several, separated by commas, are used side by side",
    )
    command.add_argument("--out", required=True, type=Path, metavar="RUN", help="workdir of the run")
    command.add_argument("--split", default="1", help="of data with several (default 1)")
    command.add_argument("--shots", type=positive, default=0, metavar="N", help="learn from N videos a class only")
    command.add_argument("--seed", type=int, default=0, help="of folds and of --shots' draw (default 0)")
    command.add_argument(
        "--size",
        type=positive,
        default=0,
        metavar="PIXELS",
        help="side of the network's input (default: the weights' own; on a CPU half of it from 160 pixels on)",
    )
    command.add_argument(
        "--no-mirror", dest="mirrored", action="store_false", help="do not try mirror images, which take half the time"
    )
    command.add_argument(
        "--attention",
        action=argparse.BooleanOptionalAction,
        help="try an attentive head, too (default: from 1000 videos on)",
    )
    command.add_argument(
        "--minutes",
        type=float,
        default=0.0,
        metavar="M",
        help="leave out what would take longer (mirror images, fine-tuning)",
    )
    command.add_argument("--suggest", metavar="FOLDER", help="rank unlabelled videos: which to label next")
    command.add_argument("--finetune", action="store_true", help="then train the network too, if that is better")
    command.add_argument("--skip-unreadable", action="store_true", help="leave out videos that cannot be read")
    command.add_argument(
        "--features", dest="folder", type=Path, metavar="DIR", help="where features are kept (default: the cache)"
    )
    command.add_argument("--arch", help="network of a weights file that does not say it")
    command.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="to compute in")
    command.add_argument(
        "--batch",
        dest="batch_size",
        type=positive,
        default=0,
        metavar="N",
        help="clips a batch (default: by the device)",
    )
    command.add_argument("--debug", action="store_true", help="show tracebacks")
    return command


def main() -> int:
    flags = parser().parse_args()
    if flags.out.exists() and not flags.out.is_dir():
        raise UserError(f"--out {flags.out}: is a file")
    check_output("--out", str(flags.out / "results.json"))

    from r23d_jax.probing import session  # here, because it imports JAX and scikit-learn
    from r23d_jax.runtime.compile import enable_cache

    enable_cache()
    options = {name: value for name, value in vars(flags).items() if name not in ("data", "weights", "out", "debug")}
    try:
        session.run(flags.weights, flags.data, flags.out, say=_say, tell=print, **options)
    except Interrupted:
        done = (flags.out / "checkpoints").exists()
        left = (
            f"the probe in {flags.out} is finished, what came after it is not" if done else "the same command goes on"
        )
        print(f"interrupted: {left}; features are kept", file=sys.stderr)
        return EXIT_STATUS
    print(flags.out / "report.html")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
