"""Evaluates a checkpoint and writes its scores, with their protocol, to the workdir."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from r23d_jax import models
from r23d_jax.data import records
from r23d_jax.data import views as planning
from r23d_jax.data.dataset import Dataset
from r23d_jax.errors import UserError
from r23d_jax.evaluation.evaluate import evaluate
from r23d_jax.evaluation.predictions import Predictions
from r23d_jax.evaluation.protocol import describe_protocol
from r23d_jax.evaluation.step import jitted_eval_step
from r23d_jax.models.functional import Functional
from r23d_jax.runtime import hosts, precision
from r23d_jax.runtime.addresses import public_name
from r23d_jax.runtime.files import write_json
from r23d_jax.runtime.mesh import create_mesh, replicate
from r23d_jax.runtime.workdir import commit, facts, recorded
from r23d_jax.weights import adapt, checkpoint, clip_values, loading
from r23d_jax.weights.card import Card

# Fields of the preprocessing in the results, where whole videos are evaluated.
_WHOLE_FIELDS = {"whole": {"frames": 0}, "fitted": {"frames": 0, "sampling": "fitted"}}


class Evaluated(NamedTuple):
    """The content of `results.json`, and what was evaluated: data set, flat weights and their card."""

    results: dict[str, Any]
    dataset: Dataset
    weights: dict[str, Any]
    card: Card


def evaluate_checkpoint(
    config: ConfigDict,
    workdir: Path,
    which: str = "last",
    source: Path | None = None,
    dataset: Dataset | None = None,
) -> Evaluated:
    """Evaluates weights, and writes `results.json` and `predictions.npz`.

    The card of the weights determines network and preprocessing; the config determines data set, views and batch size
    and, of weights that were not trained here, what it sets itself of `clip`. Where the two differ a line says so.

    Args:
      config: from `config.load`.
      workdir: written to; its checkpoint is evaluated unless `source` is given.
      which: "best" or "last" checkpoint, or "init" for the weights of `config.init_from`.
      source: another workdir or a checkpoint folder.
      dataset: by default the one that the config names.

    Raises:
      UserError: there are no such weights, they do not fit the data set, or this hardware has a better dtype.
    """
    precision.check(config.dtype, *precision.hardware())
    workdir = Path(workdir)
    if dataset is None:
        dataset = records.VideoDataset.open(config.dataset.data_dir, config.dataset.name)
    if which == "init":
        if not config.init_from:
            raise UserError("--which init: config.init_from is empty; name the weights to evaluate")
        weights, card = loading.load_flat(config.init_from, config.arch)
        step, name = 0, f"weights of {public_name(config.init_from)}, not trained here"
    else:
        folder = checkpoint.find(source or workdir, which)
        weights, card = checkpoint.load_weights(folder)
        step = int(folder.name) if folder.name.isdigit() else 0
        chosen = which == "best" and checkpoint.best_step(folder.parent.parent) is not None
        name = _describe_best(folder.parent.parent, config.eval.part) if chosen else "last checkpoint"
        if folder == source:
            name = f"checkpoint {folder.name}"
    weights, card = adapt.reorder_labels(weights, card, dataset.class_names)
    _check_labels(card, dataset)
    _check_frames(card, dataset)
    _check_input(config, card, dataset)
    trained_on = card.source.get("split", config.dataset.split)
    if trained_on != config.dataset.split:
        raise UserError(
            f"{workdir}: trained on split {trained_on}, so {config.eval.part} videos of split {config.dataset.split} "
            f"were among its training videos; set --config.dataset.split={trained_on}"
        )
    spec, eval_views, lines = clip_values.evaluated(config, card.preprocessing, trained_here=which != "init")
    if not card.preprocessing.frames and eval_views != card.preprocessing.views:
        clips = "" if eval_views in planning.WHOLE else f"{spec.frames}-frame clips, "
        own = "whole videos" if card.preprocessing.views == "whole" else f"eval.views={card.preprocessing.views}"
        lines.append(f"{clips}eval.views={eval_views}; these weights' own protocol is {own}")
    for line in lines if jax.process_index() == 0 else ():
        print(line, file=sys.stderr)
    if spec.input != (seen := dataclasses.replace(spec, channels=dataset.channels, flow=dataset.flow)).input:
        name += f", trained on {spec.input}"
        spec = seen  # the protocol describes the evaluated input
    config = config.copy_and_resolve_references().unlock()
    config.eval.views = eval_views
    mesh = create_mesh()
    network = Functional(models.from_card(card, dtype=config.dtype))
    evaluator = Evaluator(config, dataset, network, spec, card, mesh)
    hosts.assert_equal(facts(config, dataset) | {"checkpoint": card.tensors_sha256, "step": step})
    weights = replicate(weights, mesh)
    results, predictions = evaluator.run(weights, step, card.init, name)
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        write_results(workdir, results, predictions)
    hosts.barrier("results")
    return Evaluated(results, dataset, weights, card)


def write_results(workdir: Path, results: dict[str, Any], predictions: Predictions) -> None:
    """Writes `predictions.npz` and `results.json`."""
    predictions.save(workdir / "predictions.npz")
    write_json(workdir / "results.json", results)


class Evaluator:
    """Evaluates one network on one part of a split; compiles once, or once per length for whole videos."""

    def __init__(self, config, dataset, network, spec, card, mesh):
        """
        Args:
          config: with `eval.views` filled in; its `clip` is not read.
          dataset: with the videos.
          network: the network as a pure function, `models.functional.Functional`.
          spec: how clips are taken and preprocessed.
          card: of the weights.
          mesh: the devices.
        """
        self._config, self._dataset, self._spec, self._card, self._mesh = config, dataset, spec, card, mesh
        self._positions = dataset.subset(config.dataset.split, config.eval.part)
        if config.eval.views in planning.WHOLE:
            _check_any_length(card, config.eval.views)
            self._spec = dataclasses.replace(spec, max_frames=config.eval.max_frames or spec.max_frames)
        self._step = jitted_eval_step(network, spec, config.eval.crops, config.dtype, mesh)

    def run(
        self,
        weights,
        step: int,
        init: str,
        which: str = "last checkpoint, not chosen by test score",
        before_batch: Callable[[], None] = lambda: None,
    ):
        """Returns the content of `results.json` and the predictions of flat, replicated weights.

        Args:
          weights, before_batch: as in `evaluate`.
          step, init: of the weights, for the results.
          which: describes the weights in the protocol.
        """
        config, options = self._config, self._config.eval
        predictions = evaluate(
            self._step,
            weights,
            self._dataset,
            self._positions,
            spec=self._spec,
            views=options.views,
            crops=options.crops,
            batch_size=options.batch_size or config.batch_size,
            mesh=self._mesh,
            threads=config.workers,
            processes=config.processes,
            prefetch=config.prefetch,
            before_batch=before_batch,
        )
        return self.results(predictions, step, init, which), predictions

    def results(self, predictions: Predictions, step: int, init: str, which: str) -> dict[str, Any]:
        """Returns the content of `results.json` for the predictions of weights; arguments as in `run`."""
        config, options = self._config, self._config.eval
        protocol = describe_protocol(
            self._spec,
            views=options.views,
            crops=options.crops,
            stored=self._dataset.stored_size,
            split=config.dataset.split,
            part=options.part,
            dtype=config.dtype,
            weights=which,
            leak_check=getattr(self._dataset, "leak_check", True),
            without_rate=planning.without_rate(self._dataset, self._positions) if self._spec.fps else 0,
        )
        return {
            "dataset": self._dataset.full_name,
            "input": self._spec.input,
            "split": config.dataset.split,
            "part": options.part,
            "protocol": protocol,
            "preprocessing": self._spec.to_dict() | _WHOLE_FIELDS.get(options.views, {}),
            "videos_expected": len(self._positions),
            "videos_evaluated": len(predictions.names),
            **predictions.results(),
            "step": step,
            "arch": self._card.arch,
            "width": self._card.model.get("width") or 64,
            "init": init,
            "seed": config.seed,
            "commit": commit(),
            "dataset_fingerprint": self._dataset.fingerprint,
        }


def _describe_best(workdir: Path, part: str) -> str:
    """Describes how the best checkpoint was chosen, for an evaluation on `part`."""
    chosen_on = recorded(workdir)[0]["eval.part"] if (workdir / "config.json").is_file() else part
    return f"best checkpoint by top1 on {'these' if chosen_on == part else 'the'} {chosen_on} videos"


def _check_labels(card: Card, dataset: Dataset) -> None:
    if tuple(card.labels) != tuple(dataset.class_names):
        differ = [name for name in card.labels if name not in set(dataset.class_names)]
        raise UserError(
            f"the checkpoint knows {len(card.labels)} classes, {dataset.full_name} has {len(dataset.class_names)}"
            + (f" (without {differ[0]}, for one)" if differ else "")
            + ": fine-tune it on this data set first (init_from)"
        )


def _check_any_length(card: Card, views: str) -> None:
    if models.get(card.arch).fixed_frames:
        raise UserError(
            f"config.eval.views={views!r}: {card.arch} takes clips of exactly {card.model['frames']} frames; "
            "use 'dense'"
        )


def _check_input(config: ConfigDict, card: Card, dataset: Dataset) -> None:
    """Raises if the data set's input differs; another flow algorithm (other magnitudes) may be allowed explicitly."""
    trained = card.preprocessing
    given = dataclasses.replace(trained, channels=dataset.channels, flow=dataset.flow)
    if given.channels != trained.channels or (given.flow != trained.flow and not config.init_other_input):
        way = "" if given.channels != trained.channels else ", or set --config.init_other_input=true"
        raise UserError(
            f"dataset.name={dataset.full_name}: holds {given.input}, the checkpoint was trained on {trained.input}; "
            f"name a data set of that{way}"
        )


def _check_frames(card: Card, dataset: Dataset) -> None:
    """Raises if frames are stored in another shape than in training, which would distort them."""
    stored, trained = dataset.stored_as, card.source.get("stored")
    resize = card.preprocessing.resize
    if trained is None and isinstance(resize, tuple):  # imported weights: compare aspect ratios
        trained = stored if not isinstance(stored, list) else list(resize)
        contradicts = trained != stored and abs(stored[1] / stored[0] / (resize[1] / resize[0]) - 1) > 0.02
    else:
        contradicts = trained is not None and trained != stored
    if contradicts:
        raise UserError(
            f"{dataset.full_name} stores its frames as {_shape(stored)}, the checkpoint expects {_shape(trained)}: "
            "build the data set in that size"
        )


def _shape(stored: Any) -> str:
    if isinstance(stored, list):
        return "x".join(map(str, stored))
    return f"short side {stored}" if isinstance(stored, int) else str(stored)
