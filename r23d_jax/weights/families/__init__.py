"""The families of published weights: what a file of each looks like, and what it says of itself.

A family is recognised by its tensors' names and shapes: it is the one whose table knows the most of them.
Tables of names stand in the module of their family.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping

import numpy as np

from r23d_jax.errors import UserError
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights.families import inception, kenshohara, presets, torchvision, vmz
from r23d_jax.weights.mapping import Table


@dataclasses.dataclass(frozen=True)
class Family:
    """One source of weights.

    Attributes:
      name: on the card and in messages.
      table: the source's names -> the table to read them with (VMZ's depends on the depth).
      archs: names of the networks such a file may hold; for 2D networks, those it may be inflated to.
      preprocessing: (arch, input channels, frames or None where any) -> what the weights were trained on.
      licence: of the code and weights as their publisher states it, "" where that is another's word.
      image: a 2D network, to be inflated.
      fresh: endings of our paths that such a file need not have; they are initialised anew.
      implied: our leaf -> the value it has where the source has no such tensor.
      epsilon: of batch normalisation, where it is not the network's own.
      kinetics: whether a head of 400 classes is Kinetics-400's.
    """

    name: str
    table: Callable[[Collection[str]], Table]
    archs: tuple[str, ...]
    preprocessing: Callable[[str, int, int | None], Preprocessing]
    licence: str = ""
    image: bool = False
    fresh: tuple[str, ...] = ()
    implied: Mapping[str, float] = dataclasses.field(default_factory=dict)
    epsilon: float | None = None
    kinetics: bool = True


def _torchvision_preset(arch: str, in_channels: int, frames: int | None) -> Preprocessing:
    if arch in ("r2plus1d_34", "vmz_r2plus1d_18") or in_channels != 3:  # IG-65M and VMZ in PyTorch
        return presets.vmz(frames or (32 if arch == "r2plus1d_34" else 16), in_channels)
    if arch in ("r3d_18", "mc3_18", "r2plus1d_18"):
        return presets.torchvision(frames or 16)
    return dataclasses.replace(presets.torchvision(frames or 16), fps=None)


def _kenshohara_preset(arch: str, in_channels: int, frames: int | None) -> Preprocessing:
    del in_channels, frames
    return presets.study() if arch.endswith("_2d3d_full") else presets.kenshohara()


_LADDER = (
    "r2d_18",
    "f_r2d_18",
    "mc2_18",
    "mc3_18",
    "mc4_18",
    "mc5_18",
    "rmc2_18",
    "rmc3_18",
    "rmc4_18",
    "rmc5_18",
    "r3d_18",
)
_DEEP = ("r2d_34", "f_r2d_34", "r3d_34", "r2plus3d_34", "r3plus2d_34", "r2plus1d_34")
_DEEPER = ("r3d_50", "r2plus3d_50", "r3plus2d_50", "r2plus1d_50")
_HARA = tuple(f"hara_r3d_{depth}" for depth in (18, 34, 50))
_HARA_2P1D = tuple(f"hara_r2plus1d_{depth}" for depth in (18, 34, 50))
_FULL = tuple(f"resnet{depth}_2d3d_full" for depth in (18, 34, 50))

FAMILIES: tuple[Family, ...] = (
    Family(
        "torchvision",
        lambda names: torchvision.VIDEO,
        (*_LADDER, "r2plus1d_18", "vmz_r2plus1d_18", *_DEEP, *_DEEPER),
        _torchvision_preset,
    ),
    Family(
        "vmz",
        vmz.table,
        (*_LADDER, "vmz_r2plus1d_18", *_DEEP, *_DEEPER),
        lambda arch, channels, frames: presets.vmz(frames or (32 if arch.endswith("34") else 16), channels),
        licence="Apache-2.0",
        epsilon=1e-3,
    ),
    Family(
        "kenshohara",
        lambda names: kenshohara.R3D,
        (*_HARA, *_FULL),
        _kenshohara_preset,
        fresh=("fc.kernel", "fc.bias"),
        kinetics=False,
    ),
    Family("kenshohara-r2p1d", kenshohara.r2p1d, _HARA_2P1D, _kenshohara_preset, kinetics=False),
    Family(
        "dpc",
        lambda names: kenshohara.DPC,
        _FULL,
        lambda arch, channels, frames: presets.dpc(34 if "34" in arch else 18),
        fresh=("fc.kernel", "fc.bias", ".mean", ".var"),
        kinetics=False,
    ),
    Family(
        "piergiaj",
        lambda names: inception.PIERGIAJ,
        ("i3d",),
        lambda arch, channels, frames: presets.i3d(channels),
        licence="Apache-2.0",
    ),
    Family(
        "deepmind",
        inception.deepmind,
        ("i3d",),
        lambda arch, channels, frames: presets.i3d(channels),
        licence="Apache-2.0",
        implied={"scale": 1.0},
    ),
    Family(
        "imagenet-resnet",
        lambda names: torchvision.IMAGE,
        (*_LADDER[1:], *_DEEP[1:-1], *_DEEPER[:-1], *_HARA),
        lambda arch, channels, frames: presets.imagenet_resnet(channels),
        image=True,
        kinetics=False,
    ),
    Family(
        "imagenet-googlenet",
        lambda names: inception.GOOGLENET,
        ("i3d",),
        lambda arch, channels, frames: presets.imagenet_inception(channels),
        image=True,
        kinetics=False,
    ),
    Family(
        "slim-inception",
        lambda names: inception.SLIM,
        ("i3d",),
        lambda arch, channels, frames: presets.imagenet_inception(channels),
        licence="Apache-2.0",
        image=True,
        implied={"scale": 1.0},
        kinetics=False,
    ),
)


def recognise(tensors: Mapping[str, np.ndarray], origin: str) -> tuple[Family, Table]:
    """The family that a file's tensors are of, and its table for them.

    Raises:
      UserError: no family knows even half of them, or two know equally many.
    """
    scores = []
    for family in FAMILIES:
        table = family.table(tensors)
        ours, unused, _ = table.convert(tensors)
        # What is merely left out speaks for no family: every PyTorch file has the same counters.
        scores.append((len(ours), sum(map(len, unused.values())), family, table))
    scores.sort(key=lambda score: score[:2], reverse=True)
    best, runner_up = scores[0], scores[1]
    if best[0] * 2 < len(tensors) - best[1] or best[0] == 0:
        shown = ", ".join(sorted(tensors)[:4])
        raise UserError(f"{origin}: not weights of a family this converter knows (tensors like {shown})")
    if best[:2] == runner_up[:2]:
        raise UserError(
            f"{origin}: ambiguous: its {best[0]} known tensors could be {best[2].name} or {runner_up[2].name}"
        )
    return best[2], best[3]


def export_table(arch: str, names: Collection[str]) -> tuple[str, Table]:
    """Name and table of the PyTorch naming in which a network of ours goes back out.

    Args:
      arch: a canonical name of `models`.
      names: our paths.
    """
    if arch == "i3d":
        return "piergiaj/pytorch-i3d", inception.PIERGIAJ
    if arch in _HARA:
        return "kenshohara/3D-ResNets-PyTorch", kenshohara.R3D
    if arch in _HARA_2P1D:
        return "kenshohara/3D-ResNets-PyTorch", kenshohara.R2P1D_DEEP if arch.endswith("50") else kenshohara.R2P1D
    if arch in _FULL:
        return "TengdaHan/DPC's backbone, with a linear head fc", kenshohara.R3D
    return "torchvision", torchvision.VIDEO
