"""The network of a probe: the frozen one, and the same with every kind of head, which scores as the probe did."""

import dataclasses

import numpy as np
import pytest

from r23d_jax.errors import UserError
from r23d_jax.inference.classifier import Classifier
from r23d_jax.models.head import VIEWS
from r23d_jax.probing import network
from r23d_jax.probing.attention import Attention
from r23d_jax.probing.choose import Choice, clip_logits
from r23d_jax.probing.data import open_data
from r23d_jax.probing.extract import Extractor, samples_of
from r23d_jax.probing.heads import Linear, Neighbours
from r23d_jax.probing.samples import FeatureSet
from r23d_jax.probing.space import moments
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights import checkpoint
from r23d_jax.weights.card import Card

LABELS = ("a", "b", "c")


@pytest.fixture(scope="module")
def frozen(probe_paths):
    return network.frozen(*checkpoint.load_weights(probe_paths.weights), "float32")


@pytest.fixture(scope="module")
def samples(probe_paths, frozen):
    """Of the test videos, of one clip or two."""
    data = open_data(probe_paths.root)
    places = [index for index, video in enumerate(data.videos) if video.part == "test"]
    extractor = Extractor(frozen, probe_paths.features, lambda line: None, with_grid=True)
    features, _ = extractor.run(data, places, VIEWS)
    return samples_of(data, features, places, extractor.grid_of)


def linear(samples, features):
    width = samples.vectors(features, "plain").shape[1]
    rng = np.random.default_rng(0)
    return Linear(rng.normal(size=(width, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32))


def neighbours(samples, features):
    rows = np.concatenate([samples.vectors(features, view) for view in features.views])
    labels = np.tile(samples.labels[samples.video], len(features.views))
    return dataclasses.replace(Neighbours.of(rows, labels, 3, 5), sharpness=7.0)


def attentive(samples, features):
    tokens = samples.grids["plain"]
    mean, scale = moments(tokens)
    shapes = {"query": (4, 16), "position": (4, tokens.shape[1]), "kernel": (4 * 16, 3), "bias": (3,)}
    rng = np.random.default_rng(0)
    drawn = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return Attention(mean.astype(np.float32), scale.astype(np.float32), **drawn)


@pytest.mark.parametrize(
    "make, features, within",
    [
        (linear, FeatureSet(("layer2", "layer4"), 3, True), 1e-5),
        (linear, FeatureSet(("layer4",), 1, False), 1e-5),
        (neighbours, FeatureSet(("layer3",), 3, True), 1e-5),
        (attentive, FeatureSet(("layer3",), 1, True), 1e-2),  # its tokens are kept in float16
    ],
)
def test_it_scores_as_the_probe_did(probe_paths, frozen, samples, make, features, within):
    head = make(samples, features)
    values, card = network.with_head(frozen, features, head, LABELS, "mine", {"dataset": "data"})
    assert (card.labels, card.init, card.source) == (LABELS, "mine", {"dataset": "data"})
    choice = Choice(features, head, [], "", [], 0.0, 0.0, None, 0, 0)
    expected = clip_logits(choice, samples)
    videos = [str(path) for path in probe_paths.test]
    found = Classifier(values, card).predict(videos)
    clip_scores = np.concatenate([one.clip_scores for one in found])
    odds = np.exp(expected - expected.max(axis=1, keepdims=True))
    np.testing.assert_allclose(clip_scores, odds / odds.sum(axis=1, keepdims=True), atol=within)
    assert np.ptp(expected, axis=0).min() > 0.1, "the scores differ between videos"


def test_the_frozen_network_has_no_classifier_of_its_own(probe_paths, frozen):
    values, card = checkpoint.load_weights(probe_paths.weights)
    assert frozen.card.source["whole_sha256"] == card.tensors_sha256 != frozen.card.tensors_sha256
    assert not np.asarray(frozen.weights["fc.kernel"]).any() and frozen.labels == ("none",)
    with_head = network.with_head(frozen, FeatureSet(("layer4",), 1, False), linear_of(32), LABELS, "", {})
    again = network.frozen(*with_head, "float32")
    assert again.card.tensors_sha256 == frozen.card.tensors_sha256
    assert all(np.array_equal(again.weights[name], values[name]) for name in values if not name.startswith("fc."))


def linear_of(width):
    return Linear(np.zeros((width, 3), np.float32), np.zeros(3, np.float32))


def card_of(spec, arch="r2plus3d_18"):
    return Card(arch, {"num_classes": 3, "frames": 16, "in_channels": 3}, LABELS, spec)


@pytest.mark.parametrize(
    "spec, size, resize, crop, longest",
    [
        # torchvision's and the I3D weights' own; on a CPU a large crop is halved.
        (Preprocessing((128, 171), 112, 16), 0, (128, 171), 112, 128),
        (Preprocessing(256, 224, 64), 0, (128, 171), 112, 128),
        (Preprocessing(256, 224, 64), 224, (256, 341), 224, 128),
        (Preprocessing((256, 340), 224, 0, max_frames=64), 0, (128, 170), 112, 64),
        (Preprocessing(None, None, 16), 0, (128, 171), 112, 128),
        (Preprocessing((128, 171), 112, 16), 100, (114, 153), 100, 128),
        (Preprocessing((112, 112), 112, 16, max_frames=4), 0, (112, 112), 112, 128),
    ],
)
def test_videos_are_seen_whole_and_mostly_as_the_weights_do(spec, size, resize, crop, longest):
    found = network.preprocessing(card_of(spec), size)
    assert (found.resize, found.crop, found.frames, found.max_frames) == (resize, crop, 0, longest)
    assert (found.sampling, found.views) == ("fitted", "fitted")
    assert (found.mean, found.std, found.stride, found.fps) == (spec.mean, spec.std, spec.stride, spec.fps)


def test_a_network_of_one_length_keeps_it():
    spec = dataclasses.replace(Preprocessing((128, 171), 112, 8), sampling="segments")
    assert network.preprocessing(card_of(spec, "r2d_18")) == spec


def test_small_pictures_are_refused():
    with pytest.raises(UserError, match="--size 7: give at least 32"):
        network.preprocessing(card_of(Preprocessing((128, 171), 112, 16)), 7)
