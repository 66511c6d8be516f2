"""What is in a built data set: counts, durations, sizes and losses, as JSON values and as a table."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from r23d_jax.data.dataset import PARTS, VideoRecord
from r23d_jax.data.records import VideoDataset
from r23d_jax.errors import UserError
from r23d_jax.runtime.files import read_json
from r23d_jax.runtime.text import bytes_text, duration, shorten

_REPORT = "build_report.json"
_SHOWN = 5  # of many values or losses
_NAME = 32  # letters of a class's name in the table
_LOSSES = {
    "unreadable": "unreadable, left out",
    "fewer_frames_than_header": "maybe cut off (far fewer frames than the header claims)",
    "in_no_list": "in no list",
    "listed_but_absent": "listed but absent",
}


def summarise(dataset: VideoDataset) -> dict[str, Any]:
    """Returns all that is known without decoding a frame, as JSON values. Durations are in seconds.

    `losses` come from the build's report; without it only the unreadable videos are known.
    """
    videos, files = dataset.videos, [path for path in dataset.path.rglob("*") if path.is_file()]
    report = _read(dataset.path / _REPORT)
    found = {split: {video.splits[split] for video in videos} for split in dataset.splits}
    parts = {split: [part for part in PARTS if part != "val" or part in found[split]] for split in found}
    by_label: list[list[VideoRecord]] = [[] for _ in dataset.class_names]
    for video in videos:
        by_label[video.label].append(video)
    return {
        "dataset": dataset.full_name,
        "path": str(dataset.path),
        "fingerprint": dataset.fingerprint,
        "input": "RGB" if dataset.flow is None else f"{dataset.flow} optical flow",
        "config": dataset.config,
        "frames": sum(video.num_frames for video in videos),
        "seconds": round(sum(map(_seconds, videos)), 3),
        "classes": len(dataset.class_names),
        "shards": sum(".array_record-" in path.name for path in files),
        "bytes_on_disk": sum(path.stat().st_size for path in files),
        **_counts(parts, videos),
        "frames_per_video": _spread(video.num_frames for video in videos),
        "frame_rates": _frequencies("fps", (round(video.fps, 2) for video in videos)),
        "sizes": _frequencies("size", (f"{video.height}x{video.width}" for video in videos)),
        "per_class": [
            {"label": name, **_counts(parts, own)} for name, own in zip(dataset.class_names, by_label, strict=True)
        ],
        "losses": {key: list(report.get(key, [])) for key in _LOSSES} | {"unreadable": dataset.unreadable},
    }


def table(facts: dict[str, Any]) -> str:
    """Returns the same for a terminal."""
    splits = facts["splits"].items()
    durations = _spread_text(facts["duration"], " s"), _spread_text(facts["frames_per_video"], " frames")
    rates = [f"{one['fps']:g} a second ({one['videos']:,})" for one in facts["frame_rates"]]
    sizes = [f"{one['size']} ({one['videos']:,})" for one in facts["sizes"]]
    lines = [
        f"{facts['dataset']} in {facts['path']}",
        f"{_many(facts['videos'], 'video')}, {_many(facts['frames'], 'frame')} of {facts['input']}, "
        f"{duration(facts['seconds'])}, {_many(facts['classes'], 'class', 'classes')}; "
        f"{bytes_text(facts['bytes_on_disk'])} in {_many(facts['shards'], 'shard')}",
        f"fingerprint {facts['fingerprint']}",
        "",
        *(f"split {split}: {_side_text(sides)}" for split, sides in splits),
        f"durations:   {'; '.join(durations)}",
        f"frame rates: {_list(rates)}",
        f"frames:      {_list(sizes)}, height x width",
    ]
    if facts["groups"]:
        lines += [f"groups:      {_many(facts['groups'], 'source video')}"]
    lines += ["", *_classes(facts)]
    for split, sides in splits:
        for side in (part for part in sides if part != "neither"):
            without = [row["label"] for row in facts["per_class"] if not row["splits"][split][side]]
            if without and sides[side]:
                lines += ["", f"split {split} has no {side} video of {_list(without)}"]
    for key, text in _LOSSES.items():
        if lost := facts["losses"][key]:
            lines += ["", f"{_many(len(lost), 'video')} {text}:", *(f"  {_loss(one)}" for one in lost[:_SHOWN])]
            lines += [f"  and {len(lost) - _SHOWN:,} more (--json FILE has all)"] if len(lost) > _SHOWN else []
    if not any(facts["losses"].values()):
        lines += ["", "nothing was lost in the build"]
    return "\n".join(lines)


def _classes(facts: dict[str, Any]) -> list[str]:
    """The table of classes, aligned."""
    splits, groups = list(facts["splits"]), bool(facts["groups"])
    parts = {split: [part for part in facts["splits"][split] if part != "neither"] for split in splits}
    sides = [f"{'/'.join(parts[split])} {split}" for split in splits]
    head = ["class", "videos", *sides, "shortest", "median", "longest"]
    rows = [head + ["groups"] * groups]
    for row in facts["per_class"]:
        sides = ["/".join(str(row["splits"][split][part]) for part in parts[split]) for split in splits]
        times = [f"{row['duration'][key]:.1f} s" if row["videos"] else "" for key in ("least", "median", "most")]
        rows.append(
            [shorten(row["label"], _NAME), f"{row['videos']:,}", *sides, *times] + [str(row["groups"])] * groups
        )
    columns: list[list[str]] = []
    for column in zip(*rows, strict=True):
        align, width = str.rjust if columns else str.ljust, max(map(len, column))
        columns.append([align(cell, width) for cell in column])
    lines = ["  ".join(row) for row in zip(*columns, strict=True)]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def _counts(parts: Mapping[str, Sequence[str]], videos: Sequence[VideoRecord]) -> dict[str, Any]:
    """What is counted of the whole data set and of each class; `parts` are those of each split."""
    sides = {split: Counter(video.splits[split] for video in videos) for split in parts}
    return {
        "videos": len(videos),
        "splits": {split: {part: sides[split][part] for part in parts[split]} for split in parts},
        "duration": _spread(map(_seconds, videos)),
        # Source videos, where the names say them: one group of one class.
        "groups": len({(video.label, video.group) for video in videos if video.group >= 0}),
    }


def _seconds(video: VideoRecord) -> float:
    return video.num_frames / video.fps if video.fps > 0 else 0.0


def _spread(values: Iterable[float]) -> dict[str, float]:
    values = sorted(values) or [0]
    found = {"least": values[0], "median": statistics.median(values), "most": values[-1]}
    return {key: round(value, 3) for key, value in found.items()}


def _frequencies(name: str, values: Iterable[Any]) -> list[dict[str, Any]]:
    """How many videos have each value, the most frequent first."""
    ordered = sorted(Counter(values).items(), key=lambda item: (-item[1], item))
    return [{name: value, "videos": count} for value, count in ordered]


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({error}); build the data set again") from None


def _many(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _side_text(sides: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {side}" for side, count in sides.items() if count or side != "neither")


def _spread_text(spread: dict[str, float], unit: str) -> str:
    least, median, most = (f"{spread[key]:,.1f}".removesuffix(".0") for key in ("least", "median", "most"))
    return f"{least}{unit} each" if least == most else f"{least} to {most}{unit}, median {median}"


def _list(texts: Sequence[str]) -> str:
    """The first few, and how many others there are."""
    return ", ".join(texts[:_SHOWN]) + (f" and {len(texts) - _SHOWN:,} others" if len(texts) > _SHOWN else "")


def _loss(one: Any) -> str:
    if not isinstance(one, dict):
        return str(one)
    rest = one.get("reason") or f"{one.get('frames')} frames, the header claims {one.get('header')}"
    return f"{one.get('path')}: {rest}"
