"""torchvision's names: its video ResNets (also ig65m-pytorch's and the study's), and its 2D ResNets."""

from r23d_jax.weights.mapping import TORCH, Rule, Table

COUNTERS = {r".*\.num_batches_tracked": "BatchNorm counters"}

_STEM = (
    Rule("stem.0", "stem.0", "conv"),
    Rule("stem.1", "stem.1", "bn"),
    Rule("stem.3", "stem.3", "conv"),  # (2+1)D: the temporal half
    Rule("stem.4", "stem.4", "bn"),
)
_BLOCKS = (
    Rule("layer{l}.{b}.conv{c}.0", "layer{l}.{b}.conv{c}.0", "conv"),
    Rule("layer{l}.{b}.conv{c}.0.0", "layer{l}.{b}.conv{c}.0.0", "conv"),  # (2+1)D: in space,
    Rule("layer{l}.{b}.conv{c}.0.1", "layer{l}.{b}.conv{c}.0.1", "bn"),
    Rule("layer{l}.{b}.conv{c}.0.3", "layer{l}.{b}.conv{c}.0.3", "conv"),  # and in time
    Rule("layer{l}.{b}.conv{c}.1", "layer{l}.{b}.conv{c}.1", "bn"),
    Rule("layer{l}.{b}.downsample.0", "layer{l}.{b}.downsample.0", "conv"),
    Rule("layer{l}.{b}.downsample.1", "layer{l}.{b}.downsample.1", "bn"),
)

VIDEO = Table((*_STEM, *_BLOCKS, Rule("fc", "fc", "linear")), TORCH, COUNTERS)

IMAGE = Table(
    (
        Rule("conv1", "stem.0", "conv2d"),
        Rule("bn1", "stem.1", "bn"),
        Rule("layer{l}.{b}.conv{c}", "layer{l}.{b}.conv{c}.0", "conv2d"),
        Rule("layer{l}.{b}.bn{c}", "layer{l}.{b}.conv{c}.1", "bn"),
        Rule("layer{l}.{b}.downsample.0", "layer{l}.{b}.downsample.0", "conv2d"),
        Rule("layer{l}.{b}.downsample.1", "layer{l}.{b}.downsample.1", "bn"),
        Rule("fc", "fc", "linear"),
    ),
    TORCH,
    COUNTERS,
)
