"""Preprocessing by name, or from a file, for weights that do not say theirs: `convert --preprocessing`."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from r23d_jax.errors import UserError, one_line
from r23d_jax.runtime.files import read_json
from r23d_jax.transforms.spec import IMAGENET, KENSHOHARA, KINETICS, Preprocessing
from r23d_jax.weights.families import datasets


@dataclasses.dataclass(frozen=True)
class Preset:
    """What is known of a file's preprocessing.

    Attributes:
      name: as given, for messages.
      fields: of `Preprocessing`; what is missing is as its family says.
      labels: returns class names in the order of the logits, for a file with as many classes; None if unknown.
    """

    name: str
    fields: Mapping[str, Any]
    labels: Callable[[], tuple[str, ...]] | None = None

    def apply(self, spec: Preprocessing) -> Preprocessing:
        """Returns a family's preprocessing with these fields."""
        return dataclasses.replace(spec, **self.fields)


def _preset(name: str, labels: Callable[[], tuple[str, ...]] | None = None, **fields: Any) -> Preset:
    return Preset(name, dataclasses.asdict(Preprocessing(**fields)), labels)


_TORCHVISION = {"resize": (128, 171), "crop": 112, "frames": 16}
_I3D = {"resize": 256, "crop": 224, "frames": 0, "fps": 25.0}
_BYTES = (0.5 / 255,) * 3
PRESETS = {
    preset.name: preset
    for preset in (
        _preset("torchvision", **_TORCHVISION, fps=15.0, **KINETICS),
        _preset("vmz", **_TORCHVISION, **KINETICS),
        _preset("imagenet", **_TORCHVISION, **IMAGENET),
        _preset("i3d", **_I3D),
        _preset("i3d-flow", **_I3D, channels="flow", flow="tvl1", mean=(0.5, 0.5), std=(0.5, 0.5)),
        _preset("kenshohara", resize=112, crop=112, frames=16, **KENSHOHARA),
        # The study's script subtracts and divides by .5 on 0..255, and takes labels from classInd.txt.
        _preset("study", datasets.ucf101, resize=136, crop=112, frames=16, mean=_BYTES, std=_BYTES),
        # One clip of 16 frames spread over the whole video; the classes' folders in the order of `sorted()`.
        _preset(
            "ucf101-linspace", lambda: tuple(sorted(datasets.ucf101())), **_TORCHVISION, **KINETICS, sampling="linspace"
        ),
    )
}


def read(given: str) -> Preset:
    """Returns the preset of a name, or that of a JSON file with some of the fields of `Preprocessing`.

    Raises:
      UserError: there is no such preset or file, or the file has other fields.
    """
    if given in PRESETS:
        return PRESETS[given]
    path = Path(given)
    if path.suffix != ".json":
        raise UserError(f"--preprocessing {given}: neither a .json file nor one of {', '.join(PRESETS)}")
    known = {field.name for field in dataclasses.fields(Preprocessing)}
    try:
        fields = read_json(path)
        if not isinstance(fields, dict):
            raise ValueError("not an object")
        for key in ("mean", "std"):
            if key in fields and not isinstance(fields[key], list):
                raise ValueError(f"{key}={fields[key]!r}: must be a list, one number a channel")
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"no field is called {unknown[0]!r}; there are {', '.join(sorted(known))}")
    except (OSError, ValueError) as error:
        raise UserError(f"--preprocessing {path}: not readable as preprocessing ({one_line(error)})") from None
    return Preset(given, {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})
