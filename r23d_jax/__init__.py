"""Spatiotemporal convolution networks for action recognition in video, in JAX and Flax.

    import r23d_jax
    clf = r23d_jax.load("weights/i3d")               # a converted folder, workdir, weights file or published name
    clf.predict("video.mp4", top=5)
    probe = r23d_jax.fit("weights/i3d", "clips", "runs/mine")    # a classifier for the classes of a folder of clips
    results = r23d_jax.train("r23d", "runs/r23d")

Importing this package is fast: everything behind these functions, and the submodules, are imported on first use. No
import starts a JAX backend or needs TensorFlow or PyTorch.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flax import nnx
    from ml_collections import ConfigDict

    from r23d_jax.data.dataset import Dataset
    from r23d_jax.data.records import VideoDataset
    from r23d_jax.inference.classifier import Classifier

__version__ = "0.1.0"
_MODULES = (
    "config",
    "convert",
    "data",
    "errors",
    "evaluation",
    "experiments",
    "inference",
    "models",
    "probing",
    "report",
    "runtime",
    "serving",
    "training",
    "transforms",
    "viz",
    "weights",
)
__all__ = ["UserError", "create_model", "fit", "list_models", "load", "open_dataset", "train", *_MODULES]


def load(source: str | Path, **options: Any) -> "Classifier":
    """Loads a network with its labels and preprocessing, ready to use on videos.

    Args:
      source: a published name (`r23d weights`), a weights file of another project, `hf://OWNER/REPO[/FILE][@REVISION]`,
        an address, a checkpoint folder or a run's workdir.
      **options: which, arch, labels, dtype: see `inference.classifier.load`.

    Returns:
      A `Classifier`, with `predict`, `features`, `transform`, `card` and `labels`.

    Raises:
      UserError: the source is missing, damaged or of no known network.
    """
    from r23d_jax.inference import classifier

    return classifier.load(source, **options)


def fit(weights: "str | Path | Classifier", data: str | Path, out: str | Path, **options: Any) -> "Classifier":
    """Makes a classifier for labelled videos on the frozen features of some weights, and writes its run; `r23d probe`.

    Args:
      weights: as in `load`, or a loaded classifier.
      data: a folder with a folder of videos a class, a table of videos, or "NAME@DATA_DIR" of a built data set.
      out: workdir of the run, with results.json and report.html.
      **options: split, size, dtype, shots, mirrored, minutes, seed, suggest, finetune and others: see
        `probing.session.run`.

    Returns:
      The classifier; `load(out)` is the same.

    Raises:
      UserError: the weights or the data do not do, a video cannot be read, or `out` holds a run.
    """
    from r23d_jax.probing import session

    session.run(weights, data, out, **options)
    return load(out, which="last", dtype=options.get("dtype", "float32"))


def train(
    config: "str | Path | ConfigDict",
    workdir: str | Path,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    dataset: "Dataset | None" = None,
) -> dict[str, Any]:
    """Trains and evaluates a config in `workdir`, or resumes the run there.

    Args:
      config: a config file, the name of one in configs/ (`r23d`), or a `ConfigDict`.
      workdir: created if missing; checkpoints, log, results and report are written there.
      overrides: values for keys, `{"clip.frames": 8}` or `["clip.frames=8"]`.
      dataset: your own data, see `data.dataset.Dataset`; by default the data set that the config names.

    Returns:
      The content of `results.json`.

    Raises:
      UserError: bad config, data or weights; a workdir of another config; or a loss that is not finite.
      Interrupted: SIGINT or SIGTERM was received and the state is saved; the same call continues.
    """
    from r23d_jax.experiments import run

    return run.train(config, workdir, overrides, dataset)


def open_dataset(data_dir: str | Path, name: str = "tfds_ucf101") -> "VideoDataset":
    """Opens a data set that `tfds build` has built.

    Args:
      data_dir: as in `tfds build --data_dir`.
      name: such as "tfds_ucf101/rgb128"; needed if several are built.

    Raises:
      UserError: the data set is missing or damaged.
    """
    from r23d_jax.data import records

    return records.VideoDataset.open(data_dir, name)


def list_models() -> list[str]:
    """Returns the names for `create_model` and `config.arch`."""
    from r23d_jax import models

    return list(models.NAMES)


def create_model(name: str, num_classes: int = 400, *, seed: int = 0, **options: Any) -> "nnx.Module":
    """Creates a network with fresh weights, in training mode.

    Args:
      name: one of `list_models()`.
      num_classes: classes of the head.
      seed: of the weights.
      **options: frames, in_channels, dropout, dtype, width, layers, bn_epsilon: see `models.create`.

    Raises:
      UserError: the name is unknown, or the network does not take the arguments.
    """
    from flax import nnx

    from r23d_jax import models

    return models.create(name, num_classes, rngs=nnx.Rngs(seed), **options)


def __getattr__(name: str) -> Any:
    if name == "UserError":
        return importlib.import_module("r23d_jax.errors").UserError
    if name in _MODULES:
        return importlib.import_module(f"r23d_jax.{name}")
    raise AttributeError(f"module 'r23d_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
