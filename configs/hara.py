"""kenshohara's 3D-ResNets: a stem 7 frames long and a 3D max-pool, which makes them cheap.

    python -m r23d_jax.main --config configs/hara.py[:NETWORK] --workdir runs/hara

The argument is r3d_18, r3d_34, r3d_50, r2plus1d_18, r2plus1d_34 or r2plus1d_50. The recipe is the study's
(configs/r23d.py) with that project's mean and deviation of Kinetics. Time and score on UCF101: not measured.
"""

from . import r23d


def get_config(network="r3d_18"):
    config = r23d.get_config()
    config.arch = f"hara_{network}"
    config.init_from = ""
    config.model.dropout = 0.0
    config.clip.mean = (0.4345, 0.4051, 0.3775)
    config.clip.std = (0.2768, 0.2713, 0.2737)
    return config
