"""The study's recipe, the same for every network. The argument is the data set: motion (rendered) or ucf101.

    tfds build tfds_ucf101 --config motion --data_dir=data
    python -m r23d_jax.study --config configs/study.py --workdir runs/study

`motion`: the networks at an eighth of their width on 8 frames of 32x32, from nothing, 12 epochs of 576 videos in
batches of 16: 432 steps. 36 runs of about a minute on two CPU cores.

    tfds build tfds_ucf101 --manual_dir=UCF101 --data_dir=data
    python -m r23d_jax.study --config configs/study.py:ucf101 --workdir runs/study

`ucf101`: the recipe of configs/scratch.py (the study's, without its dropout, on frames of 128x171) at full size on
split 1, every network from nothing, whatever weights could be had for some of them. Time and scores: not measured.
"""

from r23d_jax.errors import UserError

from . import demo, scratch


def get_config(dataset="motion"):
    if dataset == "ucf101":
        config = scratch.get_config()
        config.dataset.name = "tfds_ucf101/rgb"
        return config
    if dataset != "motion":
        raise UserError(f"--config study:{dataset}: it has a recipe for motion and one for ucf101")
    config = demo.get_config()
    config.model.width = 8
    config.clip.size = 32
    config.clip.resize = 36
    config.batch_size = 16
    config.epochs = 12.0
    config.lr = 0.03
    return config
