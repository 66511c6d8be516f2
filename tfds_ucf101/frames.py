"""One video, or one folder of extracted frames, to JPEG frames at the stored size, or to their optical flow.

Each JPEG is a function of its decoded frame and the options alone: the same picture gives the same bytes
wherever it stands. The planes go from swscale to libjpeg as they are, with no detour over RGB.
"""

from dataclasses import asdict
from pathlib import Path

import av
import cv2
import numpy as np
import simplejpeg

from r23d_jax.data import flow
from r23d_jax.data.video import Scaler, Video, VideoError, display_size, rotation_of, target_size
from tfds_ucf101 import cache
from tfds_ucf101.sources import IMAGES, natural_key
from tfds_ucf101.stored import FrameOptions, StoredVideo


def encode(path: str, options: FrameOptions, cache_folder: str | None = None) -> StoredVideo:
    """Decodes a video file, or the images of a folder in natural order, and encodes every frame.

    Args:
      path: a video file or a folder of images.
      options: how.
      cache_folder: where finished flow is kept; None for nowhere.

    Raises:
      VideoError: it cannot be decoded to its end, has no frames, or fewer than `min_frames`; or only one where
        flow is asked for.
    """
    source = Path(path)
    if cache_folder is None or options.flow is None:
        return _encode(source, options)
    files = _images(source) if source.is_dir() else [source]
    name = cache.key(files, [asdict(options), flow.describe(options.flow)])
    stored = cache.load(cache_folder, name)
    if stored is None:
        stored = _encode(source, options)
        cache.save(cache_folder, name, stored)
    return stored


def _encode(source: Path, options: FrameOptions) -> StoredVideo:
    encoder = _FlowEncoder(options) if options.flow else _Encoder(options)
    stored = _encode_folder(source, encoder) if source.is_dir() else _encode_file(source, encoder)
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

    def __call__(self, frame: av.VideoFrame) -> list[bytes]:
        """The pictures that come with this frame."""
        if self._size is None:
            self._source = display_size(frame)
            self._size = target_size(*self._source, self.options.resize)
        return self._pictures(frame)

    def _pictures(self, frame: av.VideoFrame) -> list[bytes]:
        quality = self.options.quality
        if rotation_of(frame):
            # Turning planes of halved chroma would shift the colours where a side is odd.
            return [simplejpeg.encode_jpeg(self._rgb(frame), quality, "RGB", "420", fastdct=False)]
        y, u, v = self._scaler.planes(frame, *self._size)
        y = _with_even_surroundings(y)
        return [simplejpeg.encode_jpeg_yuv_planes(y, u, v, quality=quality, fastdct=False)]

    def _rgb(self, frame: av.VideoFrame) -> np.ndarray:
        return self._scaler.rgb(frame, *self._size)

    def as_stored(self, image: Path) -> bytes | None:
        """The file's bytes if it is a JPEG that already is what would be stored: no second loss.

        Raises:
          VideoError: it is a damaged JPEG, which the video decoder would have patched up.
        """
        data = _checked_jpeg(image)
        if data is None:
            return None
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        return data if (height, width) == self._size and colours == "YCbCr" else None

    def stored(self, pictures: list[bytes], fps: float, header_frames: int = 0) -> StoredVideo:
        return StoredVideo(pictures, fps, *self._size, *self._source, max(0, header_frames - self.lost))


class _FlowEncoder(_Encoder):
    """Turns them into the flow from the frame before, computed at the stored size."""

    lost = 1

    def __init__(self, options: FrameOptions):
        super().__init__(options)
        cv2.setNumThreads(1)  # the build has a process on every core already
        self._flow = flow.Flow(options.flow)
        self._before: np.ndarray | None = None

    def _pictures(self, frame: av.VideoFrame) -> list[bytes]:
        before, self._before = self._before, flow.grey(self._rgb(frame))
        if before is None:
            return []
        return [flow.to_png(flow.quantise(self._flow.field(before, self._before)))]

    def as_stored(self, image: Path) -> None:
        _checked_jpeg(image)


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


def _encode_file(path: Path, encoder: _Encoder) -> StoredVideo:
    # One thread: the build has a process on every core already.
    with Video(path, threads=1) as video:
        pictures = [picture for frame in video.frames() for picture in encoder(frame)]
        return encoder.stored(pictures, video.fps, video.header_frames)


def _encode_folder(path: Path, encoder: _Encoder) -> StoredVideo:
    pictures = []
    for image in _images(path):
        try:
            with Video(image, threads=1) as picture:
                encoded = [encoder(frame) for frame in picture.frames()]
        except VideoError as error:
            raise VideoError(path, f"holds {image.name}, which {error.reason}") from error
        if len(encoded) != 1:
            raise VideoError(path, f"holds {image.name}, which is {len(encoded)} pictures")
        kept = encoder.as_stored(image)
        pictures += [kept] if kept else encoded[0]
    return encoder.stored(pictures, encoder.options.fps)


def _checked_jpeg(image: Path) -> bytes | None:
    if image.suffix.lower() == ".png":
        return None
    data = image.read_bytes()
    try:
        simplejpeg.decode_jpeg(data, strict=True)
    except ValueError as error:
        raise VideoError(image.parent, f"holds {image.name}, a damaged JPEG ({error})") from error
    return data


def _images(folder: Path) -> list[Path]:
    images = [p for p in folder.iterdir() if p.suffix.lower() in IMAGES and not p.name.startswith(".")]
    if not images:
        raise VideoError(folder, f"holds no images ({', '.join(IMAGES)})")
    stems: dict[str, Path] = {}
    for image in images:
        if image.stem in stems:
            raise VideoError(folder, f"holds both {stems[image.stem].name} and {image.name}")
        stems[image.stem] = image
    return sorted(images, key=lambda image: natural_key(image.stem))
