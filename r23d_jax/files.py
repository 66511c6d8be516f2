"""Files that are either whole or not there."""

import json
import os
from pathlib import Path
from typing import Any


def write_bytes(path: Path, data: bytes) -> None:
    """Writes the whole file or leaves the old one: under another name first, then renamed."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def write_text(path: Path, text: str) -> None:
    """UTF-8, the same way."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """JSON with an indent of one, the same way."""
    write_text(path, json.dumps(value, indent=1) + "\n")
