"""Reads videos from a built data set, whose frames are taken as they are stored."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from r23d_jax.data import index as indices
from r23d_jax.data.records import VideoDataset
from r23d_jax.data.scaling import Resize
from r23d_jax.errors import UserError
from r23d_jax.inference.clips import Scanned
from r23d_jax.runtime.files import open_arrays


@dataclass
class BuiltReader:
    """Reads videos by their place in `positions`.

    Attributes:
      dataset: the built data set.
      positions: of the videos in it.
    """

    dataset: VideoDataset
    positions: Sequence[int]
    _digests: np.ndarray | None = field(default=None, init=False, repr=False)

    def content_sha256(self, index: int) -> str:
        """Returns the hash of a video's stored frames, its frame rate and its frames' times.

        Raises:
          UserError: the index or the shard is damaged.
        """
        position = self.positions[index]
        video = self.dataset.videos[position]
        total = hashlib.sha256(self._frames_sha256(position, video.num_frames))
        total.update(np.float64(video.fps).tobytes())
        if video.times is not None:
            total.update(np.asarray(video.times, np.float64).tobytes())
        return total.hexdigest()

    def scan(self, index: int, resize: Resize, flow: str | None = None) -> Scanned:
        """Decodes all pictures of a video, at the size that they are stored in.

        Stored optical flow is in `frames` as it is, uint8 [height, width, 2], with `flow` None: nothing is to be
        computed.

        Args:
          index: place of the video.
          resize: not used.
          flow: the algorithm of the stored optical flow, None for RGB.

        Raises:
          UserError: other pictures are stored, or the shard is damaged.
        """
        dataset, position = self.dataset, self.positions[index]
        if flow != dataset.flow:
            there, wanted = (f"{one} optical flow" if one else "RGB frames" for one in (dataset.flow, flow))
            raise UserError(f"{dataset.full_name} holds {there}, and {wanted} are asked for: give a set of these")
        video = dataset.videos[position]
        out = np.empty((video.num_frames, *dataset.canvas, dataset.num_channels), np.uint8)
        dataset.decode(position, range(video.num_frames), out)
        frames = list(np.ascontiguousarray(out[:, : video.height, : video.width]))
        size = (video.height, video.width)
        return Scanned(Path(video.name), video.num_frames, video.fps, size, frames, None, video.times)

    def _frames_sha256(self, position: int, count: int) -> bytes:
        """What the index says, which costs no reading; of an index without it the same from the frames."""
        if self._digests is None:
            self._digests = _digests(self.dataset.path)
        if len(self._digests):
            return self._digests[position].tobytes()
        total = hashlib.sha256()
        for frame in self.dataset.shards.frames(position, range(count)):
            total.update(len(frame).to_bytes(8, "little"))
            total.update(frame)
        return total.digest()


def _digests(folder: Path) -> np.ndarray:
    """uint8 [videos, 32], SHA-256 of each video's frames; empty in the index of the builder's first version."""
    path = folder / indices.COLUMNS
    if not path.exists():
        return np.zeros((0, 32), np.uint8)
    try:
        with open_arrays(path) as arrays:
            return arrays["sha256"]
    except indices.DAMAGES as error:
        raise UserError(f"{path}: damaged ({error}); build the data set again or copy the file again") from None
