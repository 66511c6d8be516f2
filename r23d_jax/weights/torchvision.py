"""torchvision's names: its video ResNets (also ig65m-pytorch's and the study's), and its 2D ResNets."""

from r23d_jax.weights.mapping import TORCH, Module, Table

COUNTERS = {r".*\.num_batches_tracked": "BatchNorm counters"}

_STEM = (
    Module("stem.0", "stem.0", "conv"),
    Module("stem.1", "stem.1", "bn"),
    Module("stem.3", "stem.3", "conv"),  # (2+1)D: the temporal half
    Module("stem.4", "stem.4", "bn"),
)
_BLOCKS = (
    Module("layer{l}.{b}.conv{c}.0", "layer{l}.{b}.conv{c}.0", "conv"),
    Module("layer{l}.{b}.conv{c}.0.0", "layer{l}.{b}.conv{c}.0.0", "conv"),  # (2+1)D: in space,
    Module("layer{l}.{b}.conv{c}.0.1", "layer{l}.{b}.conv{c}.0.1", "bn"),
    Module("layer{l}.{b}.conv{c}.0.3", "layer{l}.{b}.conv{c}.0.3", "conv"),  # and in time
    Module("layer{l}.{b}.conv{c}.1", "layer{l}.{b}.conv{c}.1", "bn"),
    Module("layer{l}.{b}.downsample.0", "layer{l}.{b}.downsample.0", "conv"),
    Module("layer{l}.{b}.downsample.1", "layer{l}.{b}.downsample.1", "bn"),
)

VIDEO = Table((*_STEM, *_BLOCKS, Module("fc", "fc", "linear")), TORCH, COUNTERS)

IMAGE = Table(
    (
        Module("conv1", "stem.0", "conv2d"),
        Module("bn1", "stem.1", "bn"),
        Module("layer{l}.{b}.conv{c}", "layer{l}.{b}.conv{c}.0", "conv2d"),
        Module("layer{l}.{b}.bn{c}", "layer{l}.{b}.conv{c}.1", "bn"),
        Module("layer{l}.{b}.downsample.0", "layer{l}.{b}.downsample.0", "conv2d"),
        Module("layer{l}.{b}.downsample.1", "layer{l}.{b}.downsample.1", "bn"),
        Module("fc", "fc", "linear"),
    ),
    TORCH,
    COUNTERS,
)
