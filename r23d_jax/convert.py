"""Weights in and out:

    python -m r23d_jax.convert SOURCE DEST [--arch NAME] [--labels FILE]

SOURCE is a `.pth`, `.pt`, `.safetensors`, a Caffe2 `.pkl`, a TensorFlow checkpoint (prefix or folder), or the
name of published weights (`--list`), and DEST a new checkpoint folder; or SOURCE is a checkpoint folder or
workdir of ours, and DEST a `.pth` or `.safetensors` for PyTorch.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from flax import nnx

from r23d_jax import checkpoint, models
from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.weights import architecture, exporting, importing, registry
from r23d_jax.weights.card import FILE_NAME, Card


def load(
    source: str | Path,
    arch: str | None = None,
    labels: str | Path | Sequence[str] | None = None,
    *,
    in_channels: int | None = None,
    which: str = "best",
) -> tuple[nnx.Module, Card]:
    """A network with the weights of a file, a published name or a checkpoint of ours, in evaluation mode.

    Args:
      source: a weights file, TensorFlow prefix or folder, published name, checkpoint folder, or workdir.
      arch: a name of `models.NAMES`, where it is not to be recognised; see `importing.convert`.
      labels: class names in the order of the logits, or a file with one a line.
      in_channels: another number of input channels than the source's 3.
      which: "best" or "last", of a workdir.

    Returns:
      The network, and its card.

    Raises:
      UserError: with everything that does not fit.
    """
    values, card = load_flat(source, arch, labels, in_channels=in_channels, which=which)
    return build(card, values), card


def load_flat(
    source: str | Path,
    arch: str | None = None,
    labels: str | Path | Sequence[str] | None = None,
    *,
    in_channels: int | None = None,
    which: str = "best",
) -> tuple[dict[str, np.ndarray], Card]:
    """As `load`, but the values by path instead of a network."""
    names = importing.read_labels(labels) if isinstance(labels, str | Path) else labels
    if not is_ours(source):
        imported = importing.convert(source, arch, names, in_channels)
        return imported.values, imported.card
    folder = checkpoint.find(source, which)
    values, card = checkpoint.load_weights(folder)
    if arch is not None and models.canonical(arch) != models.canonical(card.arch):
        raise UserError(f"{source}: a checkpoint of {card.arch}, not of {arch}")
    if names is not None and tuple(names) != card.labels:
        raise UserError(
            f"{source}: a checkpoint with its own {len(card.labels)} labels; leave out the others"
        )
    if in_channels not in (None, card.model["in_channels"]):
        raise UserError(
            f"{source}: a checkpoint for {card.model['in_channels']} input channels, not {in_channels}"
        )
    return values, card


def build(card: Card, values: Mapping[str, np.ndarray]) -> nnx.Module:
    """The network a card describes, with these values, in evaluation mode."""
    model = nnx.eval_shape(lambda: models.from_card(card))
    architecture.check(card.arch, model, values)
    return architecture.fill(model, values)


def is_ours(source: str | Path) -> bool:
    """Whether a path is a checkpoint folder or a workdir of this project."""
    path = Path(source)
    return path.is_dir() and ((path / FILE_NAME).is_file() or (path / "checkpoints").is_dir())



def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(
        prog="python -m r23d_jax.convert",
        description="Converts weights, to our checkpoints and back to PyTorch.",
    )
    parser.add_argument("source", nargs="?", help="weights file, TensorFlow prefix or folder, published name; "
                        "or a checkpoint folder or workdir of ours")  # fmt: skip
    parser.add_argument(
        "dest", nargs="?", help="new checkpoint folder; or .pth or .safetensors from one of ours"
    )
    parser.add_argument("--arch", help="network, where it is not to be recognised; another than the source's: "
                        "transplant or inflate")  # fmt: skip
    parser.add_argument("--labels", metavar="FILE", help="class names, one a line in the order of the logits")
    parser.add_argument(
        "--in-channels", type=int, metavar="N", help="2 to start an optical-flow network from RGB"
    )
    parser.add_argument("--which", choices=("best", "last"), default="best", help="checkpoint of a workdir")
    parser.add_argument("--list", action="store_true", help="list the published weights and stop")
    parser.add_argument("--debug", action="store_true", help="show a traceback on errors")
    args = parser.parse_args(argv)
    if args.list:
        print("\n".join(_listing()))
        return 0
    if args.dest is None:
        parser.error("SOURCE and DEST are needed (or --list)")
    notes = _out(args) if is_ours(args.source) else _in(args)
    print("\n".join(notes))
    return 0


def _in(args: argparse.Namespace) -> list[str]:
    dest = Path(args.dest)
    if dest.suffix in exporting.ENDINGS:
        raise UserError(
            f"{dest}: {args.source} is not a checkpoint of ours: convert it to a folder first, then back"
        )
    if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise UserError(f"{dest}: exists already; name a folder that does not, or remove it first")
    names = importing.read_labels(args.labels) if args.labels else None
    imported = importing.convert(args.source, args.arch, names, args.in_channels)
    checkpoint.save_weights(dest, imported.values, imported.card)
    return [*imported.notes, f"wrote {dest}: {imported.card.arch}, {imported.card.init}"]


def _out(args: argparse.Namespace) -> list[str]:
    if Path(args.dest).suffix not in exporting.ENDINGS:
        endings = " or ".join(exporting.ENDINGS)
        raise UserError(
            f"{args.dest}: {args.source} is a checkpoint of ours already; name a file that ends in {endings}"
        )
    values, card = load_flat(
        args.source, args.arch, args.labels, in_channels=args.in_channels, which=args.which
    )
    state, notes = exporting.to_state_dict(values, card)
    exporting.write(state, Path(args.dest))
    return [*notes, f"wrote {args.dest}"]


def _listing() -> list[str]:
    lines = []
    for published in registry.REGISTRY.values():
        scores = ", ".join(f"{score['metric']} {score['value']:g}" for score in published.scores)
        lines.append(
            f"{published.name:46} {published.arch:20} {published.pretrained}{'; ' if scores else ''}{scores}"
        )
    return lines


if __name__ == "__main__":
    run_command(main)
