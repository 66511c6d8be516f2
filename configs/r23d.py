"""R(2+3)D-18 on UCF101, the study's recipe (row 11 of its table: 86.8 % from Kinetics-400; split 1).

    tfds build tfds_ucf101 --config rgb128 --manual_dir=UCF101 --data_dir=data
    python -m r23d_jax.main --config configs/r23d.py --workdir runs/r23d --config.dataset.name=tfds_ucf101/rgb128

It starts from VMZ's Kinetics-400 rMC4-18, which is R(2+3)D-18 under its other name; where that file cannot be
fetched, the error says which one to put where. Torchvision's R3D-18, its kernels summed over time where this
network is 2D, is the other start: --config.init_from=torchvision-r3d_18-kinetics400. From nothing, as the
study's released script does: --config.init_from=

The recipe: 16 consecutive frames of 128x128 JPEGs; short side to 136; multi-scale random crop to 112; flip;
mean .5, deviation .5; SGD with Nesterov momentum .9, lr .03, no weight decay, lr * cos(7/16 pi t); 300 epochs
of one random clip a video, batch 64: 9537 / 64 = 149.02 steps an epoch, 44,705 in all; dropout .3 after every
residual block. Scored on every non-overlapping clip of every test video, centre crop, mean of softmaxes.

Done right where the study's script has a plain bug: frames are divided by 255 before they are normalised,
the last full clip of a video counts, and videos shorter than a clip are looped instead of crashing.

Hardware: the study gives "about one week"; here 243 GFLOP a clip at most, 2.86 million clips. Time and score
of this config on UCF101: not measured.
"""

from . import common


def get_config():
    config = common.get_config()
    config.arch = "r2plus3d_18"
    config.init_from = "vmz-rmc4_18-16-kinetics400"
    config.model.dropout = 0.3
    config.clip.frames = 16  # of the recipe, whatever weights it starts from
    config.clip.stride = 1
    config.clip.fps = 0.0
    config.clip.size = 112
    config.clip.resize = 136
    config.clip.mean = config.clip.std = (0.5, 0.5, 0.5)
    config.epochs = 300.0
    config.schedule.name = "cosine_study"
    config.eval.every_epochs = 10.0
    return config
