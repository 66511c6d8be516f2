"""Trains the network of a probe from the probe's head on, and keeps it only if held-out videos say so."""

import collections
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from r23d_jax import models, report
from r23d_jax.data import sampling
from r23d_jax.data.dataset import Dataset
from r23d_jax.errors import UserError
from r23d_jax.evaluation import metrics
from r23d_jax.evaluation.evaluator import Evaluator, write_results
from r23d_jax.evaluation.predictions import Predictions
from r23d_jax.inference.classifier import Classifier
from r23d_jax.models.functional import Functional
from r23d_jax.probing import network
from r23d_jax.probing.choose import choose, video_scores
from r23d_jax.probing.fit import Probe
from r23d_jax.probing.heads import Linear, temperature
from r23d_jax.probing.validation import folds
from r23d_jax.runtime.files import write_json
from r23d_jax.runtime.mesh import create_mesh, replicate
from r23d_jax.training.loop import train_and_evaluate
from r23d_jax.weights import checkpoint
from r23d_jax.weights.card import tree_sha256

FOLDER = "finetune"


class _Parts:
    """A data set with other parts of its split.

    Args:
      dataset: with the videos.
      parts: name of a part -> int [V], positions.
    """

    def __init__(self, dataset: Dataset, parts: Mapping[str, np.ndarray]):
        self._dataset, self._parts = dataset, parts

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # or it could not be pickled
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def __reduce__(self):
        return _Parts, (self._dataset, self._parts)

    def subset(self, split: str, part: str) -> np.ndarray:
        del split
        return np.sort(self._parts[part]).astype(np.int32)


def finetune(
    probe: Probe, clf: Classifier, out: Path, minutes: float, say: Callable[[str], None]
) -> tuple[dict[str, Any], list[str]]:
    """Trains for some minutes, and puts the result into the run in `out` if it is better.

    One part of the cross-validation is held out. A probe is fitted to the rest, its network trained on the rest, and
    both are scored on the part: the network is kept if more videos are right, by more than a standard error.

    Args:
      probe: fitted, its run in `out`.
      clf: the frozen network.
      out: workdir of the run.
      minutes: of training.
      say: called with lines on the progress.

    Returns:
      The content of `results.json`, and lines for the user.
    """
    if probe.card.arch == "several":
        return probe.results, ["not fine-tuned: several networks side by side are not trained together"]
    parts = [(train, held_out) for _, train, held_out in folds(probe.samples, probe.config.seed)]
    if not parts:
        return probe.results, ["not fine-tuned: there are no videos to hold out, by which it would be judged"]
    train, held_out = parts[0]
    inner = choose(probe.samples.only(train), len(probe.card.labels), probe.config.seed)
    if not isinstance(inner.head, Linear):
        return probe.results, [f"not fine-tuned: the probe is {inner.chosen}, and only linear heads can be trained"]
    weights, card = network.with_head(
        clf, inner.features, inner.head, probe.card.labels, probe.card.init, probe.card.source
    )
    before = probe.samples.only(held_out)
    theirs = _judged(video_scores(inner, before), before.labels)

    folder = out / FOLDER
    begin = folder / "start"
    checkpoint.save_weights(begin, weights, card)
    positions = np.asarray(probe.positions)
    dataset = _Parts(probe.dataset, {"train": positions[train], "val": positions[held_out]})
    frames = _usual_length(probe, card.preprocessing)
    say(f"fine-tuning for {minutes:.1f} minutes on {len(train)} videos, {len(held_out)} held out")
    recipe = _recipe(probe.config, begin, card, frames, len(train), minutes)
    trained = train_and_evaluate(recipe, folder / "run", dataset)
    predictions = Predictions.load(folder / "run" / "predictions.npz")
    factor = temperature(predictions.logits, predictions.labels)
    ours = _judged(metrics.softmax(factor * predictions.logits), predictions.labels)
    # By a standard error: as good is not enough, since the probe learns from the held-out videos too.
    kept = bool(ours[0] > theirs[0] + np.sqrt(theirs[0] * (1 - theirs[0]) / len(held_out)))
    lines = [
        f"fine-tuned: top1 {ours[0]:.4f} on {len(held_out)} held-out videos, cross entropy {ours[1]:.3f}; the probe "
        f"{theirs[0]:.4f}, {theirs[1]:.3f}: {'the fine-tuned network' if kept else 'the probe'} is kept"
    ]
    facts = {
        "kept": kept,
        "held_out_videos": len(held_out),
        "top1": ours[0],
        "cross_entropy": ours[1],
        "probe_top1": theirs[0],
        "probe_cross_entropy": theirs[1],
        "steps": trained["step"],
    }
    results = _keep(probe, folder / "run", out, facts, factor) if kept else probe.results
    if results is not None:
        results = {**results, "fine_tuning": facts}
        if kept and results["part"] != "test":
            results["protocol"] += "; all this is of the probe, before the network was trained and kept"
        write_json(out / "results.json", results)
    report.write(out, probe.dataset)
    return results, lines


def _judged(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Returns the share of videos that are right, and their mean cross entropy."""
    right = np.mean(metrics.ranks(scores, labels) < 1)
    return float(right), float(-np.log(np.maximum(scores[np.arange(len(labels)), labels], 1e-12)).mean())


def _usual_length(probe: Probe, spec) -> int:
    """The most common length of the training videos' clips."""
    if spec.frames:
        return spec.frames
    lengths = collections.Counter(
        sampling.fitted(len(sampling.axis(probe.dataset.videos[p], spec.fps)), spec.stride, spec.max_frames).shape[1]
        for p in probe.positions
    )
    return lengths.most_common(1)[0][0]


def _recipe(config: ConfigDict, begin: Path, card, frames: int, videos: int, minutes: float) -> ConfigDict:
    recipe = config.copy_and_resolve_references().unlock()
    recipe.init_from, recipe.budget_minutes = str(begin), minutes
    spec = card.preprocessing
    recipe.clip.frames, recipe.clip.sampling = frames, spec.sampling if spec.frames else "linspace"
    recipe.eval.part, recipe.eval.max_frames = "val", spec.max_frames
    recipe.batch_size = max(2, min(config.batch_size, videos // 2))
    recipe.log_every = 1
    return recipe.lock()


def _keep(probe: Probe, trained: Path, out: Path, facts: dict[str, Any], factor: float) -> dict[str, Any] | None:
    """Writes the trained network as the run's checkpoint, and its scores and report if there is a test side.

    Returns the content of `results.json`; without a test side it is still the probe's, whose checkpoint stays too.
    """
    values, card = checkpoint.load_weights(checkpoint.find(trained, "last"))
    calibrated = {name: np.float32(factor) * values[name] for name in ("fc.kernel", "fc.bias")}
    values = {**values, **calibrated}
    step = facts["steps"]
    card = dataclasses.replace(
        card,
        preprocessing=probe.card.preprocessing,
        init=probe.card.init,
        source=probe.card.source,
        tensors_sha256=tree_sha256(values),
    )
    kept = out / "checkpoints" / f"{step:08d}"
    if probe.results is None or probe.results["part"] != "test":
        checkpoint.write_folder(kept, {"weights": values}, card, {})
        return probe.results
    mesh = create_mesh()
    evaluator = Evaluator(
        probe.config,
        probe.dataset,
        Functional(models.from_card(card, dtype=probe.config.dtype)),
        card.preprocessing,
        card,
        mesh,
    )
    how = (
        f"a probe, then the whole network trained for {step} steps and kept, since of "
        f"{facts['held_out_videos']} held-out videos, which neither has learned from, top1 is {facts['top1']:.3f}, the "
        f"probe's {facts['probe_top1']:.3f}{probe.remarks}"
    )
    results, predictions = evaluator.run(replicate(values, mesh), step, card.init, how)
    if results["videos_evaluated"] != probe.results["videos_expected"]:
        raise UserError(f"{out}: {results['videos_evaluated']} videos evaluated of {probe.results['videos_expected']}")
    checkpoint.write_folder(kept, {"weights": values}, card, {})
    results["cross_validation"] = probe.results["cross_validation"]
    facts["probe_test_top1"] = probe.results["top1"]
    write_results(out, results, predictions)
    return results
