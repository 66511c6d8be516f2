"""R3D: 3x3x3 convolutions throughout (Tran et al. 2018). The argument is the depth: 18, 34 or 50.

    python -m r23d_jax.main --config configs/r3d.py[:DEPTH] --workdir runs/r3d

The study's recipe (configs/r23d.py) on frames of 128x171, normalised as torchvision's weights expect.
Cost of a 16-frame 112x112 clip at 400 classes: 40.7 GMAC, 33.4 M parameters (18 layers).
Time and score on UCF101: not measured.
"""

from . import r23d


def recipe(arch):
    """The study's recipe for another network, from nothing, as the header says."""
    config = r23d.get_config()
    config.arch = arch
    config.init_from = ""
    config.model.dropout = 0.0
    config.clip.resize = (128, 171)
    config.clip.mean = (0.43216, 0.394666, 0.37645)
    config.clip.std = (0.22803, 0.22145, 0.216989)
    return config


def get_config(depth="18"):
    return recipe(f"r3d_{depth}")
