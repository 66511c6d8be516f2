"""The folder of a build's finished shards, which a build that ended early leaves for the next one.

It lies in the data_dir, so on the file system of the result: `tfds_ucf101_unfinished/<key of the build>/`. A shard is
two files there, its records and what the index needs of them, both named after all that decides their content. So a
shard that is there is right, and a video that was mended or removed changes its own shard only.
"""

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import simplejpeg

from r23d_jax.errors import UserError
from r23d_jax.runtime.files import locked, write_json
from tfds_ucf101.sources import Source
from tfds_ucf101.stored import FrameOptions

FOLDER = "tfds_ucf101_unfinished"
_ABOUT, _LOCK, _STOP, _LOST = "about.json", "lock", "stop", "unreadable"
_FORMAT = 1  # of these files; to be raised where the same input gives other ones


def build_key(
    version: str, options: FrameOptions, file_format: str, split_names: Sequence[str], origin: str | os.PathLike
) -> str:
    """Returns a hash of what all shards of a build have in common.

    Args:
      version: of the builder.
      options: how frames are stored.
      file_format: of the shards.
      split_names: of all splits that a record tells of.
      origin: the input folder. Builds of two folders do not share unfinished work, so that the end of one does not
        take away the other's.
    """
    libraries = [av.__version__, cv2.__version__, getattr(simplejpeg, "__version__", "")]
    # FrameOptions are plain values, whose repr tells all of them apart.
    return _hash([_FORMAT, version, repr(options), file_format, list(split_names), libraries, os.path.realpath(origin)])


def shard_key(build: str, splits: Sequence[str], sources: Sequence[Source], identities: Sequence[Any]) -> str:
    """Returns a hash of all that decides a shard's bytes and entries.

    Args:
      build: from `build_key`.
      splits: those that exist.
      sources: the videos, in the order of their records.
      identities: `identity()` of their media, in the same order.
    """
    facts = [
        [one.name, one.shown, one.label, one.group, one.clip, one.roles, one.origin, type(one.media).__name__, identity]
        for one, identity in zip(sources, identities, strict=True)
    ]
    return _hash([build, list(splits), facts])


class Unfinished:
    """The folder, for the process that builds and for its workers; small to pickle.

    Args:
      path: of the folder, which `at_work` makes. Workers do not, so that one that outlives its build leaves nothing.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.videos = self.path / "videos"  # what the shards to be written are made of

    def shard(self, key: str) -> Path:
        """Returns the path of a shard's records, whether they are there or not."""
        return self.path / f"{key}.records"

    def facts(self, key: str) -> dict[str, Any] | None:
        """Returns what `write` was told of a finished shard, and its size as "bytes"; None if it is not there."""
        try:
            facts = json.loads(self._facts(key).read_text())
            size = os.stat(self.shard(key)).st_size if facts["videos"] else 0
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return facts if size == facts["bytes"] else None

    def write(self, key: str, write: Callable[[str], None], facts: dict[str, Any]) -> None:
        """Writes a shard; it is there whole or not at all, whatever ends the process.

        Args:
          key: of the shard.
          write: writes the records to a path, and meanwhile adds to `facts`.
          facts: lists "videos", "unreadable" and "findings" of JSON values; a shard without videos has no file.
        """
        partial = self.path / f"{key}.{uuid.uuid4().hex}.part"
        try:
            write(os.fspath(partial))
            facts["bytes"] = os.stat(partial).st_size if facts["videos"] else 0
            if facts["videos"]:
                with open(partial, "rb") as file:
                    os.fsync(file.fileno())
                os.replace(partial, self.shard(key))
            write_json(self._facts(key), facts)
        finally:
            partial.unlink(missing_ok=True)

    def place(self, key: str, path: Path) -> None:
        """Gives a shard a second name in the data set, so that it is not lost if that is not finished.

        It is moved where the file system has no second names.
        """
        try:
            os.link(self.shard(key), path)
        except OSError:
            os.replace(self.shard(key), path)

    def note_unreadable(self, lost: Mapping[str, str]) -> int:
        """Notes a video that cannot be read, by "path" and "reason"; returns how many are noted."""
        folder = self.path / _LOST
        write_json(folder / f"{_hash(lost['path'])}.json", dict(lost))
        return sum(not entry.name.startswith(".") for entry in os.scandir(folder))

    def unreadable(self) -> list[dict[str, str]]:
        """Returns all that are noted, sorted by path."""
        found = [json.loads(path.read_text()) for path in (self.path / _LOST).glob("[!.]*.json")]
        return sorted(found, key=lambda lost: lost["path"])

    def stop(self) -> None:
        """Lets all workers stop after their current video."""
        with contextlib.suppress(OSError):  # a full disk stops them too
            (self.path / _STOP).touch()

    def stopped(self) -> bool:
        """Returns whether `stop` was called."""
        return (self.path / _STOP).exists()

    @contextlib.contextmanager
    def at_work(self, about: Mapping[str, Any]) -> Iterator[None]:
        """Holds the folder for one build, and clears what only the last one needed.

        Args:
          about: JSON values that tell people what the folder is.

        Raises:
          UserError: another process builds the same.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / _LOCK).touch()
        with locked(self.path / _LOCK) as free:
            if not free:
                raise UserError(f"{self.path}: another process is building the same; wait for it")
            for path in self.path.glob("*.part"):
                path.unlink(missing_ok=True)
            shutil.rmtree(self.path / _LOST, ignore_errors=True)
            (self.path / _LOST).mkdir()
            (self.path / _STOP).unlink(missing_ok=True)
            write_json(self.path / _ABOUT, dict(about))
            yield

    def finished(self) -> int:
        """Returns the number of shards that are there, also of those that this build does not use."""
        return sum(path.name != _ABOUT for path in self.path.glob("[!.]*.json"))

    def remove(self) -> None:
        """Removes the folder, and the one around it if nothing else is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()

    def _facts(self, key: str) -> Path:
        return self.path / f"{key}.json"


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
