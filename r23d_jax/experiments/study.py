"""The study: every network of a ladder under one recipe, with several seeds; nothing is trained twice."""

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from r23d_jax import config as configs
from r23d_jax.errors import UserError, one_line
from r23d_jax.evaluation.results import read_results

LADDER = "r2d f_r2d mc2 mc3 mc4 mc5 rmc2 rmc3 rmc4 rmc5 r3d r2plus1d r2plus3d r3plus2d".split()


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """One run of the study: a network (by its own name, not an alias) and a seed."""

    arch: str
    seed: int

    def workdir(self, root: Path) -> Path:
        return root / self.arch / f"seed{self.seed}"


def networks(names: str, depth: int) -> list[str]:
    """The networks to train, each once: those named, or the ladder's that exist in this depth.

    Raises:
      UserError: no such network, or no network of this depth.
    """
    from r23d_jax import models

    if names:
        asked = [name.strip() for name in names.split(",") if name.strip()]
    else:
        asked = [f"{name}_{depth}" for name in LADDER if f"{name}_{depth}" in models.NAMES]
        if not asked:
            raise UserError(f"--depth {depth}: no network of the ladder has it; use 18, 34 or 50")
    return list(dict.fromkeys(models.canonical(name) for name in asked))


def run(config: ConfigDict, root: Path, archs: Sequence[str], seeds: int, debug: bool = False) -> dict[str, Any]:
    """Runs every cell that is not finished, all networks with one seed before the next seed.

    Args:
      config: the recipe; `arch` and `seed` are set for each cell.
      root: the study's folder.
      archs: names that are no aliases.
      seeds: how many, from `config.seed` on.
      debug: let the first failure through.

    Returns:
      What `study.json` holds, see `study_table.build`. A cell that fails is reported in it; the others go on.

    Raises:
      UserError: the config, the data set or the folder is at fault, before anything is trained.
      Interrupted: as `single.train` does.
    """
    import jax

    from r23d_jax.data import records
    from r23d_jax.experiments import single, study_table
    from r23d_jax.runtime.workdir import check_workdir
    from r23d_jax.training import setup

    if config.streams:
        raise UserError("config.streams: the study compares single networks; name the config of one stream")
    if config.dataset.split == "all":
        raise UserError("config.dataset.split='all': the study compares networks on one split; name one")
    setup.check(config)
    dataset = records.VideoDataset.open(config.dataset.data_dir, config.dataset.name)
    steps = setup.steps_of(config, len(dataset.subset(config.dataset.split, "train")))
    cells = [StudyRun(arch, config.seed + k) for k in range(seeds) for arch in archs]
    recipes = {cell: _recipe(config, cell) for cell in cells}
    for cell in cells:
        check_workdir(cell.workdir(root), recipes[cell], dataset)
    root.mkdir(parents=True, exist_ok=True)
    outcomes = {cell: finished(cell.workdir(root), recipes[cell], dataset.fingerprint, steps) for cell in cells}
    trained, began = 0, time.perf_counter()
    for number, cell in enumerate(cells, 1):
        title = f"cell {number} of {len(cells)}: {study_table.label(cell.arch)} ({cell.arch}), seed {cell.seed}"
        if outcomes[cell] is not None:
            _say(f"{title}: finished before, top1 {outcomes[cell]['top1']:.4f}")
            continue
        left = sum(outcomes[later] is None for later in cells[number - 1 :])
        _say(f"{title}{_remaining(trained, left, time.perf_counter() - began)}")
        try:
            outcomes[cell] = single.train(recipes[cell], cell.workdir(root))
            _say(f"{title}: top1 {outcomes[cell]['top1']:.4f}")
        except OSError:  # the next cell would meet the same full disk
            raise
        except Exception as error:  # out of memory, a loss that is not finite: of this network, not of the study
            if debug:
                raise
            outcomes[cell] = {"failed": _brief(error)}
            _say(f"{title}: failed: {outcomes[cell]['failed']}")
        jax.clear_caches()  # its programs would stay in memory to the end
        trained += 1
        study_table.write(root, config, dataset, cells, outcomes)
    return study_table.write(root, config, dataset, cells, outcomes)


def finished(workdir: Path, config: ConfigDict, fingerprint: str, steps: int) -> dict[str, Any] | None:
    """The results of a run that has nothing left to do, else None.

    Args:
      workdir: the run's.
      config: what it must have been run with, how it is evaluated included.
      fingerprint: the data set's.
      steps: of the whole run; fewer will do where `config.budget_minutes` are used up.
    """
    from r23d_jax.runtime.workdir import recorded
    from r23d_jax.training.log import read_metrics

    try:
        results = read_results(workdir / "results.json")
        before, _ = recorded(workdir)
        wanted = configs.flatten(config)
        same = all(before[key] == wanted[key] for key in wanted if key.startswith("eval."))
        for key, value in (("arch", config.arch), ("seed", config.seed), ("dataset_fingerprint", fingerprint)):
            same = same and results[key] == value
        complete = results["videos_expected"] == results["videos_evaluated"] and results["step"] >= steps
        if config.budget_minutes and not complete:
            spent = max((line["seconds"] for line in read_metrics(workdir)), default=0)
            complete = spent > config.budget_minutes * 60
    except (OSError, ValueError, KeyError, TypeError, UserError):  # half a run, or none
        return None
    return results if same and complete else None


def _recipe(config: ConfigDict, cell: StudyRun) -> ConfigDict:
    one = config.copy_and_resolve_references()
    one.arch, one.seed = cell.arch, cell.seed
    configs.validate(one)
    return one.lock()


def _remaining(trained: int, left: int, seconds: float) -> str:
    return f" (about {seconds / trained * left / 60:.0f} min left for {left} cells)" if trained else ""


def _brief(error: Exception) -> str:
    text = one_line(error) if isinstance(error, UserError) else f"{type(error).__name__}: {one_line(error)}"
    return text if len(text) <= 300 else f"{text[:300]}..."


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
