"""build_report.json, for people: counts, losses, findings and speed of a build."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tfds_ucf101 import lists
from tfds_ucf101.sources import Plan
from tfds_ucf101.stored import FINDINGS

FILE = "build_report.json"
_FORMAT = 2
_SHOWN = 5  # unreadable videos of a summary


def report(
    config: Mapping[str, Any],
    plan: Plan,
    videos: Sequence[Mapping[str, Any]],
    unreadable: Sequence[Mapping[str, str]],
    findings: Sequence[Mapping[str, Any]],
    *,
    encoded: int,
    reused: int,
    seconds: float,
    workers: int | None,
) -> dict[str, Any]:
    """The content of build_report.json.

    Args:
      config: the keys of the config.
      plan: what was asked of the build.
      videos: the entries of the index.
      unreadable: the videos left out, with "path" and "reason".
      findings: what was noticed of videos that are in the data set all the same: "path" and keys of `FINDINGS`.
      encoded: frames that this build has decoded and encoded.
      reused: shards that a build before has left.
      seconds: the pipeline took.
      workers: processes on this machine; None where it ran elsewhere.
    """
    splits = {s: Counter(video["splits"][s] for video in videos) for s in plan.splits}
    labels = Counter(video["label"] for video in videos)
    lengths = [video["num_frames"] for video in videos]
    return {
        "format": _FORMAT,
        "config": dict(config),
        "layout": plan.layout,
        "notes": list(plan.notes),
        "leak_check": plan.leak_check,
        "videos": len(videos),
        "frames": sum(lengths),
        "frames_per_video": {"least": min(lengths, default=0), "most": max(lengths, default=0)},
        "classes": {name: labels[label] for label, name in enumerate(plan.class_names)},
        "splits": {split: {role: counts[role] for role in _roles(counts)} for split, counts in splits.items()},
        "unreadable": list(unreadable),
        "findings": list(findings),
        "finding_texts": dict(FINDINGS),
        "in_no_list": list(plan.unlisted),
        "listed_but_absent": list(plan.absent),
        "seconds": round(seconds, 3),
        "frames_encoded": encoded,
        "frames_per_second": round(encoded / seconds, 1) if seconds else None,
        "shards_reused": reused,
        "workers": workers,
    }


def summary(report: Mapping[str, Any]) -> list[str]:
    """The report in a few lines for the terminal."""
    rate = f", {report['frames_per_second']:,.0f} frames/s" if report["frames_per_second"] else ""
    lines = [
        f"{report['videos']:,} videos, {report['frames']:,} frames in {len(report['classes'])} classes; "
        f"{report['seconds']:.1f} s{rate}"
    ]
    for split, counts in report["splits"].items():
        lines.append(f"split {split}: " + ", ".join(f"{count:,} {role}" for role, count in counts.items() if count))
    if not report["leak_check"]:
        lines.append("leak check off: a source video may be on both sides of a split")
    lost = report["unreadable"]
    lines += [f"unreadable: {one['path']}: {one['reason']}" for one in lost[:_SHOWN]]
    lines += [f"unreadable: {len(lost) - _SHOWN} more, see {FILE}"] if len(lost) > _SHOWN else []
    for key, text in FINDINGS.items():
        there = [one for one in report["findings"] if one.get(key)]
        if there:
            lines.append(f"{text}: {len(there):,} videos, first {there[0]['path']}")
    for key, text in (("in_no_list", "in no list"), ("listed_but_absent", "listed but absent")):
        if report[key]:
            lines.append(f"{text}: {len(report[key]):,} videos, first {report[key][0]}")
    return lines


def _roles(counts: Mapping[str, int]) -> list[str]:
    """The sides to be counted: a val side only where there is one."""
    order = sorted(lists.ROLES, key=("train", "val", "test", "neither").index)
    return [role for role in order if role != "val" or counts["val"]]
