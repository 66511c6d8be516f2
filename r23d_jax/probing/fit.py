"""Fits a probe: features, the choice of a head, its evaluation, and the workdir of a run with all of it."""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from r23d_jax import config as configs
from r23d_jax import report
from r23d_jax.data.dataset import Dataset
from r23d_jax.errors import UserError
from r23d_jax.evaluation.evaluate import average
from r23d_jax.evaluation.evaluator import Evaluator, write_results
from r23d_jax.evaluation.predictions import Predictions
from r23d_jax.inference import clips as video_clips
from r23d_jax.inference.classifier import Classifier
from r23d_jax.models.functional import Functional
from r23d_jax.models.head import VIEWS
from r23d_jax.probing import network
from r23d_jax.probing.choose import Choice, choose, clip_logits, table
from r23d_jax.probing.data import LabelledVideos
from r23d_jax.probing.dataset import VideoFiles
from r23d_jax.probing.extract import Extractor, VideoFeatures, records_of, samples_of
from r23d_jax.probing.samples import Samples
from r23d_jax.probing.validation import folds
from r23d_jax.runtime.addresses import public_name
from r23d_jax.runtime.files import write_json
from r23d_jax.runtime.mesh import create_mesh
from r23d_jax.runtime.workdir import claim_workdir
from r23d_jax.weights import checkpoint
from r23d_jax.weights.card import Card

FILE_NAME = "probe.json"
_SLICE = 32  # videos whose time says that of all
_SHARE = 0.7  # of the minutes are for features


@dataclasses.dataclass(frozen=True)
class Options:
    """How a probe is fitted.

    Attributes:
      shots: so many training videos a class are used, drawn by the seed; 0 for all.
      mirrored: whether mirror images are tried.
      minutes: mirror images are left out where they would not be done in most of this; 0 for no limit.
      seed: of folds and draws.
      batch_size: clips per batch; 0 to choose by the device.
      skip_unreadable: videos that cannot be read are left out instead of being an error.
    """

    shots: int = 0
    mirrored: bool = True
    minutes: float = 0.0
    seed: int = 0
    batch_size: int = 0
    skip_unreadable: bool = False

    def __post_init__(self):
        if self.shots < 0 or not 0 <= self.minutes < math.inf:
            raise UserError(f"shots={self.shots}, minutes={self.minutes:g}: give numbers above 0, or 0 for no limit")
        if not 0 <= self.seed < 1 << 31:
            raise UserError(f"seed={self.seed}: give a whole number from 0 to {(1 << 31) - 1}")


@dataclasses.dataclass(frozen=True)
class Probe:
    """A fitted probe.

    Attributes:
      weights, card: of the network with its head, flat.
      choice: how the head was chosen.
      results: the content of `results.json`, None where nothing could be evaluated.
      dataset: the videos as a data set.
      samples: features of the training videos.
      positions: of those in `dataset`.
      config: of the run.
      remarks: what its protocol says of videos that were left out.
    """

    weights: dict[str, np.ndarray]
    card: Card
    choice: Choice
    results: dict[str, Any] | None
    dataset: Dataset
    samples: Samples
    positions: tuple[int, ...]
    config: ConfigDict
    remarks: str


def fit(
    clf: Classifier,
    origin: str,
    data: LabelledVideos,
    data_dir: str,
    out: Path,
    options: Options,
    extractor: Extractor,
    say: Callable[[str], None],
) -> Probe:
    """Fits a probe and writes its run.

    Args:
      clf: the frozen network, from `network.frozen`.
      origin: what the user called the weights.
      data: labelled videos.
      data_dir: what the user called them.
      out: workdir of the run, empty or not there.
      options: how.
      extractor: of features, for `clf`.
      say: called with lines for the user.

    Raises:
      UserError: the data do not do for a probe, or a video cannot be read.
    """
    start = time.monotonic()
    training, test = sides(data, options)
    features = _features(clf, data, [*training, *test], options, extractor, say)
    left_out = len(training) + len(test) - len(features)
    training, test = ([index for index in side if index in features] for side in (training, test))
    _check_classes(data, training, "can be read")
    samples = samples_of(data, features, training, extractor.grid_of)
    begun = time.monotonic()
    choice = choose(samples, len(data.class_names), options.seed)
    say(f"chosen in {time.monotonic() - begun:.0f} s: {describe(choice, samples)}")
    weights, card = network.with_head(
        clf, choice.features, choice.head, data.class_names, public_name(origin), _source(clf, data)
    )
    dataset = data.dataset
    if dataset is None:
        size, flow = video_clips.stored_size(clf.card), clf.card.preprocessing.flow
        dataset = VideoFiles(data, records_of(data, features), size, flow)
    config = _config(clf, origin, data, data_dir, options, "test" if test else "train")
    if test:
        predictions = _on_test(data, dataset, samples_of(data, features, test, extractor.grid_of), test, choice)
    elif choice.folds:
        say("the data have no test side: scoring every video by a probe that saw none of its group")
        predictions = _cross_validated(data, dataset, samples, training, options.seed)
    else:
        predictions = None
        say("nothing to evaluate: there is no test side, and no class has videos of two groups to hold one out")
    remarks = (
        f"; at most {options.shots} training videos a class, drawn by seed {options.seed}" if options.shots else ""
    )
    remarks += f"; {left_out} videos that cannot be read left out" if left_out else ""
    results = None
    if predictions is not None:
        evaluator = Evaluator(config, dataset, Functional(clf.model), card.preprocessing, card, create_mesh())
        results = evaluator.results(predictions, 0, card.init, _protocol(choice, samples, bool(test), remarks))
        results |= {"videos_expected": len(test or training)}
        results |= {"cross_validation": _of_choice(choice)} if choice.folds else {}
    out.mkdir(parents=True, exist_ok=True)
    claim_workdir(out, config, dataset)
    write_json(out / FILE_NAME, _summary(clf, choice, samples, options, extractor, test, time.monotonic() - start))
    if results is not None:
        write_results(out, results, predictions)
    checkpoint.write_folder(out / "checkpoints" / f"{0:08d}", {"weights": weights}, card, {})  # a run from here on
    report.write(out, dataset, (weights, card))
    positions = tuple(data.positions[index] for index in training)
    return Probe(weights, card, choice, results, dataset, samples, positions, config, remarks)


def describe(choice: Choice, samples: Samples) -> str:
    """Returns a line on what was chosen, and how well it does by cross-validation."""
    seen = " + ".join(choice.features.stages)
    order = f" in {choice.features.bins} parts of time" if choice.features.bins > 1 else ""
    mirrored = ", and of the mirror image" if choice.features.mirrored else ""
    cross = ""
    if choice.folds:
        cross = f"; {choice.folds}-fold cross-validation over {len(samples.labels)} training videos: top1 "
        cross += f"{choice.top1:.3f} ± {choice.spread:.3f} over the folds"
    return f"{choice.chosen} on {seen}{order}{mirrored}{cross}"


def sides(data: LabelledVideos, options: Options) -> tuple[list[int], list[int]]:
    """Returns the places of training and test videos; validation videos train, since cross-validation chooses."""
    training = [index for index, video in enumerate(data.videos) if video.part in ("train", "val")]
    test = [index for index, video in enumerate(data.videos) if video.part == "test"]
    if options.shots:
        rng = np.random.default_rng(options.seed)
        drawn = []
        for label in range(len(data.class_names)):
            of_class = [index for index in training if data.videos[index].label == label]
            drawn += sorted(rng.permutation(of_class)[: options.shots].tolist())
        training = sorted(drawn)
    _check_classes(data, training, "to learn from")
    return training, test


def _check_classes(data: LabelledVideos, training: list[int], what: str) -> None:
    there = {data.videos[index].label for index in training}
    missing = [name for label, name in enumerate(data.class_names) if label not in there]
    if missing:
        raise UserError(f"class {missing[0]} ({len(missing)} in all) has no video {what} on the training side")


def _features(clf, data, videos, options: Options, extractor: Extractor, say) -> dict[int, VideoFeatures]:
    views = VIEWS if options.mirrored and clf.card.preprocessing.channels == "rgb" else VIEWS[:1]
    first = views if not options.minutes else VIEWS[:1]
    start = time.monotonic()
    features, failed = extractor.run(data, videos, first, options.batch_size)
    _refuse_or_say(data, failed, len(videos), options, say)
    return features if first == views else _mirrored(data, features, options, extractor, start, say)


def _mirrored(data, features, options: Options, extractor: Extractor, start: float, say) -> dict[int, VideoFeatures]:
    """Adds mirror images, if by the first videos' time all will be done; what was computed is kept for another time."""
    places, deadline = sorted(features), start + _SHARE * 60 * options.minutes
    begun = time.monotonic()
    whole, failed = extractor.run(data, places[:_SLICE], VIEWS, options.batch_size)
    expected = begun + (time.monotonic() - begun) / len(places[:_SLICE]) * len(places)
    if max(expected, time.monotonic()) > deadline:
        say(f"mirror images left out: about {(expected - begun) / 60:.1f} minutes, of {options.minutes:g} in all")
        return features
    more, more_failed = extractor.run(data, places[_SLICE:], VIEWS, options.batch_size)
    _refuse_or_say(data, failed | more_failed, len(places), options, say)
    return whole | more


def _refuse_or_say(data, failed: dict[int, Exception], count: int, options: Options, say) -> None:
    if not failed:
        return
    index, error = next(iter(failed.items()))
    first = f"first {data.videos[index].shown}: {error}"
    if not options.skip_unreadable:
        raise UserError(
            f"{len(failed)} of {count} videos cannot be read, {first}; mend or remove them, or leave them out with "
            "--skip-unreadable"
        )
    say(f"left out, since they cannot be read: {len(failed)} videos, {first}")


def _on_test(data, dataset, samples: Samples, test, choice: Choice) -> Predictions:
    """The scores of the test videos, each exactly once."""
    positions = np.asarray([data.positions[index] for index in test])
    return average(dataset, positions, samples.video, clip_logits(choice, samples))


def _cross_validated(data, dataset, samples: Samples, training, seed: int) -> Predictions:
    """The scores of the training videos, each by a probe that was chosen and fitted without its group."""
    logits = np.full((len(samples.video), len(data.class_names)), np.nan)
    outer = [(train, held_out) for repeat, train, held_out in folds(samples, seed) if not repeat]
    for train, held_out in outer:
        inner = choose(samples.only(train), len(data.class_names), seed)
        logits[samples.clips_of(held_out)] = clip_logits(inner, samples.only(held_out))
    return average(dataset, np.asarray([data.positions[index] for index in training]), samples.video, logits)


def _source(clf: Classifier, data: LabelledVideos) -> dict[str, Any]:
    published = clf.card.source.get("published") or clf.card.source.get("init_published")
    return {
        "dataset": data.full_name,
        "split": data.split,
        "fingerprint": data.fingerprint,
        "stored": data.stored_as,
        "init_sha256": clf.card.source.get("whole_sha256", clf.card.tensors_sha256),
        **({"init_published": published} if published else {}),
    }


def _config(clf, origin: str, data, data_dir: str, options: Options, part: str) -> ConfigDict:
    config = configs.load("probe").unlock()
    config.arch, config.init_from, config.dtype = clf.card.arch, public_name(origin), clf.dtype
    config.dataset.name, config.dataset.split = data.full_name, data.split
    config.dataset.data_dir = data_dir.partition("@")[2] if data.dataset is not None else data_dir
    config.seed, config.eval.part, config.eval.views = options.seed, part, clf.card.preprocessing.views
    config.model.width = clf.card.model.get("width") or 64
    config.model.layers = tuple(clf.card.model.get("layers") or ())
    return config.lock()


def _protocol(choice: Choice, samples: Samples, has_test: bool, remarks: str) -> str:
    seen = f"a probe on frozen features: {describe(choice, samples)}"
    seen += ", by which it was chosen" if choice.folds else ""
    seen += remarks
    if has_test:
        return seen
    return f"cross-validated: each video scored by a probe that was chosen and fitted without its group; here {seen}"


def _of_choice(choice: Choice) -> dict[str, Any]:
    return {"top1": choice.top1, "spread": choice.spread, "folds": choice.folds, "repeats": choice.repeats}


def _summary(
    clf, choice: Choice, samples: Samples, options: Options, extractor, test, seconds: float
) -> dict[str, Any]:
    return {
        "chosen": choice.chosen,
        "features": dataclasses.asdict(choice.features),
        "members": [one.describe() for one in choice.members],
        "cross_validation": _of_choice(choice) if choice.folds else None,
        "tried": table(choice),
        "weights_sha256": clf.card.tensors_sha256,
        "training_videos": len(samples.labels),
        "groups": len(set(samples.groups.tolist())),
        "test_videos": len(test),
        "options": dataclasses.asdict(options),
        "videos_computed": extractor.computed,
        "feature_seconds": extractor.seconds,
        "seconds": seconds,
    }
