"""The model card of published weights: the `README.md` of a repository on the Hugging Face Hub."""

import dataclasses
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r23d_jax import config as configs
from r23d_jax import models
from r23d_jax.errors import printable
from r23d_jax.evaluation.results import read_results
from r23d_jax.runtime.files import read_json
from r23d_jax.weights import repository
from r23d_jax.weights.card import Card

# The Hub's names of licences, which are SPDX's in lower case; another one is called "other" there.
LICENCES = frozenset(
    "afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 cc-by-2.0 cc-by-2.5 "
    "cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 "
    "cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 "
    "cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gpl-2.0 gpl-3.0 isc "
    "lgpl-2.1 lgpl-3.0 lppl-1.3c mit mpl-2.0 ms-pl ncsa ofl-1.1 osl-3.0 postgresql unlicense wtfpl zlib".split()
)
_MEASURES = (
    ("top1", "Top-1", "a video's class is that of its highest mean softmax"),
    ("top5", "Top-{k}", "the class is among the {k} highest mean softmaxes"),
    ("mean_class", "Mean class", "top-1 of every class, averaged over the classes"),
    ("clip_top1", "Clip top-1", "every view counted by itself"),
)
_MANY = 20  # labels that are shown without being asked for
# Keys of a config that say where a run was and how fast, not what it learned.
_NOT_LEARNED = ("dataset.data_dir", "workers", "processes", "prefetch", "log_every", "budget_minutes", "checkpoint.")
_MEANINGS = {"resize": "None: the stored size", "frames": "0: the whole video", "fps": "None: the video's own"}


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """What is known of the run that weights are from.

    Attributes:
      results: `results.json` of these very weights, {} where there is none.
      why_none: why there are no results, as a sentence.
      config: flat config of the run, {} if it is unknown.
      is_probe: whether `r23d probe` made it.
    """

    results: dict[str, Any]
    why_none: str
    config: dict[str, Any]
    is_probe: bool = False


def read_run(checkpoint: Path) -> TrainingRun:
    """Reads what the workdir of a checkpoint knows of it.

    Args:
      checkpoint: a checkpoint folder, `WORKDIR/checkpoints/00000100` say, or a converted one, which has no workdir.

    Raises:
      UserError: a file of the workdir is damaged.
    """
    folder = checkpoint.resolve()
    if folder.parent.name != "checkpoints" or not folder.name.isdecimal():
        return TrainingRun({}, "These weights were not evaluated by the run they are from.", {})
    workdir, step = folder.parent.parent, int(folder.name)
    config, path = _config(workdir / "config.json"), workdir / "results.json"
    is_probe = (workdir / "probe.json").is_file()
    if not path.is_file():
        return TrainingRun({}, "The run has no results: it was not evaluated.", config, is_probe)
    results = read_results(path)
    if results.get("step") != step:
        why = f"The run's results are of step {results.get('step')}, these weights of step {step}: they are left out."
        return TrainingRun({}, why, config, is_probe)
    return TrainingRun(repository.public_values(results), "", config, is_probe)


def _config(path: Path) -> dict[str, Any]:
    try:
        config = read_json(path)["config"]
    except (OSError, ValueError, TypeError, LookupError):  # the weights and their card are whole without it
        return {}
    return config if isinstance(config, dict) else {}


def build(address: str, card: Card, values: Mapping[str, np.ndarray], run: TrainingRun) -> str:
    """Returns the model card as Markdown with YAML in front.

    Args:
      address: `hf://OWNER/REPO`, with the revision if it is not the default one.
      card: of the weights, from `repository.public`.
      values: the weights.
      run: from `read_run`.
    """
    name = address.removeprefix("hf://").partition("@")[0]
    parts = [
        f"---\n{_front(name, card, run.results)}---",
        f"# {_text(name.partition('/')[2])}",
        _summary(card, values, run.config),
        f"With `r23d_jax` and `huggingface_hub` installed:\n\n{_block(f'r23d predict --checkpoint {address} VIDEO')}",
        "## Results",
        _results(run, min(5, card.model["num_classes"])),
        _published(card),
        "## Where it started",
        f"From {_text(card.init)}." if card.init != "scratch" else "From scratch.",
        _source(card),
        _training(run.config, run.is_probe),
        "## Preprocessing",
        _preprocessing(card),
        "## Labels",
        _labels(card),
        "## Licence",
        f"{_text(card.licence)}." if card.licence else "Not stated.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# --- the YAML in front ----------------------------------------------------------------------------------


def _front(name: str, card: Card, results: Mapping[str, Any]) -> str:
    fields: dict[str, Any] = {}
    if card.licence:
        known = card.licence.lower() in LICENCES
        fields["license"] = card.licence.lower() if known else "other"
        fields |= {} if known else {"license_name": card.licence}
    fields |= {"library_name": "r23d_jax", "pipeline_tag": "video-classification"}
    fields["tags"] = ["video-classification", "action-recognition", "jax", "flax", card.arch]
    if _complete(results):
        k = min(5, card.model["num_classes"])
        metrics = [
            {"type": "accuracy", "name": f"{label.format(k=k)} (%)", "value": round(100 * results[key], 4)}
            for key, label, _ in _MEASURES
            if key in results
        ]
        task = {"type": "video-classification", "name": "Video classification"}
        dataset = {"type": results.get("dataset") or "unknown", "name": _evaluated_on(results)}
        found = {"task": task, "dataset": dataset, "metrics": metrics}
        fields["model-index"] = [{"name": name.partition("/")[2], "results": [found]}]
    return "".join(f"{key}: {_yaml(value)}\n" for key, value in fields.items())


def _yaml(value: Any) -> str:
    """Returns a value as one line of YAML: as JSON, with the characters written out that YAML does not allow."""
    if isinstance(value, str):
        return json.dumps(printable(value), ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)}: {_yaml(inner)}" for key, inner in value.items()) + "}"
    return f"[{', '.join(map(_yaml, value))}]" if isinstance(value, list) else json.dumps(value)


# --- sections -------------------------------------------------------------------------------------------


def _summary(card: Card, values: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> str:
    options = {key: card.model.get(key) for key in models.get(card.arch).options}
    options = {key: value for key, value in options.items() if value is not None}
    parameters = sum(np.size(value) for path, value in values.items() if not path.endswith((".mean", ".var")))
    rows = [
        ("Network", _code(card.arch)),
        *((key.replace("_", " ").capitalize(), _text(value)) for key, value in options.items()),
        ("Parameters", f"{parameters:,}"),
        ("Classes", f"{card.model['num_classes']:,}"),
        ("Input", _text(card.preprocessing.input)),
        ("Trained in", _text(config["dtype"]) if "dtype" in config else None),
        ("Weights (SHA-256 over all tensors)", _code(card.tensors_sha256[:16])),
    ]
    return "An action recognition network for video, in JAX: weights of `r23d_jax`.\n\n" + _table(("", ""), rows)


def _results(run: TrainingRun, k: int) -> str:
    results = run.results
    if not results:
        return run.why_none
    seen, expected = results["videos_evaluated"], results["videos_expected"]
    warning = "" if _complete(results) else "**Not all videos of the split were evaluated: these are not its scores.** "
    rows = [
        (label.format(k=k), f"{100 * results[key]:.2f}", how.format(k=k))
        for key, label, how in _MEASURES
        if key in results
    ]
    what = (
        f"{warning}{_text(_evaluated_on(results))}: {seen:,} videos evaluated of {expected:,} expected, "
        f"at step {results['step']:,}."
    )
    protocol = f"Protocol, of every figure here: {_text(results.get('protocol', 'not stated'))}."
    return f"{what}\n\n{_table(('Measure', '%', 'How it is counted'), rows)}\n\n{protocol}"


def _evaluated_on(results: Mapping[str, Any]) -> str:
    dataset, split = results.get("dataset") or "unknown", results.get("split") or "unknown"
    return f"{dataset}, {results.get('part') or 'test'} videos of split {split}"


def _published(card: Card) -> str | None:
    """The scores that the publisher of imported weights states."""
    rows = [
        (_text(s.get("metric", "")), _text(s.get("value", "")), _text(s.get("protocol", ""))) for s in card.published
    ]
    if not rows:
        return None
    return "As published with the weights, not measured here:\n\n" + _table(("Measure", "%", "Protocol"), rows)


def _source(card: Card) -> str | None:
    rows = [
        (_text(key.replace("_", " ")), _text(value)) for key, value in card.source.items() if value not in ("", None)
    ]
    return _table(("Source", ""), rows) if rows else None


def _training(config: Mapping[str, Any], is_probe: bool) -> str | None:
    """The command that makes such weights, for a training run with every key that is not at its default."""
    if not config:
        return None
    if is_probe:
        start = repository.public_origin(config.get("init_from", "WEIGHTS"))
        command = f"r23d probe --weights {shlex.quote(str(start).replace(' + ', ','))} DATA --out RUN"
        return f"Made by:\n\n{_block(command)}"
    defaults = json.loads(json.dumps(configs.flatten(configs.load("common"))))
    changed = {
        key: repository.public_origin(value) if key == "init_from" else repository.public_values(value)
        for key, value in config.items()
        if defaults.get(key) != value and not key.startswith(_NOT_LEARNED)
    }
    words = ["r23d train --config common --workdir RUN --config.dataset.data_dir=DATA"]
    words += [shlex.quote(f"--config.{key}={_flag(value)}") for key, value in changed.items()]
    return f"Trained by:\n\n{_block(' '.join(words))}"


def _flag(value: Any) -> str:
    text = value if isinstance(value, str) else repr(tuple(value) if isinstance(value, list) else value)
    return printable(text)


def _preprocessing(card: Card) -> str:
    rows = []
    for field in dataclasses.fields(card.preprocessing):
        value = getattr(card.preprocessing, field.name)
        shown = ", ".join(f"{x:g}" for x in value) if isinstance(value, tuple) else str(value)
        rows.append((_code(field.name), _text(shown), _text(_MEANINGS.get(field.name, ""))))
    return (
        f"The input is `(frame / 255 - mean) / std` of decoded frames, resized and cropped; it is all in "
        f"`{repository.CONFIG}`, and `r23d predict` does it.\n\n" + _table(("", "Value", ""), rows)
    )


def _labels(card: Card) -> str:
    if not card.labels:
        return "The names of the classes are not known."
    table = _table(("Index", "Label"), [(str(index), _text(label)) for index, label in enumerate(card.labels)])
    if len(card.labels) <= _MANY:
        return table
    return f"<details><summary>{len(card.labels):,} classes</summary>\n\n{table}\n\n</details>"


def _complete(results: Mapping[str, Any]) -> bool:
    """Returns whether there are results, and of every expected video."""
    return 0 < results.get("videos_expected", 0) == results.get("videos_evaluated")


# --- Markdown -------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    """Returns a value as text that Markdown and HTML leave as it is; it may come from a file."""
    text = " ".join(printable(str(value)).split())
    return re.sub(r"([\\`*_{}\[\]<>#|&~$!])", r"\\\1", text)


def _code(value: Any) -> str:
    """Returns a name as code, for a cell of a table too."""
    text = " ".join(printable(str(value)).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}".replace("|", r"\|") if len(fence) > 1 else f"`{text}`".replace("|", r"\|")


def _block(text: str) -> str:
    """Returns a block of code, whatever fences are in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str | None]]) -> str:
    """Returns a table; rows with a None are left out."""
    lines = [header, ["---"] * len(header), *(row for row in rows if None not in row)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
