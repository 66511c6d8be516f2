"""Heads: what the classifier sees of a network by hand, its maps, and what no head can be."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from r23d_jax import models
from r23d_jax.errors import UserError
from r23d_jax.inference import cam
from r23d_jax.models import head as heads
from r23d_jax.models import i3d
from r23d_jax.models.functional import Functional, weights_of
from r23d_jax.models.head import Head, HeadSpec
from r23d_jax.models.structure import stage_names
from r23d_jax.models.summary import cost, summarize
from r23d_jax.weights import architecture

CLASSES = 5
# Small networks, stages of two grids in space and in time, and clips of which these have too few steps for the bins.
NETWORKS = {
    "i3d": ({"width": 8, "frames": 16}, ["Mixed_4e", "Mixed_5b"], 3),
    "r2plus3d_18": ({"width": 4, "frames": 8, "layers": (1, 1, 1, 1)}, ["layer2", "layer4"], 3),
}
LINEAR = [("i3d", True), ("r2plus3d_18", False), ("r2plus3d_18", True)]


def clips(frames, batch=2, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, frames, 32, 32, 3)).astype(np.float32)


def create(arch, head=None, seed=0, **options):
    """A small network, its statistics and classifier not neutral."""
    model = models.create(arch, CLASSES, rngs=nnx.Rngs(seed), head=head, **{**NETWORKS[arch][0], **options})
    model.fc.bias[...] = jnp.arange(float(CLASSES))
    model.fc.kernel[...] *= 100
    return model


@functools.cache
def linear(arch, mirrored):
    """A network with a linear head, and of a clip and its mirror image its features and logits."""
    _, stages, bins = NETWORKS[arch]
    model = create(arch, {"stages": stages, "bins": bins, "mirrored": mirrored})
    network, weights = Functional(model), weights_of(model)
    video = clips(model_frames(arch))
    names = []

    @jax.jit
    def run(params, stats, video):
        features = network.features(params, stats, video)
        names[:] = features
        return features, network.eval(params, stats, video)

    found = [jax.tree.map(np.asarray, run(*weights, v)) for v in (video, video[:, :, :, ::-1])]
    return model, names, *found


def model_frames(arch):
    return NETWORKS[arch][0]["frames"]


def averages(maps, bins):
    """[B, bins * C] of [B, T, H, W, C], by cutting each step into as many pieces as there are bins."""
    pieces = np.repeat(maps.astype(np.float64).mean((2, 3)), bins, axis=1)  # each bin has T of them
    count, total, channels = pieces.shape
    return pieces.reshape(count, bins, total // bins, channels).mean(2).reshape(count, -1)


# --- the vector that the classifier sees -----------------------------------------------------------------


@pytest.mark.parametrize("bins", [1, 2, 3, 7])
def test_parts_of_time_may_cut_a_step_or_share_one(bins):
    random = np.random.default_rng(0)
    outputs = {name: random.random((2, *shape)).astype(np.float32) for name, shape in SHAPES.items()}
    pool = np.asarray(a_head(list(SHAPES), bins=bins).pool(lambda video: outputs, clips(8)))
    expected = np.concatenate([averages(outputs[name], bins) for name in SHAPES], axis=1)
    np.testing.assert_allclose(pool, expected, rtol=1e-5)


SHAPES = {"early": (5, 6, 7, 3), "middle": (4, 3, 4, 2), "late": (1, 2, 2, 4)}


def a_head(stages, **fields):
    return Head(HeadSpec.from_dict({"stages": stages, **fields}), {name: shape[-1] for name, shape in SHAPES.items()})


@pytest.mark.parametrize("arch, mirrored", LINEAR)
def test_it_is_the_averages_of_the_stages(arch, mirrored):
    model, names, (features, logits), (of_mirrored, its_logits) = linear(arch, mirrored)
    _, stages, bins = NETWORKS[arch]
    assert names[-2:] == ["head", "pool"] and features["pool"].dtype == features["head"].dtype == np.float32
    assert len({features[name].shape[1:4] for name in stages}) == 2 and features[stages[-1]].shape[1] < bins

    expected = np.concatenate([averages(features[name], bins) for name in stages], axis=1)
    if mirrored:
        assert not np.allclose(features[stages[0]], of_mirrored[stages[0]], rtol=0.1)  # the stages are the clip's own
        other = np.concatenate([averages(of_mirrored[name], bins) for name in stages], axis=1)
        expected = (expected + other) / 2
        np.testing.assert_allclose(logits, its_logits, rtol=1e-4)
    np.testing.assert_allclose(features["pool"], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(features["head"].mean((1, 2, 3)), features["pool"], rtol=1e-4, atol=1e-6)
    kernel, bias = np.asarray(model.fc.kernel[...]), np.asarray(model.fc.bias[...])
    np.testing.assert_allclose(logits, expected @ kernel + bias, rtol=1e-3, atol=1e-3)
    assert np.ptp(logits, axis=0).max() > 0.01


@pytest.mark.parametrize("arch", NETWORKS)
def test_below_the_head_the_weights_are_those_without_one(arch):
    with_head, plain = linear(arch, True)[0], create(arch)
    ours, theirs = models.flatten(with_head), models.flatten(plain)
    assert list(ours) == list(theirs) and stage_names(with_head) == stage_names(plain)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs if not name.startswith("fc."))


def test_stages_come_first_and_are_those_without_a_head():
    _, names, (features, _), _ = linear("r2plus3d_18", True)
    plain = create("r2plus3d_18")
    own = jax.jit(Functional(plain).features)(*weights_of(plain), clips(8))
    assert names == ["stem", "layer1", "layer2", "layer3", "layer4", "head", "pool"]
    for name in names[:-2]:
        np.testing.assert_allclose(features[name], own[name], rtol=1e-3, atol=1e-4)
    assert tuple(linear("i3d", True)[1]) == (*i3d._ORDER, "head", "pool")


def test_a_networks_structure_can_be_hashed_with_and_without_a_head():
    for arch, (_, stages, _) in NETWORKS.items():
        structures = [nnx.split(create(arch, head))[0] for head in (None, None, {"stages": stages})]
        assert len({hash(one) for one in structures}) == 2 and structures[0] == structures[1] != structures[2]


# --- class activation maps -------------------------------------------------------------------------------


@pytest.mark.parametrize("arch, mirrored", LINEAR)
def test_the_mean_of_a_map_and_the_bias_is_the_logit(arch, mirrored):
    model, _, (features, logits), (of_mirrored, _) = linear(arch, mirrored)
    even = np.full(features["head"].shape[1], 1 / features["head"].shape[1], np.float32)
    np.testing.assert_array_equal(cam.time_weights(features["head"], features["pool"]), even)
    kernel, bias = np.asarray(model.fc.kernel[...]), np.asarray(model.fc.bias[...])
    views = [one["head"] for one in (features, of_mirrored)]
    seen = [cam.Activation(logits, one, even, kernel, bias, model.map_offset) for one in views]
    classes = np.tile(np.arange(CLASSES), (2, 1))
    maps, others = (one.maps(classes) for one in seen)
    np.testing.assert_allclose(maps.mean((2, 3, 4)) + bias, logits, rtol=1e-4, atol=1e-3)
    # The mirror image's maps are the mirror image, and lie so on the frames.
    shown, other = (cam.upsample(one, model_frames(arch), 32, 32, model.map_offset) for one in (maps, others))
    assert np.allclose(shown, other[..., ::-1], atol=1e-3 * np.abs(shown).max()) is mirrored


def test_the_mapper_takes_a_network_with_a_linear_head():
    model, _, (features, logits), _ = linear("r2plus3d_18", True)
    seen = cam.ActivationMapper(model)(clips(8))
    np.testing.assert_allclose(seen.features, features["head"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(seen.logits, logits, rtol=1e-4, atol=1e-4)
    assert seen.offset == (0, 0, None) and seen.weights.tolist() == [0.125] * 8


def test_offsets_of_i3d_are_those_of_its_layers():
    """A position lies at the centre of its window, for sizes that halve evenly."""
    model = create("i3d")
    strides, offset, found = np.ones(3), np.zeros(3), {}
    for name in i3d._ORDER:
        if name in i3d._POOLS:
            window, steps = i3d._POOLS[name]
        else:
            layer = getattr(model, name)
            conv = layer.conv3d if isinstance(layer, i3d.Unit) else layer.b1b.conv3d  # the widest branch is centred
            window, steps = conv.kernel.shape[:3], conv.strides
        before = [zeros for zeros, _ in i3d.same_padding((64, 64, 64), window, steps)]
        offset = offset + ((np.array(window) - 1) / 2 - before) * strides
        strides = strides * steps
        found[name] = tuple(offset)
    assert found == {name: model.offset_of(name) for name in i3d._ORDER}
    assert model.map_offset == found["Mixed_5c"] and tuple(strides) == (8, 32, 32)
    assert create("i3d", {"stages": ["Mixed_5c", "Mixed_3b"]}).map_offset == found["Mixed_3b"] == (1, 7, 7)


# --- neighbours and attention ----------------------------------------------------------------------------


def filled(kind, **fields):
    """A network with a head of that kind and random values in it; its features and logits."""
    random = np.random.default_rng(1)
    model = create("r2plus3d_18", {"stages": ["layer4"], "kind": kind, **fields})
    values = {name: np.asarray(value) for name, value in models.flatten(model).items()}
    for name in [name for name in values if name.startswith("head.")]:
        values[name] = random.uniform(0.5, 1.5, values[name].shape).astype(np.float32)
    models.assign(model, values)
    params, stats = weights_of(model)
    network = Functional(model)
    features = jax.jit(network.features)(params, stats, clips(8))
    return model, values, jax.tree.map(np.asarray, features), np.asarray(jax.jit(network.eval)(params, stats, clips(8)))


def test_votes_of_the_nearest_training_clips():
    # As many as the last map has channels, which may not be mistaken for it.
    model, values, features, logits = filled("neighbours", points=32, neighbours=3, bins=2)
    assert features["layer4"].shape[-1] == 32 == features["pool"].shape[-1] and "head" not in features
    z = (averages(features["layer4"], 2) - values["head.mean"]) * values["head.scale"]
    similar = (z / np.linalg.norm(z, axis=1, keepdims=True)) @ values["head.points"].T
    for row, votes in zip(similar, features["pool"], strict=True):
        first = np.argsort(-row)[:3]
        odds = np.exp(row[first] / 0.1 - row[first].max() / 0.1)
        assert set(np.flatnonzero(votes)) == set(first)
        np.testing.assert_allclose(votes[first], odds / odds.sum(), rtol=1e-3)
    np.testing.assert_allclose(logits, features["pool"] @ values["fc.kernel"] + values["fc.bias"], rtol=1e-4, atol=1e-5)
    assert stage_names(model) == ("stem", "layer1", "layer2", "layer3", "layer4", "fc")  # nothing of it is trained
    with pytest.raises(UserError, match="class activation maps are of linear heads, .* of kind neighbours"):
        cam.ActivationMapper(model)


def test_queries_weight_positions():
    model, values, features, logits = filled("attention", grid=[2, 2, 2])
    tokens = features["layer4"].astype(np.float64).reshape(2, 8, 32)  # its own grid is 1x2x2: a step is there twice
    x = (tokens - values["head.mean"]) * values["head.scale"]
    scores = x @ values["head.query"].T / 32**0.5 + values["head.position"].T
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    pool = np.einsum("bph,bpd->bhd", weights, x).reshape(2, -1)
    np.testing.assert_allclose(features["pool"], pool, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(logits, pool @ values["fc.kernel"] + values["fc.bias"], rtol=1e-3, atol=1e-3)
    assert stage_names(model)[-2:] == ("head", "fc")
    assert {name for name in weights_of(model)[0] if name.startswith("head.")} == {"head.query", "head.position"}
    with pytest.raises(UserError, match="of kind attention"):
        cam.ActivationMapper(model)


# --- what no head can be ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, message",
    [
        ([], "give its stages"),
        ("layer4", "'layer4': give its stages"),
        ({}, "give its stages"),
        ({"stages": ["layer4"], "depth": 3}, "'depth': 3.*give its stages and any of bins, mirrored"),
        ({"stages": "layer4"}, "stages='layer4': give names of stages"),
        ({"stages": []}, r"stages=\(\)"),
        ({"stages": [["layer4"]]}, "stages="),
        ({"stages": ["layer4"] * 100_000}, "stages=.{,200}, each once"),
        ({"stages": ["layer9"]}, "no stage 'layer9'; this network has stem, layer1, layer2, layer3, layer4"),
        ({"stages": ["pool"]}, "no stage 'pool'"),
        ({"stages": ["layer3", "layer4"], "kind": "attention"}, "one for attention"),
        ({"stages": ["layer4"], "kind": "forest"}, "kind='forest': give one of linear, neighbours, attention"),
        ({"stages": ["layer4"], "kind": ["linear"]}, "kind="),
        ({"stages": ["layer4"], "bins": 0}, "bins=0: give 1 to 64"),
        ({"stages": ["layer4"], "bins": 10**9}, "bins=1000000000"),
        ({"stages": ["layer4"], "bins": True}, "bins=True"),
        ({"stages": ["layer4"], "bins": 2.0}, "bins=2.0"),
        ({"stages": ["layer4"], "mirrored": 1}, "mirrored=1: give true or false"),
        ({"stages": ["layer4"], "kind": "neighbours"}, "points=0"),
        ({"stages": ["layer4"], "kind": "neighbours", "points": 3, "neighbours": 4}, "neighbours=4: give how many of"),
        (
            {"stages": ["layer4"], "kind": "neighbours", "points": 10**12, "neighbours": 1},
            "at most 1048576",
        ),
        ({"stages": ["layer4"], "kind": "neighbours", "points": "9", "neighbours": 1}, "points='9'"),
        (
            {"stages": ["layer4"], "kind": "neighbours", "points": 2**20, "neighbours": 1, "bins": 64},
            "its points would have 1048576 x 2048 values",
        ),
        ({"stages": ["layer4"], "grid": [8, 4]}, r"grid=\(8, 4\): give three whole numbers"),
        ({"stages": ["layer4"], "grid": [64, 64, 64]}, "product of at most 4096"),
        ({"stages": ["layer4"], "grid": [0, 4, 4]}, "grid="),
        ({"stages": ["layer4"], "grid": 8}, "grid=8"),
        ({"stages": ["layer4"], "grid": None}, "grid=None"),
    ],
)
def test_what_is_no_head_is_one_line(fields, message):
    with pytest.raises(UserError, match=message) as error:
        create("r2plus3d_18", fields)
    assert str(error.value).startswith("head: ") and len(str(error.value)) < 250 and "\n" not in str(error.value)


def test_a_classifier_that_would_not_fit_into_memory():
    model = create("r2plus3d_18")
    with pytest.raises(UserError, match="its classifier would have 2048 x 1000000 values, more than"):
        heads.attach(model, HeadSpec(("layer4",), bins=64), 10**6, nnx.Rngs(0))
    assert model.head is None and model.fc.kernel.shape == (32, CLASSES)


def test_flow_has_no_mirror_image_and_some_networks_no_head():
    with pytest.raises(UserError, match="head: mirrored is for RGB, and this network sees 2 channels"):
        create("r2plus3d_18", {"stages": ["layer4"], "mirrored": True}, in_channels=2)
    create("r2plus3d_18", {"stages": ["layer4"]}, in_channels=2)
    with pytest.raises(UserError, match="head: Module has only its own classifier"):
        heads.attach(nnx.Module(), HeadSpec(("layer4",)), 3, nnx.Rngs(0))


def test_a_spec_goes_through_json():
    spec = HeadSpec(("stem", "layer4"), 3, True, "neighbours", 9, 2, (1, 2, 3))
    assert HeadSpec.from_dict(spec.to_dict()) == spec and spec.to_dict()["stages"] == ["stem", "layer4"]
    assert HeadSpec.from_dict({"stages": ["stem"]}) == HeadSpec(("stem",))


def test_tensors_that_a_head_lacks_are_named():
    model, values, *_ = filled("neighbours", points=3, neighbours=1)
    abstract = nnx.eval_shape(lambda: create("r2plus3d_18", model.head.spec.to_dict()))
    architecture.check("r2plus3d_18", abstract, values)
    values.pop("head.points")
    values["head.mean"] = values["head.mean"][1:]
    with pytest.raises(UserError, match=r"head.points is missing; head.mean has shape \[31\], not \[32\]"):
        architecture.check("r2plus3d_18", abstract, values)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_it_computes_in_float32_whatever_the_network_does(dtype):
    model = create("r2plus3d_18", {"stages": ["layer3", "layer4"], "mirrored": True}, dtype=jnp.dtype(dtype))
    features = jax.eval_shape(Functional(model).features, *weights_of(model), clips(8))
    dtypes = {name: str(value.dtype) for name, value in features.items()}
    assert dtypes == {**dict.fromkeys(model.channels(), dtype), "head": "float32", "pool": "float32"}


@pytest.mark.parametrize("arch", ["i3d", "resnet18_2d3d_full"])
def test_dropout_before_the_classifier_is_of_what_the_head_gives(arch, monkeypatch):
    stage, method = ("Mixed_5c", "_endpoints") if arch == "i3d" else ("layer4", "_stages")
    model = models.create(arch, 1, rngs=nnx.Rngs(0), width=8, dropout=0.5, head={"stages": [stage], "bins": 2})
    width = model.channels()[stage]
    ones = {stage: jnp.ones((1, 2, 1, 1, width))}
    monkeypatch.setattr(type(model), method, lambda self, video, key=None: ones)
    network, (params, stats), video = Functional(model), weights_of(model), jnp.ones((1, 2, 32, 32, 3))
    first, same, other = (network.train(params, stats, video, jax.random.key(seed))[0] for seed in (1, 1, 2))
    whole = network.eval(params, stats, video)
    assert first == same and len({float(logit[0, 0]) for logit in (first, other, whole)}) == 3
    np.testing.assert_allclose(whole, params["fc.kernel"].sum(axis=0, keepdims=True), rtol=1e-5)


# --- the rest of the package -----------------------------------------------------------------------------


def test_its_cost_is_counted_without_the_maps():
    size = {"frames": 8, "size": 32, "width": 4, "num_classes": CLASSES}
    plain = summarize("r2plus3d_18", **size)
    stages = ["layer3", "layer4"]
    head = summarize("r2plus3d_18", **size, head={"stages": stages, "bins": 3})
    by_name = {stage.name: stage for stage in head.stages}
    assert [stage.name for stage in head.stages][-3:] == ["head", "pool", "fc"]
    assert head.features == 3 * (16 + 32) and by_name["fc"].parameters == (head.features + 1) * CLASSES
    assert head.parameters == plain.parameters - (32 + 1) * CLASSES + by_name["fc"].parameters
    steps = sum(by_name[name].shape[0] * by_name[name].shape[-1] for name in stages)
    assert (by_name["pool"].macs, by_name["head"].macs, by_name["fc"].macs) == (3 * steps, 0, head.features * CLASSES)
    assert head.macs == plain.macs - 32 * CLASSES + 3 * steps + head.features * CLASSES

    both = summarize("r2plus3d_18", **size, head={"stages": ["layer4"], "mirrored": True})
    assert both.macs == 2 * (plain.macs - 32 * CLASSES) + 2 * 2 * 32 + 32 * CLASSES  # twice two steps
    attention = summarize("r2plus3d_18", **size, head={"stages": ["layer4"], "kind": "attention"})
    assert attention.stages[-2].parameters == 4 * 32 + 4 * 8 * 4 * 4 and attention.features == 4 * 32

    found = cost(lambda: create("r2plus3d_18", {"stages": ["layer4"], "mirrored": True}), (8, 32, 32, 3))
    assert found.parameters > 0 and found.nominal_macs > 1.9 * cost(lambda: create("r2plus3d_18"), (8, 32, 32, 3)).macs
