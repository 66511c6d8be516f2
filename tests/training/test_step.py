"""The training step: what each option does to one update, and that nothing else moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_step import CLASSES, batch, changed, network, plain, prepare, take_steps

from r23d_jax import models
from r23d_jax.errors import UserError
from r23d_jax.models.functional import Functional, weights_of
from r23d_jax.training import losses


def test_a_step_moves_everything_and_counts():
    before, after, metrics = take_steps()
    assert changed(before.params, after.params) == set(before.params) and int(after.step) == 1
    assert changed(before.stats, after.stats) == set(before.stats)
    assert metrics["loss"] == pytest.approx(np.log(CLASSES), abs=0.3) and metrics["lr"] == pytest.approx(0.1)


def test_the_loss_falls():
    *_, first = take_steps(count=1)
    *_, last = take_steps(count=30)
    assert last["loss"] < first["loss"] / 2 and last["accuracy"] == 1


def test_a_linear_probe_moves_the_head_alone():
    before, after, _ = take_steps("freeze_backbone=true", "freeze_batch_norm=true")
    assert changed(before.params, after.params) == {"fc.kernel", "fc.bias"}
    assert not changed(before.stats, after.stats)
    assert not any("stem" in jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(after.opt_state))


def test_frozen_batch_norm_keeps_its_statistics_and_learns_its_scale():
    before, after, _ = take_steps("freeze_batch_norm=true")
    assert not changed(before.stats, after.stats) and "stem.1.scale" in changed(before.params, after.params)


def test_layer_decay_scales_the_update_of_each_stage():
    _, whole, _ = take_steps()
    before, decayed, _ = take_steps("optimizer.layer_decay=0.5")
    for name, power in (("fc.kernel", 0), ("layer1.kernel", 1), ("stem.0.kernel", 2)):
        full = whole.params[name] - before.params[name]
        np.testing.assert_allclose(decayed.params[name] - before.params[name], full * 0.5**power, rtol=1e-3, atol=1e-7)


def test_accumulation_with_frozen_statistics_is_the_same_update():
    _, whole, one = take_steps("freeze_batch_norm=true")
    _, parts, four = take_steps("freeze_batch_norm=true", "accumulate=4")
    assert one["loss"] == pytest.approx(four["loss"], rel=1e-5) and one["accuracy"] == four["accuracy"]
    for name in whole.params:
        np.testing.assert_allclose(whole.params[name], parts.params[name], rtol=1e-4, atol=1e-6)


def test_rematerialisation_changes_nothing_but_rounding():
    _, plain_state, _ = take_steps()
    _, remat_state, _ = take_steps("remat=true")
    for name in plain_state.params:
        np.testing.assert_allclose(plain_state.params[name], remat_state.params[name], rtol=1e-4, atol=1e-5)


def test_ema_is_the_running_average_of_what_was_learned():
    before, after, _ = take_steps("ema=0.9")
    for name, value in {**after.params, **after.stats}.items():
        old = {**before.params, **before.stats}[name]
        np.testing.assert_allclose(after.ema[name], 0.9 * old + 0.1 * value, rtol=1e-6, atol=1e-7)
    assert after.evaluated() is after.ema


def test_clipping_bounds_the_update():
    before, after, metrics = take_steps("optimizer.clip_norm=0.01", "optimizer.momentum=0")
    norm = np.sqrt(sum(np.sum(np.square(after.params[k] - before.params[k])) for k in before.params))
    assert metrics["grad_norm"] > 0.01 and norm == pytest.approx(0.1 * 0.01, rel=1e-3)


@pytest.mark.parametrize("name", ["lion", "lamb", "rmsprop"])
def test_a_probe_learns_with_any_optimizer(name):
    before, after, _ = take_steps(f"optimizer.name={name}", "lr=0.01", "freeze_backbone=true", "ema=0.5", count=3)
    assert changed(before.params, after.params) == {"fc.kernel", "fc.bias"}
    assert all(np.isfinite(after.params[key]).all() for key in after.params)


def test_the_loss_is_the_one_that_the_config_names(monkeypatch):
    monkeypatch.setitem(losses.LOSSES, "squared", lambda logits, targets: ((logits - targets) ** 2).sum(-1))
    *_, metrics = take_steps("loss=squared", "label_smoothing=0.3")
    network_, (frames, targets) = Functional(network()), plain(None, batch()["frames"], None, batch()["label"])
    logits, _ = network_.train(*weights_of(network()), frames, jax.random.key(0))
    smooth = 0.7 * targets + 0.1
    assert metrics["loss"] == pytest.approx(float(((logits - smooth) ** 2).sum(-1).mean()), rel=1e-5)
    with pytest.raises(UserError, match="config.loss='focus': must be one of cross_entropy, squared"):
        prepare("loss=focus")


def test_dropout_is_a_function_of_seed_and_step():
    options = ("model.dropout=0.5",)
    _, a, _ = take_steps(*options)
    _, b, _ = take_steps(*options)
    _, c, _ = take_steps(*options, "seed=1")
    assert not changed(a.params, b.params) and changed(a.params, c.params)


def test_all_seeds_share_one_program():
    programs = []
    for seed in (0, 1):
        step, state = prepare("model.dropout=0.5", "accumulate=2", f"seed={seed}")
        programs.append(step.lower(state, batch()).as_text())
    assert programs[0] == programs[1]


def test_label_smoothing_raises_the_floor_of_the_loss():
    *_, sharp = take_steps()
    *_, smooth = take_steps("label_smoothing=0.2")
    assert sharp["loss"] != smooth["loss"]


def test_bfloat16_keeps_parameters_and_statistics_in_float32():
    _, after, metrics = take_steps("dtype=bfloat16")
    assert {v.dtype for v in {**after.params, **after.stats}.values()} == {jnp.float32.dtype}
    *_, full = take_steps()
    assert metrics["loss"].dtype == np.float32 and metrics["loss"] == pytest.approx(full["loss"], rel=0.05)


def test_weights_go_into_a_model_and_come_back():
    _, after, _ = take_steps()
    model = network()
    models.assign(model, {**after.params, **after.stats})
    params, stats = weights_of(model)
    assert not changed(params, after.params) and not changed(stats, after.stats)
