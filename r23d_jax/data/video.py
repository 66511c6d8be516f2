"""Decodes any video file that PyAV reads, frame by frame; shared by the data set build and by inference.

Every frame is returned once, in presentation order, upright and in square pixels as ffmpeg shows it; frame counts in
headers are often wrong and not used, and a variable frame rate neither drops nor repeats frames but is told by
`Video.times`. A file is either decoded to its last packet or raises a `VideoError`: any error of demuxer or decoder
counts, but not damage that the decoder conceals.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np

from r23d_jax.data.orientation import Orientation, of_frame
from r23d_jax.data.scaling import Resize, Scaler, target_size
from r23d_jax.data.timing import Clock
from r23d_jax.errors import UserError

# Files in a folder that are videos by their names; a file that is itself given may have any ending.
ENDINGS = frozenset(
    ".3g2 .3gp .asf .avi .divx .dv .f4v .flv .gif .m2ts .m2v .m4v .mjpeg .mjpg .mkv .mov .mp4 .mpe .mpeg .mpg .mts "
    ".mxf .nut .ogm .ogv .rm .rmvb .ts .vob .webm .wmv .y4m".split()
)
# Demuxers that render text, or that open other files.
_NOT_VIDEO = frozenset({"tty", "concat", "hls", "dash", "ffmetadata", "sdp"})
_UNKNOWN_FPS = 25.0
# As ffmpeg chooses among several streams: by pixels, and so many more for the one marked as default.
_DEFAULT_IS_WORTH = 5_000_000
# Of the frames that the header claims. A file cut off in the middle decodes without an error.
_SUSPICIOUS = 0.9
# Bytes from the start of a JPEG. EXIF comes first.
_EXIF_WITHIN = 1024
# Sides of a pixel beyond this ratio are a writer's error.
_LEAST_ASPECT, _MOST_ASPECT = Fraction(1, 4), Fraction(4)


class VideoError(UserError):
    """A file that cannot be decoded. The message is its path and the `reason`."""

    def __init__(self, path: str | os.PathLike, reason: str):
        super().__init__(f"{os.fspath(path)}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video from its header and first frame.

    Attributes:
      height, width: as displayed, in square pixels.
      orientation: what makes its frames upright.
      fps: average frame rate.
      codec: FFmpeg's name.
    """

    height: int
    width: int
    orientation: Orientation
    fps: float
    codec: str


class Video:
    """An open video file, to be read once from its start: `with Video(path) as video: ...`.

    Of several video streams it reads the one that ffmpeg would: the largest, or rather the default; never cover art.

    Attributes:
      fps: average frame rate: the header's, or after the last frame that of the time stamps if they differ by more
        than 2 %; 25 if neither is known.
      times: after the last frame, seconds from the first frame to each, float64 [frames], if the frame rate varies
        and the time stamps ascend; else None.
      codec: FFmpeg's name.
      header_frames: number of frames in the header, often wrong; 0 if there is none.
      streams: number of video streams, cover art left out.
      chosen: which of them is read, from 1.

    Args:
      path: a local file; of `data` no more than its name for messages.
      data: the file's bytes, where it lies in another file or in memory.
      threads: of the decoder; 0 for its default.

    Raises:
      VideoError: the file is missing, empty, no video, or has no pictures.
    """

    def __init__(self, path: str | os.PathLike, threads: int = 0, data: bytes | None = None):
        self.path = Path(path)
        if data is None:
            self._check_file()
        elif not data:
            raise VideoError(self.path, "is an empty file")
        try:
            self._container = open_container(self.path, data)
        except (av.FFmpegError, ValueError, OSError) as error:
            raise VideoError(self.path, f"is no readable video ({_reason(error)})") from error
        try:
            self._stream, self.chosen, self.streams = self._picture_stream()
        except VideoError:
            self._container.close()
            raise
        self._stream.thread_count = threads
        self._stream.thread_type = "NONE" if threads == 1 else "AUTO"
        self._header_fps = float(self._stream.average_rate or 0)
        self.fps = self._header_fps or _UNKNOWN_FPS
        self.times: np.ndarray | None = None
        self.codec = self._stream.codec.name
        self.header_frames = self._stream.frames
        self._packets, self._packet, self._reached = 0, None, 0
        self._index = self._indexed_frames()
        self._orientations: dict[int, Orientation] = {}
        # A density of print in still pictures, not the shape of their pixels on a screen.
        kind = self._container.format.name
        self._aspect = Fraction(1) if kind.endswith("_pipe") or kind.startswith("image2") else None

    def __enter__(self) -> "Video":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    @property
    def cut_off(self) -> bool:
        """Whether packets are missing that the header claims; known after the last frame.

        Packets are counted, since an edit list discards some of the frames; and where their time reaches the end that
        the header claims too, nothing is missing: AVI counts a frame that is shown again, without a packet, twice.
        """
        claimed = self.header_frames if self._index is None else min(self._index, self.header_frames)
        return self._packets < _SUSPICIOUS * claimed and self._reached < _SUSPICIOUS * (self._stream.duration or np.inf)

    def header(self) -> tuple[int, int, int, float]:
        """Returns what is known before decoding: number of frames (0 if unknown), raw height and width, frame rate."""
        context, frames = self._stream.codec_context, self.header_frames
        if not frames and self._stream.duration:
            frames = round(self._stream.duration * float(self._stream.time_base) * self.fps)
        elif not frames and self._container.duration:
            frames = round(self._container.duration / av.time_base * self.fps)
        return max(0, frames), context.height, context.width, self.fps

    def index_end(self) -> int:
        """Returns where in the file the last packet ends that an MP4's tables list; 0 if unknown."""
        if not self._index:
            return 0
        last = self._stream.index_entries[self._index - 1]
        return last.pos + last.size

    def orientation(self, frame: av.VideoFrame) -> Orientation:
        """Returns what makes the frame that came last upright."""
        if self.codec == "mjpeg" and b"Exif\0" in bytes(memoryview(self._packet)[:_EXIF_WITHIN]):
            return of_frame(frame, self._packet)  # each has its own
        # A container says it once for all frames. Asking each for its side data would keep it alive until the garbage
        # collector comes, as the two refer to each other, and the decoder could not use its memory again.
        turned = frame.rotation
        if turned not in self._orientations:
            self._orientations[turned] = of_frame(frame, self._packet)
        return self._orientations[turned]

    def display_size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Returns (height, width) of the frame that came last, upright and in square pixels.

        As ffmpeg shows it: where pixels are not square, the width is scaled and the height kept, before it is turned.
        """
        if self._aspect is None:
            self._aspect = _aspect(self._stream.sample_aspect_ratio)
        width = max(1, round(frame.width * self._aspect))
        return self.orientation(frame).size(frame.height, width)

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yields every frame as decoded, without scaling or turning.

        Raises:
          VideoError: a packet cannot be decoded, or the file holds no frames.
        """
        base = self._stream.time_base
        clock, last = Clock(Fraction(base.numerator, base.denominator)), None
        try:
            for packet in self._container.demux(self._stream):
                if packet.size:  # the last, empty one only empties the decoder
                    self._packets += 1
                    last = packet
                self._packet = packet
                for frame in packet.decode():
                    clock.add(frame.pts, frame.dts)
                    yield frame
        except (av.FFmpegError, ValueError, OSError) as error:
            raise VideoError(self.path, f"cannot be decoded after frame {len(clock)} ({_reason(error)})") from error
        if not len(clock):
            raise VideoError(self.path, "holds no frames")
        at = last.pts if last.dts is None else last.dts
        self._reached = (at or 0) + (last.duration or 0) - (self._stream.start_time or 0)
        seconds = clock.seconds()
        if seconds is None and self._header_fps:
            return
        measured = clock.rate(seconds)
        # If the two agree the header's is more exact; with a variable rate it is meaningless.
        if measured and abs(measured - self._header_fps) > 0.02 * measured:
            self.fps = measured
        if seconds is not None and clock.varies(seconds):
            self.times = seconds

    def rgb(self, resize: Resize = None) -> Iterator[np.ndarray]:
        """Yields every frame upright and scaled; all frames get the size of the first.

        Args:
          resize: (height, width), the length of the short side, or None.

        Yields:
          uint8 [height, width, 3].
        """
        scaler, size = Scaler(), None
        for frame in self.frames():
            size = size or target_size(*self.display_size(frame), resize)
            yield scaler.rgb(frame, *size, self.orientation(frame))

    def _check_file(self) -> None:
        if self.path.is_dir():
            raise VideoError(self.path, "is a folder; give a video file")
        if not self.path.exists():
            raise VideoError(self.path, "does not exist")
        if not self.path.stat().st_size:
            raise VideoError(self.path, "is an empty file")

    def _picture_stream(self) -> tuple[av.VideoStream, int, int]:
        """Returns the stream to read, its number from 1 among those of video, and how many there are."""
        if _NOT_VIDEO & set(self._container.format.name.split(",")):
            raise VideoError(self.path, f"is no video but {self._container.format.name}")
        # The demuxer presents cover art as a video stream of one picture.
        art = av.stream.Disposition.attached_pic
        streams = [stream for stream in self._container.streams.video if not stream.disposition & art]
        decodable = [stream for stream in streams if stream.codec_context is not None]
        if decodable:
            best = max(decodable, key=_worth)  # of equals the first
            return best, streams.index(best) + 1, len(streams)
        if streams:
            raise VideoError(self.path, "is in a codec that PyAV does not decode")
        kinds = sorted({stream.type for stream in self._container.streams if stream.type != "video"})
        raise VideoError(self.path, f"has no video stream (only {', '.join(kinds) or 'pictures'})")

    def _indexed_frames(self) -> int | None:
        """The packets that an MP4's tables promise within its edit list; None for other containers.

        Others complete their index while they are read.
        """
        return len(self._stream.index_entries) if "mp4" in self._container.format.name.split(",") else None


def _worth(stream: av.VideoStream) -> int:
    context, default = stream.codec_context, bool(stream.disposition & av.stream.Disposition.default)
    return context.width * context.height + _DEFAULT_IS_WORTH * default


def _aspect(ratio: Fraction | None) -> Fraction:
    """The width of a pixel over its height; 1 where that is unknown or absurd."""
    known = Fraction(ratio.numerator, ratio.denominator) if ratio else Fraction(1)
    return known if _LEAST_ASPECT <= known <= _MOST_ASPECT else Fraction(1)


def open_container(path: str | os.PathLike, data: bytes | None = None) -> av.container.InputContainer:
    """Opens a local file, or its bytes, whatever the encoding of the titles and comments in it."""
    file = os.path.abspath(path) if data is None else io.BytesIO(data)
    arguments = {"file": file, "options": {"protocol_whitelist": "file"}}
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
        return VideoInfo(*video.display_size(frame), video.orientation(frame), video.fps, video.codec)


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
