"""MCx-18: 3D up to group x, 2D from there on (Tran et al. 2018). The argument is x: 2 to 5.

    python -m r23d_jax.main --config configs/mc.py[:X] --workdir runs/mc

The study's recipe (configs/r23d.py) on frames of 128x171, normalised as torchvision's weights expect.
Cost of a 16-frame 112x112 clip at 400 classes: 43.3 GMAC, 11.7 M parameters (MC3).
Time and score on UCF101: not measured.
"""

from . import r3d


def get_config(group="3"):
    return r3d.recipe(f"mc{group}_18")
