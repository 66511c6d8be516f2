"""A progress bar in the parent for work done in other processes of the same machine.

Each worker appends to a file of its own, eight bytes a video that hold its number of frames; the bar reads
the files. Workers on other machines find no such folder and say nothing.
"""

import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

_BYTES = 8
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


def count_video(folder: str | None, frames: int) -> None:
    """Called by a worker once for every video that it is done with, readable or not."""
    if folder and os.path.isdir(folder):
        with open(os.path.join(folder, str(os.getpid())), "ab") as file:
            file.write(frames.to_bytes(_BYTES, "little"))


class Progress:
    """A bar of videos, with frames, frames a second and the time left, while the `with` block runs.

    Attributes:
      folder: what `count_video` wants.
      frames: so far.

    Args:
      total: videos.
      expected: frames of all of them, by which the time left is told; by videos if 0, for unknown.
      shown: False for no bar.
    """

    def __init__(self, total: int, expected: int = 0, shown: bool = True):
        self._expected = expected
        self._temporary = tempfile.TemporaryDirectory(prefix="tfds_ucf101_")
        self.folder = self._temporary.name
        self.frames = 0
        # Away from a terminal a bar is a line of a log, now and then.
        pace = 0.5 if sys.stderr.isatty() else 20.0
        self._bar = tqdm(total=total, desc="videos", mininterval=pace, disable=not shown, bar_format=_BAR)
        self._total, self._started = total, time.monotonic()
        self._pace = min(pace, 1.0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Progress":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._update()
        self._bar.close()
        self._temporary.cleanup()

    def _watch(self) -> None:
        while not self._stop.wait(self._pace):
            self._update()

    def _update(self) -> None:
        videos = frames = 0
        for path in Path(self.folder).iterdir():
            data = path.read_bytes()
            videos += len(data) // _BYTES
            for start in range(0, len(data) - _BYTES + 1, _BYTES):
                frames += int.from_bytes(data[start : start + _BYTES], "little")
        self.frames = frames
        elapsed = time.monotonic() - self._started
        told = [f"{frames:,} frames", f"{frames / elapsed:,.0f} frames/s" if elapsed else ""]
        told.append(time_left(elapsed, videos, self._total, frames, self._expected))
        self._bar.set_postfix_str(", ".join(filter(None, told)), refresh=False)
        self._bar.update(videos - self._bar.n)


def time_left(elapsed: float, videos: int, total: int, frames: int, expected: int) -> str:
    """Tells how long the rest will take, at the pace so far; "" where that is not known or nothing is left.

    Args:
      elapsed: seconds.
      videos, frames: done.
      total: videos in all.
      expected: frames in all, of which headers tell; 0 if unknown.
    """
    # Headers may tell of too few; then videos are what is left to go by.
    done = frames / expected if frames < expected else videos / total if total else 1.0
    if not 0 < done < 1 or videos >= total:
        return ""
    return f"{tqdm.format_interval(elapsed / done - elapsed)} left"
