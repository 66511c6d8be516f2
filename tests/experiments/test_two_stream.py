"""Late fusion: arithmetic, matching by name, refusals; and two networks trained and fused by one command."""

import contextlib
import dataclasses
import io
import json
import sys

import fake_data
import fake_run
import numpy as np
import pytest

from r23d_jax import config as configs
from r23d_jax import main, two_stream
from r23d_jax.errors import UserError
from r23d_jax.evaluation import fusion
from r23d_jax.evaluation.evaluator import evaluate_checkpoint
from r23d_jax.evaluation.predictions import Predictions
from r23d_jax.experiments import two_stream as two_streams
from r23d_jax.training import loop
from r23d_jax.weights import checkpoint

CLASSES = ("Archery", "Bowling", "Diving")
SMALL = (*fake_data.TINY, "arch=f_r2d_18", "steps=2", "lr=0.05", "freeze_backbone=true", "freeze_batch_norm=true")


def workdir(path, stream, seed=0, **results):
    """A workdir with predictions; `seed` draws them."""
    found = fake_run.predictions(CLASSES, per_class=5, right=0.6, seed=seed, clips=2 + seed)
    facts = {"rgb": ("rgb", "r", "tfds_ucf101/rgb/1.1.0"), "flow": ("flow (tvl1)", "f", "tfds_ucf101/flow/1.1.0")}
    kind, fingerprint, dataset = facts[stream]
    fields = {"input": kind, "dataset_fingerprint": fingerprint, "dataset": dataset, "arch": f"{stream}net"}
    return fake_run.write(path, found, **(fields | results))


def stream(path, name, seed=0, **results):
    return fusion.read_stream(workdir(path / name, name, seed, **results))


def changed(found, **fields):
    return dataclasses.replace(found, predictions=dataclasses.replace(found.predictions, **fields))


# --- fusion ---------------------------------------------------------------------------------------------


def test_both_ways_with_weights(tmp_path):
    rgb, flow = stream(tmp_path, "rgb"), stream(tmp_path, "flow", 1)
    results, fused = fusion.fuse(rgb, flow, (1.0, 3.0))
    a, b = rgb.predictions, flow.predictions
    np.testing.assert_allclose(fused.scores, (a.scores + 3 * b.scores) / 4, rtol=1e-6)
    np.testing.assert_allclose(fused.logits, (a.logits + 3 * b.logits) / 4, rtol=1e-6, atol=1e-6)
    assert results["top1"] == np.mean(fused.scores.argmax(1) == a.labels)
    assert results["top1_logit_mean"] == np.mean(fused.logits.argmax(1) == a.labels)
    assert list(fused.clips) == [2 + 3] * 15  # views of both
    assert results["clip_top1"] == pytest.approx((2 * a.clip_top1 + 3 * b.clip_top1) / 5)
    assert results["arch"] == "rgbnet + flownet" and results["init"] == "scratch + scratch" and results["seed"] == 0
    assert results["input"] == "rgb + flow (tvl1)" and results["split"] == "1" and results["videos_evaluated"] == 15
    assert "weights 1 (rgb) and 3 (flow)" in results["protocol"]
    assert results["protocol"].count("video level, mean of softmax") == 2
    alone = {part["stream"]: part["top1"] for part in results["streams"]}
    assert alone == {"rgb": rgb.results["top1"], "flow": flow.results["top1"]}


def test_every_aggregate_that_both_have_is_fused(tmp_path):
    rgb, flow = stream(tmp_path, "rgb"), stream(tmp_path, "flow", 1)
    further = {"largest": rgb.predictions.logits + 1}
    rgb = changed(rgb, aggregates=rgb.predictions.aggregates | further | {"own": further["largest"]})
    flow = changed(flow, aggregates=flow.predictions.aggregates | {"largest": flow.predictions.logits * 2})
    results, fused = fusion.fuse(rgb, flow)
    assert list(results["aggregates"]) == list(fused.aggregates) == ["mean_softmax", "mean_logits", "largest"]
    expected = (rgb.predictions.logits + 1 + 2 * flow.predictions.logits) / 2
    np.testing.assert_allclose(fused.aggregates["largest"], expected, rtol=1e-5, atol=1e-6)
    assert results["aggregates"]["largest"]["top1"] == np.mean(expected.argmax(1) == fused.labels)
    assert results["aggregates"]["mean_softmax"]["top1"] == results["top1"]


def test_a_weight_of_zero_is_the_other_stream_alone(tmp_path):
    rgb, flow = stream(tmp_path, "rgb"), stream(tmp_path, "flow", 1)
    results, fused = fusion.fuse(rgb, flow, (0.0, 2.0))
    np.testing.assert_array_equal(fused.scores, flow.predictions.scores)
    assert results["top1"] == flow.results["top1"]


def test_videos_are_matched_by_name(tmp_path):
    rgb, flow = stream(tmp_path, "rgb"), stream(tmp_path, "flow", 1)
    order = np.random.default_rng(0).permutation(15)
    fields = ("names", "labels", "scores", "logits", "clips")
    shuffled = dataclasses.replace(flow, predictions=flow.predictions.in_order(order))
    (plain, a), (mixed, b) = fusion.fuse(rgb, flow), fusion.fuse(rgb, shuffled)
    assert plain == mixed
    assert all(np.array_equal(getattr(a, field), getattr(b, field)) for field in fields)


def test_what_does_not_belong_together_is_refused(tmp_path):
    rgb, flow = stream(tmp_path, "rgb"), stream(tmp_path, "flow", 1)
    labels = flow.predictions.labels.copy()
    labels[3] = 2
    for other, words in (
        (changed(flow, names=np.array([f"{n}x" for n in flow.predictions.names])), "other videos.*15 and 15.*only in"),
        (changed(flow, labels=labels), "other labels, for 1 videos"),
        (changed(flow, class_names=flow.predictions.class_names[::-1]), "other classes.*another order"),
        (dataclasses.replace(flow, results={**flow.results, "split": "2"}), "split 2, but .* split 1"),
        (dataclasses.replace(flow, results={**flow.results, "part": "val"}), "part val, but .* part test"),
        (dataclasses.replace(flow, results={**flow.results, "input": "rgb"}), "rgb, where a stream of flow is due"),
        (dataclasses.replace(flow, results={"dataset_fingerprint": "r"}), "evaluated on the same data"),
        (dataclasses.replace(rgb, results={}), "evaluated on the same data"),
    ):
        with pytest.raises(UserError, match=words) as error:
            fusion.fuse(rgb, other)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="order is RGB, FLOW"):
        fusion.fuse(flow, rgb)
    for weights in ((0, 0), (-1, 2), (float("nan"), 1)):
        with pytest.raises(UserError, match="at least 0, not both 0"):
            fusion.fuse(rgb, flow, weights)


def test_results_of_another_evaluation_are_refused(tmp_path):
    with pytest.raises(UserError, match="not of the same evaluation"):
        stream(tmp_path, "rgb", top1=0.123)
    (tmp_path / "rgb" / "predictions.npz").write_bytes(b"PK not really")
    with pytest.raises(UserError, match="not readable as predictions.npz"):
        fusion.read_stream(tmp_path / "rgb")


def test_predictions_read_back(tmp_path):
    found = fake_run.predictions(CLASSES)
    found.save(tmp_path / "predictions.npz")
    again = Predictions.load(tmp_path / "predictions.npz")
    fields = ("names", "labels", "scores", "logits", "clips", "class_names")
    assert all(np.array_equal(getattr(found, field), getattr(again, field)) for field in fields)
    assert np.isnan(again.clip_top1)


# --- the command ----------------------------------------------------------------------------------------


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["two_stream", *map(str, arguments)])
    return two_stream.main()


def test_the_command_fuses_bare_predictions_and_says_what_it_does_not_know(tmp_path, monkeypatch, capsys):
    rgb, flow = workdir(tmp_path / "a", "rgb"), workdir(tmp_path / "b", "flow", 1)
    (flow / "results.json").unlink()
    assert command(monkeypatch, rgb, flow / "predictions.npz", "--out", tmp_path / "c", "--weights", "1,1.5") == 0
    results = json.loads((tmp_path / "c" / "results.json").read_text())
    assert "weights 1 (rgb) and 1.5 (flow)" in results["protocol"] and "without the results.json" in results["protocol"]
    assert results["arch"] == "rgbnet + unknown" and "clip_top1" not in results and "seed" not in results
    assert results["split"] == "1" and f"top1 {results['top1']:.4f}" in capsys.readouterr().out
    page = (tmp_path / "c" / "report.html").read_text()
    assert "Stream alone" in page and "two networks were fused" in page
    again = fusion.read_stream(tmp_path / "c")
    assert again.results == results


def test_the_command_refuses_to_write_over_a_stream(tmp_path, monkeypatch):
    rgb, flow = workdir(tmp_path / "a", "rgb"), workdir(tmp_path / "b", "flow", 1)
    for arguments, words in (
        ((rgb, flow, "--out", rgb), "name another folder"),
        ((rgb, flow / "predictions.npz", "--out", flow), "name another folder"),
        ((rgb, tmp_path / "none", "--out", tmp_path / "c"), "no such file or folder"),
        ((rgb, flow, "--out", tmp_path / "c", "--weights", "1"), "two numbers"),
    ):
        with pytest.raises(UserError, match=words):
            command(monkeypatch, *arguments)
    assert not (tmp_path / "c").exists()


def test_the_command_fuses_every_split(tmp_path, monkeypatch):
    for split in "123":
        workdir(tmp_path / "a" / f"split{split}", "rgb", int(split), split=split)
        workdir(tmp_path / "b" / f"split{split}", "flow", 3 + int(split), split=split)
    assert command(monkeypatch, tmp_path / "a", tmp_path / "b", "--out", tmp_path / "c") == 0
    results = json.loads((tmp_path / "c" / "results.json").read_text())
    parts = [json.loads((tmp_path / "c" / f"split{k}" / "results.json").read_text()) for k in "123"]
    assert results["split"] == "all" and results["videos_evaluated"] == 45
    assert results["top1"] == pytest.approx(np.mean([part["top1"] for part in parts]))
    assert results["streams"][1]["top1"] == pytest.approx(np.mean([part["streams"][1]["top1"] for part in parts]))
    assert results["aggregates"]["mean_logits"]["top1"] == pytest.approx(results["top1_logit_mean"])
    with pytest.raises(UserError, match="these splits: 1, 2, 3; .*split1 of these: none"):
        command(monkeypatch, tmp_path / "a", tmp_path / "b" / "split1", "--out", tmp_path / "d")


# --- training two networks ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    same = {"classes": 3, "groups": 6, "height": 24, "width": 28}
    fake_data.write(folder, frames=10, **same)
    fake_data.write(folder, "flow", frames=9, flow="tvl1", seed=1, **same)
    fake_data.write(folder, "flow_farneback", frames=9, flow="farneback", seed=1, **same)
    fake_data.write(folder, "fewer", frames=9, flow="tvl1", classes=3, groups=7, height=24, width=28)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A config of two streams beside those of its streams."""
    folder = tmp_path_factory.mktemp("configs")
    text = "from . import common\n\n\ndef get_config(which=''):\n    c = common.get_config()\n    c.lr = 0.04\n"
    text += f"    if which == 'both':\n        c.streams = ('{folder}/pair.py:rgb', '{folder}/pair.py:flow')\n"
    text += "    c.dataset.name = f'tfds_ucf101/{which}'\n"
    text += "    if which == 'flow':\n        c.clip.mean = c.clip.std = (0.5, 0.5)\n    return c\n"
    (folder / "pair.py").write_text(text)
    return f"{folder}/pair.py:both"


def jobs(source, data, *overrides):
    everything = [*SMALL, f"dataset.data_dir={data}", *overrides]
    return configs.load_streams(configs.load(source, everything), everything)


@pytest.fixture(scope="module")
def pair(source, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair") / "w"
    arguments = ["--config", source, "--workdir", str(folder), *(f"--config.{o}" for o in SMALL)]
    arguments += [f"--config.dataset.data_dir={data}", "--config.flow.lr=0.03"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        patch.setattr(sys, "argv", ["main", *arguments])
        assert main.main() == 0
    return folder, said.getvalue()


def test_one_command_trains_both_streams_and_fuses_them(pair):
    folder, said = pair
    results = json.loads((folder / "results.json").read_text())
    alone = [json.loads((folder / name / "results.json").read_text()) for name in ("rgb", "flow")]
    assert results["videos_evaluated"] == results["videos_expected"] == 6
    assert [part["top1"] for part in results["streams"]] == [part["top1"] for part in alone]
    assert results["dataset"] == "tfds_ucf101/rgb/1.1.0 + tfds_ucf101/flow/1.1.0" and results["step"] == 2
    assert results["input"] == "rgb + flow (tvl1)" and f"top1 {results['top1']:.4f}" in said
    rates = [json.loads((folder / name / "config.json").read_text())["config"]["lr"] for name in ("rgb", "flow")]
    assert rates == [0.05, 0.03]  # one override for both, one for one
    assert 'href="rgb/report.html"' in (folder / "report.html").read_text()


def test_a_finished_stream_is_neither_trained_nor_evaluated_again(pair, source, data, monkeypatch):
    folder, _ = pair
    before = (folder / "results.json").read_text()
    ran = []

    def one(config, path):
        ran.append(path)

    found = two_streams.run(jobs(source, data, "flow.lr=0.03"), folder, one, again=False)
    assert not ran and json.dumps(found, indent=1) + "\n" == before
    monkeypatch.setattr(loop, "train_and_evaluate", None)
    others = jobs(source, data, "flow.lr=0.03", "flow.eval.views=1")
    two_streams.run(others, folder, one, again=False)
    assert ran == [folder / "flow"]  # evaluated in another way: not that result
    with pytest.raises(UserError, match="holds a run of another config"):
        two_streams.run(jobs(source, data), folder, one, again=False)


def test_data_sets_that_do_not_pair_are_refused_before_training(source, data, tmp_path):
    for overrides, words in (
        (("flow.dataset.name=tfds_ucf101/rgb",), "holds rgb, not flow"),
        (("flow.dataset.name=tfds_ucf101/fewer",), "3 test videos of split 1 are in one of them only"),
    ):
        with pytest.raises(UserError, match=words):
            two_streams.run(jobs(source, data, *overrides), tmp_path / "w", None, again=False)
    for override, words in (
        ("dataset.name=tfds_ucf101/rgb", "each stream has its own data set"),
        ("rgb.dataset.split=2", "same for both streams"),
        ("flow.clip.framse=3", "did you mean clip.frames"),
        ("streams=('r23d',)", "two configs"),
    ):
        with pytest.raises(UserError, match=words):
            jobs(source, data, override)


def test_a_checkpoint_without_predictions_is_evaluated_first(pair, data, tmp_path, monkeypatch):
    folder, _ = pair
    last = checkpoint.find(folder / "flow", "last")
    assert command(monkeypatch, folder / "rgb", last, "--out", tmp_path / "w") == 0
    results = json.loads((tmp_path / "w" / "results.json").read_text())
    expected = json.loads((folder / "results.json").read_text())
    assert results["top1"] == expected["top1"] and "checkpoint 00000002" in results["protocol"]
    assert (tmp_path / "w" / "flow" / "predictions.npz").is_file() and not (tmp_path / "w" / "rgb").exists()


# --- flow and RGB weights -------------------------------------------------------------------------------


def test_weights_of_another_input_need_an_explicit_word(pair, data, tmp_path):
    folder, _ = pair
    flow = ("dataset.name=tfds_ucf101/flow", "clip.mean=(.5,.5)", "clip.std=(.5,.5)", f"dataset.data_dir={data}")
    farneback = ("dataset.name=tfds_ucf101/flow_farneback", *flow[1:])
    for overrides, origin, words in (
        (flow, folder / "rgb", r"trained on rgb, the data set is flow \(tvl1\); --config.init_other_input=true"),
        (farneback, folder / "flow", r"trained on flow \(tvl1\), the data set is flow \(farneback\)"),
    ):
        config = configs.load("common", [*SMALL, *overrides, f"init_from={origin}"])
        with pytest.raises(UserError, match=words):
            loop.train_and_evaluate(config, tmp_path / "w")
    config = configs.load("common", [*SMALL, *flow, f"init_from={folder / 'rgb'}", "init_other_input=true", "lr=0.03"])
    results = loop.train_and_evaluate(config, tmp_path / "w")
    old = checkpoint.load_weights(checkpoint.find(folder / "rgb"))[0]["stem.0.kernel"]
    new = checkpoint.load_weights(checkpoint.find(tmp_path / "w"))[0]["stem.0.kernel"]
    assert results["input"] == "flow (tvl1)" and new.shape[3] == 2
    np.testing.assert_array_equal(new, old.mean(3, keepdims=True).repeat(2, 3))


def test_flow_of_another_algorithm_is_not_evaluated_silently(pair, data):
    folder, _ = pair
    base = [*SMALL, f"dataset.data_dir={data}"]
    with pytest.raises(UserError, match="holds rgb, the checkpoint was trained on flow"):
        evaluate_checkpoint(configs.load("common", [*base, "dataset.name=tfds_ucf101/rgb"]), folder / "flow")
    with pytest.raises(UserError, match="init_other_input=true"):
        evaluate_checkpoint(configs.load("common", [*base, "dataset.name=tfds_ucf101/flow_farneback"]), folder / "flow")
