"""Where the project is, and the real videos and weights that some tests use, which are no part of it."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "real"


def needs_real(relative: str) -> Path:
    """A file of the shared real data; the test is skipped where it is not there."""
    path = REAL / relative
    if not path.exists():
        pytest.skip(f"{path} is not there: real weights and clips are not part of the project")
    return path
