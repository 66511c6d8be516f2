"""`dataset.split=all`: the mean and the spread of several runs, one on each split."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r23d_jax import report
from r23d_jax.evaluation.results import score_names
from r23d_jax.runtime import hosts
from r23d_jax.runtime.files import write_json


def folder(workdir: Path, split: str) -> Path:
    """Where the run on one split lives."""
    return workdir / f"split{split}"


def names(workdir: Path) -> list[str]:
    """Returns the splits that have a folder in a workdir, none where it is no folder or of a single run."""
    return sorted(path.name.removeprefix("split") for path in workdir.glob("split*") if path.is_dir())


def write(workdir: Path, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Writes `results.json` and `report.html` of all splits.

    Args:
      workdir: of the runs.
      parts: what `results.json` holds of each.

    Returns:
      What is written. `splits` are the scores of each, `spread` their standard deviation where there are several.
    """
    results = _mean(parts) | {"split": "all"}
    if len(parts) > 1:
        results["spread"] = {name: statistics.stdev(part[name] for part in parts) for name in score_names(parts)}
    kept = ("split", "videos_evaluated", *score_names(parts))
    results["splits"] = [{name: part[name] for name in kept} for part in parts]
    for name in ("videos_expected", "videos_evaluated"):
        results[name] = sum(part[name] for part in parts)
    if "streams" in parts[0]:
        results["streams"] = [_mean(streams) for streams in zip(*(part["streams"] for part in parts), strict=True)]
    *most, last = (part["split"] for part in parts)
    every = f"splits {', '.join(most)} and {last}" if most else f"split {last}"
    each = parts[0]["protocol"].replace(f" videos of split {parts[0]['split']};", " videos of the split;")
    results["protocol"] = f"mean of {every}; each: {each}"
    if hosts.is_primary():
        write_json(workdir / "results.json", results)
        report.write(workdir)
    return results


def _mean(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The last of them with the mean scores of all."""
    mean = {**parts[-1], **{name: statistics.fmean(part[name] for part in parts) for name in score_names(parts)}}
    if "aggregates" in mean:
        every = [part.get("aggregates", {}) for part in parts]
        names = [name for name in every[-1] if all(name in aggregates for aggregates in every)]
        mean["aggregates"] = {name: _mean([aggregates[name] for aggregates in every]) for name in names}
    return mean
