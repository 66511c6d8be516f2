"""Addresses on the web, and what of them may be shown and stored."""

import re
import urllib.parse

from r23d_jax.errors import UserError, printable


def is_address(source: str) -> bool:
    """Returns whether a text is an http or https address."""
    return re.match(r"https?://", source, re.IGNORECASE) is not None


def public_name(source: str) -> str:
    """Returns an address as scheme, host and path, without password and query; anything else as it is."""
    return "{}://{}{}".format(*split(source)) if is_address(source) else source


def split(address: str) -> tuple[str, str, str]:
    """Returns scheme, host with port, and path; raises a `UserError` that does not show what may be a password."""
    try:
        parts = urllib.parse.urlsplit(address.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        shown = printable(re.sub(r"[?#].*", "", address.rpartition("@")[2]))
        raise UserError(f"{shown}: not an http or https address of a file")
    host = f"[{host}]" if ":" in host else host
    return parts.scheme, host if port is None else f"{host}:{port}", printable(parts.path)
