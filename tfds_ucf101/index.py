"""The index beside the shards, which the loader reads: `r23d_jax.data.index` has its format."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r23d_jax.data import flow
from r23d_jax.data.index import FORMAT
from tfds_ucf101 import lists
from tfds_ucf101.sources import Plan

SPLITS_FILE = "splits.csv"


def fingerprint(class_names: Sequence[str], videos: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 over names, labels, splits, frame counts and frames of all videos, whatever shards they are in.

    Time stamps count where the frame rate varies; elsewhere it is the same as version 1.0.0 of the builder wrote.
    """
    total = hashlib.sha256(f"[{_text(list(class_names))},[".encode())
    for place, video in enumerate(sorted(videos, key=lambda video: video["name"])):
        content = [video[key] for key in ("name", "label", "splits", "num_frames", "sha256")]
        if video.get("times") is not None:
            content.append(hashlib.sha256(np.asarray(video["times"], "<f8").tobytes()).hexdigest())
        total.update(("," if place else "").encode() + _text(content).encode())
    total.update(b"]]")
    return total.hexdigest()


def head(
    builder: str,
    config: Mapping[str, Any],
    plan: Plan,
    shards: Mapping[str, Mapping[str, int]],
    unreadable: Sequence[Mapping[str, str]],
    fingerprint: str,
) -> dict[str, Any]:
    """The content of videos.json, all of the index but the videos.

    Args:
      builder: its name.
      config: the keys of the config.
      plan: what was asked of the build.
      shards: file name -> "bytes" and "records".
      unreadable: the videos left out, with "path" and "reason".
      fingerprint: of the content.
    """
    return {
        "format": FORMAT,
        "builder": builder,
        "config": dict(config),
        "flow_details": _flow_details(config),
        "layout": plan.layout,
        "leak_check": plan.leak_check,
        "class_names": list(plan.class_names),
        "splits": list(plan.splits),
        "fingerprint": fingerprint,
        "unreadable": list(unreadable),
        "shards": dict(shards),
    }


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes JSON for people and programs: one video a line would be long, so it is indented by one."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_splits(path: Path, plan: Plan) -> None:
    """Writes who is on which side of every split, as a table that can itself be given as videos.csv."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", "label", *(f"split{split}" for split in plan.splits)])
    for source in plan.sources:
        sides = [lists.ROLES[source.roles[int(split) - 1]] for split in plan.splits]
        table.writerow([source.shown, plan.class_names[source.label], *sides])
    path.write_text(text.getvalue(), encoding="utf-8")


def _flow_details(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """How the flow came about: of flow that was there as pictures, only what the config says of it is known."""
    algorithm = config.get("flow")
    if algorithm is None or not config.get("flow_files"):
        return flow.describe(algorithm) if algorithm else None
    return {"algorithm": algorithm, "library": "pictures of the input", "bound": flow.BOUND}
