"""Every key a run can set, with its default. A config starts from here and says what it changes."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """All keys with their defaults. A key that is not here does not exist: setting it is an error."""
    config = ConfigDict(type_safe=False)  # config.load checks types, and says it better

    config.arch = "r2plus3d_18"  # a name of `python -m r23d_jax.models`
    config.streams = ()  # two configs, ("rows:2", "rows:3"): an RGB and a flow network, trained apart and fused
    config.init_from = ""  # "" from nothing, or weights: a published name, file, address or checkpoint; never resumes
    config.init_other_input = False  # true: weights trained on another input (RGB for flow, other flow) are taken, too
    config.model = ConfigDict(type_safe=False)
    config.model.dropout = 0.0  # element dropout after every residual block (I3D: before the logits)
    config.model.width = 64  # channels of layer1; 64 is the published network
    config.model.layers = ()  # blocks per stage; () is the published network
    config.model.arguments = ConfigDict(type_safe=False)  # further ones of a network that has them: arguments.KEY=VALUE
    config.model.bn_epsilon = 0.0  # 0: the network's own, or the one on the card of `init_from`

    config.dataset = ConfigDict(type_safe=False)
    config.dataset.name = "tfds_ucf101"  # add "/rgb128" and the like where several are built
    config.dataset.data_dir = "data"  # what `tfds build --data_dir` was given
    config.dataset.split = "1"  # a split of the data set, or "all" for a run on each of them and their mean
    config.dataset.balanced = False  # every class equally often, whatever its number of videos

    config.clip = ConfigDict(type_safe=False)
    # None: as the weights of init_from say; from nothing, as the network's paper does.
    config.clip.frames = None
    config.clip.stride = None  # frames of the (resampled) video between two frames of a clip
    config.clip.fps = None  # frames a second that every video is resampled to; 0: the video's own
    config.clip.size = None  # side of the network's input, in pixels
    config.clip.resize = None  # frame size before the crop: (height, width), or the short side
    config.clip.sampling = None  # "dense" a run of frames, "segments" one of each part, "linspace" evenly spaced ones
    config.clip.mean = None  # of the 0..1 range, one number a channel
    config.clip.std = None

    config.augment = ConfigDict(type_safe=False)
    config.augment.crop = "multi_scale"  # "multi_scale", "random_resized", "random" or "center"
    config.augment.scales = (1.0, 2**-0.25, 2**-0.5, 2**-0.75, 0.5)  # multi_scale: of the short side
    config.augment.area = (0.25, 1.0)  # random_resized: share of the frame
    config.augment.ratio = (0.75, 4 / 3)  # random_resized: width over height
    config.augment.flip = 0.5  # probability of a horizontal flip
    config.augment.flip_sensitive = ()  # classes that a flip would turn into another: never flipped
    config.augment.brightness = 0.0  # colour jitter: factors are drawn from 1 - x to 1 + x
    config.augment.contrast = 0.0
    config.augment.saturation = 0.0
    config.augment.hue = 0.0  # shift of the hue, in turns, drawn from -x to x
    config.augment.mixup = 0.0  # alpha of the Beta distribution; 0 is off
    config.augment.cutmix = 0.0  # the same; with both on, each batch takes one of them
    config.augment.extra = ConfigDict(type_safe=False)  # further ones by name: extra.grayscale=0.2 (a probability)

    config.batch_size = 64  # clips a step over all devices and hosts
    config.accumulate = 1  # micro-batches a step is computed in; BatchNorm sees one at a time
    config.epochs = 100.0  # one random clip of every training video is an epoch
    config.steps = 0  # if not 0: this many steps, whatever `epochs` says
    config.budget_minutes = 0.0  # if not 0: stop, save and evaluate after this much training
    config.seed = 0  # initial weights, data order, augmentation, dropout
    config.dtype = "float32"  # "bfloat16", or "float16" before Ampere: convolutions in it; parameters, loss in fp32
    config.remat = False  # recompute activations in the backward pass: less memory, more time

    config.lr = 0.03  # learning rate for a batch of `lr_batch` clips
    config.lr_batch = 0  # if not 0: the rate is scaled by batch_size / lr_batch
    config.schedule = ConfigDict(type_safe=False)
    config.schedule.name = "cosine"  # "cosine" to zero, "cosine_study", "step", "constant", or any of optax
    config.schedule.warmup_epochs = 0.0  # linear from zero
    config.schedule.milestones = (0.45, 0.65, 0.9)  # step: shares of the run
    config.schedule.gamma = 0.1  # step: factor at each milestone
    config.schedule.arguments = ConfigDict(type_safe=False)  # keywords of optax's: arguments.decay_rate=0.9
    config.optimizer = ConfigDict(type_safe=False)
    config.optimizer.name = "sgd"  # "sgd" with Nesterov momentum, "adamw", or any of optax: "lion", "lamb", "adam"
    config.optimizer.momentum = 0.9  # sgd
    config.optimizer.betas = (0.9, 0.999)  # adamw
    config.optimizer.weight_decay = 0.0  # added to the gradient; adamw and others with a decay of their own: decoupled
    config.optimizer.arguments = ConfigDict(type_safe=False)  # keywords of optax's: arguments.b1=0.95
    config.optimizer.decay_norm = False  # decay BatchNorm's scale and bias too
    config.optimizer.decay_bias = False  # decay the classifier's bias too
    config.optimizer.clip_norm = 0.0  # if not 0: largest global norm of the gradient
    config.optimizer.layer_decay = 1.0  # rate of a stage over the next stage's; the head's is `lr`
    config.freeze_backbone = False  # linear probe: only the classifier learns
    config.freeze_batch_norm = False  # running statistics are used and kept in training
    config.loss = "cross_entropy"  # a name of r23d_jax/training/losses.py
    config.label_smoothing = 0.0
    config.ema = 0.0  # decay of averaged weights, used to evaluate; 0 is off

    config.eval = ConfigDict(type_safe=False)
    config.eval.part = "test"  # videos of the split that are evaluated: "test", "val" or "train"
    # "dense", every non-overlapping clip; a number of spread ones; "segments" or "linspace", one such clip; "whole"
    # videos; "fitted", whole videos a little faster or slower, in few lengths. None: as clip.sampling, and "whole" or
    # "fitted" for weights whose card says so
    config.eval.views = None  # which clips of a video are scored
    config.eval.max_frames = 0  # whole, fitted: the longest clip, and longer videos are several; 0: the card's
    config.eval.crops = 1  # 1 centre crop, or 3 along the longer side
    config.eval.batch_size = 0  # clips a step (whole, fitted: as many frames as those have); 0: as in training
    config.eval.every_epochs = 0.0  # evaluate while training, too; 0: only at the end

    config.checkpoint = ConfigDict(type_safe=False)
    config.checkpoint.every_steps = 0  # 0: every epoch, though not more often than every 50 steps
    config.checkpoint.keep = 2  # newest checkpoints kept, beside the best; with 2 a damaged one has one before it

    config.log_every = 10  # steps between two lines of metrics.jsonl
    config.workers = 0  # decoding threads; 0: one a core
    config.processes = 0  # decoding processes instead of threads, for hosts of more than about ten cores; 0: threads
    config.prefetch = 2  # batches decoded ahead
    return config
