"""One network trained or evaluated, with its report: what the commands and the front door call."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from r23d_jax import report
from r23d_jax.data.dataset import Dataset
from r23d_jax.evaluation.evaluator import evaluate_checkpoint
from r23d_jax.runtime import hosts
from r23d_jax.training.loop import train_and_evaluate


def train(config: ConfigDict, workdir: Path, dataset: Dataset | None = None) -> dict[str, Any]:
    """Trains in `workdir` or continues there, evaluates, and writes the report; see `training.loop`."""
    results = train_and_evaluate(config, workdir, dataset)
    if hosts.is_primary():
        report.write(Path(workdir), dataset)
    hosts.barrier("report")
    return results


def evaluate(
    config: ConfigDict,
    workdir: Path,
    which: str = "last",
    source: Path | None = None,
    dataset: Dataset | None = None,
) -> dict[str, Any]:
    """Evaluates a checkpoint into `workdir` and writes the report; see `evaluation.evaluator`."""
    evaluated = evaluate_checkpoint(config, workdir, which, source, dataset)
    if hosts.is_primary():
        report.write(Path(workdir), evaluated.dataset, (evaluated.weights, evaluated.card))
    hosts.barrier("report")
    return evaluated.results
