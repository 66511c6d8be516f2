"""One way from a card to a network: every command computes the same logits from one checkpoint, epsilon included."""

import json

import jax
import jax.export
import numpy as np
import pytest
from fake_data import write as write_dataset
from fake_videos import write_video
from flax import nnx

from r23d_jax import config as configs
from r23d_jax import convert, export, features, models, predict
from r23d_jax.data import records
from r23d_jax.data.video import read_rgb
from r23d_jax.evaluation.evaluator import evaluate_checkpoint
from r23d_jax.evaluation.predictions import Predictions
from r23d_jax.inference import cam, classifier
from r23d_jax.serving import export as exporter
from r23d_jax.serving import portable
from r23d_jax.transforms import clip as clip_transforms
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights import checkpoint, loading
from r23d_jax.weights.card import Card

SPEC = Preprocessing(resize=(32, 40), crop=32, frames=4)
# A network of every kind, each with an epsilon that is not its own: VMZ's 18-layer ladder has 1e-3.
CASES = {
    "r3d_18": 1e-3,
    "r2d_18": 1e-3,
    "r2plus1d_34": 1e-5,
    "hara_r2plus1d_18": 1e-3,
    "resnet18_2d3d_full": 1e-3,
    "i3d": 1e-5,
}


def checkpoint_of(arch, epsilon, labels, folder):
    """A small checkpoint whose variances are so small that the epsilon shows, and its network, put together by hand."""
    small = {} if arch == "i3d" else {"layers": (1, 1, 1, 1)}
    arguments = {"num_classes": 3, "frames": 4, "in_channels": 3, "dropout": 0.0, "width": 4, **small}
    model = models.create(arch, rngs=nnx.Rngs(0), bn_epsilon=epsilon, **arguments)
    rng = np.random.default_rng(0)
    values = {name: np.asarray(value) for name, value in models.flatten(model).items()}
    for name in values:
        if name.endswith(".var"):
            values[name] = rng.uniform(1e-3, 1e-2, values[name].shape).astype(np.float32)
        if name.endswith(".scale"):
            values[name] = rng.uniform(0.02, 0.1, values[name].shape).astype(np.float32)
        if name.endswith((".mean", "bias")):
            values[name] = rng.uniform(-0.1, 0.1, values[name].shape).astype(np.float32)
    values["fc.kernel"] = (100 * values["fc.kernel"]).astype(np.float32)
    models.assign(model, values)
    model.eval()
    kept = {key: list(value) if isinstance(value, tuple) else value for key, value in arguments.items()}
    checkpoint.save_weights(folder, values, Card(arch, kept, labels, SPEC, bn_epsilon=epsilon))
    return model


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, frames=4)
    return records.VideoDataset.open(folder)


@pytest.mark.parametrize("arch", CASES)
def test_every_command_computes_the_same_logits(arch, dataset, tmp_path):
    reference = checkpoint_of(arch, CASES[arch], dataset.class_names, tmp_path / "weights")
    positions = dataset.subset("1", "test")
    frames = np.zeros((len(positions), 4, *dataset.canvas, 3), np.uint8)
    for row, position in enumerate(positions):
        dataset.decode(position, range(4), frames[row])
    size = np.tile(np.int32(dataset.canvas), (len(frames), 1))
    video = np.asarray(clip_transforms.eval_transform(SPEC)(frames, size, np.zeros(len(frames), np.int32)))
    expected = np.asarray(jax.jit(lambda x: reference(x))(video))
    own = models.create(
        arch,
        rngs=nnx.Rngs(0),
        num_classes=3,
        width=4,
        layers=getattr(reference, "spec", None) and reference.spec.layers,
    )
    own_epsilon = next(m.epsilon for _, m in nnx.iter_graph(own) if isinstance(m, models.layers.BatchNorm))
    assert own_epsilon != CASES[arch], "the card's epsilon would not show"

    values, card = checkpoint.load_weights(tmp_path / "weights")
    network = classifier.Classifier(values, card)
    pooled = network.stage("pool", pool=True)(video)
    loaded, _ = convert.load(tmp_path / "weights")
    found = {
        "convert.load": jax.jit(loaded)(video),
        "predict": network(video),
        "features": np.asarray(pooled) @ values["fc.kernel"] + values["fc.bias"],
        "export": jax.jit(portable.make(values, card, ("cpu",)).apply)(values, video),
        "activation maps": cam.ActivationMapper(loading.build(card, values))(video).logits,
    }
    config = configs.load("common", [f"dataset.data_dir={dataset.path.parents[2]}", "clip.frames=4"])
    evaluate_checkpoint(config, tmp_path / "eval", source=tmp_path / "weights")
    found["eval"] = Predictions.load(tmp_path / "eval" / "predictions.npz").logits
    assert np.abs(expected).max() > 0.1
    for command, logits in found.items():
        np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max(), rtol=0, err_msg=command)


def test_the_commands_themselves(run, tmp_path):
    """`predict`, `features` and `export` on VMZ's epsilon, on a video file."""
    reference = checkpoint_of("r3d_18", 1e-3, ("a", "b", "c"), tmp_path / "weights")
    clip = write_video(tmp_path / "clip.mkv", count=4, size=(32, 40))
    frames, _ = read_rgb(clip)
    video = ((frames[None, :, :, 4:36] / 255 - 0.5) / 0.5).astype(np.float32)
    logits = np.asarray(reference(video))[0]

    status, out, err = run(predict.main, "--checkpoint", tmp_path / "weights", clip, "--json", "-", "--top", 3)
    assert status == 0, err
    scores = {row["label"]: row["score"] for row in json.loads(out)[0]["top"]}
    np.testing.assert_allclose([scores[name] for name in "abc"], jax.nn.softmax(logits), atol=1e-5)

    assert run(features.main, "--checkpoint", tmp_path / "weights", "--out", tmp_path / "f", clip)[0] == 0
    with np.load(tmp_path / "f" / "clip.npz") as file:
        again = file["features"][0] @ np.asarray(reference.fc.kernel[...]) + np.asarray(reference.fc.bias[...])
    np.testing.assert_allclose(again, logits, atol=1e-5 * np.abs(logits).max())

    arguments = ["--checkpoint", tmp_path / "weights", "--out", tmp_path / "net", "--platforms", "cpu"]
    status, _, err = run(export.main, *arguments)
    assert status == 0, err
    exported = jax.export.deserialize(bytearray((tmp_path / "net" / exporter.PROGRAM).read_bytes()))
    np.testing.assert_allclose(exported.call(video)[0], logits, atol=1e-5 * np.abs(logits).max())
