"""Unpacks a rar file, such as UCF101's own, once and as a whole.

In a solid archive a file can be read only after all those before it, so nothing is read in place. Files that are
stored without compression are copied; for others it takes a program that knows rar (unrar, bsdtar, 7-Zip, unar) or
the library libarchive. Sizes and checksums of all files are verified afterwards, whoever unpacked them.
"""

import contextlib
import ctypes
import ctypes.util
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rarfile

from r23d_jax.errors import UserError, one_line, printable
from r23d_jax.runtime.files import locked
from r23d_jax.runtime.text import bytes_text
from tfds_ucf101.media import stamp

MARK = ".unpacked.json"  # in the folder: which archive is in it, whole
_BLOCK = 1 << 20
_AGAIN = "download or copy it again"
_INSTALL = "install one of unrar, bsdtar (libarchive-tools), 7zz, unar or the library libarchive, or unpack it yourself"
# Program, and its arguments between which archive and folder are put. Passwords are never asked for.
_PROGRAMS: tuple[tuple[str, Callable[[str, str], list[str]]], ...] = (
    ("unrar", lambda archive, folder: ["x", "-y", "-o+", "-p-", archive, f"{folder}/"]),
    ("bsdtar", lambda archive, folder: ["-x", "-f", archive, "-C", folder]),
    ("7zz", lambda archive, folder: ["x", "-y", "-bd", f"-o{folder}", archive]),
    ("7z", lambda archive, folder: ["x", "-y", "-bd", f"-o{folder}", archive]),
    ("unar", lambda archive, folder: ["-quiet", "-no-directory", "-output-directory", folder, archive]),
)
_FORMAT_ERRORS = (rarfile.Error, EOFError, ValueError, IndexError, struct.error, OverflowError)


@dataclass(frozen=True)
class _Contents:
    """The files of an archive by name, and whether all are stored without compression."""

    files: dict[str, rarfile.RarInfo]
    stored: bool


def unpack(archive: Path, folder: Path) -> Path:
    """Unpacks a rar file into a folder, unless it is there already; a run that is ended leaves none of that name.

    Args:
      archive: the rar file, of several the first.
      folder: to be made, or one that an earlier call made. Beside it, the same name with ".partial" is used.

    Of several processes that unpack into one place, the first does it and the others wait.

    Returns:
      `folder`.

    Raises:
      UserError: the archive is damaged, encrypted or has links or names that lead out of the folder; nothing here can
        unpack it; the disk is too small; or the folder holds something else.
    """
    there = _mark(archive)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent, wait=True):
        if not _is_of(folder, there):
            _unpack(archive, folder, there)
    return folder


def _is_of(folder: Path, mark: list[Any]) -> bool:
    """Whether a folder is what an earlier call made of the archive with this mark."""
    try:
        return json.loads((folder / MARK).read_text()) == mark
    except (OSError, ValueError):
        return False


def _unpack(archive: Path, folder: Path, mark: list[Any]) -> None:
    if folder.exists() and not (folder / MARK).exists() and any(folder.iterdir()):
        raise UserError(f"{folder} holds something else than {archive.name} unpacked: move it away")
    contents = _read(archive)
    total = sum(member.file_size for member in contents.files.values())
    size, free = bytes_text(total), shutil.disk_usage(folder.parent).free
    if total > free:
        raise UserError(f"{archive} takes {size} unpacked, {folder.parent} has {bytes_text(free)} left: make room")
    print(f"unpacking {archive} into {folder}: {len(contents.files)} files, {size} ...", file=sys.stderr)
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        _by_any(archive, contents, partial)
        (partial / MARK).write_text(json.dumps(mark))
        if folder.exists():  # of an archive that has changed since
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _mark(archive: Path) -> list[Any]:
    try:
        return [archive.name, *stamp(os.fspath(archive))]
    except FileNotFoundError:
        raise UserError(f"{archive} is missing") from None


def _read(archive: Path) -> _Contents:
    """Reads the headers, and refuses what must not or cannot be unpacked."""
    blocks: set[int] = set()
    try:
        with _opened(archive, info_callback=lambda block: blocks.add(block.type)) as opened:
            if opened.needs_password():
                raise UserError(f"{archive} is encrypted: unpack it, and give the folder")
            members = opened.infolist()
    except rarfile.NeedFirstVolume:
        raise UserError(f"{archive} is a later part of several: give the first") from None
    except _FORMAT_ERRORS as error:
        raise UserError(f"{archive} is no rar file, or damaged ({one_line(error)}): {_AGAIN}") from None
    # RAR before version 2.9 wrote none.
    if rarfile.RAR_BLOCK_ENDARC not in blocks and any(member.extract_version >= 29 for member in members):
        raise UserError(f"{archive} is cut off, its end is missing: {_AGAIN}")
    files = {}
    for member in members:
        name = member.filename.replace("\\", "/").rstrip("/")
        if name.startswith("/") or ".." in name.split("/") or name[1:2] == ":" or "\0" in name:
            raise UserError(
                f"{archive} holds {printable(name)}, which would lie outside of the folder: it is not unpacked"
            )
        if member.is_symlink() or member.file_redir:
            raise UserError(f"{archive} holds the link {printable(name)}: unpack it yourself, and give the folder")
        if member.is_file():
            if name in files:
                raise UserError(f"{archive} holds {printable(name)} twice: unpack it yourself, and give the folder")
            files[name] = member
    if not files:
        raise UserError(f"{archive} holds no files")
    return _Contents(files, all(member.compress_type == rarfile.RAR_M0 for member in files.values()))


@contextlib.contextmanager
def _opened(archive: Path, **options: Any) -> Iterator[rarfile.RarFile]:
    """Opens an archive to read its headers, without the comments: to unpack these, `rarfile` would run a program."""
    before, rarfile.RAR_MAX_COMMENT = rarfile.RAR_MAX_COMMENT, 0
    try:
        with rarfile.RarFile(archive, errors="strict", **options) as opened:
            yield opened
    finally:
        rarfile.RAR_MAX_COMMENT = before


def _by_any(archive: Path, contents: _Contents, partial: Path) -> None:
    """Unpacks by the first way that gives all files as they were."""
    reasons = []
    for name, way in _ways(contents):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        reason = way(archive, contents, partial) or _difference(contents, partial)
        if reason is None:
            return
        reasons.append(f"{name}: {reason}")
    if reasons:
        raise UserError(f"{archive} could not be unpacked ({'; '.join(reasons)}): {_AGAIN}, or {_INSTALL}")
    raise UserError(f"{archive} is compressed, and nothing here unpacks rar: {_INSTALL}")


_Way = Callable[[Path, _Contents, Path], str | None]  # returns the reason why it failed


def _ways(contents: _Contents) -> Iterator[tuple[str, _Way]]:
    if contents.stored:
        yield "copying", _copy
        return  # a program reads the same bytes
    for program, arguments in _PROGRAMS:
        found = shutil.which(program)
        if found:
            yield program, _by_program(found, arguments)
    library = _library()
    if library is not None:
        yield "libarchive", lambda archive, contents, partial: _by_library(library, archive, contents, partial)


def _copy(archive: Path, contents: _Contents, partial: Path) -> str | None:
    try:
        with _opened(archive) as opened:
            for name, member in contents.files.items():
                with opened.open(member) as source, _new_file(partial, name) as target:
                    shutil.copyfileobj(source, target, _BLOCK)
    except _FORMAT_ERRORS as error:
        return one_line(error)
    return None


def _by_program(program: str, arguments: Callable[[str, str], list[str]]) -> _Way:
    def way(archive: Path, contents: _Contents, partial: Path) -> str | None:
        command = [program, *arguments(os.path.abspath(archive), os.path.abspath(partial))]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
            return f"exit status {done.returncode}" + (f", {printable(said[-1][:200])}" if said else "")
        return None

    return way


def _library() -> ctypes.CDLL | None:
    """libarchive with the functions' types declared; None where it is not installed, or too old for both formats."""
    found = ctypes.util.find_library("archive")
    if found is None:
        return None
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    declared = {
        "archive_read_new": (pointer, []),
        "archive_read_free": (ctypes.c_int, [pointer]),
        "archive_read_support_format_rar": (ctypes.c_int, [pointer]),
        "archive_read_support_format_rar5": (ctypes.c_int, [pointer]),
        "archive_read_open_filename": (ctypes.c_int, [pointer, text, ctypes.c_size_t]),
        "archive_read_next_header": (ctypes.c_int, [pointer, ctypes.POINTER(pointer)]),
        "archive_read_data": (ctypes.c_ssize_t, [pointer, pointer, ctypes.c_size_t]),
        "archive_error_string": (text, [pointer]),
        "archive_entry_pathname_utf8": (text, [pointer]),
    }
    try:
        library = ctypes.CDLL(found)
        for name, (result, arguments) in declared.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        return None
    return library


def _by_library(library: ctypes.CDLL, archive: Path, contents: _Contents, partial: Path) -> str | None:
    ok, end = 0, 1  # ARCHIVE_OK, ARCHIVE_EOF; what is below -20, ARCHIVE_WARN, is an error
    reader = library.archive_read_new()
    try:
        library.archive_read_support_format_rar(reader)
        library.archive_read_support_format_rar5(reader)
        status = library.archive_read_open_filename(reader, os.fsencode(archive), _BLOCK)
        entry, buffer = ctypes.c_void_p(), ctypes.create_string_buffer(_BLOCK)
        while status == ok and (status := library.archive_read_next_header(reader, ctypes.byref(entry))) in (ok, -20):
            name = (library.archive_entry_pathname_utf8(entry) or b"").decode(errors="replace").rstrip("/")
            status = ok
            if name not in contents.files:  # a folder; what is left out is found out afterwards
                continue
            with _new_file(partial, name) as target:
                while (count := library.archive_read_data(reader, buffer, _BLOCK)) > 0:
                    target.write(memoryview(buffer)[:count])
            status = min(count, 0)
        if status != end:
            return one_line(ValueError((library.archive_error_string(reader) or b"unknown").decode(errors="replace")))
        return None
    finally:
        library.archive_read_free(reader)


@contextlib.contextmanager
def _new_file(folder: Path, name: str) -> Iterator:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as file:
        yield file


def _difference(contents: _Contents, folder: Path) -> str | None:
    """What is not as the archive's headers say: a name, a size or a checksum."""
    for parent, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(parent, name)
            if path.is_symlink():
                return f"made the link {printable(name)}"
            if name in names and path.relative_to(folder).as_posix() not in contents.files:
                return f"made a file {printable(name)} that the archive does not have"
    for name, member in contents.files.items():
        path = folder / name
        if not path.is_file():
            return f"left out {printable(name)}"
        if path.stat().st_size != member.file_size:
            return f"{printable(name)} has {path.stat().st_size} bytes, not {member.file_size}"
        if member.CRC is not None and _crc(path) != member.CRC:
            return f"{printable(name)} has another checksum than the archive says"
    return None


def _crc(path: Path) -> int:
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc
