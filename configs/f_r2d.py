"""f-R2D: frame by frame, averaged over time: blind to their order. The argument is the depth: 18 or 34.

    python -m r23d_jax.main --config configs/f_r2d.py[:DEPTH] --workdir runs/f_r2d

The study's recipe (configs/r23d.py) on frames of 128x171, normalised as torchvision's weights expect.
Cost of a 16-frame 112x112 clip at 400 classes: 27.6 GMAC, 11.4 M parameters (18 layers).
Time and score on UCF101: not measured.
"""

from . import r3d


def get_config(depth="18"):
    return r3d.recipe(f"f_r2d_{depth}")
