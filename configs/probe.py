"""Fine-tuning of a few hundred videos from the run of a probe on; `r23d probe --finetune` trains by it.

    r23d probe --weights deepmind-i3d_rgb-kinetics400 tfds_ucf101@data --out runs/probe
    python -m r23d_jax.main --config configs/probe.py --workdir runs/tuned --config.init_from=runs/probe \\
      --config.dataset.data_dir=data --config.clip.frames=64 --config.clip.sampling=linspace --config.eval.views=fitted

The probe has found the classifier, so everything may learn from the start, at small rates: the deeper a stage the
larger, and BatchNorm keeps its statistics. The weights that are evaluated are averages over the last steps. For weights
of another network set arch; clips are the weights' own.
"""

from . import common


def get_config():
    config = common.get_config()
    config.arch = "i3d"
    config.freeze_batch_norm = True
    config.augment.scales = (1.0, 0.84)
    config.augment.flip = 0.0  # a head that sees the mirror image does so itself
    config.batch_size = 8
    config.epochs = 10.0
    config.optimizer.name = "adamw"
    config.optimizer.weight_decay = 1e-2
    config.optimizer.layer_decay = 0.8
    config.lr = 1e-4
    config.schedule.warmup_epochs = 0.5
    config.label_smoothing = 0.1
    config.ema = 0.95
    return config
