"""The study's results by network: `study.json`, `study.md` and `study.png`."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from r23d_jax import models
from r23d_jax.data.records import VideoDataset
from r23d_jax.models.summary import Cost, cost
from r23d_jax.report.table_page import markdown_table
from r23d_jax.runtime.addresses import public_name
from r23d_jax.runtime.files import read_json, write_json, write_text
from r23d_jax.runtime.text import duration
from r23d_jax.training import optim, setup
from r23d_jax.training.log import read_metrics
from r23d_jax.viz import study_plot
from r23d_jax.weights import clip_values


def label(arch: str) -> str:
    """The papers' name of a network, with its other one where it has two: `R(2+3)D = rMC4`."""
    architecture = models.get(arch)
    return " = ".join([*architecture.aliases.values(), architecture.title])


def write(
    root: Path, config: ConfigDict, dataset: VideoDataset, cells: Sequence[Any], outcomes: Mapping[Any, Any]
) -> dict[str, Any]:
    """Writes `study.json`, `study.png` and `study.md` to `root`; returns what `study.json` holds.

    Args:
      root: the study's folder.
      config: the recipe.
      dataset: what it is trained on.
      cells: all runs of the study, `study.StudyRun`.
      outcomes: of each cell its results, `{"failed": why}`, or None where it has not been run yet.
    """
    study = build(root, config, dataset, cells, outcomes)
    write_json(root / "study.json", study)
    if any(row["top1"] for row in study["rows"]):
        study_plot.write(root / "study.png", study)
    write_text(root / "study.md", markdown(study))
    return study


def build(root, config, dataset, cells, outcomes) -> dict[str, Any]:
    """Returns what `study.json` holds: `rows`, one for each network, and what they have in common.

    A row has `network`, `names`, `kind`, `parameters`, `gmacs` and `nominal_gmacs` (see `models.summary.cost`), `top1`
    and `mean_class` (`mean`, `deviation` of a sample or None for one seed, `values`; None without a result),
    `clips_per_second`, `train_seconds` (medians over the seeds), and the runs by seed: `seeds`.
    """
    config = clip_values.of_config(config, dataset.channels, dataset.flow)
    done = [cell for cell in cells if outcomes[cell] and "failed" not in outcomes[cell]]
    claims = [read_json(cell.workdir(root) / "config.json") for cell in done]
    results = [outcomes[cell] for cell in done]
    videos = len(dataset.subset(config.dataset.split, "train"))
    return {
        "dataset": dataset.full_name,
        "dataset_fingerprint": dataset.fingerprint,
        "split": config.dataset.split,
        "training_videos": videos,
        "test_videos": len(dataset.subset(config.dataset.split, config.eval.part)),
        "classes": len(dataset.class_names),
        "protocol": _distinct(one["protocol"] for one in results),
        "recipe": _recipe(config, videos),
        "seeds": sorted({cell.seed for cell in cells}),
        "cells": len(cells),
        "finished": len(done),
        "commit": _distinct(one["commit"] or "outside a checkout" for one in results),
        "hardware": _distinct(_hardware(claim["environment"]) for claim in claims),
        "rows": [_row(root, config, dataset, arch, cells, outcomes) for arch in dict.fromkeys(c.arch for c in cells)],
    }


def _row(root, config, dataset, arch, cells, outcomes) -> dict[str, Any]:
    seeds = {str(c.seed): _run(c.workdir(root), outcomes[c]) for c in cells if c.arch == arch}
    done = [run for run in seeds.values() if "top1" in run]
    compute = _cost(config, dataset, arch)
    return {
        "network": label(arch),
        "names": [arch, *models.get(arch).aliases],
        "kind": models.get(arch).kind,
        "parameters": compute.parameters,
        "gmacs": compute.macs / 1e9,
        "nominal_gmacs": compute.nominal_macs / 1e9,
        "top1": _spread([run["top1"] for run in done]),
        "mean_class": _spread([run["mean_class"] for run in done]),
        "clips_per_second": _median(run["clips_per_second"] for run in done),
        "train_seconds": _median(run["train_seconds"] for run in done),
        "seeds": seeds,
    }


def _run(workdir: Path, outcome: Mapping[str, Any] | None) -> dict[str, Any]:
    """One run's part of a row: `{}` where it is not finished."""
    if outcome is None or "failed" in outcome:
        return dict(outcome or {})
    lines = [line for line in read_metrics(workdir) if "clips_per_second" in line]
    return {
        "top1": outcome["top1"],
        "mean_class": outcome["mean_class"],
        # Compiling falls into the first line of the log.
        "clips_per_second": _median(line["clips_per_second"] for line in lines[1:] or lines),
        "train_seconds": max((line["seconds"] for line in lines), default=None),
        "step": outcome["step"],
    }


_costs: dict[tuple, Cost] = {}


def _cost(config: ConfigDict, dataset: VideoDataset, arch: str) -> Cost:
    """Returns the cost of one clip of the config, computed once for each network."""
    arguments = setup.model_arguments(config, len(dataset.class_names), dataset.num_channels, None)
    clip = (config.clip.frames, config.clip.size, config.clip.size, dataset.num_channels)
    key = (arch, repr(arguments), clip)
    if key not in _costs:
        _costs[key] = cost(lambda: models.create_from_arguments(arch, arguments), clip)
    return _costs[key]


def _spread(values: list[float]) -> dict[str, Any] | None:
    if not values:
        return None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "deviation": deviation, "values": values}


def _median(values: Any) -> float | None:
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def _distinct(texts: Any) -> str:
    return "; ".join(dict.fromkeys(texts))


def _hardware(environment: Mapping[str, Any]) -> str:
    jax, cores = environment.get("jax"), environment.get("cpu_count")
    return f"{environment.get('devices')}, {cores} CPU cores, JAX {jax}"


def _recipe(config: ConfigDict, videos: int) -> str:
    clip, steps = config.clip, config.steps or config.epochs * videos / config.batch_size
    return (
        f"clips of {clip.frames}x{clip.size}x{clip.size}, width {config.model.width}, "
        f"{config.dtype}; {round(steps)} steps of {config.batch_size} clips, {config.optimizer.name}, "
        f"learning rate {optim.effective_lr(config):g} ({config.schedule.name}), "
        + (f"initialised from {public_name(config.init_from)}" if config.init_from else "from nothing")
    )


def markdown(study: Mapping[str, Any]) -> str:
    """Returns `study.md`: the table, the plot, and how the numbers were measured."""
    header = (
        "network, name, top-1, its runs, mean class, parameters, GMAC, GMAC by shapes, training clips/s, training time"
    )
    rows = [
        [
            row["network"],
            ", ".join(f"`{name}`" for name in row["names"]),
            _score(row, "top1"),
            _values(row["top1"]),
            _score(row, "mean_class"),
            f"{row['parameters'] / 1e6:.3g} M",
            f"{row['gmacs']:.3g}",
            f"{row['nominal_gmacs']:.3g}",
            _or_not(row["clips_per_second"], "{:.3g}".format),
            _or_not(row["train_seconds"], duration),
        ]
        for row in study["rows"]
    ]
    title = f"# {study['dataset']}: {study['finished']} of {study['cells']} runs finished"
    lines = [title, "", *markdown_table(header, rows)]
    if any(row["top1"] for row in study["rows"]):
        lines += ["", "![accuracy against cost](study.png)"]
    one, seeds = 1 / study["test_videos"], ", ".join(map(str, study["seeds"]))
    lines += [
        "",
        f"Top-1 and mean class: mean and standard deviation over seeds {seeds}, in brackets the number "
        f"of runs; one of the {study['test_videos']} test videos is {one:.2%}, chance is {1 / study['classes']:.1%}. "
        "GMAC: multiply-adds of one clip, forward, by the compiler's analysis (products with the zeros of the padding "
        "left out, BatchNorm and the like counted), and by the shapes of the convolutions, as papers print them. "
        "Clips/s: median of the log without its first line, which contains compiling; training time contains it; "
        "both are medians over the seeds.",
        "",
        f"* Protocol: {study['protocol'] or 'no result yet'}",
        f"* Data set: {study['dataset']}, split {study['split']}: {study['training_videos']} training videos; "
        f"fingerprint {study['dataset_fingerprint'][:16]}",
        f"* Recipe, the same for all: {study['recipe']}",
        f"* Commit: {study['commit'] or 'no result yet'}",
        f"* Hardware: {study['hardware'] or 'no result yet'}",
    ]
    failed = [
        f"* {row['network']}, seed {seed}: {run['failed']}"
        for row in study["rows"]
        for seed, run in row["seeds"].items()
        if "failed" in run
    ]
    if failed:
        lines += ["", "Failed:", "", *failed]
    return "\n".join(lines) + "\n"


def _score(row: Mapping[str, Any], name: str) -> str:
    score, runs = row[name], row["seeds"].values()
    failed = sum("failed" in run for run in runs)
    note = f", {failed} failed" if failed else ""
    if score is None:
        return f"failed ({failed})" if failed else "not measured"
    spread = "" if score["deviation"] is None else f" ± {100 * score['deviation']:.1f}"
    return f"{100 * score['mean']:.1f}{spread} % ({len(score['values'])}{note})"


def _values(score: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{100 * value:.1f}" for value in score["values"]) if score else ""


def _or_not(value: float | None, write: Callable[[float], str]) -> str:
    return "not measured" if value is None else write(value)
