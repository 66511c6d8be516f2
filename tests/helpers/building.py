"""Builds of tiny videos in this process, for the tests of the builder and of optical flow."""

import json
from pathlib import Path

import apache_beam as beam
import av
import fake_data
import numpy as np
import tensorflow_datasets as tfds

from tfds_ucf101 import config
from tfds_ucf101.layouts.frames import one_video
from tfds_ucf101.layouts.tree import Folder
from tfds_ucf101.media import Media, VideoFile
from tfds_ucf101.tfds_ucf101_dataset_builder import Builder

IN_MEMORY = ["--direct_num_workers=1", "--direct_running_mode=in_memory"]


SMALL = {"name": "small", "size": [24, 33], "quality": 80}


GROUPS = (1, 2, 8, 9)


def picture(seed: int, t: int, height: int = 48, width: int = 64) -> np.ndarray:
    """uint8 [height, width, 3]: flat stripes whose colours follow from seed and time."""
    colours = np.random.default_rng([seed, t]).integers(0, 256, (8, 3), dtype=np.uint8)
    return np.ascontiguousarray(np.broadcast_to(np.repeat(colours, width // 8, 0), (height, width, 3)))


def write_video(path: Path, seed: int, count: int = 5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for t in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(seed, t), "rgb24")))
        container.mux(stream.encode())


def write_folder(root: Path, groups=GROUPS, classes=("Jump", "Run")) -> Path:
    for label, name in enumerate(classes):
        for group in groups:
            write_video(root / f"videos/{name}/v_{name}_g{group:02d}_c01.avi", 100 * label + group, 4 + group)
    return root


def media(path: Path) -> Media:
    """The video in a file, or in the pictures of a folder."""
    if path.is_dir():
        return one_video(Folder(path), flow_files=False)
    return VideoFile(str(path))


def build(root: Path | None, out: Path, keys: dict | str, file_format: str | None = None, **download) -> Path:
    """Builds in this process and returns the folder of the result."""
    chosen = config.VideoConfig(**keys) if isinstance(keys, dict) else keys
    builder = Builder(data_dir=out, config=chosen, file_format=file_format)
    options = beam.options.pipeline_options.PipelineOptions(IN_MEMORY)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=root, beam_options=options, **download)
    )
    return Path(builder.data_dir)


def read(folder: Path) -> list[dict]:
    source = tfds.builder_from_directory(folder).as_data_source("videos")
    return [source[i] for i in range(len(source))]


def read_index(folder: Path) -> dict:
    """The index's head, and in "videos" an object for every video."""
    return json.loads((folder / "videos.json").read_text()) | {"videos": fake_data.entries(folder)}
