"""A folder of the input, listed once: its videos, its sets of numbered pictures, its folders and what else lies there.

Pictures are kept as runs of numbers, so that millions of them take no memory. What an archive holds looks the same.
"""

import codecs
import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from r23d_jax.data.video import ENDINGS, Video, VideoError
from r23d_jax.errors import UserError
from tfds_ucf101.media import FrameFiles, Media, VideoFile

# Endings of frames.
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
# What systems and servers put into folders.
_IGNORED = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found", "$recycle.bin"})
_DIGITS = "0123456789"
# Long runs of numbers far apart: the number of a clip stands before that of the frame, with nothing between them.
_SPARSE, _LONG_RUN = 10, 8
_DEEPEST = 6  # folders down to which videos are looked for


@dataclass(frozen=True)
class Pictures:
    """Numbered pictures whose names differ in the number alone; the fields are those of `media.FrameFiles`."""

    prefix: str
    suffix: str
    width: int
    runs: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.runs)

    @property
    def stem(self) -> str:
        """The prefix without what separates it from the number."""
        return self.prefix.rstrip("-_. ")

    @property
    def pattern(self) -> str:
        """The names, for messages: `img_#####.jpg`."""
        return f"{self.prefix}{'#' * self.width}{self.suffix}"


class Folder:
    """A folder on disk.

    Attributes:
      path: absolute.
      shown: from the input folder, for messages; "" for that folder itself.
      name: the last part.
    """

    def __init__(self, path: str | os.PathLike, shown: str = ""):
        self.path = os.path.abspath(path)
        self.shown = shown
        self.name = os.path.basename(self.path)

    def __str__(self) -> str:
        return self.path

    @functools.cached_property
    def _listing(self) -> tuple[list[str], list[str], list[Pictures]]:
        """Names of folders and of files that are no numbered pictures, sorted, and the pictures."""
        folders, files = [], []
        numbered = _Numbered(self)
        for name, is_folder in self._entries():
            if name.startswith(".") or name.casefold() in _IGNORED:
                continue
            if is_folder:
                folders.append(name)
            elif not numbered.add(name):
                files.append(name)
        for name in folders + files:
            _check_text(name, self)
        return sorted(folders), sorted(files), numbered.sets()

    def _entries(self) -> Iterator[tuple[str, bool]]:
        """Yields the name of everything in it, and whether that is a folder.

        Raises:
          UserError: it cannot be listed, or a link leads back to it or to a folder around it.
        """
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    is_folder = entry.is_dir()
                    if is_folder and entry.is_symlink() and os.path.realpath(entry.path) in self._around:
                        raise UserError(f"{entry.path} is a link to a folder that it lies in: remove it")
                    yield entry.name, is_folder
        except OSError as error:
            raise UserError(f"{self.path}: cannot be listed: {error.strerror}") from None

    @functools.cached_property
    def _around(self) -> frozenset[str]:
        """This folder and those around it, by their paths without links."""
        return frozenset(os.path.realpath(path) for path in (self.path, *Path(self.path).parents))

    @functools.cached_property
    def folders(self) -> Mapping[str, "Folder"]:
        """The folders in it by name, sorted."""
        return {name: self._child(name) for name in self._listing[0]}

    @property
    def files(self) -> list[str]:
        """Names of all files but numbered pictures, sorted."""
        return self._listing[1]

    @property
    def pictures(self) -> list[Pictures]:
        """The sets of numbered pictures, sorted by prefix."""
        return self._listing[2]

    @functools.cached_property
    def videos(self) -> list[str]:
        """Names of the video files, sorted: by their ending, or, where that is unknown, by opening them."""
        return [name for name in self.files if self._is_video(name)]

    @property
    def others(self) -> list[str]:
        """Names of the files that are neither videos nor numbered pictures, sorted."""
        videos = set(self.videos)
        return [name for name in self.files if name not in videos]

    def show(self, name: str) -> str:
        """The path of something in it from the input folder."""
        return f"{self.shown}/{name}" if self.shown else name

    def walk(self, depth: int) -> Iterator["Folder"]:
        """This folder and those below it, down to a depth, in order."""
        yield self
        if depth:
            for folder in self.folders.values():
                yield from folder.walk(depth - 1)

    def below(self, relative: Iterable[str]) -> "Folder | None":
        """The folder at a relative path; None if there is none."""
        folder: Folder | None = self
        for name in relative:
            folder = folder.folders.get(name) if folder is not None else None
        return folder

    def _child(self, name: str) -> "Folder":
        return Folder(os.path.join(self.path, name), self.show(name))

    def _is_video(self, name: str) -> bool:
        ending = os.path.splitext(name)[1].casefold()
        return ending in ENDINGS or not (ending in _NO_VIDEOS or _SHARD.search(name)) and self._opens(name)

    def _opens(self, name: str) -> bool:
        try:
            with Video(os.path.join(self.path, name), threads=1):
                return True
        except VideoError:
            return False

    def video(self, name: str) -> Media:
        """The data of a video file in it."""
        return VideoFile(os.path.join(self.path, name))

    def frames(self, pictures: Pictures) -> Media:
        """The data of a video that is a set of pictures in it."""
        return FrameFiles(self.path, pictures.prefix, pictures.suffix, pictures.width, pictures.runs)

    def read(self, name: str, size: int = -1) -> bytes:
        """The bytes of a file in it, the first `size` of them where that is not -1."""
        try:
            with open(os.path.join(self.path, name), "rb") as file:
                return file.read(size)
        except OSError as error:
            raise UserError(f"{os.path.join(self.path, name)}: cannot be read: {error.strerror}") from None

    def text(self, name: str, size: int = -1) -> str:
        """A text file's content, without a byte order mark, line ends as they are; or what its first bytes are."""
        try:
            return codecs.getincrementaldecoder("utf-8-sig")().decode(self.read(name, size), final=size < 0)
        except UnicodeDecodeError:
            raise UserError(f"{self.path}/{name} is not UTF-8 text") from None

    def lines(self, name: str) -> list[tuple[int, str]]:
        """The lines of a text file that are not blank, stripped, with their numbers from 1."""
        # Not `splitlines`, which also splits at letters that names may have.
        lines = self.text(name).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        return [(i, line.strip()) for i, line in enumerate(lines, 1) if line.strip()]


# Of data sets, in which FFmpeg finds the first picture.
_SHARD = re.compile(r"\.[a-z_]+-\d{5,}-of-\d{5,}$")


def depth(folder: Folder, limit: int = _DEEPEST) -> int | None:
    """Returns how many folders down the first videos or pictures lie; None if there are none within the limit."""
    if folder.pictures or folder.videos:
        return 0
    for child in folder.folders.values() if limit else ():
        below = depth(child, limit - 1)
        if below is not None:
            return below + 1
    return None


def holds_media(folder: Folder) -> bool:
    """Returns whether videos or pictures lie in a folder or below it."""
    return depth(folder) is not None


# Endings that no video has; a file of another ending is opened to see.
_NO_VIDEOS = frozenset(
    ".csv .db .doc .docx .gz .h5 .html .ini .json .jsonl .log .m4a .mat .md .mp3 .npy .npz .parquet .part .pdf "
    ".pickle .pkl .pt .pth .py .rar .records .rtf .sh .srt .tar .tsv .txt .vtt .wav .xls .xlsx .xml .yaml .yml "
    ".zip".split()
) | frozenset(PICTURES)


class _Numbered:
    """Collects the names of numbered pictures."""

    def __init__(self, folder: Folder):
        self._folder = folder
        self._found: dict[tuple[str, str], list[str]] = {}

    def add(self, name: str) -> bool:
        """Takes a name, if it is one of a numbered picture."""
        # Two million names go through here, which a regular expression would take four times as long for.
        stem, dot, ending = name.rpartition(".")
        suffix = dot + ending
        if suffix not in PICTURES and suffix.casefold() not in PICTURES:
            return False
        prefix = stem.rstrip(_DIGITS)
        if len(prefix) == len(stem):
            return False
        key = prefix, suffix
        digits = stem[len(prefix) :]
        if key in self._found:
            self._found[key].append(digits)
        else:
            self._found[key] = [digits]
        return True

    def sets(self) -> list[Pictures]:
        """Returns the sets, sorted by prefix.

        Raises:
          UserError: a prefix comes with two endings, or a number is written in two ways.
        """
        ends: dict[str, str] = {}
        for prefix, suffix in sorted(self._found):
            _check_text(prefix, self._folder)
            if prefix in ends:
                one, other = (f"{prefix}#{end}" for end in (ends[prefix], suffix))
                raise UserError(f"{self._folder} holds pictures of two kinds, {one} and {other}: remove one of them")
            ends[prefix] = suffix
        return [self._set(prefix, suffix) for prefix, suffix in sorted(self._found)]

    def _set(self, prefix: str, suffix: str) -> Pictures:
        texts = self._found[prefix, suffix]
        lengths = set(map(len, texts))
        width = min(lengths)
        numbers = sorted(map(int, texts))
        if len(lengths) > 1 and (
            any(len(text) > width and text[0] == "0" for text in texts) or len(set(numbers)) < len(numbers)
        ):
            raise UserError(
                f"{self._folder} holds {prefix}#{suffix} numbered in two ways, with more zeros in front and with "
                "fewer: number them in one way"
            )
        if numbers[-1] - numbers[0] + 1 == len(numbers):
            return Pictures(prefix, suffix, width, ((numbers[0], numbers[-1]),))
        runs, start = [], 0
        for place in range(1, len(numbers) + 1):
            if place == len(numbers) or numbers[place] != numbers[place - 1] + 1:
                runs.append((numbers[start], numbers[place - 1]))
                start = place
        span = numbers[-1] - numbers[0] + 1
        if span > _SPARSE * len(numbers) and len(numbers) >= _LONG_RUN * len(runs):
            ends = ", ".join(f"{first} to {last}" for first, last in runs[:3])
            raise UserError(
                f"{self._folder} holds {prefix}#{suffix} numbered {ends}: frames of several videos, as it seems; put a "
                "- between a video's name and the number of its frame"
            )
        return Pictures(prefix, suffix, width, tuple(runs))


def _check_text(name: str, folder: Folder) -> None:
    """Records and index are UTF-8; names on disk may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"{folder}: the name {os.fsencode(name)} is not UTF-8: rename it") from None
