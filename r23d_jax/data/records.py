"""Reads data sets that `tfds build tfds_ucf101` wrote: ArrayRecord shards, and `videos.json` beside them.

TensorFlow is never imported.
"""

import collections
import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from r23d_jax.data.dataset import PARTS, VideoRecord, positions
from r23d_jax.data.shards import Shards
from r23d_jax.errors import UserError
from r23d_jax.runtime.files import files_below, read_json

BUILDER = "tfds_ucf101"
INDEX = "videos.json"
FORMAT = 1
_LONGEST_SIDE = 65535  # JPEG's limit


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
    """

    path: Path
    full_name: str
    class_names: tuple[str, ...]
    videos: tuple[VideoRecord, ...]
    splits: tuple[str, ...]
    config: dict[str, Any]
    fingerprint: str
    unreadable: list[dict[str, str]]
    shards: Shards

    def __post_init__(self):
        self.canvas = (max(v.height for v in self.videos), max(v.width for v in self.videos))
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
        sides = ([v.height for v in self.videos], [v.width for v in self.videos])
        return "x".join(str(min(s)) if min(s) == max(s) else f"{min(s)}..{max(s)}" for s in sides)

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
    index = folder / INDEX
    try:
        fields = read_json(index, limit=1 << 30)
    except ValueError as error:
        raise UserError(f"{index}: not readable as JSON ({error}); build the data set again") from None
    try:
        videos, rest = _parse(fields)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"no key {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{index}: not an index of this version ({reason}); build the data set again") from None
    paths = [folder / name for name in sorted(fields["shards"])]
    for path in paths:
        if ".array_record-" not in path.name:
            raise UserError(f"{path}: not an ArrayRecord shard; build it again without --file_format")
        if not path.is_file():
            raise UserError(f"{path}: this shard is missing; build the data set again or copy the file again")
        size, due = path.stat().st_size, fields["shards"][path.name]["bytes"]
        if size != due:
            raise UserError(
                f"{path}: {size} bytes where {INDEX} says {due}; build the data set again or copy the file again"
            )
    stored = sum(path.stat().st_size for path in paths)
    for video in videos:
        if video.num_frames > stored:  # impossible (a frame takes at least a byte), and may exhaust the memory
            raise UserError(
                f"{index}: not an index of this version (num_frames is {video.num_frames} in video {video.name}, of "
                f"shards of {stored} bytes); build the data set again"
            )
    shards = Shards(paths)
    if len(shards) != len(videos):
        raise UserError(
            f"{folder}: {len(shards)} records in the shards, {len(videos)} in {INDEX}; build the data set again"
        )
    return VideoDataset(path=folder, full_name=full_name, videos=videos, shards=shards, **rest)


def _parse(fields: dict[str, Any]) -> tuple[tuple[VideoRecord, ...], dict[str, Any]]:
    """Parses and checks an index; a bad one raises ValueError, KeyError, TypeError or AttributeError."""
    if fields["format"] != FORMAT:
        raise ValueError(f"format {fields['format']}, this version reads {FORMAT}")
    class_names, splits = tuple(fields["class_names"]), tuple(fields["splits"])
    if not all(isinstance(name, str) for name in class_names + splits + (fields["fingerprint"],)):
        raise TypeError("names and fingerprint must be text")
    if "all" in splits or any("/" in split for split in splits):  # "all" is reserved, and names become folders
        raise ValueError(f"splits are named {', '.join(splits)}")
    if not isinstance(fields["config"], dict) or not fields["shards"]:
        raise ValueError("no config or no shards")
    for name, facts in fields["shards"].items():
        if Path(name).name != name or not isinstance(facts["bytes"], int):
            raise ValueError(f"shard {name!r}")
    videos = tuple(_video(entry, len(class_names), splits) for entry in fields["videos"])
    if not videos:
        raise ValueError("no videos")
    if len({video.name for video in videos}) != len(videos):
        raise ValueError("two videos of one name")
    return videos, {
        "class_names": class_names,
        "splits": splits,
        "config": fields["config"],
        "fingerprint": fields["fingerprint"],
        "unreadable": list(fields.get("unreadable", [])),
    }


def _video(entry: dict[str, Any], classes: int, splits: tuple[str, ...]) -> VideoRecord:
    whole = {key: entry[key] for key in ("label", "group", "clip", "num_frames", "height", "width")}
    for key, value in whole.items():
        if type(value) is not int or value < (-1 if key in ("group", "clip") else 0 if key == "label" else 1):
            raise ValueError(f"{key} is {value!r} in video {entry['name']}")
        if key in ("height", "width") and value > _LONGEST_SIDE:
            raise ValueError(f"{key} is {value} in video {entry['name']}")
    if not isinstance(entry["name"], str) or whole["label"] >= classes:
        raise ValueError(f"label is {whole['label']} of {classes} classes in video {entry['name']}")
    membership = {split: entry["splits"].get(split, "neither") for split in splits}
    if not set(membership.values()) <= set(PARTS):
        raise ValueError(f"splits are {entry['splits']} in video {entry['name']}")
    return VideoRecord(name=entry["name"], fps=float(entry["fps"]), splits=membership, **whole)
