"""Files that are either whole or not there, also after a power failure."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_bytes(path: Path, data: bytes) -> None:
    """Writes the whole file or leaves the old one: under another name first, then renamed."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_text(path: Path, text: str) -> None:
    """UTF-8, the same way."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """JSON with an indent of one, the same way."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path, limit: int = 1 << 26) -> Any:
    """What a JSON file says.

    Args:
      path: of the file, often from outside.
      limit: bytes that it may have; parsed they take several times as much memory.

    Raises:
      OSError: it cannot be read.
      ValueError: it is no JSON in UTF-8, nested without end, or too large.
    """
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"larger than {limit / 1e6:.0f} MB")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder; an `OSError` where one may not be looked into, which `rglob` passes over."""

    def refuse(error: OSError):
        raise error

    for root, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(root) / name for name in names)


def sync(folder: Path) -> None:
    """Returns when everything below a folder is on the disk itself, not only in the system's memory."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Returns when a folder's names are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cache_dir() -> Path:
    """`$R23D_CACHE`, or `~/.cache/r23d_jax`."""
    return Path(os.environ.get("R23D_CACHE") or Path.home() / ".cache" / "r23d_jax")
