"""`probe`: from videos of whatever kind to a run that predicts, evaluates and reports as any other; and its errors."""

import csv
import io
import json
import shutil
from contextlib import redirect_stdout
from types import SimpleNamespace

import fake_data
import numpy as np
import pytest
from probe_videos import CLASSES, link

import r23d_jax
from r23d_jax import cli, config, convert, models, probe, report
from r23d_jax.evaluation.evaluator import evaluate_checkpoint
from r23d_jax.evaluation.predictions import Predictions
from r23d_jax.evaluation.results import read_results
from r23d_jax.weights.card import read_card


@pytest.fixture(scope="module")
def paths(probe_paths, tmp_path_factory):
    """The shared videos; features of this module's runs are kept below its `$R23D_CACHE`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("R23D_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield probe_paths


@pytest.fixture(scope="module")
def done(paths, tmp_path_factory):
    """A run from a folder with sides, by `r23d probe`, and what was printed."""
    folder, printed = tmp_path_factory.mktemp("run") / "new" / "run", io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(
            "sys.argv", ["r23d", "probe", "--weights", str(paths.weights), str(paths.root), "--out", str(folder)]
        )
        assert cli.main() == 0
    return SimpleNamespace(folder=folder, out=printed.getvalue())


@pytest.fixture
def quick(monkeypatch):
    """Reports without pictures, which take most of the time of such small runs."""
    monkeypatch.setattr(report, "_strips", lambda *arguments: ({}, "there are none in this test"))


@pytest.fixture
def shell(run, paths, tmp_path, quick):
    """Runs `probe` into `tmp_path/run`, by default with the shared weights."""

    def call(data, *arguments, weights=paths.weights, out=tmp_path / "run"):
        return run(probe.main, "--weights", weights, data, "--out", out, *arguments)

    return call


def scores_agree(run, videos):
    """Whether the run's network predicts files, in the order of the names, with the scores in predictions.npz."""
    found = Predictions.load(run / "predictions.npz")
    assert [name.rpartition("/")[2] for name in found.names] == [path.stem for path in videos]
    predictions = r23d_jax.load(run).predict([str(path) for path in videos])
    np.testing.assert_allclose([one.scores for one in predictions], found.scores, atol=1e-5)
    assert [len(one.clip_scores) for one in predictions] == found.clips.tolist()
    return found


# --- what comes out -------------------------------------------------------------------------------------


def test_a_run_like_any_other(done, paths):
    results = read_results(done.folder / "results.json")
    assert results["videos_expected"] == results["videos_evaluated"] == 9 and results["part"] == "test"
    assert (results["arch"], results["dataset"], results["split"], results["step"]) == ("r2plus3d_18", "data", "1", 0)
    assert "video level, mean of softmax over the whole video as one clip of 8 to 16 frames" in results["protocol"]
    assert "test videos of split 1; a probe on frozen features: the " in results["protocol"]
    assert "4-fold cross-validation over 12 training videos: top1 " in results["protocol"]
    assert results["cross_validation"].keys() == {"top1", "spread", "folds", "repeats"}
    assert (
        f"top1 {results['top1']:.4f} (95 % interval " in done.out
        and f"9/9 test videos; {results['protocol']}" in done.out
    )
    assert done.out.endswith(f"{done.folder / 'report.html'}\n")
    page = (done.folder / "report.html").read_text()
    assert all(name in page for name in CLASSES) and "data:image/jpeg" in page

    found = json.loads((done.folder / "probe.json").read_text())
    assert (found["training_videos"], found["test_videos"], found["groups"]) == (12, 9, 12)
    assert found["videos_computed"] == 21 and found["cross_validation"] == results["cross_validation"]
    assert found["tried"][0].keys() == {
        *("stages", "bins", "mirrored", "head", "value", "cv_top1", "cv_spread", "cv_loss")
    }
    assert {tuple(row["stages"]) for row in found["tried"]} >= {("layer1",), ("layer3", "layer4")}
    card = read_card(done.folder / "checkpoints/00000000")
    assert card.labels == CLASSES and card.model["head"]["stages"] and card.source["split"] == "1"
    assert card.init == str(paths.weights)


def test_its_network_predicts_what_was_evaluated(done, paths):
    found = scores_agree(done.folder, paths.test)
    assert found.clips.tolist() == [1, 2, 1] * 3
    assert found.results()["top1"] == json.loads((done.folder / "results.json").read_text())["top1"] > 0.5
    model, card = convert.load(done.folder)
    clf = r23d_jax.load(done.folder)
    values = models.flatten(model)
    assert card == clf.card and values.keys() == clf.weights.keys()
    assert all(np.array_equal(values[name], value) for name, value in clf.weights.items())


def test_a_second_run_is_the_same_and_computes_nothing(shell, done, paths, tmp_path):
    status, _, err = shell(paths.root)
    assert status == 0 and "computed already" not in err
    found = json.loads((tmp_path / "run/probe.json").read_text())
    assert found["videos_computed"] == 0
    assert found["tried"] == json.loads((done.folder / "probe.json").read_text())["tried"]
    one, other = (read_card(folder / "checkpoints/00000000") for folder in (done.folder, tmp_path / "run"))
    assert one.tensors_sha256 == other.tensors_sha256
    one, other = (Predictions.load(folder / "predictions.npz") for folder in (done.folder, tmp_path / "run"))
    assert np.array_equal(one.scores, other.scores)


def test_a_table_says_the_sides(shell, done, paths, tmp_path):
    """Of other videos than the folders do, some of them shorter than the shortest clip but one."""
    videos = sorted(paths.root.glob("*/*/*.mkv"), key=lambda path: (path.parent.name, path.stem))
    test = [path for path in videos if path.stem[-1] in "2567"]
    rows = [(path, path.parent.name, "test" if path in test else "train") for path in videos]
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    assert shell(tmp_path / "mine.csv", "--no-mirror")[0] == 0
    results = read_results(tmp_path / "run/results.json")
    assert results["videos_expected"] == results["videos_evaluated"] == 12
    assert (results["part"], results["dataset"]) == ("test", "mine.csv")
    assert not read_card(tmp_path / "run/checkpoints/00000000").model["head"]["mirrored"]
    scores_agree(tmp_path / "run", test)


def test_without_sides_every_video_is_held_out_once(shell, done, paths, tmp_path):
    for name in CLASSES:
        link(tmp_path / "mine" / name, *(paths.root / "test" / name).iterdir())
    status, out, err = shell(tmp_path / "mine", "--no-mirror")
    assert status == 0 and "the data have no test side" in err
    results = read_results(tmp_path / "run/results.json")
    assert results["videos_expected"] == results["videos_evaluated"] == 9 and results["part"] == "train"
    assert (
        "train videos of split 1; cross-validated: each video scored by a probe that was chosen and fitted without"
        in (results["protocol"])
    )
    assert "9/9 train videos" in out
    found = Predictions.load(tmp_path / "run/predictions.npz")
    assert found.names.tolist() == sorted(f"{name}/{name}{number}" for name in CLASSES for number in (5, 6, 7))
    # Held out, scores are other than those of the network that has learned from the videos.
    own = r23d_jax.load(tmp_path / "run").predict(str(tmp_path / "mine" / "blue"))
    assert np.abs(np.stack([one.scores for one in own]) - found.scores[:3]).max() > 1e-3


def test_one_video_a_class_makes_a_classifier_without_results(shell, done, paths, tmp_path):
    for name in CLASSES:
        link(tmp_path / "mine" / name, paths.root / "train" / name / f"{name}1.mkv")
    status, out, err = shell(tmp_path / "mine")
    assert status == 0 and "nothing to evaluate" in err and out == f"{tmp_path / 'run/report.html'}\n"
    assert not (tmp_path / "run/results.json").exists()
    found = json.loads((tmp_path / "run/probe.json").read_text())
    assert found["cross_validation"] is None and found["tried"] == []
    clf = r23d_jax.load(tmp_path / "run")
    for name in CLASSES:
        assert clf.predict(paths.root / "train" / name / f"{name}1.mkv").top[0]["label"] == name


def test_a_built_data_set(shell, tmp_path):
    fake_data.write(tmp_path / "built", classes=2, groups=6, frames=16, height=36, width=48)
    assert shell(f"rgb@{tmp_path / 'built'}", "--no-mirror")[0] == 0
    run = tmp_path / "run"
    results = read_results(run / "results.json")
    assert results["videos_expected"] == results["videos_evaluated"] == 4
    assert results["dataset"] == "tfds_ucf101/rgb/1.1.0"
    evaluated = evaluate_checkpoint(
        config.load("probe", [f"dataset.data_dir={tmp_path / 'built'}", "dataset.name=rgb"]),
        tmp_path / "again",
        source=run / "checkpoints/00000000",
    )
    assert evaluated.results["top1"] == results["top1"] and evaluated.results["part"] == "test"
    one, other = (Predictions.load(folder / "predictions.npz") for folder in (run, tmp_path / "again"))
    assert one.names.tolist() == other.names.tolist()
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_few_videos_a_class(shell, done, paths, tmp_path):
    assert shell(paths.root, "--shots", "2", "--seed", "1", "--no-mirror")[0] == 0
    found = json.loads((tmp_path / "run/probe.json").read_text())
    assert (found["training_videos"], found["test_videos"], found["videos_computed"]) == (6, 9, 0)


def test_from_python(done, paths, tmp_path, quick):
    fitted = r23d_jax.fit(paths.weights, paths.root, tmp_path / "one", mirrored=False)
    # The run is weights like any other, and its features are those of the first ones.
    again = fitted.fit(paths.root, tmp_path / "two", mirrored=False)
    assert fitted.labels == again.labels == CLASSES
    one, two = (clf.predict(str(paths.test[0])) for clf in (fitted, again))
    assert one.top == two.top and one.top[0]["label"] == "blue"
    assert json.loads((tmp_path / "two/probe.json").read_text())["videos_computed"] == 0


# --- errors ---------------------------------------------------------------------------------------------


def refused(answer, run, *words):
    """One line of error, and nothing that looks like a run."""
    status, out, err = answer
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 1 and out == "" and "Traceback" not in err
    assert len(errors) == 1 and err.splitlines()[-1] == errors[0]
    assert all(word in errors[0] for word in words), errors[0]
    assert not run.is_dir() or not list(run.iterdir())


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--shots", "0"), ["--shots", "0"]),
        (("--shots", "-1"), ["--shots", "-1"]),
        (("--size", "7"), ["--size 7: give at least 32 pixels"]),
        (("--minutes", "nan"), ["minutes", "nan"]),
        (("--minutes", "-1"), ["minutes", "-1"]),
        (("--split", "3"), ["split 3: data has only the split 1"]),
    ],
)
def test_a_bad_flag_is_said_before_anything_is_done(shell, paths, tmp_path, arguments, words):
    refused(shell(paths.root, *arguments), tmp_path / "run", *words)


def test_data_that_do_not_do(shell, paths, tmp_path):
    run = tmp_path / "run"
    refused(shell(tmp_path / "nothing"), run, "nothing does not exist: give a folder")
    one = tmp_path / "one"
    link(one / "red", *(paths.root / "train/red").iterdir())
    refused(shell(one), run, "all videos are in one folder, red")
    with (tmp_path / "one.csv").open("w", newline="") as file:
        rows = [(paths.root / f"train/red/red{number}.mkv", "red") for number in (1, 2)]
        csv.writer(file).writerows([("path", "label"), *rows])
    refused(shell(tmp_path / "one.csv"), run, "has one class only, red: a probe needs two")
    link(one / "train/blue", *(paths.root / "train/blue").iterdir())
    shutil.move(one / "red", one / "train/red")
    link(one / "test/green", *(paths.root / "test/green").iterdir())
    refused(shell(one), run, "class green is tested but never trained")


def test_weights_and_folders_that_do_not_do(shell, done, paths, tmp_path):
    run = tmp_path / "run"
    refused(shell(paths.root, weights=tmp_path / "no weights"), run, "no weights")
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    refused(shell(paths.root, weights=tmp_path / "weights.pth"), run, "weights.pth")
    refused(shell(paths.root, weights=paths.root), run, str(paths.root))
    (tmp_path / "file").write_text("mine")
    refused(shell(paths.root, out=tmp_path / "file"), run, "--out", "file")
    assert (tmp_path / "file").read_text() == "mine"
    before = {path: path.stat().st_mtime_ns for path in done.folder.rglob("*")}
    refused(shell(paths.root, out=done.folder), run, "holds a run already")
    assert before == {path: path.stat().st_mtime_ns for path in done.folder.rglob("*")}


def test_unlabelled_videos_are_looked_for_first(shell, paths, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(shell(paths.root, "--suggest", tmp_path / "empty"), tmp_path / "run", "--suggest", "empty: no video")


def test_unreadable_videos(shell, done, paths, tmp_path):
    mine = tmp_path / "mine"
    for side in ("train", "test"):
        for name in ("blue", "red"):
            link(mine / side / name, *(paths.root / side / name).iterdir())
    (mine / "train/blue/broken.mkv").write_bytes(b"no video")
    (mine / "test/red/broken.mkv").write_bytes(b"no video either")
    refused(shell(mine), tmp_path / "run", "2 of 16 videos cannot be read, first", "broken.mkv", "--skip-unreadable")
    status, _, err = shell(mine, "--skip-unreadable")
    assert status == 0 and "left out, since they cannot be read: 2 videos, first" in err
    results = read_results(tmp_path / "run/results.json")
    assert results["videos_expected"] == results["videos_evaluated"] == 6
    for video in (mine / "train/red").iterdir():
        video.unlink()
    (mine / "train/red/broken too.mkv").write_bytes(b"nor this")
    refused(shell(mine, "--skip-unreadable", out=tmp_path / "other"), tmp_path / "other", "class red", "can be read")


def test_help(run):
    status, out, _ = run(probe.main, "--help")
    assert status == 0
    for flag in ("--weights", "--out", "--shots", "--suggest", "--finetune", "--minutes", "--skip-unreadable"):
        assert flag in out
