"""Downloads UCF101's videos and lists through TFDS's download manager, for a build that is given no input."""

import contextlib
import errno
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import resource
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.util import DownloadError

from r23d_jax.errors import UserError, one_line
from r23d_jax.runtime.text import bytes_text

FOLDER = "ucf101_as_published"
# Seconds that a server may take to connect and to send the next bytes.
TIMEOUT = (15, 60)
_STALE = 3600  # seconds without a byte, after which a download that was broken off is not one that still runs


@dataclass(frozen=True)
class File:
    """A file that is published at one or more addresses.

    Attributes:
      name: that it gets here.
      size: in bytes.
      sha256: in hexadecimal.
      mirrors: its addresses, the first tried first.
    """

    name: str
    size: int
    sha256: str
    mirrors: tuple[str, ...]


# Addresses, sizes and checksums are those that TFDS registers for its own builder (tensorflow_datasets/video/ucf101.py
# and url_checksums/ucf101.txt, TFDS 4.9.10). UCF's own UCF101.rar has no registered checksum, so it is no mirror.
FILES = (
    File(
        "UCF101TrainTestSplits-RecognitionTask.zip",
        113_943,
        "5c0d1a53b8ed364a2ac830a73f405e51bece7d98ce1254fd19ed4a36b224bd27",
        ("https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip",),
    ),
    File(
        "UCF101_videos.zip",
        6_960_400_115,
        "dabf56f573cd19c79e096563529fec8126a2a34e18e10c72eb621dd687532b0d",
        ("https://storage.googleapis.com/thumos14_files/UCF101_videos.zip",),
    ),
)


def fetch(dl_manager: tfds.download.DownloadManager, mirrors: Sequence[File]) -> Path:
    """Downloads the files that are not there yet, and puts links to them into one folder.

    A file that lies in `dl_manager.manual_dir` under its name is taken from there.

    Args:
      dl_manager: TFDS's, which keeps what it downloaded and takes it from there the next time.
      mirrors: the files.

    Returns:
      The folder, in `dl_manager.download_dir`.

    Raises:
      UserError: no address of a file gives it, with the reason of each; or the disk is full.
    """
    folder = Path(dl_manager.download_dir) / FOLDER
    missing = [file for file in mirrors if not _is_there(folder / file.name, file)]
    for file in list(missing):
        given = _given(dl_manager, file)
        if given is not None:
            _link(folder / file.name, given)
            missing.remove(file)
    _check_disk(Path(dl_manager.download_dir), missing)
    for file in missing:
        _link(folder / file.name, _download(dl_manager, file))
    return folder


def _is_there(link: Path, file: File) -> bool:
    """Whether an earlier call linked the file, whose checksum was verified then."""
    return link.is_file() and link.stat().st_size == file.size


def _given(dl_manager: tfds.download.DownloadManager, file: File) -> Path | None:
    """The file in the folder of what was downloaded by hand, if there is such a folder and it is in it."""
    try:
        path = Path(dl_manager.manual_dir) / file.name
    except (AssertionError, ValueError):  # TFDS's way to say that there is none
        return None
    if not path.is_file():
        return None
    if path.stat().st_size != file.size:
        size = path.stat().st_size
        raise UserError(f"{path} has {size} bytes, not {file.size} as published: complete it or move it away")
    return path


def _check_disk(folder: Path, missing: Sequence[File]) -> None:
    total, free = sum(file.size for file in missing), shutil.disk_usage(folder).free
    if total > free:
        raise UserError(
            f"{folder} has {bytes_text(free)} left, the download takes {bytes_text(total)}: give --download_dir"
        )


def _download(dl_manager: tfds.download.DownloadManager, file: File) -> Path:
    """Downloads a file from the first address that gives it, and returns its path."""
    reasons = []
    for address in file.mirrors:
        print(f"{file.name}, {bytes_text(file.size)}, from {address}", file=sys.stderr)
        reason = _unavailable(address, file)
        if reason is None:
            try:
                return _by_manager(dl_manager, address, file)
            except (DownloadError, NonMatchingChecksumError, requests.RequestException, _Wrong) as error:
                reason = _reason(error)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise UserError(f"{dl_manager.download_dir}: {error.strerror}; {file.name} takes more") from None
                reason = one_line(error)
        print(f"{address}: {reason}", file=sys.stderr)
        reasons.append(f"{address}: {reason}")
    raise UserError(
        f"{file.name} could not be downloaded ({'; '.join(reasons)}); download it by hand and give its "
        "folder, or that of your own videos, as --manual_dir"
    )


class _Wrong(Exception):
    """What was downloaded is another file."""


def _unavailable(address: str, file: File) -> str | None:
    """Asks for a file without reading it; returns the reason why it cannot be had.

    TFDS tries a server that does not answer eleven times, which takes minutes.
    """
    try:
        with requests.get(address, stream=True, timeout=TIMEOUT) as response:
            length = response.headers.get("Content-Length", "")
            if response.status_code != 200:
                return f"HTTP status {response.status_code}"
            if length.isdigit() and "Content-Encoding" not in response.headers and int(length) != file.size:
                return f"it has {length} bytes, not {file.size}"
    except requests.RequestException as error:
        return _reason(error)
    return None


def _by_manager(dl_manager: tfds.download.DownloadManager, address: str, file: File) -> Path:
    before = _partial(dl_manager, address)
    for path in before:
        if all(time.time() - one.stat().st_mtime > _STALE for one in (path, *path.iterdir())):
            shutil.rmtree(path, ignore_errors=True)  # of a process that was killed: TFDS begins anew
    try:
        with _timeouts():
            path = Path(dl_manager.download(address))
    except BaseException:
        for path in _partial(dl_manager, address) - before:
            shutil.rmtree(path, ignore_errors=True)
        raise
    # TFDS compares checksums where it knows the address; it writes down what it computed in any case.
    about = resource.read_info_file(path).get("url_info", {})
    size = path.stat().st_size
    if (size, about.get("checksum")) != (file.size, file.sha256):
        path.unlink()
        resource.get_info_path(path).unlink(missing_ok=True)
        raise _Wrong(f"it has {size} bytes, not {file.size}" if size != file.size else "it has another checksum")
    return path


def _partial(dl_manager: tfds.download.DownloadManager, address: str) -> set[Path]:
    """The folders in which TFDS downloads from an address; their names end in a random number."""
    top, name = Path(dl_manager.download_dir), resource.get_dl_fname(address)
    # Below, TFDS has a folder for each data set; the others are large.
    folders = [top, *(path for path in top.iterdir() if path.is_dir() and path.name not in ("extracted", "manual"))]
    return {path for folder in folders for path in folder.glob(f"{name}.tmp.*")}


@contextlib.contextmanager
def _timeouts() -> Iterator[None]:
    """Gives the requests that TFDS makes a time limit. It sets none, and has no option for it."""
    send = requests.Session.send

    def limited(session, request, **options):
        return send(session, request, **{**options, "timeout": options.get("timeout") or TIMEOUT})

    requests.Session.send = limited
    try:
        yield
    finally:
        requests.Session.send = send


def _reason(error: Exception) -> str:
    if isinstance(error, NonMatchingChecksumError):
        return "it has another checksum"
    if isinstance(error, requests.Timeout) or "timed out" in str(error):
        return "it does not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate cannot be verified"
    if isinstance(error, requests.ConnectionError):
        return "it cannot be reached"
    return one_line(error)


def _link(link: Path, target: Path) -> None:
    """Makes a link, or replaces it, in one step."""
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.abspath(target))
    temporary.replace(link)
