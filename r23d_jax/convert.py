"""Imports and exports weights:

    python -m r23d_jax.convert SOURCE DEST [--arch NAME] [--labels FILE]

SOURCE is a `.pth`, `.pt`, `.safetensors`, a Caffe2 `.pkl`, a TensorFlow checkpoint (prefix or folder), or the
name of published weights (`--list`), and DEST a new checkpoint folder; or SOURCE is a checkpoint folder or
workdir of ours, and DEST a `.pth` or `.safetensors` for PyTorch.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.weights import checkpoint, exporting, importing, registry
from r23d_jax.weights.loading import is_ours, load, load_flat

__all__ = ["load", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="python -m r23d_jax.convert",
        description="Converts weights, to our checkpoints and back to PyTorch.",
    )
    parser.add_argument(
        "source",
        nargs="?",
        help="weights file, TensorFlow prefix or folder, published name; or a checkpoint folder or workdir of ours",
    )
    parser.add_argument("dest", nargs="?", help="new checkpoint folder; or .pth or .safetensors from one of ours")
    parser.add_argument(
        "--arch", help="network (default: recognised); another than the source's means transplanting or inflating"
    )
    parser.add_argument("--labels", metavar="FILE", help="class names, one per line in the order of the logits")
    parser.add_argument("--in-channels", type=int, metavar="N", help="2 to start an optical-flow network from RGB")
    parser.add_argument("--key", metavar="NAME", help="which state dict of a PyTorch file with several: model_ema, say")
    parser.add_argument("--which", choices=("best", "last"), default="best", help="checkpoint of a workdir")
    parser.add_argument("--list", action="store_true", help="list the published weights and stop")
    parser.add_argument("--debug", action="store_true", help="show a traceback on errors")
    args = parser.parse_args(argv)
    if args.list:
        print("\n".join(_listing()))
        return 0
    if args.dest is None:
        parser.error("SOURCE and DEST are needed (or --list)")
    notes = _export(args) if is_ours(args.source) else _import(args)
    print("\n".join(notes))
    return 0


def _import(args: argparse.Namespace) -> list[str]:
    dest = Path(args.dest)
    if dest.suffix in exporting.ENDINGS:
        raise UserError(f"{dest}: {args.source} is not a checkpoint of ours: convert it to a folder first, then back")
    if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise UserError(f"{dest}: exists already; name a folder that does not, or remove it first")
    names = importing.read_labels(args.labels) if args.labels else None
    imported = importing.convert(args.source, args.arch, names, args.in_channels, args.key)
    checkpoint.save_weights(dest, imported.values, imported.card)
    return [*imported.notes, f"wrote {dest}: {imported.card.arch}, {imported.card.init}"]


def _export(args: argparse.Namespace) -> list[str]:
    if Path(args.dest).suffix not in exporting.ENDINGS:
        endings = " or ".join(exporting.ENDINGS)
        raise UserError(
            f"{args.dest}: {args.source} is a checkpoint of ours already; name a file that ends in {endings}"
        )
    values, card = load_flat(args.source, args.arch, args.labels, in_channels=args.in_channels, which=args.which)
    state, notes = exporting.to_state_dict(values, card)
    exporting.write(state, Path(args.dest))
    return [*notes, f"wrote {args.dest}"]


def _listing() -> list[str]:
    lines = []
    for published in registry.published().values():
        scores = ", ".join(f"{score['metric']} {score['value']:g}" for score in published.scores)
        lines.append(f"{published.name:46} {published.arch:20} {published.pretrained}{'; ' if scores else ''}{scores}")
    return lines


if __name__ == "__main__":
    run_command(main)
