"""Videos in folders: of classes, divided into train, val and test or not, as files, as folders of frames, or as frames
of many videos side by side; and folders of frames without classes, whose names say them.

    [UCF-101/]<Class>/<video>.avi                    <Class>/<video>/img_00001.jpg (mmaction2's rawframes)
    train|val|test/<class>/<video>                   <Class>/<video>-0001.jpg (Kaggle's pevogam/ucf101-frames)
    jpegs_256/v_<Class>_gNN_cNN/frame000001.jpg
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from r23d_jax.errors import UserError
from tfds_ucf101 import lists
from tfds_ucf101.layouts import table_forms, ucf101
from tfds_ucf101.layouts.found import Found
from tfds_ucf101.layouts.frames import divide, one_video, refuse_flow, refuse_flow_folders
from tfds_ucf101.layouts.tree import Folder, depth, holds_media
from tfds_ucf101.media import Media

# What folders around classes or sides are called, which may lie in each other; and what folders of videos or frames
# are called, in which everything is a class. Of several the first is taken.
_WRAPPERS = ("ucf-101", "ucf101", "hmdb51", "hmdb51_org")
_HOLDERS = ("videos", "frames", "rawframes", "ucf101-frames", "jpegs_256")
_WRAPPED = 4  # folders around the one that holds the classes, at most
_FRAME_WORDS = frozenset({"", "f", "frame", "frames", "i", "im", "image", "img", "pic", "picture", "thumb"})
_NAMED = re.compile(r"v_([A-Za-z0-9]+)_g\d{2,3}_c\d{2,3}")


@dataclass
class _Videos:
    """What is found of one side, or of all of them: class -> name -> the data and the path that messages show."""

    classes: dict[str, dict[str, tuple[Media, str]]] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)  # "files", "frames", "flat", "named"
    flow: bool = False  # optical flow lies beside frames
    passed: list[str] = field(default_factory=list)  # what lies between and is no video


def read(root: Folder, flow_files: bool = False) -> Found | None:
    """Finds the videos of a folder of any of these layouts; None where it is of none.

    Args:
      root: what the user gave.
      flow_files: take the optical flow that lies beside the frames, and not the frames.

    Raises:
      UserError: it is of one of them, and something in it does not fit.
    """
    base, notes = _base(root, flow_files)
    parts = _sides(base)
    if parts:
        found, sides = _join(base, {side: _read_classes(folder, flow_files) for side, folder in parts.items()})
        taken = tuple(f"{folder.path}/" for folder in parts.values())
        children = _with_media(base)
        unused = [child.shown for child in children if not any(one.startswith(f"{child.path}/") for one in taken)]
        found.passed += [f"{shown}/" for shown in unused] + [base.show(name) for name in base.videos]
    else:
        found, sides = _read_classes(base, flow_files), {}
    if not found.classes:
        return None
    media, shown = {}, {}
    for name, videos in found.classes.items():
        for stem, (data, where) in videos.items():
            media[f"{name}/{stem}"], shown[f"{name}/{stem}"] = data, where
    if found.passed:
        notes.append(f"passed over, no videos of a class: {lists.preview(found.passed)}")
    if found.flow and not flow_files:
        notes.append(
            'optical flow lies beside the frames and is not used; `tfds build` stores it with "flow": "tvl1", '
            '"flow_files": true'
        )
    return Found(base.path, _layout(found, media, bool(parts)), media, shown, None, sides, tuple(notes))


def _with_media(folder: Folder) -> list[Folder]:
    """The folders in a folder that hold videos or pictures, sorted."""
    return [child for child in folder.folders.values() if holds_media(child)]


def _holds_folders(folder: Folder) -> bool:
    """Whether there are folders with videos in it, or videos that need no folder of a class."""
    return any(map(holds_media, folder.folders.values())) or _is_named(folder)


def _base(root: Folder, flow_files: bool) -> tuple[Folder, list[str]]:
    """The folder whose folders are sides, classes or videos, and notes on what lies beside it."""
    folder, notes = root, []
    for _ in range(_WRAPPED):
        if _sides(folder):
            break
        children = _with_media(folder)
        holders = _holders(children, flow_files)
        if folder is not root and folder.name.casefold() in _HOLDERS and len(children) > 1:
            holders = []  # one of its classes may be called so
        if holders:
            unused = [f"{child.shown}/" for child in children if child is not holders[0]]
            if unused:
                notes.append(f"there, too, and not used: {lists.preview(unused)}")
            folder = holders[0]
            continue
        if folder is not root and folder.name.casefold() in _HOLDERS + _WRAPPERS:
            break  # its folders are classes, however few
        if len(children) != 1 or folder.pictures or folder.videos or not depth(children[0]):
            break
        folder = children[0]
    return folder, notes


def _holders(children: Sequence[Folder], flow_files: bool) -> list[Folder]:
    """The folders that are called like folders of videos, and are no class of that name: the one to take, first.

    A class called "frames" has videos in it and nothing else.
    """
    found = []
    for name in _HOLDERS + _WRAPPERS:
        alike = (child for child in children if child.name.casefold() == name)
        found += [child for child in alike if _holds_folders(child)]
    if flow_files:
        found.sort(key=lambda holder: not _has_flow(holder))
    return found


def _has_flow(folder: Folder) -> bool:
    """Whether the first pictures in a folder have optical flow among them."""
    while not folder.pictures:
        below = next((child for child in folder.folders.values() if holds_media(child)), None)
        if below is None:
            return False
        folder = below
    return bool(divide(folder.pictures)[0])


def _sides(folder: Folder) -> dict[int, Folder]:
    """Side -> folder, where there are train and another. Folders with videos in them are classes of that name."""
    found: dict[int, Folder] = {}
    children = _with_media(folder)
    side_of = _side_of
    if not any(map(_side_of, children)):  # train_set and test_set; beside other classes "training dog" is a class
        side_of = _side_in_words
        if not all(side_of(child) and _holds_folders(child) for child in children):
            return {}
    called = [child for child in children if side_of(child)]
    for child in filter(_holds_folders, called):
        side = side_of(child)
        if side in found:
            raise UserError(f"{found[side]} and {child} would be the same side: remove one")
        found[side] = child
    bare = [child for child in called if child not in found.values()]
    if len(children) == len(called) > 1 and bare:
        raise UserError(
            f"{bare[0]} holds videos or frames, and no class folders: put them into some, or add a table videos.csv "
            "with the columns path, label and split"
        )
    if len(found) > 1 and lists.TRAIN not in found:
        raise UserError(f"{folder} holds {' and '.join(child.name for child in found.values())}, and no train")
    return {side: _unwrapped(child, side) for side, child in found.items()} if len(found) > 1 else {}


def _side_of(folder: Folder) -> int | None:
    return lists.SIDE_NAMES.get(folder.name.casefold())


def _side_in_words(folder: Folder) -> int | None:
    return table_forms.side_of(folder.name)


def _unwrapped(folder: Folder, side: int) -> Folder:
    """The folder of a side, or the one of the same name that is all in it, as in archives."""
    children = _with_media(folder)
    alone = len(children) == 1 and not folder.videos and not folder.pictures
    return children[0] if alone and _side_of(children[0]) == side and _holds_folders(children[0]) else folder


def _read_classes(base: Folder, flow_files: bool) -> _Videos:
    found = _Videos()
    if _is_named(base):
        _read_named(base, flow_files, found)
        return found
    _refuse_videos_for_classes(base)
    refuse_flow_folders(base.folders)
    _refuse_sides_in_classes(base)
    for name, folder in base.folders.items():
        videos: dict[str, tuple[Media, str]] = {}
        for stem, media, where in _videos_of(folder, "", flow_files, found) if _is_class(folder) else ():
            if stem in videos:
                raise UserError(f"{videos[stem][1]} and {where} would both be named {name}/{stem}: rename one")
            videos[stem] = media, where
        if videos:
            found.classes[name] = videos
        elif _is_empty(folder):
            raise UserError(f"the class folder {folder} is empty: fill it or remove it")
        elif not any(map(lists.looks_like_list, folder.others)):
            found.passed.append(f"{folder.shown}/")
    if found.classes and all(name.casefold() in _HOLDERS for name in found.classes):
        raise UserError(
            f"{base.folders[next(iter(found.classes))]} holds videos, and no class folders: put them into some, or add "
            "a table videos.csv with the columns path, label and split"
        )
    found.passed += [base.show(name) for name in base.videos] + [base.show(one.pattern) for one in base.pictures]
    lists.check_class_names(found.classes, str(base))
    return found


def _refuse_sides_in_classes(base: Folder) -> None:
    """Folders train and test within what would be a class, whose sides would be lost."""
    for folder in base.folders.values():
        inside = {_side_of(child): child.name for child in _with_media(folder)}
        if lists.TRAIN in inside and inside.keys() & {lists.TEST, lists.VAL}:
            raise UserError(
                f"{folder} holds a folder {inside[lists.TRAIN]} and other sides: give that folder, if it is no class, "
                "or put the classes into the sides (train/<class>), or add a table videos.csv with the columns path, "
                "label and split"
            )


def _is_class(folder: Folder) -> bool:
    """Whether a folder holds videos, or nothing but folders that should hold frames."""
    if holds_media(folder):
        return True
    # TFDS makes downloads/extracted in its data_dir, which may be the input folder.
    names = [*folder.folders]
    return bool(names) and names != ["extracted"] and all(map(_is_empty, folder.folders.values()))


def _is_empty(folder: Folder) -> bool:
    return not folder.files and not folder.folders and not folder.pictures


def _refuse_videos_for_classes(base: Folder) -> None:
    """Frames of one name in all folders, such as frame0001.jpg: they are videos, and nothing says their classes."""
    children = _with_media(base)
    stems = [{one.stem for one in divide(child.pictures)[1]} for child in children]
    if not stems or any(len(one) != 1 or one != stems[0] for one in stems) or any(child.videos for child in children):
        return
    # Otherwise a class may have one video, and another class one of the same name.
    if len(stems) > 2 or stems[0] & _FRAME_WORDS:
        raise UserError(
            f"{base} holds folders of frames and no class folders, and their names do not say the class "
            f"(v_<Class>_gNN_cNN), such as {children[0].name}: put them in a folder a class, or add a table "
            "videos.csv with the columns path, label and split"
        )


def _videos_of(folder: Folder, prefix: str, flow_files: bool, found: _Videos) -> Iterator[tuple[str, Media, str]]:
    """Name, data and path of every video in a class folder, also in folders within it."""
    refuse_flow_folders(folder.folders)
    flow, sets = divide(folder.pictures)
    if flow_files and (folder.videos or sets):
        there = folder.show(folder.videos[0] if folder.videos else sets[0].pattern)
        raise UserError(f"{there} has no flow_x_# and flow_y_# pictures beside it, and the config asks for flow_files")
    for name in folder.videos:
        found.kinds.add("files")
        yield prefix + lists.stem_of(name), folder.video(name), folder.show(name)
    found.flow |= bool(flow)
    refuse_flow(folder, sets)
    for pictures in sets:
        found.kinds.add("flat")
        if not pictures.stem:
            raise UserError(
                f"{folder} holds pictures whose names do not say of which video, {pictures.pattern}: put those of each "
                "video into a folder of its own"
            )
        yield prefix + pictures.stem, folder.frames(pictures), folder.show(pictures.stem)
    found.passed += [folder.show(name) for name in folder.others]
    for name, child in folder.folders.items():
        nested = next((below for below in child.folders.values() if holds_media(below)), None)
        if child.pictures and nested is not None:
            raise UserError(f"{child} holds frames of a video, and {nested.name}/ in it holds others: move these away")
        if child.videos or nested is not None:
            yield from _videos_of(child, f"{prefix}{name}/", flow_files, found)
        elif child.pictures or (_is_empty(child) and not folder.videos and not folder.pictures):
            found.kinds.add("frames")
            found.flow |= bool(divide(child.pictures)[0])
            yield prefix + name, one_video(child, flow_files), child.shown
        else:
            found.passed.append(f"{child.shown}/")


def _is_named(base: Folder) -> bool:
    """Whether videos lie in a folder without classes, but names that say them."""
    folders = _with_media(base)
    names = [lists.stem_of(name) for name in base.videos] + [child.name for child in folders]
    return bool(names) and all(map(_NAMED.fullmatch, names)) and all(child.pictures for child in folders)


def _read_named(base: Folder, flow_files: bool, found: _Videos) -> None:
    found.kinds.add("named")
    if flow_files and base.videos:
        raise UserError(f"{base.show(base.videos[0])} is a video, and the config asks for flow_files")
    videos = [(lists.stem_of(name), base.video(name), base.show(name)) for name in base.videos]
    folders = [child for child in base.folders.values() if child.pictures]
    videos += [(child.name, one_video(child, flow_files), child.shown) for child in folders]
    found.flow = any(divide(child.pictures)[0] for child in folders)
    found.passed = [base.show(name) for name in base.others if not lists.looks_like_list(name)]
    for stem, media, where in videos:
        match = _NAMED.fullmatch(stem)
        assert match is not None  # `_is_named` has seen to it
        of_class = found.classes.setdefault(ucf101.official(match[1]), {})
        if stem in of_class:
            raise UserError(f"{of_class[stem][1]} and {where} would both be named {stem}: rename one")
        of_class[stem] = media, where
    found.classes = dict(sorted(found.classes.items()))
    lists.check_class_names(found.classes, str(base))


def _join(base: Folder, by_side: Mapping[int, _Videos]) -> tuple[_Videos, dict[str, dict[str, int]]]:
    """All sides as one, and the side of every video; names that come on two sides get their side in front."""
    empty = next((side for side, videos in by_side.items() if not videos.classes), None)
    if empty is not None:
        raise UserError(f"{base}: the folder of the {lists.ROLES[empty]} side holds no class folders with videos")
    joined = _Videos()
    classes = {name for side in by_side.values() for name in side.classes}
    spell = ucf101.official if ucf101.is_most({name.casefold() for name in classes}) else str
    names = [(name, stem) for side in by_side.values() for name, videos in side.classes.items() for stem in videos]
    several = len(set(names)) < len(names)
    of_video: dict[str, int] = {}
    for side, videos in sorted(by_side.items()):
        joined.kinds |= videos.kinds
        joined.flow |= videos.flow
        joined.passed += videos.passed
        for name, of_class in videos.classes.items():
            name = spell(name)
            for stem, found in of_class.items():
                stem = f"{lists.ROLES[side]}/{stem}" if several else stem
                joined.classes.setdefault(name, {})[stem] = found
                of_video[f"{name}/{stem}"] = side
    lists.check_class_names(joined.classes, str(base))
    trained = set(map(spell, by_side[lists.TRAIN].classes))
    untrained = [name for name in joined.classes if name not in trained]
    if untrained:
        raise UserError(f"{base}: the class {untrained[0]} is tested but never trained: add it to train or remove it")
    return joined, {"1": of_video}


def _layout(found: _Videos, media: Mapping[str, Media], sided: bool) -> str:
    """What the folder is, in words."""
    kinds, names = found.kinds, [key.rpartition("/")[2] for key in media]
    ucf = all(map(_NAMED.fullmatch, names)) and ucf101.is_part(found.classes)
    if ucf and kinds == {"flat"} and sided:
        return "UCF101 as frames by Kaggle's pevogam/ucf101-frames"
    if found.flow:
        what = "mmaction2's rawframes"
    elif kinds == {"files"}:
        what = "videos in class folders"
    elif kinds == {"flat"}:
        what = "frames in class folders, a prefix a video"
    elif kinds == {"named"}:
        what = "videos or folders of frames without class folders"
    elif kinds == {"frames"}:
        what = "frames in class folders, a folder a video"
    else:
        what = "videos and frames in class folders"
    return ("UCF101 as " if ucf else "") + what + (", divided by folders" if sided else "")
