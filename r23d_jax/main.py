"""`python -m r23d_jax.main --config configs/r23d.py --workdir DIR [--mode train|eval] [--config.key=value ...]`"""

import argparse
import contextlib
import os
import sys
from pathlib import Path

from r23d_jax import config as configs
from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.runtime import hosts, launch
from r23d_jax.runtime.signals import EXIT_STATUS, Interrupted, exit_on_signal


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and the `key=value` overrides of the config."""
    parser = Parser(prog="python -m r23d_jax.main", description=__doc__.strip("`"))
    parser.add_argument("--config", required=True, help="a config file, or the name of one of configs/")
    parser.add_argument("--workdir", required=True, type=Path, help="folder of the run; an existing run is resumed")
    parser.add_argument("--mode", choices=("train", "eval"), default="train")
    parser.add_argument(
        "--which",
        choices=("best", "last", "init"),
        default="last",
        help="what to evaluate: a checkpoint, or the weights of config.init_from",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    launch.add_flags(parser)
    rest, overrides = configs.split_overrides(argv)
    return parser.parse_args(rest), overrides


def main() -> int:
    flags, overrides = parse(sys.argv[1:])
    # While one of several waits for the others in JAX no handler of ours has its turn: until then a signal ends it.
    alone = launch.place(flags, os.environ) is None
    try:
        with exit_on_signal() if alone else contextlib.nullcontext():
            return _main(flags, overrides)
    except Interrupted as interrupted:
        print(f"interrupted: {interrupted}", file=sys.stderr)
        return EXIT_STATUS


def _main(flags: argparse.Namespace, overrides: list[str]) -> int:
    config = configs.load(flags.config, overrides)
    jobs = configs.jobs(config, overrides)
    if flags.workdir.exists() and not flags.workdir.is_dir():
        raise UserError(f"--workdir {flags.workdir}: is a file")

    from r23d_jax.experiments.run import run  # here, because these import JAX
    from r23d_jax.runtime.compile import enable_cache

    enable_cache()
    with hosts.joined(flags), exit_on_signal():
        results = run(jobs, flags.workdir, flags.mode, flags.which)
    if not hosts.is_primary():
        return 0
    print(
        f"top1 {results['top1']:.4f}, mean class {results['mean_class']:.4f}, "
        f"{results['videos_evaluated']}/{results['videos_expected']} videos; {results['protocol']}"
    )
    print(flags.workdir / "results.json")
    return 0


if __name__ == "__main__":
    run_command(main)
