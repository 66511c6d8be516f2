"""Our networks beside torchvision's, on the same machine in the same run: inference and training steps.

    python benchmarks/torch_side_by_side.py [--arch r2plus1d_18 r3d_18 mc3_18] [--dtype float32] [--json FILE]

Both sides compute the same: clips that lie on the device already, 101 classes, and in training cross entropy, the
gradients and an SGD step with Nesterov momentum. PyTorch runs in channels_last_3d, which is its faster layout here;
on a GPU it is also compiled (`torch.compile`), and bfloat16 is its autocast. Rounds take turns; a ratio is that of
two neighbouring rounds, and what is reported is the median over rounds, with the least and the largest.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from torch_sources import import_torchvision  # noqa: E402

from r23d_jax import assemble, models, optim  # noqa: E402
from r23d_jax import config as configs  # noqa: E402
from r23d_jax.errors import run_command  # noqa: E402
from r23d_jax.functional import Functional, weights_of  # noqa: E402
from r23d_jax.models import convolution  # noqa: E402
from r23d_jax.step import init_state, make_eval_step, make_train_step  # noqa: E402

CLASSES = 101
Steps = dict[str, Callable[[], None]]


def ours(arch: str, video: np.ndarray, labels: np.ndarray, dtype: str) -> Steps:
    """Our two steps as a run has them, but for the augmentation, which has no counterpart on the other side."""
    model = models.create(arch, CLASSES, rngs=nnx.Rngs(0), dtype=jnp.dtype(dtype))
    stages, network = assemble.stages(model), Functional(model)
    params, stats = weights_of(model)
    config = configs.load("common", [f"dtype={dtype}"])
    rate = optim.schedule(config, 1000, 100)
    tx = optim.create(config, rate, optim.lr_factors(config, params, stages))
    state = init_state(params, stats, tx, set(params), 0.0, 0)
    batch = jax.device_put(
        {"frames": video.astype(jnp.dtype(dtype)), "size": np.zeros(()), "label": labels, "crop": np.zeros(()),
         "index": np.arange(len(labels))}
    )  # fmt: skip
    train_step = make_train_step(
        config, network, tx, rate, set(params), lambda _, frames, size, label: (frames, jax.nn.one_hot(label, CLASSES))
    )
    options = {"compiler_options": convolution.compiler_options()}
    train_step = jax.jit(train_step, donate_argnums=0, **options)
    eval_step = jax.jit(make_eval_step(network, lambda frames, size, crop: frames), **options)

    def train() -> None:
        nonlocal state
        state, metrics = train_step(state, batch)
        jax.block_until_ready(metrics)

    def inference() -> None:
        jax.block_until_ready(eval_step(state.evaluated(), batch))

    return {"train": train, "inference": inference}


def theirs(arch: str, video: np.ndarray, labels: np.ndarray, dtype: str, device: str) -> Steps:
    """torchvision's network in PyTorch."""
    network = getattr(import_torchvision().models.video, arch)(num_classes=CLASSES)
    network = network.to(device, memory_format=torch.channels_last_3d)
    clips = torch.from_numpy(video.transpose(0, 4, 1, 2, 3)).to(device, memory_format=torch.channels_last_3d)
    target = torch.from_numpy(labels).long().to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.03, momentum=0.9, nesterov=True)
    low = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")
    forward = torch.compile(network) if device == "cuda" else network

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


def compare(sides: dict[str, Steps], batch: int, rounds: int, seconds: float) -> dict[str, dict]:
    """Clips a second of each side and their ratio, for training and inference."""
    found = {}
    for act in ("inference", "train"):
        repeats = {}
        for side, steps in sides.items():
            steps[act]()  # compiled
            repeats[side] = max(1, round(seconds / timed(steps[act], 2)))
        rates = {side: [] for side in sides}
        for _ in range(rounds):
            for side, steps in sides.items():
                rates[side].append(batch / timed(steps[act], repeats[side]))
        ratios = [ours / theirs for ours, theirs in zip(rates["ours"], rates["theirs"], strict=True)]
        found[act] = {
            **{f"{side}_clips_per_s": round(statistics.median(values), 3) for side, values in rates.items()},
            "ratio": round(statistics.median(ratios), 3),
            "ratio_least": round(min(ratios), 3),
            "ratio_largest": round(max(ratios), 3),
        }
    return found


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
    device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    rng = np.random.default_rng(0)
    video = rng.normal(size=(flags.batch, flags.frames, flags.size, flags.size, 3)).astype(np.float32)
    labels = np.arange(flags.batch, dtype=np.int32) % CLASSES
    machine = f"{jax.devices()[0].device_kind}, {cores} cores, JAX {jax.__version__}, PyTorch {torch.__version__}"
    print(f"{flags.batch} clips of {flags.frames}x{flags.size}x{flags.size}; {machine}", flush=True)
    results = []
    for dtype in flags.dtype:
        for arch in flags.arch:
            sides = {"ours": ours(arch, video, labels, dtype), "theirs": theirs(arch, video, labels, dtype, device)}
            for act, row in compare(sides, flags.batch, flags.rounds, flags.seconds).items():
                results.append({"arch": arch, "dtype": dtype, "act": act, **row})
                print(
                    f"{arch:12} {dtype:8} {act:9}  ours {row['ours_clips_per_s']:8.3f}  torchvision "
                    f"{row['theirs_clips_per_s']:8.3f} clips/s  ratio {row['ratio']:.2f} "
                    f"({row['ratio_least']:.2f} to {row['ratio_largest']:.2f})", flush=True,
                )  # fmt: skip
    if flags.json:
        content = {"batch": flags.batch, "rounds": flags.rounds, "machine": machine, "results": results}
        flags.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    run_command(main)
