"""Split lists and empty files that stand for videos."""

from pathlib import Path

from tfds_ucf101 import sources


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


def scan(root: Path, use_lists="auto", classes=(), subset=False) -> sources.Plan:
    return sources.scan(root, use_lists=use_lists, classes=classes, subset=subset)
