"""Videos and pictures in zip files, read where they lie: UCF101's own archives, and Kaggle's `archive.zip`.

The central directory is read once, to find what there is. Each video gets the places of its members, a few bytes, so
that a worker needs neither the directory, which for two million pictures takes a gigabyte, nor the others' data.

Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

import functools
import lzma
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from r23d_jax.data.video import Video, VideoError
from r23d_jax.errors import UserError, one_line, printable
from r23d_jax.runtime.text import bytes_text
from tfds_ucf101.layouts.tree import Folder, Pictures
from tfds_ucf101.media import EncodedVideo, FrameFiles, stamp

_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_METHODS |= {getattr(zipfile, "ZIP_ZSTANDARD", zipfile.ZIP_STORED)}  # from Python 3.14 on
_UTF8, _ENCRYPTED = 0x800, 0x1  # of a member's flags
# Where a member lies: offset of its header, sizes in the archive and unpacked in bytes, CRC-32, method.
_PLACE = struct.Struct("<QQQIH")
_HEADER, _SIGNATURE = 30, b"PK\x03\x04"
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, struct.error)
_AGAIN = "download or copy it again"
_LARGEST = 2 << 30  # bytes of a file that is read as a whole: a small archive may claim any size


@dataclass(frozen=True)
class ArchivedVideo(EncodedVideo):
    """A video file in a zip file.

    Attributes:
      path: the archive, a slash and the member's name, for messages.
      archive: the zip file, absolute.
      place: where it lies there.
    """

    path: str
    archive: str
    place: bytes

    def content(self) -> bytes:
        """Returns the file's bytes, whose checksum is verified.

        Raises:
          VideoError: they are damaged.
          OSError: the archive cannot be opened.
        """
        with open(self.archive, "rb") as file:
            return _unpack(file, self.place, self.path)

    def identity(self) -> list[Any]:
        return [*_PLACE.unpack(self.place), *stamp(self.archive)]


@dataclass(frozen=True)
class ArchivedFrames(FrameFiles):
    """Numbered pictures in a zip file.

    Attributes:
      path: the archive, a slash and the folder in it, for messages.
      archive: the zip file, absolute.
      places: where the pictures lie there, one after the other.
    """

    archive: str
    places: bytes

    def pictures(self) -> Iterator[tuple[str, bytes]]:
        """Yields name and bytes of each picture, whose checksum is verified.

        Raises:
          VideoError: one is damaged.
          OSError: the archive cannot be opened.
        """
        with open(self.archive, "rb") as file:
            for index, name in enumerate(self.names()):
                place = self.places[index * _PLACE.size : (index + 1) * _PLACE.size]
                yield name, _unpack(file, place, self.path, name)

    def identity(self) -> list[Any]:
        return [self.prefix, self.runs, zlib.crc32(self.places), *stamp(self.archive)]


class Zip:
    """What lies in a zip file, as if it were a folder.

    Folders, `__MACOSX` and hidden files are passed over. Names are as in the archive, with slashes; where it does not
    say that they are UTF-8, they are read as such if they can be, else as code page 437.

    Attributes:
      path: the zip file.
      names: of the files in it, in the archive's order: "UCF101/v_Archery_g01_c01.avi".

    Raises:
      UserError: it is no zip file or damaged, encrypted, compressed in a way that Python does not know, or a name is
        absolute, leads out of the archive, or comes twice.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._places: dict[str, bytes] = {}
        try:
            with zipfile.ZipFile(self.path) as archive:
                for member in archive.infolist():
                    self._add(member)
        except UnicodeDecodeError:
            raise UserError(
                f"{self.path}: a name in it is not UTF-8, which it claims: unpack and zip it again"
            ) from None
        except (zipfile.BadZipFile, EOFError, ValueError, struct.error) as error:
            raise UserError(f"{self.path} is no zip file, or cut off ({one_line(error)}): {_AGAIN}") from None

    @property
    def names(self) -> list[str]:
        return list(self._places)

    def read(self, name: str, size: int = -1) -> bytes:
        """Returns a file's bytes, such as a list's, or the first `size` of them; a `UserError` if they are damaged."""
        with open(self.path, "rb") as file:
            return _unpack(file, self._places[name], self._shown(name), first=size)

    def video(self, name: str) -> ArchivedVideo:
        """Returns the video in one of the files."""
        return ArchivedVideo(self._shown(name), os.path.abspath(self.path), self._places[name])

    def frames(self, folder: str, pictures: Pictures) -> ArchivedFrames:
        """Returns the video in numbered pictures.

        Args:
          folder: its name in the archive, "" for the top.
          pictures: those in it.
        """
        fields = (pictures.prefix, pictures.suffix, pictures.width, pictures.runs)
        names = FrameFiles(folder, *fields).names()
        places = b"".join(self._places[f"{folder}/{name}" if folder else name] for name in names)
        return ArchivedFrames(self._shown(folder).rstrip("/"), *fields, os.path.abspath(self.path), places)

    @functools.cached_property
    def listing(self) -> Mapping[str, list[tuple[str, bool]]]:
        """Name and whether it is a folder of all that lies in each folder; the top is ""."""
        found: dict[str, list[tuple[str, bool]]] = {"": []}
        for name in self._places:
            parent, _, last = name.rpartition("/")
            _enter(found, parent)
            found[parent].append((last, False))
        for name in found.keys() & self._places.keys():
            raise UserError(f"{self.path} holds {printable(name)} as a file and as a folder: unpack it yourself")
        return found

    def _shown(self, name: str) -> str:
        return f"{os.path.abspath(self.path)}/{name}"

    def _add(self, member: zipfile.ZipInfo) -> None:
        name = _name(member)
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name):
            raise UserError(f"{self.path} holds {printable(name)}, which would lie outside of it: unpack it with care")
        if not parts[-1] or any(part == "__MACOSX" or part.startswith(".") for part in parts):
            return
        if member.flag_bits & _ENCRYPTED:
            raise UserError(f"{self.path} is encrypted ({printable(name)}): unpack it, and give the folder")
        if member.compress_type not in _METHODS:
            way = f"{printable(name)} by method {member.compress_type}"
            raise UserError(
                f"{self.path} is compressed as Python cannot read it ({way}): unpack it, and give the folder"
            )
        if name in self._places:
            raise UserError(f"{self.path} holds {printable(name)} twice: unpack it, and give the folder")
        sizes = (member.header_offset, member.compress_size, member.file_size)
        self._places[name] = _PLACE.pack(*sizes, member.CRC, member.compress_type)


class ZipFolder(Folder):
    """A folder in a zip file.

    Attributes:
      path: the zip file, a slash and the name in it.
    """

    def __init__(self, archive: Zip, shown: str = "", inner: str = ""):
        super().__init__(f"{archive.path}/{inner}", shown)
        self._archive, self._inner = archive, inner

    def _entries(self) -> Iterator[tuple[str, bool]]:
        yield from self._archive.listing[self._inner]

    def _child(self, name: str) -> "ZipFolder":
        return ZipFolder(self._archive, self.show(name), self._below(name))

    def _opens(self, name: str) -> bool:
        try:
            with Video(os.path.join(self.path, name), threads=1, data=self.read(name)):
                return True
        except VideoError:
            return False

    def _below(self, name: str) -> str:
        return f"{self._inner}/{name}" if self._inner else name

    def video(self, name: str) -> ArchivedVideo:
        return self._archive.video(self._below(name))

    def frames(self, pictures: Pictures) -> ArchivedFrames:
        return self._archive.frames(self._inner, pictures)

    def read(self, name: str, size: int = -1) -> bytes:
        return self._archive.read(self._below(name), size)


def _enter(found: dict[str, list[tuple[str, bool]]], folder: str) -> None:
    """Enters a folder, and those around it, in a listing."""
    if folder not in found:
        found[folder] = []
        parent, _, last = folder.rpartition("/")
        _enter(found, parent)
        found[parent].append((last, True))


def _name(member: zipfile.ZipInfo) -> str:
    name = member.filename
    if not member.flag_bits & _UTF8 and not name.isascii():
        try:
            name = name.encode("cp437").decode()
        except UnicodeError:
            pass  # it is code page 437
    return name if "/" in name else name.replace("\\", "/")  # as some programs for Windows wrote them


def _unpack(file: BinaryIO, place: bytes, path: str, name: str = "", first: int = -1) -> bytes:
    """The bytes of the member at `place`, or its `first` ones; `path` and the picture's `name` are for messages."""
    offset, compressed, size, crc, method = _PLACE.unpack(place)
    what = f"holds {name}, which" if name else ""
    if first < 0 and size > _LARGEST:
        raise VideoError(path, f"{what} is too large to be read in the archive ({bytes_text(size)}): unpack it".strip())
    try:
        file.seek(offset)
        header = file.read(_HEADER)
        if header[:4] != _SIGNATURE:
            raise ValueError("nothing begins where its directory says")
        file.seek(sum(struct.unpack_from("<HH", header, 26)), os.SEEK_CUR)  # past the name and extra data
        member = zipfile.ZipInfo(name or os.path.basename(path))
        member.compress_type, member.compress_size, member.file_size, member.CRC = method, compressed, size, crc
        with zipfile.ZipExtFile(file, "r", member) as stream:
            data = stream.read(first)
        if first < 0 and len(data) != size:
            raise ValueError(f"it has {len(data)} bytes of {size}")
    except _DAMAGE as error:
        raise VideoError(path, f"{what} is damaged in the archive ({one_line(error)}): {_AGAIN}".strip()) from None
    return data
