"""Channels of zeros within (2+1)D convolutions: nothing but speed may depend on them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from r23d_jax import models
from r23d_jax.models.functional import Functional, weights_of
from r23d_jax.models.layers import BatchNorm, Conv
from r23d_jax.models.ops import hardware
from r23d_jax.models.summary import summarize

NATIVE = hardware.Policy()
PADDED = dataclasses.replace(NATIVE, multiples={"float32": 16, "bfloat16": 16})
NETWORKS = (
    "r2plus1d_18",
    pytest.param("r2plus1d_50", marks=pytest.mark.slow),
    pytest.param("hara_r2plus1d_18", marks=pytest.mark.slow),
)


def network(name, dtype="float32"):
    options = {"width": 12, "layers": (1, 1, 1, 1), "num_classes": 5, "dtype": jnp.dtype(dtype)}
    model = models.create(name, rngs=nnx.Rngs(0), **options)
    rng = np.random.default_rng(0)
    params, stats = weights_of(model)
    params = {path: jnp.asarray(value + 0.1 * rng.standard_normal(value.shape)) for path, value in params.items()}
    return Functional(model), params, stats


def video(size=32):
    return np.random.default_rng(1).standard_normal((2, 8, size, size, 3), np.float32)


def training(network, params, stats, clips):
    def loss(params):
        logits, new = network.train(params, stats, clips, jax.random.key(0))
        return jnp.sum(logits * jnp.arange(5)), (logits, new)

    (_, (logits, new)), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    return {"logits": logits, **new, **gradients}


def channels(function, *arguments):
    """Numbers of output channels of all convolutions."""
    jaxpr = jax.make_jaxpr(function)(*arguments)
    convolutions = (one for one in jaxpr.eqns if one.primitive.name == "conv_general_dilated")
    return [one.outvars[0].aval.shape[-1] for one in convolutions]


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = float(jnp.abs(value).max()) or 1
        assert found[name].shape == value.shape
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-4 * scale, err_msg=name)


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_gradients_and_statistics_are_those_without(name):
    function, params, stats = network(name)
    clips = video(64 if name.startswith("hara") else 32)  # a smaller one leaves BatchNorm two values, and no digits

    def everything(clips):
        return training(function, params, stats, clips) | function.features(params, stats, clips)

    found, widths = [], []
    for policy in (NATIVE, PADDED):
        with hardware.use(policy):
            found.append(jax.jit(lambda clips: everything(clips))(clips))
            widths.append(channels(lambda clips: function.eval(params, stats, clips), clips))
    assert widths[0] != widths[1]
    assert all(new in (old, -(-old // 16) * 16) for old, new in zip(*widths, strict=True))
    assert_equal(found[1], found[0])


def test_parameters_and_costs_are_those_without():
    with hardware.use(NATIVE):
        _, params, stats = network("r2plus1d_18")
        cost = summarize("r2plus1d_18", frames=8, size=32)
    with hardware.use(PADDED):
        _, params_padded, stats_padded = network("r2plus1d_18")
        assert summarize("r2plus1d_18", frames=8, size=32) == cost
    shapes = jax.tree.map(jnp.shape, (params, stats))
    assert jax.tree.map(jnp.shape, (params_padded, stats_padded)) == shapes


@pytest.mark.parametrize("statistics, dtype", [("one pass", jnp.bfloat16), ("two passes", jnp.float32)])
@pytest.mark.parametrize("train", [True, False])
def test_channels_of_zeros_stay_zeros(statistics, dtype, train):
    conv = Conv(3, 5, (1, 3, 3), inner=True, dtype=dtype, rngs=nnx.Rngs(0))
    norm = BatchNorm(5, epsilon=1e-5)
    norm.bias[...], norm.use_running_average = jnp.full(5, 2.0), not train
    with hardware.use(dataclasses.replace(PADDED, statistics=statistics)):
        y = norm(conv(video()))
    assert y.dtype == dtype and y.shape[-1] == 16 and not np.any(y[..., 5:]) and np.all(np.isfinite(y))
    assert norm.mean.shape == norm.var.shape == (5,)


def test_other_numbers_of_channels_are_errors():
    conv, norm = Conv(5, 5, (1, 1, 1), dtype=jnp.float32, rngs=nnx.Rngs(0)), BatchNorm(5, epsilon=1e-5)
    with hardware.use(PADDED):
        for layer in (conv, norm):
            with pytest.raises((TypeError, ValueError)):
                layer(jnp.ones((1, 2, 2, 2, 8)))
