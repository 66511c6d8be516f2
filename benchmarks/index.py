"""Start-up time and memory of building and of opening a data set of Kinetics-400's size.

    python benchmarks/index.py [--videos 240000] [--shards 2048] [--rounds 3] [--json FILE]

The data set is simulated: all its shards are one file of tiny records, linked under many names, and its videos differ
in name and label. The build is the real one, of so many folders of pictures that are one and the same folder; it is
stopped when its first shard is finished, so that what is timed is its start. Every phase runs in a process of its own;
times are wall clock, medians over the rounds, and memory is the largest resident size of that process. For Linux.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

CLASSES = 400
_PHASES = ("import", "open", "shuffle", "balance", "read", "build", "finish")
_READ = 4096  # clips


def entries(count: int, frames: int) -> list[dict[str, Any]]:
    """The index's entries of simulated videos, with names as Kinetics has them, in the order of their hashes."""
    rng = np.random.default_rng(0)
    return [
        {
            "name": f"class {i % CLASSES:03d} with words/{rng.bytes(8).hex()}_{i:06d}_{i + 10:06d}",
            "label": i % CLASSES,
            "group": -1,
            "clip": -1,
            "fps": 29.97,
            "num_frames": frames,
            "height": 16,
            "width": 16,
            "splits": {"1": ("train", "train", "train", "val", "test")[i // CLASSES % 5]},
            "sha256": f"{i:064x}",
            "origin": f"{i:011d}",
        }
        for i in range(count)
    ]


def write_dataset(data_dir: Path, videos: int, shards: int) -> None:
    """A data set whose shards are all the same file."""
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_generated_pb2 as proto

    from r23d_jax.data import index

    folder = data_dir / "tfds_ucf101/simulated/1.1.0"
    folder.mkdir(parents=True)
    example = proto.Example()
    picture = simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8))
    example.features.feature["frames"].bytes_list.value.extend([picture] * 8)
    each, names = videos // shards, [f"tfds_ucf101-videos.array_record-{i:05d}-of-{shards:05d}" for i in range(shards)]
    writer = ArrayRecordWriter(str(folder / names[0]), "group_size:1,uncompressed")
    for _ in range(each):
        writer.write(example.SerializeToString())
    writer.close()
    for name in names[1:]:
        os.link(folder / names[0], folder / name)
    size = (folder / names[0]).stat().st_size
    head = {
        "format": index.FORMAT,
        "config": {"name": "simulated"},
        "class_names": [f"class {i:03d} with words" for i in range(CLASSES)],
        "splits": ["1"],
        "fingerprint": "0" * 64,
        "shards": {name: {"bytes": size, "records": each} for name in names},
    }
    index.write_columns(folder, index.columns(entries(each * shards, 8), ["1"]))
    (folder / index.INDEX).write_text(json.dumps(head))


def phase(name: str, scratch: Path, videos: int) -> dict[str, float]:
    """Runs one phase in this process; returns its figures."""
    before = 0.0
    if name in ("build", "finish"):
        act = {"build": _build, "finish": _finish}[name](scratch, videos)
        before = _megabytes()
    else:
        from r23d_jax.data import order
        from r23d_jax.data.records import VideoDataset

        if name == "read":
            from r23d_jax.data import loader

        def act() -> None:
            if name == "import":
                return
            dataset = VideoDataset.open(scratch / "data")
            train = dataset.subset("1", "train")
            if name == "shuffle":
                order.shuffled(train, 0)(0)
            elif name == "balance":
                order.balanced(dataset, train, 0)(0)
            elif name == "read":
                options = {"frames": 4, "batch_size": 64, "seed": 0, "num_steps": _READ // 64}
                for batch in loader.train_batches(dataset, train, **options):
                    del batch

    start = time.perf_counter()
    act()
    return {"seconds": time.perf_counter() - start, "megabytes": _megabytes(), "before": before}


def _build(scratch: Path, videos: int):
    """From a plan to its first finished shard; the plan is made before."""
    from tfds_ucf101 import media, pipeline, sources, unfinished, writing
    from tfds_ucf101.config import VideoConfig

    folder = scratch / "frames"
    folder.mkdir(exist_ok=True)
    for number in (1, 2):
        (folder / f"{number}.jpg").write_bytes(simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8)))
    found = [
        sources.Source(
            entry["name"],
            media.FrameFiles(str(folder), "", ".jpg", 1, ((1, 2),)),
            f"train/{entry['name']}",
            entry["label"],
            -1,
            -1,
            (1,),
            entry["origin"],
        )
        for entry in entries(videos, 8)
    ]
    names = tuple(f"class {i:03d} with words" for i in range(CLASSES))
    plan = sources.Plan(names, ("1",), tuple(found), (), ())
    options = pipeline.default_options()
    how = writing.Pipeline("key", "array_record", options, None, pipeline.local_workers(options, None))
    work = unfinished.Unfinished(Path(tempfile.mkdtemp(dir=scratch)) / "work" / "key")

    def stop_at_the_first() -> None:
        while not work.finished():
            time.sleep(0.005)
        found.append(time.perf_counter())
        work.stop()

    def act() -> None:
        from r23d_jax.errors import UserError

        with work.at_work({}):
            threading.Thread(target=stop_at_the_first, daemon=True).start()
            try:
                writing.write_shards(plan, VideoConfig(name="x", size=[16, 16]), work, how)
            except UserError as error:
                if "the build was stopped" not in str(error):
                    raise

    return act


def _finish(scratch: Path, videos: int):
    """The index after the last shard."""
    from r23d_jax.data import index as indices
    from tfds_ucf101 import index

    found = entries(videos, 8)

    def act() -> None:
        index.fingerprint([], found)
        indices.write_columns(scratch, indices.columns(found, ["1"]))

    return act


def _megabytes() -> float:
    """The largest resident size so far; getrusage's would begin with that of the parent."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--videos", type=int, default=240_000)
    parser.add_argument("--shards", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--phase", choices=_PHASES, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.phase:
        print(json.dumps(phase(flags.phase, flags.scratch, flags.videos)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        write_dataset(Path(scratch) / "data", flags.videos, flags.shards)
        command = [sys.executable, __file__, f"--videos={flags.videos}", f"--scratch={scratch}"]
        found = {name: [] for name in _PHASES}
        for _ in range(flags.rounds):
            for name in _PHASES:
                done = subprocess.run([*command, f"--phase={name}"], capture_output=True, text=True)
                if done.returncode:
                    sys.exit(done.stderr)
                found[name].append(json.loads(done.stdout.splitlines()[-1]))
    figures = {
        name: {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        for name, rounds in found.items()
    }
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(
        f"{flags.videos:,} videos in {flags.shards:,} shards; {platform.machine()}, {cores} cores, "
        f"medians of {flags.rounds}"
    )
    texts = {
        "import": "imports of opening",
        "open": "open, and the training videos of a split",
        "shuffle": "the same, and the order of the first epoch",
        "balance": "the same with class balance",
        "read": f"the same, and {_READ:,} clips of random shards; with the loader",
        "build": "build: from the plan to the first finished shard",
        "finish": "build: fingerprint and index after the last shard",
    }
    for name, text in texts.items():
        one = figures[name]
        memory = f", {one['before']:.0f} of them before" if one["before"] else ""
        print(f"{text:64} {one['seconds']:7.2f} s  {one['megabytes']:6.0f} MB{memory}")
    if flags.json:
        flags.json.write_text(json.dumps({"videos": flags.videos, "shards": flags.shards, "phases": figures}, indent=1))


if __name__ == "__main__":
    main()
