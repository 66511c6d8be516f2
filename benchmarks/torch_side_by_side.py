"""Our networks beside torchvision's, on the same machine in the same run: inference and training steps.

    python benchmarks/torch_side_by_side.py [--arch r2plus1d_18 r3d_18 mc3_18] [--dtype float32] [--json FILE]

Both sides compute the same: clips that lie on the device already, 101 classes, and in training cross entropy, the
gradients and an SGD step with Nesterov momentum. PyTorch runs in the faster of its two layouts, tried before each
measurement; on a GPU it is also compiled (`torch.compile`), and bfloat16 is its autocast. Rounds take turns; a ratio is
that of two neighbouring rounds, and what is reported is the median over rounds, with the least and the largest. Each
side is a process of its own, since memory and threads of the one slow down the other.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

from torch_sources import import_torchvision  # noqa: E402

from r23d_jax import config as configs  # noqa: E402
from r23d_jax import models  # noqa: E402
from r23d_jax.errors import UserError, run_command  # noqa: E402
from r23d_jax.evaluation.step import make_eval_step  # noqa: E402
from r23d_jax.models.functional import Functional, weights_of  # noqa: E402
from r23d_jax.models.ops import hardware  # noqa: E402
from r23d_jax.models.structure import stage_names  # noqa: E402
from r23d_jax.training import optim  # noqa: E402
from r23d_jax.training.step import init_state, make_train_step  # noqa: E402

CLASSES = 101
LAYOUTS = ("channels_last_3d", "contiguous_format")
Steps = dict[str, Callable[[], None]]


def ours(arch: str, video: np.ndarray, labels: np.ndarray, dtype: str) -> Steps:
    """Our two steps as a run has them, but for the augmentation, which has no counterpart on the other side."""
    model = models.create(arch, CLASSES, rngs=nnx.Rngs(0), dtype=jnp.dtype(dtype))
    stages, network = stage_names(model), Functional(model)
    params, stats = weights_of(model)
    config = configs.load("common", [f"dtype={dtype}"])
    rate = optim.schedule(config, 1000, 100)
    tx = optim.create(config, rate, optim.lr_factors(config, params, stages))
    state = init_state(params, stats, tx, set(params), 0.0, 0)
    batch = jax.device_put(
        {
            "frames": video.astype(jnp.dtype(dtype)),
            "size": np.zeros(()),
            "label": labels,
            "crop": np.zeros(()),
            "index": np.arange(len(labels)),
        }
    )
    train_step = make_train_step(
        config, network, tx, rate, set(params), lambda _, frames, size, label: (frames, jax.nn.one_hot(label, CLASSES))
    )
    options = {"compiler_options": hardware.compiler_options(dtype)}
    train_step = jax.jit(train_step, donate_argnums=0, **options)
    eval_step = jax.jit(make_eval_step(network, lambda frames, size, crop: frames), **options)

    def train() -> None:
        nonlocal state
        state, metrics = train_step(state, batch)
        jax.block_until_ready(metrics)

    def inference() -> None:
        jax.block_until_ready(eval_step(state.evaluated(), batch))

    return {"train": train, "inference": inference}


def theirs(
    arch: str, video: np.ndarray, labels: np.ndarray, dtype: str, device: str, layout: str, compiled: bool
) -> Steps:
    """torchvision's network in PyTorch, in "channels_last_3d" or "contiguous_format", compiled or eager."""
    torch.backends.cudnn.benchmark = True  # tries cuDNN's kernels, as XLA does
    memory = {"memory_format": getattr(torch, layout)}
    network = getattr(import_torchvision().models.video, arch)(num_classes=CLASSES).to(device, **memory)
    clips = torch.from_numpy(video.transpose(0, 4, 1, 2, 3)).to(device).contiguous(**memory)
    target = torch.from_numpy(labels).long().to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.03, momentum=0.9, nesterov=True)
    low = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")
    forward = torch.compile(network) if compiled else network

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def train() -> None:
        network.train()
        with low:
            loss = torch.nn.functional.cross_entropy(forward(clips), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        wait()

    def inference() -> None:
        network.eval()
        with torch.inference_mode(), low:
            forward(clips)
        wait()

    return {"train": train, "inference": inference}


class Side:
    """One side's networks in a process of its own, which takes steps when asked and says how long they took."""

    def __init__(self, name: str, *setting):
        self._connection, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=serve, args=(theirs, name, *setting), daemon=True)
        self._process.start()
        theirs.close()
        self.machine = self._receive()

    def seconds(self, act: str, repeats: int, choice: str = "") -> float:
        """A call of a step, on the average of `repeats`."""
        self._connection.send((choice, act, repeats))
        return self._receive()

    def _receive(self):
        try:
            answer = self._connection.recv()
        except EOFError:
            raise UserError("a side's process died, most likely out of memory: take a smaller --batch") from None
        if isinstance(answer, Exception):
            raise UserError(f"{type(answer).__name__}: {str(answer).splitlines()[0]}")
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.join()


def serve(connection: Connection, name: str, arch: str, shape: tuple[int, ...], dtype: str) -> None:
    """A side's process: answers (choice, act, repeats) with seconds, or with the error."""
    try:
        rng = np.random.default_rng(0)
        video, labels = rng.normal(size=shape).astype(np.float32), np.arange(shape[0], dtype=np.int32) % CLASSES
        if name == "ours":
            choices, machine = {"": ours(arch, video, labels, dtype)}, jax.devices()[0].device_kind
        else:
            device = "cuda" if torch.cuda.is_available() else "cpu"
            torch.set_num_threads(len(os.sched_getaffinity(0)))
            setting = arch, video, labels, dtype, device
            choices = {layout: theirs(*setting, layout, compiled=device == "cuda") for layout in LAYOUTS}
            machine = torch.cuda.get_device_name() if device == "cuda" else device
        connection.send(machine)
        while True:
            choice, act, repeats = connection.recv()
            connection.send(timed(choices[choice][act], repeats))
    except EOFError:
        return
    except Exception as error:  # whatever it is, the other process tells it
        connection.send(error)


def compare(ours: Side, theirs: Side, batch: int, rounds: int, seconds: float) -> dict[str, dict]:
    """Clips a second of each side and their ratio, for training and inference."""
    found = {}
    for act in ("inference", "train"):
        once = {(theirs, layout): _warm(theirs, act, layout) for layout in LAYOUTS}
        best = min(once, key=once.get)
        once = {(ours, ""): _warm(ours, act, ""), best: once[best]}
        repeats = {side: max(1, round(seconds / time)) for side, time in once.items()}
        rates = {side: [] for side in once}
        for _ in range(rounds):
            for side, choice in once:
                rates[side, choice].append(batch / side.seconds(act, repeats[side, choice], choice))
        of_ours, of_theirs = rates.values()
        ratios = [one / other for one, other in zip(of_ours, of_theirs, strict=True)]
        found[act] = {
            "ours_clips_per_s": round(statistics.median(of_ours), 3),
            "theirs_clips_per_s": round(statistics.median(of_theirs), 3),
            "layout": best[1],
            "ratio": round(statistics.median(ratios), 3),
            "ratio_least": round(min(ratios), 3),
            "ratio_largest": round(max(ratios), 3),
        }
    return found


def _warm(side: Side, act: str, choice: str) -> float:
    """Seconds of the faster of two steps, after the first, in which things are compiled."""
    side.seconds(act, 1, choice)
    return min(side.seconds(act, 1, choice) for _ in range(2))


def timed(act: Callable[[], None], repeats: int) -> float:
    """Seconds a call."""
    start = time.perf_counter()
    for _ in range(repeats):
        act()
    return (time.perf_counter() - start) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", default=["r2plus1d_18", "r3d_18", "mc3_18"])
    parser.add_argument("--dtype", nargs="+", default=["float32"], choices=("float32", "bfloat16"))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="least length of a round")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--debug", action="store_true", help="show a traceback on errors")
    flags = parser.parse_args()
    shape = (flags.batch, flags.frames, flags.size, flags.size, 3)
    cores = len(os.sched_getaffinity(0))
    versions = f"{cores} cores, JAX {jax.__version__}, PyTorch {torch.__version__}"
    print(f"{flags.batch} clips of {flags.frames}x{flags.size}x{flags.size}; {versions}", flush=True)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leaves PyTorch its share of a GPU
    results = []
    for dtype in flags.dtype:
        for arch in flags.arch:
            sides = [Side(name, arch, shape, dtype) for name in ("ours", "theirs")]
            for act, row in compare(*sides, flags.batch, flags.rounds, flags.seconds).items():
                results.append({"arch": arch, "dtype": dtype, "act": act, **row})
                print(
                    f"{arch:12} {dtype:8} {act:9}  ours {row['ours_clips_per_s']:8.3f}  torchvision "
                    f"{row['theirs_clips_per_s']:8.3f} clips/s  ratio {row['ratio']:.2f} "
                    f"({row['ratio_least']:.2f} to {row['ratio_largest']:.2f}); {row['layout']}",
                    flush=True,
                )
            machine = f"{sides[0].machine} and {sides[1].machine}, {versions}"
            for side in sides:
                side.close()
    if flags.json:
        content = {"batch": flags.batch, "rounds": flags.rounds, "machine": machine, "results": results}
        flags.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    run_command(main)
