"""A linear probe: only a new classifier learns, on the frozen features of published weights.

    python -m r23d_jax.main --config configs/probe.py --workdir runs/probe --config.init_from=rgb_kinetics400.pt

The cheapest use of pre-trained weights and the safest with little data: BatchNorm keeps its statistics and the
backward pass covers the classifier alone. Set for I3D at half its published size, which two CPU cores can do; for
other weights set arch and clip.size, clip.resize and clip.frames. Frame rate and normalisation are the weights' own.
"""

from . import common


def get_config():
    config = common.get_config()
    config.arch = "i3d"
    config.freeze_backbone = True
    config.freeze_batch_norm = True
    config.clip.frames = 32
    config.clip.size = 112
    config.clip.resize = (128, 171)
    config.augment.scales = (1.0, 0.84)
    config.batch_size = 8
    config.epochs = 6.0
    config.optimizer.name = "adamw"
    config.lr = 3e-3
    return config
