"""Schedules at their named points, and masks that reach every parameter of every network."""

import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from r23d_jax import config as configs
from r23d_jax.errors import UserError
from r23d_jax.training import optim


def load(*overrides):
    return configs.load("r23d", overrides)


def test_the_studys_cosine_ends_at_a_fifth():
    schedule = optim.schedule(load("lr=0.03"), 1000, 10)
    assert float(schedule(0)) == pytest.approx(0.03)
    assert float(schedule(500)) == pytest.approx(0.03 * math.cos(math.pi * 7 / 32))
    assert float(schedule(1000)) == pytest.approx(0.03 * math.cos(math.pi * 7 / 16)) == pytest.approx(0.00585, abs=1e-5)


def test_cosine_with_warmup_goes_from_zero_to_the_rate_to_zero():
    schedule = optim.schedule(load("schedule.name=cosine", "schedule.warmup_epochs=2", "lr=1"), 100, 10)
    assert [round(float(schedule(s)), 4) for s in (0, 10, 20, 60, 100)] == [0.0, 0.5, 1.0, 0.5, 0.0]


def test_steps_fall_at_their_shares():
    schedule = optim.schedule(load("schedule.name=step", "lr=1", "schedule.milestones=(0.5,0.75)"), 100, 10)
    assert [round(float(schedule(s)), 4) for s in (0, 49, 50, 74, 75, 100)] == [1, 1, 0.1, 0.1, 0.01, 0.01]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("name=linear", "arguments.end_value=0.2"), [1, 0.8, 0.6, 0.4, 0.2]),  # optax.linear_schedule
        (("name=exponential_decay", "arguments.decay_rate=0.01"), [1, 0.3162, 0.1, 0.0316, 0.01]),
        (("name=polynomial_schedule", "arguments.end_value=0", "arguments.power=2"), [1, 0.5625, 0.25, 0.0625, 0]),
        (
            ("name=exponential_decay", "arguments.decay_rate=0.1", "arguments.transition_steps=25"),
            [1, 0.1, 0.01, 0.001, 0],
        ),
        (("name=warmup_cosine_decay", "warmup_epochs=5"), [0, 0.5, 1, 0.5, 0]),
        (("name=linear", "arguments.end_value=0", "warmup_epochs=5"), [0, 0.5, 1, 0.5, 0]),
        (("name=cosine", "arguments.alpha=0.5"), [1, 0.9268, 0.75, 0.5732, 0.5]),
    ],
)
def test_any_schedule_of_optax_over_the_run(overrides, expected):
    schedule = optim.schedule(load("lr=1", *(f"schedule.{key}" for key in overrides)), 100, 10)
    assert [float(schedule(step)) for step in (0, 25, 50, 75, 100)] == pytest.approx(expected, abs=2e-4)


def test_the_rate_follows_the_batch_when_it_is_stated_per_batch():
    assert optim.effective_lr(load("lr=0.01", "lr_batch=32", "batch_size=128")) == pytest.approx(0.04)


NAMES = ("stem.0.kernel", "stem.1.scale", "stem.1.bias", "layer1.0.conv1.0.kernel", "fc.kernel", "fc.bias")


def test_decay_reaches_kernels_and_what_the_config_adds():
    assert [k for k, v in optim.decay_mask(load(), NAMES).items() if v] == [
        "fc.kernel",
        "layer1.0.conv1.0.kernel",
        "stem.0.kernel",
    ]
    everything = load("optimizer.decay_norm=true", "optimizer.decay_bias=true")
    assert all(optim.decay_mask(everything, NAMES).values())


def test_an_unknown_parameter_cannot_slip_past_the_masks():
    with pytest.raises(ValueError, match="layer1.gamma"):
        optim.decay_mask(load(), [*NAMES, "layer1.gamma"])
    with pytest.raises(ValueError, match="layer7.kernel"):
        optim.lr_factors(load(), ["layer7.kernel"], ("stem", "layer1", "fc"))


def test_layer_decay_and_frozen_backbone():
    stages = ("stem", "layer1", "fc")
    factors = optim.lr_factors(load("optimizer.layer_decay=0.5"), NAMES, stages)
    assert factors["fc.bias"] == 1 and factors["layer1.0.conv1.0.kernel"] == 0.5 and factors["stem.1.scale"] == 0.25
    frozen = optim.lr_factors(load("freeze_backbone=true"), NAMES, stages)
    assert {name for name, factor in frozen.items() if factor} == {"fc.kernel", "fc.bias"}


@pytest.mark.parametrize(
    "overrides, reference",
    [
        (("optimizer.weight_decay=0.01",), lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.01, nesterov=True)),
        (("optimizer.name=adamw", "optimizer.weight_decay=0.01"), lambda p: torch.optim.AdamW(p, 0.1)),
    ],
    ids=["sgd", "adamw"],
)
def test_the_optimizers_are_pytorchs(overrides, reference):
    config = load("lr=0.1", "schedule.name=constant", *overrides)
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 2)).astype(np.float32)
    theirs = torch.nn.Parameter(torch.tensor(start))
    optimizer = reference([theirs])
    ours = {"fc.kernel": jnp.asarray(start)}
    tx = optim.create(config, optim.schedule(config, 10, 1), {"fc.kernel": 1.0})
    state = tx.init(ours)
    for _ in range(5):
        grad = rng.normal(size=(3, 2)).astype(np.float32)
        theirs.grad = torch.tensor(grad)
        optimizer.step()
        updates, state = tx.update({"fc.kernel": jnp.asarray(grad)}, state, ours)
        ours = {"fc.kernel": ours["fc.kernel"] + updates["fc.kernel"]}
    np.testing.assert_allclose(ours["fc.kernel"], theirs.detach().numpy(), rtol=1e-4, atol=1e-5)


def step_with(tx, params, gradients, count=3):
    state = tx.init(params)
    for _ in range(count):
        updates, state = tx.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("lion", lambda mask: optax.lion(0.1, b1=0.95, weight_decay=0.2, mask=mask)),
        ("lamb", lambda mask: optax.lamb(0.1, b1=0.95, weight_decay=0.2, mask=mask)),
        ("adam", lambda mask: optax.chain(optax.add_decayed_weights(0.2, mask), optax.adam(0.1, b1=0.95))),
        ("novograd", lambda mask: optax.chain(optax.add_decayed_weights(0.2, mask), optax.novograd(0.1, b1=0.95))),
    ],
)
def test_any_optimizer_of_optax_by_its_name_with_decay_mask_clipping_and_rates(name, theirs):
    options = ("weight_decay=0.2", "clip_norm=0.5", "layer_decay=0.5", "arguments.b1=0.95")
    config = load("lr=0.1", "schedule.name=constant", *(f"optimizer.{key}" for key in (f"name={name}", *options)))
    rng = np.random.default_rng(0)
    params = {key: jnp.asarray(rng.normal(size=(3, 2)), jnp.float32) for key in NAMES}
    gradients = {key: jnp.asarray(rng.normal(size=(3, 2)), jnp.float32) for key in NAMES}
    factors = optim.lr_factors(config, NAMES, ("stem", "layer1", "fc"))
    ours = step_with(optim.create(config, optim.schedule(config, 10, 1), factors), params, gradients)
    mask = {key: key.endswith("kernel") for key in NAMES}
    scale = optax.stateless(lambda updates, _: {key: factors[key] * update for key, update in updates.items()})
    expected = step_with(optax.chain(optax.clip_by_global_norm(0.5), theirs(mask), scale), params, gradients)
    for key in NAMES:
        np.testing.assert_allclose(ours[key], expected[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("optimizer.name=lino",), ("config.optimizer.name='lino'", "lion")),
        (("optimizer.name=lbfgs",), ("config.optimizer.name='lbfgs'", "cannot be used")),
        (("optimizer.name=noisy_sgd",), ("config.optimizer.name='noisy_sgd'", "random key")),
        (("optimizer.name=lion", "optimizer.arguments.beta1=0.9"), ("config.optimizer.arguments.beta1", "b1")),
        (("optimizer.name=lion", "optimizer.arguments.b1=big"), ("config.optimizer.name='lion'", "'b1': 'big'")),
        (("optimizer.arguments.decay=0.9",), ("config.optimizer.arguments.decay", "another key")),
        (("schedule.name=cosinus",), ("config.schedule.name='cosinus'", "cosine")),
        (("schedule.name=linear",), ("config.schedule.name='linear'", "config.schedule.arguments.end_value")),
        (("schedule.name=constant", "schedule.arguments.x=1"), ("config.schedule.arguments.x", "constant")),
    ],
)
def test_what_optax_does_not_have_is_one_line(overrides, words):
    config = load(*overrides)
    with pytest.raises(UserError) as error:
        optim.create(config, optim.schedule(config, 10, 1), {"fc.kernel": 1.0})
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)
