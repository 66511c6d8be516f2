"""Fitting a probe: what is chosen does not depend on the test side, and what is held out is not learned from."""

import csv
import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import synthetic
from fake_videos import write_checkpoint
from probe_videos import CLASSES, SPEC, link

import r23d_jax
from r23d_jax import report
from r23d_jax.errors import UserError
from r23d_jax.evaluation.predictions import Predictions
from r23d_jax.models.head import VIEWS
from r23d_jax.probing import fit as fitting
from r23d_jax.probing import session
from r23d_jax.probing.data import open_data
from r23d_jax.probing.fit import Options
from r23d_jax.weights import checkpoint


@pytest.fixture
def fit(probe_paths, tmp_path, monkeypatch):
    """Fits with the shared weights and features; the runs are `tmp_path/0` and so on."""
    monkeypatch.setattr(report, "_strips", lambda *arguments: ({}, "there are none in this test"))
    runs = []

    def call(data, weights=probe_paths.weights, **options):
        runs.append(tmp_path / str(len(runs)))
        return session.run(weights, data, runs[-1], **{"folder": probe_paths.features, **options}).probe

    return call


def table(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    return path


def chosen(probe):
    """All that was chosen, bit for bit."""
    rows = [dataclasses.astuple(dataclasses.replace(one, logits=one.logits.tobytes())) for one in probe.choice.tried]
    weights = {name: value.tobytes() for name, value in probe.weights.items()}
    return rows, probe.choice.members, probe.choice.scores.tobytes(), probe.card.model, weights


def test_the_test_side_is_never_used_to_choose(probe_paths, tmp_path, fit):
    videos = sorted(probe_paths.root.glob("*/*/*.mkv"))
    rows = [(path, path.parent.name, path.parents[1].name) for path in videos]
    first = fit(table(tmp_path / "first.csv", rows), mirrored=False)
    shifted = {name: CLASSES[(place + 1) % 3] for place, name in enumerate(CLASSES)}
    fewer = [row for row in rows if row[2] == "train" or row[0].stem[-1] == "6"]
    wrong = [(path, shifted[label] if side == "test" else label, side) for path, label, side in fewer]
    other = fit(table(tmp_path / "other.csv", wrong), mirrored=False)
    assert first.results["top1"] > 0.5 > other.results["top1"] and other.results["videos_evaluated"] == 3
    assert chosen(first) == chosen(other)


def test_every_video_is_scored_by_a_probe_that_saw_none_of_its_group(monkeypatch):
    """Also where the heads are chosen: three near-duplicates a group, which say nothing of the class."""
    labels = np.repeat([0, 1, 2], 15)
    groups = [f"g{n // 3}" for n in range(45)]
    made = synthetic.make(labels, groups, signal=0, spread=0.01, clips=2, stages={"one": 4})
    names = [f"{label}/{n}" for n, label in enumerate(labels)]
    videos = [SimpleNamespace(name=name, label=label) for name, label in zip(names, labels, strict=True)]
    data = SimpleNamespace(class_names=("0", "1", "2"), positions=range(45))
    dataset = SimpleNamespace(videos=videos, class_names=data.class_names)
    seen = []

    def choose(samples, classes, seed):
        seen.append(set(samples.groups))
        return chosen(samples, classes, seed)

    chosen = fitting.choose
    monkeypatch.setattr(fitting, "choose", choose)
    found = fitting._cross_validated(data, dataset, made, range(45), 0)
    assert found.results()["top1"] < 0.65  # of 15 groups, chance is 1/3 with a standard deviation of 0.12
    assert len(seen) == 5 and all(len(groups) == 12 for groups in seen)
    assert found.names.tolist() == names and found.clips.tolist() == [2] * 45


@pytest.mark.parametrize("seed", [0, 1])
def test_shots_are_drawn_class_by_class(probe_paths, seed):
    data = open_data(probe_paths.root)
    training, test = fitting.sides(data, Options(shots=2, seed=seed))
    assert [data.videos[index].label for index in training] == [0, 0, 1, 1, 2, 2]
    assert {data.videos[index].part for index in training} == {"train"}
    assert training == fitting.sides(data, Options(shots=2, seed=seed))[0]
    assert training != fitting.sides(data, Options(shots=2, seed=seed + 1))[0]
    assert test == fitting.sides(data, Options())[1]
    assert fitting.sides(data, Options(shots=99)) == fitting.sides(data, Options())


@pytest.mark.parametrize("options", [{"shots": -1}, {"minutes": -1.0}, {"minutes": float("nan")}])
def test_numbers_that_say_nothing_are_refused(options):
    with pytest.raises(UserError, match=f"{next(iter(options))}={next(iter(options.values())):g}"):
        Options(**options)


def test_frames_are_of_the_size_that_predict_decodes(probe_paths, tmp_path, fit):
    """Whatever size the weights' own training frames were stored in."""
    weights = write_checkpoint(tmp_path / "stored", SPEC, stored=[20, 60])
    for name in CLASSES[:2]:
        link(tmp_path / "mine/train" / name, *(probe_paths.root / "train" / name).glob("*[13].mkv"))
        link(tmp_path / "mine/test" / name, *(probe_paths.root / "test" / name).glob("*5.mkv"))
    fit(tmp_path / "mine", weights, mirrored=False)
    found = Predictions.load(tmp_path / "0/predictions.npz")
    predictions = r23d_jax.load(tmp_path / "0").predict(str(tmp_path / "mine/test"))
    np.testing.assert_allclose([one.scores for one in predictions], found.scores, atol=1e-5)


def test_mirror_images_are_left_out_where_time_is_short(probe_paths, tmp_path, fit):
    link(tmp_path / "mine/red", *(probe_paths.root / "train/red").glob("*[14].mkv"))
    link(tmp_path / "mine/blue", *(probe_paths.root / "train/blue").glob("*[14].mkv"))
    lines = []
    options = {"folder": tmp_path / "features", "say": lines.append}
    probe = fit(tmp_path / "mine", minutes=1e-4, **options)
    assert set(probe.samples.averages) == {"plain"} and any("mirror images left out" in line for line in lines)
    probe = fit(tmp_path / "mine", minutes=60.0, **options)
    assert set(probe.samples.averages) == set(VIEWS)


def test_optical_flow_is_not_mirrored(probe_paths):
    """Its mirror image has other values, so that a network with such a head is refused."""
    asked = []
    extractor = SimpleNamespace(run=lambda data, videos, views, size: asked.append(views) or ({}, {}))
    for channels in ("rgb", "flow"):
        clf = SimpleNamespace(card=SimpleNamespace(preprocessing=dataclasses.replace(SPEC, channels=channels)))
        fitting._features(clf, open_data(probe_paths.root), [0], Options(), extractor, print)
    assert asked == [VIEWS, VIEWS[:1]]


@pytest.mark.slow
def test_an_attentive_head_is_tried_where_asked_for(probe_paths, tmp_path, fit):
    probe = fit(probe_paths.root, attention=True, mirrored=False)
    (row,) = [row for row in json.loads((tmp_path / "0/probe.json").read_text())["tried"] if row["head"] == "attention"]
    assert row["stages"] == ["layer3"] and 0 <= row["cv_top1"] <= 1
    assert probe.results["videos_evaluated"] == 9


def test_weights_of_the_run_are_its_checkpoint(probe_paths, tmp_path, fit):
    probe = fit(probe_paths.root, mirrored=False)
    values, card = checkpoint.load_weights(checkpoint.find(tmp_path / "0"))
    assert card == probe.card and values.keys() == probe.weights.keys()
    assert all(np.array_equal(values[name], probe.weights[name]) for name in values)
