"""The published weights of all families by name, and by what their files hash to.

`download.py` fetches them, `importing.py` reads them.
"""

import difflib

from r23d_jax.errors import UserError
from r23d_jax.weights import families
from r23d_jax.weights.family import Published


def published() -> dict[str, Published]:
    """Every publication by its name, family by family."""
    return {entry.name: entry for family in families.FAMILIES for entry in family.published}


def get(name: str) -> Published:
    """The publication of that name; an unknown name is a `UserError` with the nearest one."""
    known = published()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise UserError(f"{name}: no published weights of that name, and no such file or folder{hint}")
    return known[name]


def identify(sha256: str, git_blob: str = "") -> Published | None:
    """The publication a file with these hashes is, if any."""
    for entry in published().values():
        for file in entry.files:
            known = (file.sha256 and sha256.startswith(file.sha256)) or (file.git_blob and file.git_blob == git_blob)
            if known:
                return entry
    return None
