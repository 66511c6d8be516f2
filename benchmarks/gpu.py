"""Everything that has to be measured on a GPU, in one call.

    python benchmarks/gpu.py [--out DIR] [--only PART,PART] [--minutes 60]
    python benchmarks/gpu.py --small        # tries the same on a CPU, with tiny sizes

- torch: `torch_side_by_side.py`, R(2+1)D-18 and R3D-18, bfloat16 then float32, at growing batches until one does not
  fit one of the two; of these the best batch of each side, and their ratio.
- training: `training.py`, the whole loop from shards with this machine's cores, in threads and in processes.
- mfu: `r23d_jax.benchmark`; and again with deterministic operations, for what they cost.
- layers: `layers.py` in bfloat16.

Every part is a process with a time limit; one that fails is reported, and the rest is measured. What the parts print is
printed as it comes; their figures are in DIR, and what is drawn from them in DIR/gpu.json.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from r23d_jax.errors import run_command  # noqa: E402

HERE = Path("benchmarks")
PARTS = ("torch", "training", "mfu", "layers")
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
# The part a command belongs to has this share of the time.
SHARES = {"torch": 0.5, "training": 0.15, "mfu": 0.15, "layers": 0.2}


class Runner:
    """Runs commands one after the other, each within what is left of its part's time.

    Args:
      out: folder of their figures.
      minutes: of all parts together.
    """

    def __init__(self, out: Path, minutes: float):
        self.out, self.seconds, self._ends = out, minutes * 60, 0.0
        self.failures, self.measured = [], 0

    def begin(self, part: str) -> None:
        """Starts the clock of a part."""
        self._ends = time.monotonic() + SHARES[part] * self.seconds
        print(f"\n== {part}", flush=True)

    def run(self, name: str, *command: object, flags: str = "", limit: float = float("inf")) -> dict | None:
        """Runs Python with this command line and `--json`; its figures, or None where it failed."""
        left = min(self._ends - time.monotonic(), limit)
        figures = self.out / f"{name}.json"
        line = [str(word) for word in (*command, "--json", figures)]
        print(f"-- {name}: python {' '.join(line[:-2])}", flush=True)
        if left <= 0:
            return self._failed(name, "no time left for it")
        # Where PyTorch's process and JAX's share the device, neither may take all of its memory at the start.
        environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "PYTHONPATH": str(ROOT)}
        environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
        errors = self.out / f"{name}.err"
        with errors.open("w") as stderr, tempfile.TemporaryDirectory() as scratch:
            process = subprocess.Popen(
                [sys.executable, *line],
                cwd=ROOT,
                env=environment | {"TMPDIR": scratch},
                stderr=stderr,
                start_new_session=True,
            )
            try:
                status = process.wait(left)
            except subprocess.TimeoutExpired:
                return self._failed(name, f"stopped after {left:.0f} s")
            finally:  # with whatever it started itself, which would go on using the device
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if status or not figures.is_file():
            said = [text for text in errors.read_text().splitlines() if text.strip()]
            return self._failed(name, f"exit status {status}: {' / '.join(said[-3:])[-600:]}")
        self.measured += 1
        return json.loads(figures.read_text())

    def _failed(self, name: str, why: str) -> None:
        self.failures.append({"name": name, "why": why})
        print(f"-- {name} FAILED: {why}", flush=True)


def side_by_side(runner: Runner, small: bool) -> list[dict]:
    """The best batch of each side, for every network and type."""
    archs, batches = (("r3d_18",), (1, 2)) if small else (("r2plus1d_18", "r3d_18"), (16, 32, 64, 128, 256))
    size = ("--frames", 4, "--size", 32, "--seconds", 0.2, "--rounds", 1) if small else ("--seconds", 2)
    rows = []
    for dtype in ("float32",) if small else ("bfloat16", "float32"):
        for arch in archs:
            for batch in batches:
                script = (HERE / "torch_side_by_side.py", "--arch", arch, "--dtype", dtype, "--batch", batch)
                found = runner.run(f"torch_{arch}_{dtype}_{batch}", *script, *size)
                if found is None:
                    break  # a larger one fits no better
                rows += [{**row, "batch": batch} for row in found["results"]]
    return _best(rows)


def _best(rows: list[dict]) -> list[dict]:
    best = []
    for arch, dtype, act in dict.fromkeys((row["arch"], row["dtype"], row["act"]) for row in rows):
        same = [row for row in rows if (row["arch"], row["dtype"], row["act"]) == (arch, dtype, act)]
        ours, theirs = (max(same, key=lambda row: row[f"{side}_clips_per_s"]) for side in ("ours", "theirs"))
        rates = ours["ours_clips_per_s"], theirs["theirs_clips_per_s"]
        best.append(
            {
                "arch": arch,
                "dtype": dtype,
                "act": act,
                "ours_clips_per_s": rates[0],
                "ours_batch": ours["batch"],
                "theirs_clips_per_s": rates[1],
                "theirs_batch": theirs["batch"],
                "ratio": round(rates[0] / rates[1], 3),
            }
        )
        print(
            f"{arch} {dtype} {act}: ours {rates[0]:.1f} clips/s (batch {ours['batch']}), torchvision's "
            f"{rates[1]:.1f} (batch {theirs['batch']}), ratio {rates[0] / rates[1]:.2f}",
            flush=True,
        )
    return best


def training(runner: Runner, small: bool) -> dict:
    """The whole loop with threads and with processes."""
    size = ("--batch", 64, "--dtype", "bfloat16", "--steps", 300, "--log_every", 25, "--videos", 1000)
    if small:
        size = (
            "--batch",
            4,
            "--clip",
            "4x32x32",
            "--width",
            8,
            "--steps",
            6,
            "--log_every",
            2,
            "--videos",
            30,
            "--video_frames",
            20,
        )
    count = len(os.sched_getaffinity(0))
    script, part = HERE / "training.py", SHARES["training"] * runner.seconds
    return {
        "threads": runner.run("training_threads", script, *size, limit=part / 2),
        "processes": runner.run("training_processes", script, *size, "--processes", count),
    }


def mfu(runner: Runner, small: bool) -> dict:
    """Rates and MFU of our step, and what deterministic operations cost."""
    size = ("--arch", "r2plus1d_18", "--only", "step", "--batch", 64, "--clip", "16x112x112", "--dtype", "bfloat16")
    if small:
        size = (
            "--arch",
            "r2plus1d_18",
            "--only",
            "step",
            "--batch",
            1,
            "--clip",
            "4x32x32",
            "--rounds",
            1,
            "--seconds",
            0.1,
            "--config.model.width=8",
        )
    plain = runner.run("mfu", "-m", "r23d_jax.benchmark", *size)
    exact = runner.run("mfu_deterministic", "-m", "r23d_jax.benchmark", *size, flags=DETERMINISTIC)
    for name, found in (("plain", plain), ("deterministic", exact)):
        if found:
            print(
                f"{name}: training {found['train_clips_per_s']:.1f} clips/s, MFU {found['mfu']:.1%} of a matrix "
                f"product's {found['matmul_tflops']:.1f} TFLOP/s",
                flush=True,
            )
    if plain and exact:
        cost = 1 - exact["train_clips_per_s"] / plain["train_clips_per_s"]
        print(f"deterministic operations cost {cost:.1%} of the training rate", flush=True)
    return {"plain": plain, "deterministic": exact}


def layers(runner: Runner, small: bool) -> dict:
    """Every formulation of every layer, of both networks."""
    size = ("--batch", 32, "--dtype", "bfloat16", "--rounds", 3, "--seconds", 0.05)
    if small:
        size = (
            "--batch",
            1,
            "--clip",
            "4x32x32",
            "--width",
            8,
            "--dtype",
            "bfloat16",
            "--rounds",
            1,
            "--seconds",
            0.001,
        )
    script = HERE / "layers.py"
    return {
        arch: runner.run(f"layers_{arch}", script, "--arch", arch, *size)
        for arch in (("r3d_18",) if small else ("r2plus1d_18", "r3d_18"))
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of the figures; by default one below the temporary folder")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, divided by commas")
    parser.add_argument("--minutes", type=float, default=60, help="for everything (default 60)")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try it, on a CPU as well")
    parser.add_argument("--debug", action="store_true", help="show a traceback on errors")
    flags = parser.parse_args()
    chosen = flags.only.split(",")
    if not set(chosen) <= set(PARTS):
        parser.error(f"--only {flags.only}: some of {','.join(PARTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is being run ends, too
    machine = _machine()
    if machine["backend"] == "cpu" and not flags.small:
        print("benchmarks/gpu.py: JAX sees no GPU here; --small tries it on a CPU")
        return 0
    out = (flags.out or Path(tempfile.mkdtemp(prefix="benchmark_gpu_"))).resolve()
    out.mkdir(parents=True, exist_ok=True)
    print(", ".join(f"{key} {value}" for key, value in machine.items()) + f"; figures in {out}", flush=True)
    runner, found = Runner(out, flags.minutes), {"machine": machine}
    measures = {"torch": side_by_side, "training": training, "mfu": mfu, "layers": layers}
    for part in chosen:
        runner.begin(part)
        found[part] = measures[part](runner, flags.small)
        (out / "gpu.json").write_text(json.dumps(found | {"failures": runner.failures}, indent=1) + "\n")
    print(
        f"\n{out / 'gpu.json'}; {len(runner.failures)} failed"
        + "".join(f"\n- {failure['name']}: {failure['why']}" for failure in runner.failures)
    )
    return 0 if runner.measured else 1


def _machine() -> dict:
    """Device and versions, asked in a process of its own: this one must not hold the device."""
    code = (
        "import importlib.metadata as m, json, os, jax, platform; d = jax.devices()\n"
        "def v(name):\n    try: return m.version(name)\n    except m.PackageNotFoundError: return 'none'\n"
        "print(json.dumps({'device': f'{len(d)} x {d[0].device_kind}', 'backend': jax.default_backend(), 'cores': "
        "len(os.sched_getaffinity(0)), 'python': platform.python_version(), **{n: v(n) for n in ('jax', 'jaxlib', "
        "'flax', 'torch', 'nvidia-cudnn-cu12', 'nvidia-cudnn-cu13')}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    run_command(main)
