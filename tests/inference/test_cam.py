"""Class activation maps: they add up to the logit, and lie where the network looked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from r23d_jax import models
from r23d_jax.errors import UserError
from r23d_jax.inference import cam
from r23d_jax.models.functional import Functional, weights_of
from r23d_jax.models.layers import Conv


def create(arch, frames=8, width=4, **options):
    layers = None if arch == "i3d" else (1, 1, 1, 1)
    model = models.create(arch, num_classes=5, rngs=nnx.Rngs(0), frames=frames, width=width, layers=layers, **options)
    model.eval()
    model.fc.bias[...] = jnp.arange(5.0)
    return model


def video(frames=8, size=32, batch=2, channels=3):
    return np.random.default_rng(0).normal(size=(batch, frames, size, size, channels)).astype(np.float32)


@pytest.mark.parametrize(
    "arch, frames, channels",
    [
        ("r2plus3d_18", 8, 3),
        ("r2d_18", 8, 2),
        ("resnet18_2d3d_full", 8, 3),
        pytest.param("i3d", 24, 3, marks=pytest.mark.slow),
    ],
)
def test_the_mean_of_a_map_plus_the_bias_is_the_logit(arch, frames, channels):
    model, clips = create(arch, frames, in_channels=channels), video(frames, channels=channels)
    logits = np.asarray(jax.jit(Functional(model).eval)(*weights_of(model), clips))
    seen = cam.ActivationMapper(model)(clips)
    np.testing.assert_allclose(seen.logits, logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(seen.weights.sum(), 1, rtol=1e-4)
    classes = np.array([[0, 4], [1, 2]])
    maps = seen.maps(classes)
    assert maps.shape == (2, 2, *seen.features.shape[1:4]) and maps.dtype == np.float32
    sums = np.einsum("bkthw,t->bk", maps, seen.weights) / np.prod(maps.shape[-2:]) + seen.bias[classes]
    np.testing.assert_allclose(sums, np.take_along_axis(logits, classes, axis=1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(seen.maps(classes[:, 0]), maps[:, 0], rtol=1e-4, atol=1e-4)


def test_the_share_of_a_time_step_is_read_off_the_average():
    features = np.random.default_rng(0).random((2, 4, 3, 3, 16)).astype(np.float32)
    rows = features.mean(axis=(2, 3))
    np.testing.assert_array_equal(cam.time_weights(features, rows.mean(axis=1)), np.full(4, 0.25, np.float32))
    windows = (rows[:, :-1] + rows[:, 1:]) / 2  # I3D's: the inner steps are in two of them
    np.testing.assert_allclose(cam.time_weights(features, windows.mean(axis=1)), np.array([1, 2, 2, 1]) / 6, rtol=1e-4)


def test_relative_maps_say_nothing_for_what_all_classes_share():
    features = np.random.default_rng(0).normal(size=(1, 2, 3, 3, 4)).astype(np.float32)
    kernel = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    seen = cam.Activation(np.zeros((1, 6)), features, np.full(2, 0.5), kernel, np.zeros(6))
    every = seen.maps(np.arange(6)[None], relative=True)
    np.testing.assert_allclose(every.sum(axis=1), 0, atol=1e-5)
    shifted = cam.Activation(np.zeros((1, 6)), features, np.full(2, 0.5), kernel + 7, np.zeros(6))
    np.testing.assert_allclose(shifted.maps(np.array([2]), relative=True), every[:, 2], atol=1e-4)


def test_positions_of_a_map_lie_where_its_receptive_fields_are_centred():
    model = create("r2plus3d_18", width=1)
    for _, module in nnx.iter_graph(model):
        if isinstance(module, Conv):
            module.kernel[...] = jnp.full_like(module.kernel[...], 1e-2)

    def at(clip, place):
        last = model.features(clip[None])["layer4"]
        return last[(0, *place)].sum()

    clip, place = jnp.ones((24, 160, 160, 3)), (3, 5, 5)
    gradient = np.asarray(jax.jit(jax.grad(at), static_argnums=1)(clip, place)).sum(-1)
    centre = [np.average(axis, weights=gradient) for axis in np.indices(gradient.shape)]
    single = np.zeros((6, 10, 10), np.float32)
    single[place] = 1
    drawn = cam.upsample(single, 24, 160, 160)
    np.testing.assert_allclose(centre, np.unravel_index(drawn.argmax(), drawn.shape), atol=0.01)
    assert drawn.max() == 1


@pytest.mark.parametrize(
    "positions, size", [((2, 4, 4), (8, 56, 56)), ((1, 7, 11), (16, 112, 171)), ((8, 2, 2), (8, 9, 9))]
)
def test_upsampling_keeps_the_range_and_a_constant(positions, size):
    assert np.all(cam.upsample(np.full(positions, 3.0), *size) == 3)
    maps = np.random.default_rng(0).normal(size=(2, *positions))
    drawn = cam.upsample(maps, *size)
    assert drawn.shape == (2, *size) and drawn.dtype == np.float32
    assert maps.min() - 1e-6 <= drawn.min() and drawn.max() <= maps.max() + 1e-6


def test_an_offset_moves_the_map():
    single = np.zeros((1, 2, 2), np.float32)
    single[0, 1, 0] = 1
    drawn = cam.upsample(single, 1, 64, 64, offset=(0, 23, 23))
    assert np.argmax(drawn[0, :, 0]) == 32 + 23


def test_evidence_against_a_class_is_not_shown_and_maps_share_a_scale():
    maps = np.array([[-4.0, 2.0], [1.0, 0.5]])
    np.testing.assert_array_equal(cam.normalise(maps), [[0, 1], [0.5, 0.25]])
    np.testing.assert_array_equal(cam.normalise(maps, axes=(1,)), [[0, 1], [1, 0.5]])
    assert not cam.normalise(-np.ones((2, 2))).any()


def test_no_heat_is_grey_and_the_most_is_light_yellow():
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    heat = np.zeros((2, 4, 5), np.float32)
    heat[0, 1, 2] = 1
    drawn = cam.overlay(frames, heat)
    assert drawn.shape == frames.shape and drawn.dtype == np.uint8
    red, green, blue = drawn[0, 1, 2]
    assert red > 170 and green > 170 and blue < green
    assert np.ptp(drawn[1], axis=-1).max() == 0


def test_a_network_without_a_linear_head_is_refused():
    with pytest.raises(UserError, match="linear head"):
        cam.ActivationMapper(nnx.BatchNorm(3, rngs=nnx.Rngs(0)))
