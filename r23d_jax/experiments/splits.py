"""`dataset.split=all`: the mean and the spread of three runs, one on each split."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r23d_jax import report
from r23d_jax.evaluation.results import SCORES
from r23d_jax.runtime import hosts
from r23d_jax.runtime.files import write_json

NAMES = ("1", "2", "3")


def folder(workdir: Path, split: str) -> Path:
    """Where the run on one split lives."""
    return workdir / f"split{split}"


def write(workdir: Path, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Writes `results.json` and `report.html` of all splits.

    Args:
      workdir: of the three runs.
      parts: what `results.json` holds of each, in the order of `NAMES`.

    Returns:
      What is written. `spread` is the standard deviation of the three, `splits` their scores.
    """
    results = _mean(parts) | {"split": "all"}
    results["spread"] = {name: statistics.stdev(part[name] for part in parts) for name in _scores(parts)}
    names = ("split", "videos_evaluated", *_scores(parts))
    results["splits"] = [{name: part[name] for name in names} for part in parts]
    for name in ("videos_expected", "videos_evaluated"):
        results[name] = sum(part[name] for part in parts)
    if "streams" in parts[0]:
        results["streams"] = [_mean(streams) for streams in zip(*(part["streams"] for part in parts), strict=True)]
    results["protocol"] = "mean of splits 1, 2 and 3; each: " + parts[0]["protocol"].replace(
        "test videos of split 1", "test videos of the split"
    )
    if hosts.is_primary():
        write_json(workdir / "results.json", results)
        report.write(workdir)
    return results


def _scores(parts: Sequence[dict[str, Any]]) -> list[str]:
    return [name for name in SCORES if all(name in part for part in parts)]


def _mean(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The last of them with the mean scores of all."""
    mean = {**parts[-1], **{name: statistics.fmean(part[name] for part in parts) for name in _scores(parts)}}
    if "aggregates" in mean:
        every = [part.get("aggregates", {}) for part in parts]
        names = [name for name in every[-1] if all(name in aggregates for aggregates in every)]
        mean["aggregates"] = {name: _mean([aggregates[name] for aggregates in every]) for name in names}
    return mean
