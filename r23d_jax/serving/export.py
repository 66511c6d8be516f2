"""Writes an export, reads it back, and compares it with the network."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FORMATS = ("stablehlo", "savedmodel")


PROGRAM = "model.stablehlo"


# Relative to the largest logit: sums have another order, and TensorFlow and JAX have different versions of XLA.
TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 1e-2}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A comparison of an export with the network.

    Attributes:
      platform: that both ran on.
      clips: describes the input.
      difference: largest absolute difference of logits.
      largest: largest absolute logit of the network.
    """

    platform: str
    clips: str
    difference: float
    largest: float

    @property
    def share(self) -> float:
        """The difference relative to the largest logit."""
        return self.difference / self.largest if self.largest else float(self.difference > 0)


def compare(
    made: Any, clips: np.ndarray, video: str | None, dtype: str, platform: str | None, run: Callable
) -> Comparison | None:
    """Runs the network and its export on the same clips, all at once and the first alone.

    Args:
      made: the `Portable`.
      clips: uint8 [N, T, H, W, C].
      video: the video of the clips, None for random ones.
      dtype: the network computes in.
      platform: to compare on; None if this machine has none of the export's.
      run: runs the export: list of batches -> list of logits.

    Returns:
      The comparison, or None without a platform.
    """
    if platform is None:
        return None
    import jax

    from r23d_jax.inference import classifier
    from r23d_jax.models.ops import hardware

    with jax.default_device(jax.devices(platform)[0]), hardware.trace_for(platform):
        network = classifier.Classifier(made.weights, made.card, dtype)
        size = np.broadcast_to(np.asarray(clips.shape[2:4], np.int32), (len(clips), 2))
        video_of = np.asarray(network.prepare(clips, size))
        expected = np.asarray(network(video_of))
        inputs = clips if made.name == "frames" else video_of.astype(np.float32)
        every, first = run([inputs, inputs[:1]])
    difference = max(np.abs(every - expected).max(), np.abs(first - expected[:1]).max())
    what = "random clips" if video is None else f"clips of {video}"
    return Comparison(platform, f"{len(clips)} {what}", float(difference), float(np.abs(expected).max()))


def write_stablehlo(made: Any, folder: Path) -> tuple[str | None, Callable]:
    """Writes the program; returns the platform to try it on here, if any, and a function that runs the written file."""
    from jax import export

    path = folder / PROGRAM
    path.write_bytes(made.stablehlo().serialize())

    def run(batches):
        exported = export.deserialize(bytearray(path.read_bytes()))
        return [np.asarray(exported.call(batch)) for batch in batches]

    here = export.default_export_platform()
    return (here if here in made.platforms else "cpu" if "cpu" in made.platforms else None), run


def write_savedmodel(made: Any, folder: Path) -> tuple[str | None, Callable]:
    """Does the same as `write_stablehlo` for a SavedModel, which is tried on the CPU."""
    from r23d_jax.serving import savedmodel

    savedmodel.write(made, folder)
    return ("cpu" if "cpu" in made.platforms else None), lambda batches: savedmodel.run(folder, batches)


def describe(made: Any, form: str, dtype: str, compared: Comparison | None, folder: Path) -> None:
    """Writes the card, `export.json` and a README."""
    import jax

    import r23d_jax
    from r23d_jax.runtime.files import write_json, write_text
    from r23d_jax.serving import page
    from r23d_jax.weights.card import FILE_NAME

    facts = {
        "format": form,
        "platforms": list(made.platforms),
        "input": {"name": made.name, "dtype": made.dtype, "shape": ["batch", *made.shape], "axes": "NTHWC"},
        "output": {"name": "logits", "dtype": "float32", "shape": ["batch", made.card.model["num_classes"]]},
        "preprocessing_included": made.name == "frames",
        "computed_in": dtype,
        "compared": dataclasses.asdict(compared) if compared else None,
        "versions": {"r23d_jax": r23d_jax.__version__, "jax": jax.__version__},
    }
    write_json(folder / FILE_NAME, made.card.to_dict())
    write_json(folder / "export.json", facts)
    write_text(folder / "README.md", page.page(made.card, facts, sentence(compared, made.platforms)))


def sentence(compared: Comparison | None, platforms: tuple[str, ...]) -> str:
    if compared is None:
        return f"not compared with the network: this machine runs none of {', '.join(platforms)}"
    others = [platform for platform in platforms if platform != compared.platform]
    rest = f"; {', '.join(others)} not run here" if others else ""
    return (
        f"read back and compared with the network on {compared.clips}, {compared.platform}: logits differ by "
        f"{compared.difference:.2g} at most, {compared.share:.1g} of the largest ({compared.largest:.3g}){rest}"
    )
