"""Finds the videos that files, folders and glob patterns name, and the paths of their results."""

import collections
import dataclasses
import glob
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from r23d_jax.data import video
from r23d_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class VideoSource:
    """A video file, or a video in memory.

    Attributes:
      path: as the user gave it, or below the given folder.
      relative: relative to the folder or the fixed part of the pattern; the name of a single file.
      frames: uint8 [T, H, W, 3] of a video in memory, else None.
      fps: their frame rate.
    """

    path: Path
    relative: Path
    frames: np.ndarray | None = dataclasses.field(default=None, compare=False)
    fps: float = 0.0


def of_array(frames: np.ndarray, fps: float | None) -> VideoSource:
    """Returns the source of a video in memory.

    Args:
      frames: uint8 [T, H, W, 3].
      fps: frame rate.

    Raises:
      UserError: wrong shape or dtype, or no frame rate.
    """
    check_frames(frames, axes=4)
    if not fps or not 0 < fps < math.inf:
        raise UserError(f"fps={fps}: say how many frames a second the array has, for example fps=25")
    return VideoSource(Path("array"), Path("array"), frames, float(fps))


def check_frames(frames: np.ndarray, axes: int) -> None:
    """Raises a `UserError` unless `frames` are uint8 [..., T, H, W, 3] with this number of axes."""
    if frames.dtype != np.uint8 or frames.ndim != axes or frames.shape[-1] != 3 or not frames.size:
        wanted = "uint8 [T, H, W, 3]" if axes == 4 else "uint8 [T, H, W, 3] or [B, T, H, W, 3]"
        raise UserError(f"frames of type {frames.dtype} and shape {list(frames.shape)}: give {wanted}")


def find(arguments: Iterable[str]) -> tuple[list[VideoSource], list[str]]:
    """Expands files, folders and patterns.

    Folders are searched recursively for `video.ENDINGS`, following links and skipping hidden files; patterns are those
    of `glob`, including `**`. Each file is listed once, in the order of the arguments, sorted within each.

    Returns:
      The videos, and a message for each argument without any.
    """
    found: dict[str, VideoSource] = {}
    problems = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            sources = [VideoSource(file, file.relative_to(path)) for file in _videos_below(path)]
            problem = f"{path}: no video in this folder (looked for names such as *.avi, *.mp4, *.mkv)"
        elif glob.has_magic(argument) and not path.exists():
            sources = _matches(argument)
            problem = f"{argument}: no video matches this pattern"
        else:  # even if it cannot be read: opening it gives a better message
            sources, problem = [VideoSource(path, Path(path.name))], ""
        for source in sources:
            found.setdefault(os.path.abspath(source.path), source)
        if not sources:
            problems.append(problem)
    return list(found.values()), problems


def outputs(sources: list[VideoSource], root: Path, ending: str) -> list[Path]:
    """Returns a path below `root` for each video: its relative path with `ending` instead of its own.

    Videos whose names differ only in the ending keep it: `a.avi.npz`, `a.mp4.npz`.

    Raises:
      UserError: two videos of different folders would have the same path.
    """

    def shared(paths):
        return {path for path, count in collections.Counter(paths).items() if count > 1}

    names = [source.relative.name for source in sources]
    paths = [
        root / source.relative.with_name(Path(name).stem + ending) for source, name in zip(sources, names, strict=True)
    ]
    twice = shared(paths)
    paths = [path.with_name(name + ending) if path in twice else path for path, name in zip(paths, names, strict=True)]
    clashes = shared(paths)
    if clashes:
        first = min(clashes)
        both = [str(source.path) for source, path in zip(sources, paths, strict=True) if path == first]
        raise UserError(f"{' and '.join(both[:2])} would both be written to {first}: give one folder at a time")
    return paths


def targets(
    option: str,
    given: str | None,
    found: list[VideoSource],
    endings: Sequence[str],
    ending: str,
    ending_optional: bool = False,
) -> dict[VideoSource, Path]:
    """Returns the path that an option of `predict` writes for each video: the given file, or one in the given folder.

    Args:
      option: its name, for messages.
      given: its value; None to write nothing.
      found: the videos.
      endings: accepted endings of a file.
      ending: of the files in a folder.
      ending_optional: whether a name without an ending is a file if there is a single video.

    Raises:
      UserError: one file for several videos, or an ending that is not accepted.
    """
    if not given:
        return {}
    path = Path(given)
    if path.suffix.lower() in endings:
        if len(found) > 1:
            raise UserError(f"{option} {given}: there are {len(found)} videos; name a folder")
        return dict.fromkeys(found, path)
    if ending_optional and len(found) == 1 and not path.is_dir():
        return {found[0]: path.with_name(path.name + ending)}
    if path.suffix and not path.is_dir() and not ending_optional:
        raise UserError(f"{option} {given}: must end in {' or '.join(endings)}, or be a folder")
    return dict(zip(found, outputs(found, path, ending), strict=True))


def _matches(pattern: str) -> list[VideoSource]:
    fixed = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    base = Path(*fixed)
    files: list[Path] = []
    for match in sorted(glob.glob(pattern, recursive=True)):
        path = Path(match)
        if path.is_dir():
            # `**` matches every folder and the files in it.
            files += [] if "**" in pattern else _videos_below(path)
        elif path.suffix.lower() in video.ENDINGS or Path(pattern).suffix.lower() == path.suffix.lower():
            files.append(path)
    return [VideoSource(file, file.relative_to(base)) for file in files]


def _videos_below(folder: Path) -> Iterator[Path]:
    seen = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:  # a link to a parent folder
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in video.ENDINGS:
                yield Path(root) / name
