"""A few dozen to a few hundred videos on a CPU: what we would start from with data like that.

    tfds build tfds_ucf101 --manual_dir=MINE --data_dir=data
    python -m r23d_jax.main --config configs/small.py --workdir runs/small

R(2+3)D-18 at a quarter of its width on 16 frames of 56x56, from nothing. With little data the clip is long in
time (stride 2: a second of video) and small in space, crops stay large, and the weights are averaged. With
published weights at hand begin with `r23d probe` (docs/probe.md). If left and right make a difference in your
classes, list them in augment.flip_sensitive.
"""

from . import common


def get_config():
    config = common.get_config()
    config.model.width = 16
    config.clip.stride = 2
    config.clip.size = 56
    config.clip.resize = (64, 86)
    config.augment.scales = (1.0, 0.84)
    config.batch_size = 16
    config.steps = 600  # 9,600 clips, however few videos they come from
    config.lr = 0.02
    config.schedule.warmup_epochs = 1.0
    config.optimizer.weight_decay = 5e-4
    config.label_smoothing = 0.1
    config.ema = 0.98
    return config
