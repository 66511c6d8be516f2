"""A config as a whole: one network, two streams, or all of that on every split."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from r23d_jax import config as configs
from r23d_jax.data import records
from r23d_jax.data.dataset import Dataset
from r23d_jax.errors import UserError
from r23d_jax.experiments import single, splits, two_stream
from r23d_jax.runtime.compile import enable_cache


def train(
    config: str | Path | ConfigDict,
    workdir: str | Path,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    dataset: Dataset | None = None,
) -> dict[str, Any]:
    """Trains and evaluates what a config asks for; see `r23d_jax.train`."""
    if isinstance(overrides, Mapping):
        overrides = [f"{key}={value}" for key, value in overrides.items()]
    load = configs.changed if isinstance(config, ConfigDict) else configs.load
    config = load(config if isinstance(config, ConfigDict) else str(config), overrides)
    enable_cache()
    return run(configs.jobs(config, overrides), workdir, dataset=dataset)


def run(
    jobs: Mapping[str, ConfigDict],
    workdir: str | Path,
    mode: str = "train",
    which: str = "last",
    dataset: Dataset | None = None,
) -> dict[str, Any]:
    """Trains or evaluates what a config asks for, and writes results and reports.

    Args:
      jobs: one config, or those of the streams `{"rgb": ..., "flow": ...}`.
      workdir: of the run; with `dataset.split=all` the splits have folders of their own in it.
      mode: "train" (and evaluate, or continue) or "eval".
      which: of an evaluation: "best", "last", or "init" for the weights of `init_from`.
      dataset: of a single network; by default the one that its config names.

    Returns:
      What `results.json` holds.

    Raises:
      UserError: for anything the user can mend.
    """
    workdir = Path(workdir)
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir {workdir}: is a file")
    if dataset is not None and len(jobs) > 1:
        raise UserError("config.streams: two streams have a data set each, which their configs must name")
    if {config.dataset.split for config in jobs.values()} != {"all"}:
        return _one_split(jobs, workdir, mode, which, dataset)
    if (workdir / "checkpoints").exists():
        raise UserError(f"{workdir}: holds a run on one split; use a new workdir for dataset.split=all")
    parts = []
    for split in _splits(jobs, dataset):
        copies = {name: config.copy_and_resolve_references() for name, config in jobs.items()}
        for config in copies.values():
            config.dataset.split = split
        parts.append(_one_split(copies, splits.folder(workdir, split), mode, which, dataset))
    return splits.write(workdir, parts)


def _splits(jobs: Mapping[str, ConfigDict], given: Dataset | None) -> list[str]:
    """The splits of the data set, each with videos to train and to evaluate on: known before the first long run."""
    found: dict[str, list[str]] = {}
    for config in jobs.values():
        dataset = records.VideoDataset.open(config.dataset.data_dir, config.dataset.name) if given is None else given
        found[dataset.full_name] = list(dataset.splits)
        for split in dataset.splits:
            dataset.subset(split, "train"), dataset.subset(split, config.eval.part)
    names = next(iter(found.values()))
    if not names or any(other != names for other in found.values()):
        there = "; ".join(f"{name} has {', '.join(its) or 'none'}" for name, its in found.items())
        raise UserError(f"dataset.split=all: splits are needed, the same for every stream: {there}")
    return names


def _one_split(
    jobs: Mapping[str, ConfigDict], workdir: Path, mode: str, which: str, dataset: Dataset | None
) -> dict[str, Any]:
    def one(config, workdir):
        if mode == "eval":
            return single.evaluate(config, workdir, which, dataset=dataset)
        return single.train(config, workdir, dataset)

    if len(jobs) == 1:
        (config,) = jobs.values()
        return one(config, workdir)
    return two_stream.run(jobs, workdir, one, again=mode == "eval")
