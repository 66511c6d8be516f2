"""One video, or one folder of extracted frames, to JPEG frames at the stored size.

Each JPEG is a function of its decoded frame and the options alone: the same picture gives the same bytes
wherever it stands. The planes go from swscale to libjpeg as they are, with no detour over RGB.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import simplejpeg

from r23d_jax.data.video import Resize, Scaler, Video, VideoError, display_size, rotation_of, target_size
from tfds_ucf101.sources import IMAGES, natural_key


@dataclass(frozen=True)
class FrameOptions:
    """How frames are stored.

    Attributes:
      resize: an exact (height, width), the length of the short side, or None for the size in the file.
      quality: of the JPEG, 1 to 100.
      min_frames: a video with fewer is refused as too short.
      fps: the rate of extracted frames, whose files do not say it.
    """

    resize: Resize
    quality: int
    min_frames: int
    fps: float


@dataclass(frozen=True)
class StoredVideo:
    """The JPEG frames of one video, all [height, width], from pictures of the source's size.

    `header_frames` is the number that a video file's header claims, 0 where it claims none.
    """

    frames: list[bytes]
    fps: float
    height: int
    width: int
    source_height: int
    source_width: int
    header_frames: int = 0


def encode(path: str, options: FrameOptions) -> StoredVideo:
    """Decodes a video file, or the images of a folder in natural order, and encodes every frame.

    Raises:
      VideoError: it cannot be decoded to its end, has no frames, or fewer than `min_frames`.
    """
    source = Path(path)
    stored = _encode_folder(source, options) if source.is_dir() else _encode_file(source, options)
    if len(stored.frames) < options.min_frames:
        count, least = len(stored.frames), options.min_frames
        raise VideoError(path, f"is too short: {count} frames, the config asks for {least} at least")
    return stored


class _Encoder:
    """Turns the frames of one video into JPEG, all at the size that the first one gets."""

    def __init__(self, options: FrameOptions):
        self._options = options
        self._scaler = Scaler()
        self.source: tuple[int, int] | None = None
        self.size: tuple[int, int] | None = None

    def __call__(self, frame: av.VideoFrame) -> bytes:
        if self.size is None:
            self.source = display_size(frame)
            self.size = target_size(*self.source, self._options.resize)
        if rotation_of(frame):
            # Turning planes of halved chroma would shift the colours where a side is odd.
            pixels = self._scaler.rgb(frame, *self.size)
            return simplejpeg.encode_jpeg(pixels, self._options.quality, "RGB", "420", fastdct=False)
        y, u, v = self._scaler.planes(frame, *self.size)
        return simplejpeg.encode_jpeg_yuv_planes(
            _with_even_surroundings(y), u, v, quality=self._options.quality, fastdct=False
        )

    def stored(self, frames: list[bytes], fps: float, header_frames: int = 0) -> StoredVideo:
        return StoredVideo(frames, fps, *self.size, *self.source, header_frames)


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


def _encode_file(path: Path, options: FrameOptions) -> StoredVideo:
    encoder = _Encoder(options)
    # One thread: the build has a process on every core already.
    with Video(path, threads=1) as video:
        frames = [encoder(frame) for frame in video.frames()]
        return encoder.stored(frames, video.fps, video.header_frames)


def _encode_folder(path: Path, options: FrameOptions) -> StoredVideo:
    encoder = _Encoder(options)
    frames = []
    for image in _images(path):
        try:
            with Video(image, threads=1) as picture:
                jpegs = [encoder(frame) for frame in picture.frames()]
        except VideoError as error:
            raise VideoError(path, f"holds {image.name}, which {error.reason}") from error
        if len(jpegs) != 1:
            raise VideoError(path, f"holds {image.name}, which is {len(jpegs)} pictures")
        frames.append(_as_stored(image, encoder.size) or jpegs[0])
    return encoder.stored(frames, options.fps)


def _as_stored(image: Path, size: tuple[int, int]) -> bytes | None:
    """The file's bytes if it is a JPEG that already is what would be stored: no second loss.

    Raises:
      VideoError: it is a damaged JPEG, which the video decoder above would have patched up.
    """
    if image.suffix.lower() == ".png":
        return None
    data = image.read_bytes()
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        simplejpeg.decode_jpeg(data, strict=True)
    except ValueError as error:
        raise VideoError(image.parent, f"holds {image.name}, a damaged JPEG ({error})") from error
    return data if (height, width) == size and colours == "YCbCr" else None


def _images(folder: Path) -> Iterator[Path]:
    images = [p for p in folder.iterdir() if p.suffix.lower() in IMAGES and not p.name.startswith(".")]
    if not images:
        raise VideoError(folder, f"holds no images ({', '.join(IMAGES)})")
    stems: dict[str, Path] = {}
    for image in images:
        if image.stem in stems:
            raise VideoError(folder, f"holds both {stems[image.stem].name} and {image.name}")
        stems[image.stem] = image
    yield from sorted(images, key=lambda image: natural_key(image.stem))
