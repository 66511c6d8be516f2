"""HMDB51's lists: a file for every class and split, whose lines say of each video 0, 1 or 2.

    <class>_test_split<1|2|3>.txt      April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1

1 is train, 2 is test, and 0 is neither: only 70 and 30 videos of a class are used in each split.
"""

import re
from pathlib import Path

from r23d_jax.errors import UserError
from tfds_ucf101 import lists

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
_ROLES = {"0": lists.NEITHER, "1": lists.TRAIN, "2": lists.TEST}


def read(folder: Path) -> lists.Lists:
    """Reads every list of the folder; the classes are in alphabetical order, which is HMDB51's.

    Raises:
      UserError: a file or line is malformed, a list is missing, or a video comes twice.
    """
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.glob("*.txt")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise UserError(f"{path} is not named <class>_test_split1.txt (or 2, 3): rename or remove it")
        found[match[1], match[2]] = path
    if not found:
        raise UserError(f"{folder} holds no <class>_test_split1.txt: add the lists or remove the folder")
    class_names = lists.check_class_names(sorted({name for name, _ in found}), folder)
    splits, mentioned = {}, set()
    for split in sorted({split for _, split in found}):
        sides: dict[int, list[str]] = {role: [] for role in _ROLES.values()}
        for name in class_names:
            path = found.get((name, split))
            if path is None:
                raise UserError(f"{folder / f'{name}_test_split{split}.txt'} is missing, other classes have theirs")
            for key, role in _read_list(path, name).items():
                sides[role].append(key)
        splits[split] = (sides[lists.TRAIN], sides[lists.TEST])
        mentioned.update(*sides.values())
    return lists.Lists(folder, class_names, splits, frozenset(mentioned))


def check_counts(found: lists.Lists, splits: lists.SplitKeys) -> None:
    """Raises a `UserError` if these are HMDB51's classes and not its official counts."""
    if sorted(found.class_names) != sorted(CLASSES):
        return
    for split, (train, test) in splits.items():
        if (len(train), len(test)) != COUNTS:
            hint = 'for a part of it, ask with --config \'{"name": "part", "subset": true}\''
            raise UserError(
                f"HMDB51's split {split} has {COUNTS[0]}/{COUNTS[1]} train/test videos, found {len(train)}/{len(test)}"
                f"; {hint}"
            )


def _read_list(path: Path, name: str) -> dict[str, int]:
    """The role of every video of one class in one split, by its key."""
    roles: dict[str, int] = {}
    first: dict[str, int] = {}
    for number, line in lists.lines_of(path):
        video, _, flag = line.replace("\t", " ").rpartition(" ")
        video = video.strip()
        if flag not in _ROLES or not video:
            raise UserError(f"{path} line {number}: {line!r} is not a file and 0, 1 or 2")
        if "/" in video or "\\" in video or video.startswith("."):
            raise UserError(f"{path} line {number}: {video!r} is not the name of a file in the folder {name}")
        key = f"{name}/{lists.stem_of(video)}"
        if key in first:
            raise UserError(f"{path} line {number}: {video} is listed twice (first in line {first[key]})")
        first[key], roles[key] = number, _ROLES[flag]
    return roles
