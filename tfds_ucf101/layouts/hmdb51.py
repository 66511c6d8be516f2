"""HMDB51's lists: a file for every class and split, whose lines say of each video 0, 1 or 2.

    <class>_test_split<1|2|3>.txt      April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1

1 is train, 2 is test, and 0 is neither: only 70 and 30 videos of a class are used in each split.
"""

import re
from collections.abc import Iterable

from r23d_jax.errors import UserError
from tfds_ucf101.errors import InputError
from tfds_ucf101.layouts.tree import Folder
from tfds_ucf101.lists import NEITHER, TEST, TRAIN, VAL, Lists, Sides, check_class_names, of_side, stem_of

FOLDER = "testTrainMulti_7030_splits"

# HMDB51 (Kuehne, Jhuang, Garrote, Poggio, Serre 2011): its classes, and the videos of each official split.
CLASSES = tuple(
    """
    brush_hair cartwheel catch chew clap climb climb_stairs dive draw_sword dribble drink eat fall_floor fencing
    flic_flac golf handstand hit hug jump kick kick_ball kiss laugh pick pour pullup punch push pushup ride_bike
    ride_horse run shake_hands shoot_ball shoot_bow shoot_gun sit situp smile smoke somersault stand swing_baseball
    sword sword_exercise talk throw turn walk wave
    """.split()
)
COUNTS = (3570, 1530)

_FILE = re.compile(r"(.+)_test_split([123])\.txt")
_ROLES = {"0": NEITHER, "1": TRAIN, "2": TEST}


def is_lists(folder: Folder) -> bool:
    """Whether a folder holds HMDB51's lists, or was meant to."""
    called = folder.name.casefold() == FOLDER.casefold() and not folder.folders
    return called or (bool(folder.files) and all(_FILE.fullmatch(name) for name in folder.files))


def read_lists(folder: Folder) -> Lists:
    """Reads every list of the folder; the classes are in alphabetical order, which is HMDB51's.

    Raises:
      UserError: a file or line is malformed, a list is missing, or a video comes twice.
    """
    found: dict[tuple[str, str], str] = {}
    for name in folder.files:
        if not name.endswith(".txt"):
            continue
        match = _FILE.fullmatch(name)
        if match is None:
            raise UserError(f"{folder}/{name} is not named <class>_test_split1.txt (or 2, 3): rename or remove it")
        found[match[1], match[2]] = name
    if not found:
        raise UserError(f"{folder} holds no <class>_test_split1.txt: add the lists or remove the folder")
    class_names = check_class_names(sorted({name for name, _ in found}), str(folder))
    sides: dict[str, dict[str, int]] = {}
    for split in sorted({split for _, split in found}):
        sides[split] = {}
        for name in class_names:
            file = found.get((name, split))
            if file is None:
                raise UserError(f"{folder}/{name}_test_split{split}.txt is missing, other classes have theirs")
            sides[split].update(_read_list(folder, file, name))
    mentioned = frozenset(key for one in sides.values() for key in one)
    used = frozenset(map(folder.show, found.values()))
    return Lists(str(folder), f"the lists in {folder.shown or folder.name}", class_names, sides, mentioned, used=used)


def check(class_names: Iterable[str], sides: Sides) -> None:
    """Raises an `InputError` if these are HMDB51's classes and not its official counts."""
    if sorted(class_names) != sorted(CLASSES):
        return
    for split, one in sides.items():
        counts = len(of_side(one, TRAIN, VAL)), len(of_side(one, TEST))
        if counts != COUNTS:
            due, found = ("/".join(map(str, pair)) for pair in (COUNTS, counts))
            raise InputError(
                f"HMDB51's split {split} has {due} train/test videos, found {found}",
                config='; for a part of it, ask with --config \'{"name": "part", "subset": true}\'',
            )


def _read_list(folder: Folder, file: str, name: str) -> dict[str, int]:
    """The role of every video of one class in one split, by its key."""
    path = f"{folder}/{file}"
    roles: dict[str, int] = {}
    first: dict[str, int] = {}
    for number, line in folder.lines(file):
        video, _, flag = line.replace("\t", " ").rpartition(" ")
        video = video.strip()
        if flag not in _ROLES or not video:
            raise UserError(f"{path} line {number}: {line!r} is not a file and 0, 1 or 2")
        if "/" in video or "\\" in video or video.startswith("."):
            raise UserError(f"{path} line {number}: {video!r} is not the name of a file in the folder {name}")
        key = f"{name}/{stem_of(video)}"
        if key in first:
            raise UserError(f"{path} line {number}: {video} is listed twice (first in line {first[key]})")
        first[key], roles[key] = number, _ROLES[flag]
    return roles
