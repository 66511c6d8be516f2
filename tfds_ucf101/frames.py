"""One video, or one folder of extracted frames, to JPEG frames at the stored size, or to their optical flow.

Each JPEG is a function of its decoded frame and the options alone: the same picture gives the same bytes
wherever it stands. The planes go from swscale to libjpeg as they are, with no detour over RGB.
"""

from collections import Counter
from pathlib import Path

import av
import cv2
import numpy as np
import simplejpeg

from r23d_jax.data import flow
from r23d_jax.data.orientation import UPRIGHT, Orientation
from r23d_jax.data.scaling import Scaler, target_size
from r23d_jax.data.video import Video, VideoError
from tfds_ucf101 import stills
from tfds_ucf101.media import FlowFiles, Media
from tfds_ucf101.stills import Still
from tfds_ucf101.stored import FrameOptions, StoredVideo

# FFmpeg's transfer characteristics of high dynamic range: SMPTE ST 2084 (PQ) and ARIB STD-B67 (HLG).
_HDR = (16, 18)


def encode(media: Media, options: FrameOptions) -> StoredVideo:
    """Decodes a video and encodes every frame.

    Raises:
      VideoError: it cannot be decoded to its end, has no frames, or fewer than `min_frames`; or only one where
        flow is asked for.
    """
    source = Path(media.path)
    if options.flow_files:
        if not isinstance(media, FlowFiles):
            raise VideoError(source, "holds no optical flow as pictures, and the config asks for flow_files")
        return _encode_flow_files(source, media, options)
    encoder = _FlowEncoder(options) if options.flow else _Encoder(options)
    stored = _encode_pictures(source, media, encoder) if media.still else _encode_file(source, media, encoder)
    if options.flow and not stored.frames:
        raise VideoError(source, "is too short: 1 frame, optical flow needs 2")
    count, least = len(stored.frames) + encoder.lost, options.min_frames
    if count < least:
        raise VideoError(source, f"is too short: {count} frames, the config asks for {least} at least")
    return stored


class _Encoder:
    """Turns the frames of one video into JPEG, all at the size that the first one gets."""

    lost = 0  # pictures fewer than frames

    def __init__(self, options: FrameOptions):
        self.options = options
        self._scaler = Scaler()
        self._source: tuple[int, int] | None = None
        self._size: tuple[int, int] | None = None

    def begin(self, source: tuple[int, int]) -> None:
        """Takes (height, width) of a frame as displayed; that of the first one decides the size of all."""
        if self._size is None:
            self._source, self._size = source, target_size(*source, self.options.resize)

    def __call__(self, frame: av.VideoFrame, orientation: Orientation) -> list[bytes]:
        """The pictures that come with this frame."""
        quality = self.options.quality
        if orientation != UPRIGHT:
            # Turning planes of halved chroma would shift the colours where a side is odd.
            rgb = self._rgb(frame, orientation)
            return [simplejpeg.encode_jpeg(rgb, quality, "RGB", "420", fastdct=False)]
        y, u, v = self._scaler.planes(frame, *self._size)
        y = _with_even_surroundings(y)
        return [simplejpeg.encode_jpeg_yuv_planes(y, u, v, quality=quality, fastdct=False)]

    def _rgb(self, frame: av.VideoFrame, orientation: Orientation) -> np.ndarray:
        return self._scaler.rgb(frame, *self._size, orientation)

    def as_stored(self, still: Still) -> bytes | None:
        """Returns the picture's bytes if it is a JPEG that already is what would be stored: no second loss."""
        if still.flawless_jpeg is None or still.orientation != UPRIGHT:
            return None
        height, width, colours, _ = simplejpeg.decode_jpeg_header(still.flawless_jpeg)
        return still.flawless_jpeg if (height, width) == self._size and colours == "YCbCr" else None

    def stored(
        self, pictures: list[bytes], fps: float, findings: Counter[str], times: np.ndarray | None = None
    ) -> StoredVideo:
        """Returns the result; `times` are the frames'."""
        times = None if times is None else times[: len(pictures)]  # a field of flow has the time of its first frame
        findings["variable_rate"] = int(times is not None)
        # Unary plus drops a Counter's zeros.
        return StoredVideo(pictures, fps, *self._size, *self._source, times, dict(+findings))


class _FlowEncoder(_Encoder):
    """Turns them into the flow from the frame before, computed at the stored size."""

    lost = 1

    def __init__(self, options: FrameOptions):
        super().__init__(options)
        cv2.setNumThreads(1)  # the build has a process on every core already
        self._flow = flow.Flow(options.flow)
        self._before: np.ndarray | None = None

    def __call__(self, frame: av.VideoFrame, orientation: Orientation) -> list[bytes]:
        before, self._before = self._before, flow.grey(self._rgb(frame, orientation))
        if before is None:
            return []
        return [flow.to_png(flow.quantise(self._flow.field(before, self._before)))]

    def as_stored(self, still: Still) -> None:
        return None


def _with_even_surroundings(plane: np.ndarray) -> np.ndarray:
    """The same plane in memory that goes on to even sides, with its last row and column repeated.

    libjpeg reads luma in pairs: past an odd side it would take whatever the memory holds into the last block.
    """
    height, width = plane.shape
    if height % 2 == 0 and width % 2 == 0:
        return plane
    even = np.empty((height + height % 2, width + width % 2), np.uint8)
    even[:height, :width] = plane
    even[:height, width:] = plane[:, -1:]
    even[height:] = even[height - 1]
    return even[:height, :width]


def _encode_file(path: Path, media: Media, encoder: _Encoder) -> StoredVideo:
    findings, pictures = Counter(), []
    # One thread: the build has a process on every core already.
    with Video(path, threads=1, data=media.content()) as video:
        for number, frame in enumerate(video.frames()):
            if not number:
                encoder.begin(video.display_size(frame))
            pictures += encoder(frame, video.orientation(frame))
            findings["damaged_frames"] += frame.is_corrupt
            findings["interlaced_frames"] += frame.interlaced_frame
            findings["hdr_frames"] += frame.color_trc in _HDR
        findings["cut_off"] = int(video.cut_off)
        findings["streams"] = video.streams if video.streams > 1 else 0
        return encoder.stored(pictures, video.fps, findings, video.times)


def _encode_pictures(path: Path, media: Media, encoder: _Encoder) -> StoredVideo:
    findings, pictures = Counter(missing_numbers=media.missing_numbers()), []
    for name, data in media.pictures():
        still = stills.read(path, name, data)
        encoder.begin(still.size)
        kept = encoder.as_stored(still)
        pictures += [kept] if kept else encoder(still.frame, still.orientation)
        findings["damaged_frames"] += still.damaged
        findings["repaired_frames"] += still.repaired
        findings["hdr_frames"] += still.frame.color_trc in _HDR
    return encoder.stored(pictures, encoder.options.fps, findings)


def _encode_flow_files(path: Path, media: FlowFiles, options: FrameOptions) -> StoredVideo:
    """Stores optical flow that is there as pictures: its values as they are, scaled to the stored size."""
    fields, size, source = [], None, None
    names = media.pictures()
    for pair in zip(names, names, strict=True):
        planes = [_grey(path, name, data) for name, data in pair]
        source = source or planes[0].shape
        size = size or target_size(*source, options.resize)
        for (name, _), plane in zip(pair, planes, strict=True):
            if plane.shape != source:
                (height, width), (due_height, due_width) = plane.shape, source
                raise VideoError(path, f"holds {name} of {width}x{height}, the first is {due_width}x{due_height}")
        small = [cv2.resize(plane, size[::-1], interpolation=cv2.INTER_AREA) for plane in planes]
        fields.append(flow.to_png(np.stack(small, -1)))
    if not fields:
        raise VideoError(path, "holds no frames")
    if len(fields) < options.min_frames:
        raise VideoError(path, f"is too short: {len(fields)} fields, the config asks for {options.min_frames} at least")
    findings = Counter(missing_numbers=media.missing_numbers())
    return StoredVideo(fields, options.fps, *size, *source, findings=dict(+findings))


def _grey(path: Path, name: str, data: bytes) -> np.ndarray:
    stills.read(path, name, data)  # refuses a damaged one, which OpenCV would patch up
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise VideoError(path, f"holds {name}, which cannot be decoded")
    return picture
