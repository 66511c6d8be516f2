"""The video residual networks written once more in PyTorch, from the papers, at torchvision's names.

`REFERENCE` says by hand what each name is: kinds of stem and stages (2, 3, "p" for 2+1D, "f" for frames
folded into channels), blocks in each stage, and what else is special.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch_sources import import_torchvision, randomise

__all__ = ["REFERENCE", "Reference", "import_torchvision", "named", "randomise", "to_ours"]

EIGHTEEN, MORE = (2, 2, 2, 2), (3, 4, 6, 3)


@dataclasses.dataclass(frozen=True)
class Row:
    groups: str
    layers: tuple[int, ...]
    bottleneck: bool = False
    epsilon: float = 1e-5
    style: str = ""  # "hara" (Hara et al.) or "full" (Han et al.)
    once_per_block: bool = False  # torchvision's inner width


REFERENCE = {
    "r2d_18": Row("f2222", EIGHTEEN),
    "r2d_34": Row("f2222", MORE),
    "f_r2d_18": Row("22222", EIGHTEEN),
    "f_r2d_34": Row("22222", MORE),
    "mc2_18": Row("32222", EIGHTEEN),
    "mc3_18": Row("33222", EIGHTEEN),
    "mc4_18": Row("33322", EIGHTEEN),
    "mc5_18": Row("33332", EIGHTEEN),
    "rmc2_18": Row("23333", EIGHTEEN),
    "rmc3_18": Row("22333", EIGHTEEN),
    "rmc4_18": Row("22233", EIGHTEEN),
    "rmc5_18": Row("22223", EIGHTEEN),
    "r2plus3d_18": Row("22233", EIGHTEEN),
    "r2plus3d_34": Row("22233", MORE),
    "r2plus3d_50": Row("22233", MORE, True),
    "r3plus2d_18": Row("33322", EIGHTEEN),
    "r3plus2d_34": Row("33322", MORE),
    "r3plus2d_50": Row("33322", MORE, True),
    "r3d_18": Row("33333", EIGHTEEN),
    "r3d_34": Row("33333", MORE),
    "r3d_50": Row("33333", MORE, True),
    "r2plus1d_18": Row("ppppp", EIGHTEEN, once_per_block=True),
    "vmz_r2plus1d_18": Row("ppppp", EIGHTEEN, epsilon=1e-3),
    "r2plus1d_34": Row("ppppp", MORE, epsilon=1e-3),
    "r2plus1d_50": Row("ppppp", MORE, True, epsilon=1e-3),
    "resnet18_2d3d_full": Row("22233", EIGHTEEN, style="full"),
    "resnet34_2d3d_full": Row("22233", MORE, style="full"),
    "resnet50_2d3d_full": Row("22233", MORE, True, style="full"),
    "hara_r3d_18": Row("33333", EIGHTEEN, style="hara"),
    "hara_r3d_34": Row("33333", MORE, style="hara"),
    "hara_r3d_50": Row("33333", MORE, True, style="hara"),
    "hara_r2plus1d_18": Row("ppppp", EIGHTEEN, style="hara"),
    "hara_r2plus1d_34": Row("ppppp", MORE, style="hara"),
    "hara_r2plus1d_50": Row("ppppp", MORE, True, style="hara"),
}


def named(name, classes=400, width=64, layers=None, frames=16):
    row = REFERENCE[name]
    return Reference(row if layers is None else dataclasses.replace(row, layers=layers), classes, width, frames)


class Reference(nn.Module):
    def __init__(self, row, classes, width, frames):
        super().__init__()
        self.folds, self.style = row.groups[0] == "f", row.style

        def conv(i, o, kernel, stride):
            return nn.Conv3d(i, o, kernel, stride, [k // 2 for k in kernel], bias=False)

        def norm(channels):
            return nn.BatchNorm3d(channels, row.epsilon, 0.1)

        def two_plus_one(i, o, mid, s):
            return nn.Sequential(
                conv(i, mid, (1, 3, 3), (1, s, s)), norm(mid), nn.ReLU(), conv(mid, o, (3, 1, 1), (s, 1, 1))
            )

        def main_conv(kind, i, o, s, block_inputs):
            if kind == "p":
                return two_plus_one(i, o, 27 * block_inputs * o // (9 * block_inputs + 3 * o), s)
            return conv(i, o, (1 if kind == "2" else 3, 3, 3), (1 if kind == "2" else s, s, s))

        def block(kind, i, planes, s):
            module = nn.Module()
            o = 4 * planes if row.bottleneck else planes
            if row.bottleneck:
                module.conv1 = nn.Sequential(conv(i, planes, (1, 1, 1), 1), norm(planes), nn.ReLU())
                middle = main_conv(kind, planes, planes, s, i if row.once_per_block else planes)
                module.conv2 = nn.Sequential(middle, norm(planes), nn.ReLU())
                module.conv3 = nn.Sequential(conv(planes, o, (1, 1, 1), 1), norm(o))
            else:
                module.conv1 = nn.Sequential(main_conv(kind, i, planes, s, i), norm(planes), nn.ReLU())
                second = main_conv(kind, planes, planes, 1, i if row.once_per_block else planes)
                module.conv2 = nn.Sequential(second, norm(planes))
            if s == 2 or i != o:
                module.downsample = nn.Sequential(conv(i, o, (1, 1, 1), (1 if kind == "2" else s, s, s)), norm(o))
            return module, o

        if row.groups[0] == "p":
            length = 7 if row.style == "hara" else 3
            mid = 147 * length * width // (147 + length * width) if row.style == "hara" else 45 * width // 64
            steps = [
                conv(3, mid, (1, 7, 7), (1, 2, 2)),
                norm(mid),
                nn.ReLU(),
                conv(mid, width, (length, 1, 1), 1),
            ]
        else:
            length = {"2": 1, "f": 1, "3": 7 if row.style == "hara" else 3}[row.groups[0]]
            steps = [conv(3 * frames if self.folds else 3, width, (length, 7, 7), (1, 2, 2))]
        self.stem = nn.Sequential(*steps, norm(width), nn.ReLU())
        inputs, planes = width, [width, 2 * width, 4 * width, (4 if row.style == "full" else 8) * width]
        for index, kind in enumerate(row.groups[1:]):
            stage = nn.ModuleList()
            for position in range(row.layers[index]):
                module, inputs = block(kind, inputs, planes[index], 2 if index and not position else 1)
                stage.append(module)
            setattr(self, f"layer{index + 1}", stage)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        """`[B, C, T, H, W]` to a dict of every stage's output, `pool` and `logits`."""
        if self.folds:
            x = x.flatten(1, 2).unsqueeze(2)
        outputs = {}
        x = self.stem(x)
        if self.style == "hara":
            x = nn.functional.max_pool3d(x, 3, 2, 1)
        if self.style == "full":
            x = nn.functional.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        outputs["stem"] = x
        for index in range(1, 5):
            stage = getattr(self, f"layer{index}")
            for position, block in enumerate(stage):
                y = block.conv2(block.conv1(x))
                if hasattr(block, "conv3"):
                    y = block.conv3(y)
                x = y + (block.downsample(x) if hasattr(block, "downsample") else x)
                if not (self.style == "full" and index == 4 and position == len(stage) - 1):
                    x = torch.relu(x)
            outputs[f"layer{index}"] = x
        outputs["pool"] = x.mean((2, 3, 4))
        outputs["logits"] = self.fc(outputs["pool"])
        return outputs


def to_ours(state, frames=None):
    """A torchvision-named state dict as `models.flatten` names and shapes it.

    With `frames`, a stem of frames folded into channels becomes a kernel over that many frames.
    """
    renamed = {}
    for key, value in state.items():
        prefix, _, leaf = key.rpartition(".")
        value = np.asarray(value)
        if leaf == "num_batches_tracked":
            continue
        if value.ndim == 5:
            if frames and key == "stem.0.weight":
                value = value.reshape(value.shape[0], -1, frames, *value.shape[3:])
            leaf, value = "kernel", value.transpose(2, 3, 4, 1, 0)
        elif value.ndim == 2:
            leaf, value = "kernel", value.T
        else:
            leaf = {"weight": "scale", "running_mean": "mean", "running_var": "var"}.get(leaf, leaf)
        renamed[f"{prefix}.{leaf}"] = jnp.array(value)  # a copy: PyTorch updates its own in place
    return renamed
