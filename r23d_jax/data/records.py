"""Reads data sets that `tfds build tfds_ucf101` wrote: ArrayRecord shards, and their index beside them.

TensorFlow is never imported.
"""

import collections
import dataclasses
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from r23d_jax.data import index
from r23d_jax.data.dataset import VideoRecord, positions
from r23d_jax.data.index import INDEX
from r23d_jax.data.shards import Shards
from r23d_jax.data.videos import Videos
from r23d_jax.errors import UserError
from r23d_jax.runtime.files import files_below

BUILDER = "tfds_ucf101"


@dataclasses.dataclass
class VideoDataset:
    """A built data set; see `Dataset`. Thread-safe, and pickled as its path on disk.

    Attributes:
      path: folder of the shards.
      full_name: "tfds_ucf101/<config>/<version>".
      class_names: in the order of the labels.
      videos: one per record, in the order of the records; the position of a video is its index here.
      splits: their names, such as "1" or "default".
      config: the builder's config.
      fingerprint: SHA-256 of the content, independent of the layout of the shards.
      canvas: largest stored height and width; smaller videos are at its top left.
      channels: "rgb" or "flow".
      flow: the optical-flow algorithm if `channels` is "flow", else None.
      unreadable: the videos that the build left out, with "path" and "reason".
      leak_check: False if clips of one recording may be on both sides of a split.
    """

    path: Path
    full_name: str
    class_names: tuple[str, ...]
    videos: Videos
    splits: tuple[str, ...]
    config: dict[str, Any]
    fingerprint: str
    unreadable: list[dict[str, str]]
    leak_check: bool
    shards: Shards

    def __post_init__(self):
        self.canvas = (int(self.videos.column("height").max()), int(self.videos.column("width").max()))
        self.flow = self.config.get("flow") or None
        self.channels = "flow" if self.flow else "rgb"
        self._scratch = threading.local()

    def __reduce__(self):
        return _open_folder, (self.path, self.full_name)

    @classmethod
    def open(cls, data_dir: str | Path, name: str = BUILDER) -> "VideoDataset":
        """Opens a data set.

        Args:
          data_dir: as in `tfds build --data_dir`.
          name: such as "tfds_ucf101/rgb/1.0.0". The builder may be left out, the version too (for the newest), and the
            config if only one is built.

        Raises:
          UserError: there is no such data set, or its files are damaged or of another format.
        """
        folder, full_name = _find(Path(data_dir).expanduser(), name)
        return _open_folder(folder, full_name)

    @property
    def num_channels(self) -> int:
        """Channels of a decoded frame: 3 for RGB, 2 for flow (x, y)."""
        return 2 if self.flow else 3

    @property
    def stored_as(self) -> list[int] | int | str | None:
        """The builder's frame size: [height, width], a short side, "native", or None if unknown."""
        return self.config.get("short_side") or self.config.get("size")

    @property
    def stored_size(self) -> str:
        """The stored size as text: "128x171", or the range of both sides if it varies."""
        sides = [self.videos.column(key) for key in ("height", "width")]
        ranges = [(int(side.min()), int(side.max())) for side in sides]
        return "x".join(str(low) if low == high else f"{low}..{high}" for low, high in ranges)

    def subset(self, split: str, part: str) -> np.ndarray:
        """Returns int32 [V], the positions of the videos in a part of a split, sorted by name."""
        return positions(self, split, part)

    def decode(self, position: int, indices: Sequence[int], out: np.ndarray) -> None:
        """Decodes frames of one video; libjpeg-turbo runs without the GIL.

        Frames of the canvas's size are decoded in place; smaller ones are copied to the top left of zeros.

        Args:
          position: of the video.
          indices: [T] frames.
          out: uint8 [T, height, width, channels] of the canvas's size, contiguous; overwritten.

        Raises:
          UserError: the shard is damaged.
        """
        video = self.videos[position]
        data = self.shards.frames(position, indices)
        fits = (video.height, video.width) == out.shape[1:3] and not self.flow
        if not fits:
            out[:, video.height :] = 0
            out[:, : video.height, video.width :] = 0
        last = {}
        for t, frame in enumerate(indices):
            if frame in last:  # a looped or slowed-down clip repeats frames
                out[t] = out[last[frame]]
                continue
            last[frame] = t
            try:
                if fits:
                    image = simplejpeg.decode_jpeg(data[t], "RGB", buffer=out[t])
                    good = image.shape == out.shape[1:]
                else:
                    good = self._decode_small(data[t], video, out[t])
            except ValueError as error:
                raise UserError(self._damaged(position, frame, str(error))) from None
            if not good:
                raise UserError(self._damaged(position, frame, "not of the stored size"))

    def _decode_small(self, data, video: VideoRecord, out: np.ndarray) -> bool:
        """Decodes one frame that is smaller than the canvas."""
        height, width = video.height, video.width
        if self.flow:
            from r23d_jax.data import flow  # imports OpenCV, which RGB does not need

            field = flow.from_png(data)
            if field is None or field.shape[:2] != (height, width):
                return False
            out[:height, :width] = field
            return True
        if not hasattr(self._scratch, "buffer"):
            self._scratch.buffer = bytearray(self.canvas[0] * self.canvas[1] * 3)
        image = simplejpeg.decode_jpeg(data, "RGB", buffer=self._scratch.buffer)
        if image.shape != (height, width, 3):
            return False
        out[:height, :width] = image
        return True

    def _damaged(self, position: int, frame: int, reason: str) -> str:
        return (
            f"{self.shards.path(position)}: frame {frame} of video {self.videos[position].name} is damaged "
            f"({' '.join(reason.split())}); build the data set again or copy the file again"
        )


def _find(data_dir: Path, name: str) -> tuple[Path, str]:
    """Returns folder and full name of a data set, given a possibly shortened name; see `VideoDataset.open`."""
    parts = [part for part in name.split("/") if part]
    wanted = parts[1:] if parts[:1] == [BUILDER] else parts
    built = sorted(
        (path.parent.relative_to(data_dir / BUILDER).parts for path in data_dir.glob(f"{BUILDER}/*/*/{INDEX}")),
        key=lambda found: (found[0], _version(found[1])),
    )
    matching = [found for found in built if found[: len(wanted)] == tuple(wanted)]
    if len(wanted) <= 2 and len({config for config, _ in matching}) == 1:
        config, version = matching[-1]
        return data_dir / BUILDER / config / version, f"{BUILDER}/{config}/{version}"
    there = ", ".join("/".join(found) for found in built) or "nothing"
    if matching and not wanted:
        raise UserError(
            f"dataset.name={name}: several are built in {data_dir}: {there}; name one, for example "
            f"{BUILDER}/{matching[0][0]}"
        )
    if (data_dir / BUILDER).is_dir():
        collections.deque(files_below(data_dir / BUILDER), maxlen=0)  # raises for an unreadable folder
    config = wanted[0] if wanted else "rgb"
    manual = "" if config == "motion" else " --manual_dir=VIDEOS"
    raise UserError(
        f"dataset.name={name}: no such data set in {data_dir} (looked for "
        f"{'/'.join([BUILDER, *(wanted or ['*'])])}, there is {there}); build it: tfds build {BUILDER} "
        f"--config {config}{manual} --data_dir={data_dir}"
    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in text.split("."))


def _open_folder(folder: Path, full_name: str) -> VideoDataset:
    found = index.read(folder)
    paths = [folder / shard.name for shard in found.shards]
    for path, shard in zip(paths, found.shards, strict=True):
        if ".array_record-" not in path.name:
            raise UserError(f"{path}: not an ArrayRecord shard; build it again without --file_format")
        if not path.is_file():
            raise UserError(f"{path}: this shard is missing; build the data set again or copy the file again")
        if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
            raise UserError(f"{path}: this shard may not be read; change its permissions")
        if (size := path.stat().st_size) != shard.size:
            raise UserError(
                f"{path}: {size} bytes where {INDEX} says {shard.size}; build the data set again or copy the file again"
            )
    counts = [shard.records for shard in found.shards]
    shards = Shards(paths, None if None in counts else counts)
    if len(shards) != len(found.videos):
        raise UserError(
            f"{folder}: {len(shards)} records in the shards, {len(found.videos)} in {INDEX}; build the data set again"
        )
    return VideoDataset(
        path=folder,
        full_name=full_name,
        class_names=found.class_names,
        videos=found.videos,
        splits=found.splits,
        config=found.head["config"],
        fingerprint=found.head["fingerprint"],
        unreadable=list(found.head.get("unreadable", [])),
        leak_check=found.head.get("leak_check", True),
        shards=shards,
    )
