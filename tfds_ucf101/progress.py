"""A progress bar in the parent for work done in other processes of the same machine.

Each worker appends to a file of its own, eight bytes a video that hold its number of frames; the bar reads
the files. Workers on other machines find no such folder and say nothing.
"""

import os
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

_BYTES = 8


def count_video(folder: str | None, frames: int) -> None:
    """Called by a worker once for every video that it is done with, readable or not."""
    if folder and os.path.isdir(folder):
        with open(os.path.join(folder, str(os.getpid())), "ab") as file:
            file.write(frames.to_bytes(_BYTES, "little"))


class Progress:
    """A bar of videos, with frames and frames a second, while the `with` block runs.

    Attributes:
      folder: what `count_video` wants.
      frames: so far.

    Args:
      total: videos.
      shown: False for no bar.
    """

    def __init__(self, total: int, shown: bool = True):
        self._temporary = tempfile.TemporaryDirectory(prefix="tfds_ucf101_")
        self.folder = self._temporary.name
        self.frames = 0
        # Away from a terminal a bar is a line of a log, now and then.
        pace = 0.5 if sys.stderr.isatty() else 20.0
        self._bar = tqdm(total=total, unit=" videos", desc="videos", mininterval=pace, disable=not shown)
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
        elapsed = self._bar.format_dict["elapsed"]
        rate = f"{frames / elapsed:,.0f} frames/s" if elapsed else ""
        self._bar.set_postfix_str(f"{frames:,} frames, {rate}", refresh=False)
        self._bar.update(videos - self._bar.n)
