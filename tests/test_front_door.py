"""The Python front door: what a notebook does without knowing a module of the package."""

import inspect
import json
import subprocess
import sys

import fake_data
import jax
import numpy as np
import pytest
from fake_videos import LABELS, SPEC, write_checkpoint, write_video
from flax import nnx

import r23d_jax
from r23d_jax import config as configs
from r23d_jax import predict
from r23d_jax.data.video import read_rgb
from r23d_jax.errors import UserError
from r23d_jax.weights import checkpoint, exporting

SMALL = ["clip.frames=4", "clip.size=28", "clip.resize=32", "model.width=4", "model.layers=1,1,1,1", "batch_size=4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture(scope="module")
def clf(folder):
    return r23d_jax.load(folder)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    return [write_video(root / "a.mkv"), write_video(root / "b.mkv", count=9, seed=1)]


def test_a_file_is_predicted_as_by_the_command(clf, folder, videos, monkeypatch, capsys):
    found = clf.predict(videos[0], top=2)
    monkeypatch.setattr(sys, "argv", ["predict", "--checkpoint", str(folder), str(videos[0]), "--json", "-"])
    assert predict.main() == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert found.to_dict() == {**told, "top": told["top"][:2]}
    assert found.scores.sum() == pytest.approx(1) and len(found.clip_scores) == told["clips"] == 6
    assert clf.labels == LABELS and clf.card.preprocessing == SPEC


def test_lists_and_folders_are_lists(clf, videos):
    one_by_one = [clf.predict(str(video)).to_dict() for video in videos]
    assert [found.to_dict() for found in clf.predict(videos)] == one_by_one
    assert [found.to_dict() for found in clf.predict(videos[0].parent)] == one_by_one
    assert [found.video for found in clf.features(videos)] == list(map(str, videos))


def test_frames_in_memory_are_the_file(clf, videos):
    frames, fps = read_rgb(videos[0])
    array, file = clf.predict(frames, fps=fps), clf.predict(videos[0])
    np.testing.assert_allclose(
        array.scores, file.scores, atol=0.02
    )  # scaled from RGB instead of from the file's format
    assert len(array.clip_scores) == len(file.clip_scores) and array.video == "array"
    scaled, _ = read_rgb(videos[0], SPEC.resize)
    again = clf.predict(scaled, fps=fps)
    np.testing.assert_allclose(again.scores, file.scores, atol=1e-6)  # of the stored size already: the very pixels
    assert clf.features(scaled, fps=fps).start_seconds.tolist() == clf.features(videos[0]).start_seconds.tolist()


def test_transform_gives_what_the_network_takes(clf, folder, videos):
    scaled, _ = read_rgb(videos[0], SPEC.resize)
    clip = clf.transform(scaled[:4])
    assert clip.shape == (1, 4, 28, 28, 3)
    expected = (scaled[:4, 2:30, 8:36].astype(np.float32) / 255 - 0.5) / 0.5
    np.testing.assert_allclose(clip[0], expected, atol=1e-6)
    model, _ = r23d_jax.convert.load(folder)
    np.testing.assert_allclose(clf(clip), model(clip), atol=1e-5)
    scores = jax.nn.softmax(np.asarray(clf(clf.transform(scaled.reshape(6, 4, *scaled.shape[1:])))))
    np.testing.assert_allclose(scores.mean(axis=0), clf.predict(videos[0]).scores, atol=1e-5)


def test_features_by_layer(clf, videos):
    found = clf.features(videos[0])
    assert found.features.shape == (6, 32) and found.start_seconds.tolist() == pytest.approx([0, 0.4, 0.8, 1.2, 1.6, 2])
    maps = clf.features(videos[0], layer="layer1", pool=False, clips=2)
    assert maps.features.shape == (2, 4, 14, 14, 4) and "layer1 over 2 uniformly spread" in maps.protocol
    assert clf.layers()[-1] == "pool"


@pytest.mark.parametrize(
    "call, told",
    [
        (lambda clf: clf.predict("nowhere.mp4"), "nowhere.mp4"),
        (lambda clf: clf.predict(np.zeros((4, 8, 8, 3), np.uint8)), "fps"),
        (lambda clf: clf.predict(np.zeros((4, 8, 8, 3), np.float32), fps=25), "float32"),
        (lambda clf: clf.transform(np.zeros((8, 8, 3), np.uint8)), r"\[8, 8, 3\]"),
        (lambda clf: clf.features("nowhere.mp4", layer="layer9"), "layer9"),
        (lambda clf: r23d_jax.load("no_such_weights"), "no_such_weights"),
        (lambda clf: r23d_jax.open_dataset("nowhere"), "nowhere"),
        (lambda clf: r23d_jax.create_model("r4d_18"), "r4d_18"),
        (lambda clf: r23d_jax.train("no_such_config", "w"), "no_such_config"),
    ],
)
def test_errors_are_one_line(clf, call, told):
    with pytest.raises(UserError, match=told) as raised:
        call(clf)
    assert "\n" not in str(raised.value)


def test_a_weights_file_is_loaded_as_it_is(clf, folder, videos, tmp_path):
    state, _ = exporting.to_state_dict(*checkpoint.load_weights(folder))
    exporting.write(state, tmp_path / "tiny.safetensors")
    again = r23d_jax.load(tmp_path / "tiny.safetensors", arch="r2plus3d_18", labels=LABELS)
    clip = clf.transform(read_rgb(videos[0])[0][:4])
    np.testing.assert_array_equal(again(clip), clf(clip))
    assert again.card.tensors_sha256 == clf.card.tensors_sha256  # the protocol names them alike


def test_training_and_the_data_set(tmp_path):
    fake_data.write(tmp_path)
    dataset = r23d_jax.open_dataset(tmp_path, "tfds_ucf101/rgb")
    assert len(dataset.videos) == 12
    config = configs.load("common", [*SMALL, f"dataset.data_dir={tmp_path}"])
    results = r23d_jax.train(config, tmp_path / "w", {"steps": 2, "clip.resize": (32, 40), "augment.flip": 0.0})
    assert results["videos_evaluated"] == results["videos_expected"] == 6
    assert json.loads((tmp_path / "w" / "results.json").read_text()) == results
    assert (tmp_path / "w" / "report.html").is_file()
    kept = json.loads((tmp_path / "w" / "config.json").read_text())["config"]
    assert kept["steps"] == 2 and kept["clip.resize"] == [32, 40] and config.steps == 0
    assert r23d_jax.load(tmp_path / "w").labels == dataset.class_names


def test_networks_by_name():
    assert "r2plus3d_18" in r23d_jax.list_models()
    model = r23d_jax.create_model("r3d_18", 7, width=4, layers=(1, 1, 1, 1))
    assert isinstance(model, nnx.Module) and model.fc.kernel.shape == (32, 7)


def test_it_is_lazy_and_documented():
    code = "import sys, r23d_jax; print(sorted({'jax', 'numpy', 'flax'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert issubclass(r23d_jax.UserError, Exception) and r23d_jax.errors.UserError is r23d_jax.UserError
    for name in ("load", "train", "open_dataset", "list_models", "create_model"):
        assert inspect.getdoc(getattr(r23d_jax, name)), name
