"""The files beside the shards: videos.json, which the loader reads, and build_report.json, for people."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r23d_jax.data import flow
from tfds_ucf101.sources import Plan

INDEX_FILE = "videos.json"
REPORT_FILE = "build_report.json"
_FORMAT = 1


def fingerprint(class_names: Sequence[str], videos: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 over names, labels, splits, frame counts and frames of all videos, whatever shards they are in."""
    content = [
        [video[key] for key in ("name", "label", "splits", "num_frames", "sha256")]
        for video in sorted(videos, key=lambda video: video["name"])
    ]
    text = json.dumps([list(class_names), content], sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def index(
    builder: str,
    config: Mapping[str, Any],
    plan: Plan,
    shards: Mapping[str, Mapping[str, Any]],
    videos: Sequence[Mapping[str, Any]],
    unreadable: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    """The content of videos.json; `videos` in record order."""
    return {
        "format": _FORMAT,
        "builder": builder,
        "config": dict(config),
        "flow_details": flow.describe(config["flow"]) if config.get("flow") else None,
        "class_names": list(plan.class_names),
        "splits": list(plan.splits),
        "fingerprint": fingerprint(plan.class_names, videos),
        "unreadable": list(unreadable),
        "shards": dict(shards),
        "videos": list(videos),
    }


def report(
    config: Mapping[str, Any],
    plan: Plan,
    videos: Sequence[Mapping[str, Any]],
    unreadable: Sequence[Mapping[str, str]],
    short: Sequence[Mapping[str, Any]],
    seconds: float,
    workers: int | None,
) -> dict[str, Any]:
    """The content of build_report.json: counts, losses and speed.

    Args:
      config: the keys of the config.
      plan: what was asked of the build.
      videos: the entries of the index.
      unreadable: the videos left out, with "path" and "reason".
      short: videos with far fewer frames than their header claims, maybe cut off, with "path", "frames" and
        "header"; they are in the data set all the same, as headers are often wrong.
      seconds: the pipeline took.
      workers: processes on this machine; None where it ran elsewhere.
    """
    frames = sum(video["num_frames"] for video in videos)
    splits = {s: Counter(video["splits"][s] for video in videos) for s in plan.splits}
    labels = Counter(video["label"] for video in videos)
    lengths = [video["num_frames"] for video in videos]
    return {
        "format": _FORMAT,
        "config": dict(config),
        "videos": len(videos),
        "frames": frames,
        "frames_per_video": {"least": min(lengths, default=0), "most": max(lengths, default=0)},
        "classes": {name: labels[label] for label, name in enumerate(plan.class_names)},
        "splits": {s: {role: counts[role] for role in ("train", "test", "neither")} for s, counts in splits.items()},
        "unreadable": list(unreadable),
        "fewer_frames_than_header": list(short),
        "in_no_list": list(plan.unlisted),
        "listed_but_absent": list(plan.absent),
        "seconds": round(seconds, 3),
        "frames_per_second": round(frames / seconds, 1) if seconds else None,
        "workers": workers,
    }


def summary(report: Mapping[str, Any]) -> list[str]:
    """The report in a few lines for the terminal."""
    rate = f"{report['frames_per_second']:,.0f} frames/s"
    lines = [
        f"{report['videos']:,} videos, {report['frames']:,} frames in {len(report['classes'])} classes; "
        f"{report['seconds']:.1f} s, {rate}"
    ]
    for split, counts in report["splits"].items():
        lines.append(f"split {split}: " + ", ".join(f"{count:,} {role}" for role, count in counts.items() if count))
    lines += [f"unreadable: {lost['path']}: {lost['reason']}" for lost in report["unreadable"]]
    lines += [
        f"maybe cut off: {video['path']}: {video['frames']} frames, its header claims {video['header']}"
        for video in report["fewer_frames_than_header"]
    ]
    for key, text in (("in_no_list", "in no list"), ("listed_but_absent", "listed but absent")):
        if report[key]:
            lines.append(f"{text}: {len(report[key])} videos, first {report[key][0]}")
    return lines


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes JSON for people and programs: one video a line would be long, so it is indented by one."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Reads what `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))
