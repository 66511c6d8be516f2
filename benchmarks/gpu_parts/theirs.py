"""Measures training steps of torchvision's networks in PyTorch: bfloat16 autocast, channels_last_3d, eager or compiled.

Their steps have no augmentation; ours have.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"  # PyTorch has the GPU's memory for itself

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch_side_by_side import CLASSES, theirs  # noqa: E402
from torch_sources import import_torchvision  # noqa: E402

from gpu_parts import sizes  # noqa: E402
from gpu_parts.children import Reporter  # noqa: E402
from gpu_parts.timing import rates  # noqa: E402
from r23d_jax.benchmark import clip_size  # noqa: E402
from r23d_jax.errors import one_line  # noqa: E402


def main() -> None:
    reporter = Reporter()
    size = sizes.of(reporter.settings["small"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    frames, side = clip_size(size.clip)
    video = np.random.default_rng(0).normal(size=(size.batch, frames, side, side, 3)).astype(np.float32)
    labels = np.arange(size.batch, dtype=np.int32) % CLASSES
    reporter.send(
        machine={"torch": torch.__version__, "torchvision": import_torchvision().__version__}
        | {"torch_cudnn": str(torch.backends.cudnn.version())}
    )
    for arch, mode in reporter.settings["pairs"]:
        reporter.send(begin=[arch, mode])
        try:
            steps = theirs(arch, video, labels, "bfloat16", device, "channels_last_3d", compiled=mode == "compiled")
            for _ in range(3):
                steps["train"]()
            found = rates(steps["train"], lambda: None, size.batch, size.rounds, size.window)
        except Exception as error:  # whatever it is: the others are measured, and this is reported
            reporter.send(failed={"name": f"torchvision {arch}, {mode}", "why": one_line(error)[:300]})
            continue
        memory = torch.cuda.max_memory_allocated() if device == "cuda" else None
        reporter.send(
            record={
                "arch": arch,
                "mode": mode,
                "batch": size.batch,
                "clip": size.clip,
                "clips_per_s": found["rate"],
                "least": found["least"],
                "largest": found["largest"],
                "bytes": memory,
            }
        )
        del steps
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    reporter.end()


if __name__ == "__main__":
    main()
