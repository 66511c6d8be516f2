"""Trains a series of networks with one recipe and several seeds, and writes a table and a plot.

    python -m r23d_jax.study --config configs/study.py --workdir runs/study [--arch a,b] [--seeds 3]

A network with two names is trained once. Every network and seed is a separate run in WORKDIR/<network>/seed<k>; the
same command resumes after an interruption.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from r23d_jax import config as configs
from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.experiments.study import networks, run


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and the `key=value` overrides of the config."""
    parser = Parser(prog="python -m r23d_jax.study", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--config", default="study", help="a config file, or a name of configs/ (default: study)")
    parser.add_argument("--workdir", required=True, type=Path, help="folder of the study; an existing one is resumed")
    parser.add_argument("--arch", default="", help="networks, with commas between (default: the ladder)")
    parser.add_argument("--depth", type=int, default=18, help="layers of the ladder's networks: 18, 34 or 50")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each network: seeds from config.seed on")
    parser.add_argument("--debug", action="store_true", help="show tracebacks; the first failing run ends the study")
    arguments, overrides = configs.split_overrides(argv)
    flags = parser.parse_args(arguments)
    if flags.seeds < 1:
        raise UserError(f"--seeds {flags.seeds}: must be at least 1")
    return flags, overrides


def main() -> int:
    flags, overrides = parse(sys.argv[1:])
    config = configs.load(flags.config, overrides)
    if flags.workdir.exists() and not flags.workdir.is_dir():
        raise UserError(f"--workdir {flags.workdir}: is a file")
    archs = networks(flags.arch, flags.depth)

    from r23d_jax.runtime.compile import enable_cache
    from r23d_jax.runtime.signals import EXIT_STATUS, Interrupted, exit_on_signal

    enable_cache()
    try:
        with exit_on_signal():  # outside the training loops, which handle signals themselves
            study = run(config, flags.workdir, archs, flags.seeds, flags.debug)
    except Interrupted as interrupted:
        print(f"interrupted: {interrupted}", file=sys.stderr)
        return EXIT_STATUS
    print(flags.workdir / "study.md")
    return 1 if any("failed" in cell for row in study["rows"] for cell in row["seeds"].values()) else 0


if __name__ == "__main__":
    run_command(main)
