"""The report: a whole page from a whole workdir, and from one with anything missing; and nothing gets out of it."""

import base64
import dataclasses
import json
import re

import fake_data
import fake_run
import jax
import numpy as np
import pytest
import simplejpeg
from html_page import Page, read

from r23d_jax import models, report
from r23d_jax.data import records, sampling
from r23d_jax.errors import UserError
from r23d_jax.evaluation.predictions import Predictions
from r23d_jax.models.functional import weights_of
from r23d_jax.report import __main__ as report_command
from r23d_jax.report import charts, numbers, strips
from r23d_jax.report.markup import element
from r23d_jax.transforms import clip as clip_transforms
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights import checkpoint
from r23d_jax.weights.card import Card

MOTION = "MoveDown MoveLeft MoveRight MoveUp RotateClockwise RotateCounterclockwise ZoomIn ZoomOut".split()
HOSTILE = ["<script>alert(1)</script>", '" onmouseover="alert(1)', "a&amp;</style></title>", "long " * 40, "nul\x07ls"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    return fake_run.write(workdir, fake_run.predictions(MOTION), fake_run.log_lines())


def test_the_page_holds_the_numbers_of_results_json(whole):
    shown, results = read(report.write(whole)), json.loads((whole / "results.json").read_text())
    for key in ("top1", "top5", "mean_class", "clip_top1", "top1_logit_mean"):
        assert results[key] in shown.data
        assert f"{100 * results[key]:.2f}" in shown.text
    for text in ("160 evaluated of 160 expected", "split 1", "scratch", "seed 0", "step 800"):
        assert text in shown.text
    assert results["protocol"] in shown.text and results["commit"] in shown.text
    assert not list(whole.glob(".*"))


def test_the_page_shows_every_aggregate(tmp_path):
    found = fake_run.predictions(MOTION)
    found = dataclasses.replace(found, aggregates=found.aggregates | {"largest_logit": found.logits[:, ::-1]})
    shown = read(report.write(fake_run.write(tmp_path, found)))
    top1 = json.loads((tmp_path / "results.json").read_text())["aggregates"]["largest_logit"]["top1"]
    assert "largest_logit" in shown.text and ("data", "value", repr(top1)) in shown.attributes


def test_the_page_says_which_videos_were_evaluated(tmp_path):
    fake_run.write(tmp_path, fake_run.predictions(MOTION), fake_run.log_lines(), part="val")
    shown = read(report.write(tmp_path))
    assert "of 160 val videos" in shown.text and "Val videos 160 evaluated" in shown.text
    assert "test videos" not in shown.text.replace(fake_run.PROTOCOL, "")


def test_the_page_loads_nothing_and_runs_nothing(whole):
    text = report.write(whole).read_text()
    shown = Page(text)
    assert not {"script", "link", "iframe", "object", "form"} & set(shown.tags)
    for _, name, value in shown.attributes:
        assert not name.startswith("on")
        if name in ("src", "href"):
            assert value.startswith(("data:", "#")), value
    assert not re.search(r"https?:|url\(|@import|//\w", text)
    assert ("meta", "content", "width=device-width, initial-scale=1") in shown.attributes
    assert "prefers-color-scheme: dark" in text


@pytest.mark.parametrize("classes", [2, 5, 101])
def test_names_are_text_and_never_markup(tmp_path, classes):
    names = (HOSTILE + [f"Class{i}" for i in range(200)])[:classes]
    workdir = tmp_path / "<b>run & co"
    found = fake_run.predictions(names, per_class=12, right=0.4)
    lines = fake_run.log_lines(2000, evals=True)
    fake_run.write(workdir, found, lines, "<i>there", init="<img src=x onerror=alert(1)>", protocol="</p><script>")
    path = report.write(workdir)
    shown = read(path)
    assert "script" not in shown.tags and "b>" not in shown.tags
    assert not [name for _, name, _ in shown.attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in shown.text and "<img src=x onerror=alert(1)>" in shown.text
    assert path.stat().st_size < 1_000_000


def test_what_no_page_may_hold_is_replaced():
    written = element("p", "a\x00\x07\r\x1b\x85\udcff\n\tb", class_='"&\ud800')
    assert written == '<p class="&#34;&amp;\ufffd">a\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\n\tb</p>'
    assert element("p", [None, "", ["<", written]]).encode() == f"<p>&lt;{written}</p>".encode()
    assert element("line", x1=1.5, x2=2.0, aria_label=None) == '<line x1="1.5" x2="2"/>'


def test_calibration_by_hand():
    # Two bins over three classes: 0.4 wrong, 0.5 right (an upper edge is inside), 0.9 right, 0.7 wrong.
    scores = np.array([[0.4, 0.3, 0.3], [0.5, 0.25, 0.25], [0.05, 0.9, 0.05], [0.2, 0.1, 0.7]])
    result = numbers.calibration(scores, np.array([1, 0, 1, 0]), bins=2)
    np.testing.assert_array_equal(result.count, [2, 2])
    np.testing.assert_allclose(result.confidence, [0.45, 0.8])
    np.testing.assert_allclose(result.accuracy, [0.5, 0.5])
    assert result.ece == pytest.approx(0.5 * 0.05 + 0.5 * 0.3)


def test_empty_bins_count_for_nothing_and_certainty_is_in_the_last():
    result = numbers.calibration(np.eye(3)[[0, 1, 2]], np.array([0, 1, 1]))
    assert result.count[-1] == 3 and result.count.sum() == 3 and len(result.count) == 15
    assert result.ece == pytest.approx(1 / 3)


def test_the_page_says_the_calibration_error_and_the_number_of_bins(whole):
    shown = read(report.write(whole))
    with np.load(whole / "predictions.npz") as found:
        ece = numbers.calibration(found["scores"], found["labels"]).ece
    assert ece in shown.data and f"{100 * ece:.2f}" in shown.text and "in 15 bins of equal width" in shown.text


def test_the_interval_by_hand():
    # Wilson's for 8 of 10, as printed in textbooks: 0.490 to 0.943.
    assert numbers.wilson_interval(8, 10) == pytest.approx((0.490, 0.943), abs=5e-4)
    assert numbers.wilson_interval(10, 10)[1] == 1 and numbers.wilson_interval(0, 10)[0] == 0


def test_confusions_and_chosen_videos():
    scores = np.array([[0.1, 0.9, 0], [0.2, 0.8, 0], [0.6, 0.4, 0], [0, 0.7, 0.3], [0, 0.05, 0.95], [0, 0.01, 0.99]])
    labels = np.array([0, 0, 1, 1, 2, 2])
    matrix = numbers.confusion(scores, labels)
    assert numbers.confusions(matrix, 5) == [(0, 1, 2), (1, 0, 1)]
    assert numbers.most_wrong(scores, labels, 5).tolist() == [0, 2]  # each pair of classes once
    assert numbers.most_confident(scores, labels, 5).tolist() == [5, 3]  # each class once


def test_a_long_series_keeps_its_extremes():
    y = np.sin(np.arange(10_001.0))
    y[5000] = 9
    x, mean, low, high = numbers.downsample(np.arange(10_001.0), y, 100)
    assert len(x) == 100 and x[-1] == 10_000 and high.max() == 9 and np.all(low <= mean) and np.all(mean <= high)
    assert mean.mean() == pytest.approx(y.mean(), abs=0.01)


@pytest.mark.parametrize("high", [1e-7, 0.003, 0.05, 0.97, 1.0, 2.13, 9.99, 12, 300, 44_700])
def test_ticks_reach_just_over_the_top(high):
    found = charts.ticks(high)
    assert found[0] == 0 and high * 0.999 <= found[-1] < high * 1.6 and 3 <= len(found) <= 6
    np.testing.assert_allclose(np.diff(found), found[1])


@pytest.mark.parametrize("missing", ["metrics.jsonl", "predictions.npz", "results.json", "config.json"])
def test_what_is_missing_is_said(tmp_path, missing):
    fake_run.write(tmp_path, fake_run.predictions(MOTION[:3]), fake_run.log_lines(5))
    (tmp_path / missing).unlink()
    shown = read(report.write(tmp_path))
    assert f"has no {missing}" in shown.text
    assert "No frames and activation maps" in shown.text or missing == "predictions.npz"


def test_an_evaluation_alone_and_one_of_everything_right(tmp_path):
    found = fake_run.predictions(MOTION[:2], right=0.5)
    found = dataclasses.replace(found, labels=found.scores.argmax(axis=1).astype(np.int32))
    fake_run.write(tmp_path, found)
    (tmp_path / "config.json").unlink()
    text = read(report.write(tmp_path)).text
    assert "None: all 40 videos are right" in text and "No video is wrong" in text
    assert "an evaluation alone writes none" in text and "does not say where its data set is" in text


def test_scores_that_are_not_the_splits_are_marked(tmp_path):
    found = fake_run.predictions(MOTION)
    fake_run.write(tmp_path, found, videos_evaluated=150)
    assert "150 videos were evaluated of 160 expected" in read(report.write(tmp_path)).text
    fake_run.write(tmp_path, found, top1=0.123)
    assert "is not of the evaluation in results.json" in read(report.write(tmp_path)).text


def test_three_splits(tmp_path):
    found = fake_run.predictions(MOTION)
    parts = [{"split": s, "videos_evaluated": 50, "top1": 0.8, "mean_class": 0.7, "clip_top1": 0.6} for s in "123"]
    fake_run.write(tmp_path, found, split="all", splits=parts, spread={"top1": 0.0123})
    (tmp_path / "predictions.npz").unlink()
    shown = read(report.write(tmp_path))
    assert ("a", "href", "split2/report.html") in shown.attributes and "± 1.23" in shown.text
    assert "all splits" in shown.text and "predictions.npz" not in shown.text


@pytest.mark.parametrize(
    "name, content",
    [("results.json", b"{"), ("config.json", b"[]"), ("predictions.npz", b"PK"), ("metrics.jsonl", b"{\n{}\n")],
)
def test_a_damaged_file_is_named(tmp_path, name, content):
    fake_run.write(tmp_path, fake_run.predictions(MOTION[:2]), fake_run.log_lines(3))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        report.write(tmp_path)


def test_a_folder_that_is_no_workdir(tmp_path):
    with pytest.raises(UserError, match="not a run's workdir"):
        report.write(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        report.write(tmp_path / "none")


# --- frames and activation maps -------------------------------------------------------------------------

SPEC = Preprocessing((32, 40), 32, 4, 2, None, (0.4, 0.5, 0.6), (0.3, 0.2, 0.1))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir with a checkpoint and the data set it was evaluated on."""
    root = tmp_path_factory.mktemp("trained")
    fake_data.write(root / "data", frames=20)
    dataset = records.VideoDataset.open(root / "data")
    arguments = {"num_classes": 3, "frames": 4, "in_channels": 3, "width": 2, "layers": [1, 1, 1, 1]}
    model = models.create_from_arguments("r2plus3d_18", arguments)
    params, stats = weights_of(model)
    tested = [dataset.videos[p] for p in dataset.subset("1", "test")]
    scores = np.random.default_rng(0).dirichlet(np.ones(3), len(tested)).astype(np.float32)
    found = Predictions(
        names=np.array([video.name for video in tested]),
        labels=np.array([video.label for video in tested], np.int32),
        aggregates={"mean_softmax": scores, "mean_logits": np.log(scores)},
        clips=np.full(len(tested), 3, np.int32),
        class_names=np.array(dataset.class_names),
        clip_top1=0.5,
    )
    facts = {"dataset": dataset.full_name, "dataset_fingerprint": dataset.fingerprint, "step": 7}
    workdir = fake_run.write(root / "run", found, fake_run.log_lines(3), root / "data", **facts)
    card = Card("r2plus3d_18", arguments, tuple(dataset.class_names), SPEC)
    checkpoint.save_weights(workdir / "checkpoints" / "00000007", {**params, **stats}, card)
    return workdir, dataset


def images(path):
    sources = [value for tag, name, value in read(path).attributes if (tag, name) == ("img", "src")]
    return [simplejpeg.decode_jpeg(base64.b64decode(source.split(",")[1])) for source in sources]


def test_strips_show_what_the_network_saw(trained):
    workdir, dataset = trained
    run = report.read_run(workdir)
    row = int(numbers.most_wrong(run.scores.scores, run.scores.labels, 1)[0])
    (strip,) = strips.collect(run, dataset, strips.evaluated_weights(run), np.array([row]))
    assert len(strip.tiles) == 4 and strip.size == (32, 96)  # frames, evidence for the predicted and the true class
    assert strip.classes == [int(run.scores.scores[row].argmax()), int(run.scores.labels[row])]
    assert strip.own.sum() == pytest.approx(1)
    # The middle clip through the evaluation's transform, frame by frame.
    position = next(i for i, video in enumerate(dataset.videos) if video.name == run.scores.names[row])
    frames = np.zeros((4, *dataset.canvas, 3), np.uint8)
    dataset.decode(position, sampling.uniform(20, 4, 2, 1)[0], frames)
    video = clip_transforms.eval_transform(SPEC)(frames[None], np.array([[32, 40]]), np.zeros(1, np.int32))
    np.testing.assert_array_equal(strips.to_rgb(np.asarray(video)[0], SPEC), frames[:, :, 4:36])
    for uri, frame in zip(strip.tiles, frames[:, :, 4:36], strict=True):
        tile = simplejpeg.decode_jpeg(base64.b64decode(uri.split(",")[1]))
        assert np.abs(tile[:32].astype(int) - frame).mean() < 12  # JPEG with halved chroma
        assert np.ptp(tile[36:60].astype(int), axis=-1).mean() < np.ptp(frame.astype(int), axis=-1).mean() + 40


def test_the_page_has_the_strips_with_and_without_a_given_dataset(trained):
    workdir, dataset = trained
    for given in (dataset, None):
        path = report.write(workdir, given)
        shown = images(path)
        assert len(shown) >= 8 and {image.shape[1] for image in shown} == {32}
        assert "No frames and activation maps" not in read(path).text
        assert "class activation maps. Strongest evidence for" in path.read_text()


@pytest.mark.parametrize(
    "head, why_not",
    [
        ({"stages": ["layer3", "layer4"], "bins": 2, "mirrored": True}, ""),
        (
            {"stages": ["layer4"], "kind": "neighbours", "points": 5, "neighbours": 2},
            "class activation maps are of linear heads, and this network's is of kind neighbours.",
        ),
    ],
)
def test_a_network_with_a_head_has_strips_if_it_is_linear(trained, head, why_not):
    workdir, dataset = trained
    _, card = strips.evaluated_weights(report.read_run(workdir))
    card = dataclasses.replace(card, model={**card.model, "head": head})
    weights = models.flatten(models.from_card(card))
    path = report.write(workdir, dataset, (weights, card))
    assert why_not in read(path).text and bool(images(path)) is not bool(why_not)
    weights.pop("fc.kernel")
    assert "fc.kernel is missing" in read(report.write(workdir, dataset, (weights, card))).text


def test_weights_from_elsewhere(trained, tmp_path):
    workdir, dataset = trained
    run = report.read_run(workdir)
    weights = strips.evaluated_weights(run)
    for name in ("results.json", "predictions.npz"):
        (tmp_path / name).write_bytes((workdir / name).read_bytes())
    assert "(step 7) is not in the workdir" in read(report.write(tmp_path, dataset)).text
    assert images(report.write(tmp_path, dataset, (jax.device_put(weights[0]), weights[1])))


def test_another_build_of_the_data_is_refused_in_words(trained, tmp_path, monkeypatch, capsys):
    workdir, _ = trained
    fake_data.write(tmp_path, seed=1)
    monkeypatch.setattr("sys.argv", ["report", str(workdir), "--data_dir", str(tmp_path)])
    assert report_command.main() == 0
    path = workdir / "report.html"
    assert str(path) in capsys.readouterr().out
    assert "is another build than the one that was evaluated" in read(path).text and not images(path)


def test_tiles_stay_within_the_budget():
    noise = np.random.default_rng(0).integers(0, 256, (8, 384, 128, 3), dtype=np.uint8)
    empty = strips.Strip(0, [], (128, 384), [0], [0.0], [""], np.ones(1))
    drawn = [(empty, noise) for _ in range(10)]
    assert sum(len(uri) for strip in strips._encode(drawn) for uri in strip.tiles) < 2_500_000


def test_flow_is_made_visible():
    clip = np.zeros((2, 4, 4, 2), np.float32)
    spec = Preprocessing(None, 4, 2, mean=(0.5, 0.5), std=(0.5, 0.5), channels="flow", flow="tvl1")
    assert np.all(strips.to_rgb(clip, spec) == 128)
