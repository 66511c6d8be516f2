"""Two streams: an RGB and an optical-flow network, trained apart, and what they say together.

    python -m r23d_jax.two_stream RGB FLOW --out DIR [--weights 1,1] [--which best|last] [--data_dir DATA]

RGB and FLOW are each a workdir, a checkpoint folder or a predictions.npz. Checkpoints without predictions are
evaluated first, into DIR/rgb and DIR/flow. Where both are workdirs of dataset.split=all, every split is fused.
`--config.streams` trains both networks and ends here.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from r23d_jax import checkpoint, distributed, fusion, report, run_info, score, splits, study, train
from r23d_jax import config as configs
from r23d_jax.data import records
from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.files import write_json
from r23d_jax.fusion import Stream
from r23d_jax.interrupt import EXIT_STATUS, Interrupted, at_once


def evaluated(source: Path, out: Path, which: str | None = None, data_dir: str | None = None) -> Stream:
    """The evaluation of a workdir, checkpoint folder or predictions.npz, made now where there is none.

    Args:
      source: what was named.
      out: where a new evaluation is written.
      which: "best" or "last" checkpoint of a workdir; None for the one evaluated, or the last.
      data_dir: where the data set is, instead of where the run had it.
    """
    if source.is_file():
        return fusion.read(source)
    if (source / "predictions.npz").is_file():
        stream = fusion.read(source)
        if which is None or checkpoint.find(source, which).name == f"{stream.results.get('step', -1):08d}":
            return stream
    folder = checkpoint.find(source, which or "last")
    config = _config_of(folder, source, data_dir)
    _say(f"{folder}: evaluating it on {config.dataset.name}, split {config.dataset.split}, into {out}")
    score.evaluate_only(config, out, which or "last", source=source)
    return fusion.read(out)


def _config_of(folder: Path, source: Path, data_dir: str | None) -> ConfigDict:
    """The config to evaluate a checkpoint with: its run's where that is known, on its own data set."""
    _, card = checkpoint.load_weights(folder)
    claim = next((path for path in (source, folder.parent.parent) if (path / "config.json").is_file()), None)
    flat = run_info.recorded(claim)[0] if claim else {}
    config = configs.from_flat(flat)
    trained_on, split = card.source.get("dataset"), card.source.get("split")
    if not trained_on or not split:
        raise UserError(f"{source}: its card names no data set it was trained on; evaluate it by r23d_jax.main first")
    if not claim and not data_dir:
        raise UserError(f"{source}: a checkpoint without its run's config.json; say where {trained_on} is (--data_dir)")
    config.dataset.name, config.dataset.split = trained_on, split
    config.dataset.data_dir = data_dir or config.dataset.data_dir
    return config.lock()


def write(out: Path, rgb: Stream, flow: Stream, weights: tuple[float, float] = (1.0, 1.0)) -> dict[str, Any]:
    """Fuses, and writes `predictions.npz`, `results.json` and `report.html`."""
    results, predictions = fusion.fuse(rgb, flow, weights)
    for part, stream in zip(results["streams"], (rgb, flow), strict=True):
        part["from"] = os.path.relpath(stream.origin.resolve().parent, out.resolve())
    if distributed.first():
        out.mkdir(parents=True, exist_ok=True)
        predictions.save(out / "predictions.npz")
        write_json(out / "results.json", results)
        report.write(out)
    return results


# --- training both --------------------------------------------------------------------------------------


def run(
    jobs: Mapping[str, ConfigDict], workdir: Path, one: Callable[[ConfigDict, Path], dict[str, Any]], again: bool
) -> dict[str, Any]:
    """Runs an RGB and a flow network in `workdir/rgb` and `workdir/flow`, and fuses them into `workdir`.

    Args:
      jobs: `{"rgb": config, "flow": config}`.
      workdir: of both.
      one: runs one network in a folder: `train.train_and_evaluate`, or an evaluation.
      again: run also a network whose results are there already and whole.

    Raises:
      UserError: before anything is trained, if the data sets are not RGB and flow of the same videos.
    """
    if (workdir / "checkpoints").exists():
        raise UserError(f"{workdir}: holds a run of one network; use a new workdir for two streams")
    datasets = _open(jobs)
    for name, config in jobs.items():
        steps = train.steps_of(config, len(datasets[name].subset(config.dataset.split, "train")))
        run_info.check_workdir(workdir / name, config, datasets[name])
        done = study.finished(workdir / name, config, datasets[name].fingerprint, steps)
        if done is None or again or not (workdir / name / "predictions.npz").is_file():
            _say(f"{name} stream: {config.arch} on {datasets[name].full_name}")
            one(config, workdir / name)
        else:
            _say(f"{name} stream: finished before, top1 {done['top1']:.4f}")
    return write(workdir, *(fusion.read(workdir / name) for name in configs.STREAMS))


def _open(jobs: Mapping[str, ConfigDict]) -> dict[str, records.VideoDataset]:
    datasets, tested = {}, {}
    for name, config in jobs.items():
        dataset = records.VideoDataset.open(config.dataset.data_dir, config.dataset.name)
        if dataset.channels != name:
            raise UserError(f"--config.{name}.dataset.name={config.dataset.name}: holds {dataset.channels}, not {name}")
        positions = dataset.subset(config.dataset.split, "test")
        tested[name] = {(dataset.videos[i].name, dataset.class_names[dataset.videos[i].label]) for i in positions}
        datasets[name] = dataset
    differ = sorted(tested["rgb"] ^ tested["flow"])
    if differ:
        raise UserError(
            f"{datasets['rgb'].full_name} and {datasets['flow'].full_name}: {len(differ)} test videos of split "
            f"{config.dataset.split} are in one of them only ({differ[0][0]}, for one); build both from the same videos"
        )
    return datasets


# --- the command ----------------------------------------------------------------------------------------


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="python -m r23d_jax.two_stream", description="Fuses the predictions of an RGB and a flow network."
    )
    parser.add_argument("rgb", type=Path, help="workdir, checkpoint folder or predictions.npz of the RGB network")
    parser.add_argument("flow", type=Path, help="the same of the optical-flow network")
    parser.add_argument("--out", type=Path, required=True, help="folder for results, predictions and report")
    parser.add_argument("--weights", default="1,1", help="of RGB and flow (default: 1,1)")
    parser.add_argument("--which", choices=("best", "last"), help="checkpoint of a workdir; default: as evaluated")
    parser.add_argument("--data_dir", help="where the data sets are now, should one be evaluated")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    flags = parser.parse_args(argv)
    try:
        flags.weights = tuple(float(part) for part in flags.weights.split(","))
    except ValueError:
        flags.weights = ()
    if len(flags.weights) != 2:
        parser.error("--weights: two numbers with a comma between, RGB's and flow's")
    return flags


def main() -> int:
    from r23d_jax import compile_cache

    flags = parse(sys.argv[1:])
    for source in (flags.rgb, flags.flow):
        if not source.exists():
            raise UserError(f"{source}: no such file or folder")
        if flags.out.resolve() == (source if source.is_dir() else source.parent).resolve():
            raise UserError(f"--out {flags.out}: holds {source}; name another folder")
    if flags.out.is_file() or (flags.out / "checkpoints").exists():
        raise UserError(f"--out {flags.out}: a file, or a run's workdir; name another folder")
    compile_cache.enable()
    try:
        with at_once():
            results = _fuse_folders(flags)
    except Interrupted as interrupted:
        _say(f"interrupted: {interrupted}")
        return EXIT_STATUS
    alone = ", ".join(f"{stream['stream']} alone {stream['top1']:.4f}" for stream in results["streams"])
    print(f"top1 {results['top1']:.4f} ({alone}), of mean logits {results['top1_logit_mean']:.4f}, "
          f"{results['videos_evaluated']}/{results['videos_expected']} videos; {results['protocol']}")  # fmt: skip
    print(flags.out / "results.json")
    return 0


def _fuse_folders(flags: argparse.Namespace) -> dict[str, Any]:
    def one(rgb, flow, out):
        pairs = zip(configs.STREAMS, (rgb, flow), strict=True)
        return write(out, *(evaluated(path, out / name, flags.which, flags.data_dir) for name, path in pairs),
                     flags.weights)  # fmt: skip

    many = [splits.folder(source, splits.NAMES[0]).is_dir() for source in (flags.rgb, flags.flow)]
    if not any(many):
        return one(flags.rgb, flags.flow, flags.out)
    if not all(many):
        which = (flags.rgb, flags.flow)[many.index(False)]
        raise UserError(f"{which}: one split, where the other stream has all three")
    folders = [[splits.folder(path, split) for path in (flags.rgb, flags.flow, flags.out)] for split in splits.NAMES]
    return splits.write(flags.out, [one(*three) for three in folders])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_command(main)
