"""Compares losses in float32 and bfloat16: the same weights, clips and steps, on rendered motions.

The network is a narrow R(2+3)D-18, as in `configs/demo.py`.
"""

from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from gpu_parts import sizes
from gpu_parts.children import Reporter
from r23d_jax import config as configs
from r23d_jax.runtime.mesh import by_row, create_mesh, replicated
from r23d_jax.training import setup
from r23d_jax.transforms import spec as specs
from r23d_jax.weights import clip_values
from tfds_ucf101 import motion

WINDOWS = 10


def rendered(count: int, frames: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns clips uint8 [count, frames, size, size, 3] and labels; every second clip is the one before, reversed."""

    def pair(number: int) -> np.ndarray:
        clip = motion.render_clip(number % len(motion.PAIRS), np.random.default_rng(number), frames, size)
        return np.stack([clip, clip[::-1]])

    with ThreadPoolExecutor() as pool:
        clips = np.concatenate(list(pool.map(pair, range(count // 2))))
    names = [name for number in range(count // 2) for name in motion.PAIRS[number % len(motion.PAIRS)]]
    return clips, np.int32([motion.CLASSES.index(name) for name in names])


def curve(dtype: str, clips: np.ndarray, labels: np.ndarray, size: sizes.Sizes) -> dict[str, list[float]]:
    """Returns mean loss and accuracy in each tenth of a training run."""
    network = [f"model.width={size.curve_width}", f"model.layers={size.layers}"]
    overrides = [f"dtype={dtype}", f"steps={size.curve_steps}", *network]
    config, mesh = clip_values.of_config(configs.load("demo", overrides)), create_mesh()
    arguments, spec = setup.model_arguments(config, len(motion.CLASSES), 3, None), specs.from_config(config)
    run = setup.create(config, arguments, motion.CLASSES, spec, mesh, size.curve_steps, size.curve_steps / 15)
    state, rng, found = jax.device_put(run.state(), replicated(mesh)), np.random.default_rng(0), []
    for _ in range(size.curve_steps):
        chosen = rng.choice(len(clips), config.batch_size)
        batch = {
            "frames": clips[chosen],
            "size": np.tile(np.int32(clips.shape[2:4]), (len(chosen), 1)),
            "label": labels[chosen],
            "crop": np.zeros(len(chosen), np.int32),
            "index": np.int32(chosen),
        }
        state, metrics = run.step(state, jax.device_put(batch, by_row(mesh)))
        found.append((metrics["loss"], metrics["accuracy"]))
    tenths = np.array_split(np.float64(jax.device_get(found)), min(WINDOWS, size.curve_steps))
    loss, accuracy = np.stack([part.mean(0) for part in tenths]).T
    return {"loss": loss.tolist(), "accuracy": accuracy.tolist()}


def main() -> None:
    reporter = Reporter()
    size = sizes.of(reporter.settings["small"])
    config = clip_values.of_config(configs.load("demo", []))
    clips, labels = rendered(size.curve_clips, config.clip.frames, config.clip.resize)
    for dtype in reporter.settings["dtypes"]:
        reporter.send(record={"dtype": dtype, "steps": size.curve_steps, **curve(dtype, clips, labels, size)})
    reporter.end()


if __name__ == "__main__":
    main()
