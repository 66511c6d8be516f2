"""`python -m r23d_jax.export --checkpoint DIR --out DEST [--format stablehlo|savedmodel] [--platforms cpu,cuda,tpu]`

Writes a checkpoint's network, weights included, for use without this package: as StableHLO, which JAX and every XLA
runtime take, or as a TensorFlow SavedModel. A batch may have any size. With --with-preprocessing it takes decoded
uint8 frames, and resizes, crops and normalises them itself. What was written is loaded again and compared with the
network, on a video's clips or on random ones; if the logits differ, it is removed.
"""

import argparse
import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from r23d_jax.errors import Parser, UserError, run_command

FORMATS = ("stablehlo", "savedmodel")
PROGRAM = "model.stablehlo"
# Of the largest logit: sums come in another order, and TensorFlow's XLA is of another version than JAX's.
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = Parser(prog="python -m r23d_jax.export", description=__doc__.split("\n\n")[1])
    command.add_argument("--checkpoint", required=True, metavar="DIR", help="a workdir or a checkpoint folder")
    command.add_argument("--which", choices=("best", "last"), default="best", help="checkpoint of a workdir")
    command.add_argument("--out", required=True, type=Path, metavar="DEST", help="a folder that does not exist yet")
    command.add_argument("--format", choices=FORMATS, default="stablehlo", help="savedmodel needs TensorFlow")
    command.add_argument("--platforms", default="cpu,cuda,tpu", metavar="LIST", help="some of cpu, cuda, rocm and tpu")
    command.add_argument("--with-preprocessing", action="store_true", help="take decoded uint8 frames")
    command.add_argument("--size", metavar="HxW", help="of the frames, where the checkpoint leaves that open")
    command.add_argument("--frames", type=int, default=0, metavar="N", help="in a clip, where it takes whole videos")
    command.add_argument("--dtype", choices=tuple(TOLERANCE), default="float32", help="to compute in")
    command.add_argument("--check", metavar="VIDEO", help="compare on its clips; without, on random ones")
    command.add_argument(
        "--tolerance", type=float, metavar="X",
        help="largest difference, as a share of the largest logit (default 0.001, for bfloat16 0.05)",
    )  # fmt: skip
    command.add_argument("--debug", action="store_true", help="show tracebacks")
    return command


@dataclasses.dataclass(frozen=True)
class Comparison:
    """An export against the network.

    Attributes:
      platform: that both ran on.
      clips: what they were fed, in words.
      difference: the largest between two logits.
      largest: the network's largest logit, in absolute value.
    """

    platform: str
    clips: str
    difference: float
    largest: float

    @property
    def share(self) -> float:
        """The difference as a share of the largest logit."""
        return self.difference / self.largest if self.largest else float(self.difference > 0)


def main() -> None:
    flags = parser().parse_args()
    platforms, size = _platforms(flags.platforms), _size(flags.size)
    if flags.out.exists() and (not flags.out.is_dir() or any(flags.out.iterdir())):
        raise UserError(f"--out {flags.out}: exists already; name a folder that does not, or remove it first")
    if flags.frames < 0:
        raise UserError(f"--frames {flags.frames}: must be at least 1")
    from r23d_jax import inference, portable, savedmodel  # these import JAX, which --help does not need

    if flags.format == "savedmodel":
        savedmodel.require_tensorflow()
    weights, card = inference.open_checkpoint(flags.checkpoint, flags.which)
    options = {"dtype": flags.dtype, "frames": flags.frames, "size": size}
    made = portable.make(weights, card, platforms, preprocessing=flags.with_preprocessing, **options)
    clips = portable.check_clips(made, flags.check)
    tolerance = TOLERANCE[flags.dtype] if flags.tolerance is None else flags.tolerance
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = flags.out.with_name(f".{flags.out.name}.writing")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        run = _write_savedmodel(made, temporary) if flags.format == "savedmodel" else _write_stablehlo(made, temporary)
        compared = compare(made, clips, flags.check, flags.dtype, *run)
        if compared and not compared.share <= tolerance:
            raise UserError(
                f"the export's logits differ from the network's by {compared.difference:.3g}, {compared.share:.2g} of "
                f"the largest (allowed: --tolerance {tolerance:g}); {flags.out} was not written"
            )
        _describe(made, flags, compared, temporary)
        if flags.out.exists():
            flags.out.rmdir()
        temporary.rename(flags.out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    size_of = sum(path.stat().st_size for path in flags.out.rglob("*") if path.is_file())
    print(f"{flags.out}: {flags.format} for {', '.join(platforms)}, {size_of / 1e6:.1f} MB")
    print(_sentence(compared, platforms))


def compare(
    made: Any, clips: np.ndarray, video: str | None, dtype: str, platform: str | None, run: Callable
) -> Comparison | None:
    """Runs the network and its export on the same clips, all at once and the first alone.

    Args:
      made: the `Portable`.
      clips: uint8 [N, T, H, W, C].
      video: that they are of, None for random ones.
      dtype: computed in.
      platform: to compare on; None where this machine has none of the export's.
      run: from a list of batches to a list of logits.

    Returns:
      What was found, or None without a platform.
    """
    if platform is None:
        return None
    import jax

    from r23d_jax import inference
    from r23d_jax.models import convolution

    with jax.default_device(jax.devices(platform)[0]), convolution.trace_for(platform):
        network = inference.Network(made.weights, made.card, dtype)
        size = np.broadcast_to(np.asarray(clips.shape[2:4], np.int32), (len(clips), 2))
        video_of = np.asarray(network.prepare(clips, size))
        expected = np.asarray(network.logits()(video_of))
        inputs = clips if made.name == "frames" else video_of.astype(np.float32)
        every, first = run([inputs, inputs[:1]])
    difference = max(np.abs(every - expected).max(), np.abs(first - expected[:1]).max())
    what = "random clips" if video is None else f"clips of {video}"
    return Comparison(platform, f"{len(clips)} {what}", float(difference), float(np.abs(expected).max()))


def _write_stablehlo(made: Any, folder: Path) -> tuple[str | None, Callable]:
    """Writes the program; gives the platform it can be tried on here, and how it runs once it is read back."""
    from jax import export

    path = folder / PROGRAM
    path.write_bytes(made.stablehlo().serialize())

    def run(batches):
        exported = export.deserialize(bytearray(path.read_bytes()))
        return [np.asarray(exported.call(batch)) for batch in batches]

    here = export.default_export_platform()
    return (here if here in made.platforms else "cpu" if "cpu" in made.platforms else None), run


def _write_savedmodel(made: Any, folder: Path) -> tuple[str | None, Callable]:
    """The same; TensorFlow is tried on the CPU."""
    from r23d_jax import savedmodel

    savedmodel.write(made, folder)
    return ("cpu" if "cpu" in made.platforms else None), lambda batches: savedmodel.run(folder, batches)


def _describe(made: Any, flags: argparse.Namespace, compared: Comparison | None, folder: Path) -> None:
    """Writes the card, the facts of the export, and a page for people."""
    import jax

    import r23d_jax
    from r23d_jax import export_page
    from r23d_jax.files import write_json, write_text
    from r23d_jax.weights.card import FILE_NAME

    facts = {
        "format": flags.format,
        "platforms": list(made.platforms),
        "input": {"name": made.name, "dtype": made.dtype, "shape": ["batch", *made.shape], "axes": "NTHWC"},
        "output": {"name": "logits", "dtype": "float32", "shape": ["batch", made.card.model["num_classes"]]},
        "preprocessing_included": made.name == "frames",
        "computed_in": flags.dtype,
        "compared": dataclasses.asdict(compared) if compared else None,
        "versions": {"r23d_jax": r23d_jax.__version__, "jax": jax.__version__},
    }
    write_json(folder / FILE_NAME, made.card.to_dict())
    write_json(folder / "export.json", facts)
    write_text(folder / "README.md", export_page.page(made.card, facts, _sentence(compared, made.platforms)))


def _sentence(compared: Comparison | None, platforms: tuple[str, ...]) -> str:
    if compared is None:
        return f"not compared with the network: this machine runs none of {', '.join(platforms)}"
    others = [platform for platform in platforms if platform != compared.platform]
    rest = f"; {', '.join(others)} not run here" if others else ""
    return (
        f"read back and compared with the network on {compared.clips}, {compared.platform}: logits differ by "
        f"{compared.difference:.2g} at most, {compared.share:.1g} of the largest ({compared.largest:.3g}){rest}"
    )


def _platforms(text: str) -> tuple[str, ...]:
    from r23d_jax.portable import PLATFORMS

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
