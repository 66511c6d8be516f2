"""The eleven rows of the study at reduced size: `python benchmarks/rows.py --data_dir DIR [--rows 1,5,11]`.

Runs the README's commands on a data set that was built in RGB and flow, one after another, and then writes their table.
Published weights have the published width: for a narrower network, files of random numbers with the same tensor names
are made first (`synthetic-...`), so that reading, inflating and fine-tuning are exercised; what such a row scores says
nothing of the weights. A row whose results are there is skipped. Rows 4, 7 and 10 fuse what the others left.
"""

import argparse
import json
import multiprocessing
import pickle
import shlex
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

FUSED = {4: (2, 3), 7: (5, 6), 10: (8, 9)}
DATA = {1: "rgb", 2: "rgb", 3: "tvl1", 5: "rgb", 6: "farneback", 8: "rgb", 9: "farneback", 11: "rgb"}
WIDTH = 64  # of the published weights


# --- synthetic initial weights --------------------------------------------------------------------------


def random_values(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Values a network can be trained from: He's normal kernels, neutral statistics."""
    rng = np.random.default_rng(seed)
    values = {}
    for name, shape in shapes.items():
        if name.endswith("kernel"):
            values[name] = rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape).astype(np.float32)
        else:
            values[name] = np.full(shape, float(name.endswith((".scale", ".var"))), np.float32)
    return values


def shapes_of(arch: str, **arguments) -> dict[str, tuple[int, ...]]:
    from r23d_jax import models
    from r23d_jax.weights import architecture

    return {name: leaf.shape for name, leaf in models.flatten(architecture.abstract(arch, arguments)).items()}


def write_vmz(path: Path, arch: str, width: int, channels: int, frames: int) -> None:
    """A Caffe2 pickle with VMZ's blob names."""
    from r23d_jax.weights.families import vmz

    shapes = shapes_of(arch, num_classes=400, frames=frames, in_channels=channels, width=width)
    blocks = dict.fromkeys(name.rsplit(".", 1)[0].split(".conv")[0] for name in shapes if ".conv1." in name)
    probe = {"last_out_L400_w"} | ({"conv1_middle_w"} if "stem.3.kernel" in shapes else set())
    for number, block in enumerate(blocks):  # the names by which the table knows depth and kind
        probe.add(f"comp_{number}_conv_1_w")
        probe |= {f"comp_{number}_conv_{c}_middle_w" for c in (1, 2) if f"{block}.conv{c}.0.3.kernel" in shapes}
    blobs, errors = vmz.table(probe).export(random_values(shapes))
    if errors:
        raise RuntimeError(errors[0])
    path.write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))


def write_slim(prefix: Path, width: int) -> None:
    """A TensorFlow checkpoint with TF-Slim's names for Inception-v1: I3D in two dimensions."""
    import tensorflow as tf

    from r23d_jax.weights.families import inception

    shapes = shapes_of("i3d", num_classes=1001, width=width)
    flat = {name: (1, *shape[1:]) if len(shape) == 5 else shape for name, shape in shapes.items()}
    values = {name: value for name, value in random_values(flat).items() if not name.endswith(".scale")}
    tensors, errors = inception.SLIM.export(values)
    if errors:
        raise RuntimeError(errors[0])
    names = sorted(tensors)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(tensors[name]) for name in names],
    )


def initial_weights(folder: Path, published: str, arch: str, width: int, channels: int, frames: int) -> Path:
    """The synthetic file of a publication, made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"synthetic-{published}-width{width}{'.pkl' if published.startswith('vmz-') else ''}"
    if not path.exists() and not path.with_name(f"{path.name}.index").exists():
        if published.startswith("vmz-"):
            write_vmz(path, arch, width, channels, frames)
        else:
            write_slim(path, width)
    return path


# --- rows -----------------------------------------------------------------------------------------------


def command(row: int, args: argparse.Namespace) -> list[str]:
    """The command line of a row, without the interpreter."""
    from r23d_jax import config as configs
    from r23d_jax.weights import clip_values

    workdir = args.out / f"row{row}"
    if row in FUSED:
        rgb, flow = (str(args.out / f"row{part}") for part in FUSED[row])
        return ["-m", "r23d_jax.two_stream", rgb, flow, "--out", str(workdir)]
    config = clip_values.of_config(configs.load(f"rows:{row}"))
    settings = {
        "dataset.data_dir": args.data_dir,
        "dataset.name": getattr(args, DATA[row]) or config.dataset.name,
        "clip.frames": args.frames if row != 11 else min(args.frames, 16),
        "clip.size": args.size,
        "clip.resize": args.resize or _in_proportion(config, args.size),
        "model.width": args.width,
        "epochs": args.epochs,
        "batch_size": args.batch_size,
        "seed": args.seed,
    }
    if args.steps:
        settings["steps"] = args.steps
    if config.eval.views != "dense":
        settings["eval.views"] = args.views
    if config.init_from and (args.width != WIDTH or args.synthetic):
        channels = 2 if config.init_from.startswith("vmz-") and DATA[row] == "farneback" else 3
        wanted = (args.out / "weights", config.init_from, config.arch, args.width, channels, config.clip.frames)
        # In a process of its own: TensorFlow would stay in memory for as long as the rows train.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            settings["init_from"] = pool.submit(initial_weights, *wanted).result()
    overrides = [f"--config.{key}={value}" for key, value in settings.items()]
    return ["-m", "r23d_jax.main", "--config", f"configs/rows.py:{row}", "--workdir", str(workdir), *overrides]


def _in_proportion(config, size: int) -> str:
    sides = config.clip.resize if isinstance(config.clip.resize, tuple) else (config.clip.resize,)
    sides = [str(round(side * size / config.clip.size + 1e-6)) for side in sides]
    return ",".join(sides)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", help="built data sets; without it there is nothing to run")
    parser.add_argument("--out", type=Path, default=Path("runs/rows"), help="workdirs and table (default: runs/rows)")
    parser.add_argument("--rows", default="1,2,3,4,5,6,7,8,9,10,11", help="with commas between (default: all)")
    parser.add_argument("--frames", type=int, default=32, help="of a clip (default: 32; row 11: at most its 16)")
    parser.add_argument("--size", type=int, default=56, help="side of the network's input (default: 56)")
    parser.add_argument("--resize", help="of the frames before the crop (default: in proportion)")
    parser.add_argument("--width", type=int, default=16, help="channels of the first stage (default: 16; published 64)")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--steps", type=int, default=0, help="instead of epochs")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--views", type=int, default=2, help="where the row scores a number of views (default: 2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--synthetic", action="store_true", help="synthetic initial weights at width 64, too")
    for kind in ("rgb", "tvl1", "farneback"):
        parser.add_argument(f"--{kind}", help=f"data set of the {kind} rows (default: the rows' own)")
    args = parser.parse_args()
    if not args.data_dir:
        print("rows: name built data sets with --data_dir to run the eleven rows")
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    chosen = sorted({int(row) for row in args.rows.split(",")}, key=lambda row: (row in FUSED, row))
    times, failed = [], []
    for row in chosen:
        workdir = args.out / f"row{row}"
        if (workdir / "results.json").is_file():
            print(f"row {row}: there already", flush=True)
            continue
        line = command(row, args)
        print(f"$ python {shlex.join(line)}", flush=True)
        began = time.perf_counter()
        if subprocess.run([sys.executable, *line]).returncode:
            failed.append(row)
            continue
        times.append({"row": row, "seconds": round(time.perf_counter() - began, 1)})
        print(f"row {row}: {times[-1]['seconds']} s", flush=True)
    with (args.out / "times.jsonl").open("a") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in times)
    there = [str(args.out / f"row{row}") for row in range(1, 12) if (args.out / f"row{row}" / "results.json").is_file()]
    line = [
        "-m",
        "r23d_jax.table",
        *there,
        "--study",
        "--out",
        str(args.out / "table.md"),
        "--html",
        str(args.out / "table.html"),
    ]
    print(f"$ python {shlex.join(line)}", flush=True)
    done = subprocess.run([sys.executable, *line]).returncode
    if failed:
        print(f"rows that failed: {', '.join(map(str, failed))}", file=sys.stderr)
    return 1 if failed or done else 0


if __name__ == "__main__":
    sys.exit(main())
