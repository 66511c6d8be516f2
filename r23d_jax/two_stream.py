"""Fuses the scores of an RGB and an optical-flow network that were trained separately.

    python -m r23d_jax.two_stream RGB FLOW --out DIR [--weights 1,1] [--which best|last] [--data_dir DATA]

RGB and FLOW are each a workdir, a checkpoint folder or a predictions.npz. Checkpoints without predictions are
evaluated first, into DIR/rgb and DIR/flow. If both are workdirs of dataset.split=all, every split is fused. A config
with `streams` trains both networks and fuses them in the same way.
"""

import argparse
import sys
from pathlib import Path

from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.runtime.signals import EXIT_STATUS, Interrupted, exit_on_signal


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="python -m r23d_jax.two_stream", description="Fuses the predictions of an RGB and a flow network."
    )
    parser.add_argument("rgb", type=Path, help="workdir, checkpoint folder or predictions.npz of the RGB network")
    parser.add_argument("flow", type=Path, help="the same for the optical-flow network")
    parser.add_argument("--out", type=Path, required=True, help="folder for results, predictions and report")
    parser.add_argument("--weights", default="1,1", help="of RGB and flow (default: 1,1)")
    parser.add_argument("--which", choices=("best", "last"), help="checkpoint of a workdir; default: as evaluated")
    parser.add_argument("--data_dir", help="folder of the data sets, if a checkpoint has to be evaluated")
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
    flags = parse(sys.argv[1:])
    for source in (flags.rgb, flags.flow):
        if not source.exists():
            raise UserError(f"{source}: no such file or folder")
        if flags.out.resolve() == (source if source.is_dir() else source.parent).resolve():
            raise UserError(f"--out {flags.out}: holds {source}; name another folder")
    if flags.out.is_file() or (flags.out / "checkpoints").exists():
        raise UserError(f"--out {flags.out}: a file, or a run's workdir; name another folder")
    from r23d_jax.experiments.two_stream import fuse_folders  # these import JAX
    from r23d_jax.runtime.compile import enable_cache

    enable_cache()
    try:
        with exit_on_signal():
            results = fuse_folders(flags.rgb, flags.flow, flags.out, flags.weights, flags.which, flags.data_dir)
    except Interrupted as interrupted:
        print(f"interrupted: {interrupted}", file=sys.stderr)
        return EXIT_STATUS
    alone = ", ".join(f"{stream['stream']} alone {stream['top1']:.4f}" for stream in results["streams"])
    print(
        f"top1 {results['top1']:.4f} ({alone}), of mean logits {results['top1_logit_mean']:.4f}, "
        f"{results['videos_evaluated']}/{results['videos_expected']} videos; {results['protocol']}"
    )
    print(flags.out / "results.json")
    return 0


if __name__ == "__main__":
    run_command(main)
