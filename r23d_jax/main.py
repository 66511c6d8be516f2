"""`python -m r23d_jax.main --config configs/r23d.py --workdir DIR [--mode train|eval] [--config.key=value ...]`"""

import argparse
import contextlib
import os
import sys
from pathlib import Path

from r23d_jax import config as configs
from r23d_jax import distributed, launch
from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.interrupt import EXIT_STATUS, Interrupted, at_once


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags, and the `key=value` overrides."""
    parser = Parser(prog="python -m r23d_jax.main", description=__doc__.strip("`"))
    parser.add_argument("--config", required=True, help="a config file, or the name of one of configs/")
    parser.add_argument("--workdir", required=True, type=Path, help="where the run lives; the same one resumes")
    parser.add_argument("--mode", choices=("train", "eval"), default="train")
    parser.add_argument("--which", choices=("best", "last", "init"), default="last", help="what to evaluate: a "
                        "checkpoint, or the weights of config.init_from")  # fmt: skip
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    launch.add_flags(parser)
    rest, overrides = configs.split_overrides(argv)
    return parser.parse_args(rest), overrides


def main() -> int:
    flags, overrides = parse(sys.argv[1:])
    # One of several cannot tell the others before it has joined them: until then a signal ends it, and they miss it.
    alone = launch.place(flags, os.environ) is None
    try:
        with at_once() if alone else contextlib.nullcontext():
            return _main(flags, overrides)
    except Interrupted as interrupted:
        print(f"interrupted: {interrupted}", file=sys.stderr)
        return EXIT_STATUS


def _main(flags: argparse.Namespace, overrides: list[str]) -> int:
    config = configs.load(flags.config, overrides)
    jobs = configs.load_streams(config, overrides) if config.streams else {"one": config}
    if flags.workdir.exists() and not flags.workdir.is_dir():
        raise UserError(f"--workdir {flags.workdir}: is a file")

    from r23d_jax import compile_cache  # after the flags: it imports JAX

    compile_cache.enable()
    with distributed.joined(flags), at_once():
        run = _run if config.dataset.split != "all" else _run_all
        results = run(jobs, flags, flags.workdir)
    if not distributed.first():
        return 0
    print(
        f"top1 {results['top1']:.4f}, mean class {results['mean_class']:.4f}, "
        f"{results['videos_evaluated']}/{results['videos_expected']} videos; {results['protocol']}"
    )
    print(flags.workdir / "results.json")
    return 0


def _run(jobs, flags, workdir: Path) -> dict:
    """One network, or two and what they say together."""
    from r23d_jax import score, train

    def one(config, workdir):
        if flags.mode == "eval":
            return score.evaluate_only(config, workdir, flags.which)
        return train.train_and_evaluate(config, workdir)

    if len(jobs) == 1:
        return one(jobs["one"], workdir)
    from r23d_jax import two_stream

    return two_stream.run(jobs, workdir, one, again=flags.mode == "eval")


def _run_all(jobs, flags, workdir: Path) -> dict:
    """The three splits one after another, and their mean and spread."""
    from r23d_jax import splits
    from r23d_jax.data import records

    if (workdir / "checkpoints").exists():
        raise UserError(f"{workdir}: holds a run on one split; use a new workdir for dataset.split=all")
    for config in jobs.values():  # before the first of three long runs
        dataset = records.VideoDataset.open(config.dataset.data_dir, config.dataset.name)
        for split in splits.NAMES:
            dataset.subset(split, "train"), dataset.subset(split, "test")
    parts = []
    for split in splits.NAMES:
        copies = {name: config.copy_and_resolve_references() for name, config in jobs.items()}
        for config in copies.values():
            config.dataset.split = split
        parts.append(_run(copies, flags, splits.folder(workdir, split)))
    return splits.write(workdir, parts)


if __name__ == "__main__":
    run_command(main)
