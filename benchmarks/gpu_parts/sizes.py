"""What is measured, in full or in a few minutes on a CPU."""

from typing import NamedTuple


class Sizes(NamedTuple):
    """Sizes of all parts.

    Attributes:
      archs: networks whose training step is measured, the most important first.
      theirs: those that are also measured in PyTorch.
      batch, clip: clips a step, and their TxHxW.
      width, layers: channels of layer1, and blocks a stage where they are not the network's; not of PyTorch's.
      rounds, window: of every measurement, and the seconds of a round.
      matmul: side of the matrices whose product is the ceiling of the MFU.
      videos, video_frames: of the data set of the whole loop.
      steps, log_every: of the whole loop.
      curve_clips, curve_steps, curve_width: of the comparison of dtypes.
    """

    archs: tuple[str, ...] = ("r2plus1d_18", "r3d_18", "r2plus3d_18")
    theirs: tuple[str, ...] = ("r2plus1d_18", "r3d_18")
    batch: int = 64
    clip: str = "16x112x112"
    width: int = 64
    layers: tuple[int, ...] = ()
    rounds: int = 3
    window: float = 1.0
    matmul: int = 8192
    videos: int = 300
    video_frames: int = 186
    steps: int = 400
    log_every: int = 20
    curve_clips: int = 512
    curve_steps: int = 300
    curve_width: int = 16


FULL = Sizes()
SMALL = Sizes(
    archs=("r2plus1d_18", "r3d_18"),
    theirs=("r3d_18",),
    batch=2,
    clip="4x32x32",
    width=8,
    layers=(1, 1, 1, 1),
    rounds=1,
    window=0.05,
    matmul=256,
    videos=30,
    video_frames=20,
    steps=6,
    log_every=2,
    curve_clips=32,
    curve_steps=6,
    curve_width=4,
)


def of(small: bool) -> Sizes:
    """Returns the sizes of a whole measurement, or those to try it."""
    return SMALL if small else FULL
