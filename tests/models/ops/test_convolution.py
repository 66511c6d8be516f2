"""Every formulation against the plain convolution, forward and both gradients."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r23d_jax.models.ops import formulations, hardware
from r23d_jax.models.ops.convolution import convolve

SAME3 = ((1, 1), (1, 1), (1, 1))
CASES = [
    # formulation, input [B, T, H, W, I], kernel [kt, kh, kw, I, O], strides, padding
    ("pointwise", (2, 3, 4, 5, 4), (1, 1, 1, 4, 6), (1, 1, 1), ((0, 0),) * 3),
    ("pointwise", (2, 5, 5, 4, 4), (1, 1, 1, 4, 6), (2, 2, 2), ((0, 0),) * 3),
    ("pointwise", (2, 5, 5, 4, 4), (1, 1, 1, 4, 6), (1, 2, 2), ((0, 0),) * 3),
    ("folded", (2, 4, 7, 6, 3), (1, 3, 3, 3, 5), (1, 1, 1), ((0, 0), (1, 1), (1, 1))),
    ("folded", (2, 4, 9, 8, 3), (1, 7, 7, 3, 5), (1, 2, 2), ((0, 0), (3, 3), (3, 3))),
    ("folded", (2, 5, 8, 8, 3), (1, 3, 3, 3, 5), (2, 2, 2), ((0, 0), (0, 1), (0, 1))),
    ("temporal", (2, 6, 4, 3, 5), (3, 1, 1, 5, 4), (1, 1, 1), ((1, 1), (0, 0), (0, 0))),
    ("temporal", (2, 7, 4, 3, 5), (7, 1, 1, 5, 4), (1, 2, 2), ((2, 3), (0, 0), (0, 0))),
    ("shifted", (2, 7, 4, 3, 5), (3, 1, 1, 5, 4), (2, 1, 1), ((1, 1), (0, 0), (0, 0))),
    ("shifted", (2, 8, 4, 4, 5), (7, 1, 1, 5, 4), (2, 2, 2), ((2, 3), (0, 0), (0, 0))),
    ("shifted", (2, 2, 2, 2, 8), (3, 1, 1, 8, 256), (1, 1, 1), ((1, 1), (0, 0), (0, 0))),
    ("shifted", (2, 4, 5, 6, 16), (3, 3, 3, 16, 96), (1, 1, 1), SAME3),
    ("shifted", (2, 5, 6, 6, 16), (3, 3, 3, 16, 8), (2, 2, 2), SAME3),
    ("shifted", (2, 1, 4, 4, 16), (3, 3, 3, 16, 8), (2, 2, 2), SAME3),
    ("shifted", (2, 4, 7, 7, 16), (3, 3, 3, 16, 96), (1, 2, 2), ((0, 1), (0, 1), (1, 0))),
    ("stacked_inputs", (2, 4, 9, 9, 3), (3, 7, 7, 3, 4), (1, 2, 2), ((1, 1), (3, 3), (3, 3))),
    ("stacked_inputs", (2, 7, 9, 9, 2), (7, 7, 7, 2, 4), (2, 2, 2), ((2, 3), (2, 3), (2, 3))),
    ("stacked_inputs", (2, 4, 8, 8, 3), (4, 7, 7, 3, 4), (1, 2, 2), ((0, 0), (3, 3), (3, 3))),
    ("stacked_outputs", (2, 4, 5, 6, 16), (3, 3, 3, 16, 8), (1, 1, 1), SAME3),
    ("stacked_outputs", (2, 1, 5, 6, 16), (3, 3, 3, 16, 8), (1, 2, 2), SAME3),
    ("folded", (1, 2, 7, 8, 32), (1, 3, 3, 32, 8), (1, 2, 2), ((0, 0), (1, 1), (1, 1))),
    ("folded", (1, 2, 9, 7, 32), (1, 5, 3, 32, 8), (1, 3, 2), ((0, 0), (2, 1), (0, 1))),
    ("folded", (1, 2, 7, 7, 32), (1, 1, 3, 32, 8), (1, 2, 1), ((0, 0), (0, 0), (1, 1))),
    ("winograd.spatial", (1, 2, 20, 21, 32), (1, 3, 3, 32, 40), (1, 1, 1), ((0, 0), (1, 1), (1, 1))),
    ("winograd.spatial", (1, 3, 20, 20, 32), (3, 3, 3, 32, 32), (1, 1, 1), SAME3),
    ("winograd.temporal", (1, 8, 3, 4, 32), (3, 1, 1, 32, 40), (1, 1, 1), ((1, 1), (0, 0), (0, 0))),
    # Too few channels, too small an image, frames that tiles of four do not fill.
    ("folded", (1, 2, 20, 21, 32), (1, 3, 3, 32, 24), (1, 1, 1), ((0, 0), (1, 1), (1, 1))),
    ("folded", (1, 2, 20, 19, 32), (1, 3, 3, 32, 32), (1, 1, 1), ((0, 0), (1, 1), (1, 1))),
    ("temporal", (1, 10, 3, 4, 32), (3, 1, 1, 32, 40), (1, 1, 1), ((1, 1), (0, 0), (0, 0))),
]
# Formulations that take any kernel also agree where they are not the chosen one.
ANYWHERE = [
    (name, *case[1:])
    for name in ("shifted", "stacked_inputs", "stacked_outputs")
    for case in (CASES[3], CASES[6], CASES[9], CASES[11], CASES[12], CASES[16])
    if case[0] != name
] + [("temporal", *case[1:]) for case in CASES[8:11]]


def formulation(name):
    return operator.attrgetter(name)(formulations)


@pytest.mark.parametrize("name, input_shape, kernel_shape, strides, padding", CASES)
def test_the_case_table_holds_what_is_chosen_on_cpu(name, input_shape, kernel_shape, strides, padding):
    assert formulations.fast_on_cpu(input_shape, kernel_shape, strides, padding) is formulation(name)


@pytest.mark.parametrize("name, input_shape, kernel_shape, strides, padding", CASES + ANYWHERE)
def test_formulation_equals_native_forward_and_gradients(name, input_shape, kernel_shape, strides, padding):
    random = np.random.default_rng(0)
    x = random.standard_normal(input_shape, dtype=np.float32)
    kernel = random.standard_normal(kernel_shape, dtype=np.float32)
    shape = jax.eval_shape(lambda x, k: formulations.native(x, k, strides, padding), x, kernel).shape
    cotangent = random.standard_normal(shape, dtype=np.float32)

    def run(function):
        def forward_and_gradients(x, kernel, cotangent):
            y, vjp = jax.vjp(lambda x, k: function(x, k, strides, padding), x, kernel)
            return y, *vjp(cotangent)

        return jax.jit(forward_and_gradients)(x, kernel, cotangent)

    ours, reference = run(formulation(name)), run(formulations.native)
    for ours_one, reference_one in zip(ours, reference, strict=True):
        assert ours_one.shape == reference_one.shape
        scale = float(jnp.abs(reference_one).max())
        np.testing.assert_allclose(ours_one, reference_one, atol=1e-5 * scale)


def test_trace_for_changes_the_traced_formulation_and_is_undone():
    x, kernel = jnp.ones((1, 2, 4, 4, 16)), jnp.ones((3, 3, 3, 16, 4))

    def ranks():
        jaxpr = jax.make_jaxpr(lambda x, k: convolve(x, k, (1, 1, 1), SAME3))(x, kernel)
        return {
            len(equation.outvars[0].aval.shape)
            for equation in jaxpr.eqns
            if equation.primitive.name == "conv_general_dilated"
        }

    with hardware.trace_for("cpu"):
        assert ranks() == {4}
    with hardware.trace_for("tpu"):
        assert ranks() == {5}
    assert ranks() == ({4} if jax.default_backend() == "cpu" else {5})


def test_quick_compilation_avoids_winograd():
    layer = (1, 2, 20, 20, 32), (1, 3, 3, 32, 32), (1, 1, 1), ((0, 0), (1, 1), (1, 1))
    with formulations.quick_compilation():
        assert formulations.fast_on_cpu(*layer) is formulations.folded
    assert formulations.fast_on_cpu(*layer) is formulations.winograd.spatial


@pytest.mark.parametrize("lanes", [0, 128])
def test_unrounded_gradients_of_kernels(lanes):
    """Output and input's gradient are those of rounded values, the kernel's gradient is what they give in float32."""
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((2, 4, 6, 6, 16 if lanes else 8)), jnp.bfloat16)
    kernel = jnp.asarray(random.standard_normal((3, 3, 3, 8, 8)), jnp.float32)

    def run(x, kernel, unrounded):
        def loss(x, kernel):
            with hardware.use(hardware.Policy(lanes=lanes, unrounded_gradients=unrounded)):
                y = convolve(x, kernel, (1, 1, 1), SAME3)
            return jnp.sum(y * (jnp.arange(y.size) % 7 - 3).reshape(y.shape).astype(y.dtype)), y

        (dx, dkernel), y = jax.grad(loss, argnums=(0, 1), has_aux=True)(x, kernel)
        assert dkernel.dtype == jnp.float32 and y.dtype == dx.dtype == x.dtype
        return y, dx, dkernel

    y, dx, dkernel = run(x, kernel, True)
    y_rounded, dx_rounded, dkernel_rounded = run(x, kernel, False)
    np.testing.assert_array_equal(y, y_rounded)
    np.testing.assert_array_equal(dx, dx_rounded)
    exact = run(x.astype(jnp.float32), kernel.astype(jnp.bfloat16).astype(jnp.float32), False)[2]
    error, rounded = (float(jnp.abs(one - exact).max() / jnp.abs(exact).max()) for one in (dkernel, dkernel_rounded))
    assert error < 1e-5 < 1e-3 < rounded
