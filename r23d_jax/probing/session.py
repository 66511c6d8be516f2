"""From what the user names to a probe: weights, data, features, run; then suggestions and fine-tuning if asked for."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from r23d_jax.errors import UserError
from r23d_jax.inference.classifier import Classifier
from r23d_jax.probing import finetune as finetuning
from r23d_jax.probing import network
from r23d_jax.probing import suggest as suggesting
from r23d_jax.probing.data import open_data
from r23d_jax.probing.extract import Extractor
from r23d_jax.probing.fit import Options, Probe, fit, sides
from r23d_jax.report.numbers import wilson_interval
from r23d_jax.runtime import precision
from r23d_jax.runtime.addresses import public_name
from r23d_jax.weights import loading

_MANY = 1000  # training videos from which on an attentive head has a chance against linear ones
_TRAINED, _LEAST = 10.0, 0.1  # minutes of fine-tuning where no limit is given, and at least


@dataclasses.dataclass(frozen=True)
class Done:
    """What `run` did: the probe, and lines for the user."""

    probe: Probe
    lines: list[str]


def run(
    weights: str | Path | Classifier,
    data: str | Path,
    out: str | Path,
    *,
    split: str = "1",
    arch: str | None = None,
    size: int = 0,
    dtype: str = "float32",
    folder: Path | None = None,
    attention: bool | None = None,
    suggest: str | None = None,
    finetune: bool = False,
    say: Callable[[str], None] = lambda line: None,
    tell: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> Done:
    """Fits a probe; see `r23d_jax.fit`.

    Args:
      weights: what `weights.loading.load` takes, several separated by commas, or a loaded classifier.
      data: what `data.open_data` takes.
      out: workdir of the run.
      split: of the data.
      arch: of weights that do not say it.
      size: side of the network's input; 0 as `network.preprocessing` says.
      dtype: to compute in.
      folder: where features are kept; None for the cache.
      attention: whether an attentive head is tried too; None with many training videos.
      suggest: a folder of unlabelled videos to rank.
      finetune: whether the network is trained too.
      say: called with lines on the progress.
      tell: called with lines on the results, as soon as they are there.
      **options: of `Options`.
    """
    start, chosen = time.monotonic(), Options(**options)
    precision.check(dtype, *precision.hardware())
    if suggest:
        suggesting.find(suggest)  # an error now, not in an hour
    there = [name for name in ("checkpoints", "config.json", "results.json") if (Path(out) / name).exists()]
    if there:
        raise UserError(
            f"{out}: holds a run already ({there[0]}); name another folder, where kept features are used too"
        )
    labelled = open_data(data, split)
    for line in (labelled.layout, *labelled.notes):
        say(line)
    if isinstance(weights, Classifier):
        values, card, origin = weights.weights, weights.card, weights.card.init
    else:
        names = [str(weights)] if Path(weights).exists() else [name.strip() for name in str(weights).split(",")]
        loaded = [loading.load_flat(name, arch, say=say) for name in names]
        origin = " + ".join(map(public_name, names))
        values, card = loaded[0] if len(loaded) == 1 else network.joined(loaded)
    if labelled.dataset is not None and (labelled.channels, labelled.flow) != (
        card.preprocessing.channels,
        card.preprocessing.flow,
    ):
        there = f"{labelled.channels}{f' ({labelled.flow})' if labelled.flow else ''}"
        raise UserError(f"{data}: holds {there}, and these weights see {card.preprocessing.input}: give a set of that")
    clf = network.frozen(values, card, dtype, size)
    if attention is None:
        attention = len(sides(labelled, chosen)[0]) >= _MANY
    extractor = Extractor(clf, folder, say, attention)
    probe = fit(clf, origin, labelled, str(data), Path(out), chosen, extractor, say)
    lines: list[str] = []

    def add(*said: str) -> None:
        lines.extend(said)
        for line in said:
            tell(line)

    if probe.results is not None:
        add(_scores(probe.results))
    kept = False
    if finetune:
        left = chosen.minutes - (time.monotonic() - start) / 60 if chosen.minutes else _TRAINED
        results, said = finetuning.finetune(probe, clf, Path(out), max(left, _LEAST), say)
        add(*said)
        kept = results is not None and results is not probe.results and results["fine_tuning"]["kept"]
        if kept:
            add(_scores(results))
    if suggest:
        if kept:
            say("ranked by the probe, not by the fine-tuned network")
        add(*suggesting.suggest(probe, extractor, suggest, Path(out), say, chosen.batch_size))
    return Done(probe, lines)


def _scores(results: dict[str, Any]) -> str:
    count = results["videos_evaluated"]
    low, high = wilson_interval(round(results["top1"] * count), count)
    return (
        f"top1 {results['top1']:.4f} (95 % interval {low:.3f} to {high:.3f}), mean class {results['mean_class']:.4f}, "
        f"{count}/{results['videos_expected']} {results['part']} videos; {results['protocol']}"
    )
