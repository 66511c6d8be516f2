"""Schedules at their named points, and masks that reach every parameter of every network."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from r23d_jax import config as configs
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
