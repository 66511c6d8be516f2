"""Networks in PyTorch with other projects' names, written for the tests: independent references, and files.

`ResNet` is a video ResNet with kenshohara's names (DPC, MemDPC and the study took them over); `blobs` renames
a torchvision-shaped state dict to VMZ's Caffe2 names; `randomise` gives a network weights and statistics
under which a mistake shows.
"""

import re
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def import_torchvision():
    """torchvision, whose C extension does not load beside a CPU-only PyTorch."""
    try:
        import torchvision
    except RuntimeError:  # "operator torchvision::nms does not exist"
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import_torchvision.library = library  # the operators live as long as this object
        import torchvision
    return torchvision


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random statistics and scales everywhere, activations of order one; in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor, low, high):
        with torch.no_grad():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d | nn.BatchNorm2d):
            uniform(module.weight, 0.5, 1.0)
            uniform(module.bias, -0.2, 0.3)
            uniform(module.running_mean, -0.3, 0.3)
            uniform(module.running_var, 0.1, 1.0)  # small ones show a wrong epsilon
            module.num_batches_tracked.fill_(int(torch.randint(1, 10**6, (), generator=generator)))
        elif isinstance(module, nn.Conv3d | nn.Conv2d | nn.Linear):
            fan = module.weight[0].numel()
            with torch.no_grad():
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * (2 / fan) ** 0.5)
            if module.bias is not None:
                uniform(module.bias, -0.5, 0.5)
    return network.eval()


class Block(nn.Module):
    def __init__(self, kind, inputs, planes, stride, bottleneck, last_relu):
        super().__init__()
        self.last_relu, self.count = last_relu, 3 if bottleneck else 2
        outputs = planes * (4 if bottleneck else 1)
        sizes = [inputs, planes, planes, outputs] if bottleneck else [inputs, planes, planes]
        for c in range(1, self.count + 1):
            small = bottleneck and c != 2
            moves = stride if c == (2 if bottleneck else 1) else 1
            self._add(c, "1x1" if small else kind, sizes[c - 1], sizes[c], moves)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            strides = (1 if kind == "2d" else stride, stride, stride)
            self.downsample = nn.Sequential(nn.Conv3d(inputs, outputs, 1, strides, bias=False), nn.BatchNorm3d(outputs))

    def _add(self, c, kind, inputs, outputs, s):
        def conv(i, o, kernel, stride):
            return nn.Conv3d(i, o, kernel, stride, tuple(k // 2 for k in kernel), bias=False)

        if kind == "2+1d":
            mid = (inputs * outputs * 27) // (inputs * 9 + 3 * outputs)
            setattr(self, f"conv{c}_s", conv(inputs, mid, (1, 3, 3), (1, s, s)))
            setattr(self, f"bn{c}_s", nn.BatchNorm3d(mid))
            setattr(self, f"conv{c}_t", conv(mid, outputs, (3, 1, 1), (s, 1, 1)))
            setattr(self, f"bn{c}_t", nn.BatchNorm3d(outputs))
            return
        kernel = {"1x1": (1, 1, 1), "2d": (1, 3, 3), "3d": (3, 3, 3)}[kind]
        setattr(self, f"conv{c}", conv(inputs, outputs, kernel, (1 if kind == "2d" else s, s, s)))
        setattr(self, f"bn{c}", nn.BatchNorm3d(outputs))

    def forward(self, x):
        y = x
        for c in range(1, self.count + 1):
            if hasattr(self, f"conv{c}_s"):
                y = F.relu(getattr(self, f"bn{c}_s")(getattr(self, f"conv{c}_s")(y)))
                y = getattr(self, f"bn{c}_t")(getattr(self, f"conv{c}_t")(y))
            else:
                y = getattr(self, f"bn{c}")(getattr(self, f"conv{c}")(y))
            if c < self.count:
                y = F.relu(y)
        y = y + (x if self.downsample is None else self.downsample(x))
        return F.relu(y) if self.last_relu else y


class ResNet(nn.Module):
    """kenshohara's R3D and R(2+1)D, and the 2D-3D networks of DPC and the study (`full`)."""

    def __init__(self, depth=18, kind="3d", full=False, classes=5, width=64, head=True):
        super().__init__()
        bottleneck, planes = depth >= 50, [width, 2 * width, 4 * width, (4 if full else 8) * width]
        self.full = full
        if kind == "2+1d":
            mid = 3 * width * 7 * 49 // (3 * 49 + 7 * width)
            self.conv1_s = nn.Conv3d(3, mid, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False)
            self.bn1_s = nn.BatchNorm3d(mid)
            self.conv1_t = nn.Conv3d(mid, width, (7, 1, 1), 1, (3, 0, 0), bias=False)
            self.bn1_t = nn.BatchNorm3d(width)
        else:
            length = 1 if full else 7
            self.conv1 = nn.Conv3d(3, width, (length, 7, 7), (1, 2, 2), (length // 2, 3, 3), bias=False)
            self.bn1 = nn.BatchNorm3d(width)
        kinds = ["2d", "2d", "3d", "3d"] if full else [kind] * 4
        inputs = width
        for index, count in enumerate(LAYERS[depth]):
            blocks = []
            for position in range(count):
                final = full and index == 3 and position == count - 1
                stride = 2 if index and not position else 1
                blocks.append(Block(kinds[index], inputs, planes[index], stride, bottleneck, not final))
                inputs = planes[index] * (4 if bottleneck else 1)
            setattr(self, f"layer{index + 1}", nn.Sequential(*blocks))
        if head:
            self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        """`[B, C, T, H, W]` -> outputs of every stage, and "logits" where there is a head."""
        outputs = {}
        if hasattr(self, "conv1_s"):
            x = F.relu(self.bn1_t(self.conv1_t(F.relu(self.bn1_s(self.conv1_s(x))))))
        else:
            x = F.relu(self.bn1(self.conv1(x)))
        window, stride = ((1, 3, 3), (1, 2, 2)) if self.full else (3, 2)
        x = outputs["stem"] = F.max_pool3d(x, window, stride, (0, 1, 1) if self.full else 1)
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = outputs[name] = getattr(self, name)(x)
        if hasattr(self, "fc"):
            outputs["logits"] = self.fc(x.mean((2, 3, 4)))
        return outputs


def video_resnet(groups: str, layers=(2, 2, 2, 2), classes=5, channels=3, frames=16, epsilon=1e-3):
    """torchvision's own `VideoResNet`, put together as VMZ's networks.

    Args:
      groups: one letter for stem and each stage: 2 (2D), 3 (3D), p (2+1D, inner width per convolution);
        the stem may be f (all frames at once).
    """
    import_torchvision()
    from torchvision.models.video import resnet as tv

    class Conv2Plus1D(tv.Conv2Plus1D):  # torchvision's takes the block's inner width for both
        def __init__(self, inputs, outputs, midplanes, stride=1, padding=1):
            midplanes = (inputs * outputs * 27) // (inputs * 9 + 3 * outputs)
            super().__init__(inputs, outputs, midplanes, stride, padding)

    makers = {"2": tv.Conv3DNoTemporal, "3": tv.Conv3DSimple, "p": Conv2Plus1D}

    def stem():
        if groups[0] == "p":
            module = tv.R2Plus1dStem()
            module[0] = nn.Conv3d(channels, 45, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False)
            return module
        length = {"2": 1, "3": 3, "f": frames}[groups[0]]
        pad = 0 if groups[0] == "f" else length // 2
        conv = nn.Conv3d(channels, 64, (length, 7, 7), (1, 2, 2), (pad, 3, 3), bias=False)
        return nn.Sequential(conv, nn.BatchNorm3d(64), nn.ReLU())

    network = tv.VideoResNet(tv.BasicBlock, [makers[g] for g in groups[1:]], layers, stem, classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = epsilon
    return network


def narrow(network: nn.Module, by: int = 8) -> nn.Module:
    """The same network with every width divided by `by`."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv3d | nn.Conv2d):
                inputs = child.in_channels // by if child.in_channels > 3 else child.in_channels
                outputs, kernel = child.out_channels // by, child.kernel_size
                conv = nn.Conv3d if isinstance(child, nn.Conv3d) else nn.Conv2d
                child = conv(inputs, outputs, kernel, child.stride, child.padding, bias=False)
            elif isinstance(child, nn.BatchNorm3d | nn.BatchNorm2d):
                child = type(child)(child.num_features // by, eps=child.eps)
            elif isinstance(child, nn.Linear):
                child = nn.Linear(child.in_features // by, child.out_features)
            else:
                continue
            setattr(module, name, child)
    return network


def stages(network: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Outputs of every stage of a torchvision video network, and its logits."""
    outputs = {}
    for name in ("stem", "layer1", "layer2", "layer3", "layer4"):
        x = outputs[name] = getattr(network, name)(x)
    outputs["logits"] = network.fc(x.mean((2, 3, 4)))
    return outputs


def blobs(state: dict[str, torch.Tensor], layers: tuple) -> dict[str, np.ndarray]:
    """A torchvision-shaped state dict under VMZ's names, as its conversion script pairs them."""
    suffix = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
    factorised = "stem.3.weight" in state
    stem = {"0": "conv1_middle", "1": "conv1_middle_spatbn_relu", "3": "conv1", "4": "conv1_spatbn_relu"}
    if not factorised:
        stem = {"0": "conv1", "1": "conv1_spatbn_relu"}
    renamed = {}
    for key, tensor in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        *path, leaf = key.split(".")
        is_conv = tensor.ndim == 5
        if path[0] == "fc":
            name = f"last_out_L{state['fc.bias'].numel()}_{leaf[0]}"
        elif path[0] == "stem":
            name = f"{stem[path[1]]}_{'w' if is_conv else suffix[leaf]}"
        else:
            i = sum(layers[: int(path[0][5]) - 1]) + int(path[1])
            if path[2] == "downsample":
                name = f"shortcut_projection_{i}" + ("_w" if is_conv else f"_spatbn_{suffix[leaf]}")
            else:
                j, inner = re.sub(r"\D", "", path[2]), path[3:]
                middle = "_middle" if inner in (["0", "0"], ["0", "1"]) else ""
                kind = "conv" if is_conv else "spatbn"
                name = f"comp_{i}_{kind}_{j}{middle}_{'w' if is_conv else suffix[leaf]}"
        assert name not in renamed
        renamed[name] = tensor.numpy()
    return renamed
