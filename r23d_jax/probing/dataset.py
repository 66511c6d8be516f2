"""Videos that lie in files as a data set, for the evaluator, the report and training."""

import collections
import threading
from collections.abc import Callable, Sequence

import numpy as np

from r23d_jax.data.dataset import VideoRecord, positions
from r23d_jax.data.scaling import Resize
from r23d_jax.data.video import VideoError
from r23d_jax.inference.clips import Scanned, read_clips
from r23d_jax.probing.data import LabelledVideos

_KEPT_BYTES = 256 * 2**20


def record_of(data: LabelledVideos, index: int, scanned: Scanned) -> VideoRecord:
    """Returns the record of a video that was scanned."""
    video = data.videos[index]
    return VideoRecord(
        name=video.name,
        label=video.label,
        num_frames=scanned.count,
        height=scanned.size[0],
        width=scanned.size[1],
        splits={data.split: video.part},
        fps=scanned.fps,
        times=scanned.times,
        origin=video.group,
    )


class VideoFiles:
    """A `data.dataset.Dataset` that decodes files whenever frames are asked for; thread-safe and picklable.

    A video is decoded whole for any of its clips; the last few are kept, up to 256 MiB.

    Args:
      data: the videos, which are files.
      records: one a video, in the order of `data.videos`; see `record_of`.
      resize: the size that the records were scanned at.
      flow: an algorithm of `data.flow` if the pictures are to be optical flow, which is computed for every clip.
    """

    stored_as = None  # nothing is stored: frames are scaled as the weights ask for

    def __init__(self, data: LabelledVideos, records: Sequence[VideoRecord], resize: Resize, flow: str | None = None):
        self.videos = tuple(records)
        self.full_name, self.fingerprint, self.class_names = data.full_name, data.fingerprint, data.class_names
        self.splits, self.leak_check = (data.split,), data.leak_check
        self.flow, self.channels = flow, "flow" if flow else "rgb"
        self.canvas = (max(video.height for video in records), max(video.width for video in records))
        self._data, self._resize = data, resize
        self._decoded = _Recent(self._scan, _KEPT_BYTES)

    def __reduce__(self):
        return VideoFiles, (self._data, self.videos, self._resize, self.flow)

    @property
    def num_channels(self) -> int:
        """Channels of a decoded picture: 3 for RGB, 2 for flow (x, y)."""
        return 2 if self.flow else 3

    @property
    def stored_size(self) -> str:
        """The size of decoded frames as text: "128x171", or the range of both sides if it varies."""
        sides = [[getattr(video, key) for video in self.videos] for key in ("height", "width")]
        ranges = [(min(side), max(side)) for side in sides]
        return "x".join(str(low) if low == high else f"{low}..{high}" for low, high in ranges)

    def subset(self, split: str, part: str) -> np.ndarray:
        """Returns int32 [V], the positions of the videos in a part of a split, sorted by name."""
        return positions(self, split, part)

    def decode(self, position: int, indices: Sequence[int], out: np.ndarray) -> None:
        """Decodes pictures of one video.

        Args:
          position: of the video.
          indices: [T] pictures.
          out: uint8 [T, *canvas, num_channels], contiguous; overwritten, with zeros around a smaller picture.

        Raises:
          VideoError: the file cannot be read, or is another than when it was scanned.
        """
        video = self.videos[position]
        out[:, video.height :] = 0
        out[:, : video.height, video.width :] = 0
        scanned = self._decoded[position]
        if self.flow or scanned.frames is None:
            ((_, pictures),) = read_clips(scanned, np.asarray(indices)[None])
            out[:, : video.height, : video.width] = pictures
            return
        for place, index in enumerate(indices):
            out[place, : video.height, : video.width] = scanned.frames[index]

    def _scan(self, position: int) -> Scanned:
        video = self.videos[position]
        scanned = self._data.scan(position, self._resize, self.flow)
        if (scanned.count, *scanned.size) != (video.num_frames, video.height, video.width):
            raise VideoError(scanned.path, "has changed since it was first read: start again")
        return scanned


class _Video:
    """A place for a decoded video, which one thread fills while others wait for it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.scanned: Scanned | None = None
        self.size = 0


class _Recent:
    """The videos that were decoded last, up to so many bytes, or one; thread-safe.

    A video is decoded once for all threads that wait for it.
    """

    def __init__(self, decode: Callable[[int], Scanned], limit: int):
        self._decode, self._limit = decode, limit
        self._kept: collections.OrderedDict[int, _Video] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, position: int) -> Scanned:
        with self._lock:
            video = self._kept.setdefault(position, _Video())
            self._kept.move_to_end(position)
        with video.lock:
            if video.scanned is None:
                video.scanned = self._decode(position)
                video.size = sum(frame.nbytes for frame in video.scanned.frames or ())
            scanned = video.scanned
        with self._lock:
            while len(self._kept) > 1 and sum(one.size for one in self._kept.values()) > self._limit:
                self._kept.popitem(last=False)
        return scanned
