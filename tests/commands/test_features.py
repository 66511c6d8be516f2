"""`features`: what is in the files, and that a run can be continued."""

import os

import numpy as np
import pytest
from fake_videos import SPEC, write_checkpoint, write_video

from r23d_jax import features, models
from r23d_jax.data import video as videos
from r23d_jax.models.functional import Functional
from r23d_jax.weights import checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    root = tmp_path_factory.mktemp("library")
    for number, name in enumerate(("Run/a.mkv", "Run/deep/b.mkv", "c.mkv")):
        write_video(root / name, count=9 + 4 * number, seed=number)
    return root


def read(path):
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def extract(run, *arguments):
    return run(features.main, *arguments)


def test_files_mirror_the_folder_and_agree_with_the_network(run, folder, library, tmp_path):
    status, out, err = extract(run, "--checkpoint", folder, "--out", tmp_path / "f", library)
    assert (status, err) == (0, "")
    written = sorted(str(path.relative_to(tmp_path / "f")) for path in (tmp_path / "f").rglob("*") if path.is_file())
    assert written == ["Run/a.npz", "Run/deep/b.npz", "c.npz"]
    arrays = read(tmp_path / "f" / "Run" / "deep" / "b.npz")
    assert sorted(arrays) == ["checkpoint_sha256", "features", "fps", "layer", "protocol", "start_seconds"]
    weights, card = checkpoint.load_weights(folder)
    assert str(arrays["checkpoint_sha256"]) == card.tensors_sha256 and str(arrays["layer"]) == "pool"
    assert arrays["fps"] == 10 and arrays["start_seconds"].tolist() == [0.0, 0.4, 0.8]
    assert arrays["features"].dtype == np.float32

    frames, _ = videos.read_rgb(library / "Run" / "deep" / "b.mkv", SPEC.resize)
    clips = frames[:12, 2:30, 8:36].reshape(3, 4, 28, 28, 3)
    network = Functional(models.from_card(card))
    expected = network.features(weights, weights, (clips / 255 - 0.5).astype(np.float32) / 0.5)["pool"]
    np.testing.assert_allclose(arrays["features"], expected, rtol=1e-4, atol=1e-5)


def test_layers_pooled_and_not(run, folder, library, tmp_path):
    video = library / "c.mkv"
    for out, more in (("mean", ()), ("map", ("--no-pool",))):
        arguments = ("--checkpoint", folder, "--out", tmp_path / out, video, "--layer", "layer2", *more)
        assert extract(run, *arguments)[0] == 0
    mean, whole = (read(tmp_path / name / "c.npz")["features"] for name in ("mean", "map"))
    assert mean.shape == (4, 8) and whole.shape == (4, 4, 7, 7, 8)
    np.testing.assert_allclose(mean, whole.mean(axis=(1, 2, 3)), rtol=1e-5, atol=1e-6)


def test_finished_files_are_left_and_others_made_again(run, folder, library, tmp_path):
    arguments = ("--checkpoint", folder, "--out", tmp_path, library)
    assert extract(run, *arguments)[0] == 0
    paths = sorted(tmp_path.rglob("*.npz"))
    first = {path: path.read_bytes() for path in paths}
    for path in paths:
        os.utime(path, (1, 1))
    paths[0].write_bytes(first[paths[0]][:-200])  # cut off, as by a full disk
    (tmp_path / ".c.npz.tmp").write_bytes(b"left by a killed run")

    status, out, _ = extract(run, *arguments)
    assert status == 0 and "1 of 1 videos written" in out and "2 finished before" in out
    assert {path: path.read_bytes() for path in paths} == first
    assert [path.stat().st_mtime == 1 for path in paths] == [False, True, True]

    for change in (("--layer", "layer4"), ("--clips", "2")):
        _, out, _ = extract(run, *arguments, *change)
        assert "3 of 3 videos written" in out
    other = write_checkpoint(tmp_path / "other", seed=5)
    assert "3 of 3" in extract(run, "--checkpoint", other, "--out", tmp_path, library)[1]


def test_an_interrupted_run_leaves_only_whole_files(run, folder, library, tmp_path, monkeypatch):
    original, calls = np.savez, []

    def interrupted(file, **arrays):
        calls.append(file)
        if len(calls) == 2:
            file.write(b"half")
            raise KeyboardInterrupt
        original(file, **arrays)

    monkeypatch.setattr(np, "savez", interrupted)
    status, _, err = extract(run, "--checkpoint", folder, "--out", tmp_path, library)
    assert status == 130 and err.strip().endswith("interrupted")
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1
    monkeypatch.undo()


def test_bad_files_are_named_and_the_others_done(run, folder, library, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    status, out, err = extract(run, "--checkpoint", folder, "--out", tmp_path / "f", bad, library / "c.mkv")
    assert status == 1 and err.count("\n") == 1 and "bad.mp4" in err
    assert (tmp_path / "f" / "c.npz").is_file() and not (tmp_path / "f" / "bad.npz").exists()


def test_wrong_arguments_are_one_line(run, folder, library, tmp_path):
    start = ("--checkpoint", folder, "--out", tmp_path, library)
    status, _, err = extract(run, *start, "--layer", "layer9")
    assert status == 1 and "has stem, layer1, layer2, layer3, layer4, pool" in err and err.count("\n") == 1
    status, _, err = extract(run, "--checkpoint", folder, "--out", __file__, library)
    assert status == 1 and "is a file" in err
