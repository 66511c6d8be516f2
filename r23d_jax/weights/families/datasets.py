"""Class names and pixel statistics of data sets that several families were trained on."""

from importlib import resources

# Kinetics' statistics as in torchvision and VMZ (there on 0..255).
KINETICS = {"mean": (0.43216, 0.394666, 0.37645), "std": (0.22803, 0.22145, 0.216989)}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def kinetics400() -> tuple[str, ...]:
    """Returns Kinetics-400's class names in the order of the published weights' logits (alphabetical)."""
    text = resources.files("r23d_jax.weights.families").joinpath("kinetics400.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
