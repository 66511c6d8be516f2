"""Any network from nothing, with the study's recipe (configs/r23d.py). The argument is the network.

    python -m r23d_jax.main --config configs/scratch.py[:ARCH] --workdir runs/scratch

ARCH is a name of `python -m r23d_jax.models`, by default r3d_18. Published weights fine-tune with
`--config.init_from=NAME`, and bring their preprocessing. From nothing it is that of the network's authors: frames of
128x171 and torchvision's mean and deviation; for hara_* short side 112 and kenshohara's; for resnet*_2d3d_full, the
study's own class, the study's, with its dropout.

Millions of parameters / GMAC of a 16-frame 112x112 clip, 400 classes:

| name              | convolutions (Tran et al. 2018)               | 18          | 34          | 50          |
|-------------------|-----------------------------------------------|-------------|-------------|-------------|
| r2d               | frames as channels, no time after the first   | 11.5 / 2.2  | 21.6 / 4.0  |             |
| f_r2d             | frame by frame, blind to their order          | 11.4 / 27.6 | 21.5 / 57.2 |             |
| mc2               | 3x3x3 up to group x, from there on 1x3x3      | 11.4 / 28.6 |             |             |
| mc3               |                                               | 11.7 / 43.3 |             |             |
| mc4 = r3plus2d    |                                               | 12.7 / 40.0 | 24.2 / 71.4 | 25.7 / 57.8 |
| mc5               |                                               | 16.9 / 39.9 |             |             |
| rmc2              | 1x3x3 up to group x, from there on 3x3x3      | 33.4 / 39.8 |             |             |
| rmc3              |                                               | 33.1 / 25.0 |             |             |
| rmc4 = r2plus3d   |                                               | 32.0 / 29.1 | 61.0 / 65.2 | 45.6 / 57.7 |
| rmc5              |                                               | 27.9 / 30.8 |             |             |
| r3d               | 3x3x3                                         | 33.4 / 40.7 | 63.7 / 75.4 | 47.0 / 54.7 |
| r2plus1d          | 1x3x3, then 3x1x1                             | 31.5 / 40.5 | 63.7 / 76.2 | 47.0 / 57.7 |
| hara_r3d          | a stem 7 frames long and a 3D max-pool        | 33.4 / 8.3  | 63.7 / 12.7 | 47.0 / 10.1 |
| hara_r2plus1d     |                                               | 33.4 / 8.5  | 63.7 / 12.9 | 47.0 / 10.5 |
| resnet*_2d3d_full | as rmc4, max-pool after the stem, narrow end  | 14.2 / 6.9  | 32.5 / 15.4 | 24.0 / 13.8 |

Time and score on UCF101: not measured.
"""

from . import common, r23d


def get_config(arch="r3d_18"):
    config = r23d.get_config()
    config.arch = arch
    config.init_from = ""
    config.clip = common.get_config().clip
    if not arch.startswith("resnet"):
        config.model.dropout = 0.0
    return config
