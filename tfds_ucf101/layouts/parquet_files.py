"""Where Parquet files lie in a folder; apart from their reader, whose library not everybody has."""

from pathlib import Path

from tfds_ucf101 import lists

# What the sides are called in the names of files and of the folders around them.
SIDES = lists.SIDE_NAMES | {"dev": lists.VAL}
# Where `datasets` and its mirrors put the files; a folder of any other name may hold millions of pictures.
_PLACES = ("", "data", "default", "snapshots/*/data")
_PLACES += tuple(f"{folder}{side}" for folder in ("", "data/", "default/") for side in SIDES)


def find(root: Path) -> list[Path]:
    """Returns the Parquet files in a folder, in a folder `data` in it, or in one for each side, sorted."""
    paths = {path for place in _PLACES for path in root.glob(f"{place}/*.parquet".lstrip("/"))}
    return sorted(path for path in paths if not path.name.startswith("."))
