"""I3D in PyTorch, written for the tests from the paper and DeepMind's description: an independent reference.

Parameters have piergiaj/pytorch-i3d's names; arithmetic is TensorFlow's (SAME padding, averages).
"""

import torch
import torch.nn.functional as F
from torch import nn

MIXED = {
    "3b": (192, 64, 96, 128, 16, 32, 32),
    "3c": (256, 128, 128, 192, 32, 96, 64),
    "4b": (480, 192, 96, 208, 16, 48, 64),
    "4c": (512, 160, 112, 224, 24, 64, 64),
    "4d": (512, 128, 128, 256, 24, 64, 64),
    "4e": (512, 112, 144, 288, 32, 64, 64),
    "4f": (528, 256, 160, 320, 32, 128, 128),
    "5b": (832, 256, 160, 320, 32, 128, 128),
    "5c": (832, 384, 192, 384, 48, 128, 128),
}


def pad_same(x: torch.Tensor, window: tuple, strides: tuple) -> torch.Tensor:
    pads = []
    for size, k, s in reversed(list(zip(x.shape[2:], window, strides, strict=True))):
        out = (size + s - 1) // s
        need = max((out - 1) * s + k - size, 0)
        pads += [need // 2, need - need // 2]
    return F.pad(x, pads)


class Unit(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride=1):
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(inputs, outputs, self.kernel, self.stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=1e-3)

    def forward(self, x):
        return F.relu(self.bn(self.conv3d(pad_same(x, self.kernel, self.stride))))


class Mixed(nn.Module):
    def __init__(self, inputs, b0, b1a, b1b, b2a, b2b, b3b):
        super().__init__()
        self.b0, self.b1a, self.b1b = Unit(inputs, b0, 1), Unit(inputs, b1a, 1), Unit(b1a, b1b, 3)
        self.b2a, self.b2b, self.b3b = Unit(inputs, b2a, 1), Unit(b2a, b2b, 3), Unit(inputs, b3b, 1)

    def forward(self, x):
        pooled = max_pool(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], 1)


def max_pool(x, window, strides):
    return F.max_pool3d(pad_same(x, window, strides), window, strides)  # inputs are not negative


class Logits(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv3d = nn.Conv3d(1024, classes, 1)


class I3D(nn.Module):
    def __init__(self, classes=400, channels=3):
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(channels, 64, 7, 2)
        self.Conv3d_2b_1x1 = Unit(64, 64, 1)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        for name, sizes in MIXED.items():
            setattr(self, f"Mixed_{name}", Mixed(*sizes))
        self.logits = Logits(classes)

    def forward(self, x):
        """`[B, C, T, H, W]` -> dict of every endpoint, and "logits" as averaged by DeepMind."""
        outputs = {}

        def keep(name, value):
            outputs[name] = value
            return value

        x = keep("Conv3d_1a_7x7", self.Conv3d_1a_7x7(x))
        x = keep("MaxPool3d_2a_3x3", max_pool(x, (1, 3, 3), (1, 2, 2)))
        x = keep("Conv3d_2b_1x1", self.Conv3d_2b_1x1(x))
        x = keep("Conv3d_2c_3x3", self.Conv3d_2c_3x3(x))
        x = keep("MaxPool3d_3a_3x3", max_pool(x, (1, 3, 3), (1, 2, 2)))
        for name in MIXED:
            if name == "4b":
                x = keep("MaxPool3d_4a_3x3", max_pool(x, (3, 3, 3), (2, 2, 2)))
            if name == "5b":
                x = keep("MaxPool3d_5a_2x2", max_pool(x, (2, 2, 2), (2, 2, 2)))
            x = keep(f"Mixed_{name}", getattr(self, f"Mixed_{name}")(x))
        window = (min(2, x.shape[2]), *x.shape[3:])
        x = self.logits.conv3d(F.avg_pool3d(x, window, stride=1))
        outputs["logits"] = x.mean(dim=(2, 3, 4))
        return outputs
