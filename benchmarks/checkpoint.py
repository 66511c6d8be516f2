"""What a checkpoint costs a run in time, and how long a restart takes to its first new step.

    python benchmarks/checkpoint.py [--arch r2plus3d_18 --batch 2 --clip 8x56x56] [--data_dir DATA --name NAME]

Runs the training command itself, without averaged weights, on a small `motion` (built first where no data set is
named), with a line of the log every step and a checkpoint every tenth, and kills it behind the third. The cost is the
time of the ten steps after a checkpoint less ten times the median of those before the first one: the copy to the host,
which the run waits for, and what the writing in the background takes from it. Then the same command is started again,
and the time until its first new step is in the log is taken. Give it twice with the same `--keep`: the second time
all programs are in the compile cache, as they are where a run is preempted.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import kill  # noqa: E402

from r23d_jax.benchmark import clip_size  # noqa: E402
from r23d_jax.errors import Parser, UserError, run_command  # noqa: E402
from r23d_jax.training.checkpoints import Checkpoints  # noqa: E402
from r23d_jax.training.log import read_metrics  # noqa: E402
from r23d_jax.weights import checkpoint  # noqa: E402

EVERY = 10  # steps between two checkpoints
LAST = 3 * EVERY


def main() -> int:
    parser = Parser(
        prog="python benchmarks/checkpoint.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--arch", default="r2plus3d_18")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--clip", default="8x56x56", help="frames x side x side (default: %(default)s)")
    parser.add_argument("--data_dir", type=Path, help="where a data set is built already")
    parser.add_argument("--name", default="tfds_ucf101/motion_small")
    parser.add_argument("--keep", type=Path, help="folder for workdir and compile cache; default: one that is removed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    flags = parser.parse_args()
    frames, size = clip_size(flags.clip)
    with tempfile.TemporaryDirectory(prefix="r23d_checkpoint_") as temporary:
        folder = flags.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        kill.set_environment(folder)
        data_dir = flags.data_dir or kill.build(folder)
        keys = [
            f"arch={flags.arch}",
            f"model.width={flags.width}",
            f"batch_size={flags.batch}",
            f"clip.frames={frames}",
            f"clip.size={size}",
            f"clip.resize={size}",
            f"dataset.data_dir={data_dir}",
            f"dataset.name={flags.name}",
            f"steps={100 * LAST}",
            "log_every=1",
            f"checkpoint.every_steps={EVERY}",
            "augment.flip_sensitive=()",
        ]
        found = measure(folder / "run", keys)
    if flags.json:
        flags.json.write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(f"{key}: {value}" for key, value in found.items()))
    return 0


def measure(workdir: Path, keys: list[str]) -> dict:
    """Runs, kills, and runs again."""
    shutil.rmtree(workdir, ignore_errors=True)
    run = kill.Run(workdir, keys, defaults=())
    run.start()
    _wait(run, lambda: run.steps()[-1:] > [LAST] and run.newest() == LAST)
    run.stop()
    seconds = {line["step"]: line["seconds"] for line in read_metrics(workdir)}
    took = [seconds[step] - seconds[step - 1] for step in range(2, LAST + 1)]  # the first step's is mostly compilation
    alone = statistics.median(took[1 : EVERY - 1])
    costs = [sum(took[at - 1 : at - 1 + EVERY]) - EVERY * alone for at in (EVERY, 2 * EVERY)]
    newest = checkpoint.find(workdir, "last")
    size = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
    before = time.monotonic()
    Checkpoints(workdir, writer=False).resume()
    reading = time.monotonic() - before
    run.start()
    _wait(run, lambda: run.first_step is not None)
    run.stop()
    return {
        "cores": len(os.sched_getaffinity(0)),
        "checkpoint_mb": round(size / 1e6, 1),
        "step_s": round(alone, 3),
        "checkpoint_adds_s": [round(cost, 3) for cost in costs],
        "steps_it_costs": round(statistics.mean(costs) / alone, 2),
        "read_and_verify_s": round(reading, 2),
        "restart_to_first_step_s": round(run.first_step, 2),
    }


def _wait(run: kill.Run, condition) -> None:
    if not run.until(condition):
        raise UserError(f"the run ended: {run.said()[-500:]}")


if __name__ == "__main__":
    run_command(main)
