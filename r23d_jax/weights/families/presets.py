"""What each family of published weights was trained on: preprocessing and class names.

Sources: the families' own evaluation code and READMEs. `fps=None` with `stride=1` means every frame of the
video at its own rate.
"""

from importlib import resources

from r23d_jax.transforms.spec import Preprocessing

# Kinetics' statistics as torchvision and VMZ use them; VMZ writes them on 0..255.
_KINETICS = {"mean": (0.43216, 0.394666, 0.37645), "std": (0.22803, 0.22145, 0.216989)}
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

# Flow is stored as (pixels + 20) / 40 on 0..255: `data.flow.BOUND`, which is not imported for OpenCV's sake.
FLOW_BOUND = 20.0


def kinetics400() -> tuple[str, ...]:
    """Kinetics-400's class names in the order of the published weights' logits (alphabetical)."""
    text = resources.files("r23d_jax.weights.families").joinpath("kinetics400.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def torchvision(frames: int = 16) -> Preprocessing:
    return Preprocessing(resize=(128, 171), crop=112, frames=frames, fps=15.0, **_KINETICS)


def vmz(frames: int = 16, in_channels: int = 3) -> Preprocessing:
    """VMZ and IG-65M. Their flow is Farneback's, standardised in pixels by its own mean and deviation."""
    if in_channels == 3:
        return Preprocessing(resize=(128, 171), crop=112, frames=frames, **_KINETICS)
    pixels = {"mean": (0.0046635, 0.0046261), "std": (0.972347, 0.755146)}
    return Preprocessing(
        resize=(128, 171),
        crop=112,
        frames=frames,
        channels="flow",
        flow="farneback",
        mean=tuple((m + FLOW_BOUND) / (2 * FLOW_BOUND) for m in pixels["mean"]),
        std=tuple(s / (2 * FLOW_BOUND) for s in pixels["std"]),
    )


def kenshohara() -> Preprocessing:
    """Short side to the crop size, Kinetics statistics of 3D-ResNets-PyTorch (its default options)."""
    return Preprocessing(resize=112, crop=112, frames=16, mean=(0.4345, 0.4051, 0.3775), std=(0.2768, 0.2713, 0.2737))


def study() -> Preprocessing:
    """The study's own recipe, as `configs/r23d.py` has it."""
    return Preprocessing(resize=128, crop=112, frames=16)


def dpc(depth: int) -> Preprocessing:
    """DPC and MemDPC: blocks of five frames, every third frame; the 34-layer files were trained at 224."""
    size = 224 if depth >= 34 else 128
    return Preprocessing(resize=size, crop=size, frames=5, stride=3, **_IMAGENET)


def i3d(in_channels: int = 3) -> Preprocessing:
    """DeepMind's I3D: the whole video at 25 frames a second, on -1..1; flow is TV-L1, clipped at 20 pixels."""
    flow = {"channels": "flow", "flow": "tvl1"} if in_channels == 2 else {}
    half = (0.5,) * in_channels
    return Preprocessing(resize=256, crop=224, frames=0, fps=25.0, mean=half, std=half, **flow)


def imagenet_resnet(in_channels: int = 3) -> Preprocessing:
    """A 2D network's input, at a video network's size: only the normalisation is the 2D network's."""
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
    return Preprocessing(resize=(128, 171), crop=112, frames=16, **_IMAGENET)


def imagenet_inception(in_channels: int = 3) -> Preprocessing:
    """Inception-v1 was trained on -1..1; frames as I3D trains."""
    flow = {"channels": "flow", "flow": "tvl1"} if in_channels == 2 else {}
    half = (0.5,) * in_channels
    return Preprocessing(resize=256, crop=224, frames=64, fps=25.0, mean=half, std=half, **flow)
