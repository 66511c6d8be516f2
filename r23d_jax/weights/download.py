"""Downloads weights into a cache, with progress, resuming, several addresses and verification."""

import base64
import hashlib
import http.client
import os
import re
import shutil
import sys
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import BinaryIO, NamedTuple

from r23d_jax.errors import UserError, one_line, printable
from r23d_jax.runtime.addresses import public_name, split
from r23d_jax.runtime.files import cache_dir, locked
from r23d_jax.runtime.text import bytes_text
from r23d_jax.weights import registry
from r23d_jax.weights.family import File

_CHUNK = 1 << 18
_TIMEOUT = 30.0  # seconds without a byte
_HUGGING_FACE = "https://huggingface.co"


class _NotFetchedError(Exception):
    """An address did not give the file; the message is the reason."""


def fetch(name: str) -> Path:
    """Returns the local file (or TensorFlow prefix) of a publication, downloading it if it is not in the cache.

    Args:
      name: in the registry.

    Returns:
      A path for `readers.read_tensors`.

    Raises:
      UserError: the name is unknown, there is no network, or the file is not the published one. The message gives
        the addresses, and where to put the file by hand.
    """
    published = registry.get(name)
    paths = [fetch_file(file) for file in published.files]
    return paths[0]


def fetch_url(address: str) -> Path:
    """Returns the local copy of a file on the web, downloading it the first time.

    Args:
      address: http or https, with user name, password or a query if need be; `#sha256=HEX` at its end checks the file.

    Raises:
      UserError: it is no such address, there is no network, or the file has another hash.
    """
    address, _, fragment = address.partition("#")
    if fragment and not (found := re.fullmatch(r"sha256=([0-9a-fA-F]{8,64})", fragment)):
        raise UserError(f"{public_name(address)}: after # only sha256= and 8 to 64 hex digits may stand")
    sha256 = found[1].lower() if fragment else ""
    _, _, path = split(address)
    key = hashlib.sha256(address.encode()).hexdigest()[:12]
    name = re.sub(r"[^\w.+-]+", "_", urllib.parse.unquote(path.rpartition("/")[2])).lstrip(".") or "file"
    file = File(f"addresses/{key}/{name[-100:]}", address, sha256)
    there = cache_dir() / file.name
    if there.is_file() and (fault := _fault(file, there)):  # the hash may be the wrong one, so the copy is kept
        raise UserError(f"{public_name(address)}: {fault}; for another copy remove {there} and try again")
    return fetch_file(file)


def fetch_file(file: File) -> Path:
    """Returns the local path of a file or of the wanted member of an archive; see `fetch`."""
    path = cache_dir() / file.name
    wanted = cache_dir() / file.member if file.member else path
    if file.member and wanted.is_file():
        return wanted
    if path.is_file():
        if fault := _fault(file, path):
            path.unlink()
            raise UserError(f"{path.name}: {fault}: removed; {_by_hand(file, path)}")
        if not file.member:
            return path
    elif not file.addresses:
        raise UserError(f"{path.name}: no program may fetch it; download it from {_pages(file)} and put it at {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    # The folder is locked, since the file is not there yet and a lock file would be left behind.
    with locked(path.parent) as free:
        pass
    if not free:
        print(f"{path.name}: waiting for another process that downloads into {path.parent}", file=sys.stderr)
    with locked(path.parent, wait=True):
        if not path.is_file():
            _download(file, path)
        if not file.member or wanted.is_file():
            return wanted
        return _extract(path, file.member, wanted)


def _by_hand(file: File, path: Path) -> str:
    return f"fetch it by hand from {_pages(file)} and put it at {path}"


def _pages(file: File) -> str:
    pages = (*(() if file.direct else (file.url,)), *file.pages)  # the registry's, whose queries say what is meant
    direct = (public_name(_endpoint(address)) for address in file.addresses)
    return " or ".join(dict.fromkeys((*direct, *pages)))


def _endpoint(address: str) -> str:
    """Returns the address at $HF_ENDPOINT, a mirror of the Hugging Face Hub, for an address there."""
    mirror = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    if not mirror or not address.startswith(f"{_HUGGING_FACE}/"):
        return address
    return mirror + address.removeprefix(_HUGGING_FACE)


def _download(file: File, path: Path) -> None:
    """Downloads a file from the first of its addresses that gives it.

    Raises:
      UserError: none does; with every address and its reason.
    """
    failures = []
    addresses = [_endpoint(address) for address in file.addresses]
    for number, address in enumerate(addresses, start=1):
        # Bytes of several addresses may be put together only if a hash decides about the whole.
        key = "" if file.has_hash else f".{hashlib.sha256(address.encode()).hexdigest()[:8]}"
        partial = path.with_name(f"{path.name}{key}.part")
        try:
            _fetch_from(address, file, partial)
        except _NotFetchedError as error:
            failures.append((public_name(address), str(error)))
            if number < len(addresses):
                print(f"{path.name}: {failures[-1][0]}: {error}; trying the next address", file=sys.stderr)
            continue
        os.replace(partial, path)
        for other in _partials(path):
            other.unlink()
        return
    reasons = failures[0][1] if len(failures) == 1 else "; ".join(f"{where}: {reason}" for where, reason in failures)
    again = "try again to go on, or " if _partials(path) else ""
    raise UserError(f"{path.name}: {reasons}; {again}{_by_hand(file, path)}")


def _whole_name(partial: Path) -> str:
    return re.sub(r"(\.[0-9a-f]{8})?\.part$", "", partial.name)


def _partials(path: Path) -> list[Path]:
    """Returns what earlier attempts left of a file."""
    others = path.parent.glob("*.part")
    return [other for other in others if _whole_name(other) == path.name]


def _fetch_from(address: str, file: File, partial: Path) -> None:
    """Downloads from one address and checks the content, going on with what an earlier attempt left.

    What was there may be wrong, so that a file with a wrong hash is downloaded once more from its start.
    """
    resumed = _receive(address, partial, resume=True)
    fault = _fault(file, partial)
    if fault and resumed:
        partial.unlink()
        _receive(address, partial, resume=False)
        fault = _fault(file, partial)
    if fault:
        partial.unlink()
        raise _NotFetchedError(fault)


class _Reply(NamedTuple):
    """What a server is about to send: the bytes from `start` of `total`, None if it does not say."""

    start: int
    total: int | None


def _receive(address: str, partial: Path, resume: bool) -> bool:
    """Downloads into `partial`, if possible from where it ends; returns whether it had a beginning that was kept."""
    have = partial.stat().st_size if resume and partial.is_file() else 0
    try:
        with urllib.request.urlopen(_request(address, have), timeout=_TIMEOUT) as response:
            if response.headers.get_content_type() == "text/html":
                raise _NotFetchedError("a web page instead of the file")
            reply = _reply(response)
            if reply is None or reply.start not in (0, have):
                if not have:
                    raise _NotFetchedError("the server sent another part of the file than it was asked for")
                return _receive(address, partial, resume=False)
            _refuse_full_disk(partial, reply)
            with partial.open("ab" if reply.start else "wb") as out:
                done = _copy(response, out, _whole_name(partial), reply)
    except urllib.error.HTTPError as error:
        error.close()  # it is the answer, too
        if error.code == 416 and have:
            if _content_range(error.headers) == (None, have):  # all of it is here already
                return True
            return _receive(address, partial, resume=False)
        reason = re.sub(r"[?#]\S*", "", str(error.reason))  # it may show where a redirection led, with its query
        raise _NotFetchedError(f"the server answered {error.code} {printable(' '.join(reason.split()))}") from None
    except (http.client.HTTPException, ValueError) as error:  # their messages may show the address
        raise _NotFetchedError(f"no download ({type(error).__name__})") from None
    except OSError as error:
        raise _NotFetchedError(f"no download ({one_line(getattr(error, 'reason', None) or error)})") from None
    if reply.total is not None and done != reply.total:
        raise _NotFetchedError(f"the connection broke at {done} of {reply.total} bytes")
    return reply.start > 0


def _request(address: str, have: int) -> urllib.request.Request:
    """Returns the request for what follows `have` bytes."""
    parts = urllib.parse.urlsplit(address.strip())
    _, host, _ = split(address)
    path = urllib.parse.quote(parts.path, safe="/%:=&+$,;@!~*'()")
    query = urllib.parse.quote(parts.query, safe="/%:=&+$,;@!~*'()?")
    request = urllib.request.Request(urllib.parse.urlunsplit((parts.scheme, host, path or "/", query, "")))
    request.add_header("User-Agent", "r23d_jax")
    if parts.username:  # not passed on to another server that this one may redirect to
        secret = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(secret.encode()).decode()}")
    if have:
        request.add_header("Range", f"bytes={have}-")
    return request


def _reply(response: http.client.HTTPResponse) -> _Reply | None:
    """Returns what comes; None for a part of the file of which the server does not say where it begins."""
    length = response.headers.get("Content-Length")
    if response.status != 206:
        return _Reply(0, int(length) if length else None)
    start, total = _content_range(response.headers)
    if start is None:
        return None
    return _Reply(start, start + int(length) if total is None and length else total)


def _content_range(headers: http.client.HTTPMessage) -> tuple[int | None, int | None]:
    """Returns first byte and total size of a Content-Range header, None for what it does not say."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", headers.get("Content-Range", "").strip())
    if found is None:
        return None, None
    return tuple(None if number is None else int(number) for number in found.groups())


def _copy(response: http.client.HTTPResponse, out: BinaryIO, name: str, reply: _Reply) -> int:
    from tqdm import tqdm

    done = reply.start
    if not sys.stderr.isatty():  # a log, which wants one line and no bar
        size = "" if reply.total is None else f" {bytes_text(reply.total - done)}"
        print(f"{name}: downloading{size}", file=sys.stderr, flush=True)
    options = {"total": reply.total, "initial": done, "unit": "B", "unit_scale": True, "leave": False, "disable": None}
    with tqdm(desc=name, file=sys.stderr, **options) as bar:
        while chunk := response.read(_CHUNK):
            out.write(chunk)
            done += len(chunk)
            bar.update(len(chunk))
    return done


def _refuse_full_disk(partial: Path, reply: _Reply) -> None:
    free = shutil.disk_usage(partial.parent).free
    if reply.total is not None and reply.total - reply.start > free:
        raise UserError(
            f"{_whole_name(partial)}: {reply.total >> 20} MiB, but only {free >> 20} MiB free in {partial.parent}"
        )


def _fault(file: File, path: Path) -> str:
    """Returns how a file differs from its hashes or, if there are none, that it is empty or an HTML page; or ""."""
    if not file.has_hash:
        with path.open("rb") as stream:
            start = stream.read(64).lstrip().lower()
        if not start:
            return "an empty file"
        return "a web page instead of the file" if start.startswith((b"<!doctype", b"<html")) else ""
    for expected, kind, digest in (
        (file.sha256, "SHA-256", lambda: _digest(path, "sha256")),
        (file.sha1, "SHA-1", lambda: _digest(path, "sha1")),
        (file.git_blob, "Git blob hash", lambda: git_blob_sha1(path)),
    ):
        if expected and not (found := digest()).startswith(expected):
            return f"its {kind} is {found[: len(expected)]}, not {expected}"
    return ""


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def git_blob_sha1(path: Path) -> str:
    """Returns the Git blob hash of a file: SHA-1 over `blob <size>\\0` and the bytes."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _extract(archive: Path, member: str, target: Path) -> Path:
    temporary = target.with_name(target.name + ".part")
    try:
        with tarfile.open(archive) as tar, temporary.open("wb") as out:
            stream = tar.extractfile(member)
            if stream is None:
                raise UserError(f"{archive}: {member} in it is not a file")
            shutil.copyfileobj(stream, out)
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"{archive}: cannot take {member} out of it ({one_line(error)}); remove it and try again"
        ) from None
    os.replace(temporary, target)
    return target
