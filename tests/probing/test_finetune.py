"""Fine-tuning from a probe's head: kept only where held-out videos say so."""

import json

import numpy as np
import pytest
from probe_videos import CLASSES, link

import r23d_jax
from r23d_jax import report
from r23d_jax.evaluation.evaluate import average
from r23d_jax.evaluation.predictions import Predictions
from r23d_jax.evaluation.results import read_results
from r23d_jax.probing import finetune, session
from r23d_jax.weights import checkpoint


@pytest.fixture
def fit(probe_paths, tmp_path, monkeypatch):
    """Fits a probe and fine-tunes it; `judged` is how good both are said to be on held-out videos, the probe first."""
    monkeypatch.setattr(report, "_strips", lambda *arguments: ({}, "there are none in this test"))

    def run(data=probe_paths.root, judged=(), **options):
        if judged:
            given = list(judged)
            monkeypatch.setattr(finetune, "_judged", lambda scores, labels: given.pop(0))
        options = {"folder": probe_paths.features, "mirrored": False, "finetune": True, **options}
        return session.run(probe_paths.weights, data, tmp_path / "run", **options)

    return run


@pytest.fixture
def tune(fit, monkeypatch):
    """The same, but what training would give is the probe with another bias."""

    def train(recipe, workdir, dataset):
        values, card = checkpoint.load_weights(recipe.init_from)
        values["fc.bias"] = values["fc.bias"] + np.float32([1, 0, -1])[: len(card.labels)]
        checkpoint.write_folder(workdir / "checkpoints/00000002", {"weights": values}, card, {})
        positions = dataset.subset(recipe.dataset.split, "val")
        assert not set(positions) & set(dataset.subset(recipe.dataset.split, "train"))
        logits = np.zeros((len(positions), len(card.labels)), np.float32)
        average(dataset, positions, np.arange(len(positions)), logits).save(workdir / "predictions.npz")
        return {"step": 2}

    monkeypatch.setattr(finetune, "train_and_evaluate", train)
    return fit


@pytest.fixture
def short(monkeypatch):
    """Changes keys of the recipe, after which training takes few steps."""
    recipe = finetune._recipe

    def change(**keys):
        def changed(*arguments):
            config = recipe(*arguments).unlock()
            config.update(keys)
            return config.lock()

        monkeypatch.setattr(finetune, "_recipe", changed)

    return change


def agrees(run, videos):
    found = Predictions.load(run / "predictions.npz")
    predictions = r23d_jax.load(run).predict([str(path) for path in videos])
    np.testing.assert_allclose([one.scores for one in predictions], found.scores, atol=1e-4)
    return found


def test_a_better_network_is_kept(probe_paths, tmp_path, tune):
    """Its evaluation leaves out the same videos as the probe's."""
    for side in ("train", "test"):
        for name in CLASSES:
            link(tmp_path / "mine" / side / name, *(probe_paths.root / side / name).iterdir())
            (tmp_path / "mine" / side / name / "broken.mkv").write_bytes(b"no video")
    done = tune(tmp_path / "mine", judged=[(0.5, 1.0), (0.9, 2.0)], skip_unreadable=True)
    run = tmp_path / "run"
    results = read_results(run / "results.json")
    assert results["fine_tuning"] == {
        "kept": True,
        "held_out_videos": 3,
        "top1": 0.9,
        "cross_entropy": 2.0,
        "probe_top1": 0.5,
        "probe_cross_entropy": 1.0,
        "steps": 2,
        "probe_test_top1": done.probe.results["top1"],
    }
    assert results["cross_validation"] == done.probe.results["cross_validation"]
    assert results["step"] == 2 and results["videos_evaluated"] == results["videos_expected"] == 9
    assert "a probe, then the whole network trained for 2 steps and kept" in results["protocol"]
    assert any("the fine-tuned network is kept" in line for line in done.lines) and "9/9 test" in done.lines[-1]
    found = agrees(run, probe_paths.test)
    assert found.results()["top1"] == results["top1"]
    values, card = checkpoint.load_weights(checkpoint.find(run))
    start, of_start = checkpoint.load_weights(run / "finetune/start")
    assert card.preprocessing == done.probe.card.preprocessing and card.model == of_start.model
    assert np.array_equal(values["fc.bias"], start["fc.bias"] + np.float32([1, 0, -1]))


def test_a_network_that_is_not_better_is_not_kept(tmp_path, tune):
    done = tune(judged=[(0.75, 1.0), (0.75, 1.0)])
    run = tmp_path / "run"
    results = json.loads((run / "results.json").read_text())
    facts = results.pop("fine_tuning")
    assert not facts["kept"] and facts["top1"] == facts["probe_top1"] == 0.75
    assert results == done.probe.results and results["step"] == 0
    assert any("the probe is kept" in line for line in done.lines)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["00000000"]


def test_without_a_test_side_the_scores_stay_the_probes(probe_paths, tmp_path, tune):
    for name in CLASSES:
        link(tmp_path / "mine" / name, *(probe_paths.root / "test" / name).iterdir())
    done = tune(tmp_path / "mine", judged=[(0.5, 1.0), (0.9, 2.0)])
    results = read_results(tmp_path / "run/results.json")
    assert results["fine_tuning"]["kept"] and results["part"] == "train" and results["step"] == 0
    assert results["protocol"].endswith("of the probe, before the network was trained and kept")
    changed = {"fine_tuning": None, "protocol": None}
    assert {**results, **changed} == {**done.probe.results, **changed}
    assert checkpoint.find(tmp_path / "run").name == "00000002"


def test_with_one_video_a_class_nothing_is_fine_tuned(probe_paths, tmp_path, tune):
    done = tune(shots=1)
    assert any("not fine-tuned: there are no videos to hold out" in line for line in done.lines)
    assert "fine_tuning" not in read_results(tmp_path / "run/results.json")
    agrees(tmp_path / "run", probe_paths.test)


@pytest.mark.slow
def test_training_moves_all_but_the_statistics(probe_paths, tmp_path, fit, short):
    short(steps=2)
    fit(judged=[(0.5, 1.0), (0.9, 2.0)])
    start, _ = checkpoint.load_weights(tmp_path / "run/finetune/start")
    values, _ = checkpoint.load_weights(checkpoint.find(tmp_path / "run"))
    still = {name for name, value in values.items() if np.array_equal(value, start[name])}
    assert still == {name for name in values if name.endswith((".mean", ".var"))}
    agrees(tmp_path / "run", probe_paths.test)


@pytest.mark.slow
def test_it_starts_where_the_probe_ended(fit, short, monkeypatch):
    """Where nothing is learned, the network scores the held-out videos as the probe does that it starts from."""
    judged, judge = [], finetune._judged

    def record(scores, labels):
        judged.append((scores, labels))
        return judge(scores, labels)

    monkeypatch.setattr(finetune, "_judged", record)
    monkeypatch.setattr(finetune, "temperature", lambda logits, labels: 1.0)  # which would calibrate the network
    short(steps=1, lr=0.0, ema=0.0)
    fit(mirrored=True)
    (theirs, labels), (ours, ours_labels) = judged
    order, ours_order = np.lexsort(theirs.T), np.lexsort(ours.T)
    np.testing.assert_allclose(theirs[order], ours[ours_order], atol=1e-4)
    assert sorted(labels) == sorted(ours_labels) == [0, 1, 2]
