"""The names of kenshohara/3D-ResNets-PyTorch, and of DPC, MemDPC and the study, whose backbone came from it.

Their shortcuts of type A (no weights) have no counterpart here: such a file lacks the `downsample` tensors
and is refused for it.
"""

from collections.abc import Collection

from r23d_jax.weights.mapping import TORCH, Module, Table
from r23d_jax.weights.torchvision import COUNTERS


def _r3d(prefix: str) -> tuple[Module, ...]:
    return (
        Module(f"{prefix}conv1", "stem.0", "conv"),
        Module(f"{prefix}bn1", "stem.1", "bn"),
        Module(prefix + "layer{l}.{b}.conv{c}", "layer{l}.{b}.conv{c}.0", "conv"),
        Module(prefix + "layer{l}.{b}.bn{c}", "layer{l}.{b}.conv{c}.1", "bn"),
        Module(prefix + "layer{l}.{b}.downsample.0", "layer{l}.{b}.downsample.0", "conv"),
        Module(prefix + "layer{l}.{b}.downsample.1", "layer{l}.{b}.downsample.1", "bn"),
        Module(f"{prefix}fc", "fc", "linear"),
    )


R3D = Table(_r3d(""), TORCH, COUNTERS)

# The backbone inside a whole DPC or MemDPC model; the rest of it predicts features, not classes.
DPC = Table(
    _r3d("backbone."),
    TORCH,
    {
        **COUNTERS,
        r"agg(_[fb])?\..*": "DPC's recurrent aggregation",
        r"network_pred\..*": "DPC's predictor",
        r"mb": "MemDPC's memory bank",
        r"final_(bn|fc)\..*": "DPC's classifier on the aggregation",
    },
)

_R2P1D = (
    Module("conv1_s", "stem.0", "conv"),
    Module("bn1_s", "stem.1", "bn"),
    Module("conv1_t", "stem.3", "conv"),
    Module("bn1_t", "stem.4", "bn"),
    Module("layer{l}.{b}.downsample.0", "layer{l}.{b}.downsample.0", "conv"),
    Module("layer{l}.{b}.downsample.1", "layer{l}.{b}.downsample.1", "bn"),
    Module("fc", "fc", "linear"),
)


def _factorised(which: str) -> tuple[Module, ...]:
    here = "layer{l}.{b}.conv{c:" + which + "}"
    there = "layer{l}.{b}.%s{c:" + which + "}_%s"
    return (
        Module(there % ("conv", "s"), f"{here}.0.0", "conv"),
        Module(there % ("bn", "s"), f"{here}.0.1", "bn"),
        Module(there % ("conv", "t"), f"{here}.0.3", "conv"),
        Module(there % ("bn", "t"), f"{here}.1", "bn"),
    )


R2P1D = Table((*_R2P1D, *_factorised("[12]")), TORCH, COUNTERS)
R2P1D_DEEP = Table(
    (
        *_R2P1D,
        *_factorised("2"),
        Module("layer{l}.{b}.conv{c:[13]}", "layer{l}.{b}.conv{c:[13]}.0", "conv"),
        Module("layer{l}.{b}.bn{c:[13]}", "layer{l}.{b}.conv{c:[13]}.1", "bn"),
    ),
    TORCH,
    COUNTERS,
)


def r2p1d(names: Collection[str]) -> Table:
    """The table for these names: bottlenecks factorise only their middle convolution."""
    return R2P1D_DEEP if any(".conv3." in name for name in names) else R2P1D
