"""What `fuzz.py` damages, and the readers that have to notice."""

import contextlib
import copy
import hashlib
import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import fake_data
import fake_run
import numpy as np

from r23d_jax.data.records import VideoDataset
from r23d_jax.errors import UserError

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
        from r23d_jax.data import loader, views
        from r23d_jax.data.index import KINDS as kinds
        from r23d_jax.data.index import write_columns

        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.folder / "good", work)
        index = next(work.rglob(("videos.json", "videos.npz")[int(rng.integers(2))]))
        if index.suffix == ".npz" and rng.random() < 0.7:  # with a checksum that fits
            with np.load(index) as found:
                columns = dict(found)
            for key in rng.choice(sorted(columns), 2):
                columns[key] = np.frombuffer(damage(columns[key].tobytes() + b" " * 8, rng), np.uint8)
                size = np.dtype(kinds[key]).itemsize
                columns[key] = columns[key][: len(columns[key]) // size * size].view(kinds[key])
                if key in ("roles", "sha256"):
                    wide = {"roles": 3, "sha256": 32}[key]
                    columns[key] = columns[key][: len(columns[key]) // wide * wide].reshape(-1, wide)
            write_columns(index.parent, columns)
        elif index.suffix == ".npz" or rng.random() < 0.3:
            index.write_bytes(damage(index.read_bytes(), rng))
        else:
            index.write_text(json.dumps(damage_json(json.loads(index.read_text()), rng)))
        dataset = VideoDataset.open(work)
        positions = dataset.subset("1", "test")
        views.eval_views(dataset, positions, frames=4)
        stream = loader.train_batches(dataset, positions, frames=4, batch_size=2, seed=0, num_steps=2, threads=1)
        with stream:
            for batch in stream:
                if not (0 <= batch["label"].min() and batch["label"].max() < len(dataset.class_names)):
                    raise Wrong("a label that is no class")


# --- weights --------------------------------------------------------------------------------------------


class Checkpoint:
    """A checkpoint of ours: its tensors and card, or a refusal."""

    def __init__(self, folder: Path):
        from r23d_jax import models
        from r23d_jax.transforms.spec import Preprocessing
        from r23d_jax.weights import checkpoint
        from r23d_jax.weights.card import Card

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
        self.arrays = arrays
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        zipped, legacy = io.BytesIO(), io.BytesIO()
        torch.save({"state_dict": tensors, "epoch": 3}, zipped)
        torch.save(tensors, legacy, _use_new_zipfile_serialization=False)
        blobs = {"blobs": {name.replace(".", "_"): array for name, array in arrays.items()}}
        self._tensorflow(arrays)
        self.good = {
            "a.pth": zipped.getvalue(),
            "b.pth": legacy.getvalue(),
            "c.safetensors": save(arrays),
            "d.pkl": pickle.dumps(blobs, protocol=2),
            "f.ckpt": (folder / "f.ckpt").read_bytes(),
        }

    def _tensorflow(self, arrays: dict[str, np.ndarray]) -> None:
        import tensorflow as tf

        self.prefix = self.folder / "e.ckpt"
        tf.raw_ops.SaveV2(
            prefix=str(self.prefix),
            tensor_names=list(arrays),
            shape_and_slices=[""] * len(arrays),
            tensors=list(arrays.values()),
        )
        self.parts = {path: path.read_bytes() for path in sorted(self.folder.glob("e.ckpt.*"))}
        tf.raw_ops.Save(filename=str(self.folder / "f.ckpt"), tensor_names=list(arrays), data=list(arrays.values()))

    def case(self, rng: np.random.Generator) -> None:
        chosen = int(rng.integers(len(self.good) + 1))
        if chosen == len(self.good):
            path, exact = self.prefix, True  # both of TensorFlow's formats have checksums
            broken = list(self.parts)[int(rng.integers(len(self.parts)))]
            for part, data in self.parts.items():
                part.write_bytes(damage(data, rng) if part == broken else data)
        else:
            name = sorted(self.good)[chosen]
            path, exact = self.folder / name, name in ("a.pth", "f.ckpt")  # so have these
            path.write_bytes(damage(self.good[name], rng))
        for tensor, array in self._readers.read_tensors(path).tensors.items():
            array = np.asarray(array)
            if not isinstance(tensor, str) or array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
                raise Wrong(f"{tensor!r} is {array.dtype}")
            array.sum()  # every byte is there
            if exact and not np.array_equal(array, self.arrays[tensor]):
                raise Wrong(f"{tensor}: other numbers")


class Convert:
    """State dicts with something wrong in them: the weights they held before, or a refusal that leaves nothing."""

    def __init__(self, folder: Path):
        import torch_sources

        from r23d_jax import convert
        from r23d_jax.weights import checkpoint

        self._checkpoint, self._convert, self.folder = checkpoint, convert, folder
        folder.mkdir(parents=True)
        network = torch_sources.randomise(torch_sources.narrow(torch_sources.video_resnet("22233", classes=4)))
        self.state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        self.good = self._converted(self.state)

    def _converted(self, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        from safetensors.numpy import save_file

        source, dest = self.folder / "a.safetensors", self.folder / "ours"
        save_file({name: np.ascontiguousarray(array) for name, array in state.items()}, source)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self._convert.main([str(source), str(dest), "--arch", "rmc4_18"])
            return self._checkpoint.load_weights(dest)[0]
        except UserError:
            if dest.exists():
                raise Wrong("refused, and something is left") from None
            raise
        finally:
            shutil.rmtree(dest, ignore_errors=True)

    def case(self, rng: np.random.Generator) -> None:
        state = dict(self.state)
        for _ in range(int(rng.integers(1, 4))):
            name = sorted(state)[int(rng.integers(len(state)))]
            array, kind = state.pop(name), rng.integers(7)
            if kind == 1:
                state[name] = array.reshape(-1)[:-1]
            elif kind == 2:
                state[name] = array[None]
            elif kind == 3:
                state[name] = array.astype((np.int16, np.bool_, np.complex64, np.uint8)[int(rng.integers(4))])
            elif kind == 4:
                state[name + ".x"] = array
            elif kind == 5:
                state[name], state["x" * int(rng.integers(1, 40))] = array, array
            elif kind == 6:
                state[name] = array[:0] if array.ndim else np.float32(7)
        found = self._converted(state)
        if found.keys() != self.good.keys() or not all(np.array_equal(found[k], v) for k, v in self.good.items()):
            raise Wrong("damaged, and converted to other numbers")


class Cards:
    """A card that somebody edited, its checksums made to fit: a network that computes, or a refusal."""

    def __init__(self, folder: Path):
        from flax import nnx

        from r23d_jax import models
        from r23d_jax.data import video
        from r23d_jax.transforms.spec import Preprocessing
        from r23d_jax.weights import checkpoint
        from r23d_jax.weights.card import Card

        self._video, self.folder = video, folder
        spec = Preprocessing(resize=(20, 24), crop=16, frames=4, stride=1, fps=None, mean=(0.5,) * 3, std=(0.5,) * 3)
        arguments = {"num_classes": 2, "width": 4, "layers": (1, 1, 1, 1), "in_channels": 3, "dropout": 0.0}
        model = models.create("r2plus3d_18", **arguments, rngs=nnx.Rngs(0))
        card = Card(arch="r2plus3d_18", model=arguments, labels=("a", "b"), preprocessing=spec)
        checkpoint.save_weights(folder / "good", models.flatten(model), card)

    def case(self, rng: np.random.Generator) -> None:
        import jax

        from r23d_jax.inference import classifier, protocol
        from r23d_jax.inference import clips as video_clips

        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.folder / "good", work)
        card = work / "card.json"
        card.write_text(json.dumps(damage_json(json.loads(card.read_text()), rng)))
        checksums = json.loads((work / "checksums.json").read_text())
        checksums["card.json"] = hashlib.sha256(card.read_bytes()).hexdigest()
        (work / "checksums.json").write_text(json.dumps(checksums))
        network = classifier.load(work, which="best")
        spec = network.card.preprocessing
        scanned = video_clips.Scanned(work, 30, 25.0, (24, 28), None)
        plan = video_clips.plan(scanned, spec, "dense")
        clip = jax.ShapeDtypeStruct((1, plan.indices.shape[1], 24, 28, len(spec.mean)), np.uint8)
        jax.eval_shape(network.prepare, clip, jax.ShapeDtypeStruct((1, 2), np.int32))
        network.layers()
        if not all(isinstance(label, str) for label in network.labels):
            raise Wrong("labels that are no text")
        protocol.describe(network.card, "dense", "float32")
        self._video.target_size(240, 320, video_clips.stored_size(network.card))


# --- videos ---------------------------------------------------------------------------------------------


class Videos:
    """Damaged video files: pictures of a size that is known, or a refusal. Decoders conceal damage by design."""

    def __init__(self, folder: Path):
        import av

        self.folder, self.good = folder, {}
        folder.mkdir(parents=True)
        for name, codec in (("a.avi", "mpeg4"), ("a.mp4", "libx264"), ("a.mkv", "mpeg4"), ("a.mpg", "mpeg2video")):
            with av.open(str(folder / name), "w") as container:
                stream = container.add_stream(codec, rate=25)
                stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
                for picture in fake_data.pixels(0, 12, 48, 64):
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
                container.mux(stream.encode())
            self.good[name] = (folder / name).read_bytes()

    def case(self, rng: np.random.Generator) -> None:
        from r23d_jax.data.video import read_rgb

        name = sorted(self.good)[int(rng.integers(len(self.good)))]
        path = self.folder / name
        path.write_bytes(damage(self.good[name], rng))
        frames, fps = read_rgb(path, (20, 24), max_frames=1000)
        if frames.shape[1:] != (20, 24, 3) or frames.dtype != np.uint8 or not 0 < fps < float("inf"):
            raise Wrong(f"{frames.shape} {frames.dtype} at {fps} frames a second")


# --- what a run left ------------------------------------------------------------------------------------


class Results:
    """A damaged file of a workdir: table, report and two streams take it or refuse it, never with a score beyond 1."""

    def __init__(self, folder: Path):
        self.folder = folder
        alone = {"clip_top1": 0.7, "input": "rgb", "width": 64}
        fake_run.write(folder / "rgb", fake_run.predictions(("a", "b"), per_class=3), fake_run.log_lines(4), **alone)
        spread = {"split": "all", "spread": {"top1": 0.01}, "splits": [{"split": "1", "top1": 0.5}]}
        streams = {"streams": [{"stream": "rgb", "from": "rgb", "top1": 0.5, "seed": 0}, {"stream": "flow"}]}
        fake_run.write(folder / "mean", fake_run.predictions(("a", "b"), per_class=3), **alone, **spread, **streams)
        self.good = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    def case(self, rng: np.random.Generator) -> None:
        from r23d_jax import report
        from r23d_jax.evaluation import fusion
        from r23d_jax.experiments import table as result_table
        from r23d_jax.runtime.workdir import recorded

        path = list(self.good)[int(rng.integers(len(self.good)))]
        if path.suffix == ".json" and rng.random() < 0.8:
            path.write_text(json.dumps(damage_json(json.loads(self.good[path]), rng)))
        else:
            path.write_bytes(damage(self.good[path], rng))
        try:
            recorded(path.parent)
            report.write(path.parent)
            result = result_table.read_run_result(path.parent)
            result_table.cells([result])
            stream = fusion.read_stream(path.parent)
            found = stream.predictions.results() | {"clip_top1": stream.results.get("clip_top1", 0)}
            scores = [result.fields["top1"], result.fields["mean_class"]]
            for one in (found, *found.pop("aggregates").values()):
                scores += one.values()
            if not all(0 <= score <= 1 for score in scores):
                raise Wrong(f"scores {scores}")
        finally:
            path.write_bytes(self.good[path])


TARGETS: dict[str, Callable] = {
    "records": Records,
    "index": Index,
    "checkpoint": Checkpoint,
    "cards": Cards,
    "weights": Weights,
    "convert": Convert,
    "videos": Videos,
    "results": Results,
}
