"""The ways to compute a training step that are compared, in the order in which they are tried.

Where time runs out the rest is left, so the first round has the most promising ones of every network.
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

from r23d_jax.models.ops import formulations, hardware

OPTIONS = {
    "default": {},
    "nhwc": {"xla_gpu_force_conv_nhwc": True},
    "fusion": {"xla_gpu_experimental_enable_conv_fusion": True},
    "both": {"xla_gpu_force_conv_nhwc": True, "xla_gpu_experimental_enable_conv_fusion": True},
}


def planar(
    shape: tuple[int, ...],
    kernel_shape: tuple[int, ...],
    strides: formulations.Strides,
    padding: formulations.Padding,
) -> formulations.Formulation:
    """Chooses 2D convolutions and matrix products throughout."""
    del shape, strides
    time, height, width, inputs, _ = kernel_shape
    if time == height == width == 1 and not any(map(any, padding)):
        return formulations.pointwise
    if time == 1 and not any(padding[0]):
        return formulations.folded
    if height == width == 1 and not any(padding[1] + padding[2]):
        return formulations.temporal
    return formulations.stacked_inputs if inputs < 16 else formulations.shifted


CHOICES = {"native": formulations.always_native, "2d": planar}
CHOSEN = "chosen"  # by the table of `hardware`


class Combination(NamedTuple):
    """One way to compute a network's training step.

    Attributes:
      arch: the network.
      formulation: of its convolutions, a key of `CHOICES`, or `CHOSEN`.
      options: of the compiler, a key of `OPTIONS`.
      multiple: what (2+1)D mid-planes are zero-padded to a multiple of.
      statistics: of batch normalisation, "two passes" or "one pass".
      deterministic: whether results repeat bit by bit.
    """

    arch: str
    formulation: str
    options: str
    multiple: int
    statistics: str
    deterministic: bool = False

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Combination":
        """Returns the combination that a record is about, or that `_asdict` gave."""
        return cls(**{name: record[name] for name in cls._fields})

    def __str__(self) -> str:
        words = [self.arch, self.formulation, self.options, f"mid-planes x{self.multiple}", self.statistics]
        return ", ".join(words + ["deterministic"] * self.deterministic)

    def policy(self) -> hardware.Policy:
        """Returns how networks are computed by it, without options of the compiler."""
        table = hardware.policy()
        return dataclasses.replace(
            table,
            choice=CHOICES.get(self.formulation, table.choice),
            options={},
            multiples={"bfloat16": self.multiple, "float16": self.multiple},
            statistics=self.statistics,
        )

    def compiler_options(self) -> dict[str, bool]:
        """Returns the options of the compiler; one that it does not know is an error there."""
        return OPTIONS[self.options] | ({"xla_gpu_deterministic_ops": True} if self.deterministic else {})


_ROUNDS = (
    ((CHOSEN, "nhwc", 8, "one pass"), ("2d", "default", 8, "one pass")),
    (("native", "default", 1, "two passes"), (CHOSEN, "both", 8, "one pass")),
    (("native", "nhwc", 8, "one pass"), (CHOSEN, "nhwc", 8, "two passes")),
    (("2d", "fusion", 8, "one pass"), ("2d", "nhwc", 8, "one pass")),
    ((CHOSEN, "nhwc", 1, "one pass"), ("2d", "default", 1, "one pass")),
    tuple(itertools.product((CHOSEN, "2d"), OPTIONS, (8, 1), ("one pass",))),
)


def waves(archs: tuple[str, ...], size: int, rounds: int = len(_ROUNDS)) -> list[list[Combination]]:
    """Returns all combinations in the order of their promise, `size` of one network at a time.

    Networks without (2+1)D blocks have no mid-planes to pad, and fewer combinations.
    """
    found, seen = [], set()
    for round_, arch in itertools.product(_ROUNDS[:rounds], archs):
        ways = [Combination(arch, *way) for way in round_]
        if "2plus1d" not in arch:
            ways = [way._replace(multiple=1) for way in ways]
        new = [way for way in dict.fromkeys(ways) if way not in seen]
        seen.update(new)
        found += [new[at : at + size] for at in range(0, len(new), size)]
    return found
