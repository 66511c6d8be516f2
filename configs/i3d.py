"""I3D trained on UCF101 as its authors did. The argument is its input: rgb or flow (TV-L1).

    tfds build tfds_ucf101 --config rgb256 --manual_dir=UCF101 --data_dir=data
    python -m r23d_jax.main --config configs/i3d.py[:INPUT] --workdir runs/i3d --config.dtype=bfloat16

From Carreira and Zisserman 2017: 64 consecutive frames (short videos are looped), short side 256, random 224 crop,
flip, SGD with momentum .9 (here Nesterov's), dropout .5 before the classifier, the rate down tenfold when the loss no
longer falls, up to 5,000 steps on UCF101. Chosen here, as they do not say: batch 64 (34 epochs are 5,067 steps), rate
.03, weight decay 1e-4, steps down at 60 and 85 %. They score whole videos: --config.eval.views=whole.

From nothing; `--config.init_from=slim-inception_v1-imagenet` inflates the 2D network, and
deepmind-i3d_rgb-imagenet-kinetics400 or deepmind-i3d_flow-imagenet-kinetics400 is I3D itself. Those bring their rate,
25 frames/s, which from nothing is the videos' own.
Cost of a clip: 111 GMAC (flow 102), 12.4 M parameters. Time and score on UCF101: not measured.
"""

from . import common


def get_config(input="rgb"):
    config = common.get_config()
    config.arch = "i3d"
    config.model.dropout = 0.5
    config.dataset.name = {"rgb": "tfds_ucf101/rgb256", "flow": "tfds_ucf101/flow256"}[input]
    config.augment.crop = "random"
    config.batch_size = config.lr_batch = 64
    config.epochs = 34.0
    config.lr = 0.03
    config.schedule.name = "step"
    config.schedule.milestones = (0.6, 0.85)
    config.optimizer.weight_decay = 1e-4
    return config
