"""`python -m r23d_jax.browse --config FILE --out sheet.png [--clips N] [--part train|test] [--config.key=value ...]`
`python -m r23d_jax.browse --data_dir DIR [--name tfds_ucf101/rgb] [--json FILE]`

Inspects data before training. With --config: draws the first clips of a run's first batch, exactly as the network
gets them, including augmentation. With --data_dir: summarises a built data set by class and split, and what was lost
in building it.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from r23d_jax import config as configs
from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.runtime.console import positive, printable
from r23d_jax.runtime.files import write_json


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line without overrides."""
    command = Parser(prog="python -m r23d_jax.browse", description=__doc__.split("\n\n")[1])
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", help="a config file, or the name of one of configs/; draws its clips to --out")
    what.add_argument("--data_dir", type=Path, metavar="DIR", help="summarises what `tfds build` has built there")
    sheet = command.add_argument_group("clips of a config")
    sheet.add_argument("--out", type=Path, metavar="FILE", help="the picture, .png or .jpg")
    sheet.add_argument("--clips", type=positive, default=8, metavar="N", help="rows (default 8)")
    sheet.add_argument("--columns", type=positive, default=8, metavar="N", help="frames of a clip, at most (default 8)")
    sheet.add_argument("--part", choices=("train", "test"), default="train")
    sheet.add_argument("--step", type=int, default=0, metavar="N", help="the batch of that training step (default 0)")
    sheet.add_argument("--config.KEY", metavar="VALUE", help="another value for a key of the config")
    summary = command.add_argument_group("summary of a data set")
    summary.add_argument("--name", default="tfds_ucf101", help="which one, where several are built: tfds_ucf101/rgb")
    summary.add_argument("--json", type=Path, metavar="FILE", help="write all that is known there, too")
    command.add_argument("--debug", action="store_true", help="show tracebacks")
    return command


def main() -> None:
    arguments, overrides = configs.split_overrides(sys.argv[1:])
    flags = parser().parse_args(arguments)
    if flags.data_dir is not None:
        if overrides or flags.out:
            other = "--out" if flags.out else f"--config.{overrides[0]}"
            raise UserError(f"--data_dir {flags.data_dir}: {other} goes with --config, a picture of clips")
        _summarise(flags)
    else:
        if flags.json:
            raise UserError(f"--json {flags.json}: goes with --data_dir")
        _draw(flags, overrides)


def _summarise(flags: argparse.Namespace) -> None:
    from r23d_jax.data.records import VideoDataset
    from r23d_jax.viz import dataset_summary  # here, so that --help is fast

    facts = dataset_summary.summarise(VideoDataset.open(flags.data_dir, flags.name))
    if flags.json:
        flags.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(flags.json, facts)
    print(printable(dataset_summary.table(facts), sys.stdout))


def _draw(flags: argparse.Namespace, overrides: list[str]) -> None:
    from r23d_jax.data.records import VideoDataset
    from r23d_jax.runtime.compile import enable_cache
    from r23d_jax.training.preview import testing, training
    from r23d_jax.transforms.spec import from_config
    from r23d_jax.viz import sheet as sheets
    from r23d_jax.weights import clip_values

    if flags.out is None or flags.out.suffix.lower() not in sheets.ENDINGS:
        raise UserError(f"--out {flags.out or ''}: name the picture to write, for example --out sheet.png")
    if flags.step < 0:
        raise UserError(f"--step {flags.step}: must be at least 0")
    config = configs.load(flags.config, overrides)
    if config.streams:
        one = " or ".join(config.streams)
        raise UserError(f"--config {flags.config}: has two streams; name the config of one, {one}")
    if config.dataset.split == "all":
        raise UserError("config.dataset.split=all: look at one split, --config.dataset.split=1")
    enable_cache()
    dataset = VideoDataset.open(config.dataset.data_dir, config.dataset.name)
    config = clip_values.of_config(config, dataset.channels, dataset.flow)
    if flags.part == "train":
        clips = training(config, dataset, flags.clips, flags.step)
        which, note = f"training clips from step {flags.step}, seed {config.seed}", _augmentation(config)
    else:
        clips = testing(config, dataset, flags.clips)
        which, note = f"{config.eval.part} clips, the middle view of each video", f"Views: {config.eval.views}."
    spec = from_config(config, dataset.channels, dataset.flow)
    title = f"{flags.config}: {which}; {dataset.full_name}, split {config.dataset.split}"
    sheets.save(sheets.draw(clips, spec, title, note, flags.columns), flags.out)
    print(f"{flags.out}: {len(clips)} clip{'s' if len(clips) > 1 else ''}")


def _augmentation(config: Any) -> str:
    """Describes the augmentation in one line."""
    options = config.augment
    crop = {"multi_scale": f" ({', '.join(f'{scale:.2g}' for scale in options.scales)})"}.get(options.crop, "")
    strengths = {name: value for name, value in options.items() if isinstance(value, float)} | dict(options.extra)
    also = [f"{name} {value:g}" for name, value in strengths.items() if value]
    return "; ".join([f"Crop {options.crop}{crop}", *also]) + "."


if __name__ == "__main__":
    run_command(main)
