"""Finds weights: a file or folder, a published name, `hf://OWNER/REPO`, or an http(s) address."""

import dataclasses
import re
from pathlib import Path

from r23d_jax.errors import UserError
from r23d_jax.runtime.addresses import is_address, public_name
from r23d_jax.weights import download, registry
from r23d_jax.weights.family import Published


@dataclasses.dataclass(frozen=True)
class Located:
    """Weights on this machine.

    Attributes:
      path: of a file, folder or TensorFlow prefix.
      published: the publication, if it was found by its name.
      name: the source for messages and cards, without password and query.
    """

    path: Path
    published: Published | None
    name: str


def locate(source: "str | Path | Located") -> Located:
    """Returns where weights are, after downloading them if they are not on this machine.

    Args:
      source: a path, a TensorFlow prefix, a published name, `hf://OWNER/REPO[/FILE][@REVISION]`, or an http(s) address
        with an optional `#sha256=HEX`; what was located before is returned as it is.

    Raises:
      UserError: there is nothing of that name, or it cannot be downloaded.
    """
    if isinstance(source, Located):
        return source
    # pathlib writes one slash. Addresses come first: a long query is no possible name of a file.
    text = re.sub(r"^(hf|https?):/+", lambda found: f"{found[1].lower()}://", str(source), flags=re.IGNORECASE)
    if not text.strip():
        raise UserError(
            "weights: no name given; `r23d weights` lists published ones, and a file, folder or address will do"
        )
    if text.startswith("hf://"):
        from r23d_jax.weights import hub

        return Located(hub.fetch(text), None, text)
    if is_address(text):
        return Located(download.fetch_url(text), None, public_name(text))
    path = Path(text)
    path = path if path.name else path.resolve()  # ".", which has no name of its own
    if path.exists() or (path.name and path.with_name(path.name + ".index").exists()):
        return Located(path, None, text)
    if scheme := re.match(r"([a-z][a-z0-9+.-]+):/", text, re.IGNORECASE):
        raise UserError(f"{scheme[0]}/...: not an address that can be fetched; hf://, https:// and http:// can")
    if text not in registry.published() and (path.suffix or len(path.parts) > 1):
        raise UserError(f"{text}: no such file or folder")
    published = registry.get(text)
    return Located(download.fetch(published.name), published, text)
