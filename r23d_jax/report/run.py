"""Reads what a workdir holds of its run; every part may be missing."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from r23d_jax.errors import UserError, one_line
from r23d_jax.evaluation.predictions import Predictions
from r23d_jax.evaluation.results import read_results
from r23d_jax.report.probe import FineTuning, Probe
from r23d_jax.runtime.files import read_json
from r23d_jax.training.log import read_metrics

_EVALUATE = "run the evaluation again"
_FIT = "fit the probe again, into another folder"


@dataclasses.dataclass(frozen=True)
class Run:
    """A workdir's files, as read.

    Attributes:
      workdir: the folder.
      results: `results.json`, {} without it.
      scores: `predictions.npz`, None without it.
      metrics: lines of `metrics.jsonl`.
      config, dataset, environment: the parts of `config.json`, {} without it.
      probe: `probe.json` of a probe, None without it.
      fine_tuning: what became of fine-tuning it, None where that was not asked for.
    """

    workdir: Path
    results: dict[str, Any]
    scores: Predictions | None
    metrics: list[dict[str, Any]]
    config: dict[str, Any]
    dataset: dict[str, Any]
    environment: dict[str, Any]
    probe: Probe | None = None
    fine_tuning: FineTuning | None = None

    @property
    def part(self) -> str:
        """Which videos of the split were evaluated."""
        return self.results.get("part") or self.config.get("eval.part") or "test"

    @property
    def cross_validated(self) -> bool:
        """Whether the scores are of training videos, each by a probe that was fitted without its group."""
        return self.part == "train" and "cross_validation" in self.results


def read_run(workdir: Path) -> Run:
    """Reads a workdir.

    Raises:
      UserError: it is not one, or a file in it is damaged.
    """
    workdir = Path(workdir)
    if not workdir.is_dir():
        raise UserError(f"{workdir}: no such folder; name the --workdir of a run")
    path = workdir / "results.json"
    results = read_results(path) if path.is_file() else {}
    claimed = _object(workdir / "config.json", _EVALUATE)
    tuning = _fields(path, FineTuning.of, results["fine_tuning"]) if "fine_tuning" in results else None
    path = workdir / "probe.json"
    probe = _fields(path, Probe.of, _object(path, _FIT)) if path.is_file() else None
    metrics = read_metrics(workdir)
    path = workdir / "predictions.npz"
    scores = Predictions.load(path) if path.is_file() else None
    if not (results or claimed or metrics or scores):
        raise UserError(f"{workdir}: no results.json, config.json or metrics.jsonl in it, so not a run's workdir")
    parts = [claimed.get(name) for name in ("config", "dataset", "environment")]
    parts = [part if isinstance(part, dict) else {} for part in parts]
    return Run(workdir, results, scores, metrics, *parts, probe, tuning)


def series(run: Run, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the epochs (steps in a log without epochs) and finite values of one logged scalar, float64."""
    unit = x_unit(run)
    lines = [line for line in run.metrics if _number(line.get(name)) and _number(line.get(unit))]
    points = np.array([(line[unit], line[name]) for line in lines], np.float64).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    return points[:, 0], points[:, 1]


def x_unit(run: Run) -> str:
    """Returns "epoch", or "step" for a log without epochs."""
    return "epoch" if any("epoch" in line for line in run.metrics) else "step"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _object(path: Path, remedy: str) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = read_json(path)
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({one_line(error)}); {remedy}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: a {type(value).__name__} instead of an object; {remedy}")
    return value


def _fields(path: Path, read: Callable[[Any], Any], fields: Any) -> Any:
    """What `read` makes of a probe's part of the file."""
    try:
        return read(fields)
    except LookupError as error:
        raise UserError(f"{path}: no key {error.args[0]}; {_FIT}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not what a probe writes ({one_line(error)}); {_FIT}") from None
