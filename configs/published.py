"""UCF101 numbers anyone can check: weights fine-tuned on UCF101 by others, scored here. The argument is the row.

    tfds build tfds_ucf101 --manual_dir=UCF101 --data_dir=data
    python -m r23d_jax.main --config configs/published.py:ROW --mode eval --which init --workdir runs/published-ROW

| row | weights                                  | published top-1, split 1           |
|-----|------------------------------------------|------------------------------------|
| mc3 | dronefreak-mc3_18-ucf101, from Kinetics  | 87.05 claimed, 86.83 independently |
| r3d | dronefreak-r3d_18-ucf101, from Kinetics  | 83.43 claimed, 82.95 independently |

Protocol of both: 16 frames evenly spaced over the whole video, one view, frames of 128x171, centre crop 112, 3,783
test videos (3,782 in the independent run). Their authors chose the best epoch on these same test videos, so the
figures are upper ends. Labels are in the order of `sorted()`; they are matched by name. Nothing is trained: the card
of the weights says everything, and `r23d weights NAME` prints it. Scores here: not measured.
"""

from . import common


def get_config(row="mc3"):
    config = common.get_config()
    config.arch, config.init_from = {
        "mc3": ("mc3_18", "dronefreak-mc3_18-ucf101"),
        "r3d": ("r3d_18", "dronefreak-r3d_18-ucf101"),
    }[row]
    config.dataset.name = "tfds_ucf101/rgb"
    return config
