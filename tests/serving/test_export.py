"""Exports: read back, they give the network's logits for any batch; what cannot be exported is said in one line."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.export
import numpy as np
import pytest
from fake_videos import SPEC, write_checkpoint, write_video
from flax import nnx

from r23d_jax import export, models
from r23d_jax.errors import UserError
from r23d_jax.inference import classifier
from r23d_jax.serving import export as exporter
from r23d_jax.serving import portable
from r23d_jax.weights import loading

LOGITS = "logits differ by"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "net")


@pytest.fixture(scope="module")
def network(checkpoint):
    return classifier.load(checkpoint, which="best")


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(1).integers(0, 256, (5, SPEC.frames, *SPEC.resize, 3), np.uint8)


@pytest.fixture(scope="module")
def expected(network, frames):
    """The clips that the frames become, and their logits."""
    clips = network.prepare(frames, np.broadcast_to(np.int32(SPEC.resize), (5, 2)))
    return np.asarray(clips), np.asarray(network(clips))


def read(folder) -> jax.export.Exported:
    return jax.export.deserialize(bytearray((folder / exporter.PROGRAM).read_bytes()))


def test_stablehlo(checkpoint, expected, run, tmp_path):
    status, out, _ = run(export.main, "--checkpoint", checkpoint, "--out", tmp_path / "a/net")
    assert status == 0 and LOGITS in out and "cuda, tpu not run here" in out
    exported = read(tmp_path / "a/net")
    assert exported.platforms == ("cpu", "cuda", "tpu")
    clips, logits = expected
    for count in (1, 5):  # the batch is free
        np.testing.assert_allclose(exported.call(clips[:count]), logits[:count], atol=1e-6 * np.abs(logits).max())
    facts = json.loads((tmp_path / "a/net/export.json").read_text())
    assert facts["input"] == {"name": "clips", "dtype": "float32", "shape": ["batch", 4, 28, 28, 3], "axes": "NTHWC"}
    assert facts["compared"]["difference"] < 1e-5 < 1e-2 < facts["compared"]["largest"]
    card = json.loads((tmp_path / "a/net/card.json").read_text())
    assert card["labels"] == ["waving", "jumping", "a third class"] and card["preprocessing"]["crop"] == 28
    page = (tmp_path / "a/net/README.md").read_text()
    assert "float32 [batch, 4, 28, 28, 3]" in page and "centre crop 28x28" in page and LOGITS in page
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["net"]


def test_preprocessing_inside_on_a_real_file(checkpoint, frames, expected, run, tmp_path):
    video = write_video(tmp_path / "clip.mkv")
    arguments = ["--platforms", "cpu", "--with-preprocessing", "--check", video]
    status, out, _ = run(export.main, "--checkpoint", checkpoint, "--out", tmp_path / "net", *arguments)
    assert status == 0 and f"on 3 clips of {video}, cpu" in out and "not run here" not in out
    exported = read(tmp_path / "net")
    assert exported.in_avals[0].dtype == np.uint8 and str(exported.in_avals[0].shape) == "(b, 4, 32, 44, 3)"
    np.testing.assert_allclose(exported.call(frames), expected[1], atol=1e-6 * np.abs(expected[1]).max())


def test_each_platform_has_its_own_convolutions(checkpoint):
    """On a CPU 2D convolutions take the place of 3D ones; everywhere else they stay what they are."""
    opened = loading.load_flat(checkpoint)
    dimensions = {}
    for platforms in (("cpu",), ("tpu",), ("cuda", "cpu")):
        text = portable.make(*opened, platforms).stablehlo().mlir_module()
        signatures = [line for line in text.splitlines() if "stablehlo.convolution" in line]
        dimensions[platforms] = {4 + ("[b, 0, 1, 2, f]" in line) for line in signatures}
    assert dimensions == {("cpu",): {4}, ("tpu",): {5}, ("cuda", "cpu"): {4, 5}}


@pytest.mark.parametrize(
    "head",
    [
        {"stages": ["layer2", "layer4"], "bins": 3, "mirrored": True},
        {"stages": ["layer4"], "kind": "neighbours", "points": 6, "neighbours": 2},
        {"stages": ["layer4"], "kind": "attention", "grid": [2, 1, 1], "mirrored": True},
    ],
)
def test_a_network_with_a_head(checkpoint, expected, head):
    weights, card = loading.load_flat(checkpoint)
    card = dataclasses.replace(card, model={**card.model, "head": head})
    random, wanted = np.random.default_rng(0), models.flatten(nnx.eval_shape(lambda: models.from_card(card)))
    weights |= {
        name: random.normal(size=value.shape).astype(np.float32)
        for name, value in wanted.items()
        if name.startswith(("fc.", "head."))
    }
    logits = np.asarray(classifier.Classifier(weights, card)(expected[0]))
    exported = jax.export.deserialize(bytearray(portable.make(weights, card, ("cpu",)).stablehlo().serialize()))
    for count in (1, 5):
        found = exported.call(expected[0][:count])
        np.testing.assert_allclose(found, logits[:count], atol=1e-5 * np.abs(logits).max())


def test_an_export_that_differs_is_removed(checkpoint, run, tmp_path, monkeypatch):
    real = portable.make

    def other(weights, *arguments, **options):
        made = real(weights, *arguments, **options)
        return dataclasses.replace(made, apply=lambda w, x: 1.01 * made.apply(w, x))

    monkeypatch.setattr(portable, "make", other)
    arguments = ["--checkpoint", checkpoint, "--out", tmp_path / "net", "--platforms", "cpu"]
    status, _, err = run(export.main, *arguments)
    assert status == 1 and "differ from the network's by" in err and "0.01 of the largest" in err
    assert list(tmp_path.iterdir()) == []
    assert run(export.main, *arguments, "--tolerance", "0.02")[0] == 0


def test_a_platform_that_is_not_here(checkpoint, run, tmp_path):
    status, out, _ = run(export.main, "--checkpoint", checkpoint, "--out", tmp_path / "net", "--platforms", "tpu")
    assert status == 0 and "not compared with the network: this machine runs none of tpu" in out
    assert json.loads((tmp_path / "net/export.json").read_text())["compared"] is None


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--platforms", "cpu,vulkan"], "--platforms cpu,vulkan: must be some of cpu, cuda, rocm, tpu"),
        (["--size", "28"], "--size 28: must be height and width"),
        (["--size", "30x30"], "--size 30x30: this checkpoint's clips are 28x28; another size needs --with-prep"),
        (["--frames", "-1"], "--frames -1: must be at least 1"),
        (["--format", "onnx"], "invalid choice: 'onnx'"),
        (["--check", "missing.avi"], "missing.avi: does not exist"),
    ],
)
def test_mistakes(checkpoint, run, tmp_path, arguments, message):
    status, _, err = run(export.main, "--checkpoint", checkpoint, "--out", tmp_path / "net", *arguments)
    assert status == 1 and message in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_the_card_leaves_open(checkpoint):
    weights, card = loading.load_flat(checkpoint)

    def make(size=None, preprocessing=True, stored=None, **fields):
        spec = dataclasses.replace(card.preprocessing, **fields)
        other = dataclasses.replace(card, preprocessing=spec, source={"stored": stored})
        return portable.make(weights, other, ("cpu",), size=size, preprocessing=preprocessing).shape

    with pytest.raises(UserError, match="takes a whole video, .* give --frames 64"):
        make(frames=0)
    with pytest.raises(UserError, match="only their short side is fixed: give --size"):
        make(resize=32)
    assert make((32, 50), resize=32) == (4, 32, 50, 3)
    assert make(stored=[40, 40], resize=32) == (4, 40, 40, 3)
    with pytest.raises(UserError, match="--size 40x60: the weights were trained on frames brought to 40x40"):
        make((40, 60), stored=[40, 40], resize=32)
    assert make((64, 88), stored=[40, 40]) == (4, 64, 88, 3)  # the card brings any shape to 32x44
    with pytest.raises(UserError, match="takes frames of any size, .* give --size"):
        make(crop=None, resize=None, preprocessing=False)
    assert make((30, 36), crop=None, resize=None, preprocessing=False) == (4, 30, 36, 3)


def test_destination_and_tensorflow(checkpoint, run, tmp_path, monkeypatch):
    (tmp_path / "mine").write_text("mine")
    status, _, err = run(export.main, "--checkpoint", checkpoint, "--out", tmp_path)
    assert status == 1 and "exists already; name a folder that does not" in err
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, _, err = run(export.main, "--checkpoint", checkpoint, "--out", tmp_path / "x", "--format", "savedmodel")
    assert status == 1 and "needs TensorFlow: pip install" in err and not (tmp_path / "x").exists()


@pytest.mark.slow
@pytest.mark.parametrize("preprocessing", [False, True])
def test_savedmodel(checkpoint, frames, expected, tmp_path, preprocessing):
    """In processes of their own: TensorFlow is not to be in this one."""
    command = [sys.executable, "-m", "r23d_jax.export", "--checkpoint", str(checkpoint), "--out", str(tmp_path / "net")]
    command += ["--format", "savedmodel"] + ["--with-preprocessing"] * preprocessing
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert LOGITS in done.stdout and "savedmodel for cpu, cuda, tpu" in done.stdout
    from r23d_jax.serving import savedmodel

    inputs = frames if preprocessing else expected[0]
    every, first = savedmodel.run(tmp_path / "net", [inputs, inputs[:1]])
    for found, logits in ((every, expected[1]), (first, expected[1][:1])):
        np.testing.assert_allclose(found, logits, atol=1e-5 * np.abs(logits).max())
    (tmp_path / "net/saved_model.pb").write_bytes(b"x")
    with pytest.raises(UserError, match="TensorFlow cannot run it: "):
        savedmodel.run(tmp_path / "net", [inputs])
