"""R2D: the frames folded into channels, no time after the first convolution. The argument is the depth: 18 or 34.

    python -m r23d_jax.main --config configs/r2d.py[:DEPTH] --workdir runs/r2d

The study's recipe (configs/r23d.py) on frames of 128x171, normalised as torchvision's weights expect.
Cost of a 16-frame 112x112 clip at 400 classes: 2.2 GMAC, 11.5 M parameters (18 layers).
Time and score on UCF101: not measured.
"""

from . import r3d


def get_config(depth="18"):
    return r3d.recipe(f"r2d_{depth}")
