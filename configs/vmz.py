"""R(2+1)D-34 on UCF101, VMZ's recipe. The argument is its input: rgb or flow (Farneback).

    tfds build tfds_ucf101 --manual_dir=UCF101 --data_dir=data
    python -m r23d_jax.main --config configs/vmz.py[:INPUT] --workdir runs/vmz --config.dtype=bfloat16

Fine-tunes VMZ's weights of Sports-1M and Kinetics-400 as its script does: 32 consecutive frames of 128x171, random 112
crop, flip, SGD with Nesterov momentum .9, rate 8e-4 for 32 clips (1e-4 on each of 8 GPUs), down tenfold every quarter,
weight decay 5e-3, 800,000 clips (84 epochs here); scored on 10 uniformly spread clips. Its scale jitter is left out.
From nothing, `--config.init_from=`, take its Kinetics rate and decay: --config.lr=0.01
--config.optimizer.weight_decay=1e-4. Cost of a clip: 152 GMAC, 63.5 M parameters. Time and score on UCF101: not
measured.
"""

from . import common


def get_config(input="rgb"):
    config = common.get_config()
    config.arch = "r2plus1d_34"
    stream = {"rgb": "", "flow": "flow-"}[input]
    config.init_from = f"vmz-r2plus1d_34-32-{stream}sports1m-kinetics400"
    config.dataset.name = "tfds_ucf101/rgb"
    if input == "flow":
        config.dataset.name = "tfds_ucf101/flow_farneback"
    config.augment.crop = "random"
    config.batch_size = config.lr_batch = 32
    config.epochs = 84.0
    config.lr = 8e-4
    config.schedule.name = "step"
    config.schedule.milestones = (0.25, 0.5, 0.75)
    config.optimizer.weight_decay = 5e-3
    config.eval.views = 10
    return config
