"""What is in a built data set: counts, durations, sizes and losses, as JSON values and as a table."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r23d_jax.data.dataset import PARTS, column
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
    facts = _Columns(dataset)
    by_label = np.split(np.argsort(facts.label, kind="stable"), np.cumsum(np.bincount(facts.label))[:-1])
    by_label += [np.empty(0, int)] * (len(dataset.class_names) - len(by_label))  # classes after the last with videos
    sizes = facts.height.astype(np.int64) << 32 | facts.width
    return {
        "dataset": dataset.full_name,
        "path": str(dataset.path),
        "fingerprint": dataset.fingerprint,
        "layout": report.get("layout", ""),
        "leak_check": dataset.leak_check,
        "input": "RGB" if dataset.flow is None else f"{dataset.flow} optical flow",
        "config": dataset.config,
        "frames": int(facts.num_frames.sum(dtype=np.int64)),
        "seconds": round(float(facts.seconds.sum()), 3),
        "classes": len(dataset.class_names),
        "shards": sum(".array_record-" in path.name for path in files),
        "bytes_on_disk": sum(path.stat().st_size for path in files),
        **_counts(facts, np.arange(len(videos))),
        "frames_per_video": _spread(facts.num_frames),
        "frame_rates": _frequencies("fps", np.round(facts.fps, 2), float),
        "sizes": _frequencies("size", sizes, lambda size: f"{size >> 32}x{size & 0xFFFFFFFF}"),
        "per_class": [
            {"label": name, **_counts(facts, own)} for name, own in zip(dataset.class_names, by_label, strict=True)
        ],
        "losses": {key: list(report.get(key, [])) for key in _LOSSES} | {"unreadable": dataset.unreadable},
        "findings": _findings(report),
    }


class _Columns:
    """Properties of all videos as arrays [V]: `label`, `num_frames`, ..., and `parts` of each split."""

    def __init__(self, dataset: VideoDataset):
        for key in ("label", "num_frames", "height", "width", "fps", "group"):
            setattr(self, key, column(dataset.videos, key))
        known = self.fps > 0
        self.seconds = np.where(known, self.num_frames / np.where(known, self.fps, 1), 0)
        # One group of one class is one source video.
        self.recording = np.where(self.group >= 0, self.label.astype(np.int64) << 32 | self.group, -1)
        found = {split: dataset.videos.parts(split) for split in dataset.splits}
        val = PARTS.index("val")
        self.parts = {
            split: (part, [name for name in PARTS if name != "val" or (part == val).any()])
            for split, part in found.items()
        }


def _findings(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the build noticed of videos that are in the data set all the same: a text and the paths of each kind."""
    there = report.get("findings", [])
    kinds = [
        {"finding": text, "paths": [one["path"] for one in there if one.get(key)]}
        for key, text in report.get("finding_texts", {}).items()
    ]
    return [kind for kind in kinds if kind["paths"]]


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
        *([facts["layout"]] if facts["layout"] else []),
        *(f"split {split}: {_side_text(sides)}" for split, sides in splits),
        *([] if facts["leak_check"] else ["leak check off: a source video may be on both sides of a split"]),
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
    for kind in facts["findings"]:
        lines += ["", f"{kind['finding']}: {_many(len(kind['paths']), 'video')}, {_list(kind['paths'])}"]
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
    for cells in zip(*rows, strict=True):
        align, width = str.rjust if columns else str.ljust, max(map(len, cells))
        columns.append([align(cell, width) for cell in cells])
    lines = ["  ".join(row) for row in zip(*columns, strict=True)]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def _counts(facts: _Columns, chosen: np.ndarray) -> dict[str, Any]:
    """What is counted of the whole data set and of each class; `chosen` are positions of videos."""
    recordings = np.unique(facts.recording[chosen])
    splits = {}
    for split, (part, names) in facts.parts.items():
        counts = np.bincount(part[chosen], minlength=len(PARTS)).tolist()
        splits[split] = {name: counts[PARTS.index(name)] for name in names}
    return {
        "videos": len(chosen),
        "splits": splits,
        "duration": _spread(facts.seconds[chosen]),
        "groups": int((recordings >= 0).sum()),
    }


def _spread(values: np.ndarray) -> dict[str, float]:
    values = values if len(values) else np.zeros(1, np.int64)
    found = {"least": values.min(), "median": np.median(values), "most": values.max()}
    return {key: round(value.item(), 3) for key, value in found.items()}


def _frequencies(name: str, values: np.ndarray, shown: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """How many videos have each value, the most frequent first."""
    counts = [
        (shown(value), count)
        for value, count in zip(*map(np.ndarray.tolist, np.unique(values, return_counts=True)), strict=True)
    ]
    return [{name: value, "videos": count} for value, count in sorted(counts, key=lambda item: (-item[1], item[0]))]


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
