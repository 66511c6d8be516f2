"""Two streams: an RGB and an optical-flow network, trained apart, and what they say together."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from r23d_jax import config as configs
from r23d_jax import report
from r23d_jax.data import records
from r23d_jax.errors import UserError
from r23d_jax.evaluation import fusion
from r23d_jax.evaluation.fusion import StreamPredictions
from r23d_jax.experiments import single, splits
from r23d_jax.experiments import study as ladder
from r23d_jax.runtime import hosts
from r23d_jax.runtime.files import write_json
from r23d_jax.runtime.workdir import check_workdir, recorded
from r23d_jax.training import setup
from r23d_jax.weights import checkpoint


def evaluated(source: Path, out: Path, which: str | None = None, data_dir: str | None = None) -> StreamPredictions:
    """The evaluation of a workdir, checkpoint folder or predictions.npz, made now where there is none.

    Args:
      source: what was named.
      out: where a new evaluation is written.
      which: "best" or "last" checkpoint of a workdir; None for the one evaluated, or the last.
      data_dir: where the data set is, instead of where the run had it.
    """
    if source.is_file():
        return fusion.read_stream(source)
    if (source / "predictions.npz").is_file():
        stream = fusion.read_stream(source)
        if which is None or checkpoint.find(source, which).name == f"{stream.results.get('step', -1):08d}":
            return stream
    folder = checkpoint.find(source, which or "last")
    config = _config_of(folder, source, data_dir)
    _say(f"{folder}: evaluating it on {config.dataset.name}, split {config.dataset.split}, into {out}")
    single.evaluate(config, out, which or "last", source=source)
    return fusion.read_stream(out)


def _config_of(folder: Path, source: Path, data_dir: str | None) -> ConfigDict:
    """The config to evaluate a checkpoint with: its run's where that is known, on its own data set."""
    _, card = checkpoint.load_weights(folder)
    claim = next((path for path in (source, folder.parent.parent) if (path / "config.json").is_file()), None)
    flat = recorded(claim)[0] if claim else {}
    config = configs.from_flat(flat)
    trained_on, split = card.source.get("dataset"), card.source.get("split")
    if not trained_on or not split:
        raise UserError(f"{source}: its card names no data set it was trained on; evaluate it by r23d_jax.main first")
    if not claim and not data_dir:
        raise UserError(f"{source}: a checkpoint without its run's config.json; say where {trained_on} is (--data_dir)")
    config.dataset.name, config.dataset.split = trained_on, split
    config.dataset.data_dir = data_dir or config.dataset.data_dir
    return config.lock()


def write(
    out: Path, rgb: StreamPredictions, flow: StreamPredictions, weights: tuple[float, float] = (1.0, 1.0)
) -> dict[str, Any]:
    """Fuses, and writes `predictions.npz`, `results.json` and `report.html`."""
    results, predictions = fusion.fuse(rgb, flow, weights)
    for part, stream in zip(results["streams"], (rgb, flow), strict=True):
        part["from"] = os.path.relpath(stream.origin.resolve().parent, out.resolve())
    if hosts.is_primary():
        out.mkdir(parents=True, exist_ok=True)
        predictions.save(out / "predictions.npz")
        write_json(out / "results.json", results)
        report.write(out)
    return results


def run(
    jobs: Mapping[str, ConfigDict], workdir: Path, one: Callable[[ConfigDict, Path], dict[str, Any]], again: bool
) -> dict[str, Any]:
    """Runs an RGB and a flow network in `workdir/rgb` and `workdir/flow`, and fuses them into `workdir`.

    Args:
      jobs: `{"rgb": config, "flow": config}`.
      workdir: of both.
      one: runs one network in a folder: `single.train`, or an evaluation.
      again: run also a network whose results are there already and whole.

    Raises:
      UserError: before anything is trained, if the data sets are not RGB and flow of the same videos.
    """
    if (workdir / "checkpoints").exists():
        raise UserError(f"{workdir}: holds a run of one network; use a new workdir for two streams")
    datasets = _open(jobs)
    for name, config in jobs.items():
        steps = setup.steps_of(config, len(datasets[name].subset(config.dataset.split, "train")))
        check_workdir(workdir / name, config, datasets[name])
        done = ladder.finished(workdir / name, config, datasets[name].fingerprint, steps)
        if done is None or again or not (workdir / name / "predictions.npz").is_file():
            _say(f"{name} stream: {config.arch} on {datasets[name].full_name}")
            one(config, workdir / name)
        else:
            _say(f"{name} stream: finished before, top1 {done['top1']:.4f}")
    return write(workdir, *(fusion.read_stream(workdir / name) for name in configs.STREAMS))


def _open(jobs: Mapping[str, ConfigDict]) -> dict[str, records.VideoDataset]:
    datasets, tested = {}, {}
    for name, config in jobs.items():
        dataset = records.VideoDataset.open(config.dataset.data_dir, config.dataset.name)
        if dataset.channels != name:
            raise UserError(f"--config.{name}.dataset.name={config.dataset.name}: holds {dataset.channels}, not {name}")
        positions = dataset.subset(config.dataset.split, config.eval.part)
        tested[name] = {(dataset.videos[i].name, dataset.class_names[dataset.videos[i].label]) for i in positions}
        datasets[name] = dataset
    differ = sorted(tested["rgb"] ^ tested["flow"])
    if differ:
        both, part = f"{datasets['rgb'].full_name} and {datasets['flow'].full_name}", config.eval.part
        raise UserError(
            f"{both}: {len(differ)} {part} videos of split {config.dataset.split} are in one of them only "
            f"({differ[0][0]}, for one); build both from the same videos"
        )
    return datasets


def fuse_folders(
    rgb: Path,
    flow: Path,
    out: Path,
    weights: tuple[float, float] = (1.0, 1.0),
    which: str | None = None,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Fuses two workdirs, checkpoint folders or predictions.npz into `out`; runs of all splits split by split.

    Args:
      rgb, flow: see `evaluated`.
      out: folder for results, predictions and report.
      weights: of the two streams; only their ratio counts.
      which, data_dir: see `evaluated`.

    Returns:
      What `results.json` holds.
    """

    def one(rgb, flow, out):
        pairs = zip(configs.STREAMS, (rgb, flow), strict=True)
        return write(out, *(evaluated(path, out / name, which, data_dir) for name, path in pairs), weights)

    found, others = splits.names(rgb), splits.names(flow)
    if found != others:
        there = [", ".join(names) or "none" for names in (found, others)]
        raise UserError(f"{rgb} has runs of these splits: {there[0]}; {flow} of these: {there[1]}; name two alike")
    if not found:
        return one(rgb, flow, out)
    return splits.write(out, [one(*(splits.folder(path, split) for path in (rgb, flow, out))) for split in found])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
