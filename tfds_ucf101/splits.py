"""The splits of a folder without lists: by its folders' sides, by UCF101's groups, by chance, or none."""

from collections.abc import Mapping

from r23d_jax.errors import UserError
from tfds_ucf101 import divide, lists
from tfds_ucf101.errors import InputError
from tfds_ucf101.layouts import ucf101
from tfds_ucf101.layouts.found import Found
from tfds_ucf101.options import SIDES, ScanOptions

_FOLDERS = 5  # in a class that has them, at least, for each to be a source


def together(origins: Mapping[str, str]) -> dict[str, str]:
    """Returns what is to stay on one side where chance divides: a source video, or a folder within a class.

    People, sessions or source videos have folders of their own, if a class has many. A few folders are more likely
    something else, and could not be divided by the shares.

    Args:
      origins: key -> source video by the video's name, "" where that does not say it.
    """
    folders: dict[str, set[str]] = {}
    for key in origins:
        name, *between, _ = key.split("/")
        if between:
            folders.setdefault(name, set()).add(key.rpartition("/")[0])
    several = {name for name, there in folders.items() if len(there) >= _FOLDERS}
    return {
        key: origin or (key.rpartition("/")[0] if key.count("/") > 1 and key.split("/")[0] in several else "")
        for key, origin in origins.items()
    }


def choose(found: Found, sources: Mapping[str, str], config: ScanOptions) -> tuple[lists.Sides, str]:
    """Returns the side of every video in every split, and where they come from, in words; "" where nothing says it.

    Args:
      found: the videos.
      sources: key -> what is to stay on one side, as `together` says it.
      config: the options lists, folds, sides, split_seed and as_found.

    Raises:
      UserError: what the folder says and what the config asks for do not fit together.
    """
    if config.folds:
        sides = divide.in_folds(sources, config.folds, config.split_seed)
        return sides, f"{config.folds} folds by chance, class by class and source by source (seed {config.split_seed})"
    own = lists.usable(found.sides, tested=not config.as_found)
    if config.lists == "folders" and not own:
        raise UserError(f'{found.where} has no folders train and test, and the config\'s lists is "folders"')
    groups = {key: lists.group_and_clip(key.rpartition("/")[2])[0] for key in found.media}
    bare = [key for key, group in groups.items() if group < 0]
    of_ucf101 = not bare and ucf101.is_part(key.split("/")[0] for key in groups)
    untested = not any(lists.TEST in one.values() for one in own.values())
    if own and (not of_ucf101 or config.lists == "folders" or untested):
        return own, "its own sides"
    by_chance = config.sides != SIDES
    if not bare and not by_chance and (not config.as_found or ucf101.divides(groups.values())):
        sides = ucf101.split_by_groups(groups, found.where)
        return _with_own_sides(sides, found, sources, config) if own else (sides, "groups")
    if config.as_found:
        return {"1": dict.fromkeys(found.media, lists.TRAIN)}, ""
    if len(bare) < len(groups) / 2 and not by_chance:
        raise UserError(
            f"{found.where} has no lists, and {len(bare)} of {len(groups)} videos carry no group in their name "
            f"(v_<Class>_gNN_cNN), first {bare[0]}: rename or remove them, add {ucf101.FOLDER} with classInd.txt, "
            "trainlist01.txt and testlist01.txt, or a table videos.csv with the columns path, label and split; or set "
            "the config's folds, or its sides to other shares, to divide by chance"
        )
    shares = ", ".join(
        f"{share:.0%} {word}" for share, word in zip(config.sides, ("train", "val", "test"), strict=True) if share
    )
    how = f"chance, class by class and source by source ({shares}; seed {config.split_seed})"
    return divide.by_chance(sources, config.sides, config.split_seed), how


def _with_own_sides(
    sides: lists.Sides, found: Found, sources: Mapping[str, str], config: ScanOptions
) -> tuple[lists.Sides, str]:
    """UCF101's splits by groups, checked against the folders' own sides, whose val stays val where it can."""
    split, own = next(iter(found.sides.items()))
    if split not in sides:
        return sides, "groups"
    differ = differing(own, sides[split])
    if differ and config.lists != "ignore":
        raise InputError(
            f"{found.where}: the folders' own sides are not UCF101's split {split} in {len(differ):,} of "
            f"{len(own):,} videos, first {differ[0]}: move them",
            config=', set the config\'s lists to "ignore" for UCF101\'s splits by groups, or to "folders" for the '
            "folders' own",
        )
    if differ:
        return sides, f"groups; the folders' own sides differ from split {split} in {len(differ):,} videos"
    whence = f"groups; the folders' own {_words(own)} agrees with split {split}"
    val = set(lists.of_side(own, lists.VAL))
    train = {sources[key] for key in lists.of_side(sides[split], lists.TRAIN) if key not in val}
    if any(sources[key] in train for key in val):
        return sides, f"{whence}, but its val has clips of train's source videos and counts as train"
    return {**sides, split: {key: lists.VAL if key in val else role for key, role in sides[split].items()}}, whence


def differing(own: Mapping[str, int], sides: Mapping[str, int]) -> list[str]:
    """Returns the keys, sorted, that are test in one of two divisions and not in the other."""
    return sorted(key for key, role in sides.items() if key in own and (own[key] == lists.TEST) != (role == lists.TEST))


def _words(own: Mapping[str, int]) -> str:
    """The sides that there are: "train/test"."""
    there = set(own.values())
    return "/".join(lists.ROLES[role] for role in (lists.TRAIN, lists.VAL, lists.TEST) if role in there)
