"""VMZ's Caffe2 names: blocks are numbered through the whole network, kernels are [out, in, T, H, W].

Source: the network builders and the PyTorch conversion script of facebookresearch/VMZ.
"""

import re
from collections.abc import Collection

from r23d_jax.weights.mapping import CAFFE2, Rule, Table

_LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # 50 layers: as 34, in bottlenecks


def table(names: Collection[str]) -> Table:
    """The table for a file's blobs: which blocks a stage has depends on the depth, which they tell."""
    numbers = [int(match[1]) for name in names if (match := re.match(r"comp_(\d+)_conv", name))]
    layers = _LAYERS[18 if max(numbers, default=0) < 8 else 34]
    if "conv1_middle_w" in names:
        modules = [
            Rule("conv1_middle", "stem.0", "conv"),
            Rule("conv1_middle_spatbn_relu", "stem.1", "bn"),
            Rule("conv1", "stem.3", "conv"),
            Rule("conv1_spatbn_relu", "stem.4", "bn"),
        ]
    else:
        modules = [Rule("conv1", "stem.0", "conv"), Rule("conv1_spatbn_relu", "stem.1", "bn")]
    # The number of classes is part of the classifier's name.
    modules += [
        Rule(name.removesuffix("_w"), "fc", "linear") for name in names if re.fullmatch(r"last_out_L\d+_w", name)
    ]
    number = 0
    for stage, count in enumerate(layers, start=1):
        for position in range(count):
            modules += _block(number, f"layer{stage}.{position}", names)
            number += 1
    return Table(modules, CAFFE2)


def _block(number: int, ours: str, names: Collection[str]) -> list[Rule]:
    source = f"comp_{number}"
    rules = [
        Rule(f"shortcut_projection_{number}", f"{ours}.downsample.0", "conv"),
        Rule(f"shortcut_projection_{number}_spatbn", f"{ours}.downsample.1", "bn"),
    ]
    for c in (1, 2, 3):
        rules.append(Rule(f"{source}_spatbn_{c}", f"{ours}.conv{c}.1", "bn"))
        if f"{source}_conv_{c}_middle_w" in names:  # (2+1)D: in space, then in time
            rules += [
                Rule(f"{source}_conv_{c}_middle", f"{ours}.conv{c}.0.0", "conv"),
                Rule(f"{source}_spatbn_{c}_middle", f"{ours}.conv{c}.0.1", "bn"),
                Rule(f"{source}_conv_{c}", f"{ours}.conv{c}.0.3", "conv"),
            ]
        else:
            rules.append(Rule(f"{source}_conv_{c}", f"{ours}.conv{c}.0", "conv"))
    return rules
