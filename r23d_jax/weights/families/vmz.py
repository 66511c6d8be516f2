"""VMZ: Caffe2 pickles with blocks numbered over the whole network, and kernels [out, in, T, H, W].

Source: the network builders and the PyTorch conversion script of facebookresearch/VMZ. VMZ does not list its classes;
that they are in alphabetical order is supported by its CSN-152, which scores with such lists what VMZ says (mmaction2).
"""

import dataclasses
import re
from collections.abc import Collection

from r23d_jax import models
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights.family import Family, File, Published, scores
from r23d_jax.weights.mapping import CAFFE2, Rule, Table

# The networks of Tran et al.; files with torchvision's names may contain them as well.
LADDER = (
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
DEEP = ("r2d_34", "f_r2d_34", "r3d_34", "r2plus3d_34", "r3plus2d_34", "r2plus1d_34")
DEEPER = ("r3d_50", "r2plus3d_50", "r3plus2d_50", "r2plus1d_50")

_LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # 50 layers: as 34, in bottlenecks


def table(names: Collection[str]) -> Table:
    """Returns the table for a file's blobs; the blocks of each stage follow from the number of blocks."""
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


def preprocessing(frames: int = 16, in_channels: int = 3) -> Preprocessing:
    """Returns the preprocessing of VMZ and IG-65M. Flow is Farneback's, with statistics in pixels."""
    own = models.get("vmz_r2plus1d_18").preprocessing["rgb" if in_channels == 3 else "flow"]
    return dataclasses.replace(own, frames=frames)


# --- published weights -------------------------------------------------------------------------------------------

_PROTOCOL = "Kinetics-400 validation, {n} frames at 112: 10 clips uniformly spaced, centre crop"
_DENSE = "Kinetics-400 validation, 32 frames at 112: clips densely sampled, centre crop"
_DROPBOX = "https://www.dropbox.com/s/"
# An author's copy of all files (issue 43 of VMZ).
_DRIVE = "https://drive.google.com/drive/folders/141ZmpOfFo_Bfb6gFXh30SvVGnAgapA-l"

# arch, file stem, frames, Dropbox key, clip@1, video@1, video@5
_ROWS = (
    ("vmz_r2plus1d_18", "r2.5d_d18_l8", 8, "wzgx4d80mrh7pnf", 53.2, 65.3, 85.2),
    ("r3d_18", "r3d_d18_l8", 8, "n3ax2591imcy9ly", 49.8, 62.3, 83.4),
    ("r2d_18", "r2d_d18_l8", 8, "ju4fah9dksn08s1", 47.0, 60.0, 81.2),
    ("f_r2d_18", "r2df_d18_l8", 8, "4jexszps3564za3", 48.5, 60.0, 81.8),
    ("mc2_18", "mc2_d18_l8", 8, "lkmhyjok8odtv8e", 50.6, 63.0, 83.8),
    ("mc3_18", "mc3_d18_l8", 8, "3jxzhc3kduyrpik", 51.1, 63.3, 84.2),
    ("mc4_18", "mc4_d18_l8", 8, "vx2xee36et823gs", 50.9, 63.0, 84.2),
    ("mc5_18", "mc5_d18_l8", 8, "z6fxv6jr30i2lwz", 50.7, 62.9, 84.2),
    ("rmc2_18", "rmc2_d18_l8", 8, "vnjpzq7li2b7tk2", 50.2, 62.7, 83.9),
    ("rmc3_18", "rmc3_d18_l8", 8, "1vwjomlc45ox6u1", 50.2, 62.8, 83.7),
    ("rmc4_18", "rmc4_d18_l8", 8, "zots41ng2xs2ezu", 50.3, 62.8, 83.3),
    ("rmc5_18", "rmc5_d18_l8", 8, "3e56jjx6x1qot4x", 49.7, 61.6, 83.1),
    ("vmz_r2plus1d_18", "r2.5d_d18_l16", 16, "94d2ruqn6tp7xno", 57.3, 68.5, 87.5),
    ("r3d_18", "r3d_d18_l16", 16, "8tqp8uhjmedflu1", 52.9, 64.7, 85.0),
    ("r2d_18", "r2d_d18_l16", 16, "hyw8ltzvhadxgia", 47.5, 59.4, 81.3),
    ("f_r2d_18", "r2df_d18_l16", 16, "4yy0tdfebdy0ptr", 50.7, 60.9, 81.9),
    ("mc2_18", "mc2_d18_l16", 16, "xmtqk2w3p60yly0", 53.6, 64.8, 85.1),
    ("mc3_18", "mc3_d18_l16", 16, "rpgbzjewagjeu2f", 54.1, 65.2, 85.8),
    ("mc4_18", "mc4_d18_l16", 16, "lrjwye0ldsgi2p2", 54.3, 65.6, 85.6),
    ("mc5_18", "mc5_d18_l16", 16, "3qp62d3159rzwsj", 54.1, 65.6, 85.5),
    ("rmc2_18", "rmc2_d18_l16", 16, "70k3p0xz6rjcdtb", 53.5, 65.4, 85.5),
    ("rmc3_18", "rmc3_d18_l16", 16, "n8eulubwh6l3o0b", 53.6, 65.5, 85.7),
    ("rmc4_18", "rmc4_d18_l16", 16, "di3wwadbapc61rn", 53.9, 65.6, 85.3),
    ("rmc5_18", "rmc5_d18_l16", 16, "lb5jaji177hid7p", 52.5, 63.5, 84.2),
)


def _vmz(
    name: str,
    arch: str,
    file: str,
    key: str,
    frames: int,
    results: tuple[dict, ...],
    *,
    in_channels: int = 3,
    classes: int = 400,
    pretrained: str = "Kinetics-400",
) -> Published:
    return Published(
        name,
        arch,
        (File(f"{file}.pkl", f"{_DROPBOX}{key}/{file}.pkl?dl=1", pages=(_DRIVE,)),),
        preprocessing(frames, in_channels),
        classes,
        "kinetics400" if classes == 400 else "",
        "Apache-2.0",
        results,
        pretrained,
    )


def _ladder(arch: str, stem: str, frames: int, key: str, clip: float, top1: float, top5: float) -> Published:
    results = scores(_PROTOCOL.format(n=frames), top1_at_clip=clip, top1_at_video=top1, top5_at_video=top5)
    short = arch.removeprefix("vmz_")
    return _vmz(f"vmz-{short}-{frames}-kinetics400", arch, stem, key, frames, results)


_DEEP = (
    _vmz(
        "vmz-r2plus1d_34-32-kinetics400",
        "r2plus1d_34",
        "r2.5d_d34_l32",
        "y6c6jf7myv2w6iq",
        32,
        scores(_DENSE, top1_at_clip=60.6, top1_at_video=72.4, top5_at_video=90.6),
    ),
    _vmz(
        "vmz-r2plus1d_34-32-sports1m-kinetics400",
        "r2plus1d_34",
        "r2.5d_d34_l32_ft_sports1m",
        "odd9smqn2t54run",
        32,
        scores(_DENSE, top1_at_clip=63.9, top1_at_video=74.2, top5_at_video=92.1),
        pretrained="Sports-1M, then Kinetics-400",
    ),
    _vmz(
        "vmz-r2plus1d_34-32-flow-sports1m-kinetics400",
        "r2plus1d_34",
        "r2.5d_d34_l32_ft_sports1m_optical_flow",
        "30zj1t9xte5vy64",
        32,
        scores(_DENSE, top1_at_clip=55.9, top1_at_video=68.2, top5_at_video=88.0),
        in_channels=2,
        pretrained="Sports-1M, then Kinetics-400 (Farneback flow)",
    ),
)

FAMILIES = (
    Family(
        name="vmz",
        table=table,
        archs=(*LADDER, "vmz_r2plus1d_18", *DEEP, *DEEPER),
        preprocessing=lambda arch, channels, frames: preprocessing(
            frames or (32 if arch.endswith("34") else 16), channels
        ),
        licence="Apache-2.0",
        epsilon=1e-3,
        clip_lengths=True,
        published=(*(_ladder(*row) for row in _ROWS), *_DEEP),
    ),
)
