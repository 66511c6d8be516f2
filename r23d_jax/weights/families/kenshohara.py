"""Families of kenshohara/3D-ResNets-PyTorch, and of DPC, MemDPC and the study, whose backbone comes from it.

Networks with type A shortcuts (without weights) are not supported; their files lack the `downsample` tensors.
"""

import dataclasses
from collections.abc import Collection

from r23d_jax import models
from r23d_jax.transforms.spec import IMAGENET, Preprocessing
from r23d_jax.weights.family import Family, File, Naming, Published
from r23d_jax.weights.mapping import COUNTERS, TORCH, Rule, Table

HARA = tuple(f"hara_r3d_{depth}" for depth in (18, 34, 50))
_HARA_2P1D = tuple(f"hara_r2plus1d_{depth}" for depth in (18, 34, 50))
_FULL = tuple(f"resnet{depth}_2d3d_full" for depth in (18, 34, 50))


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

# The backbone of a DPC or MemDPC model; the rest predicts features, not classes.
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
    """Returns the table for these names; bottlenecks factorise only their middle convolution."""
    return R2P1D_DEEP if any(".conv3." in name for name in names) else R2P1D


def preprocessing() -> Preprocessing:
    """Returns the default preprocessing of 3D-ResNets-PyTorch: short side of the crop size, its Kinetics statistics."""
    return models.get(HARA[0]).preprocessing["rgb"]


def study() -> Preprocessing:
    """Returns the study's preprocessing, as in `configs/r23d.py`."""
    return models.get(_FULL[0]).preprocessing["rgb"]


def _dpc(depth: int) -> Preprocessing:
    """Returns the preprocessing of DPC and MemDPC: five frames, every third one; at 224 pixels for 34 layers.

    Their evaluation on UCF101 crops 224 of frames with a short side of 240; a network for 128 pixels gets that crop
    scaled, which is a crop of 128 of frames with a short side of 240 * 128 / 224.
    """
    resize, crop = (240, 224) if depth >= 34 else (137, 128)
    return Preprocessing(resize=resize, crop=crop, frames=5, stride=3, **IMAGENET)


def _year_2018() -> Preprocessing:
    """Returns the preprocessing of the networks of 2018: the mean of ActivityNet is subtracted from 0..255, no more."""
    mean = tuple(value / 255 for value in (114.7748, 107.7354, 99.4750))
    return dataclasses.replace(preprocessing(), mean=mean, std=(1 / 255,) * 3)


def _preset(arch: str, in_channels: int, frames: int | None) -> Preprocessing:
    del in_channels, frames
    return study() if arch.endswith("_2d3d_full") else preprocessing()


# --- published weights: from Google Drive by hand, or from the authors' page ----------------------------------------

_PAGE = "https://drive.google.com/open?id=1xbYbZ7rpyjftI_KCk6YuL-XrfQDz7Yd4"
_SETS = {
    "K": (700, "Kinetics-700"),
    "KM": (1039, "Kinetics-700 and Moments in Time"),
    "KMS": (1139, "Kinetics-700, Moments in Time and STAIR Actions"),
    "KS": (800, "Kinetics-700 and STAIR Actions"),
    "M": (339, "Moments in Time"),
    "MS": (439, "Moments in Time and STAIR Actions"),
    "S": (100, "STAIR Actions"),
}
_COPIES = {  # that a program may download, with their SHA-1
    "r3d50_KMS_200ep.pth": (
        "https://dl.dropboxusercontent.com/s/t3xge6lrfqpklr0/r3d50_kms_200ep.pth",
        "39ea626355308d8f75307cab047a8d75862c3261",
    ),
}


def _hara(kind: str, depth: int, data: str) -> Published:
    """Returns weights of kind "r3d" or "r2p1d"; the order of their classes is not alphabetical, and not published."""
    file, arch = f"{kind}{depth}_{data}_200ep.pth", f"{'r3d' if kind == 'r3d' else 'r2plus1d'}_{depth}"
    mirror, sha1 = _COPIES.get(file, ("", ""))
    return Published(
        f"hara-{arch}-{data.lower()}",
        f"hara_{arch}",
        (File(file, _PAGE, direct=False, mirrors=(mirror,) if mirror else (), sha1=sha1),),
        preprocessing(),
        _SETS[data][0],
        "",
        "MIT",
        (),
        _SETS[data][1],
    )


_PUBLISHED = (
    *(
        _hara("r3d", depth, data)
        for depth, data in ((18, "K"), (18, "KM"), (34, "K"), (34, "KM"), *((50, data) for data in _SETS))
    ),
    # The other networks of 2018 are deeper or wider, or have shortcuts without weights (type A).
    Published(
        "hara-r3d_50-kinetics400-2018",
        "hara_r3d_50",
        (
            File(
                "resnet-50-kinetics.pth",
                "https://drive.google.com/drive/folders/1zvl89AgFAApbH0At-gMuZSeQB_LpNP-M",
                direct=False,
            ),
        ),
        _year_2018(),
        400,
        "",
        "MIT",
    ),
)
_PUBLISHED_2P1D = tuple(_hara("r2p1d", depth, data) for depth, data in ((18, "K"), (34, "K"), (50, "K"), (50, "KM")))

_VGG = "http://www.robots.ox.ac.uk/~htd/"
_DRIVE = "https://drive.google.com/file/d/{}/view"
_DPC_PUBLISHED = (
    Published(
        "memdpc-resnet34_2d3d_full-kinetics400",
        "resnet34_2d3d_full",
        (File("k400-rgb-224_resnet34_memdpc.pth.tar", _VGG + "memdpc/k400-rgb-224_resnet34_memdpc.pth.tar"),),
        _dpc(34),
        0,
        "",
        "Apache-2.0",
        (),
        "Kinetics-400, self-supervised",
    ),
    Published(
        "dpc-resnet18_2d3d_full-ucf101",
        "resnet18_2d3d_full",
        (File("ucf101-rgb-128_resnet18_dpc.pth.tar", _VGG + "dpc/ucf101-rgb-128_resnet18_dpc.pth.tar"),),
        _dpc(18),
        0,
        "",
        "MIT",
        (),
        "UCF101, self-supervised",
    ),
    Published(
        "dpc-resnet18_2d3d_full-kinetics400",
        "resnet18_2d3d_full",
        (File("dpc_k400_resnet18_128.pth.tar", _DRIVE.format("1jbMg2EAX8armIQA6_0YwfATh_h7rQz4u"), direct=False),),
        _dpc(18),
        0,
        "",
        "MIT",
        (),
        "Kinetics-400, self-supervised",
    ),
    Published(
        "dpc-resnet34_2d3d_full-kinetics400",
        "resnet34_2d3d_full",
        (
            File(
                "dpc_k400_resnet34_224_runningstats.pth.tar",
                _DRIVE.format("1-WpsKzPNmSWuzoF2_qVfvfLOE1fwWD4x"),
                direct=False,
            ),
        ),
        _dpc(34),
        0,
        "",
        "MIT",
        (),
        "Kinetics-400, self-supervised",
    ),
)

_NAMING = Naming("kenshohara/3D-ResNets-PyTorch, and of DPC's backbone")
_HEAD = ("fc.kernel", "fc.bias")

FAMILIES = (
    Family(
        name="kenshohara",
        table=lambda names: R3D,
        archs=(*HARA, *_FULL),
        preprocessing=_preset,
        fresh=_HEAD,
        kinetics=False,
        naming=_NAMING,
        published=_PUBLISHED,
    ),
    Family(
        name="kenshohara-r2p1d",
        table=r2p1d,
        archs=_HARA_2P1D,
        preprocessing=_preset,
        kinetics=False,
        naming=_NAMING,
        published=_PUBLISHED_2P1D,
    ),
    Family(
        name="dpc",
        table=lambda names: DPC,
        archs=_FULL,
        preprocessing=lambda arch, channels, frames: _dpc(34 if "34" in arch else 18),
        fresh=(*_HEAD, ".mean", ".var"),
        kinetics=False,
        published=_DPC_PUBLISHED,
    ),
)
