"""Families with torchvision's names: video ResNets (also of ig65m-pytorch, XDC and the study), and 2D ResNets."""

import dataclasses
from typing import Any

from r23d_jax.transforms.spec import IMAGENET, KINETICS, Preprocessing
from r23d_jax.weights.families import kenshohara, vmz
from r23d_jax.weights.family import Family, File, Naming, Published, scores
from r23d_jax.weights.mapping import COUNTERS, TORCH, Rule, Table

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


def preprocessing(frames: int = 16) -> Preprocessing:
    return Preprocessing(resize=(128, 171), crop=112, frames=frames, fps=15.0, **KINETICS)


def _preset(arch: str, in_channels: int, frames: int | None) -> Preprocessing:
    if arch in ("r2plus1d_34", "vmz_r2plus1d_18") or in_channels != 3:  # IG-65M and VMZ in PyTorch
        return vmz.preprocessing(frames or (32 if arch == "r2plus1d_34" else 16), in_channels)
    if arch in ("r3d_18", "mc3_18", "r2plus1d_18"):
        return preprocessing(frames or 16)
    return dataclasses.replace(preprocessing(frames or 16), fps=None)


def imagenet_preprocessing(in_channels: int = 3) -> Preprocessing:
    """Returns a video network's preprocessing with the normalisation of the 2D networks."""
    if in_channels != 3:
        return Preprocessing(
            resize=(128, 171),
            crop=112,
            frames=16,
            channels="flow",
            flow="tvl1",
            mean=(0.5,) * in_channels,
            std=(0.225,) * in_channels,
        )
    return Preprocessing(resize=(128, 171), crop=112, frames=16, **IMAGENET)


# --- published weights -------------------------------------------------------------------------------------------

_URL = "https://download.pytorch.org/models/"
_PROTOCOL = "Kinetics-400 validation, video level: 5 clips of 16 frames at 15 fps, 128x171, centre crop 112"


def _torchvision(arch: str, digest: str, megabytes: float, top1: float, top5: float) -> Published:
    name = f"{arch}-{digest[:8]}.pth"
    return Published(
        f"torchvision-{arch}-kinetics400",
        arch,
        (File(name, _URL + name, digest, megabytes=megabytes),),
        preprocessing(),
        400,
        "kinetics400",
        "BSD-3-Clause",
        scores(_PROTOCOL, top1_at_video=top1, top5_at_video=top5),
    )


def _image(name: str, arch: str, digest: str, megabytes: float, top1: float, top5: float) -> Published:
    file = f"{name}-{digest}.pth"
    return Published(
        f"torchvision-{name}-imagenet",
        arch,
        (File(file, _URL + file, digest, megabytes=megabytes),),
        imagenet_preprocessing(),
        1000,
        "",
        "BSD-3-Clause",
        scores("ImageNet-1K validation, the 2D network, one 224 centre crop", top1=top1, top5=top5),
        "ImageNet-1K, 2D",
    )


# IG-65M, converted to PyTorch under torchvision's names by moabitcoin/ig65m-pytorch (MIT); VMZ's originals are under
# Apache-2.0.
_IG = "https://github.com/moabitcoin/ig65m-pytorch/releases/download/v1.0.0/"


def _ig65m(
    name: str,
    stem: str,
    digest: str,
    frames: int,
    classes: int,
    pretrained: str,
    results: tuple[dict, ...] = (),
) -> Published:
    file = f"r2plus1d_34_{stem}-{digest}.pth"
    return Published(
        f"ig65m-r2plus1d_34-{name}",
        "r2plus1d_34",
        (File(file, _IG + file, digest),),
        vmz.preprocessing(frames),
        classes,
        "kinetics400" if classes == 400 else "",
        "MIT AND Apache-2.0",
        results,
        pretrained,
    )


def _ig_scores(frames: int, top1: float, top5: float) -> tuple[dict, ...]:
    protocol = f"Kinetics-400 validation, video level, {frames} frames at 112 (VMZ's model zoo, Caffe2 original)"
    return scores(protocol, top1_at_video=top1, top5_at_video=top5)


_IG65M = (
    _ig65m(
        "8-kinetics400",
        "clip8_ft_kinetics_from_ig65m",
        "0aa0550b",
        8,
        400,
        "IG-65M, then Kinetics-400",
        _ig_scores(8, 74.9, 91.8),
    ),
    _ig65m(
        "32-kinetics400",
        "clip32_ft_kinetics_from_ig65m",
        "ade133f1",
        32,
        400,
        "IG-65M, then Kinetics-400",
        _ig_scores(32, 80.0, 94.2),
    ),
    _ig65m("8", "clip8_ig65m_from_scratch", "9bae36ae", 8, 487, "IG-65M (its class names are not published)"),
    _ig65m("32", "clip32_ig65m_from_scratch", "449a7af9", 32, 359, "IG-65M (its class names are not published)"),
)

# XDC's encoders (HumamAlwassel/XDC): VMZ's R(2+1)D-18 under torchvision's names, without classifier. The repository
# refers to VMZ's scripts for clips and fine-tuning.
_XDC_URL = "https://github.com/HumamAlwassel/XDC/releases/download/model_weights/"
_FINE_TUNED = "mean of the 3 splits, video level, after fine-tuning the whole network on it (XDC's table)"


def _xdc(name: str, digest: str, ucf101: float, hmdb51: float, pretrained: str) -> Published:
    file = f"r2plus1d_18_{name}-{digest}.pth"
    results = scores(f"UCF101, {_FINE_TUNED}", top1=ucf101) + scores(f"HMDB51, {_FINE_TUNED}", top1=hmdb51)
    return Published(
        f"xdc-r2plus1d_18-{name.removeprefix('xdc_')}",
        "vmz_r2plus1d_18",
        (File(file, _XDC_URL + file, digest),),
        vmz.preprocessing(),
        0,
        "",
        "MIT",
        results,
        pretrained,
    )


_XDC = (
    _xdc("xdc_ig65m_kinetics", "f24f6ffb", 95.5, 68.9, "IG-65M's videos of Kinetics' classes, self-supervised (XDC)"),
    _xdc("xdc_ig65m_random", "189d23f4", 94.6, 66.5, "IG-65M's random videos, self-supervised (XDC)"),
    _xdc("xdc_audioset", "f29ffe8f", 93.0, 63.7, "AudioSet, self-supervised (XDC)"),
    _xdc("fs_kinetics", "622bdad9", 94.2, 65.1, "Kinetics-400"),
    _xdc("fs_imagenet", "ff446670", 84.0, 48.1, "ImageNet-1K"),
)


# Networks of torchvision fine-tuned by dronefreak; clips and the order of classes are those of the repository
# dronefreak/human-action-classification.
def _dronefreak(
    arch: str, data: str, file: str, frames: int, classes: int, results: tuple[dict, ...], **fields: Any
) -> Published:
    repository = f"dronefreak/{arch.replace('_', '-')}-{data}"
    return Published(
        f"dronefreak-{arch}-{data.partition('-')[0]}",
        arch,
        (File(file, f"https://huggingface.co/{repository}/resolve/main/{file}", **fields),),
        dataclasses.replace(preprocessing(frames), fps=None, sampling="linspace"),
        classes,
        "ucf101-sorted" if classes == 101 else "",
        "Apache-2.0",
        results,
        f"Kinetics-400, then {data.partition('-')[0].upper()} split 1",
    )


def _split1(claimed: float, measured: float) -> tuple[dict, ...]:
    how = "UCF101 split 1, one clip of 16 frames over the whole video; best epoch chosen on the test split"
    return scores(f"{how} (claimed by its author)", top1_at_video=claimed) + scores(
        f"{how} (an independent run on 3,782 videos)", top1_at_video=measured
    )


_DRONEFREAK = (
    _dronefreak("mc3_18", "ucf101", "mc318-ufc101-split-1.pth", 16, 101, _split1(87.05, 86.83)),
    _dronefreak("r3d_18", "ucf101", "r3d18-ufc101-split-1.pth", 16, 101, _split1(83.43, 82.95)),
    _dronefreak(
        "mc3_18",
        "hmdb51-kinetics",
        "mc3-18-hmdb51-kinetics.pth",
        8,
        51,
        scores(
            "HMDB51 split 1, one clip of 8 frames over the whole video; best epoch chosen on the test split "
            "(claimed by its author)",
            top1_at_video=56.34,
        ),
        megabytes=87.9,
    ),
)

FAMILIES = (
    Family(
        name="torchvision",
        table=lambda names: VIDEO,
        archs=(*vmz.LADDER, "r2plus1d_18", "vmz_r2plus1d_18", *vmz.DEEP, *vmz.DEEPER),
        preprocessing=_preset,
        fresh=("fc.kernel", "fc.bias"),  # XDC's files have no classifier
        clip_lengths=True,
        naming=Naming("torchvision"),
        published=(
            _torchvision(
                "r3d_18", "b3b3357ead25631ec9c57362ff2128a92d0427e01e2cd184951a44380c3f2e9d", 127.359, 63.200, 83.479
            ),
            _torchvision(
                "mc3_18", "a90a0ba35ca1242d15b77511ff28bfb29cc596988b5ea36081042f8e2f54212b", 44.672, 63.960, 84.130
            ),
            _torchvision(
                "r2plus1d_18",
                "91a641e6c2ab531d1aca5f4321b4d802ec5c3babc15df855cdb6e39c6a1107c8",
                120.318,
                67.463,
                86.175,
            ),
            *_IG65M,
            *_XDC,
            *_DRONEFREAK,
        ),
    ),
    Family(
        name="imagenet-resnet",
        table=lambda names: IMAGE,
        archs=(*vmz.LADDER[1:], *vmz.DEEP[1:-1], *vmz.DEEPER[:-1], *kenshohara.HARA),
        preprocessing=lambda arch, channels, frames: imagenet_preprocessing(channels),
        image=True,
        kinetics=False,
        published=(
            _image("resnet18", "hara_r3d_18", "f37072fd", 44.661, 69.758, 89.078),
            _image("resnet34", "hara_r3d_34", "b627a593", 83.275, 73.314, 91.420),
            _image("resnet50", "hara_r3d_50", "0676ba61", 97.781, 76.130, 92.862),
        ),
    ),
)
