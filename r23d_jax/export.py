"""`python -m r23d_jax.export --checkpoint DIR --out DEST [--format stablehlo|savedmodel] [--platforms cpu,cuda,tpu]`

Exports a checkpoint's network with its weights for use without this package: as StableHLO, for JAX and every XLA
runtime, or as a TensorFlow SavedModel. Batches may have any size. With --with-preprocessing the export takes decoded
uint8 frames, and resizes, crops and normalises them. The export is loaded again and compared with the network on a
video's clips or on random ones; if the logits differ, it is removed.
"""

import argparse
import re
import shutil
from pathlib import Path

from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.runtime.console import add_checkpoint
from r23d_jax.serving.export import (
    FORMATS,
    TOLERANCE,
    compare,
    describe,
    sentence,
    write_savedmodel,
    write_stablehlo,
)


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    command = Parser(prog="python -m r23d_jax.export", description=__doc__.split("\n\n")[1])
    add_checkpoint(command)
    command.add_argument("--out", required=True, type=Path, metavar="DEST", help="a folder that does not exist yet")
    command.add_argument("--format", choices=FORMATS, default="stablehlo", help="savedmodel needs TensorFlow")
    command.add_argument("--platforms", default="cpu,cuda,tpu", metavar="LIST", help="some of cpu, cuda, rocm and tpu")
    command.add_argument("--with-preprocessing", action="store_true", help="take decoded uint8 frames")
    command.add_argument("--size", metavar="HxW", help="of the frames, if the checkpoint has no size")
    command.add_argument("--frames", type=int, default=0, metavar="N", help="of a clip, if the checkpoint has none")
    command.add_argument("--dtype", choices=tuple(TOLERANCE), default="float32", help="to compute in")
    command.add_argument("--check", metavar="VIDEO", help="compare on its clips (default: on random ones)")
    command.add_argument(
        "--tolerance",
        type=float,
        metavar="X",
        help="largest difference, as a share of the largest logit (default 0.001, bfloat16 0.05, float16 0.01)",
    )
    command.add_argument("--debug", action="store_true", help="show tracebacks")
    return command


def main() -> None:
    flags = parser().parse_args()
    platforms, size = _platforms(flags.platforms), _size(flags.size)
    if flags.out.exists() and (not flags.out.is_dir() or any(flags.out.iterdir())):
        raise UserError(f"--out {flags.out}: exists already; name a folder that does not, or remove it first")
    if flags.frames < 0:
        raise UserError(f"--frames {flags.frames}: must be at least 1")
    from r23d_jax.serving import portable, savedmodel  # here, so that --help does not import JAX
    from r23d_jax.weights import loading

    if flags.format == "savedmodel":
        savedmodel.require_tensorflow()
    weights, card = loading.load_flat(flags.checkpoint, which=flags.which)
    options = {"dtype": flags.dtype, "frames": flags.frames, "size": size}
    made = portable.make(weights, card, platforms, preprocessing=flags.with_preprocessing, **options)
    clips = portable.comparison_clips(made, flags.check)
    tolerance = TOLERANCE[flags.dtype] if flags.tolerance is None else flags.tolerance
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = flags.out.with_name(f".{flags.out.name}.writing")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        run = write_savedmodel(made, temporary) if flags.format == "savedmodel" else write_stablehlo(made, temporary)
        compared = compare(made, clips, flags.check, flags.dtype, *run)
        if compared and not compared.share <= tolerance:
            raise UserError(
                f"the export's logits differ from the network's by {compared.difference:.3g}, {compared.share:.2g} of "
                f"the largest (allowed: --tolerance {tolerance:g}); {flags.out} was not written"
            )
        describe(made, flags.format, flags.dtype, compared, temporary)
        if flags.out.exists():
            flags.out.rmdir()
        temporary.rename(flags.out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    size_of = sum(path.stat().st_size for path in flags.out.rglob("*") if path.is_file())
    print(f"{flags.out}: {flags.format} for {', '.join(platforms)}, {size_of / 1e6:.1f} MB")
    print(sentence(compared, platforms))


def _platforms(text: str) -> tuple[str, ...]:
    from r23d_jax.serving.portable import PLATFORMS

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in PLATFORMS]
    if unknown or not names:
        raise UserError(f"--platforms {text}: must be some of {', '.join(PLATFORMS)}, with commas between them")
    return names


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text)
    if match is None:
        raise UserError(f"--size {text}: must be height and width, for example 128x171")
    return int(match[1]), int(match[2])


if __name__ == "__main__":
    run_command(main)
