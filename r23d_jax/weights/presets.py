"""Preprocessing by name, or from a file, for weights that do not say theirs: `convert --preprocessing`."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from r23d_jax.errors import UserError, one_line
from r23d_jax.runtime.files import read_json
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights.families import datasets, inception, kenshohara, torchvision, vmz


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


def _preset(name: str, spec: Preprocessing, labels: Callable[[], tuple[str, ...]] | None = None) -> Preset:
    return Preset(name, dataclasses.asdict(spec), labels)


_BYTES = (0.5 / 255,) * 3
PRESETS = {
    preset.name: preset
    for preset in (
        _preset("torchvision", torchvision.preprocessing()),
        _preset("vmz", vmz.preprocessing()),
        _preset("imagenet", torchvision.imagenet_preprocessing()),
        _preset("i3d", inception.preprocessing()),
        _preset("i3d-flow", inception.preprocessing(2)),
        _preset("kenshohara", kenshohara.preprocessing()),
        # The study's script subtracts and divides by .5 on 0..255, and takes labels from classInd.txt.
        _preset("study", dataclasses.replace(kenshohara.study(), mean=_BYTES, std=_BYTES), datasets.ucf101),
        # One clip of 16 frames spread over the whole video; the classes' folders in the order of `sorted()`.
        _preset(
            "ucf101-linspace",
            dataclasses.replace(vmz.preprocessing(), sampling="linspace"),
            lambda: tuple(sorted(datasets.ucf101())),
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
