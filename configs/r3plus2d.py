"""R(3+2)D, the mirror of R(2+3)D: 3D early, 2D late. The argument is the depth: 18, 34 or 50.

    python -m r23d_jax.main --config configs/r3plus2d.py[:DEPTH] --workdir runs/r3plus2d

The study's recipe (configs/r23d.py) on frames of 128x171, normalised as torchvision's weights expect.
Cost of a 16-frame 112x112 clip at 400 classes: 40.0 GMAC, 12.7 M parameters (18 layers).
Time and score on UCF101: not measured.
"""

from . import r23d


def get_config(depth="18"):
    config = r23d.get_config()
    config.arch = f"r3plus2d_{depth}"
    config.init_from = ""
    config.model.dropout = 0.0
    config.clip.resize = (128, 171)
    config.clip.mean = (0.43216, 0.394666, 0.37645)
    config.clip.std = (0.22803, 0.22145, 0.216989)
    return config
