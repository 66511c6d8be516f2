"""Imports and exports weights:

    python -m r23d_jax.convert SOURCE DEST [--arch NAME] [--labels FILE]

SOURCE is a `.pth`, `.pt`, `.safetensors`, a Caffe2 `.pkl`, a TensorFlow checkpoint (prefix or folder), the name of
published weights (`--list`), `hf://OWNER/REPO[/FILE][@REVISION]` or an https address, and DEST a new checkpoint folder;
or SOURCE is a checkpoint folder or workdir of ours, and DEST a `.pth` or `.safetensors` for PyTorch.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.weights import checkpoint, exporting, importing, presets, repository, sources
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
        help="published name, weights file, TensorFlow prefix or folder, hf://OWNER/REPO[/FILE][@REVISION], https "
        "address; or a checkpoint folder or workdir of ours",
    )
    parser.add_argument("dest", nargs="?", help="new checkpoint folder; or .pth or .safetensors from one of ours")
    parser.add_argument(
        "--arch", help="network (default: recognised); another than the source's means transplanting or inflating"
    )
    parser.add_argument("--labels", metavar="FILE", help="class names, one per line in the order of the logits")
    parser.add_argument(
        "--preprocessing",
        metavar="NAME|FILE",
        help=f"of a file that does not say it: {', '.join(presets.PRESETS)}; or some of a card's fields as .json",
    )
    parser.add_argument("--in-channels", type=int, metavar="N", help="2 to start an optical-flow network from RGB")
    parser.add_argument("--key", metavar="NAME", help="which state dict of a PyTorch file with several: model_ema, say")
    parser.add_argument("--which", choices=("best", "last"), default="best", help="checkpoint of a workdir")
    parser.add_argument("--list", action="store_true", help="list the published weights and stop")
    parser.add_argument("--debug", action="store_true", help="show a traceback on errors")
    args = parser.parse_args(argv)
    if args.list:
        from r23d_jax.weights.__main__ import listing

        print("\n".join(listing()))
        return 0
    if args.dest is None:
        parser.error("SOURCE and DEST are needed (or --list)")
    print("\n".join(_export(args) if Path(args.dest).suffix in exporting.ENDINGS else _import(args)))
    return 0


def _import(args: argparse.Namespace) -> list[str]:
    dest = Path(args.dest)
    if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise UserError(f"{dest}: exists already; name a folder that does not, or remove it first")
    names = importing.read_labels(args.labels) if args.labels else None
    preset = presets.read(args.preprocessing) if args.preprocessing else None
    located = sources.locate(args.source)
    if is_ours(located.path):
        endings = " or ".join(exporting.ENDINGS)
        raise UserError(f"{dest}: {args.source} is a checkpoint of ours already; name a file that ends in {endings}")
    if repository.is_repository(located.path):
        if preset:
            raise UserError(f"--preprocessing {preset.name}: {args.source} has a card, which says it; leave it out")
        values, card = load_flat(located, args.arch, args.labels, in_channels=args.in_channels)
        checkpoint.save_weights(dest, values, card)
        return [f"wrote {dest}: {card.arch}, {card.init}"]
    imported = importing.convert(located, args.arch, names, args.in_channels, args.key, preset)
    checkpoint.save_weights(dest, imported.values, imported.card)
    return [*imported.notes, f"wrote {dest}: {imported.card.arch}, {imported.card.init}"]


def _export(args: argparse.Namespace) -> list[str]:
    if args.preprocessing:
        raise UserError(f"--preprocessing {args.preprocessing}: goes with a file of another project; leave it out")
    located = sources.locate(args.source)
    if not is_ours(located.path) and not repository.is_repository(located.path):
        raise UserError(
            f"{args.dest}: {args.source} is not a checkpoint of ours: convert it to a folder first, then back"
        )
    values, card = load_flat(located, args.arch, args.labels, in_channels=args.in_channels, which=args.which)
    state, notes = exporting.to_state_dict(values, card)
    exporting.write(state, Path(args.dest))
    return [*notes, f"wrote {args.dest}"]


if __name__ == "__main__":
    run_command(main)
