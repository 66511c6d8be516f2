"""R(3+2)D, the mirror of R(2+3)D: 3D early, 2D late. The argument is the depth: 18, 34 or 50.

    python -m r23d_jax.main --config configs/r3plus2d.py[:DEPTH] --workdir runs/r3plus2d

The study's recipe (configs/r23d.py) on frames of 128x171, normalised as torchvision's weights expect.
Cost of a 16-frame 112x112 clip at 400 classes: 40.0 GMAC, 12.7 M parameters (18 layers).
Time and score on UCF101: not measured.
"""

from . import r3d


def get_config(depth="18"):
    return r3d.recipe(f"r3plus2d_{depth}")
