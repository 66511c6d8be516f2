"""The names of kenshohara/3D-ResNets-PyTorch, and of DPC, MemDPC and the study, whose backbone came from it.

Their shortcuts of type A (no weights) have no counterpart here: such a file lacks the `downsample` tensors
and is refused for it.
"""

from collections.abc import Collection

from r23d_jax.weights.families.torchvision import COUNTERS
from r23d_jax.weights.mapping import TORCH, Rule, Table


def _r3d(prefix: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{prefix}conv1", "stem.0", "conv"),
        Rule(f"{prefix}bn1", "stem.1", "bn"),
        Rule(prefix + "layer{l}.{b}.conv{c}", "layer{l}.{b}.conv{c}.0", "conv"),
        Rule(prefix + "layer{l}.{b}.bn{c}", "layer{l}.{b}.conv{c}.1", "bn"),
        Rule(prefix + "layer{l}.{b}.downsample.0", "layer{l}.{b}.downsample.0", "conv"),
        Rule(prefix + "layer{l}.{b}.downsample.1", "layer{l}.{b}.downsample.1", "bn"),
        Rule(f"{prefix}fc", "fc", "linear"),
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
    Rule("conv1_s", "stem.0", "conv"),
    Rule("bn1_s", "stem.1", "bn"),
    Rule("conv1_t", "stem.3", "conv"),
    Rule("bn1_t", "stem.4", "bn"),
    Rule("layer{l}.{b}.downsample.0", "layer{l}.{b}.downsample.0", "conv"),
    Rule("layer{l}.{b}.downsample.1", "layer{l}.{b}.downsample.1", "bn"),
    Rule("fc", "fc", "linear"),
)


def _factorised(which: str) -> tuple[Rule, ...]:
    here = "layer{l}.{b}.conv{c:" + which + "}"
    there = "layer{l}.{b}.%s{c:" + which + "}_%s"
    return (
        Rule(there % ("conv", "s"), f"{here}.0.0", "conv"),
        Rule(there % ("bn", "s"), f"{here}.0.1", "bn"),
        Rule(there % ("conv", "t"), f"{here}.0.3", "conv"),
        Rule(there % ("bn", "t"), f"{here}.1", "bn"),
    )


R2P1D = Table((*_R2P1D, *_factorised("[12]")), TORCH, COUNTERS)
R2P1D_DEEP = Table(
    (
        *_R2P1D,
        *_factorised("2"),
        Rule("layer{l}.{b}.conv{c:[13]}", "layer{l}.{b}.conv{c:[13]}.0", "conv"),
        Rule("layer{l}.{b}.bn{c:[13]}", "layer{l}.{b}.conv{c:[13]}.1", "bn"),
    ),
    TORCH,
    COUNTERS,
)


def r2p1d(names: Collection[str]) -> Table:
    """The table for these names: bottlenecks factorise only their middle convolution."""
    return R2P1D_DEEP if any(".conv3." in name for name in names) else R2P1D
