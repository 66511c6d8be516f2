"""Score aggregates: right by hand, and a new one is one function."""

import json

import fake_data
import numpy as np
import pytest

from r23d_jax import config as configs
from r23d_jax.evaluation import aggregates, evaluator, fusion
from r23d_jax.evaluation.predictions import Predictions
from r23d_jax.training.loop import train_and_evaluate

SMALL = (*fake_data.RUN, "steps=2")


def test_means_by_hand():
    logits = np.log(np.array([[3, 1], [1, 1], [1, 3]], np.float32))
    video = np.array([1, 0, 1])
    after = aggregates.mean_softmax(logits, video, 2)
    before = aggregates.mean_logits(logits, video, 2)
    assert after.dtype == before.dtype == np.float32
    np.testing.assert_allclose(after, [[0.5, 0.5], [0.5, 0.5]])
    np.testing.assert_allclose(before, [[0, 0], [np.log(3) / 2] * 2], rtol=1e-6)


def largest_logit(logits, video, count):
    return np.stack([logits[video == number].max(axis=0) for number in range(count)])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's config, workdir and results."""
    data, workdir = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("run")
    fake_data.write(data, classes=3, groups=6, frames=10, height=24, width=28)
    config = configs.load("demo", [*SMALL, f"dataset.data_dir={data}"])
    return config, workdir, train_and_evaluate(config, workdir)


def test_a_function_in_the_dictionary_is_an_aggregate(run, tmp_path, monkeypatch):
    config, workdir, before = run
    monkeypatch.setitem(aggregates.AGGREGATES, "largest_logit", largest_logit)
    results = evaluator.evaluate_checkpoint(config, tmp_path, source=workdir).results
    assert json.loads((tmp_path / "results.json").read_text()) == results
    found = Predictions.load(tmp_path / "predictions.npz")
    own = results["aggregates"].pop("largest_logit")
    assert own["top1"] == np.mean(found.aggregates["largest_logit"].argmax(1) == found.labels)
    assert (found.aggregates["largest_logit"] >= found.logits).all()
    assert results["aggregates"] == before["aggregates"]  # those that were there are what they were
    assert results["top1"] == results["aggregates"]["mean_softmax"]["top1"]
    assert results["top1_logit_mean"] == results["aggregates"]["mean_logits"]["top1"]
    with np.load(tmp_path / "predictions.npz") as arrays:
        assert {"scores", "logits", "largest_logit"} < set(arrays)
    assert "largest_logit" in fusion.read_stream(tmp_path).predictions.aggregates


def test_files_from_before_there_were_aggregates_are_read(run):
    _, workdir, results = run
    (workdir / "results.json").write_text(json.dumps({k: v for k, v in results.items() if k != "aggregates"}))
    stream = fusion.read_stream(workdir)
    assert "aggregates" not in stream.results and list(stream.predictions.aggregates) == ["mean_softmax", "mean_logits"]
