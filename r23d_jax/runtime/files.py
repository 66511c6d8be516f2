"""Atomic and durable writing of files, locks between processes, and reading of JSON."""

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # a system without locks
    fcntl = None


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file atomically: under another name first, then renamed."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes JSON with an indent of one, atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


@contextlib.contextmanager
def locked(path: str | os.PathLike, wait: bool = False) -> Iterator[bool]:
    """Locks a file or folder for this process while the `with` block runs; yields False where another has it.

    Where system or file system have no locks it yields True all the same.

    Args:
      path: of what is there.
      wait: wait until another process is done with it.
    """
    if fcntl is None:
        yield True
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        yield _lock(opened, wait)
    finally:
        os.close(opened)


def _lock(opened: int, wait: bool) -> bool:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


def read_json(path: Path, limit: int = 1 << 26) -> Any:
    """Returns the content of a JSON file.

    Args:
      path: of the file, which may be untrusted.
      limit: largest size in bytes; the parsed content takes several times as much memory.

    Raises:
      OSError: the file cannot be read.
      ValueError: the file is no JSON in UTF-8, nested too deeply, or too large.
    """
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"larger than {limit / 1e6:.0f} MB")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray | str]) -> None:
    """Writes a `.npz`, the whole file or none of it, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    np.savez(file, **arrays)
    write_bytes(path, file.getvalue())


@contextlib.contextmanager
def open_arrays(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """Opens a `.npz`, whose arrays are read and their checksums compared when they are asked for.

    It is closed where it is damaged too; NumPy leaves such a file open. Raises whatever NumPy does.
    """
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        yield arrays


def files_below(folder: Path) -> Iterator[Path]:
    """Yields every file below a folder. Raises an `OSError` for an unreadable folder, which `rglob` skips."""

    def refuse(error: OSError):
        raise error

    for root, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(root) / name for name in names)


def sync(folder: Path) -> None:
    """Flushes everything below a folder to disk (fsync)."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Flushes the names in a folder to disk (fsync)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cache_dir() -> Path:
    """Returns `$R23D_CACHE`, or `~/.cache/r23d_jax`."""
    return Path(os.environ.get("R23D_CACHE") or Path.home() / ".cache" / "r23d_jax")
