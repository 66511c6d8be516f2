"""Writes small data sets exactly as `tfds build tfds_ucf101` leaves them on disk, in milliseconds.

Neither Beam nor TensorFlow is imported. The frames of a video are a fixed random texture that moves by one
pixel a frame, so that no two frames of a video are alike.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from array_record.python import array_record_module
from tensorflow_datasets.proto import tf_example_generated_pb2 as proto

from r23d_jax.data import index

# Overrides of a config for a network of one narrow block a stage, and for a run of it of some seconds. Tests that
# use the same find its programs in the compilation cache.
TINY = (
    "model.width=4",
    "model.layers=(1,1,1,1)",
    "clip.frames=4",
    "clip.size=16",
    "clip.resize=(20,24)",
    "augment.flip_sensitive=()",
    "batch_size=8",
    "workers=2",
)
RUN = (*TINY, "dataset.name=tfds_ucf101", "steps=12", "lr=0.05", "log_every=2", "model.dropout=0.2")

CLASS_NAMES = "Archery Basketball Bowling CliffDiving Diving Fencing Golf HighJump Kayaking Surfing".split()


def pixels(seed: int, frames: int, height: int, width: int, channels: int = 3, noise: int = 0) -> np.ndarray:
    """uint8 [frames, height, width, channels]: a smooth texture that moves by a pixel a frame, and noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, channels)).astype(np.float32)
    texture = coarse.repeat(8, 0).repeat(8, 1)
    for axis in (0, 1):
        texture = sum(np.roll(texture, shift, axis) for shift in range(-4, 4)) / 8
    video = np.stack([np.roll(texture, t, (0, 1)[t % 2])[:height, :width] for t in range(frames)])
    if noise:
        video += rng.integers(-noise, noise + 1, video.shape[:3] + (1,), np.int16)
    return np.clip(video, 0, 255).astype(np.uint8)


def write(
    data_dir: Path,
    config: str = "rgb",
    *,
    classes: int = 3,
    groups: int = 4,
    clips: int = 1,
    frames: int = 20,
    height: int = 32,
    width: int = 40,
    vary: bool = False,
    noise: int = 0,
    shards: int = 2,
    flow: str | None = None,
    options: str = "group_size:1,uncompressed",
    seed: int = 0,
    version: str = "1.1.0",
    index_format: int = index.FORMAT,
) -> Path:
    """Writes a data set and returns its folder, `data_dir/tfds_ucf101/<config>/<version>`.

    Args:
      data_dir: as for `tfds build`.
      config: name of the builder's config.
      classes, groups, clips: videos are `<Class>/v_<Class>_gGG_cCC`, for every combination. A group tests
        where its number is the split's, modulo 3, and trains elsewhere.
      frames, height, width: of a video.
      vary: give the videos different lengths (from 1 frame on), heights and widths, none above those given.
      noise: largest value added to the pixels; 2 gives JPEG files of the size real video has.
      shards: files.
      flow: name of an algorithm: the records are optical flow, grey PNG images with x above y.
      options: of the ArrayRecord writer.
      seed: changes the pixels, and the order of the records.
      version: of the builder.
      index_format: 2, or 1 as version 1.0.0 of the builder wrote it.
    """
    folder = Path(data_dir) / "tfds_ucf101" / config / version
    folder.mkdir(parents=True)
    names = CLASS_NAMES[:classes]
    keys = [(label, group, clip) for label in range(classes) for group in range(groups) for clip in range(clips)]
    rng = np.random.default_rng(seed)
    entries, records = [], []
    for number in rng.permutation(len(keys)):
        label, group, clip = keys[number]
        sizes = (frames, height, width)
        if vary:
            least = (1, height // 2, width // 2)
            sizes = tuple(int(rng.integers(low, high + 1)) for low, high in zip(least, sizes, strict=True))
        splits = {str(s): "test" if group % 3 == s - 1 else "train" for s in (1, 2, 3)}
        images = pixels(seed * 1000 + int(number), *sizes, channels=2 if flow else 3, noise=noise)
        if flow:  # x above y
            images = images.transpose(0, 3, 1, 2).reshape(sizes[0], 2 * sizes[1], sizes[2], 1)
            data = [cv2.imencode(".png", x)[1].tobytes() for x in images]
        else:
            data = [simplejpeg.encode_jpeg(np.ascontiguousarray(x), 90, "RGB", "420") for x in images]
        entry = {
            "name": f"{names[label]}/v_{names[label]}_g{group + 1:02d}_c{clip + 1:02d}",
            "label": label,
            "group": group + 1,
            "clip": clip + 1,
            "fps": 25.0,
            "num_frames": sizes[0],
            "height": sizes[1],
            "width": sizes[2],
            "splits": splits,
            "sha256": hashlib.sha256(b"".join(data)).hexdigest(),
            "origin": f"v_{names[label]}_g{group + 1:02d}",
        }
        entries.append(entry)
        records.append(_example(entry, data))
    names_of_shards = [f"tfds_ucf101-videos.array_record-{i:05d}-of-{shards:05d}" for i in range(shards)]
    lengths = [len(part) for part in np.array_split(np.arange(len(records)), shards)]
    at = 0
    for name, length in zip(names_of_shards, lengths, strict=True):
        writer = array_record_module.ArrayRecordWriter(str(folder / name), options)
        for record in records[at : at + length]:
            writer.write(record)
        writer.close()
        at += length
    plain = [{key: value for key, value in entry.items() if key != "origin"} for entry in entries]
    digest = hashlib.sha256(json.dumps(sorted(plain, key=lambda e: e["name"])).encode()).hexdigest()
    head = {
        "format": index_format,
        "builder": "tfds_ucf101",
        "config": {"name": config, "flow": flow},
        "class_names": names,
        "splits": ["1", "2", "3"],
        "fingerprint": digest,
        "unreadable": [],
        "shards": {
            name: {"bytes": (folder / name).stat().st_size, "records": length}
            for name, length in zip(names_of_shards, lengths, strict=True)
        },
    }
    if index_format == 1:
        head["shards"] = {name: {"bytes": facts["bytes"]} for name, facts in head["shards"].items()}
        head["videos"] = plain
    else:
        index.write_columns(folder, index.columns(entries, head["splits"]))
    (folder / index.INDEX).write_text(json.dumps(head))
    return folder


def change(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Writes the index anew after a change of its head, whose key "videos" has an object for every video."""
    head = json.loads((folder / index.INDEX).read_text())
    if head["format"] == 1:
        change(head)
    else:
        head["videos"] = entries(folder)
        change(head)
        index.write_columns(folder, index.columns(head.pop("videos"), head["splits"]))
    (folder / index.INDEX).write_text(json.dumps(head))


def entries(folder: Path) -> list[dict[str, Any]]:
    """The videos of an index of format 2, as `index.columns` takes them."""
    found = [dataclasses.asdict(video) for video in index.read(folder).videos]
    with np.load(folder / index.COLUMNS) as columns:
        digests = columns["sha256"]
    return [entry | {"sha256": row.tobytes().hex()} for entry, row in zip(found, digests, strict=True)]


def _example(entry: dict[str, Any], frames: list[bytes]) -> bytes:
    example = proto.Example()
    feature = example.features.feature
    feature["frames"].bytes_list.value.extend(frames)
    feature["name"].bytes_list.value.append(entry["name"].encode())
    feature["fps"].float_list.value.append(entry["fps"])
    for key in ("label", "group", "clip", "num_frames", "height", "width"):
        feature[key].int64_list.value.append(entry[key])
    feature["source_height"].int64_list.value.append(2 * entry["height"])
    feature["source_width"].int64_list.value.append(2 * entry["width"])
    for split, part in entry["splits"].items():
        feature[f"split{split}"].int64_list.value.append(("neither", "train", "test").index(part))
    return example.SerializeToString()
