"""Which video is train and which is test: UCF101's lists, or its rule by groups. No decoding here.

A video's key is "<Class>/<file stem>", so that lists written for .avi files also fit extracted frames and
files in another container. HMDB51's lists are read by `hmdb51`, tables by `csv_lists`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from r23d_jax.errors import UserError

SPLITS = ("1", "2", "3")
NEITHER, TRAIN, TEST = 0, 1, 2
ROLES = ("neither", "train", "test")
LISTS_FOLDER = "ucfTrainTestlist"

# UCF101 (Soomro, Zamir, Shah 2012): its classes in the order of its class list, videos, and train and test
# videos of each official split.
UCF101_CLASSES = tuple(
    """
    ApplyEyeMakeup ApplyLipstick Archery BabyCrawling BalanceBeam BandMarching BaseballPitch Basketball
    BasketballDunk BenchPress Biking Billiards BlowDryHair BlowingCandles BodyWeightSquats Bowling
    BoxingPunchingBag BoxingSpeedBag BreastStroke BrushingTeeth CleanAndJerk CliffDiving CricketBowling
    CricketShot CuttingInKitchen Diving Drumming Fencing FieldHockeyPenalty FloorGymnastics FrisbeeCatch
    FrontCrawl GolfSwing Haircut Hammering HammerThrow HandstandPushups HandstandWalking HeadMassage
    HighJump HorseRace HorseRiding HulaHoop IceDancing JavelinThrow JugglingBalls JumpingJack JumpRope
    Kayaking Knitting LongJump Lunges MilitaryParade Mixing MoppingFloor Nunchucks ParallelBars
    PizzaTossing PlayingCello PlayingDaf PlayingDhol PlayingFlute PlayingGuitar PlayingPiano
    PlayingSitar PlayingTabla PlayingViolin PoleVault PommelHorse PullUps Punch PushUps Rafting
    RockClimbingIndoor RopeClimbing Rowing SalsaSpin ShavingBeard Shotput SkateBoarding Skiing Skijet
    SkyDiving SoccerJuggling SoccerPenalty StillRings SumoWrestling Surfing Swing TableTennisShot TaiChi
    TennisSwing ThrowDiscus TrampolineJumping Typing UnevenBars VolleyballSpiking WalkingWithDog
    WallPushups WritingOnBoard YoYo
    """.split()
)
UCF101_VIDEOS = 13320
UCF101_COUNTS = {"1": (9537, 3783), "2": (9586, 3734), "3": (9624, 3696)}
# Its test groups; all others are train.
TEST_GROUPS = {"1": range(1, 8), "2": range(8, 15), "3": range(15, 22)}

_NUMBERED = re.compile(r"_g(\d{2,3})_c(\d{2,3})$")

# Of each split, the keys of its train and of its test videos.
SplitKeys = Mapping[str, tuple[Sequence[str], Sequence[str]]]


@dataclass(frozen=True)
class Lists:
    """What lists of any kind say.

    Attributes:
      where: the folder or file they were read from, for messages.
      class_names: in label order.
      splits: those that there are lists for.
      mentioned: every key that a list names, also those that are neither train nor test.
      files: where each video lies below the input folder, in POSIX form; None where the lists leave that to
        class folders.
    """

    where: Path
    class_names: tuple[str, ...]
    splits: SplitKeys
    mentioned: frozenset[str]
    files: Mapping[str, str] | None = None


def group_and_clip(stem: str) -> tuple[int, int]:
    """Group and clip number of `v_<Class>_gNN_cNN` (two or three digits), or (-1, -1)."""
    match = _NUMBERED.search(stem)
    return (int(match[1]), int(match[2])) if match else (-1, -1)


def is_text(name: str) -> bool:
    """Whether a file's name can be stored: records and index are UTF-8, names on disk may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def stem_of(name: str) -> str:
    """The file name without its extension, which has a letter in it: `clip.01` has none."""
    return re.sub(r"\.(?=\w*[A-Za-z])\w{1,5}$", "", name)


def is_ucf101(class_names: Iterable[str]) -> bool:
    """Whether these are UCF101's 101 classes."""
    return sorted(name.casefold() for name in class_names) == sorted(n.casefold() for n in UCF101_CLASSES)


def in_order(names: Iterable[str]) -> list[str]:
    """Class names sorted, but UCF101's own order for its classes: it puts Hammering before HammerThrow."""
    names = sorted(names)
    if is_ucf101(names):
        by_name = {name.casefold(): name for name in names}
        return [by_name[name.casefold()] for name in UCF101_CLASSES]
    return names


def check_class_names(names: Sequence[str], where: Path) -> tuple[str, ...]:
    """The names, if each can be a folder's and none differs from another in case only; else a `UserError`."""
    folded: dict[str, str] = {}
    for name in names:
        if "/" in name or name.startswith(".") or not name.isprintable():
            raise UserError(f"{where}: {name!r} cannot be the name of a class folder")
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            raise UserError(f"{where}: the classes {other} and {name} differ in upper and lower case only")
    return tuple(names)


def read_class_list(path: Path) -> list[str]:
    """Reads classInd.txt: lines of a number, counting from 1, and a class name.

    Raises:
      UserError: the file is missing, a line is malformed, or numbers or names do not fit together.
    """
    names = []
    for number, line in lines_of(path):
        index, _, name = line.partition(" ")
        if not index.isdigit() or not name.strip():
            raise UserError(f"{path} line {number}: {line!r} is not a class number and a class name")
        if int(index) != len(names) + 1:
            raise UserError(f"{path} line {number}: class number {index}, expected {len(names) + 1}")
        names.append(name.strip())
    if not names:
        raise UserError(f"{path} names no class")
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(f"{path} names the class {name} {count} times")
    return list(check_class_names(names, path))


def read_split_list(path: Path, class_names: Sequence[str]) -> list[str]:
    """Reads a trainlist or testlist: lines of `<Class>/<file>`, in train lists with the class number.

    Returns:
      The videos' keys, in the list's order.

    Raises:
      UserError: a path leaves its class folder, a class or its number is unknown, or a video comes twice.
    """
    numbers = {name.casefold(): index + 1 for index, name in enumerate(class_names)}
    keys: dict[str, int] = {}
    for number, line in lines_of(path):
        where = f"{path} line {number}"
        video, _, label = line.rpartition(" ")
        if not video or not label.isdigit():
            video, label = line, ""
        parts = PurePosixPath(video.strip().replace("\\", "/")).parts
        if len(parts) != 2 or ".." in parts or parts[0] == "/":
            raise UserError(f"{where}: {video!r} is not of the form <Class>/<file>")
        expected = numbers.get(parts[0].casefold())
        if expected is None:
            raise UserError(f"{where}: the class {parts[0]} is not in classInd.txt")
        if label and int(label) != expected:
            raise UserError(f"{where}: label {label}, but classInd.txt has {parts[0]} as number {expected}")
        key = f"{class_names[expected - 1]}/{stem_of(parts[1])}"
        if key in keys:
            raise UserError(f"{where}: {video} is listed twice (first in line {keys[key]})")
        keys[key] = number
    return list(keys)


def read_lists(folder: Path) -> Lists:
    """Reads classInd.txt and every pair of trainlist0N.txt and testlist0N.txt, N from 1 to 3.

    Raises:
      UserError: a file is missing or malformed, or a video is on both sides of a split.
    """
    class_names = read_class_list(folder / "classInd.txt")
    splits = {}
    for split in SPLITS:
        train, test = folder / f"trainlist0{split}.txt", folder / f"testlist0{split}.txt"
        if not train.exists() and not test.exists():
            continue
        splits[split] = (read_split_list(train, class_names), read_split_list(test, class_names))
        both = sorted(set(splits[split][0]) & set(splits[split][1]))
        if both:
            raise UserError(f"{both[0]} is in both {train.name} and {test.name} of {folder}")
    if not splits:
        raise UserError(f"{folder} holds no trainlist01.txt and testlist01.txt: add them or remove the folder")
    mentioned = frozenset(key for sides in splits.values() for keys in sides for key in keys)
    return Lists(folder, tuple(class_names), splits, mentioned)


def split_by_groups(groups: Mapping[str, int], where: str) -> SplitKeys:
    """UCF101's rule: groups 1-7 are test in split 1, 8-14 in split 2, 15-21 in split 3, the others train.

    A split without a video on one of its sides is left out.

    Args:
      groups: the group of every video by its key, -1 where its name has none.
      where: what to name in an error.

    Raises:
      UserError: a video has no group, or no split has videos on both sides.
    """
    bare = [key for key, group in groups.items() if group < 0]
    if bare:
        raise UserError(
            f"{where} has no lists, and {len(bare)} of {len(groups)} videos carry no group in their name "
            f"(v_<Class>_gNN_cNN), first {bare[0]}: add {LISTS_FOLDER} with classInd.txt, trainlist01.txt and "
            "testlist01.txt, or a table videos.csv with the columns path, label and split"
        )
    splits = {}
    for split, held_out in TEST_GROUPS.items():
        train = [key for key, group in groups.items() if group not in held_out]
        test = [key for key, group in groups.items() if group in held_out]
        if train and test:
            splits[split] = (train, test)
    if not splits:
        raise UserError(
            f"{where} has groups {min(groups.values())} to {max(groups.values())} only, and the rule (test groups "
            f"1-7, 8-14, 15-21) leaves one side of every split empty: add lists in {LISTS_FOLDER}"
        )
    return splits


def check_no_leak(splits: SplitKeys, groups: Mapping[str, int]) -> None:
    """Raises a `UserError` if a split has a group of one class, that is one source video, on both sides."""
    for split, (train, test) in splits.items():
        sides = []
        for keys in (train, test):
            sides.append({(k.split("/")[0], groups[k]): k for k in keys if groups.get(k, -1) >= 0})
        both = sorted(set(sides[0]) & set(sides[1]))
        if both:
            name, group = both[0]
            raise UserError(
                f"split {split} has group {group} of {name} on both sides ({sides[0][both[0]]} is train, "
                f"{sides[1][both[0]]} is test): mend its lists, a group must stay together"
            )


def check_ucf101(videos: int, splits: SplitKeys) -> None:
    """Raises a `UserError` unless these are UCF101's official counts."""
    hint = 'for a part of it, ask with --config \'{"name": "part", "subset": true}\''
    if videos != UCF101_VIDEOS:
        raise UserError(f"UCF101 has {UCF101_VIDEOS} videos, found {videos}; {hint}")
    for split, (train, test) in splits.items():
        if (len(train), len(test)) != UCF101_COUNTS[split]:
            expected = "/".join(map(str, UCF101_COUNTS[split]))
            found = f"{len(train)}/{len(test)}"
            raise UserError(f"UCF101's split {split} has {expected} train/test videos, found {found}; {hint}")


def text_of(path: Path) -> str:
    """A text file's content, without a byte order mark, line ends as they are."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text") from None


def lines_of(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, stripped, with their numbers from 1."""
    text = text_of(path)
    return [(i, line.strip()) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
