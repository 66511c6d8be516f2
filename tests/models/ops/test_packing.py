"""Convolutions of pairs of frames are the convolutions of frames."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from r23d_jax import models
from r23d_jax.models.functional import Functional, weights_of
from r23d_jax.models.layers import BatchNorm
from r23d_jax.models.ops import convolution, formulations, hardware, packing

KERNELS = [(3, 3, 3), (1, 3, 3), (3, 1, 1), (1, 1, 1), (3, 7, 7), (5, 1, 1), (7, 3, 3)]
# Strides, and whether the output is of pairs too, which a stride over time rules out.
FORMS = [((1, 1, 1), True), ((1, 2, 2), True)]
FORMS += [(strides, False) for strides in ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 1, 1))]


def test_unpack_undoes_pack_and_the_first_frame_of_a_pair_has_the_first_channels():
    x = jnp.arange(2 * 6 * 2 * 2 * 3.0).reshape(2, 6, 2, 2, 3)
    packed = packing.pack(x)
    np.testing.assert_array_equal(packed[:, 1, ..., :3], x[:, 2])
    np.testing.assert_array_equal(packed[:, 1, ..., 3:], x[:, 3])
    np.testing.assert_array_equal(packing.unpack(packed), x)


@pytest.mark.parametrize("size", KERNELS)
@pytest.mark.parametrize("strides, packed", FORMS)
def test_of_pairs_equals_native_forward_and_gradients(size, strides, packed):
    random = np.random.default_rng(0)
    x = random.standard_normal((2, 8, 9, 9, 3), dtype=np.float32)
    kernel = random.standard_normal((*size, 3, 4), dtype=np.float32)
    padding = tuple((taps // 2, taps // 2) for taps in size)

    def native(x, kernel):
        return formulations.native(x, kernel, strides, padding)

    def of_pairs(x, kernel):
        y = packing.convolve(packing.pack(x), kernel, strides, padding, packed)
        return packing.unpack(y) if packed else y

    for function in (native, of_pairs):
        y, vjp = jax.vjp(function, x, kernel)
        results = [y, *vjp(np.cos(np.arange(y.size, dtype=np.float32)).reshape(y.shape))]
        if function is native:
            reference = results
    for one, other in zip(results, reference, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=2e-5 * float(jnp.abs(other).max()))


@pytest.mark.parametrize("arch", ["r2plus1d_18", "r2plus3d_18", "r3d_50"])
def test_networks_compute_the_same_on_pairs(arch):
    model = models.create(arch, 5, rngs=nnx.Rngs(0), width=4, layers=(1, 1, 1, 1), frames=8)
    network = Functional(model)
    params, stats = weights_of(model)
    video = np.random.default_rng(0).standard_normal((2, 8, 16, 16, 3), dtype=np.float32)

    def run(params):
        def loss(params):
            logits, new = network.train(params, stats, video, jax.random.key(0))
            return jnp.sum(jnp.sin(logits)), (logits, new)

        return jax.grad(loss, has_aux=True)(params), network.features(params, stats, video)

    usual = jax.jit(run)(params)
    with hardware.use(dataclasses.replace(hardware.policy(), lanes=128)):
        pairs = jax.jit(lambda params: run(params))(params)
    for one, other in zip(jax.tree.leaves(pairs), jax.tree.leaves(usual), strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=1e-3 * float(jnp.abs(other).max()))


def test_batch_norm_of_pairs_in_one_pass_is_that_of_frames():
    random = np.random.default_rng(0)
    x, dy = (jnp.asarray(random.standard_normal((2, 4, 3, 3, 6)) + 1, "bfloat16") for _ in range(2))

    def compute(x):
        norm = BatchNorm(6, epsilon=1e-3)
        return norm(x), (norm.mean[...], norm.var[...])

    def run(x, dy):
        with hardware.use(hardware.Policy(statistics="one pass", lanes=128)):
            y, vjp, statistics = jax.vjp(compute, x, has_aux=True)
            return (y, *vjp(dy)), statistics

    expected, of_frames = run(x, dy)
    found, of_pairs = run(packing.pack(x), packing.pack(dy))
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype == jnp.bfloat16
        one, other = (np.asarray(values, np.float32) for values in (packing.unpack(one), other))
        np.testing.assert_allclose(one, other, rtol=0.02, atol=0.02)
    np.testing.assert_allclose(of_pairs, of_frames, rtol=1e-5)


POLICIES = {  # without their options, which are of their compilers
    name: dataclasses.replace(hardware.policy_of(hardware.Hardware(*where)), options={})
    for name, where in {"TPU": ("tpu",), "Hopper": ("gpu", (9, 0))}.items()
}


def gradients(dtype, policy, remat=False):
    """Gradients and new statistics of a small R(2+1)D-18, computed by a policy."""
    model = models.create(
        "r2plus1d_18", 5, rngs=nnx.Rngs(0), width=12, layers=(1, 1, 1, 1), frames=8, dtype=jnp.dtype(dtype)
    )
    network = Functional(model)
    params, stats = weights_of(model)
    video = np.random.default_rng(0).standard_normal((4, 8, 24, 24, 3), dtype=np.float32)
    train = network.train
    if remat:
        train = jax.checkpoint(train, policy=jax.checkpoint_policies.save_only_these_names(convolution.NAME))

    def loss(params):
        logits, new = train(params, stats, video, jax.random.key(0))
        return jnp.sum(jnp.sin(logits.astype(jnp.float32))), new

    with hardware.use(policy):
        return jax.jit(jax.grad(loss, has_aux=True))(params)


def assert_near(found, expected, tolerance):
    for name, one in found.items():
        assert one.dtype == expected[name].dtype == jnp.float32
        error = float(jnp.linalg.norm((one - expected[name]).ravel()) / jnp.linalg.norm(expected[name].ravel()))
        assert error <= tolerance, name


@pytest.mark.parametrize("name", POLICIES)
def test_a_whole_policy_gives_the_networks_gradients_and_statistics(name):
    found, expected = gradients("float32", POLICIES[name]), gradients("float32", hardware.Policy())
    for one, other in zip(found, expected, strict=True):
        assert_near(one, other, 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
def test_in_bfloat16_it_is_as_near_to_float32_as_the_plain_way(name):
    exact, plain, found, again = (
        gradients("float32", hardware.Policy())[0],
        gradients("bfloat16", hardware.Policy())[0],
        *(gradients("bfloat16", POLICIES[name], remat)[0] for remat in (False, True)),
    )

    def distance(gradients):
        return sum(float(jnp.sum((one - exact[name]) ** 2)) for name, one in gradients.items())

    assert 0 < max(distance(found), distance(again)) <= 1.5 * distance(plain)


def test_an_odd_number_of_frames_is_computed_one_by_one():
    model = models.create("r3d_18", 5, rngs=nnx.Rngs(0), width=8, layers=(1, 1, 1, 1))
    model.eval()
    video = np.random.default_rng(0).standard_normal((1, 7, 16, 16, 3), dtype=np.float32)
    with hardware.use(hardware.Policy(lanes=128)):
        pairs = model(video)
    np.testing.assert_allclose(pairs, model(video), rtol=1e-5, atol=1e-6)
