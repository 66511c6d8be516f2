"""A family of networks is one module in `models` and one in `weights`: here both are made, and every command works.

What stands between the two lines of equals signs is all that knows the network.
"""

import json

import fake_data
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from fake_videos import write_video
from flax import nnx
from safetensors.numpy import load_file, save_file

from r23d_jax import config as configs
from r23d_jax import convert, export, features, models, predict
from r23d_jax.errors import UserError
from r23d_jax.evaluation.evaluator import evaluate_checkpoint
from r23d_jax.evaluation.predictions import Predictions
from r23d_jax.experiments import study, study_table
from r23d_jax.models import __main__ as models_command
from r23d_jax.models import registry
from r23d_jax.models.layers import BatchNorm, Conv, Linear, Sequential, relu
from r23d_jax.models.registry import Architecture
from r23d_jax.serving.export import PROGRAM
from r23d_jax.training import loop
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights import card as cards
from r23d_jax.weights import families, loading
from r23d_jax.weights import registry as published
from r23d_jax.weights.family import Family, File, Naming, Published
from r23d_jax.weights.mapping import COUNTERS, TORCH, Rule, Table

# === models/toy.py ===============================================================================================


class Toy(nnx.Module):
    """A strided convolution, normalised; its average, and a linear head."""

    def __init__(self, num_classes, *, rngs, in_channels, dropout, dtype, bn_epsilon):
        del dropout  # has none
        conv = Conv(in_channels, 8, (3, 3, 3), (2, 4, 4), dtype=dtype, rngs=rngs)
        self.entry = Sequential(conv, BatchNorm(8, epsilon=bn_epsilon, momentum=0.9), relu)
        self.fc = Linear(8, num_classes, rngs=rngs)

    def __call__(self, video, rngs=None):
        return self.fc(self.features(video, rngs)["pool"])

    def features(self, video, rngs=None):
        del rngs
        with jax.named_scope("entry"):
            x = self.entry(video)
        return {"entry": x, "pool": jnp.mean(x.astype(jnp.float32), axis=(1, 2, 3))}


TOY = Architecture(
    name="toy",
    create=Toy,
    title="Toy",
    first_kernel="entry.0.kernel",
    size=lambda shapes: {} if shapes.get("entry.0.kernel", ())[-1:] == (8,) else None,
    kind="3D",
    epsilon=1e-2,
    aliases={"plaything": "Plaything"},
)

# === weights/families/toy.py =====================================================================================

TOY_WEIGHTS = Family(
    name="toy-torch",
    table=lambda names: Table(
        (Rule("conv", "entry.0", "conv"), Rule("norm", "entry.1", "bn"), Rule("classifier", "fc", "linear")),
        TORCH,
        COUNTERS,
    ),
    archs=("toy",),
    preprocessing=lambda arch, channels, frames: Preprocessing(
        resize=(32, 40), crop=32, frames=4, mean=(0.5,) * channels, std=(0.5,) * channels
    ),
    licence="MIT",
    kinetics=False,
    naming=Naming("a toy factory", epsilon=1e-2),
    published=(
        Published(
            "toy-ucf101",
            "toy",
            (File("toy.safetensors", "https://example.org/toy.safetensors"),),
            Preprocessing(resize=(32, 40), crop=32, frames=4),
            3,
        ),
    ),
)

# =================================================================================================================


@pytest.fixture(scope="module", autouse=True)
def registered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_architectures", dict(registry._architectures))
        patch.setattr(families, "FAMILIES", families.FAMILIES)
        models.register(TOY)
        families.register(TOY_WEIGHTS)
        yield


@pytest.fixture(scope="module")
def state():
    """A state dict of the toy's PyTorch twin."""
    rng = np.random.default_rng(0)
    shapes = {"conv.weight": (8, 3, 3, 3, 3), "classifier.weight": (3, 8), "classifier.bias": (3,)}
    shapes |= {f"norm.{leaf}": (8,) for leaf in ("weight", "bias", "running_mean")}
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    tensors["norm.running_var"] = rng.uniform(0.5, 2, 8).astype(np.float32)
    tensors["norm.num_batches_tracked"] = np.asarray(7, np.int64)
    return tensors


@pytest.fixture(scope="module")
def converted(state, tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    save_file(state, folder / "toy.safetensors")
    (folder / "labels.txt").write_text("\n".join(fake_data.CLASS_NAMES[:3]))
    arguments = [str(folder / "toy.safetensors"), str(folder / "ours"), "--labels", str(folder / "labels.txt")]
    assert convert.main(arguments) == 0
    return folder / "ours"


def reference(state, video):
    """PyTorch's logits for clips [B, T, H, W, C]."""
    weights = {name: torch.from_numpy(value) for name, value in state.items()}
    x = torch.from_numpy(np.ascontiguousarray(video.transpose(0, 4, 1, 2, 3)))
    x = torch.nn.functional.conv3d(x, weights["conv.weight"], stride=(2, 4, 4), padding=1)
    norm = (weights[f"norm.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
    x = torch.relu(torch.nn.functional.batch_norm(x, *norm, eps=1e-2)).mean((2, 3, 4))
    return torch.nn.functional.linear(x, weights["classifier.weight"], weights["classifier.bias"]).numpy()


def clips(batch=2, size=32):
    return np.random.default_rng(1).uniform(-1, 1, (batch, 4, size, size, 3)).astype(np.float32)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_it_is_among_the_networks(run, monkeypatch):
    assert {"toy", "plaything"} < set(models.NAMES) and models.ALIASES["plaything"] == "toy"
    assert models.canonical("plaything") == "toy" and "toy-ucf101" in published.published()
    monkeypatch.setitem(vars(models), "NAMES", ("plaything", "toy"))
    _, out, _ = run(lambda: models_command.main(), "--frames", 4, "--size", 32)
    lines = [line.split() for line in out.splitlines()[-2:]]
    assert lines[0] == ["plaything", "is", "toy"]
    parameters = 3 * 27 * 8 + 2 * 8 + 8 * 400 + 400
    assert lines[1] == ["toy", f"{parameters:,}", "0.00", "2x8x8x8", "8"]
    assert study.networks("plaything", 18) == ["toy"] and study_table.label("toy") == "Plaything = Toy"
    with pytest.raises(UserError, match="toy: layers=.*not an option of this network"):
        models.create("toy", rngs=nnx.Rngs(0), layers=(1, 1, 1, 1))
    with pytest.raises(UserError, match="toy: width=32"):
        models.create("toy", rngs=nnx.Rngs(0), width=32)
    with pytest.raises(ValueError, match="two networks called toy"):
        models.register(TOY)


def test_weights_come_in_and_go_out(state, converted, tmp_path):
    model, card = convert.load(converted)
    assert (card.arch, card.bn_epsilon, card.licence, card.source["family"]) == ("toy", 1e-2, "MIT", "toy-torch")
    assert card.labels == tuple(fake_data.CLASS_NAMES[:3]) and card.preprocessing.crop == 32
    close(model(clips()), reference(state, clips()))
    assert convert.main([str(converted), str(tmp_path / "out.safetensors")]) == 0
    again = load_file(tmp_path / "out.safetensors")
    assert again.keys() == state.keys()
    assert all(again[name].dtype == state[name].dtype and np.array_equal(again[name], state[name]) for name in state)


def test_weights_for_flow_and_for_another_network(state, tmp_path):
    save_file(state, tmp_path / "toy.safetensors")
    values, card = loading.load_flat(tmp_path / "toy.safetensors", "plaything", in_channels=2)
    assert card.arch == "plaything" and card.model["in_channels"] == 2
    mean = state["conv.weight"].mean(axis=1).transpose(1, 2, 3, 0)
    assert all(np.allclose(values["entry.0.kernel"][..., channel, :], mean, atol=1e-6) for channel in range(2))
    for arch in ("r3d_18", "i3d"):
        with pytest.raises(UserError, match=f"weights of toy, which cannot become {arch}"):
            loading.load_flat(tmp_path / "toy.safetensors", arch)


def test_what_its_card_may_say(converted):
    fields = cards.read_card(converted).to_dict()
    as_trained = {**fields["model"], "width": 64, "layers": None, "bn_epsilon": None}  # what every config has
    cards.Card.from_dict(json.loads(json.dumps({**fields, "model": as_trained})))
    for key, value in (("width", 32), ("layers", [1, 1, 1, 1]), ("depth", 3)):
        with pytest.raises(ValueError, match=f"model.{key}"):
            cards.Card.from_dict(json.loads(json.dumps({**fields, "model": {**fields["model"], key: value}})))
    with pytest.raises(UserError, match="no network is called 'toys': did you mean toy"):
        cards.Card.from_dict(json.loads(json.dumps({**fields, "arch": "toys"})))


def test_the_commands_on_a_video(state, converted, run, tmp_path):
    video = write_video(tmp_path / "clip.mkv", count=4, size=(32, 40))
    status, out, err = run(predict.main, "--checkpoint", converted, video, "--json", "-", "--top", 3)
    assert status == 0, err
    scores = {row["label"]: row["score"] for row in json.loads(out)[0]["top"]}
    assert scores.keys() == set(fake_data.CLASS_NAMES[:3])

    assert run(features.main, "--checkpoint", converted, "--out", tmp_path / "features", video)[0] == 0
    with np.load(tmp_path / "features" / "clip.npz") as file:
        logits = file["features"][0] @ state["classifier.weight"].T + state["classifier.bias"]
    close([scores[name] for name in fake_data.CLASS_NAMES[:3]], np.asarray(jax.nn.softmax(logits)))

    status, _, err = run(export.main, "--checkpoint", converted, "--out", tmp_path / "net", "--platforms", "cpu")
    assert status == 0, err
    exported = jax.export.deserialize(bytearray((tmp_path / "net" / PROGRAM).read_bytes()))
    close(exported.call(clips(3)), reference(state, clips(3)))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    fake_data.write(folder, frames=4)
    return folder


def load(data, *overrides):
    small = "clip.frames=4 clip.size=32 clip.resize=(32,40) batch_size=4 steps=2 log_every=1 workers=2 lr=0.05".split()
    fixed = ["model.width=64", "model.layers=()", "dataset.name=tfds_ucf101", "augment.flip_sensitive=()"]
    return configs.load("demo", [*small, *fixed, f"dataset.data_dir={data}", *overrides])


def test_it_trains_and_is_evaluated(data, tmp_path):
    loop.train_and_evaluate(load(data, "arch=plaything"), tmp_path)
    results, _, weights, card = evaluate_checkpoint(load(data, "arch=plaything"), tmp_path)
    assert (results["arch"], results["step"]) == ("plaything", 2) and card.bn_epsilon == 1e-2
    assert results["videos_evaluated"] == results["videos_expected"] > 0
    fresh = models.flatten(models.create("toy", 3, rngs=nnx.Rngs(load(data).seed)))
    assert all(not np.array_equal(weights[name], fresh[name]) for name in fresh)
    whole = evaluate_checkpoint(load(data, "eval.views=whole"), tmp_path / "whole", source=tmp_path).results
    assert "whole" in whole["protocol"]


def test_it_starts_from_converted_weights(data, converted, tmp_path):
    """Next to nothing is learned, so what is evaluated is what was converted, head included."""
    config = load(data, "arch=toy", "lr=1e-9", "freeze_batch_norm=true", f"init_from={converted}")
    loop.train_and_evaluate(config, tmp_path / "run")
    evaluate_checkpoint(config, tmp_path / "init", source=converted)
    found, expected = (Predictions.load(tmp_path / name / "predictions.npz") for name in ("run", "init"))
    assert list(found.names) == list(expected.names)
    close(found.logits, expected.logits)
