"""The study's results table: the figures of its eleven rows, and which row a result of ours belongs to.

`configs/rows.py` has the networks, inputs and initial weights of the rows.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from r23d_jax import config as configs
from r23d_jax.weights import clip_values, registry

_KINETICS = "the study's table; the figure is another paper's on Kinetics-400, not UCF101's"
_REPEATED = "the study's table; it has no source and repeats row 4's"
_UNPUBLISHED = "the study's table, split 1; how it was reached is not published (its script trains R3D-18 from nothing)"
_I3D_TABLE_2 = "Carreira and Zisserman 2017, table 2: split 1, from ImageNet, trained on UCF101 without Kinetics-400"
_ISSUE_46 = "J. Carreira in issue 46 of kinetics-i3d: RGB, from nothing"
_TRAN = "Tran et al. 2018: mean of three splits, from Sports-1M alone, which is not published"


class StudyRow(NamedTuple):
    """One row of the study's table.

    Attributes:
      number: from 1 on.
      method, pretrained: as the study calls them.
      study: its figure, percent top-1 on UCF101.
      remark: what to know about that figure.
      published: a paper's figure for the same training on UCF101, "" where there is none.
      source: the paper.
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

# Config keys, by the start of their names, that change neither what is learned nor how it is scored.
WITHOUT_EFFECT = (
    "seed",
    "dataset.data_dir",
    "checkpoint.",
    "eval.batch_size",
    "log_every",
    "workers",
    "processes",
    "prefetch",
    "remat",
)


def row_of(results: dict[str, Any]) -> int | None:
    """Returns the row that a `results.json` belongs to, by network, input and initial weights; None for no row."""
    streams = tuple(f"rows:{row_of(stream)}" for stream in results.get("streams", ()))
    fitting = (row.number for row in STUDY if _fits(_config(row.number), results, streams))
    return next(fitting, None)


_config = functools.cache(lambda number: configs.load(f"rows:{number}"))


def _fits(config: ConfigDict, results: dict[str, Any], streams: tuple[str, ...]) -> bool:
    if streams or config.streams:
        return streams == config.streams
    return (
        results.get("arch") == config.arch
        and results.get("input", "rgb").startswith(clip_values.stream(config))
        and _started_from(results.get("init", ""), config.init_from)
    )


def differences(config: Mapping[str, Any], number: int, stream: int = 0) -> dict[str, tuple[Any, Any]]:
    """Returns the keys in which a run differs from its row's recipe, as `{key: (the run's value, the row's)}`.

    Args:
      config: flat, of the run's `config.json`.
      number: of the row.
      stream: of a two-stream row, 0 for RGB and 1 for flow.
    """
    own = _config(number)
    own = configs.load(own.streams[stream]) if own.streams else own
    given, filled = (_json(each) for each in (own, clip_values.of_config(own)))
    return {
        key: (config[key], value)
        for key, value in filled.items()
        if key in config and config[key] not in (value, given[key]) and not key.startswith(WITHOUT_EFFECT)
    }


def _json(config: ConfigDict) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in configs.flatten(config).items()}


def _started_from(init: str, published: str) -> bool:
    """Whether a result's `init` is that publication, by its name or by a file's; "" is from nothing."""
    if not published:
        return init == "scratch"
    name = Path(init).name
    return published in name or name in {file.name for file in registry.get(published).files}
