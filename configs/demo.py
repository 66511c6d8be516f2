"""A small R(2+3)D on the rendered data set `motion`, in a few minutes on two CPU cores: `make demo`.

Eight classes in time-reversed pairs, so no frame and no set of frames tells a pair apart. The network is
R(2+3)D-18 at a quarter of its width; the same recipe with `--config.arch=f_r2d_18` cannot tell the pairs apart.
"""

from . import common


def get_config():
    config = common.get_config()
    config.arch = "r2plus3d_18"
    config.model.width = 16
    config.dataset.name = "tfds_ucf101/motion"
    config.clip.frames = 8
    config.clip.size = 48
    config.clip.resize = 56
    config.clip.mean = config.clip.std = (0.5, 0.5, 0.5)
    config.augment.scales = (1.0, 0.84, 0.71)
    # A flip would turn these into each other; with the flip on, the others would still be flipped.
    config.augment.flip = 0.0
    config.augment.flip_sensitive = ("MoveLeft", "MoveRight", "RotateClockwise", "RotateCounterclockwise")
    config.batch_size = 32
    config.epochs = 15.0
    config.lr = 0.05
    config.schedule.warmup_epochs = 1.0
    return config
