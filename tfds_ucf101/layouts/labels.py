"""Lists of labels, which lie beside tables that give the labels as numbers, or that leave their order open."""

import json
import re
from collections.abc import Collection

from tfds_ucf101.layouts.table_forms import ENDINGS, recognise, side_of
from tfds_ucf101.layouts.tree import Folder
from tfds_ucf101.lists import is_number

_NAMES = re.compile(r"(?:.*[-_])?(?:classInd|labels?|label_?map\w*|classes|class_?names|categor\w*)", re.I)


def is_called_so(name: str) -> bool:
    """Returns whether a file is called like a list of labels: labels.csv, classInd.txt, jester-v1-labels.csv."""
    stem, dot, ending = name.rpartition(".")
    return f"{dot}{ending}".casefold() in ENDINGS and bool(_NAMES.fullmatch(stem)) and side_of(stem) is None


def label_names(folder: Folder, besides: Collection[str] = ()) -> tuple[str, list[str]]:
    """Returns the name of a file in a folder that lists the labels, and these in order; empty if there is none.

    It holds a label a line, with its number in front or not, or is a JSON of label -> number.

    Args:
      folder: where tables lie.
      besides: names of these tables.
    """
    for name in folder.files:
        if name in besides or not is_called_so(name):
            continue
        if name.casefold().endswith(".json"):
            try:
                value = json.loads(folder.text(name))
            except (json.JSONDecodeError, RecursionError):
                continue
            if isinstance(value, dict) and all(is_number(str(number)) for number in value.values()):
                return name, sorted(value, key=lambda label: int(value[label]))
            continue
        lines = [line for _, line in folder.lines(name)]
        for body in (lines, lines[1:]):  # with a line of column names in front
            numbered = [re.fullmatch(r'(\d{1,9})[ ,;\t]+"?(.+?)"?', line) for line in body]
            if body and all(numbered):
                return name, [label for _, label in sorted((int(match[1]), match[2]) for match in numbered if match)]
        if recognise(folder, name) is None:
            return name, [line.strip('"') for line in lines]
    return "", []
