"""Reads videos from where they lie: files, archives, folders of pictures, and rows of tables."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from r23d_jax.data import flow as optical_flow
from r23d_jax.data.orientation import Orientation
from r23d_jax.data.scaling import Resize, Scaler, target_size
from r23d_jax.data.video import Video, VideoError
from r23d_jax.inference import clips
from r23d_jax.inference.clips import Scanned
from tfds_ucf101 import stills
from tfds_ucf101.media import Media, VideoFile

PICTURES_FPS = 25.0  # of pictures, which do not say theirs; what `tfds build` takes, too


@dataclass(frozen=True)
class FileReader:
    """Reads videos by their place in `media`."""

    media: Sequence[Media]

    def content_sha256(self, index: int) -> str:
        """Returns the hash of a video's file, or of all its pictures in their order.

        Raises:
          VideoError: it is not there, cannot be read, or is damaged in its archive.
        """
        media = self.media[index]
        with _readable(media):
            if not media.still:
                data = media.content()
                if data is not None:
                    return hashlib.sha256(data).hexdigest()
                with open(media.path, "rb") as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()
            total = hashlib.sha256(b"pictures")
            for _, data in media.pictures():
                total.update(len(data).to_bytes(8, "little"))
                total.update(data)
            return total.hexdigest()

    def scan(self, index: int, resize: Resize, flow: str | None = None) -> Scanned:
        """Decodes a whole video once and keeps all of it; a file gives what `inference.clips.scan` does.

        Args:
          index: place of the video.
          resize: the size to decode at.
          flow: an algorithm of `data.flow` for optical flow, None for RGB.

        Raises:
          VideoError: it cannot be read to its end, or has too few frames.
        """
        media = self.media[index]
        with _readable(media):
            if isinstance(media, VideoFile):
                return clips.scan(Path(media.path), resize, flow=flow)
            if media.still:
                pictures = _scaled(_pictures(media), resize, flow)
                return _scanned(media, pictures, flow, PICTURES_FPS, None)
            with Video(media.path, data=media.content()) as video:
                pictures = _scaled(_frames(video), resize, flow)
                return _scanned(media, pictures, flow, video.fps, video.times)


# A picture as decoded, what makes it upright, and its (height, width) then.
_Decoded = tuple[av.VideoFrame, Orientation, tuple[int, int]]


def _frames(video: Video) -> Iterator[_Decoded]:
    for frame in video.frames():
        yield frame, video.orientation(frame), video.display_size(frame)


def _pictures(media: Media) -> Iterator[_Decoded]:
    for name, data in media.pictures():
        still = stills.read(Path(media.path), name, data)
        yield still.frame, still.orientation, still.size


def _scaled(decoded: Iterator[_Decoded], resize: Resize, flow: str | None) -> list[np.ndarray]:
    """All pictures at the size that the first one gets, as `inference.clips.scan` keeps them."""
    scaler, size, kept = Scaler(), None, []
    for frame, orientation, shown in decoded:
        size = size or target_size(*shown, resize)
        rgb = scaler.rgb(frame, *size, orientation)
        kept.append(optical_flow.grey(rgb) if flow else rgb)
    return kept


def _scanned(media: Media, frames: list[np.ndarray], flow: str | None, fps: float, times: np.ndarray | None) -> Scanned:
    if len(frames) <= bool(flow):
        raise VideoError(
            media.path, "holds one frame only, and optical flow needs two" if frames else "holds no frames"
        )
    return Scanned(Path(media.path), len(frames) - bool(flow), fps, frames[0].shape[:2], frames, flow, times)


@contextlib.contextmanager
def _readable(media: Media) -> Iterator[None]:
    """Makes a `VideoError` of what the file system says of a video's files."""
    try:
        yield
    except OSError as error:
        raise VideoError(media.path, f"cannot be read ({error.strerror or error})") from None
