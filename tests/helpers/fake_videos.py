"""Small videos, untrained checkpoints, and running a command on them: for the tests of `predict` and `features`."""

from fractions import Fraction

import av
import numpy as np

from r23d_jax import models
from r23d_jax.models.functional import weights_of
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights import checkpoint
from r23d_jax.weights.card import Card

LABELS = ("waving", "jumping", "a third class")
SPEC = Preprocessing(resize=(32, 44), crop=28, frames=4)


def write_video(path, count=24, size=(48, 64), fps=10, seed=0):
    """A small lossless video of moving noise; every frame differs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texture = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(fps))
        stream.height, stream.width, stream.pix_fmt = *size, "bgr0"
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(np.roll(texture, 2 * number, axis=1), "rgb24")
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode(None))
    return path


def write_checkpoint(folder, spec=SPEC, arch="r2plus3d_18", labels=LABELS, seed=0, head=None, **source):
    """An untrained network of one narrow block a stage, with running statistics that are not neutral."""
    arguments = {
        "num_classes": 3,
        "frames": spec.frames or 16,
        "in_channels": len(spec.mean),
        "dropout": 0.0,
        "width": 4,
        "layers": [1, 1, 1, 1],
        "bn_epsilon": None,
        **({"head": head} if head else {}),
    }
    params, stats = weights_of(models.create_from_arguments(arch, arguments, seed=seed))
    weights = {name: np.asarray(value) for name, value in {**params, **stats}.items()}
    weights["fc.kernel"] = 5 * weights["fc.kernel"]
    return checkpoint.save_weights(folder, weights, Card(arch, arguments, labels, spec, source=source))
