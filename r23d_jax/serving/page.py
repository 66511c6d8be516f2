"""The README.md of an exported network: its input, its output, and how to run it."""

from typing import Any

from r23d_jax.inference import clips as video_clips
from r23d_jax.weights.card import Card

_JAX = """```python
from jax import export

with open("model.stablehlo", "rb") as file:
    network = export.deserialize(bytearray(file.read()))
logits = network.call({name})  # {name}: {dtype} [batch, {shape}]
```

`jax.jit(network.call)` compiles it once for each batch size. `network.mlir_module()` shows the StableHLO."""

_TENSORFLOW = """```python
import tensorflow as tf

network = tf.saved_model.load(".").signatures["serving_default"]
logits = network({name}=tf.constant({name}))["logits"]  # {name}: {dtype} [batch, {shape}]
```"""


def page(card: Card, facts: dict[str, Any], compared: str) -> str:
    """Returns the README as Markdown.

    Args:
      card: of the network.
      facts: the content of `export.json`.
      compared: a sentence on how the export compares with the network.
    """
    name, dtype, shape = facts["input"]["name"], facts["input"]["dtype"], facts["input"]["shape"][1:]
    times = ", ".join(map(str, shape))
    code = {"stablehlo": _JAX, "savedmodel": _TENSORFLOW}[facts["format"]].format(name=name, dtype=dtype, shape=times)
    labels = f"`labels` in `card.json`, first {card.labels[0]!r}" if card.labels else "not known"
    versions = facts["versions"]
    return "\n".join(
        [
            f"# {card.arch}: {facts['format']} for {', '.join(facts['platforms'])}",
            "",
            code,
            "",
            f"- **In**: `{name}`, {dtype} [batch, {times}]: time, height, width, channels; any batch size. "
            + _input(card, facts),
            f"- **Out**: `logits`, float32 [batch, {facts['output']['shape'][1]}]. Their softmax are the scores of a "
            "clip; a video's are the mean over its clips.",
            f"- **Classes**: {labels}.",
            f"- **Clips**: {_clips(card)}",
            f"- **Checked**: {compared}.",
            f"- Computes in {facts['computed_in']}. Weights {card.tensors_sha256[:12]}"
            + (f", licence {card.licence}" if card.licence else "")
            + f". Written by r23d_jax {versions['r23d_jax']} with JAX {versions['jax']}.",
            "",
        ]
    )


def _input(card: Card, facts: dict[str, Any]) -> str:
    """Describes how to prepare the input."""
    spec = card.preprocessing
    _, height, width, _ = facts["input"]["shape"][1:]
    what = f"{spec.flow} optical flow, stored as round((clip(v, -20, 20) + 20) * 255 / 40)" if spec.flow else "RGB"
    if facts["preprocessing_included"]:
        return f"Decoded frames, {what}, scaled to {height}x{width}; resizing, cropping and normalisation are inside."
    stored = video_clips.stored_size(card)
    steps = [f"Frames of 0..255, {what}"]
    for size in dict.fromkeys(size for size in (stored, spec.resize) if size is not None):
        steps.append("scaled to " + (f"{size[0]}x{size[1]}" if isinstance(size, tuple) else f"short side {size}"))
    if spec.crop:
        steps.append(f"centre crop {spec.crop}x{spec.crop}")
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (spec.mean, spec.std))
    return f"{', '.join(steps)}, then (x / 255 - mean) / std with mean ({mean}) and std ({std})."


def _clips(card: Card) -> str:
    spec = card.preprocessing
    rate = "" if spec.fps is None else f" of the video at {spec.fps:g} frames a second"
    stride = "consecutive" if spec.stride == 1 else f"{spec.stride} apart"
    return f"{spec.frames} frames{rate}, {stride}."
