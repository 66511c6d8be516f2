"""rMCx-18: 2D up to group x, 3D from there on (Tran et al. 2018). The argument is x: 2 to 5.

    python -m r23d_jax.main --config configs/rmc.py[:X] --workdir runs/rmc

The study's recipe (configs/r23d.py) on frames of 128x171, normalised as torchvision's weights expect.
Cost of a 16-frame 112x112 clip at 400 classes: 25.0 GMAC, 33.0 M parameters (rMC3).
Time and score on UCF101: not measured.
"""

from . import r23d


def get_config(group="3"):
    config = r23d.get_config()
    config.arch = f"rmc{group}_18"
    config.init_from = ""
    config.model.dropout = 0.0
    config.clip.resize = (128, 171)
    config.clip.mean = (0.43216, 0.394666, 0.37645)
    config.clip.std = (0.22803, 0.22145, 0.216989)
    return config
