"""R(2+1)D: 1x3x3, then 3x1x1 (Tran et al. 2018). The argument is the depth: 18, 34 or 50.

    python -m r23d_jax.main --config configs/r2plus1d.py[:DEPTH] --workdir runs/r2plus1d

The study's recipe (configs/r23d.py) on frames of 128x171, normalised as torchvision's weights expect.
Cost of a 16-frame 112x112 clip at 400 classes: 40.5 GMAC, 31.5 M parameters (18 layers).
Time and score on UCF101: not measured.
"""

from . import r3d


def get_config(depth="18"):
    return r3d.recipe(f"r2plus1d_{depth}")
