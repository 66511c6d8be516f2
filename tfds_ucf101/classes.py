"""The classes: which there are, which are wanted, and whether lists and folders agree on them."""

from collections.abc import Sequence

from r23d_jax.errors import UserError
from tfds_ucf101 import lists
from tfds_ucf101.errors import InputError
from tfds_ucf101.layouts import ucf101
from tfds_ucf101.layouts.found import Found
from tfds_ucf101.options import ScanOptions


def choose(found: Found, listed: lists.Lists | None, config: ScanOptions) -> tuple[Found, list[str]]:
    """Checks class list and class folders against each other; case may differ where that is unambiguous.

    Args:
      found: the videos.
      listed: the lists, None if there are none.
      config: the option classes.

    Returns:
      The videos of the wanted classes by names in the classes' spelling, and the classes in label order.

    Raises:
      UserError: a class has no folder, or a folder no class.
    """
    there = list(dict.fromkeys(key.split("/")[0] for key in found.media))
    lists.check_class_names(there, found.where)
    own = found.class_names or ucf101.in_order(map(ucf101.official, there) if ucf101.is_most(there) else there)
    class_names = list(listed.class_names if listed is not None and listed.class_names else own)
    where = listed.where if listed else found.where
    chosen = wanted(class_names, config.classes, where)
    by_fold = {name.casefold(): name for name in there}
    missing = [name for name in chosen if name.casefold() not in by_fold]
    if missing and not (listed is not None and listed.files is not None):
        raise InputError(
            f"the class {missing[0]} ({len(missing)} in all) has no folder in {found.where}",
            config=': name the classes that are there in the config\'s "classes"',
            plain=": add it, or take it out of the lists",
        )
    known = {name.casefold() for name in class_names}
    surplus = [name for name in there if name.casefold() not in known]
    if surplus and not config.classes:
        raise InputError(
            f"the class folder {surplus[0]} in {found.where} is not in the classes of {where}: add it there",
            config=', remove the folder, or name the classes you want in the config\'s "classes"',
            plain=", or remove the folder",
        )
    spelled = {by_fold[name.casefold()]: name for name in chosen if name.casefold() in by_fold}
    renamed = {}
    for key in found.media:
        name, _, rest = key.partition("/")
        if name in spelled:
            renamed[key] = f"{spelled[name]}/{rest}"
    media = {new: found.media[key] for key, new in renamed.items()}
    shown = {new: found.shown[key] for key, new in renamed.items()}
    sides = {
        split: {renamed[key]: role for key, role in one.items() if key in renamed} for split, one in found.sides.items()
    }
    return Found(found.where, found.layout, media, shown, tuple(chosen), sides, found.notes), chosen


def wanted(class_names: Sequence[str], classes: Sequence[str], where: str) -> list[str]:
    """Returns the classes that the config asks for, in their own order; all of them if it names none.

    Raises:
      UserError: it asks for one that is not there; `where` says where.
    """
    known = {name.casefold() for name in class_names}
    unknown = [name for name in classes if name.casefold() not in known]
    if unknown:
        raise UserError(f"the config asks for the class {unknown[0]}, which {where} does not have")
    asked = {name.casefold() for name in classes} or known
    return [name for name in class_names if name.casefold() in asked]


def refuse_none(found: Found, class_names: Sequence[str], unused: Sequence[str]) -> None:
    """Raises an `InputError` where all videos lie in one folder, and nothing says that this is a class of theirs."""
    grouped = any(lists.group_and_clip(key.rpartition("/")[2])[0] >= 0 for key in found.media)
    if len(class_names) > 1 or grouped or found.sides:
        return
    lying = f" (not used, though they look like lists: {lists.preview(unused)})" if unused else ""
    raise InputError(
        f"{found.where}: all videos are in one folder, {class_names[0]}, and nothing says their classes{lying}: put "
        "them in a folder a class, or add a table videos.csv with the columns path, label and split",
        config='; or, if this is the only class, name it in the config\'s "classes"',
    )
