"""Decodes any video file that PyAV reads, frame by frame; shared by the data set build and by inference.

Every frame is returned once, in presentation order and upright (the container's rotation is applied); frame counts in
headers are often wrong and not used, and a variable frame rate neither drops nor repeats frames. A file is either
decoded to its last packet or raises a `VideoError`: any error of demuxer or decoder counts, but not damage that the
decoder conceals.
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

# (height, width), the length of the short side, or None for the size in the file.
Resize = tuple[int, int] | int | None

# Demuxers that render text, or that open other files.
_NOT_VIDEO = frozenset({"tty", "concat", "hls", "dash", "ffmetadata", "sdp"})
_UNKNOWN_FPS = 25.0
# AVColorSpace values that mean BT.601: unspecified (FFmpeg's default), and its two names.
_BT601 = (2, 5, 6)
_SCALE = Interpolation.BILINEAR
# Without these flags swscale darkens by one or two levels, and two pixels share a chroma sample.
_CONVERT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class VideoError(UserError):
    """A file that cannot be decoded. The message is its path and the `reason`."""

    def __init__(self, path: str | os.PathLike, reason: str):
        super().__init__(f"{os.fspath(path)}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video from its header and first frame: size as displayed in pixels, frame rate, codec."""

    height: int
    width: int
    rotation: int
    fps: float
    codec: str


def target_size(height: int, width: int, resize: Resize) -> tuple[int, int]:
    """Returns (height, width) of a frame after `resize`; the long side is rounded down."""
    if resize is None:
        return height, width
    if isinstance(resize, int):
        if height <= width:
            return resize, max(1, resize * width // height)
        return max(1, resize * height // width), resize
    return resize


def rotation_of(frame: av.VideoFrame) -> int:
    """Returns the quarter turns counter-clockwise, 0 to 3, that make the frame upright."""
    return round(frame.rotation / 90) % 4


def display_size(frame: av.VideoFrame) -> tuple[int, int]:
    """Returns (height, width) of the upright frame."""
    return (frame.width, frame.height) if rotation_of(frame) % 2 else (frame.height, frame.width)


class Scaler:
    """Scales and converts the frames of one video; caches swscale's state for its format.

    Antialiased bilinear, on one thread: at these sizes more threads are slower.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def rgb(self, frame: av.VideoFrame, height: int, width: int) -> np.ndarray:
        """Returns the upright frame, uint8 [height, width, 3] in full-range RGB."""
        turns = rotation_of(frame)
        if turns % 2:
            height, width = width, height
        scaled = self._scale(frame, height, width, "rgb24").to_ndarray()
        return np.ascontiguousarray(np.rot90(scaled, turns)) if turns else scaled

    def planes(self, frame: av.VideoFrame, height: int, width: int) -> list[np.ndarray]:
        """Returns the frame without rotation, in JPEG's full-range BT.601 with 4:2:0 chroma.

        Returns:
          Y uint8 [height, width], and U, V uint8 [ceil(height / 2), ceil(width / 2)]; views of the decoder's memory,
          valid until the next frame.
        """
        scaled = self._scale(frame, height, width, "yuvj420p")
        return [
            np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
            for plane in scaled.planes
        ]

    def _scale(self, frame: av.VideoFrame, height: int, width: int, pixels: str) -> av.VideoFrame:
        # Asking for BT.601 explicitly would add a conversion even if nothing changes.
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
      fps: average frame rate: the header's, or after the last frame that of the time stamps if they differ by more
        than 2 %; 25 if neither is known.
      header_frames: number of frames in the header, often wrong; 0 if there is none.

    Args:
      path: a local file.
      threads: of the decoder; 0 for its default.

    Raises:
      VideoError: the file is missing, empty, no video, or has no pictures.
    """

    def __init__(self, path: str | os.PathLike, threads: int = 0):
        self.path = Path(path)
        self._check_file()
        try:
            self._container = open_container(self.path)
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
        """Name of the video's codec."""
        return self._stream.codec.name

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yields every frame as decoded, without scaling or rotation.

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
            # If the two agree the header's is more exact; with a variable rate it is meaningless.
            if abs(measured - self._header_fps) > 0.02 * measured:
                self.fps = measured

    def rgb(self, resize: Resize = None) -> Iterator[np.ndarray]:
        """Yields every frame upright and scaled; all frames get the size of the first.

        Args:
          resize: (height, width), the length of the short side, or None.

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
            # The demuxer presents cover art as a video stream of one picture.
            if not stream.disposition & av.stream.Disposition.attached_pic:
                if stream.codec_context is None:
                    raise VideoError(self.path, "is in a codec that PyAV does not decode")
                return stream
        kinds = sorted({stream.type for stream in self._container.streams if stream.type != "video"})
        raise VideoError(self.path, f"has no video stream (only {', '.join(kinds) or 'pictures'})")


def open_container(path: str | os.PathLike) -> av.container.InputContainer:
    """Opens a local file, whatever the encoding of the titles and comments in it."""
    arguments = {"file": os.path.abspath(path), "options": {"protocol_whitelist": "file"}}
    try:
        return av.open(**arguments)
    except UnicodeDecodeError:
        # PyAV before 19 refuses text that is not UTF-8, unless told otherwise by an argument that 19 does not have.
        return av.open(**arguments, metadata_errors="ignore")


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
