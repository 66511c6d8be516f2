"""Writes small data sets exactly as `tfds build tfds_ucf101` leaves them on disk, in milliseconds.

Neither Beam nor TensorFlow nor TFDS is imported. The frames of a video are a fixed random texture that moves by one
pixel a frame, so that no two frames of a video are alike.
"""

import dataclasses
import hashlib
import json
import struct
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from array_record.python import array_record_module

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
    threads: int = 1,
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
      threads: that render.
    """
    folder = Path(data_dir) / "tfds_ucf101" / config / version
    folder.mkdir(parents=True)
    names = CLASS_NAMES[:classes]
    keys = [(label, group, clip) for label in range(classes) for group in range(groups) for clip in range(clips)]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(keys)).tolist()
    sizes = [(frames, height, width)] * len(order)
    if vary:
        least = (1, height // 2, width // 2)
        sizes = [tuple(int(rng.integers(a, b + 1)) for a, b in zip(least, size, strict=True)) for size in sizes]

    def video(number: int, size: tuple[int, int, int]) -> tuple[dict[str, Any], bytes]:
        label, group, clip = keys[number]
        images = pixels(seed * 1000 + number, *size, channels=2 if flow else 3, noise=noise)
        if flow:  # x above y
            images = images.transpose(0, 3, 1, 2).reshape(size[0], 2 * size[1], size[2], 1)
            data = [cv2.imencode(".png", x)[1].tobytes() for x in images]
        else:
            data = [simplejpeg.encode_jpeg(np.ascontiguousarray(x), 90, "RGB", "420") for x in images]
        entry = {
            "name": f"{names[label]}/v_{names[label]}_g{group + 1:02d}_c{clip + 1:02d}",
            "label": label,
            "group": group + 1,
            "clip": clip + 1,
            "fps": 25.0,
            "num_frames": size[0],
            "height": size[1],
            "width": size[2],
            "splits": {str(s): "test" if group % 3 == s - 1 else "train" for s in (1, 2, 3)},
            "sha256": hashlib.sha256(b"".join(data)).hexdigest(),
            "origin": f"v_{names[label]}_g{group + 1:02d}",
        }
        return entry, _example(entry, data)

    with ThreadPoolExecutor(threads) as pool:
        entries, records = zip(*pool.map(video, order, sizes), strict=True)
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
    """A serialised `tf.train.Example`; https://protobuf.dev/programming-guides/encoding/ says how."""
    numbers = {key: entry[key] for key in ("label", "group", "clip", "num_frames", "height", "width")}
    numbers |= {"source_height": 2 * entry["height"], "source_width": 2 * entry["width"]}
    numbers |= {f"split{s}": ("neither", "train", "test").index(part) for s, part in entry["splits"].items()}
    features = {"frames": _message(1, frames), "name": _message(1, [entry["name"].encode()])}
    features = {key: _message(1, [values]) for key, values in features.items()}  # bytes_list
    features["fps"] = _message(2, [_message(1, [struct.pack("<f", entry["fps"])])])  # float_list
    features |= {key: _message(3, [_message(1, [_varint(value)])]) for key, value in numbers.items()}  # int64_list
    pairs = (_message(1, [key.encode()]) + _message(2, [feature]) for key, feature in features.items())
    return _message(1, [_message(1, pairs)])


def _message(field: int, values: Iterable[bytes]) -> bytes:
    """The values as length-delimited fields of one number."""
    return b"".join(bytes([field << 3 | 2]) + _varint(len(value)) + value for value in values)


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
