"""What a probe writes of its choice, as the report reads it."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to classify that a probe may try.

    Attributes:
      stages: of the network, whose averages the head sees.
      bins: parts of time that are averaged by themselves.
      mirrored: whether the mirror image is seen, too.
      head: name of the method.
      value: of its regularisation; of neighbours, how many vote.
    """

    stages: tuple[str, ...]
    bins: int
    mirrored: bool
    head: str
    value: float

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Candidate":
        """Reads a line of `probe.json`."""
        stages = tuple(map(str, fields["stages"]))
        return cls(stages, int(fields["bins"]), bool(fields["mirrored"]), str(fields["head"]), float(fields["value"]))


@dataclasses.dataclass(frozen=True)
class Validated:
    """Shares of videos that are right by cross-validation: `top1`, its standard deviation, and the cross entropy."""

    top1: float
    spread: float
    loss: float | None = None


@dataclasses.dataclass(frozen=True)
class Probe:
    """`probe.json`: how a probe was chosen.

    Attributes:
      chosen: what the head is, in words.
      stages, bins, mirrored: what it sees, as in `Candidate`.
      members: the candidates that it is the mean of.
      tried: the candidates and their cross-validation, best first.
      result: its own cross-validation, None without.
      folds, repeats: parts that the groups were divided into, and how often; 0 without.
      training_videos, groups, test_videos, videos_computed: how many.
      feature_seconds, seconds: of computing features, and of all.
    """

    chosen: str
    stages: tuple[str, ...]
    bins: int
    mirrored: bool
    members: frozenset[Candidate]
    tried: tuple[tuple[Candidate, Validated], ...]
    result: Validated | None
    folds: int
    repeats: int
    training_videos: int
    groups: int
    test_videos: int
    videos_computed: int
    feature_seconds: float
    seconds: float

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Probe":
        """Reads the file's content. Raises a `LookupError`, `TypeError` or `ValueError` for what is not one."""
        seen, crossed = fields["features"], fields["cross_validation"]
        counts = ("training_videos", "groups", "test_videos", "videos_computed")
        return cls(
            chosen=str(fields["chosen"]),
            stages=tuple(map(str, seen["stages"])),
            bins=int(seen["bins"]),
            mirrored=bool(seen["mirrored"]),
            members=frozenset(map(Candidate.of, fields["members"])),
            tried=tuple(
                (Candidate.of(one), Validated(*(float(one[f"cv_{key}"]) for key in ("top1", "spread", "loss"))))
                for one in fields["tried"]
            ),
            result=Validated(float(crossed["top1"]), float(crossed["spread"])) if crossed else None,
            folds=int(crossed["folds"]) if crossed else 0,
            repeats=int(crossed["repeats"]) if crossed else 0,
            **{key: int(fields[key]) for key in counts},
            **{key: float(fields[key]) for key in ("feature_seconds", "seconds")},
        )


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """What became of fine-tuning a probe: both networks on the training videos that were held out for it.

    Attributes:
      kept: whether the fine-tuned network is that of the run.
      videos: how many were held out.
      tuned, probe: share that is right, and cross entropy.
      steps: of training.
    """

    kept: bool
    videos: int
    tuned: tuple[float, float]
    probe: tuple[float, float]
    steps: int

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "FineTuning":
        """Reads `fine_tuning` of `results.json`. Raises a `LookupError`, `TypeError` or `ValueError`."""
        keys = ("top1", "cross_entropy")
        tuned, probe = (tuple(float(fields[start + key]) for key in keys) for start in ("", "probe_"))
        return cls(bool(fields["kept"]), int(fields["held_out_videos"]), tuned, probe, int(fields["steps"]))
