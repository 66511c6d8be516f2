"""Winograd's convolutions against the plain one: whole and in pieces, on several devices, and how exact they are."""

import os
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from paths import ROOT

from r23d_jax.models.ops import formulations, winograd

NONE = (0, 0)
ONCE = (1, 1, 1)
CASES = [
    # formulation, input, kernel, padding; positions a piece may have
    (winograd.spatial, (2, 4, 8, 8, 3), (1, 3, 3, 3, 5), (NONE, (1, 1), (1, 1)), 64),
    (winograd.spatial, (2, 4, 7, 9, 3), (1, 3, 3, 3, 5), (NONE, (0, 1), (2, 1)), 126),
    (winograd.spatial, (4, 2, 5, 6, 3), (1, 3, 3, 3, 5), (NONE, (1, 1), (1, 1)), 120),
    (winograd.spatial, (2, 6, 6, 5, 3), (3, 3, 3, 3, 5), ((1, 1), (1, 1), (1, 1)), 60),
    (winograd.spatial, (4, 2, 6, 5, 3), (3, 3, 3, 3, 5), ((1, 1), (1, 1), (1, 1)), 120),
    (winograd.spatial, (2, 7, 6, 5, 3), (2, 3, 3, 3, 5), ((0, 1), (0, 0), (2, 2)), 30),
    (winograd.temporal, (2, 8, 3, 4, 3), (3, 1, 1, 3, 5), ((1, 1), NONE, NONE), 48),
    (winograd.temporal, (4, 4, 3, 4, 3), (3, 1, 1, 3, 5), ((1, 1), NONE, NONE), 96),
    (winograd.temporal, (2, 11, 3, 4, 3), (3, 1, 1, 3, 5), ((0, 1), NONE, NONE), 48),
    (winograd.temporal, (2, 6, 3, 4, 3), (3, 1, 1, 3, 5), ((2, 2), NONE, NONE), 48),
]


def arrays(input_shape, kernel_shape, padding, dtype=np.float32):
    random = np.random.default_rng(0)
    x = random.standard_normal(input_shape).astype(dtype)
    kernel = random.standard_normal(kernel_shape).astype(dtype)
    shape = jax.eval_shape(lambda x, k: formulations.native(x, k, ONCE, padding), x, kernel).shape
    return x, kernel, random.standard_normal(shape).astype(dtype)


def forward_and_gradients(formulation, padding):
    def run(x, kernel, cotangent):
        y, vjp = jax.vjp(lambda x, k: formulation(x, k, ONCE, padding), x, kernel)
        return y, *vjp(cotangent)

    return run


def assert_close(ours, reference, tolerance):
    for one, other in zip(ours, reference, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize("formulation, input_shape, kernel_shape, padding, most", CASES)
def test_equals_the_plain_convolution(formulation, input_shape, kernel_shape, padding, most, cut, monkeypatch):
    # One device, as far as the formulation knows: only then are samples taken apart.
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    if cut:
        monkeypatch.setattr(winograd, "_PIECE", most)
    given = arrays(input_shape, kernel_shape, padding)
    run = jax.jit(forward_and_gradients(formulation, padding))
    assert ("while" in run.lower(*given).as_text()) == cut
    assert_close(run(*given), jax.jit(forward_and_gradients(formulations.native, padding))(*given), 1e-5)


def test_a_batch_over_devices_is_never_gathered():
    flags = "--xla_force_host_platform_device_count=2"
    environment = {
        **os.environ,
        "XLA_FLAGS": flags,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/helpers'}{os.pathsep}{ROOT / 'tests/models/ops'}",
    }
    command = [sys.executable, "-c", "import test_winograd; test_winograd.check_on_two_devices()"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def check_on_two_devices():
    assert jax.device_count() == 2
    mesh = Mesh(np.asarray(jax.devices()), ("data",))
    rows, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    for formulation, input_shape, kernel_shape, padding, most in (CASES[0], CASES[3], CASES[6]):
        winograd._PIECE = most
        given = arrays(input_shape, kernel_shape, padding)
        reference = jax.jit(forward_and_gradients(formulations.native, padding))(*given)
        given = [jax.device_put(x, s) for x, s in zip(given, (rows, everywhere, rows), strict=True)]
        run = jax.jit(forward_and_gradients(formulation, padding), out_shardings=(rows, rows, everywhere))
        compiled = run.lower(*given).compile()
        assert "while" in compiled.as_text() and "all-gather" not in compiled.as_text()
        assert_close(compiled(*given), reference, 1e-5)


@pytest.mark.parametrize("formulation, input_shape, kernel_shape, padding, most", [CASES[0], CASES[3], CASES[6]])
def test_the_batch_may_be_of_any_size_in_an_export(formulation, input_shape, kernel_shape, padding, most, monkeypatch):
    monkeypatch.setattr(winograd, "_PIECE", most)
    x, kernel, _ = arrays(input_shape, kernel_shape, padding)
    (batch,) = jax.export.symbolic_shape("batch")
    exported = jax.export.export(jax.jit(lambda x, k: formulation(x, k, ONCE, padding)))(
        jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype), kernel
    )
    for rows in (x, x[:1]):
        reference = formulations.native(rows, kernel, ONCE, padding)
        assert_close([exported.call(rows, kernel)], [reference], 1e-5)


def test_bfloat16_is_computed_in_float32():
    formulation, *shapes, padding, _ = CASES[0]
    given = [jnp.asarray(x, jnp.bfloat16) for x in arrays(*shapes, padding)]
    ours = jax.jit(forward_and_gradients(formulation, padding))(*given)
    wide = [x.astype(jnp.float32) for x in given]
    reference = jax.jit(forward_and_gradients(formulations.native, padding))(*wide)
    assert_close(ours, [x.astype(jnp.bfloat16) for x in reference], 2**-8)


def test_the_error_is_rounding_that_the_docstring_states():
    x, kernel, cotangent = arrays((1, 1, 24, 24, 256), (1, 3, 3, 256, 32), CASES[0][3])
    jax.config.update("jax_enable_x64", True)
    try:
        run = jax.jit(forward_and_gradients(formulations.native, CASES[0][3]))
        exact = [np.asarray(v) for v in run(*(jnp.asarray(v, jnp.float64) for v in (x, kernel, cotangent)))]
    finally:
        jax.config.update("jax_enable_x64", False)
    ours = jax.jit(forward_and_gradients(winograd.spatial, CASES[0][3]))(x, kernel, cotangent)
    assert all(v.dtype == np.float64 for v in exact)
    assert_close(ours, [v.astype(np.float32) for v in exact], 1e-5)


@pytest.mark.parametrize(
    "formulation, kernel_shape, strides, padding",
    [
        (winograd.spatial, (1, 3, 5, 3, 4), ONCE, ((0, 0), (1, 1), (1, 1))),
        (winograd.spatial, (1, 3, 3, 3, 4), (1, 2, 2), ((0, 0), (1, 1), (1, 1))),
        (winograd.spatial, (1, 3, 3, 3, 4), ONCE, ((0, 0), (3, 1), (1, 1))),
        (winograd.temporal, (3, 1, 1, 3, 4), ONCE, ((1, 1), (1, 1), (0, 0))),
    ],
)
def test_what_it_cannot_compute_is_refused(formulation, kernel_shape, strides, padding):
    with pytest.raises(ValueError, match="not for this formulation"):
        formulation(jnp.ones((1, 4, 8, 8, 3)), jnp.ones(kernel_shape), strides, padding)
