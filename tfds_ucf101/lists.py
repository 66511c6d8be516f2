"""Who is train, val and test: the words for it, names and their source videos, and the check against leaks.

A video's key is "<Class>/<file stem>", so that lists written for .avi files also fit extracted frames and files in
another container.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from r23d_jax.errors import UserError
from tfds_ucf101.errors import InputError

NEITHER, TRAIN, TEST, VAL = 0, 1, 2, 3
ROLES = ("neither", "train", "test", "val")

_NUMBERED = re.compile(r"(?P<origin>.*_g(?P<group>\d{2,3}))_c(?P<clip>\d{2,3})")
# Kinetics names its clips by the YouTube video and the seconds they were cut from.
_TIMED = re.compile(r"(?P<origin>[\w-]{11})_\d{6}_\d{6}")
_LIST_ENDINGS = (".csv", ".tsv", ".txt", ".json")
_LIST_WORDS = re.compile(r"train|test|val|split|list|label|class|annot|video", re.IGNORECASE)

# What the sides are called in the names of folders, in tables, and in the names of tables.
SIDE_NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VAL,
    "valid": VAL,
    "validation": VAL,
    "validate": VAL,
    "test": TEST,
    "testing": TEST,
}

# Of each split, the side of every video by its key. Videos that are not there are neither.
Sides = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Lists:
    """What lists of any kind say.

    Attributes:
      where: the folder or file they were read from, for messages.
      kind: what they are, for the line that says where splits come from.
      class_names: in label order; None where the class folders say it.
      sides: for the splits that there are lists for.
      mentioned: every key that a list names, also those that are neither train, val nor test.
      files: key -> where the video lies, as the list writes it; None where the lists leave that to class folders.
      used: paths from the input folder of the files that were read.
    """

    where: str
    kind: str
    class_names: tuple[str, ...] | None
    sides: Sides
    mentioned: frozenset[str]
    files: Mapping[str, str] | None = None
    used: frozenset[str] = field(default_factory=frozenset)


def group_and_clip(stem: str) -> tuple[int, int]:
    """Returns group and clip number of `v_<Class>_gNN_cNN` (two or three digits), or (-1, -1)."""
    match = _NUMBERED.fullmatch(stem)
    return (int(match["group"]), int(match["clip"])) if match else (-1, -1)


def origin_of(key: str) -> str:
    """Returns the source video of a clip as its name says it: all before `_cNN`, or before Kinetics' times; or ""."""
    stem = key.rpartition("/")[2]
    if match := _NUMBERED.fullmatch(stem):
        return match["origin"].casefold()
    match = _TIMED.fullmatch(stem)
    return match["origin"] if match else ""


def stem_of(name: str) -> str:
    """Returns the file name without its extension, which has a letter in it: `clip.01` has none."""
    return re.sub(r"\.(?=\w*[A-Za-z])\w{1,5}$", "", name)


def is_number(text: str) -> bool:
    """Returns whether a text is a whole number such as a label's, of nine digits at most."""
    return text.isdecimal() and len(text) < 10


def looks_like_list(name: str) -> bool:
    """Returns whether a file's name looks like that of a list or a table of videos; TFDS's own files do not."""
    stem, dot, ending = name.rpartition(".")
    of_tfds = stem.endswith(".labels")
    return f"{dot}{ending}".casefold() in _LIST_ENDINGS and not of_tfds and bool(_LIST_WORDS.search(stem))


def check_class_names(names: Iterable[str], where: str) -> tuple[str, ...]:
    """Returns the names, if each can be a folder's and none differs from another in case only.

    Raises:
      UserError: otherwise.
    """
    folded: dict[str, str] = {}
    for name in names:
        if not name or "/" in name or name.startswith(".") or not name.isprintable():
            raise UserError(f"{where}: {name!r} cannot be the name of a class folder")
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            raise UserError(f"{where}: the classes {other} and {name} differ in upper and lower case only")
    return tuple(folded.values())


def of_side(sides: Mapping[str, int], *roles: int) -> list[str]:
    """Returns the keys of one split that have one of the roles."""
    return [key for key, role in sides.items() if role in roles]


def usable(sides: Sides, tested: bool = True) -> dict[str, Mapping[str, int]]:
    """Returns the splits that have a train video and, if they are to be `tested`, a test video."""
    needed = {TRAIN, TEST} if tested else {TRAIN}
    return {split: one for split, one in sides.items() if needed <= set(one.values())}


def two_are_train_and_test(sides: Sides) -> Sides:
    """Returns splits in which val is test where there are train and val and no test: mmaction2's lists call it so."""
    return {
        split: one
        if TEST in one.values() or TRAIN not in one.values()
        else {key: TEST if role == VAL else role for key, role in one.items()}
        for split, one in sides.items()
    }


def check_no_leak(sides: Sides, origins: Mapping[str, str]) -> None:
    """Raises an `InputError` if a split has clips of one source video on two sides.

    Args:
      sides: of every split.
      origins: key -> source video, "" where it is unknown.
    """
    for split, one in sides.items():
        first: dict[str, str] = {}
        for key in sorted(one):
            origin, role = origins.get(key, ""), one[key]
            if not origin or role == NEITHER:
                continue
            other = first.setdefault(origin, key)
            if one[other] != role:
                raise InputError(
                    f"split {split} has clips of one source video on two sides: {other} is {ROLES[one[other]]}, {key} "
                    f"is {ROLES[role]}; mend its lists, they must stay together",
                    config=", or set the config's leak_check to false, which every result will say",
                )


def preview(names: Sequence[str], shown: int = 3) -> str:
    """Returns the first few names, and how many others there are."""
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
