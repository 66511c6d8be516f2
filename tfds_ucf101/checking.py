"""What can be known of videos before the first is decoded: which cannot be opened, how many frames, how much disk."""

import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import simplejpeg
from tqdm import tqdm

from r23d_jax.data.video import Video, VideoError
from r23d_jax.data.video_check import check
from r23d_jax.data.workers import cores
from tfds_ucf101.media import Media, VideoFile
from tfds_ucf101.sources import Source
from tfds_ucf101.stored import FrameOptions

_SAMPLE = 12  # videos that tell of all: how many frames, and by their first what a frame takes
_FLOW_BYTES = 1.1  # a pixel of PNG, both directions together
_THREADS = 32  # opening a file is waiting, mostly
_TOGETHER = 64  # videos of one task

In, Out = TypeVar("In"), TypeVar("Out")


@dataclass(frozen=True)
class Looked:
    """What looking at a video gave.

    Attributes:
      frames: as many as its header says, or as it has pictures; 0 if unknown.
      reason: why it cannot be read; "" if it can, as far as that is known without decoding it.
    """

    frames: int = 0
    reason: str = ""


def identities(sources: Sequence[Source]) -> list[Any]:
    """Returns `identity()` of all media, None for those that are not there."""

    def identity(source: Source) -> Any:
        try:
            return source.media.identity()
        except OSError:
            return None

    return list(_in_threads(identity, sources))


def look(sources: Sequence[Source], shown: bool) -> list[Looked]:
    """Opens every video that is a file of its own, decoding nothing, and looks whether the others are there.

    A file costs a few milliseconds of waiting, so a whole data set less than its first shard. It is done in this
    process also where the workers are on a cluster: it has found the files, so it can open them.

    Args:
      sources: the videos.
      shown: whether to draw a progress bar.
    """
    looking = _in_threads(lambda source: _look(source.media), sources)
    found = list(tqdm(looking, total=len(sources), unit=" videos", desc="checking", disable=not shown, delay=2))
    if not any(one.frames for one in found):
        # What lies in an archive or a table is not unpacked twice, but some of it, which tells of the others.
        chosen = [place for place in _sample(len(found)) if not found[place].reason]
        counts = _in_threads(lambda place: _count(sources[place].media), chosen)
        for place, frames in zip(chosen, counts, strict=True):
            found[place] = Looked(frames)
    return found


def expected_frames(looked: Sequence[Looked]) -> int:
    """Returns the number of frames of the readable videos; of unknown ones the average of the others, else 0."""
    readable = [one.frames for one in looked if not one.reason]
    known = [frames for frames in readable if frames]
    return round(statistics.mean(known) * len(readable)) if known else 0


def bytes_per_frame(sources: Sequence[Source], options: FrameOptions) -> float:
    """Returns about how many bytes a stored frame takes, from the first frames of some of the videos; 0 if unknown."""
    chosen = [sources[place] for place in _sample(len(sources))]
    sizes = [size for size in _in_threads(lambda source: _first_frame(source.media, options), chosen) if size]
    return statistics.mean(sizes) if sizes else 0.0


def _sample(count: int) -> Sequence[int]:
    """Places of some of so many videos."""
    return range(0, count, max(1, count // _SAMPLE))[:_SAMPLE]


def _count(media: Media) -> int:
    """The number of frames of a video that is no file of its own; 0 if unknown."""
    try:
        if media.still:
            return sum(1 for _ in media.pictures())
        with Video(media.path, threads=1, data=media.content()) as video:
            return video.header()[0]
    except (VideoError, OSError):
        return 0


def _look(media: Media) -> Looked:
    try:
        media.identity()
        if media.still:
            return Looked(len(media) if hasattr(media, "__len__") else 0)
        return Looked(check(media.path).frames) if isinstance(media, VideoFile) else Looked()
    except VideoError as error:
        return Looked(reason=error.reason)
    except OSError as error:
        path = os.fspath(media.path)
        if os.path.islink(path) and not os.path.exists(path):
            return Looked(reason=f"is a broken link to {os.readlink(path)}")
        missing = error.filename if error.filename and os.fspath(error.filename) != path else ""
        holds = f"{os.path.basename(missing)}: " if missing else ""
        return Looked(reason=f"cannot be opened ({holds}{error.strerror or error})")


def _first_frame(media: Media, options: FrameOptions) -> float:
    try:
        data = next(data for _, data in media.pictures()) if media.still else media.content()
        with Video(media.path, threads=1, data=data) as video:
            frame = next(video.rgb(options.resize))
    except (VideoError, OSError, StopIteration):
        return 0.0
    if options.flow:
        return _FLOW_BYTES * frame.shape[0] * frame.shape[1]
    return float(len(simplejpeg.encode_jpeg(frame, options.quality, "RGB", "420")))


def _in_threads(act: Callable[[In], Out], values: Sequence[In]) -> Iterable[Out]:
    """Yields the results in order."""
    threads = min(_THREADS, 4 * cores())
    size = max(1, min(_TOGETHER, len(values) // (4 * threads)))
    with ThreadPoolExecutor(threads) as pool:
        for part in pool.map(lambda at: [act(one) for one in values[at : at + size]], range(0, len(values), size)):
            yield from part
