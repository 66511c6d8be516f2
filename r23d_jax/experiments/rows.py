"""The study's results table: what it says of its eleven rows, and which result of ours is one of them.

Networks, inputs and initial weights of the rows are those of `configs/rows.py`.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from r23d_jax import config as configs
from r23d_jax.weights import registry

_KINETICS = "the study's table; the figure is another paper's on Kinetics-400, not UCF101's"
_REPEATED = "the study's table; it has no source and repeats row 4's"
_UNPUBLISHED = "the study's table, split 1; how it was reached is not published (its script trains R3D-18 from nothing)"
_I3D_TABLE_2 = "Carreira and Zisserman 2017, table 2: split 1, from ImageNet, trained on UCF101 without Kinetics-400"
_ISSUE_46 = "J. Carreira in issue 46 of kinetics-i3d: RGB, from nothing"
_TRAN = "Tran et al. 2018: mean of three splits, from Sports-1M alone, which is not published"


@dataclasses.dataclass(frozen=True)
class StudyRow:
    """One row of the study's table.

    Attributes:
      number: from 1 on.
      method, pretrained: as the study calls them.
      study: its figure, percent top-1 on UCF101.
      remark: what is to be known of that figure.
      published: what a paper gives for the like on UCF101, "" where none does.
      source: of that.
    """

    number: int
    method: str
    pretrained: str
    study: str
    remark: str
    published: str = ""
    source: str = ""


STUDY = (
    StudyRow(1, "I3D-RGB", "none", "67.5", _KINETICS, "50-60", _ISSUE_46),
    StudyRow(2, "I3D-RGB", "ImageNet", "72.5", f"{_KINETICS}; 72.1 in its picture of the table", "84.5", _I3D_TABLE_2),
    StudyRow(3, "I3D-Flow", "ImageNet", "65.3", _KINETICS, "90.6", _I3D_TABLE_2),
    StudyRow(4, "I3D two-stream", "ImageNet", "75.7", _KINETICS, "93.4", _I3D_TABLE_2),
    StudyRow(5, "R(2+1)D-RGB", "none", "75.7", _REPEATED),
    StudyRow(6, "R(2+1)D-Flow", "none", "67.5", _KINETICS),
    StudyRow(7, "R(2+1)D two-stream", "none", "73.9", _KINETICS),
    StudyRow(8, "R(2+1)D-RGB", "Sports-1M", "74.3", _KINETICS, "93.6", _TRAN),
    StudyRow(9, "R(2+1)D-Flow", "Sports-1M", "68.5", _KINETICS, "93.3", _TRAN),
    StudyRow(10, "R(2+1)D two-stream", "Sports-1M", "75.4", _KINETICS, "95.0", _TRAN),
    StudyRow(11, "R(2+3)D-RGB", "Kinetics-400", "86.8", _UNPUBLISHED),
)


@functools.cache
def recipe(source: int | str) -> ConfigDict:
    """The config of a row, by its number, or of a stream of a row, by its name."""
    return configs.load(f"rows:{source}" if isinstance(source, int) else source)


def fits(number: int, results: dict[str, Any]) -> bool:
    """Whether what a `results.json` holds is of that row: by network, input and initial weights."""
    config = recipe(number)
    if not config.streams:
        return _fits(config, results)
    streams = results.get("streams", ())
    return len(streams) == 2 and all(
        _fits(recipe(source), stream) for source, stream in zip(config.streams, streams, strict=True)
    )


def _fits(config: ConfigDict, results: dict[str, Any]) -> bool:
    channels = "flow" if len(config.clip.mean) == 2 else "rgb"
    return (
        "streams" not in results
        and results.get("arch") == config.arch
        and results.get("input", "rgb").startswith(channels)
        and started_from(results.get("init", ""), config.init_from)
    )


def started_from(init: str, published: str) -> bool:
    """Whether a result's `init` is that publication, by its name or as a file called by it; "" is from nothing."""
    if not published:
        return init == "scratch"
    files = [file.name for file in registry.get(published).files]
    return published in Path(init).name or Path(init).name in files


def differences(config: dict[str, Any], number: int, stream: int = 0) -> dict[str, tuple[Any, Any]]:
    """Keys in which a run was not the row's own, as `{key: (the run's value, the row's)}`.

    Args:
      config: flat, of the run's `config.json`.
      number: of the row.
      stream: of a two-stream row, 0 for RGB and 1 for flow.
    """
    own = recipe(number)
    own = configs.flatten(recipe(own.streams[stream]) if own.streams else own)
    own = {key: list(value) if isinstance(value, tuple) else value for key, value in own.items()}
    return {
        key: (config[key], value)
        for key, value in own.items()
        if key in config and config[key] != value and not key.startswith(("seed", *WITHOUT_EFFECT))
    }


# Keys that do not change what is learned or how it is scored.
WITHOUT_EFFECT = (
    "dataset.data_dir",
    "checkpoint.",
    "eval.batch_size",
    "log_every",
    "workers",
    "processes",
    "prefetch",
    "remat",
)
