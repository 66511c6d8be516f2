"""The whole training loop fed from shards: clips a second, and hours for UCF101.

    python benchmarks/training.py [--arch r2plus1d_18] [--batch 8] [--dtype float32] [--steps 40] [--json FILE]

Writes a synthetic data set of UCF101's kind (128x171, 186 frames a video, JPEG files of 7.5 kB), trains on it with
`python -m r23d_jax.main`, and reads the run's own log: decoding, transfer, augmentation, step, logging. The first
lines of the log, in which the step is compiled, are left out, and so is the evaluation at the end. The hours are those
of 300 epochs of the 9,537 training videos of UCF101's split 1 at that rate.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

import fake_data  # noqa: E402

from r23d_jax.benchmark import parse as benchmark_parse  # noqa: E402
from r23d_jax.errors import UserError, run_command  # noqa: E402
from r23d_jax.runtime.console import positive  # noqa: E402
from r23d_jax.training.log import read_metrics  # noqa: E402

CLIPS_OF_UCF101 = 300 * 9537


def write_data(folder: Path, videos: int, frames: int) -> None:
    """Writes a data set of UCF101's kind, with all cores."""
    shape = {"frames": frames, "height": 128, "width": 171}
    threads = len(os.sched_getaffinity(0))
    fake_data.write(folder, classes=10, groups=-(-videos // 10), noise=1, shards=8, threads=threads, **shape)


def overrides(flags: argparse.Namespace, data: Path) -> list[str]:
    """Returns what a run changes in the config `common`, by this script's flags."""
    _, changes = benchmark_parse(
        ["--arch", flags.arch, "--batch", str(flags.batch), "--clip", flags.clip, "--dtype", flags.dtype]
    )
    return changes + [
        f"model.width={flags.width}",
        f"steps={flags.steps}",
        f"log_every={flags.log_every}",
        f"checkpoint.every_steps={flags.steps}",
        f"dataset.data_dir={data}",
        "eval.views=1",
        f"workers={flags.workers}",
        f"processes={flags.processes}",
    ]


def train(flags: argparse.Namespace, folder: Path) -> list[dict]:
    """Trains in a process of its own; the lines of its log."""
    write_data(folder / "data", flags.videos, flags.video_frames)
    command = [sys.executable, "-m", "r23d_jax.main", "--config", "common", "--workdir", str(folder / "run")]
    done = subprocess.run(
        [*command, *(f"--config.{override}" for override in overrides(flags, folder / "data"))],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise UserError(f"the run failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    print("\n".join(line for line in done.stderr.splitlines() if "compiled in" in line or "input-bound" in line))
    return [line for line in read_metrics(folder / "run") if "clips_per_second" in line]


def figures(lines: list[dict]) -> dict:
    """Of the log's lines but for the first: the rate over all of them, and of the slowest and fastest one."""
    if len(lines) < 2:
        raise UserError("the run has one line of log: give it more --steps, or a smaller --log_every")
    first, rest = lines[0], lines[1:]
    pairs = zip(lines, rest, strict=False)
    clips = sum(line["clips_per_second"] * (line["seconds"] - before["seconds"]) for before, line in pairs)
    rate = clips / (rest[-1]["seconds"] - first["seconds"])
    rates = [line["clips_per_second"] for line in rest]
    return {
        "clips_per_s": rate,
        "least": min(rates),
        "largest": max(rates),
        "data_wait": statistics.mean(line["data_wait"] for line in rest),
        "hours_for_300_epochs_of_ucf101": CLIPS_OF_UCF101 / rate / 3600,
    }


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="r2plus1d_18")
    parser.add_argument("--width", type=positive, default=64, help="channels of layer1")
    parser.add_argument("--batch", type=positive, default=8)
    parser.add_argument("--clip", default="16x112x112", metavar="TxHxW")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--steps", type=positive, default=30)
    parser.add_argument("--log_every", type=positive, default=5)
    parser.add_argument("--videos", type=positive, default=300)
    parser.add_argument("--video_frames", type=positive, default=186)
    parser.add_argument("--workers", type=int, default=0, help="decoding threads; 0: one a core")
    parser.add_argument("--processes", type=int, default=0, help="decoding processes instead of threads")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--debug", action="store_true", help="show a traceback on errors")
    return parser.parse_args(argv)


def main() -> None:
    flags = parse()
    with tempfile.TemporaryDirectory() as folder:
        found = figures(train(flags, Path(folder)))
    print(
        f"{flags.arch}, {flags.batch} clips of {flags.clip}, {flags.dtype}, {os.cpu_count()} cores, "
        f"{flags.processes or flags.workers or 'as many'} decoding {'processes' if flags.processes else 'threads'}: "
        f"{found['clips_per_s']:.2f} clips/s ({found['least']:.2f} to {found['largest']:.2f} a line of the log), "
        f"waiting for data {found['data_wait']:.0%}; 300 epochs of UCF101's 9,537 videos: "
        f"{found['hours_for_300_epochs_of_ucf101']:.2f} hours"
    )
    if flags.json:
        kept = {key: value for key, value in vars(flags).items() if key not in ("json", "debug")}
        flags.json.write_text(json.dumps(kept | found, indent=1) + "\n")


if __name__ == "__main__":
    run_command(main)
