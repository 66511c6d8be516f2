"""Every network by name: against PyTorch stage by stage, against published sizes, and what all share."""

import functools
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch_reference as reference
from flax import nnx

from r23d_jax import models
from r23d_jax.errors import UserError
from r23d_jax.models.functional import Functional, weights_of
from r23d_jax.models.layers import BatchNorm, max_pool
from r23d_jax.models.ops import hardware
from r23d_jax.models.summary import summarize

ONE_BLOCK = (1, 1, 1, 1)
# The same one-block network as another name's, but for its depth.
DEEPER = {
    *("r2d_34", "f_r2d_34", "r3d_34", "r2plus3d_34", "r3plus2d_34", "resnet34_2d3d_full"),
    *("vmz_r2plus1d_18", "hara_r3d_34", "hara_r2plus1d_34"),
}
TORCHVISION = {"r3d_18": 33_371_472, "mc3_18": 11_695_440, "r2plus1d_18": 31_505_325}


def clips(frames=8, size=32, batch=2, channels=3, seed=0):
    shape = (batch, frames, size, size, channels)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def create(name, seed=0, **options):
    """A network cut to one block a stage, 8 channels and 5 classes, where its family can be cut."""
    options = {"num_classes": 5, "width": 8, "frames": 8, **options}
    if "layers" in models.get(name).options:
        options.setdefault("layers", ONE_BLOCK)
    return models.create(name, rngs=nnx.Rngs(seed), **options)


def to_torch(video):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(video, -1, 1)))


def assert_close(ours, theirs, what, tolerance=1e-4):
    theirs = theirs.detach().numpy()
    theirs = np.moveaxis(theirs, 1, -1) if theirs.ndim == 5 else theirs
    assert ours.shape == theirs.shape, what
    difference = np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()
    assert difference < tolerance, f"{what}: {difference:.1e}"


@functools.partial(jax.jit, static_argnums=0)
def outputs_and_statistics(graphdef, state, video):
    model = nnx.merge(graphdef, state, copy=True)
    outputs = model.features(video)
    outputs["logits"] = model.fc(outputs["pool"])
    return outputs, models.flatten(model)


def assert_same_outputs(model, theirs, video):
    """Every stage and the logits, in the mode both are in; returns our parameters and statistics after it."""
    ours, state = outputs_and_statistics(*nnx.split(model), video)
    for stage, output in theirs.items():
        assert_close(ours[stage], output, stage)
    return state


# --- against PyTorch ---------------------------------------------------------------------------------------


def torchvision_stages(network, x):
    outputs = {}
    for stage in ("stem", "layer1", "layer2", "layer3", "layer4"):
        x = outputs[stage] = getattr(network, stage)(x)
    outputs["pool"] = network.avgpool(x).flatten(1)
    outputs["logits"] = network.fc(outputs["pool"])
    return outputs


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_stage_by_stage_in_both_modes_with_running_statistics(name):
    reference.import_torchvision()
    from torchvision.models import video as torchvision

    network = reference.randomise(getattr(torchvision, name)(num_classes=400))
    model = models.create(name, rngs=nnx.Rngs(0))
    models.assign(model, reference.to_ours(network.state_dict()))
    assert sum(parameter.numel() for parameter in network.parameters()) == TORCHVISION[name]
    assert summarize(name).parameters == TORCHVISION[name]

    video = clips()
    with torch.no_grad():
        model.eval()
        assert_same_outputs(model, torchvision_stages(network.eval(), to_torch(video)), video)
        model.train()
        state = assert_same_outputs(model, torchvision_stages(network.train(), to_torch(video)), video)
    for key, value in reference.to_ours(network.state_dict()).items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(state[key], value, atol=1e-4 * scale, err_msg=key)


def test_gradients_are_as_near_the_truth_as_torchs():
    """In training mode normalisation over few values magnifies rounding: double precision is the judge."""
    network = reference.randomise(reference.named("r2plus1d_18", 5, 16, ONE_BLOCK)).train()
    video, weighting = clips(batch=4), np.random.default_rng(1).standard_normal((4, 5), dtype=np.float32)

    def torch_gradients(network, dtype):
        network.zero_grad()
        logits = network.to(dtype)(to_torch(video).to(dtype))["logits"]
        (logits * torch.from_numpy(weighting)).sum().backward()
        gradients = {key: parameter.grad.clone() for key, parameter in network.named_parameters()}
        return {key: np.asarray(value, np.float64) for key, value in reference.to_ours(gradients).items()}

    model = create("r2plus1d_18", width=16)
    models.assign(model, reference.to_ours(network.state_dict()))
    apply, (params, stats) = Functional(model), weights_of(model)
    loss = lambda params: (apply.train(params, stats, video, jax.random.key(0))[0] * weighting).sum()  # noqa: E731
    ours = jax.jit(jax.grad(loss))(params)

    theirs, truth = torch_gradients(network, torch.float32), torch_gradients(network, torch.float64)
    assert ours.keys() == truth.keys()
    for key, value in truth.items():
        our_error, their_error = np.abs(ours[key] - value).max(), np.abs(theirs[key] - value).max()
        assert our_error < max(4 * their_error, 1e-5 * np.abs(value).max()), key
        assert our_error < 1e-2 * np.abs(value).max(), key


@pytest.mark.parametrize("name", sorted(set(reference.REFERENCE) - set(models.ALIASES) - DEEPER))
def test_one_block_a_stage_equals_the_reference(name):
    """Full stage structure, little depth; where a name is an 18, 34 and 50 layer one, blocks differ at 50."""
    video = clips()
    network = reference.randomise(reference.named(name, 5, 8, ONE_BLOCK, frames=8))
    model = create(name)
    folded = 8 if model.spec.stem == "frames" else None
    models.assign(model, reference.to_ours(network.state_dict(), folded))
    model.eval()
    with torch.no_grad():
        assert_same_outputs(model, network(to_torch(video)), video)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(reference.REFERENCE) - set(models.ALIASES) - set(TORCHVISION)))
def test_full_depth_equals_the_reference_in_both_modes(name):
    video = clips()
    network = reference.randomise(reference.named(name, 5, 16, frames=8))
    model = create(name, width=16, layers=None)
    folded = 8 if model.spec.stem == "frames" else None
    models.assign(model, reference.to_ours(network.state_dict(), folded))
    with torch.no_grad():
        model.eval()
        assert_same_outputs(model, network(to_torch(video)), video)
    # In training mode the last stages normalise over a handful of values, which magnifies rounding with
    # depth without bound: statistics, not outputs, are compared, and over more values.
    video = clips(frames=16, size=64, batch=2)
    model = create(name, width=16, layers=None, frames=16)
    network = reference.randomise(reference.named(name, 5, 16, frames=16)).train()
    folded = 16 if model.spec.stem == "frames" else None
    models.assign(model, reference.to_ours(network.state_dict(), folded))
    with torch.no_grad():
        network(to_torch(video))
    _, state = outputs_and_statistics(*nnx.split(model), video)
    for key, value in reference.to_ours(network.state_dict(), folded).items():
        assert np.abs(state[key] - value).max() < 2e-3 * np.abs(value).max(), key


def test_the_reference_knows_every_residual_network():
    ours = {*models.SPECS, *(alias for alias, name in models.ALIASES.items() if name in models.SPECS)}
    assert set(reference.REFERENCE) == ours


@pytest.mark.parametrize("name", sorted(reference.REFERENCE))
def test_every_tensors_path_and_shape_at_full_size(name):
    with torch.device("meta"):
        theirs = reference.named(name).state_dict()
    theirs = {key: np.broadcast_to(np.float32(0), value.shape) for key, value in theirs.items()}
    ours = nnx.eval_shape(lambda: models.create(name, rngs=nnx.Rngs(0)))
    frames = 16 if ours.spec.stem == "frames" else None
    theirs = {key: value.shape for key, value in shapes_of(theirs, frames).items()}
    assert {key: value.shape for key, value in models.flatten(ours).items()} == theirs
    epsilons = {module.epsilon for _, module in nnx.iter_graph(ours) if isinstance(module, BatchNorm)}
    assert epsilons == {reference.REFERENCE[name].epsilon}


def shapes_of(state, frames):
    """`to_ours` over views without memory of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference.jnp, "asarray", lambda value: value)
        return reference.to_ours(state, frames)


# --- against VMZ's published table -------------------------------------------------------------------------

# Multiply-adds (10^9) for 8 and 16 frames of 112x112, and weights (10^6), as VMZ's c2/tutorials/models.md
# prints them. Its weights are without batch normalisation's: that alone makes rMC2 33.3 and MC5 16.8.
VMZ = {
    "vmz_r2plus1d_18": ("20.7", "41.5", "33.3", "33.3"),
    "r3d_18": ("20.3", "40.7", "33.4", "33.4"),
    "r2d_18": ("1.9", "2.2", "11.4", "11.5"),
    "f_r2d_18": ("13.8", "27.6", "11.4", "11.4"),
    "mc2_18": ("14.3", "28.5", "11.4", "11.4"),
    "mc3_18": ("21.7", "43.3", "11.7", "11.7"),
    "mc4_18": ("20", "40", "12.7", "12.7"),
    "mc5_18": ("20", "39.9", "16.8", "16.8"),
    "rmc2_18": ("19.9", "39.8", "33.3", "33.3"),
    "rmc3_18": ("12.5", "25", "33", "33"),
    "rmc4_18": ("14.5", "29.1", "32", "32"),
    "rmc5_18": ("15.4", "30.8", "27.9", "27.9"),
}


@pytest.mark.parametrize("name", VMZ)
def test_cost_and_size_are_vmzs(name):
    *macs, weights_8, weights_16 = VMZ[name]
    for frames, printed_macs, printed_weights in zip((8, 16), macs, (weights_8, weights_16), strict=True):
        found = summarize(name, frames=frames)
        assert f"{found.macs / 1e9:.1f}" == f"{float(printed_macs):.1f}"
        model = nnx.eval_shape(lambda frames=frames: models.create(name, rngs=nnx.Rngs(0), frames=frames))
        flat = models.flatten(model)
        norms = sum(value.size for key, value in flat.items() if key.endswith(".scale"))
        assert f"{(found.parameters - 2 * norms) / 1e6:.1f}" == f"{float(printed_weights):.1f}"


def test_r2d_is_the_2d_network_on_frames_folded_into_channels():
    assert summarize("r2d_18").stages[0].shape == (1, 56, 56, 64)
    assert models.flatten(create("r2d_18"))["stem.0.kernel"].shape == (8, 7, 7, 3, 8)


# --- what all have in common -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.NAMES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_computes_in_its_dtype_and_puts_out_float32(name, dtype):
    model = nnx.eval_shape(lambda: create(name, width=4, frames=4, dtype=jnp.dtype(dtype)))
    outputs, state = jax.eval_shape(outputs_and_statistics, *nnx.split(model), clips(frames=4, size=16))
    stages = {value.dtype for stage, value in outputs.items() if stage not in ("pool", "logits")}
    assert stages == {jnp.dtype(dtype)}
    assert outputs["pool"].dtype == outputs["logits"].dtype == jnp.float32
    assert outputs["logits"].shape == (2, 5) and outputs["pool"].ndim == 2
    assert {value.dtype for value in state.values()} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("name", ["r2plus1d_18", "resnet18_2d3d_full"])
def test_bfloat16_is_near_float32(name):
    layer1 = nnx.jit(lambda model, video: model.features(video)["layer1"])
    exact, rounded = create(name), create(name, dtype=jnp.bfloat16)
    exact.eval(), rounded.eval()  # nothing beyond layer1 is compiled then
    exact, rounded = layer1(exact, clips()), layer1(rounded, clips())
    difference = np.abs(exact - rounded.astype(jnp.float32)).max() / np.abs(exact).max()
    assert 0 < difference < 0.05


@pytest.mark.parametrize("name", models.NAMES)
def test_state_is_parameters_and_statistics_and_random_streams_only_with_dropout(name):
    for dropout, streams in ((0.0, 0), (0.3, 2)):
        model = nnx.eval_shape(lambda dropout=dropout: create(name, dropout=dropout))
        _, params, stats, rest = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
        assert len(jax.tree.leaves(nnx.to_flat_state(rest))) == streams
        leaves = {path[-1] for path, _ in nnx.to_flat_state(params)}
        assert leaves == {"kernel", "scale", "bias"}
        assert {path[-1] for path, _ in nnx.to_flat_state(stats)} == {"mean", "var"}
        flat = models.flatten(model)
        assert len(flat) == len(nnx.to_flat_state(params)) + len(nnx.to_flat_state(stats))
        assert "fc.kernel" in flat and all(isinstance(key, str) for key in flat)


def test_features_are_in_order_and_the_head_is_linear_on_the_last():
    model = create("r2plus3d_18")
    model.eval()
    found = {}

    def both(video):
        features = model.features(video)
        found.update({stage: value.shape for stage, value in features.items()})
        return model(video), model.fc(features["pool"])

    logits, head = jax.jit(both)(clips())
    assert list(found) == ["stem", "layer1", "layer2", "layer3", "layer4", "pool"]
    assert [shape[1:4] for shape in found.values() if len(shape) == 5] == [
        (8, 16, 16),
        (8, 16, 16),
        (8, 8, 8),
        (4, 4, 4),
        (2, 2, 2),
    ]
    np.testing.assert_allclose(logits, head, rtol=1e-6)


def test_f_r2d_is_blind_to_the_order_of_frames_and_r2plus3d_is_not():
    video = clips()
    for name, blind in (("f_r2d_18", True), ("r2plus3d_18", False)):
        model = create(name)
        model.eval()
        parts = nnx.split(model)
        one, other = (outputs_and_statistics(*parts, v)[0]["logits"] for v in (video, video[:, ::-1]))
        assert np.allclose(one, other, rtol=1e-4, atol=1e-6) is blind


def test_aliases_are_one_network():
    assert models.ALIASES == {"r2plus3d_18": "rmc4_18", "r3plus2d_18": "mc4_18"}
    for alias, name in models.ALIASES.items():
        ours, theirs = models.flatten(create(alias)), models.flatten(create(name))
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours.keys() | theirs.keys())
    equal = {(a, b) for a in models.SPECS for b in models.SPECS if a < b and models.SPECS[a] == models.SPECS[b]}
    assert not equal


def test_initialisation_is_torchvisions_and_the_same_traced():
    flat = models.flatten(models.create("mc3_18", rngs=nnx.Rngs(3), width=16))
    for key, value in flat.items():
        if key.endswith("kernel") and value.ndim == 5 and value.size > 5000:
            fan_out = value.shape[-1] * np.prod(value.shape[:3])
            assert np.std(value) == pytest.approx((2 / fan_out) ** 0.5, rel=0.05), key
            assert abs(np.mean(value)) < 0.05 * np.std(value), key
        elif key.endswith(("scale", "var")):
            assert np.all(value == 1), key
        elif key.endswith(("bias", "mean")):
            assert np.all(value == 0), key
    assert np.std(flat["fc.kernel"]) == pytest.approx(0.01, rel=0.05)
    traced = nnx.jit(lambda: create("rmc5_18", seed=3))()
    for key, value in models.flatten(create("rmc5_18", seed=3)).items():
        np.testing.assert_allclose(models.flatten(traced)[key], value, atol=1e-6)


def test_assign_takes_all_or_says_everything_that_is_wrong():
    model = create("r3d_18")
    before = models.flatten(model)
    values = {key: value + 1 for key, value in before.items()}
    models.assign(model, values)
    assert all(np.array_equal(value, values[key]) for key, value in models.flatten(model).items())
    wrong = {**before, "fc.bias": np.zeros(6), "fc.extra": np.zeros(1)}
    del wrong["stem.0.kernel"]
    with pytest.raises(UserError, match=r"fc.bias has shape \(6,\), not \(5,\); fc.extra is unknown; stem.0.k"):
        models.assign(model, wrong)
    assert np.array_equal(models.flatten(model)["fc.bias"], values["fc.bias"])


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: create("r2plus1d18"), "r2plus1d_18"),
        (lambda: create("qqq"), "python -m r23d_jax.models"),
        (lambda: create("r3d_18", width=0), "width=0"),
        (lambda: create("r3d_18", dropout=1.0), "dropout=1.0"),
        (lambda: create("r3d_18", layers=(1, 1)), r"layers=\(1, 1\)"),
        (lambda: create("i3d", layers=ONE_BLOCK), "i3d"),
        (lambda: create("r3d_18")(clips()[0]), r"\(8, 32, 32, 3\)"),
        (lambda: create("r3d_18", in_channels=2)(clips()), "height, width, 2"),
        (lambda: create("r3d_18")(clips().astype(np.uint8)), "uint8"),
        (lambda: create("r2d_18", frames=16)(clips()), "create it with frames=8"),
    ],
)
def test_mistakes_are_told_with_the_numbers(call, message):
    with pytest.raises(UserError, match=message):
        call()


# --- dropout -----------------------------------------------------------------------------------------------


with_key = nnx.jit(lambda model, video, seed: model(video, rngs=nnx.Rngs(dropout=jax.random.key(seed))))
with_own_stream = nnx.jit(lambda model, video: model(video))


@pytest.mark.parametrize("name", ["r2plus3d_18", "resnet18_2d3d_full"])
def test_dropout_is_a_function_of_the_key_in_training_and_nothing_in_evaluation(name):
    model, plain, video = create(name, dropout=0.5), create(name), clips()
    for one in (model, plain):
        one.set_attributes(BatchNorm, frozen=True)
    first, same, other = (with_key(model, video, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, same) and not np.allclose(first, other)
    assert not np.allclose(with_own_stream(model, video), with_own_stream(model, video))
    whole = with_own_stream(plain, video)
    assert not np.allclose(first, whole)
    model.eval()  # the same weights as without dropout
    np.testing.assert_array_equal(with_key(model, video, 1), whole)


@pytest.mark.parametrize("name, everywhere", [("r2plus3d_18", True), ("resnet18_2d3d_full", False)])
def test_dropout_comes_after_every_block_or_before_the_head(name, everywhere):
    features = nnx.jit(lambda model, video: model.features(video, rngs=nnx.Rngs(0)))
    zeros = []
    for dropout in (0.0, 0.5):
        model = create(name, dropout=dropout)
        model.set_attributes(BatchNorm, frozen=True)
        found = features(model, clips())
        zeros.append([np.mean(np.asarray(found[f"layer{stage}"]) == 0) for stage in (1, 2, 3, 4)])
    assert np.all((np.subtract(zeros[1], zeros[0]) > 0.1) == everywhere)


# --- layers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset, dtype, tolerance", [(0, "float32", 1e-5), (1000, "float32", 1e-3)])
def test_batch_norm_is_robust_and_keeps_torchs_running_statistics(offset, dtype, tolerance):
    x = np.random.default_rng(0).standard_normal((4, 3, 5, 5, 6), dtype=dtype) + np.float32(offset)
    ours, theirs = BatchNorm(6, epsilon=1e-5), torch.nn.BatchNorm3d(6).double()
    assert_close(ours(x), theirs(to_torch(x).double()), "output", tolerance)
    np.testing.assert_allclose(ours.mean[...], theirs.running_mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.var[...], theirs.running_var, rtol=1e-4)


@pytest.mark.parametrize("offset", [0, 3, 30])
def test_statistics_in_one_pass_are_those_of_two(offset):
    """Of 16-bit values, whose own rounding costs more; of float32 ones there are two passes on every hardware."""
    wide = np.random.default_rng(0).standard_normal((4, 8, 9, 9, 6), dtype=np.float32) + offset
    for dtype, tolerance in (("bfloat16", 2e-4), ("float16", 2e-4), ("float32", 0)):
        x, norms, outputs = jnp.asarray(wide, dtype), [BatchNorm(6, epsilon=1e-5) for _ in range(2)], []
        for norm, statistics in zip(norms, ("two passes", "one pass"), strict=True):
            with hardware.use(hardware.Policy(statistics=statistics)):
                outputs.append(np.asarray(norm(x), np.float32))
        np.testing.assert_allclose(outputs[1], outputs[0], rtol=50 * tolerance, atol=50 * tolerance)
        np.testing.assert_allclose(norms[1].mean[...], norms[0].mean[...], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(norms[1].var[...], norms[0].var[...], rtol=tolerance)


def test_frozen_batch_norm_uses_and_keeps_its_statistics_in_training():
    x = clips()
    norm = BatchNorm(3, epsilon=1e-5)
    norm.mean[...] = norm.mean[...] + 1
    norm.set_attributes(frozen=True)
    norm.train()
    np.testing.assert_allclose(norm(x), (x - 1) / np.sqrt(1 + 1e-5), rtol=1e-5, atol=1e-6)
    assert np.all(norm.mean[...] == 1) and np.all(norm.var[...] == 1)


@pytest.mark.parametrize(
    "statistics, dtype, tolerance", [("two passes", "float32", 1e-4), ("one pass", "bfloat16", 0.02)]
)
def test_batch_norms_written_gradient_is_the_derived_one(statistics, dtype, tolerance):
    random = np.random.default_rng(0)
    x, dy = (jnp.asarray(random.standard_normal((3, 2, 4, 4, 5)), dtype) for _ in range(2))
    scale, bias = random.uniform(0.5, 2, 5).astype(np.float32), random.standard_normal(5, dtype=np.float32)

    def derived(x, scale, bias):
        x = x.astype(jnp.float32)
        mean, var = jnp.mean(x, (0, 1, 2, 3)), jnp.var(x, (0, 1, 2, 3))
        return jnp.sum(dy * ((x - mean) / jnp.sqrt(var + 1e-3) * scale + bias))

    def ours(x, scale, bias):
        norm = BatchNorm(5, epsilon=1e-3)
        norm.scale, norm.bias, norm.mean[...] = nnx.Param(scale), nnx.Param(bias), jnp.full(5, 0.5)
        with hardware.use(hardware.Policy(statistics=statistics)):
            return jnp.sum((dy * norm(x)).astype(jnp.float32))

    for one, other in zip(
        jax.grad(ours, (0, 1, 2))(x, scale, bias), jax.grad(derived, (0, 1, 2))(x, scale, bias), strict=True
    ):
        assert one.dtype == other.dtype
        one, other = (np.asarray(gradient, np.float32) for gradient in (one, other))
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("window, strides", [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2))])
def test_max_pool_equals_torchs(window, strides):
    video = clips(frames=5, size=9)
    x = to_torch(video).requires_grad_()
    y = torch.nn.functional.max_pool3d(x, window, strides, [size // 2 for size in window])
    y.square().sum().backward()
    padding = tuple((size // 2, size // 2) for size in window)
    pool = lambda x: max_pool(x, window, strides, padding)  # noqa: E731
    np.testing.assert_array_equal(pool(video), np.moveaxis(y.detach().numpy(), 1, -1))
    gradient = jax.grad(lambda x: jnp.sum(pool(x) ** 2))(video)
    np.testing.assert_allclose(gradient, np.moveaxis(x.grad.numpy(), 1, -1), rtol=1e-6)


# --- elsewhere ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("name", ["r2plus3d_18", "r2plus1d_18", "r2d_18"])
def test_forward_and_gradient_lower_for_hardware_that_is_not_here(platform, name):
    model = create(name, dropout=0.1, dtype=jnp.bfloat16)
    apply, (params, stats) = Functional(model), weights_of(model)

    def gradient(params, stats, video, key):
        def loss(params):
            logits, new = apply.train(params, stats, video, key)
            return -jnp.mean(jax.nn.log_softmax(logits)[:, 0]), new

        return jax.value_and_grad(loss, has_aux=True)(params)

    video, key = jax.ShapeDtypeStruct((2, 8, 32, 32, 3), jnp.float32), jax.random.key(0)
    with hardware.trace_for(platform):
        forward = jax.export.export(jax.jit(lambda *a: apply.eval(*a)), platforms=[platform])(params, stats, video)
        backward = jax.export.export(jax.jit(gradient), platforms=[platform])(params, stats, video, key)
    for exported in (forward, backward):
        assert exported.platforms == (platform,)
        text = exported.mlir_module()
        assert "[b, 0, 1, 2, f]" in text and "[b, 0, 1, f]" not in text  # every convolution is a native 3D one


def command(*arguments):
    run = [sys.executable, "-m", "r23d_jax.models", *arguments]
    return subprocess.run(run, capture_output=True, text=True, timeout=120)


def test_summary_command():
    done = command("--arch", "r2plus3d_18", "--frames", "8", "--width", "32", "--classes", "7")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    stages = [line[0] for line in lines[3:]]
    assert stages == ["stem", "layer1", "layer2", "layer3", "layer4", "pool", "fc", "total"]
    assert ["layer4", "2x7x7x256"] == lines[7][:2]
    wrong = command("--arch", "r2plus4d_18")
    assert wrong.returncode == 1 and wrong.stderr.startswith("error: no network is called 'r2plus4d_18': did")
    assert wrong.stderr.count("\n") == 1


def test_summary_lists_what_there_is(monkeypatch, capsys):
    from r23d_jax.models import __main__ as main

    names = ("i3d", "mc2_18", "r2d_18", "r2plus3d_18")
    monkeypatch.setitem(vars(models), "NAMES", names)
    monkeypatch.setattr(sys, "argv", ["models", "--frames", "8", "--size", "32", "--width", "8"])
    main.main()
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[2:]] == list(names)
    assert printed[-1] == f"{'r2plus3d_18':24} is rmc4_18"
