"""Whole runs on a data set made on the spot: results, resume in its bits, init_from, devices, mistakes."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import fake_data
import jax
import numpy as np
import pytest
from fake_videos import write_checkpoint
from paths import ROOT

from r23d_jax import config as configs
from r23d_jax.data import records
from r23d_jax.errors import UserError
from r23d_jax.evaluation import evaluate
from r23d_jax.evaluation.evaluator import Evaluator, evaluate_checkpoint
from r23d_jax.experiments import single
from r23d_jax.runtime.signals import Interrupted
from r23d_jax.runtime.workdir import locked
from r23d_jax.training import loop
from r23d_jax.training.log import read_metrics
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights import checkpoint
from r23d_jax.weights.sources import Located

SMALL = (*fake_data.RUN, "checkpoint.every_steps=5")
CLIPS = Preprocessing(resize=(20, 24), crop=16, frames=4)  # the clips of these runs


def load(data, *overrides):
    return configs.load("demo", [*SMALL, f"dataset.data_dir={data}", *overrides])


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "w"
    return workdir, single.train(load(data), workdir)


@pytest.fixture(scope="module")
def evaluated_run(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "w"
    loop.train_and_evaluate(load(data, "eval.every_epochs=1"), workdir)
    return workdir


def final(workdir, which="last"):
    return checkpoint.load_weights(checkpoint.find(workdir, which))[0]


def losses(workdir):
    return {line["step"]: line["loss"] for line in read_metrics(workdir) if "loss" in line}


def test_a_run_leaves_what_the_contract_says(run, data):
    workdir, results = run
    assert json.loads((workdir / "results.json").read_text()) == results
    assert results["videos_expected"] == results["videos_evaluated"] == 3 * 4 and results["step"] == 12
    assert results["dataset"] == "tfds_ucf101/rgb/1.1.0" and results["init"] == "scratch"
    assert "every non-overlapping 4-frame clip" in results["protocol"] and "split 1" in results["protocol"]
    for name in ("dataset", "split", "protocol", "arch", "init"):
        assert isinstance(results[name], str)
    for name in ("top1", "top5", "mean_class", "clip_top1", "top1_logit_mean"):
        assert 0 <= results[name] <= 1
    assert list(losses(workdir)) == [2, 4, 5, 6, 8, 10, 12]  # and wherever a checkpoint is
    assert any(path.name.startswith("events.") for path in workdir.iterdir())
    assert (workdir / "report.html").stat().st_size > 1000
    assert json.loads((workdir / "config.json").read_text())["config"]["clip.frames"] == 4


def test_decoding_in_processes_changes_no_bit_and_no_run(run, data, tmp_path):
    results = loop.train_and_evaluate(load(data, "processes=2"), tmp_path)
    assert results == run[1] and losses(tmp_path) == losses(run[0])
    ours, theirs = final(tmp_path), final(run[0])
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert loop.train_and_evaluate(load(data), tmp_path) == results  # the same run: it is finished


def test_a_run_compiles_its_two_steps_once(data, tmp_path, caplog, capsys):
    with jax.log_compiles():  # evaluated four times, with a last batch that is not full
        loop.train_and_evaluate(load(data, "eval.every_epochs=1", "eval.batch_size=5"), tmp_path)
    messages = [record.getMessage() for record in caplog.records]
    done = [message for message in messages if "Finished XLA compilation of jit(step)" in message]
    assert len(done) == 2
    assert capsys.readouterr().err.count("training step compiled in ") == 1


def test_the_log_says_once_when_the_run_waits_for_data(data, tmp_path, monkeypatch, capsys):
    to_device = loop.to_device

    def late(batches, mesh):
        for batch in to_device(batches, mesh):
            time.sleep(0.3)
            yield batch

    monkeypatch.setattr(loop, "to_device", late)
    loop.train_and_evaluate(load(data), tmp_path)
    said = capsys.readouterr().err
    assert said.count("the run is input-bound: waiting for data") == 1


def test_predictions_are_the_results(run):
    workdir, results = run
    with np.load(workdir / "predictions.npz") as saved:
        assert set(saved) == {"names", "labels", "scores", "logits", "clips", "class_names"}
        assert np.mean(saved["scores"].argmax(1) == saved["labels"]) == results["top1"]
        assert (saved["clips"] == 2).all() and list(saved["names"]) == sorted(saved["names"])
        np.testing.assert_allclose(saved["scores"].sum(1), 1, rtol=1e-6)


class Stop(Exception):
    pass


def cut_off(monkeypatch, count, how):
    """Ends a run before its batch number `count`: by a signal, or by an exception that nobody expects."""
    to_device = loop.to_device

    def stream(batches, mesh):
        for number, batch in enumerate(to_device(batches, mesh)):
            if number == count and how == "terminated":
                os.kill(os.getpid(), signal.SIGTERM)
            elif number == count:
                raise Stop
            yield batch

    monkeypatch.setattr(loop, "to_device", stream)


@pytest.mark.parametrize("how", ["terminated", "killed"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(run, data, tmp_path, monkeypatch, how):
    for count in (2, 4):  # before the first checkpoint, between two, and each time between two lines of the log
        cut_off(monkeypatch, count, how)
        with pytest.raises(Interrupted if how == "terminated" else Stop):
            loop.train_and_evaluate(load(data), tmp_path)
        monkeypatch.undo()
    results = loop.train_and_evaluate(load(data), tmp_path)
    workdir, uninterrupted = run
    assert results == uninterrupted
    assert losses(tmp_path) == losses(workdir)
    ours, theirs = final(tmp_path), final(workdir)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    with np.load(tmp_path / "predictions.npz") as a, np.load(workdir / "predictions.npz") as b:
        assert all(np.array_equal(a[name], b[name]) for name in b)


@pytest.mark.parametrize(("signalled", "at"), [(True, 6), (True, 12), (False, 6)])
def test_an_evaluation_that_was_cut_off_is_made_up_for(evaluated_run, data, tmp_path, monkeypatch, signalled, at):
    evaluate = Evaluator.run

    def cut_off(self, weights, step, *rest, before_batch):
        batches = 0

        def before():
            nonlocal batches
            batches += 1
            if step == at and batches == 2:
                if not signalled:
                    raise Stop
                os.kill(os.getpid(), signal.SIGTERM)
            before_batch()
            assert step != at or batches == 1, "it went on"

        return evaluate(self, weights, step, *rest, before_batch=before)

    config = load(data, "eval.every_epochs=1")
    monkeypatch.setattr(Evaluator, "run", cut_off)
    with pytest.raises(Interrupted if signalled else Stop, match=f"saved at step {at} of 12" if signalled else None):
        loop.train_and_evaluate(config, tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / "results.json").exists()
    loop.train_and_evaluate(config, tmp_path)
    scores = [json.loads((w / "checkpoints" / "scores.json").read_text()) for w in (tmp_path, evaluated_run)]
    assert scores[0] == scores[1] and list(scores[0]) == ["3", "6", "9", "12", "sha256"]
    keys = ("step", "loss", "eval_top1")
    lines = [[[x.get(key) for key in keys] for x in read_metrics(w)] for w in (tmp_path, evaluated_run)]
    assert lines[0] == lines[1]


def test_a_finished_run_is_not_trained_again(run, data):
    workdir, results = run
    before = (workdir / "metrics.jsonl").read_text()
    assert loop.train_and_evaluate(load(data), workdir) == results
    assert (workdir / "metrics.jsonl").read_text() == before


def test_evaluation_by_itself_gives_the_same_for_any_batch(run, data):
    workdir, results = run
    again = evaluate_checkpoint(load(data, "eval.batch_size=5"), workdir).results
    for name in ("top1", "top5", "mean_class", "clip_top1", "top1_logit_mean", "videos_evaluated"):
        assert again[name] == results[name]


def test_a_last_batch_of_one_and_more_devices_than_clips_change_no_count(run, data, tmp_path):
    few = tmp_path / "few"
    fake_data.write(few, classes=3, groups=3, frames=8, height=24, width=28, seed=5)  # 3 test videos, of 2 clips
    found = {}
    for devices, batch in ((1, 5), (1, 6), (8, 1)):
        keys = flags(few, f"init_from={run[0]}", f"eval.batch_size={batch}")
        arguments = ["--workdir", tmp_path / f"{devices}x{batch}", "--mode", "eval", "--which", "init", *keys]
        done = command(*map(str, arguments), devices=devices)
        assert done.returncode == 0, done.stderr
        results = json.loads((tmp_path / f"{devices}x{batch}" / "results.json").read_text())
        with np.load(tmp_path / f"{devices}x{batch}" / "predictions.npz") as saved:
            found[devices, batch] = dict(saved)
        assert results["videos_evaluated"] == 3 and found[devices, batch]["clips"].tolist() == [2, 2, 2]
    for other in ((1, 5), (8, 1)):
        for name, expected in found[1, 6].items():
            if expected.dtype == np.float32:
                np.testing.assert_allclose(found[other][name], expected, rtol=1e-4, atol=1e-6, err_msg=name)
            else:
                np.testing.assert_array_equal(found[other][name], expected, err_msg=name)


def test_an_evaluation_that_was_cut_off_leaves_nothing_and_is_the_same_again(run, data, tmp_path, monkeypatch):
    config = load(data, f"init_from={run[0]}", "eval.batch_size=5")
    to_device = loop.to_device

    def broken(batches, mesh):
        for number, batch in enumerate(to_device(batches, mesh)):
            if number == 3:
                raise Stop
            yield batch

    monkeypatch.setattr(evaluate, "to_device", broken)
    with pytest.raises(Stop):
        evaluate_checkpoint(config, tmp_path / "a", which="init")
    assert not (tmp_path / "a").exists()
    monkeypatch.undo()
    for name in "ab":
        evaluate_checkpoint(config, tmp_path / name, which="init")
    assert (tmp_path / "a" / "results.json").read_bytes() == (tmp_path / "b" / "results.json").read_bytes()
    with np.load(tmp_path / "a" / "predictions.npz") as ours, np.load(tmp_path / "b" / "predictions.npz") as theirs:
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_an_optimizer_of_optax_is_resumed_bit_for_bit_with_the_same_arguments(data, tmp_path, monkeypatch):
    options = ("optimizer.name=lion", "optimizer.arguments.b1=0.95", "lr=0.001", "steps=4", "checkpoint.every_steps=2")
    config = load(data, *options)
    whole = loop.train_and_evaluate(config, tmp_path / "whole")
    cut_off(monkeypatch, 3, "killed")
    with pytest.raises(Stop):
        loop.train_and_evaluate(config, tmp_path / "cut")
    monkeypatch.undo()
    for changed in (load(data, *options, "optimizer.arguments.b2=0.9"), load(data, options[0], *options[2:])):
        with pytest.raises(UserError, match="optimizer.arguments.b.*new workdir"):
            loop.train_and_evaluate(changed, tmp_path / "cut")
    assert loop.train_and_evaluate(config, tmp_path / "cut") == whole
    ours, theirs = final(tmp_path / "cut"), final(tmp_path / "whole")
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_another_config_in_the_same_workdir_is_refused(run, data):
    with pytest.raises(UserError, match="lr=0.05 there, 0.1 now.*new workdir"):
        loop.train_and_evaluate(load(data, "lr=0.1"), run[0])


def test_init_from_takes_the_backbone_and_says_so(run, data, tmp_path, capsys):
    fake_data.write(tmp_path / "other", classes=4, groups=12, frames=10, height=24, width=28)
    config = load(
        tmp_path / "other", f"init_from={run[0]}", "steps=1", "freeze_backbone=true", "freeze_batch_norm=true"
    )
    results = loop.train_and_evaluate(config, tmp_path / "w")
    said = capsys.readouterr().err
    assert "re-initialised: fc.bias, fc.kernel" in said and "new head" in said and results["init"] == str(run[0])
    old, new = final(run[0]), final(tmp_path / "w")
    assert all(np.array_equal(old[name], new[name]) for name in old if not name.startswith("fc."))


HEAD = {"stages": ["layer3", "layer4"], "bins": 2, "mirrored": True}
LABELS = tuple(fake_data.CLASS_NAMES[:3])


def test_a_head_is_kept_also_by_a_resumed_run(data, tmp_path, capsys, monkeypatch):
    begin = write_checkpoint(tmp_path / "begin", CLIPS, labels=LABELS[::-1], head=HEAD)
    config = load(data, f"init_from={begin}", "freeze_backbone=true", "freeze_batch_norm=true", "lr=1e-7")
    cut_off(monkeypatch, 7, "terminated")
    with pytest.raises(Interrupted):
        loop.train_and_evaluate(config, tmp_path / "w")
    monkeypatch.undo()
    begin.rename(tmp_path / "gone")
    loop.train_and_evaluate(config, tmp_path / "w")
    weights, card = checkpoint.load_weights(checkpoint.find(tmp_path / "w"))
    assert card.model["head"] == HEAD and card.model["dropout"] == 0.2
    # The classes are the same in another order, and next to nothing is learned.
    old = checkpoint.load_weights(tmp_path / "gone")[0]
    assert "re-initialised: none" in capsys.readouterr().err and weights["fc.kernel"].shape == (2 * (16 + 32), 3)
    np.testing.assert_allclose(weights["fc.kernel"], old["fc.kernel"][:, ::-1], atol=1e-3)
    changed = {name for name in old if not np.array_equal(weights[name], old[name])}
    assert changed == {"fc.kernel", "fc.bias"}
    evaluated = evaluate_checkpoint(config, tmp_path / "again", source=tmp_path / "w").results
    assert evaluated["top1"] == json.loads((tmp_path / "w" / "results.json").read_text())["top1"]


def test_an_attentive_head_is_trained_as_a_whole_on_other_classes(data, tmp_path, capsys):
    head = {"stages": ["layer2"], "kind": "attention", "grid": [2, 2, 2]}
    begin = write_checkpoint(tmp_path / "begin", CLIPS, head=head)
    loop.train_and_evaluate(load(data, f"init_from={begin}", "steps=2"), tmp_path / "w")
    assert "re-initialised: fc.bias, fc.kernel" in capsys.readouterr().err
    old, (new, card) = checkpoint.load_weights(begin)[0], checkpoint.load_weights(checkpoint.find(tmp_path / "w"))
    assert card.model["head"] == head
    kept = {name for name in old if name.startswith("head.") and np.array_equal(old[name], new[name])}
    assert kept == {"head.mean", "head.scale"}  # of the training clips, and not trained


def test_votes_of_training_clips_cannot_be_trained(data, tmp_path):
    head = {"stages": ["layer4"], "kind": "neighbours", "points": 4, "neighbours": 2}
    begin = write_checkpoint(tmp_path / "begin", CLIPS, labels=LABELS, head=head)
    with pytest.raises(UserError, match=f"init_from {begin}: its classifier counts votes of .* cannot be trained"):
        loop.train_and_evaluate(load(data, f"init_from={begin}"), tmp_path / "w")
    assert not (tmp_path / "w").exists()
    results = evaluate_checkpoint(load(data), tmp_path / "w", source=begin).results
    assert results["videos_evaluated"] == results["videos_expected"] == 12


def test_a_head_in_the_config_is_no_text(data, tmp_path):
    with pytest.raises(UserError, match="head: 'layer4': give its stages"):
        loop.train_and_evaluate(load(data, "model.arguments.head=layer4"), tmp_path / "w")


BROUGHT = Preprocessing(
    resize=(20, 24), crop=16, frames=6, stride=1, fps=12.5, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)
)
OPEN = [key for key in SMALL if not key.startswith("clip.")]


@pytest.fixture
def weights(tmp_path):
    return write_checkpoint(tmp_path / "weights", BROUGHT)


def from_weights(data, weights, *overrides):
    """A config that leaves the clip to the weights, on videos of 25 frames a second."""
    return configs.load("common", [*OPEN, f"dataset.data_dir={data}", f"init_from={weights}", "steps=4", *overrides])


def test_weights_bring_their_preprocessing(data, weights, tmp_path, capsys, monkeypatch):
    results = loop.train_and_evaluate(from_weights(data, weights), tmp_path / "w")
    said = capsys.readouterr().err
    assert (
        "clip as the weights say: 6 frames of stride 1 at 12.5 frames/s; frames of 20x24, crop 16x16; "
        "mean 0.1 0.2 0.3, std 0.4 0.5 0.6"
    ) in said and "by the config" not in said
    assert Preprocessing.from_dict(results["preprocessing"]) == BROUGHT
    assert "every non-overlapping 6-frame clip at 12.5 frames/s" in results["protocol"]
    card = checkpoint.load_weights(checkpoint.find(tmp_path / "w"))[1]
    assert card.preprocessing == BROUGHT
    assert card.source["init_sha256"] == checkpoint.load_weights(weights)[1].tensors_sha256
    with np.load(tmp_path / "w" / "predictions.npz") as saved:
        assert (saved["clips"] == 1).all()  # 10 frames of 25 a second are 5 of 12.5
    # A resumed run takes the clip of its own checkpoint, without the weights it began from.
    cut = tmp_path / "cut"
    cut_off(monkeypatch, 3, "terminated")
    with pytest.raises(Interrupted):
        loop.train_and_evaluate(from_weights(data, weights), cut)
    monkeypatch.undo()
    weights.rename(tmp_path / "gone")
    assert loop.train_and_evaluate(from_weights(data, weights), cut) == results
    ours, theirs = final(cut), final(tmp_path / "w")
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert checkpoint.load_weights(checkpoint.find(cut))[1] == card


def test_the_config_overrides_the_weights_and_says_so(data, weights, tmp_path, capsys):
    config = from_weights(data, weights, "clip.frames=4", "clip.fps=0")
    results = loop.train_and_evaluate(config, tmp_path / "w")
    said = capsys.readouterr().err
    assert "clip.frames=4 by the config; the weights say 6" in said
    assert "clip.fps=the video's own rate by the config; the weights say 12.5" in said
    expected = dataclasses.replace(BROUGHT, frames=4, fps=None)
    assert Preprocessing.from_dict(results["preprocessing"]) == expected and "frames/s" not in results["protocol"]
    # The same in an evaluation: the card of the run, and what the config says otherwise.
    evaluated = evaluate_checkpoint(config, tmp_path / "w").results
    assert evaluated["preprocessing"] == results["preprocessing"] and "by the config" not in capsys.readouterr().err
    evaluated = evaluate_checkpoint(from_weights(data, weights, "clip.frames=2"), tmp_path / "w").results
    assert "clip.frames=2 has no effect; the checkpoint was trained with 4" in capsys.readouterr().err
    assert evaluated == {**results, "protocol": evaluated["protocol"]}
    config = from_weights(data, tmp_path / "w", "clip.frames=2")
    evaluated = evaluate_checkpoint(config, tmp_path / "other", which="init").results
    assert "clip.frames=2 by the config; the weights say 4" in capsys.readouterr().err
    assert evaluated["preprocessing"]["frames"] == 2 and "2-frame clip" in evaluated["protocol"]


def test_a_run_is_resumed_by_the_clip_itself_however_the_config_says_it(data, weights, tmp_path, monkeypatch):
    cut_off(monkeypatch, 3, "terminated")
    with pytest.raises(Interrupted):
        loop.train_and_evaluate(from_weights(data, weights), tmp_path)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"of another config \(clip: 6 frames of .* there, 4 frames of .* now\)"):
        loop.train_and_evaluate(from_weights(data, weights, "clip.frames=4"), tmp_path)
    assert loop.train_and_evaluate(from_weights(data, weights, "clip.frames=6"), tmp_path)["step"] == 4


def test_a_password_in_an_address_is_in_no_file_of_the_run(data, weights, tmp_path, monkeypatch):
    address = "https://me:secretword@host/w.pth?key=secretword"
    monkeypatch.setattr(loop.loading.sources, "locate", lambda source: Located(weights, None, "https://host/w.pth"))
    config = from_weights(data, address, "steps=1")
    results = single.train(config, tmp_path / "w")
    assert results["init"] == "https://host/w.pth"
    files = [path for path in (tmp_path / "w").rglob("*") if path.is_file()]
    assert len(files) > 8 and not [path for path in files if b"secretword" in path.read_bytes()]
    assert single.train(config, tmp_path / "w") == results  # the same run


def test_videos_without_a_rate_are_counted(data, weights, tmp_path, capsys):
    folder = fake_data.write(tmp_path / "data", classes=3, groups=12, frames=10, height=24, width=28)

    def forget(head):
        for video in head["videos"][::2]:
            video["fps"] = 0.0

    fake_data.change(folder, forget)
    results = loop.train_and_evaluate(from_weights(tmp_path / "data", weights, "steps=1"), tmp_path / "w")
    dataset = records.VideoDataset.open(tmp_path / "data")
    for part, text in (("train", capsys.readouterr().err), ("test", results["protocol"])):
        positions = dataset.subset("1", part)
        count = sum(dataset.videos[position].fps == 0 for position in positions)
        assert 0 < count < len(positions) and f"{count} " in text
    assert "videos without a rate: all frames)" in results["protocol"]


def test_the_same_classes_in_another_order_are_the_same_answers(run, data, tmp_path):
    values, card = checkpoint.load_weights(checkpoint.find(run[0]))
    order = [2, 0, 1]
    moved = {name: value[..., order] if name.startswith("fc.") else value for name, value in values.items()}
    turned = dataclasses.replace(card, labels=tuple(card.labels[i] for i in order))
    checkpoint.save_weights(tmp_path / "turned", moved, turned)
    for source in (run[0], tmp_path / "turned"):
        evaluate_checkpoint(load(data, f"init_from={source}"), tmp_path / f"of-{source.name}", which="init")
    with (
        np.load(tmp_path / f"of-{run[0].name}" / "predictions.npz") as ours,
        np.load(tmp_path / "of-turned" / "predictions.npz") as theirs,
    ):
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    loop.train_and_evaluate(load(data, f"init_from={tmp_path / 'turned'}", "lr=0", "steps=1"), tmp_path / "w")
    np.testing.assert_array_equal(final(tmp_path / "w")["fc.kernel"], values["fc.kernel"])


def test_weights_of_another_network_are_refused(run, data, tmp_path):
    with pytest.raises(UserError, match="a checkpoint of r2plus3d_18, not of r3d_18"):
        loop.train_and_evaluate(load(data, f"init_from={run[0]}", "arch=r3d_18"), tmp_path)
    with pytest.raises(UserError, match="a network of width 4, here config.model.width is 8"):
        loop.train_and_evaluate(load(data, f"init_from={run[0]}", "model.width=8"), tmp_path)
    with pytest.raises(UserError, match="another network.*layer3.1.* is not in it"):
        loop.train_and_evaluate(load(data, f"init_from={run[0]}", "model.layers=(1,1,2,1)"), tmp_path)


def test_evaluating_on_other_classes_is_refused(run, tmp_path):
    fake_data.write(tmp_path / "other", classes=4, groups=12, frames=10, height=24, width=28)
    with pytest.raises(UserError, match="knows 3 classes.*has 4"):
        evaluate_checkpoint(load(tmp_path / "other"), run[0])


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_what_was_saved(data, tmp_path):
    with pytest.raises(UserError, match="at step .*lower --config.lr"):
        loop.train_and_evaluate(load(data, "lr=1e30", "schedule.warmup_epochs=0"), tmp_path)
    assert not (tmp_path / "results.json").exists()


def test_frames_of_another_shape_are_refused(run, data, tmp_path):
    weights, card = checkpoint.load_weights(checkpoint.find(run[0]))
    square = dataclasses.replace(card, source={"stored": [128, 128]})
    checkpoint.save_weights(tmp_path / "square", weights, square)
    with pytest.raises(UserError, match="expects 128x128"):
        evaluate_checkpoint(load(data, f"init_from={tmp_path / 'square'}"), tmp_path / "w", which="init")
    assert records.VideoDataset.open(data).stored_as == card.source["stored"]


def test_test_videos_that_were_trained_on_are_not_evaluated(run, data):
    with pytest.raises(UserError, match="trained on split 1"):
        evaluate_checkpoint(load(data, "dataset.split=2"), run[0])


def test_a_workdir_without_a_checkpoint_is_not_evaluated_by_other_weights(run, data, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        evaluate_checkpoint(load(data, f"init_from={run[0]}"), tmp_path / "typo")
    results = evaluate_checkpoint(load(data, f"init_from={run[0]}"), tmp_path / "new", which="init").results
    assert results["top1"] == run[1]["top1"] and "not trained here" in results["protocol"]


def test_two_processes_cannot_train_in_one_workdir(run, data):
    with locked(run[0]), pytest.raises(UserError, match="another process"):
        loop.train_and_evaluate(load(data), run[0])


def test_the_budget_ends_a_run_with_a_result(data, tmp_path):
    results = loop.train_and_evaluate(load(data, "budget_minutes=0.0001", "ema=0.5"), tmp_path)
    assert 0 < results["step"] < 12 and (tmp_path / "results.json").is_file()
    again = loop.train_and_evaluate(load(data, "budget_minutes=0.0001", "ema=0.5"), tmp_path)
    assert again == results  # it is finished: no step more


def test_another_build_of_the_data_set_in_the_same_workdir_is_refused(run, data, tmp_path):
    fake_data.write(tmp_path, classes=3, groups=12, frames=10, height=24, width=28, seed=5)
    before = sorted(run[0].rglob("*"))
    with pytest.raises(UserError, match=f"^{run[0]}: holds a run on another build of the data set; use a new workdir$"):
        loop.train_and_evaluate(load(data, f"dataset.data_dir={tmp_path}"), run[0])
    assert sorted(run[0].rglob("*")) == before


def test_a_missing_data_set_says_how_to_build_it(tmp_path):
    with pytest.raises(UserError, match="tfds build"):
        loop.train_and_evaluate(load(tmp_path), tmp_path / "w")


def command(*arguments, devices=1, **options):
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    return subprocess.run(
        [sys.executable, "-m", "r23d_jax.main", "--config", "demo", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def flags(data, *overrides):
    return [f"--config.{o}" for o in (*SMALL, f"dataset.data_dir={data}", *overrides)]


def test_eight_devices_give_the_one_device_result(run, data, tmp_path):
    done = command("--workdir", tmp_path, *flags(data), devices=8)
    assert done.returncode == 0, done.stderr
    assert "8 x cpu" in done.stderr
    ours, theirs = final(tmp_path), final(run[0])
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-3, atol=2e-4, err_msg=name)
    np.testing.assert_allclose(list(losses(tmp_path).values()), list(losses(run[0]).values()), rtol=1e-3)


def test_mistakes_are_one_line_and_leave_nothing(data, tmp_path):
    for overrides, words, devices in (
        (("clip.framse=4",), "did you mean clip.frames?", 1),
        (("batch_size=12",), "does not divide over 8 devices: use 8 or 16", 8),
        (("arch=r2plus4d_18",), "did you mean r2plus", 1),
        (("dataset.split=9",), "has these splits: 1, 2, 3", 1),
        (("eval.part=val",), "no val video", 1),
        (("loss=focus",), "must be one of cross_entropy", 1),
    ):
        done = command("--workdir", tmp_path / "w", *flags(data, *overrides), devices=devices)
        # Grain says first what it misses in an older JAX.
        said = [line for line in done.stderr.splitlines() if not line.startswith("WARNING:absl:Grain")]
        assert done.returncode == 1 and len(said) == 1 and said[0].startswith("error: ") and words in said[0]
        assert not (tmp_path / "w").exists()


def test_all_splits_and_their_mean(data, tmp_path):
    done = command("--workdir", tmp_path, *flags(data, "dataset.split=all", "steps=1"))
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    parts = [json.loads((tmp_path / f"split{k}" / "results.json").read_text()) for k in "123"]
    assert results["top1"] == pytest.approx(np.mean([part["top1"] for part in parts]))
    assert results["spread"]["top1"] == pytest.approx(np.std([part["top1"] for part in parts], ddof=1))
    assert results["split"] == "all" and results["videos_evaluated"] == sum(p["videos_evaluated"] for p in parts)


def test_no_tensorflow_in_a_training_process():
    code = "import r23d_jax.training.loop, sys; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_importing_the_package_starts_no_backend():
    code = "import r23d_jax, sys; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert jax.default_backend() == "cpu"
