"""Damages files at random and reads them: a clear refusal or the right answer, and nothing else.

    python tests/fuzz.py [--minutes 60 | --cases 200] [--seed 0] [--only records,index,checkpoint,weights]

Each case damages a small built data set (shards or index), a checkpoint of ours, or a weights file of another
framework, and reads it the way the commands do. Allowed are a `UserError` of one line, and, where the file has
checksums, exactly what it held before; without them, well-formed arrays. A crash, a hang, any other exception or a
wrong number is a finding: its case number is printed, and `--first N --cases 1` repeats it. Cases run in a
process of their own, so that one that dies is counted too.
"""

import argparse
import copy
import faulthandler
import io
import json
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import fake_data  # noqa: E402

from r23d_jax.data.records import VideoDataset  # noqa: E402
from r23d_jax.errors import UserError  # noqa: E402

HANG = 120  # seconds for one case
NUMBERS = (None, True, -1, 0, 1, 7, 2**31, 2**63, 10**30, 1e308, float("nan"))
ODD = (*NUMBERS, "", "x", "../../x", "\x00", [], {}, [1], {"a": 1})


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with one to three things wrong."""
    found = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        size = len(found)
        if size < 2:
            break
        at, length = int(rng.integers(size)), int(min(rng.integers(1, 64), size))
        kind = rng.integers(7)
        if kind <= 1:
            found[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            found[at : at + length] = rng.bytes(length)
        elif kind == 3:
            found[at : at + length] = bytes(length)
        elif kind == 4:
            del found[at:]
        elif kind == 5:
            del found[at : at + length]
        else:
            other = int(rng.integers(size))
            found[at:at] = found[other : other + length]
    return bytes(found)


def damage_json(value, rng: np.random.Generator):
    """The value with one leaf, key or branch replaced or gone."""
    value = copy.deepcopy(value)
    node = value
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = keys[int(rng.integers(len(keys)))]
        deeper = isinstance(node[key], dict | list) and node[key]
        if deeper and rng.random() < 0.8:
            node = node[key]
            continue
        if rng.random() < 0.2:
            del node[key]
        else:
            node[key] = ODD[int(rng.integers(len(ODD)))]
        return value


class Wrong(Exception):
    """A reader gave another answer than what was written."""


# --- data sets ------------------------------------------------------------------------------------------


class Records:
    """A built data set with damaged shards: every frame as it was, or a refusal."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.before = {}
        for name, options in (("good", "group_size:1,uncompressed"), ("packed", "group_size:2,zstd")):
            fake_data.write(folder / name, classes=2, groups=3, frames=6, height=16, width=24, noise=2, options=options)
            self.before[name] = self._decode(VideoDataset.open(folder / name))

    def _decode(self, dataset) -> dict[str, np.ndarray]:
        found = {}
        for position, video in enumerate(dataset.videos):
            for _ in range(2):  # the first time through the library, then directly
                out = np.empty((video.num_frames, *dataset.canvas, 3), np.uint8)
                dataset.decode(position, range(video.num_frames), out)
                found.setdefault(video.name, out)
                if not np.array_equal(found[video.name], out):
                    raise Wrong(f"{video.name}: two readings differ")
        return found

    def case(self, rng: np.random.Generator) -> None:
        name = ("good", "packed")[int(rng.integers(2))]
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.folder / name, work)
        shard = sorted(work.rglob("*.array_record*"))[int(rng.integers(2))]
        shard.write_bytes(damage(shard.read_bytes(), rng))
        index = next(work.rglob("videos.json"))
        fields = json.loads(index.read_text())
        fields["shards"][shard.name]["bytes"] = shard.stat().st_size  # else its size alone would give it away
        index.write_text(json.dumps(fields))
        for video, frames in self._decode(VideoDataset.open(work)).items():
            if not np.array_equal(frames, self.before[name][video]):
                raise Wrong(f"{video}: other frames")


class Index(Records):
    """A built data set with a damaged index: it opens and reads, or is refused."""

    def case(self, rng: np.random.Generator) -> None:
        from r23d_jax.data import batches, views

        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.folder / "good", work)
        index = next(work.rglob("videos.json"))
        if rng.random() < 0.3:
            index.write_bytes(damage(index.read_bytes(), rng))
        else:
            index.write_text(json.dumps(damage_json(json.loads(index.read_text()), rng)))
        dataset = VideoDataset.open(work)
        positions = dataset.subset("1", "test")
        views.eval_views(dataset, positions, frames=4)
        stream = batches.train_batches(dataset, positions, frames=4, batch_size=2, seed=0, num_steps=2, threads=1)
        with stream:
            for batch in stream:
                if not (0 <= batch["label"].min() and batch["label"].max() < len(dataset.class_names)):
                    raise Wrong("a label that is no class")


# --- weights --------------------------------------------------------------------------------------------


class Checkpoint:
    """A checkpoint of ours: its tensors and card, or a refusal."""

    def __init__(self, folder: Path):
        from r23d_jax import checkpoint, models
        from r23d_jax.weights.card import Card, Preprocessing

        self._checkpoint, self.folder = checkpoint, folder
        rng = np.random.default_rng(0)
        self.weights = {f"stem.{i}": rng.normal(size=(3, 4)).astype(np.float32) for i in range(3)}
        spec = Preprocessing(resize=(20, 24), crop=16, frames=4, stride=1, fps=None, mean=(0.5,) * 3, std=(0.5,) * 3)
        card = Card(arch=models.NAMES[0], model={"num_classes": 2}, labels=("a", "b"), preprocessing=spec)
        checkpoint.save_weights(folder / "good", self.weights, card)
        self.card = checkpoint.load_weights(folder / "good")[1]

    def case(self, rng: np.random.Generator) -> None:
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.folder / "good", work)
        files = sorted(path for path in work.rglob("*") if path.is_file())
        chosen = files[int(rng.integers(len(files)))]
        if rng.random() < 0.1:
            chosen.unlink()
        elif chosen.suffix == ".json" and rng.random() < 0.5:
            chosen.write_text(json.dumps(damage_json(json.loads(chosen.read_text()), rng)))
        else:
            chosen.write_bytes(damage(chosen.read_bytes(), rng))
        weights, card = self._checkpoint.load_weights(work)
        if card != self.card or not all(np.array_equal(weights[k], v) for k, v in self.weights.items()):
            raise Wrong(f"{chosen.name} was damaged and read")


class Weights:
    """Files of other frameworks. Most have no checksums: arrays of numbers, or a refusal."""

    def __init__(self, folder: Path):
        import torch
        from safetensors.numpy import save

        from r23d_jax.weights import readers

        self._readers, self.folder = readers, folder
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        arrays = {f"layer{i}.conv.weight": rng.normal(size=(4, 3, 1, 3)).astype(np.float32) for i in range(3)}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        zipped, legacy = io.BytesIO(), io.BytesIO()
        torch.save({"state_dict": tensors, "epoch": 3}, zipped)
        torch.save(tensors, legacy, _use_new_zipfile_serialization=False)
        blobs = {"blobs": {name.replace(".", "_"): array for name, array in arrays.items()}}
        self.good = {
            "a.pth": zipped.getvalue(),
            "b.pth": legacy.getvalue(),
            "c.safetensors": save(arrays),
            "d.pkl": pickle.dumps(blobs, protocol=2),
        }

    def case(self, rng: np.random.Generator) -> None:
        name = sorted(self.good)[int(rng.integers(len(self.good)))]
        path = self.folder / name
        path.write_bytes(damage(self.good[name], rng))
        for tensor, array in self._readers.read(path).tensors.items():
            array = np.asarray(array)
            if not isinstance(tensor, str) or array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
                raise Wrong(f"{tensor!r} is {array.dtype}")
            array.sum()  # every byte is there


TARGETS: dict[str, Callable] = {"records": Records, "index": Index, "checkpoint": Checkpoint, "weights": Weights}


# --- running --------------------------------------------------------------------------------------------


def child(flags: argparse.Namespace, names: list[str]) -> int:
    """Runs cases from `flags.first` on; what it is at stands in `flags.at`."""
    folder = Path(tempfile.mkdtemp(prefix="r23d_fuzz_", dir=flags.at.parent))
    targets = [TARGETS[name](folder / name) for name in names]
    outcomes, until = Counter(), time.monotonic() + flags.minutes * 60
    number = flags.first
    while number < flags.first + flags.cases if flags.cases else time.monotonic() < until:
        flags.at.write_text(str(number))
        faulthandler.dump_traceback_later(HANG, exit=True)
        name = names[number % len(names)]
        try:
            targets[number % len(names)].case(np.random.default_rng([flags.seed, number]))
            outcomes[f"{name}: read"] += 1
        except UserError as error:
            outcomes[f"{name}: refused"] += 1
            if "\n" in str(error) or not str(error):
                outcomes["FINDINGS"] += 1
                print(f"case {number} ({name}): not one line: {error!r}", file=sys.stderr)
        except Exception:
            outcomes["FINDINGS"] += 1
            print(f"case {number} ({name}):\n{traceback.format_exc()}", file=sys.stderr)
        faulthandler.cancel_dump_traceback_later()
        number += 1
    print(json.dumps({"cases": number - flags.first, **outcomes}))
    return 1 if outcomes["FINDINGS"] else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--cases", type=int, default=0, help="this many instead of so many minutes")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(TARGETS))
    parser.add_argument("--at", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    names = flags.only.split(",")
    if flags.at:
        return child(flags, names)
    until, first, findings = time.monotonic() + flags.minutes * 60, flags.first, 0
    with tempfile.TemporaryDirectory(prefix="r23d_fuzz_") as folder:
        at = Path(folder) / "at"
        while True:
            left = max((until - time.monotonic()) / 60, 0)
            cases = flags.first + flags.cases - first if flags.cases else 0
            command = [sys.executable, __file__, "--at", at, "--first", first, "--seed", flags.seed]
            command += ["--only", flags.only, "--minutes", left, "--cases", cases]
            done = subprocess.run(list(map(str, command)))
            if done.returncode in (0, 1):
                return 1 if findings or done.returncode else 0
            findings += 1  # it died or hung at this case; go on behind it
            first = int(at.read_text()) + 1 if at.is_file() else first
            print(f"case {first - 1}: the process ended with {done.returncode}", file=sys.stderr)
            if flags.cases and first >= flags.first + flags.cases or not at.is_file():
                return 1


if __name__ == "__main__":
    sys.exit(main())
