"""Formats durations, sizes and names as text."""


def duration(seconds: float) -> str:
    """Returns a duration such as "42 s", "3 min 5 s", "2 h 7 min" or "6 d 3 h"."""
    seconds = round(seconds)
    for unit, size, next_unit, next_size in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // next_size} {next_unit}"
    return f"{seconds} s"


def bytes_text(size: int) -> str:
    """Returns a size in KiB, MiB or GiB."""
    if size >= 2**30:
        return f"{size / 2**30:.2f} GiB"
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"


def shorten(name: str, length: int) -> str:
    """Returns the name, cut to `length` characters with an ellipsis."""
    return name if len(name) <= length else f"{name[: length - 1]}…"
