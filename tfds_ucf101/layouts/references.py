"""Finds the videos that tables name, wherever they lie below the input folder."""

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass

from r23d_jax.errors import UserError
from tfds_ucf101.layouts import ucf101
from tfds_ucf101.layouts.found import Found
from tfds_ucf101.layouts.frames import divide, one_video
from tfds_ucf101.layouts.tree import Folder, Pictures, holds_media
from tfds_ucf101.lists import Lists, stem_of
from tfds_ucf101.media import Media


def resolve(root: Folder, listed: Lists, flow_files: bool = False, anywhere: bool = False) -> tuple[Found, list[str]]:
    """Finds each video that the lists name: at that path, with another ending, or by its name alone.

    Args:
      root: the input folder.
      listed: with `files`.
      flow_files: of folders of frames take the optical flow in them.
      anywhere: take absolute paths as they are where they exist, and not as those of another machine's folder.

    Returns:
      The videos found, and the keys of those that are not there. Files that are not listed are passed over.

    Raises:
      UserError: a name could be several videos, or two names are of one.
    """
    assert listed.files is not None
    index = _Index(root, flow_files, anywhere)
    media, shown, absent = {}, {}, []
    named: dict[str, str] = {}
    for key, reference in listed.files.items():
        at = index.find(reference)
        if at is None:
            absent.append(key)
            continue
        other = named.setdefault(at, reference)
        if other != reference:
            raise UserError(f"{listed.where}: {other} and {reference} are both the video {at}: remove one of the two")
        media[key], shown[key] = index.media(at), at
    kind = "videos" if all(not one.still for one in media.values()) else "frames"
    of_ucf101 = "UCF101 as " if ucf101.is_part(key.split("/")[0] for key in media) else ""
    layout = f"{of_ucf101}{kind} and {'a table' if listed.kind in listed.used else 'tables'}"
    return Found(listed.where, layout, media, shown, listed.class_names), absent


@dataclass(frozen=True, slots=True)
class _Place:
    """A video file in a folder, or a folder of frames, or one of several sets of frames in a folder."""

    folder: Folder
    name: str = ""
    pictures: Pictures | None = None


class _Index:
    """Every video below a folder by its path, its path without ending, and its name.

    As long as tables give exact paths, only the folders on the way are listed: a table may lie in somebody's home.
    """

    def __init__(self, root: Folder, flow_files: bool, anywhere: bool):
        self._root, self._flow_files, self._anywhere = root, flow_files, anywhere
        self._found: dict[str, _Place] = {}
        self._elsewhere: dict[str, Folder] = {}
        self._inside: dict[str, dict[str, _Place]] = {}  # of the folders on the way

    @functools.cached_property
    def _places(self) -> dict[str, _Place]:
        return dict(_walk(self._root))

    @functools.cached_property
    def _by_tail(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path, place in self._places.items():
            tail = path.rpartition("/")[2]
            # A file is looked up with or without its ending, and a folder may have what looks like one.
            for name in {stem_of(tail)} if place.name else {tail, stem_of(tail)}:
                found.setdefault(name, []).append(path)
        return found

    def find(self, reference: str) -> str | None:
        """The path of the one video that a table means; None if there is none."""
        place = self._exact(reference)
        if place is not None:
            self._found[reference] = place
            return reference
        wanted = reference.lstrip("/")
        tail = wanted.rpartition("/")[2]
        # The more of the reference's folders agree, the better: a name alone says least.
        alike = (path for name in {tail, stem_of(tail)} for path in self._by_tail.get(name, ()))
        agreement = {path: _agreement(path, wanted) for path in alike}
        best = max(agreement.values(), default=(0, False))
        nearest = sorted(path for path, its in agreement.items() if its == best and _is_enough(reference, path, its[0]))
        if len(nearest) > 1:
            raise UserError(
                f"{self._root}: {reference} of the table could be {nearest[0]} or {nearest[1]}: give the path"
            )
        if not nearest:
            return None
        self._found[nearest[0]] = self._places[nearest[0]]
        return nearest[0]

    def _exact(self, reference: str) -> _Place | None:
        """What lies where a table says; a file that does not look like a video is to be tried all the same."""
        around, _, name = reference.rpartition("/")
        if self._anywhere and around.startswith("/") and os.path.isdir(around):
            folder = self._elsewhere.setdefault(around, Folder(around, around))
        else:
            folder = self._root.below(around.split("/") if around else [])
        if folder is None:
            return None
        child = folder.folders.get(name)
        if child is not None and (child.pictures or not holds_media(child)):
            return _Place(child)
        if folder.path not in self._inside:
            places = {file: _Place(folder, file) for file in folder.files}
            places |= {one.stem: _Place(folder, pictures=one) for one in divide(folder.pictures)[1]}
            self._inside[folder.path] = places
        return self._inside[folder.path].get(name)

    def media(self, path: str) -> Media:
        place = self._found[path]
        if self._flow_files and (place.name or place.pictures):
            raise UserError(f"{path} has no flow_x_# and flow_y_# pictures, and the config asks for flow_files")
        if place.pictures is not None:
            return place.folder.frames(place.pictures)
        return place.folder.video(place.name) if place.name else one_video(place.folder, self._flow_files)


def _walk(folder: Folder) -> Iterator[tuple[str, _Place]]:
    for name in folder.videos:
        yield folder.show(name), _Place(folder, name)
    yield from ((folder.show(one.stem), _Place(folder, pictures=one)) for one in divide(folder.pictures)[1])
    for name, child in folder.folders.items():
        if child.pictures or not holds_media(child):
            yield folder.show(name), _Place(child)
        yield from _walk(child)


def _is_enough(reference: str, path: str, agreeing: int) -> bool:
    """Whether a table means a path. One from the input folder may lack folders in front, and nothing else; one from
    another machine's root has others in front, and names the video's folder, at least, as it is called here."""
    if agreeing == len(reference.strip("/").split("/")):
        return True
    return reference.startswith("/") and (agreeing > 1 or agreeing == len(path.split("/")))


def _agreement(path: str, wanted: str) -> tuple[int, bool]:
    """How many last parts of two paths are the same, whatever the ending, and whether the ending is, too."""
    ours, theirs = path.split("/"), wanted.split("/")
    count = 1
    for one, other in zip(reversed(ours[:-1]), reversed(theirs[:-1]), strict=False):
        if one != other:
            break
        count += 1
    return count, ours[-1] == theirs[-1]
