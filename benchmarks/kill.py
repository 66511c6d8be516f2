"""A training run killed again and again, against the same run left alone.

    python benchmarks/kill.py [--kills 100] [--data_dir DATA --name tfds_ucf101/motion] [--keep DIR] [--json FILE]

Trains a tiny R(2+3)D on a small `motion` (built first where no data set is named) with decoding threads, batches
decoded ahead, random augmentation, dropout, averaged weights and steps of two parts, a checkpoint every few steps and
an evaluation now and then. Then the same command is killed with SIGKILL: at a random
time after it started, in the middle of writing a checkpoint, in an evaluation, or between two steps, and started
again, until it ends; and all over again in a new workdir until there were `--kills` of them. Every run that came
to its end must have the parameters, optimizer, log lines (but for times), evaluations, results and predictions of the
one left alone, bit for bit, and every start must go on from the newest checkpoint that was whole on disk.

Also shown: from the start of a process to its first new step, and what a checkpoint adds to a step.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from r23d_jax.data.records import VideoDataset  # noqa: E402
from r23d_jax.errors import Parser, UserError, run_command  # noqa: E402
from r23d_jax.training.checkpoints import Checkpoints  # noqa: E402
from r23d_jax.training.log import read_metrics  # noqa: E402

MOTION = {"name": "motion_small", "motion": {"groups": 10, "clips": 1, "frames": 16, "size": 32}}
BATCH, SAVE_EVERY, EVALUATE_EVERY = 8, 4, 6  # clips; steps
CONFIG = (
    "model.width=4",
    "model.layers=(1,1,1,1)",
    "model.dropout=0.2",
    "clip.frames=4",
    "clip.size=16",
    "clip.resize=20",
    f"batch_size={BATCH}",
    f"checkpoint.every_steps={SAVE_EVERY}",
    "lr=0.02",
    "log_every=1",
    "checkpoint.keep=2",
    "workers=2",
    "ema=0.9",
    "accumulate=2",
    "augment.flip=0.5",
    "augment.flip_sensitive=()",
    "augment.brightness=0.2",
    "augment.mixup=0.2",
)
TIMES = ("seconds", "clips_per_second", "data_wait")
MOMENTS = ("any time", "step", "checkpoint", "evaluation")
LIMIT = 900  # seconds without progress; a busy machine is slow


class Run:
    """One workdir, its processes, and what was seen of it from outside."""

    def __init__(self, workdir: Path, overrides: list[str], defaults: tuple[str, ...] = CONFIG):
        self.workdir, self.checkpoints = workdir, workdir / "checkpoints"
        flags = [f"--config.{key}" for key in (*defaults, *overrides)]
        self._command = [sys.executable, "-m", "r23d_jax.main", "--config", "demo", "--workdir", str(workdir), *flags]
        self._error = workdir.with_suffix(".stderr")
        self.first_steps: list[float] = []  # seconds from a start to its first new step
        self.lost: list[str] = []
        self.left: Counter[str] = Counter()  # what kills left behind
        self.ended = False

    def start(self) -> None:
        self._newest, self._log = self.newest(), self._inode()
        self._began, self.first_step = time.monotonic(), None
        with self._error.open("w") as error:
            self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=error)

    def kill_at(self, moment: str, rng: random.Random, typical: float) -> str:
        """Waits for the moment, kills; returns which moment it was, "" if the run ended before."""
        if moment == "any time":
            until = self._began + rng.uniform(0, 2 * typical)
            found = self.until(lambda: time.monotonic() > until)
        else:
            for _ in range(rng.randint(1, 3)):
                begun = self.steps()
                if not self.until(lambda begun=begun: self.steps()[-1:] > begun[-1:]):
                    break
            conditions = {"step": lambda: True, "checkpoint": self._writing, "evaluation": self._evaluating}
            found = self.until(conditions[moment])
            time.sleep(rng.uniform(0, 0.1))
        if not found and self._process.poll() is not None:
            return self._end()
        self.stop()
        self._note_left()
        self._check_resumed()
        return moment

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def finish(self) -> None:
        if self.until(lambda: False):
            raise UserError(f"{self.workdir}: no end after {LIMIT} s")
        self._end()

    def steps(self) -> list[int]:
        return [line["step"] for line in read_metrics(self.workdir) if "loss" in line]

    def newest(self) -> int:
        """The newest checkpoint that is whole, 0 for none."""
        return max((int(path.name) for path in self.checkpoints.glob("[0-9]*")), default=0)

    def said(self) -> str:
        return self._error.read_text()

    def until(self, condition) -> bool:
        """Waits; False if the process ended before."""
        while not condition():
            if self._process.poll() is not None:
                return False
            if time.monotonic() > self._began + LIMIT:
                raise UserError(f"{self.workdir}: no progress for {LIMIT} s")
            self._note_first()
            time.sleep(0.002)
        self._note_first()
        return True

    def _note_first(self) -> None:
        # Lines of later steps than the checkpoint's are dropped at the start, and the log is then another file.
        gone_on = self.first_step is None and self._newest and self._inode() != self._log
        if gone_on and self.steps()[-1:] > [self._newest]:
            self.first_step = time.monotonic() - self._began

    def _note_left(self) -> None:
        log = self.workdir / "metrics.jsonl"
        lines = log.read_text() if log.is_file() else ""
        self.left["a half-written checkpoint"] += self._writing()
        self.left["a half-done evaluation"] += self._evaluating()
        self.left["a half-written line of the log"] += bool(lines) and not lines.endswith("\n")
        self.left["steps behind the last checkpoint"] += max(self.steps(), default=0) > self.newest()

    def _inode(self) -> int:
        log = self.workdir / "metrics.jsonl"
        return log.stat().st_ino if log.is_file() else 0

    def _writing(self) -> bool:
        return any(self.checkpoints.glob(".writing-*"))

    def _evaluating(self) -> bool:
        scores, last = self.checkpoints / "scores.json", max(self.steps(), default=0)
        done = scores.is_file() and f'"{last}"' in scores.read_text()
        return last > 0 and last % EVALUATE_EVERY == 0 and not done

    def _end(self) -> str:
        if self._process.wait() != 0:
            raise UserError(f"{self.workdir}: ended with {self._process.returncode}: {self.said()[-500:]}")
        self._check_resumed()
        self.ended = True
        return ""

    def _check_resumed(self) -> None:
        """Whether the process that is over had gone on from the newest checkpoint."""
        if self.first_step is not None:
            self.first_steps.append(self.first_step)
        said = self.said()
        if "warning:" in said:
            self.lost.append(said)
        if "learning rate" in said and self._newest and f"resuming at step {self._newest} of" not in said:
            self.lost.append(f"step {self._newest} was whole, but: {said}")


def differences(run: Path, other: Path) -> list[str]:
    """What is not the same, bit for bit, of two finished runs."""
    found = []
    for kind, ours, theirs in zip(("weight", "state"), *(_state(w) for w in (run, other)), strict=True):
        found += [f"{kind} {name}" for name in theirs if not np.array_equal(ours[name], theirs[name])]
        found += [f"{kind} {name} is one too many" for name in ours if name not in theirs]
    ours, theirs = (
        [{k: v for k, v in line.items() if k not in TIMES} for line in read_metrics(w)] for w in (run, other)
    )
    found += [f"log line {b}" for a, b in zip(ours, theirs, strict=False) if a != b]
    found += [f"{len(ours)} log lines, not {len(theirs)}"] if len(ours) != len(theirs) else []
    for name in ("results.json", "checkpoints/scores.json"):
        ours, theirs = (json.loads((w / name).read_text()) for w in (run, other))
        keys = [key for key in {**theirs, **ours} if ours.get(key) != theirs.get(key)]
        found += [f"{name}: {key} is {ours.get(key)!r}, not {theirs.get(key)!r}" for key in keys]
    with np.load(run / "predictions.npz") as ours, np.load(other / "predictions.npz") as theirs:
        found += [f"predictions: {name}" for name in theirs if not np.array_equal(ours[name], theirs[name])]
    return found


def _state(workdir: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Weights, and optimizer, keys and what else a run goes on from, of its last checkpoint."""
    weights, rest, _, _ = Checkpoints(workdir, writer=False).resume()
    return weights, rest


def checkpoint_cost(workdir: Path) -> tuple[float, float]:
    """Median seconds of a step, and of what a step that a checkpoint is written beside takes longer."""
    after, others, before = [], [], 0.0
    for line in read_metrics(workdir):
        if "loss" in line:
            step, spent, before = line["step"], line["seconds"] - before, line["seconds"]
            if step > 2 and (step - 1) % EVALUATE_EVERY:  # an evaluation waits for the checkpoint
                (others if (step - 1) % SAVE_EVERY else after).append(spent)
    return statistics.median(others), statistics.median(after) - statistics.median(others)


def main() -> int:
    parser = Parser(
        prog="python benchmarks/kill.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--steps", type=int, default=36, help="of a run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--data_dir", type=Path, help="where a data set is built already")
    parser.add_argument("--name", default="tfds_ucf101/motion")
    parser.add_argument("--keep", type=Path, help="folder for the workdirs; default: one that is removed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="r23d_kill_") as temporary:
        folder = flags.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        set_environment(folder)
        data_dir, name = flags.data_dir or build(folder), flags.name if flags.data_dir else "tfds_ucf101/motion_small"
        found = _kill(folder, data_dir, name, flags)
    if flags.json:
        flags.json.write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(f"{key}: {value}" for key, value in found.items()))
    return 1 if found["differences"] or found["checkpoints_lost"] else 0


def set_environment(folder: Path) -> None:
    """On the CPU, with a compile cache, for this process and those it starts."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


def build(folder: Path) -> Path:
    """A small `motion`, unless it is there."""
    if (folder / "data").is_dir():
        return folder / "data"
    command = [Path(sys.executable).parent / "tfds", "build", "tfds_ucf101", "--config", json.dumps(MOTION)]
    done = subprocess.run([*command, f"--data_dir={folder / 'data'}"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"motion could not be built: {done.stderr[-500:]}")
    return folder / "data"


def _kill(folder: Path, data_dir: Path, name: str, flags: argparse.Namespace) -> dict:
    epoch = len(VideoDataset.open(data_dir, name).subset("1", "train")) / BATCH
    overrides = [f"steps={flags.steps}", f"dataset.data_dir={data_dir}", f"dataset.name={name}"]
    overrides.append(f"eval.every_epochs={EVALUATE_EVERY / epoch}")
    whole = Run(folder / "whole", overrides)
    shutil.rmtree(whole.workdir, ignore_errors=True)
    whole.start()
    whole.finish()
    rng, moments, runs = random.Random(flags.seed), Counter(), []
    typical = 10.0
    while sum(moments.values()) < flags.kills or not runs[-1].ended:
        if not runs or runs[-1].ended:
            runs.append(Run(folder / f"killed{len(runs)}", overrides))
            shutil.rmtree(runs[-1].workdir, ignore_errors=True)
        run = runs[-1]
        run.start()
        if sum(moments.values()) >= flags.kills:
            run.finish()
            break
        moment = run.kill_at(rng.choice(MOMENTS), rng, typical)
        moments.update([moment] if moment else [])
        typical = statistics.median(run.first_steps or [typical])
        at = max(run.steps(), default=0)
        print(f"{sum(moments.values())} kills: {moment or 'it ended first'}, at step {at}", file=sys.stderr)
    step, saving = checkpoint_cost(whole.workdir)
    starts = [seconds for run in runs for seconds in run.first_steps]
    return {
        "kills": sum(moments.values()),
        "moments": dict(moments),
        "left_behind": dict(sum((run.left for run in runs), Counter())),
        "runs": len(runs),
        "differences": [f"{r.workdir.name}: {what}" for r in runs for what in differences(r.workdir, whole.workdir)],
        "checkpoints_lost": [what for run in runs for what in run.lost],
        "restart_to_first_step_s": round(statistics.median(starts), 2) if starts else None,
        "step_s": round(step, 4),
        "checkpoint_adds_s": round(saving, 4),
    }


if __name__ == "__main__":
    run_command(main)
