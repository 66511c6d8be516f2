"""Split lists and empty files that stand for videos, and a folder that is not on disk."""

from collections.abc import Iterable
from pathlib import Path

from tfds_ucf101 import lists, sources
from tfds_ucf101.config import VideoConfig
from tfds_ucf101.layouts import tree


def write_lists(folder: Path, classes, splits, newline="\r\n") -> None:
    """splits: {"1": ([train paths], [test paths])}."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {name: i + 1 for i, name in enumerate(classes)}

    def write(name, lines):
        (folder / name).write_bytes((newline.join(lines) + newline).encode())

    write("classInd.txt", [f"{i} {name}" for name, i in numbers.items()])
    for split, (train, test) in splits.items():
        write(f"trainlist0{split}.txt", [f"{path} {numbers[path.split('/')[0]]}" for path in train])
        write(f"testlist0{split}.txt", test)


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def write(root: Path, texts: dict[str, str]) -> None:
    """Writes files by their paths."""
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def scan(root: Path, use_lists="auto", classes=(), subset=False, **keys) -> sources.Plan:
    config = VideoConfig(name="own", lists=use_lists, classes=classes, subset=subset, **keys)
    return sources.scan(root, config, root.parent / "unpacked")


def sides_of(plan: sources.Plan, split: str = "1") -> dict[str, str]:
    """The side of every video in one split, in words."""
    return {source.name: lists.ROLES[source.roles[int(split) - 1]] for source in plan.sources}


def pretend(monkeypatch, root: Path, paths: Iterable[str]) -> None:
    """Has folders list these files instead of those on disk, which would take long to make."""
    listing: dict[str, dict[str, bool]] = {}
    for path in paths:
        parts = path.split("/")
        for place, name in enumerate(parts):
            inside = "/".join([str(root), *parts[:place]])
            listing.setdefault(inside, {})[name] = place < len(parts) - 1
    monkeypatch.setattr(tree.Folder, "_entries", lambda folder: iter(listing[folder.path].items()))
