"""Downloads published weights into a cache, with progress, resuming and verification."""

import hashlib
import os
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from r23d_jax.errors import UserError, one_line
from r23d_jax.runtime.files import cache_dir
from r23d_jax.weights import registry
from r23d_jax.weights.family import File

_CHUNK = 1 << 18
_TIMEOUT = 30.0  # seconds without a byte


def fetch(name: str) -> Path:
    """Returns the local file (or TensorFlow prefix) of a publication, downloading it if it is not in the cache.

    Args:
      name: in the registry.

    Returns:
      A path for `readers.read_tensors`.

    Raises:
      UserError: the name is unknown, there is no network, or the file is not the published one. The message gives
        the address, and where to put the file by hand.
    """
    published = registry.get(name)
    paths = [_fetch_file(file) for file in published.files]
    return paths[0]


def _fetch_file(file: File) -> Path:
    path = cache_dir() / file.name
    wanted = cache_dir() / file.member if file.member else path
    if file.member and wanted.is_file():
        return wanted
    if not path.is_file():
        if not file.direct:
            raise UserError(f"{file.name}: no program may fetch it; download it from {file.url} and put it at {path}")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".part")
        _download(file, partial, path)
        _check(file, partial, by_hand=f"{file.url} to {path}")
        os.replace(partial, path)
    elif file.sha256 or file.git_blob:
        _check(file, path, by_hand=f"{file.url} to {path}")
    return _extract(path, file.member, wanted) if file.member else path


def _download(file: File, partial: Path, path: Path) -> None:
    """Downloads into `partial`, continuing an interrupted download."""
    have = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(file.url, headers={"User-Agent": "r23d_jax"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    by_hand = f"fetch it by hand from {file.url} and put it at {path}"
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            if response.headers.get_content_type() == "text/html":
                raise UserError(f"{file.name}: the server sent a web page instead of the file; {by_hand}")
            resumed = have and response.status == 206
            length = response.headers.get("Content-Length")
            total = (have if resumed else 0) + int(length) if length else None
            _refuse_full_disk(file, partial, total)
            with partial.open("ab" if resumed else "wb") as out:
                done = _copy(response, out, file.name, have if resumed else 0, total)
    except urllib.error.HTTPError as error:
        error.close()  # it is the answer, too
        if error.code == 416 and have:  # the file is already complete; the hash is checked later
            return
        raise UserError(f"{file.name}: the server answered {error.code} {error.reason}; {by_hand}") from None
    except (OSError, urllib.error.URLError) as error:
        reason = one_line(getattr(error, "reason", None) or error)
        raise UserError(f"{file.name}: no download ({reason}); try again to go on, or {by_hand}") from None
    if total is not None and done != total:
        raise UserError(f"{file.name}: the connection broke at {done} of {total} bytes; try again to go on from there")


def _copy(response, out, name: str, done: int, total: int | None) -> int:
    from tqdm import tqdm

    bar = tqdm(desc=name, total=total, initial=done, unit="B", unit_scale=True, file=sys.stderr, leave=False)
    with bar:
        while chunk := response.read(_CHUNK):
            out.write(chunk)
            done += len(chunk)
            bar.update(len(chunk))
    return done


def _refuse_full_disk(file: File, partial: Path, total: int | None) -> None:
    free = shutil.disk_usage(partial.parent).free
    if total is not None and total > free:
        raise UserError(f"{file.name}: {total >> 20} MiB, but only {free >> 20} MiB free in {partial.parent}")


def _check(file: File, path: Path, by_hand: str) -> None:
    """Removes and refuses a file with another hash than published or, if none is published, an HTML page."""
    if file.sha256:
        with path.open("rb") as stream:
            found, kind = hashlib.file_digest(stream, "sha256").hexdigest(), "SHA-256"
        expected, good = file.sha256, found.startswith(file.sha256)
    elif file.git_blob:
        found, expected, kind = git_blob_sha1(path), file.git_blob, "Git blob hash"
        good = found == expected
    else:
        with path.open("rb") as stream:
            start = stream.read(64).lstrip().lower()
        if start.startswith((b"<!doctype", b"<html")):
            path.unlink()
            raise UserError(f"{file.name}: a web page instead of the file; fetch it by hand from {by_hand}")
        return
    if not good:
        path.unlink()
        shown = found[: len(expected)]
        raise UserError(
            f"{file.name}: its {kind} is {shown}, not the published {expected}: removed; fetch it from {by_hand}"
        )


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
