"""UCF101 (Soomro, Zamir, Shah 2012): its classes, videos and splits, and the lists that come with it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from r23d_jax.errors import UserError
from tfds_ucf101.errors import InputError
from tfds_ucf101.layouts.tree import Folder
from tfds_ucf101.lists import (
    SIDE_NAMES,
    TEST,
    TRAIN,
    VAL,
    Lists,
    Sides,
    check_class_names,
    is_number,
    of_side,
    preview,
    stem_of,
)

FOLDER = "ucfTrainTestlist"

# In the order of its class list.
CLASSES = tuple(
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
VIDEOS = 13320
COUNTS = {"1": (9537, 3783), "2": (9586, 3734), "3": (9624, 3696)}  # train and test videos of each split
# Its test groups; all others are train.
TEST_GROUPS = {"1": range(1, 8), "2": range(8, 15), "3": range(15, 22)}
# How many clips each of the groups 1 to 25 has, class by class; clips are numbered from 1.
_CLIPS = """
    6467777575566575554655677 5445554444454455544557454 7755566577747475474745767 4644566465466466565747466
    4444474444445444644454544 7774747777765677467665667 6475777775547476775447777 7664444455554576457767647
    7464646555554776764644554 6777777774577765776747577 4745756646646455664775474 6757654675777775577475467
    4555577747764554554564744 4445574444464444444444446 4454454475444444444644457 7474777777746574757767775
    7777777774574777467777777 4457557574657675745544547 4444444444444444454444444 4754556645464544575547677
    5465445444474644444644444 6454776467674744577746554 7745454574765567567567447 7777777777777777655767577
    5445654447444444444444446 7777674677677475444776674 7757667547777677767774777 6555544465554444444444444
    5647774457464764444444456 5445477475464564674554445 6555556556454546556656444 4467457565744744774766764
    6476745644744444766766777 4465446677544445456747774 4455465477457774776477674 6777675677677654557557745
    4444444544677467574765547 4445746444444444474444464 5774675744774774775567747 5746546554745445445545655
    4456466544745445566554574 7777777667774766667767677 7455445564466556544745645 7767667767475646567777777
    4444645445644666544444565 4675567564554544444446445 7444675476447444447444447 4747556774755467574776576
    6447474665744477675777664 4556545457645575644444447 7567545667666555556444444 7444477446756744457454644
    7444446575554574567444447 7677765575776774444444444 4646545444444444664444444 4676444756657464764464556
    4447576564644444444444444 4547454444544444445444765 7747775677777477777757777 4747775757654776477777647
    7777777777767746767477757 7777767776655676757465657 6477577747777777777765747 4444444444444447644444444
    4677767777744747777776774 4456444455455445464444445 4444444444444444444444444 5777554447575747777674777
    7445447444477444646747444 4444444444444444444444444 5445777776777767777477777 5445444444444444444444444
    4444444645445547645444444 5574677747466545744677677 4644745445447555557444445 4676445467677774746454556
    7766656566664665444555454 4774777777466676777777776 7765777776774477544445745 4645445547564464465545455
    6577474765447455446775465 4444444444444444444444444 4454545445444454564644444 5646657474665747777657676
    6555776655576675454555664 5474444446444444444474447 4444477744455444575444444 7644444756475477744644444
    5547777564644575444665554 6457764474544577447747777 4444444444444444444444444 7777777677777777766666666
    4744577465765454574474555 4645445466654456446546444 7674676777774744444744444 4444444444444475444444444
    4447547664647444444444444 4655556565555445545744464 4454576555655557755674445 7774677467646457574777777
    7565544565645446646466645
""".split()
_PART = '; for a part of it, ask with --config \'{"name": "part", "subset": true}\''
_ADD = "; add them, or " + _PART.removeprefix("; ")
_FOLDED = {name.casefold(): name for name in CLASSES}
_LIST = re.compile(r"(train|test|val)list(\d*)", re.IGNORECASE)


def names() -> list[str]:
    """Returns the keys of all 13,320 videos, as the official lists have them."""
    found = []
    for name, counts in zip(CLASSES, _CLIPS, strict=True):
        inside = "HandStandPushups" if name == "HandstandPushups" else name
        for group, count in enumerate(counts, 1):
            found += [f"{name}/v_{inside}_g{group:02d}_c{clip:02d}" for clip in range(1, int(count) + 1)]
    return found


def official(name: str) -> str:
    """Returns the class's official spelling, whatever the case of its letters; other names as they are."""
    return _FOLDED.get(name.casefold(), name)


def is_ucf101(class_names: Iterable[str]) -> bool:
    """Whether these are UCF101's 101 classes."""
    return sorted(name.casefold() for name in class_names) == sorted(_FOLDED)


def is_part(class_names: Iterable[str]) -> bool:
    """Returns whether these are classes of UCF101, one at least and no others."""
    names = {name.casefold() for name in class_names}
    return bool(names) and names <= _FOLDED.keys()


def is_most(class_names: Iterable[str]) -> bool:
    """Returns whether these are more than half of UCF101's classes and no others; UCF50 has 50 of them."""
    names = list(class_names)
    return is_part(names) and len(names) > len(CLASSES) / 2


def in_order(class_names: Iterable[str]) -> list[str]:
    """Returns class names sorted, but UCF101's own order for its classes: it puts Hammering before HammerThrow."""
    found = sorted(class_names)
    return list(CLASSES) if is_ucf101(found) else found


def split_by_groups(groups: Mapping[str, int], where: str) -> Sides:
    """Returns UCF101's splits: groups 1-7 are test in split 1, 8-14 in split 2, 15-21 in split 3, the others train.

    A split without a video on one of its sides is left out.

    Args:
      groups: the group of every video by its key.
      where: what to name in an error.

    Raises:
      UserError: no split has videos on both sides.
    """
    sides = {}
    for split, held_out in TEST_GROUPS.items():
        one = {key: TEST if group in held_out else TRAIN for key, group in groups.items()}
        if len(set(one.values())) == 2:
            sides[split] = one
    if not sides:
        raise UserError(
            f"{where} has groups {min(groups.values())} to {max(groups.values())} only, and the rule (test groups "
            f"1-7, 8-14, 15-21) leaves one side of every split empty: add lists in {FOLDER}, or divide by chance with "
            "the config's folds"
        )
    return sides


def divides(groups: Iterable[int]) -> bool:
    """Returns whether `split_by_groups` would give any split."""
    there = set(groups)
    return any(0 < len(there.intersection(held_out)) < len(there) for held_out in TEST_GROUPS.values())


def check_videos(keys: Iterable[str]) -> None:
    """Raises an `InputError` that names what is missing, unless these are UCF101's videos.

    Where none has its official name, as in TFDS's own form of it, they are counted.
    """
    there = {key.casefold() for key in keys}
    missing = [name for name in names() if name.casefold() not in there]
    if len(missing) == VIDEOS and len(there) != VIDEOS:
        raise InputError(f"UCF101 has {VIDEOS} videos, found {len(there)}", config=_ADD)
    if 0 < len(missing) < VIDEOS:
        raise InputError(f"UCF101 has {VIDEOS} videos, found {len(there)}; missing: {preview(missing)}", config=_ADD)
    if not missing and len(there) != VIDEOS:
        surplus = sorted(there - {name.casefold() for name in names()})
        raise InputError(
            f"UCF101 has {VIDEOS} videos, found {len(there)}; not among them: {preview(surplus)}", config=_PART
        )


def check_counts(sides: Sides) -> None:
    """Raises an `InputError` unless the splits have UCF101's official counts; val counts as train."""
    for split, one in sides.items():
        counts = len(of_side(one, TRAIN, VAL)), len(of_side(one, TEST))
        if counts != COUNTS.get(split, counts):
            due, found = ("/".join(map(str, pair)) for pair in (COUNTS[split], counts))
            raise InputError(f"UCF101's split {split} has {due} train/test videos, found {found}", config=_PART)


def is_lists(folder: Folder) -> bool:
    """Whether a folder holds UCF101's lists, or was meant to."""
    names = {name.casefold() for name in folder.files}
    sides = {found[0] for name in names if (found := _list_of(name)) is not None}
    called = folder.name.casefold() == FOLDER.casefold() and not folder.folders  # archives hold one of their own name
    return called or ("classind.txt" in names and bool(sides)) or len(sides) > 1


def read_lists(folder: Folder) -> Lists:
    """Reads classInd.txt and trainlistNN.txt, testlistNN.txt and vallistNN.txt, in any case.

    Raises:
      UserError: a file is missing or malformed, or a video is on two sides of a split.
    """
    by_name = {name.casefold(): name for name in folder.files}
    if "classind.txt" not in by_name:
        raise UserError(f"{folder}/classInd.txt is missing")
    class_names = read_class_list(folder, by_name["classind.txt"])
    found: dict[str, dict[int, str]] = {}
    for name in folder.files:
        if (which := _list_of(name)) is not None:
            side, split = which
            if side in found.setdefault(split, {}):
                raise UserError(f"{folder}: {found[split][side]} and {name} are both there: remove one")
            found[split][side] = name
    if not found:
        raise UserError(f"{folder} holds no trainlist01.txt and testlist01.txt: add them or remove the folder")
    sides: dict[str, dict[str, int]] = {}
    for split, files in sorted(found.items()):
        for side, word in ((TRAIN, "train"), (TEST, "test")):
            if side not in files:
                raise UserError(f"{folder}/{word}list{int(split):02d}.txt is missing")
        sides[split] = {}
        for side, file in sorted(files.items()):
            for key in read_split_list(folder, file, class_names):
                other = sides[split].setdefault(key, side)
                if other != side:
                    raise UserError(f"{key} is in both {files[other]} and {file} of {folder}")
    mentioned = frozenset(key for one in sides.values() for key in one)
    used = frozenset(folder.show(name) for files in found.values() for name in files.values())
    used |= {folder.show(by_name["classind.txt"])}
    return Lists(str(folder), f"the lists in {folder.shown or folder.name}", class_names, sides, mentioned, used=used)


def read_class_list(folder: Folder, file: str) -> tuple[str, ...]:
    """Reads classInd.txt: lines of a number, counting from 1, and a class name.

    Raises:
      UserError: a line is malformed, or numbers or names do not fit together.
    """
    path = f"{folder}/{file}"
    names: list[str] = []
    for number, line in folder.lines(file):
        index, _, name = line.replace("\t", " ").partition(" ")
        if not is_number(index) or not name.strip():
            raise UserError(f"{path} line {number}: {line!r} is not a class number and a class name")
        if int(index) != len(names) + 1:
            raise UserError(f"{path} line {number}: class number {index}, expected {len(names) + 1}")
        if name.strip() in names:
            raise UserError(f"{path} line {number}: the class {name.strip()} is named twice")
        names.append(name.strip())
    if not names:
        raise UserError(f"{path} names no class")
    return check_class_names(names, path)


def read_split_list(folder: Folder, file: str, class_names: Sequence[str]) -> list[str]:
    """Reads a list of `<Class>/<file>` lines, in train lists with the class number behind.

    Whether there are numbers is the same for all lines: `Archery/video 2` in a list without them is a file's name.

    Returns:
      The videos' keys, in the list's order.

    Raises:
      UserError: a path leaves its class folder, a class or its number is unknown, or a video comes twice.
    """
    path = f"{folder}/{file}"
    numbers = {name.casefold(): index + 1 for index, name in enumerate(class_names)}
    lines = folder.lines(file)
    numbered = _has_numbers(lines, numbers, path)
    keys: dict[str, int] = {}
    for number, line in lines:
        where = f"{path} line {number}"
        video, label = line, ""
        if numbered:
            video, label = line.rsplit(maxsplit=1)
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


def _has_numbers(lines: Sequence[tuple[int, str]], numbers: Mapping[str, int], path: str) -> bool:
    """Whether the lines end in class numbers: all in some number, after a file's ending or with the class's own."""
    cut = {number: line.rsplit(maxsplit=1) for number, line in lines}
    bare = [number for number, fields in cut.items() if len(fields) != 2 or not is_number(fields[1])]
    after_ending = [number for number in cut.keys() - set(bare) if stem_of(cut[number][0]) != cut[number][0]]
    if bare and after_ending:
        raise UserError(
            f"{path} line {bare[0]}: no class number, which line {min(after_ending)} has: give it in all lines or none"
        )
    if bare or after_ending:
        return not bare
    return all(numbers.get(video.replace("\\", "/").split("/")[0].casefold()) == int(n) for video, n in cut.values())


def _list_of(name: str) -> tuple[int, str] | None:
    """Side and split of a list by its name, `trainlist01.txt`; one without a number is of split 1."""
    stem, _, ending = name.rpartition(".")
    match = _LIST.fullmatch(stem) if ending.casefold() == "txt" else None
    if match is None or (match[2] and not 1 <= int(match[2]) <= 10):
        return None
    return SIDE_NAMES[match[1].casefold()], str(int(match[2] or 1))
