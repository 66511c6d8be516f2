"""The published weights of all families, by name and by the hashes of their files."""

import difflib

from r23d_jax.errors import UserError
from r23d_jax.weights import families
from r23d_jax.weights.family import Published


def published() -> dict[str, Published]:
    """Returns every publication by its name, ordered by family."""
    return {entry.name: entry for family in families.FAMILIES for entry in family.published}


def get(name: str) -> Published:
    """Returns the publication of a name.

    Raises:
      UserError: there is none; the message suggests the closest name.
    """
    known = published()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise UserError(f"{name}: no published weights of that name, and no such file or folder{hint}")
    return known[name]


def identify(sha256: str, git_blob: str = "") -> Published | None:
    """Returns the publication of a file with these hashes, if any."""
    for entry in published().values():
        for file in entry.files:
            known = (file.sha256 and sha256.startswith(file.sha256)) or (file.git_blob and file.git_blob == git_blob)
            if known:
                return entry
    return None
