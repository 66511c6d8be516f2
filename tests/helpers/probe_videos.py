"""Small videos of classes that differ in colour, and a narrow untrained network: for the tests of probes."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from fake_videos import write_checkpoint

from r23d_jax.transforms.spec import Preprocessing

# Videos of up to 11 frames are clips of 8, others of 16, several if they are longer: two programs do for all.
SPEC = Preprocessing(resize=(36, 48), crop=32, frames=8, max_frames=16)
COLOURS = {"blue": (105, 110, 165), "green": (105, 165, 110), "red": (165, 110, 105)}
CLASSES = ("blue", "green", "red")
LENGTHS = (16, 9, 14, 40, 16, 25, 13)  # of the videos of a class, over and over


@dataclasses.dataclass(frozen=True)
class Paths:
    """What the tests share, for reading only.

    Attributes:
      root: folder of `data`: `train` with four videos a class, and `test` with three.
      weights: a checkpoint of one narrow block a stage.
      features: where features are kept.
    """

    root: Path
    weights: Path
    features: Path

    @property
    def test(self) -> list[Path]:
        """The test videos, sorted by the names that data sets give them."""
        return sorted((self.root / "test").glob("*/*.mkv"))


def write(folder: Path) -> Paths:
    root = folder / "data"
    for label, name in enumerate(CLASSES):
        for number, length in enumerate(LENGTHS):
            side = "train" if number < 4 else "test"
            write_video(root / side / name / f"{name}{number + 1}.mkv", COLOURS[name], length, [label, number])
    return Paths(root, write_checkpoint(folder / "weights", SPEC), folder / "features")


def write_video(path: Path, colour: tuple[int, int, int], count: int = 16, seed=0) -> Path:
    """A lossless video of 48x64 in about a colour, whose texture moves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    texture = np.asarray(colour) + rng.integers(-12, 13, 3) + rng.integers(-60, 61, (48, 64, 1))
    texture = np.clip(texture, 0, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(10))
        stream.height, stream.width, stream.pix_fmt = 48, 64, "bgr0"
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(np.roll(texture, 2 * number, axis=1), "rgb24")
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode(None))
    return path


def link(target: Path, *files: Path) -> Path:
    """Puts links to files into a folder, and returns it."""
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        (target / file.name).symlink_to(file)
    return target
