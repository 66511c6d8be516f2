"""Late fusion: averages the scores of an RGB and an optical-flow network for the same videos.

K. Simonyan and A. Zisserman, "Two-Stream Convolutional Networks for Action Recognition in Videos", NeurIPS 2014,
average softmax scores; DeepMind's I3D adds logits. This fuses every aggregate that both streams have.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from r23d_jax import config as configs
from r23d_jax.errors import UserError
from r23d_jax.evaluation.predictions import Predictions
from r23d_jax.evaluation.results import read_results
from r23d_jax.runtime.workdir import commit

_STREAM_KEYS = ("dataset", "input", "protocol", "arch", "width", "init", "step", "seed", "commit", "clip_top1")


@dataclasses.dataclass(frozen=True)
class StreamPredictions:
    """The evaluation of one stream.

    Attributes:
      origin: file of the predictions, for messages.
      predictions: of the stream's network.
      results: `results.json` beside them, {} if there is none.
    """

    origin: Path
    predictions: Predictions
    results: dict[str, Any]


def read_stream(path: Path) -> StreamPredictions:
    """Reads the evaluation of a workdir, or a predictions.npz with the results.json beside it, if any.

    Raises:
      UserError: a file is damaged, or the two are not of the same evaluation.
    """
    path = path / "predictions.npz" if path.is_dir() else path
    predictions, beside = Predictions.load(path), path.with_name("results.json")
    if not beside.is_file():
        return StreamPredictions(path, predictions, {})
    results = read_results(beside)
    same = results.get("top1") == predictions.results()["top1"]
    if not same or results.get("videos_evaluated") != len(predictions.names):
        raise UserError(f"{beside}: not of the same evaluation as {path.name} beside it; evaluate again")
    predictions = dataclasses.replace(predictions, clip_top1=results.get("clip_top1", math.nan))
    return StreamPredictions(path, predictions, results)


def fuse(
    rgb: StreamPredictions, flow: StreamPredictions, weights: tuple[float, float] = (1.0, 1.0)
) -> tuple[dict[str, Any], Predictions]:
    """Returns the weighted mean of both streams' video scores, for every aggregate that both have.

    Args:
      rgb, flow: of the same test videos, in any order.
      weights: of the two; only their ratio counts.

    Returns:
      The content of `results.json`, and the predictions, whose `clips` counts the views of both.

    Raises:
      UserError: the streams differ in videos, labels, classes or split; they are not RGB and flow; or the weights
        are negative or both 0.
    """
    if not all(weight >= 0 for weight in weights) or not 0 < sum(weights) < math.inf:
        raise UserError(f"--weights {weights[0]:g},{weights[1]:g}: must be numbers of at least 0, not both 0")
    _check_inputs(rgb, flow)
    a, b = rgb.predictions, _in_order_of(rgb, flow)
    shares = [weight / sum(weights) for weight in weights]

    def mean(x, y):
        return (shares[0] * x.astype(np.float64) + shares[1] * y.astype(np.float64)).astype(np.float32)

    clips = a.clips + b.clips
    of_clips = (a.clip_top1 * a.clips.sum() + b.clip_top1 * b.clips.sum()) / clips.sum()
    aggregates = {name: mean(a.aggregates[name], b.aggregates[name]) for name in a.aggregates if name in b.aggregates}
    fused = dataclasses.replace(a, aggregates=aggregates, clips=clips, clip_top1=float(of_clips))
    return _results(rgb, flow, weights, fused), fused


def _results(
    rgb: StreamPredictions, flow: StreamPredictions, weights: tuple[float, float], fused: Predictions
) -> dict[str, Any]:
    def both(key):
        return " + ".join(str(stream.results.get(key, "unknown")) for stream in (rgb, flow))

    seeds, parts = {stream.results.get("seed") for stream in (rgb, flow)}, _parts(rgb, flow)
    return {
        "dataset": both("dataset"),
        "input": both("input"),
        "split": str(rgb.results.get("split") or flow.results.get("split") or "unknown"),
        **({"part": parts[0]} if parts else {}),
        "protocol": (
            f"two streams: mean of their video-level scores, weights {weights[0]:g} (rgb) and {weights[1]:g} (flow); "
            f"rgb: {_protocol(rgb)}; flow: {_protocol(flow)}"
        ),
        "videos_expected": len(fused.names),
        "videos_evaluated": len(fused.names),
        **fused.results(),
        "step": max(stream.results.get("step", 0) for stream in (rgb, flow)),
        "arch": both("arch"),
        "init": both("init"),
        **({"seed": seeds.pop()} if len(seeds) == 1 and None not in seeds else {}),
        "commit": commit(),
        "dataset_fingerprint": both("dataset_fingerprint"),
        "weights": list(weights),
        "streams": [_stream_results(name, stream) for name, stream in zip(configs.STREAMS, (rgb, flow), strict=True)],
    }


def _stream_results(name: str, stream: StreamPredictions) -> dict[str, Any]:
    known = {key: stream.results[key] for key in _STREAM_KEYS if key in stream.results}
    return {"stream": name, **known, **stream.predictions.results()}


def _protocol(stream: StreamPredictions) -> str:
    return stream.results.get("protocol", f"as {stream.origin.name} has it, without the results.json that says how")


def _check_inputs(rgb: StreamPredictions, flow: StreamPredictions) -> None:
    """Raises unless the first is an RGB and the second a flow stream of the same split and part, where known."""
    for stream, wanted in ((rgb, "rgb"), (flow, "flow")):
        found = stream.results.get("input", wanted)
        if not found.startswith(wanted) or "streams" in stream.results:
            raise UserError(f"{stream.origin}: {found}, where a stream of {wanted} is due; the order is RGB, FLOW")
    data = [stream.results.get("dataset_fingerprint") for stream in (rgb, flow)]
    same = np.array_equal(rgb.predictions.scores, flow.predictions.scores)
    if (data[0] and data[0] == data[1]) or same:
        raise UserError(f"{flow.origin}: evaluated on the same data as {rgb.origin}, so not the flow beside that RGB")
    splits = [str(stream.results["split"]) for stream in (rgb, flow) if "split" in stream.results]
    for key, known in (("split", splits), ("part", _parts(rgb, flow))):
        if len(set(known)) > 1:
            raise UserError(f"{flow.origin}: {key} {known[1]}, but {rgb.origin} is of {key} {known[0]}")


def _parts(rgb: StreamPredictions, flow: StreamPredictions) -> list[str]:
    """Returns the evaluated part of each stream with results; those without the key are of "test"."""
    return [stream.results.get("part", "test") for stream in (rgb, flow) if stream.results]


def _in_order_of(rgb: StreamPredictions, flow: StreamPredictions) -> Predictions:
    """Returns the flow stream's predictions in the order of the RGB stream's videos."""
    a, b = rgb.predictions, flow.predictions
    pair = f"{rgb.origin} and {flow.origin}"
    if list(a.class_names) != list(b.class_names):
        raise UserError(f"{pair}: other classes ({_difference(a.class_names, b.class_names)})")
    if set(a.names) != set(b.names):
        raise UserError(f"{pair}: other videos ({_difference(a.names, b.names)})")
    place = {name: row for row, name in enumerate(b.names)}
    rows = np.asarray([place[name] for name in a.names])
    wrong = np.flatnonzero(a.labels != b.labels[rows])
    if len(wrong):
        raise UserError(f"{pair}: other labels, for {len(wrong)} videos ({a.names[wrong[0]]}, for one)")
    return b.in_order(rows)


def _difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    only = [
        f"{name} only in the {where}"
        for where, one, other in (("first", ours, theirs), ("second", theirs, ours))
        for name in one
        if name not in set(other)
    ]
    return f"{len(ours)} and {len(theirs)}; {only[0] if only else 'in another order'}"
