"""Finished videos kept until the whole data set is built, so that an interrupted build of days goes on.

TFDS throws away what an interrupted build has written. Optical flow costs a hundred times what everything else
does, so each video's is kept beside the data sets, under a name made from its content and from what decides the
result. The builder removes them when the data set is there; until then they take as much space again.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from r23d_jax.runtime.files import open_arrays
from tfds_ucf101.stored import StoredVideo

FOLDER = "flow_cache"
_FACTS = ("fps", "height", "width", "source_height", "source_width", "header_frames")


def key(files: Iterable[Path], options: Any) -> str:
    """SHA-256 over the names and bytes of a video's files and over everything that decides what is made of them.

    Args:
      files: in order.
      options: of JSON's types.
    """
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for file in files:
        with file.open("rb") as data:
            digest.update(hashlib.file_digest(data, "sha256").digest())
        digest.update(os.fsencode(file.name))
    return digest.hexdigest()


def load(folder: str, name: str) -> StoredVideo | None:
    """The video kept under that name; None where there is none, or a damaged one."""
    try:
        with open_arrays(Path(folder) / f"{name}.npz") as kept:
            pictures = np.split(kept["bytes"], np.cumsum(kept["lengths"])[:-1])
            facts = json.loads(str(kept["facts"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return StoredVideo([picture.tobytes() for picture in pictures], **facts)


def save(folder: str, name: str, video: StoredVideo) -> None:
    """Keeps a video; a build that is killed meanwhile leaves nothing under the name."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    partial = Path(folder) / f"{name}.{os.getpid()}.partial"
    with partial.open("wb") as file:
        np.savez(
            file,
            bytes=np.frombuffer(b"".join(video.frames), np.uint8),
            lengths=np.asarray([len(frame) for frame in video.frames]),
            facts=json.dumps({fact: getattr(video, fact) for fact in _FACTS}),
        )
    partial.replace(Path(folder) / f"{name}.npz")
