"""How cost grows: speed against batch, frames and resolution, devices, compilation with a cache, memory.

    python benchmarks/scaling.py [--only batch,frames,size,devices,cache,memory] [--arch r2plus1d_18] [--json FILE]

- batch, frames, size: clips a second of inference and of the training step around one base config, one of the three
  changed at a time. "of linear" is the rate times what a clip costs, over the base's: 1 where cost is proportional.
- devices: the same training step on 1, 2, 4 and 8 simulated devices, the largest difference of a parameter from that
  of one device, relative to the largest update of a parameter. A deep network that is fed noise amplifies roundings, so
  the yardstick stands beside it: one device that starts from weights changed in their last bit.
- cache: seconds to compile the training step, and from the start of a process to the end of its first step, with an
  empty persistent cache and with what that run left in it.
- memory: what the compiler gives the training step, against batch, with and without `config.remat`.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from r23d_jax import benchmark  # noqa: E402
from r23d_jax import config as configs  # noqa: E402
from r23d_jax.errors import UserError, run_command  # noqa: E402
from r23d_jax.runtime.compile import planned_bytes  # noqa: E402
from r23d_jax.runtime.console import positive, seconds  # noqa: E402
from r23d_jax.runtime.mesh import by_row, check_batch, create_mesh, replicate  # noqa: E402
from r23d_jax.training.speed import measure, noise, programs  # noqa: E402

PARTS = ("batch", "frames", "size", "devices", "cache", "memory")
Table = list[dict]


def overrides(flags: argparse.Namespace, **changes: int) -> list[str]:
    """Of the base config, changed in `batch`, `frames` or `size`."""
    frames, size = benchmark.clip_size(flags.clip)
    size, frames = changes.get("size", size), changes.get("frames", frames)
    arguments = [
        "--arch",
        flags.arch,
        "--batch",
        str(changes.get("batch", flags.batch)),
        "--dtype",
        flags.dtype,
        "--clip",
        f"{frames}x{size}x{size}",
        f"--config.model.width={flags.width}",
    ]
    return benchmark.parse(arguments)[1]


def speed(flags: argparse.Namespace, part: str, values: Sequence[int]) -> Table:
    """Rates with one of batch, frames and size changed."""
    rows, frames_and_size = [], benchmark.clip_size(flags.clip)
    base = {"batch": flags.batch, "frames": frames_and_size[0], "size": frames_and_size[1]}[part]
    cost = {"batch": lambda value: 1, "frames": lambda value: value, "size": lambda value: value**2}[part]
    for value in sorted({base, *values}):
        config = configs.load("common", overrides(flags, **{part: value}))
        found = measure(config, ("step",), flags.rounds, flags.seconds)
        rows.append({part: value, **{name: found[f"{name}_clips_per_s"] for name in ("inference", "train")}})
    at_base = next(row for row in rows if row[part] == base)
    for row in rows:
        for act in ("inference", "train"):
            row[f"{act} of linear"] = row[act] * cost(row[part]) / (at_base[act] * cost(base))
    return rows


def train_step(config: ConfigDict, nudged: bool = False) -> tuple[float, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Seconds to compile, and the parameters before and after one step on a batch of noise.

    With `nudged` the parameters start one float32 further from 0.
    """
    mesh = create_mesh()
    check_batch(config.batch_size, mesh, config.accumulate)
    state, train, *_ = programs(config, mesh)
    batch = jax.device_put(noise(config), by_row(mesh))
    if nudged:
        params = jax.tree.map(lambda value: np.nextafter(value, np.copysign(np.float32(np.inf), value)), state.params)
        state = dataclasses.replace(state, params=replicate(params, mesh))
    before = {name: np.array(value) for name, value in state.params.items()}
    begun = time.perf_counter()
    train = train.lower(state, batch).compile()
    compile_s = time.perf_counter() - begun
    state, _ = train(state, batch)
    return compile_s, before, {name: np.array(value) for name, value in state.params.items()}


def child(flags: argparse.Namespace) -> None:
    """What a process of `devices` and `cache` does: a step; writes the parameters and prints times as JSON."""
    compile_s, before, after = train_step(configs.load("common", flags.child), flags.nudged)
    print(json.dumps({"compile_s": compile_s, "first_step_at": time.time()}))
    if flags.out:
        updates = {f"update {name}": np.abs(after[name] - value).max() for name, value in before.items()}
        np.savez(flags.out, **after, **updates)


def _run_child(changes: Sequence[str], *arguments: str | Path, **environment: str) -> dict:
    """What it printed, and `first_step_s`, from its start to the end of its first step."""
    command = [sys.executable, __file__, *map(str, arguments), "--child", *changes]
    begun = time.time()
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"a process of the benchmark failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return found | {"first_step_s": found["first_step_at"] - begun}


def devices(flags: argparse.Namespace, folder: Path) -> Table:
    """The result on one simulated device against that on several."""
    batch = -(-flags.batch // 8) * 8
    changes = overrides(flags, batch=batch)
    rows, alone = [], None
    for count, *nudged in ((1,), (2,), (4,), (8,), (1, "--nudged")):
        xla = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}".strip()
        _run_child(changes, "--out", folder / "out.npz", *nudged, JAX_PLATFORMS="cpu", XLA_FLAGS=xla)
        with np.load(folder / "out.npz") as arrays:
            found = dict(arrays)
        alone = alone or found
        names = [name for name in found if f"update {name}" in found]
        update = max(float(alone[f"update {name}"]) for name in names)
        difference = max(float(np.abs(found[name] - alone[name]).max()) for name in names)
        name = f"{count}, last bits changed" if nudged else count
        rows.append(
            {
                "devices": name,
                "batch": batch,
                "largest update": update,
                "largest difference": difference,
                "relative": difference / update,
            }
        )
    return rows


def cache(flags: argparse.Namespace, folder: Path) -> Table:
    """Compilation with an empty cache, and with a full one."""
    rows = []
    for name in ("cold", "warm"):
        found = _run_child(overrides(flags), JAX_COMPILATION_CACHE_DIR=str(folder / "cache"))
        rows.append({"cache": name, "compile s": found["compile_s"], "first step s": found["first_step_s"]})
    return rows


def memory(flags: argparse.Namespace) -> Table:
    """GiB of the compiled training step."""
    rows, mesh = [], create_mesh()
    for batch in flags.batches:
        row = {"batch": batch}
        for name, remat in (("GiB", "false"), ("GiB with remat", "true")):
            config = configs.load("common", [*overrides(flags, batch=batch), f"remat={remat}"])
            state, train, *_ = programs(config, mesh)
            planned = planned_bytes(train.lower(state, noise(config)).compile())
            row[name] = None if planned is None else planned / 2**30
        rows.append(row)
    return rows


def markdown(rows: Table) -> str:
    """The rows as a table."""

    def cell(value: object) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = [f"| {' | '.join(rows[0])} |", "|---" * len(rows[0]) + "|"]
    return "\n".join(lines + [f"| {' | '.join(map(cell, row.values()))} |" for row in rows])


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if not set(parts) <= set(PARTS):
        raise argparse.ArgumentTypeError(f"{text}: some of {','.join(PARTS)}")
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=_parts, default=list(PARTS), metavar="PART,PART")
    parser.add_argument("--arch", default="r2plus1d_18")
    parser.add_argument("--width", type=positive, default=64, help="channels of layer1")
    parser.add_argument("--batch", type=positive, default=4, help="of the base config")
    parser.add_argument("--clip", default="16x112x112", metavar="TxHxW", help="of the base config")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--batches", type=positive, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--frames", type=positive, nargs="+", default=[8, 16, 32])
    parser.add_argument("--sizes", type=positive, nargs="+", default=[56, 112, 168])
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--seconds", type=seconds, default=2, help="least length of a round")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--debug", action="store_true", help="show a traceback on errors")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)  # with --out: of the processes that it starts
    parser.add_argument("--out", help=argparse.SUPPRESS)
    parser.add_argument("--nudged", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child:
        return child(flags)
    found = {
        "arch": flags.arch,
        "width": flags.width,
        "batch": flags.batch,
        "clip": flags.clip,
        "dtype": flags.dtype,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
    }
    print(", ".join(f"{key} {value}" for key, value in found.items()))
    for part in flags.only:
        with tempfile.TemporaryDirectory() as folder:
            if part in ("devices", "cache"):
                rows = (devices if part == "devices" else cache)(flags, Path(folder))
            elif part == "memory":
                rows = memory(flags)
            else:
                rows = speed(flags, part, {"batch": flags.batches, "frames": flags.frames, "size": flags.sizes}[part])
        found[part] = rows
        print(f"\n{part}\n\n{markdown(rows)}", flush=True)
    if flags.json:
        flags.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    run_command(main)
