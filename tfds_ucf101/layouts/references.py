"""Finds the videos that tables name, wherever they lie below the input folder."""

from collections.abc import Iterator
from dataclasses import dataclass

from r23d_jax.errors import UserError
from tfds_ucf101.layouts import ucf101
from tfds_ucf101.layouts.found import Found
from tfds_ucf101.layouts.frames import divide, one_video
from tfds_ucf101.layouts.tree import Folder, Pictures, holds_media
from tfds_ucf101.lists import Lists, stem_of
from tfds_ucf101.media import Media


def resolve(root: Folder, listed: Lists, flow_files: bool = False) -> tuple[Found, list[str]]:
    """Finds each video that the lists name: at that path, with another ending, or by its name alone.

    Args:
      root: the input folder.
      listed: with `files`.
      flow_files: of folders of frames take the optical flow in them.

    Returns:
      The videos found, and the keys of those that are not there. Files that are not listed are passed over.

    Raises:
      UserError: a name could be several videos, or two names are of one.
    """
    assert listed.files is not None
    index = _Index(root, flow_files)
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
    """Every video below a folder by its path, its path without ending, and its name."""

    def __init__(self, root: Folder, flow_files: bool):
        self._root, self._flow_files = root, flow_files
        self._places = dict(_walk(root))
        self._by_tail: dict[str, list[str]] = {}
        for path, place in self._places.items():
            tail = path.rpartition("/")[2]
            # A file is looked up with or without its ending, and a folder may have what looks like one.
            for name in {stem_of(tail)} if place.name else {tail, stem_of(tail)}:
                self._by_tail.setdefault(name, []).append(path)

    def find(self, reference: str) -> str | None:
        """The path of the one video that a table means; None if there is none."""
        if reference in self._places or self._is_file(reference):
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
        return nearest[0] if nearest else None

    def _is_file(self, reference: str) -> bool:
        """Whether a table means a file that does not look like a video, which is then to be tried."""
        *parents, name = reference.split("/")
        folder = self._root.below(parents)
        if folder is None or name not in folder.files:
            return False
        self._places[reference] = _Place(folder, name)
        return True

    def media(self, path: str) -> Media:
        place = self._places[path]
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
