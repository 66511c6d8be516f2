"""Where the pictures of one video lie: a file, a set of numbered frames, a row of a table.

What a layout reader finds is a `Media` for every video: small, picklable, and opened by the worker that stores it.
"""

import abc
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Media(abc.ABC):
    """One video's data.

    Attributes:
      path: the file or folder that holds it, absolute, for messages.
      still: whether it is a sequence of pictures, of which nothing but the order is known, and not a video file.
    """

    path: str
    still: bool

    @abc.abstractmethod
    def content(self) -> bytes | None:
        """Returns a video file's bytes; None where `path` is that file itself. Not for pictures."""

    @abc.abstractmethod
    def pictures(self) -> Iterator[tuple[str, bytes]]:
        """Yields the name and the bytes of each picture in order. Not for video files.

        Raises:
          OSError: one cannot be read.
        """

    def missing_numbers(self) -> int:
        """Returns how many numbers are left out between the first picture and the last; 0 where there are none."""
        return 0

    @abc.abstractmethod
    def identity(self) -> list[Any]:
        """Returns JSON values that change when the data do, without reading them: sizes and times of change.

        Raises:
          OSError: it is not there.
        """


class EncodedVideo(Media):
    """A video file, wherever its bytes lie."""

    still = False

    def pictures(self) -> Iterator[tuple[str, bytes]]:
        raise TypeError(f"{self.path} is a video file")


class Stills(Media):
    """A video as a sequence of pictures. `len` is their number, where that is known without reading them."""

    still = True

    def content(self) -> None:
        raise TypeError(f"{self.path} holds pictures")


@dataclass(frozen=True)
class VideoFile(EncodedVideo):
    """A video in a file of its own."""

    path: str

    def content(self) -> None:
        return None

    def identity(self) -> list[Any]:
        return stamp(self.path)


@dataclass(frozen=True)
class FrameFiles(Stills):
    """Numbered pictures in a folder, in the order of their numbers: `prefix`, a number, `suffix`.

    Attributes:
      path: the folder.
      prefix, suffix: of every file's name.
      width: least number of digits; shorter numbers have zeros in front.
      runs: first and last number of each run without gaps, ascending.
    """

    path: str
    prefix: str
    suffix: str
    width: int
    runs: tuple[tuple[int, int], ...]

    def pictures(self) -> Iterator[tuple[str, bytes]]:
        for name in self.names():
            yield name, Path(self.path, name).read_bytes()

    def names(self) -> Iterator[str]:
        """Yields the files' names."""
        for first, last in self.runs:
            for number in range(first, last + 1):
                yield self._name(number)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.runs)

    def missing_numbers(self) -> int:
        return self.runs[-1][1] - self.runs[0][0] + 1 - len(self) if self.runs else 0

    def identity(self) -> list[Any]:
        if not self.runs:
            return [self.prefix, *stamp(self.path)]
        ends = [os.path.join(self.path, self._name(number)) for number in (self.runs[0][0], self.runs[-1][1])]
        return [self.prefix, self.runs, *stamp(*ends)]

    def _name(self, number: int) -> str:
        return f"{self.prefix}{number:0{self.width}d}{self.suffix}"


@dataclass(frozen=True)
class FlowFiles(Stills):
    """Optical flow as two sets of grey pictures, x and y; yields the x and the y of each field in turns.

    Attributes:
      path: the folder.
      x, y: the pictures; both have the same numbers.
    """

    path: str
    x: FrameFiles
    y: FrameFiles

    def __len__(self) -> int:
        return len(self.x)

    def pictures(self) -> Iterator[tuple[str, bytes]]:
        for pair in zip(self.x.pictures(), self.y.pictures(), strict=True):
            yield from pair

    def missing_numbers(self) -> int:
        return self.x.missing_numbers()

    def identity(self) -> list[Any]:
        return [self.x.identity(), self.y.identity()]


def stamp(*paths: str) -> list[Any]:
    """Returns size and time of change of files."""
    found = [os.stat(path) for path in paths]
    return [value for one in found for value in (one.st_size, one.st_mtime_ns)]
