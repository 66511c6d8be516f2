"""Decodes any video file that PyAV reads, frame by frame; shared by the data set build and by predict.

Frames come in presentation order, upright (the container's rotation is honoured), and every one of them:
the frame counts in headers are often wrong and are never looked at, and a variable frame rate drops or
repeats nothing. A file is either decoded to its last packet or refused with a `VideoError`: damage that the
decoder conceals passes, an error of the demuxer or decoder does not, however many frames came before it.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from r23d_jax.errors import UserError

# An exact (height, width), the length of the short side, or None for the size in the file.
Resize = tuple[int, int] | int | None

# Demuxers that take text for pictures, or that lead to other files.
_NOT_VIDEO = frozenset({"tty", "concat", "hls", "dash", "ffmetadata", "sdp"})
_UNKNOWN_FPS = 25.0
# AVColorSpace of frames that are in BT.601 already: untagged (as FFmpeg takes them), and its two names.
_BT601 = (2, 5, 6)
_SCALE = Interpolation.BILINEAR
# Without these, swscale's matrices darken by one or two levels and share one chroma sample between two pixels.
_CONVERT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class VideoError(UserError):
    """A file that cannot be decoded. The message starts with its path; `reason` is the rest of it."""

    def __init__(self, path: str | os.PathLike, reason: str):
        super().__init__(f"{os.fspath(path)}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class VideoInfo:
    """What a video is, from its header and first frame: pixels as displayed, frames a second."""

    height: int
    width: int
    rotation: int
    fps: float
    codec: str


def target_size(height: int, width: int, resize: Resize) -> tuple[int, int]:
    """The (height, width) that a frame of the given size gets; a long side is rounded down."""
    if resize is None:
        return height, width
    if isinstance(resize, int):
        if height <= width:
            return resize, max(1, resize * width // height)
        return max(1, resize * height // width), resize
    return resize


def rotation_of(frame: av.VideoFrame) -> int:
    """Quarter turns counter-clockwise, 0 to 3, that make the frame upright."""
    return round(frame.rotation / 90) % 4


def display_size(frame: av.VideoFrame) -> tuple[int, int]:
    """The frame's (height, width) once it is upright."""
    return (frame.width, frame.height) if rotation_of(frame) % 2 else (frame.height, frame.width)


class Scaler:
    """Scales and converts frames. One scaler for one video: it keeps what swscale sets up for a format.

    Bilinear with the support widened when shrinking, so that it does not alias; on one thread, as more of
    them cost more than they give at these sizes.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def rgb(self, frame: av.VideoFrame, height: int, width: int) -> np.ndarray:
        """The frame upright: uint8 [height, width, 3], full-range RGB."""
        turns = rotation_of(frame)
        if turns % 2:
            height, width = width, height
        scaled = self._scale(frame, height, width, "rgb24").to_ndarray()
        return np.ascontiguousarray(np.rot90(scaled, turns)) if turns else scaled

    def planes(self, frame: av.VideoFrame, height: int, width: int) -> list[np.ndarray]:
        """The frame as stored, not turned, in JPEG's full-range BT.601 colours with chroma halved.

        Returns:
          Y uint8 [height, width], and U, V uint8 [ceil(height / 2), ceil(width / 2)]. They are views of the
          decoder's memory: use them before the next frame.
        """
        scaled = self._scale(frame, height, width, "yuvj420p")
        return [
            np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
            for plane in scaled.planes
        ]

    def _scale(self, frame: av.VideoFrame, height: int, width: int, pixels: str) -> av.VideoFrame:
        # Asking for BT.601 where it is that already would cost a conversion that changes nothing.
        alike = pixels != "rgb24" and frame.colorspace in _BT601
        return self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format=pixels,
            dst_colorspace=None if alike else Colorspace.ITU601,
            dst_color_range=ColorRange.JPEG,
            interpolation=_SCALE if alike else _CONVERT,
            threads=1,
        )


class Video:
    """An open video file, to be read once from its start: `with Video(path) as video: ...`.

    Attributes:
      fps: the average frame rate: the header's until the last frame, then measured from the time stamps
        unless the two agree to 2 %; 25 where there are neither.
      header_frames: the number of frames that the header claims, 0 where it does not; often wrong.

    Args:
      path: a local file.
      threads: of the decoder; 0 for as many as it likes.

    Raises:
      VideoError: the file is missing, empty, no video, or has no pictures.
    """

    def __init__(self, path: str | os.PathLike, threads: int = 0):
        self.path = Path(path)
        self._check_file()
        try:
            self._container = av.open(
                os.path.abspath(self.path),
                metadata_errors="ignore",
                options={"protocol_whitelist": "file"},
            )
        except (av.FFmpegError, ValueError, OSError) as error:
            raise VideoError(self.path, f"is no readable video ({_reason(error)})") from error
        try:
            self._stream = self._picture_stream()
        except VideoError:
            self._container.close()
            raise
        self._stream.thread_count = threads
        self._stream.thread_type = "NONE" if threads == 1 else "AUTO"
        self._header_fps = float(self._stream.average_rate or 0)
        self.fps = self._header_fps or _UNKNOWN_FPS
        self.header_frames = self._stream.frames

    def __enter__(self) -> "Video":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    @property
    def codec(self) -> str:
        """The name of the video's codec."""
        return self._stream.codec.name

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yields every frame as decoded, unscaled and not turned.

        Raises:
          VideoError: a packet cannot be decoded, or the file holds no frames.
        """
        count, first, last = 0, None, None
        try:
            for frame in self._container.decode(self._stream):
                count += 1
                if frame.time is not None:
                    first, last = frame.time if first is None else first, frame.time
                yield frame
        except (av.FFmpegError, ValueError, OSError) as error:
            raise VideoError(self.path, f"cannot be decoded after frame {count} ({_reason(error)})") from error
        if not count:
            raise VideoError(self.path, "holds no frames")
        if first is not None and last > first:
            measured = (count - 1) / (last - first)
            # The header's is the exact one where the two agree; it says nothing where the rate varies.
            if abs(measured - self._header_fps) > 0.02 * measured:
                self.fps = measured

    def rgb(self, resize: Resize = None) -> Iterator[np.ndarray]:
        """Yields every frame upright and scaled, one at a time, so that a long video needs no more memory.

        A video that changes its size on the way keeps the size that its first frame gets.

        Args:
          resize: an exact (height, width), the length of the short side, or None.

        Yields:
          uint8 [height, width, 3].
        """
        scaler, size = Scaler(), None
        for frame in self.frames():
            size = size or target_size(*display_size(frame), resize)
            yield scaler.rgb(frame, *size)

    def _check_file(self) -> None:
        if self.path.is_dir():
            raise VideoError(self.path, "is a folder; give a video file")
        if not self.path.exists():
            raise VideoError(self.path, "does not exist")
        if not self.path.stat().st_size:
            raise VideoError(self.path, "is an empty file")

    def _picture_stream(self) -> av.VideoStream:
        if _NOT_VIDEO & set(self._container.format.name.split(",")):
            raise VideoError(self.path, f"is no video but {self._container.format.name}")
        for stream in self._container.streams.video:
            # Cover art is a video stream of one picture to the demuxer.
            if not stream.disposition & av.stream.Disposition.attached_pic:
                if stream.codec_context is None:
                    raise VideoError(self.path, "is in a codec that PyAV does not decode")
                return stream
        kinds = sorted({stream.type for stream in self._container.streams if stream.type != "video"})
        raise VideoError(self.path, f"has no video stream (only {', '.join(kinds) or 'pictures'})")


def probe(path: str | os.PathLike) -> VideoInfo:
    """Describes a video from its header and first frame.

    Raises:
      VideoError: it cannot be opened, or its first frame cannot be decoded.
    """
    with Video(path, threads=1) as video:
        frame = next(video.frames())
        height, width = display_size(frame)
        return VideoInfo(height, width, 90 * rotation_of(frame), video.fps, video.codec)


def read_rgb(path: str | os.PathLike, resize: Resize = None, max_frames: int | None = None) -> tuple[np.ndarray, float]:
    """Reads a whole video, or its first `max_frames` frames, into memory.

    Returns:
      uint8 [T, H, W, 3] and the average frame rate.

    Raises:
      VideoError: the file cannot be decoded.
    """
    frames = []
    with Video(path) as video:
        for frame in video.rgb(resize):
            frames.append(frame)
            if len(frames) == max_frames:
                break
    return np.stack(frames), video.fps


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
