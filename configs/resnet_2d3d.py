"""The study's own class, shared with DPC and MemDPC: 2D stem, layer1 and layer2, 3D layer3 and layer4.

    python -m r23d_jax.main --config configs/resnet_2d3d.py[:DEPTH] --workdir runs/resnet_2d3d

The argument is the depth: 18, 34 or 50. The recipe is the study's (configs/r23d.py).
Time and score on UCF101: not measured.
"""

from . import r23d


def get_config(depth="18"):
    config = r23d.get_config()
    config.arch = f"resnet{depth}_2d3d_full"
    config.init_from = ""
    return config
