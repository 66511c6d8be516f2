"""float16: the loss scale changes no gradient, skips what overflows, and is resumed in its bits."""

import json
import os
import signal

import fake_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_step import batch, changed, prepare, take_steps

from r23d_jax import config as configs
from r23d_jax.errors import UserError
from r23d_jax.evaluation.evaluator import evaluate_checkpoint
from r23d_jax.runtime import precision
from r23d_jax.runtime.signals import Interrupted
from r23d_jax.training import loop, loss_scale
from r23d_jax.training.log import Log, read_metrics
from r23d_jax.training.state import flat, flat_rest, restore
from r23d_jax.training.window import Window
from r23d_jax.weights import checkpoint


def scaled(state, scale, finite=0):
    return state.replace(loss_scale={**loss_scale.initial(), "scale": jnp.float32(scale), "finite": jnp.int32(finite)})


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.parametrize("options", [(), ("accumulate=2", "optimizer.clip_norm=0.2", "ema=0.9", "model.dropout=0.2")])
def test_a_power_of_two_changes_no_bit_of_a_float32_update(options):
    step, before = prepare(*options)
    plain, expected = step(before, batch())
    after, metrics = step(scaled(before, 1), batch())
    assert metrics["grad_norm"] > 0.2  # it is clipped, where it is
    for scale in (2.0**-3, 2.0**5, loss_scale.INITIAL, loss_scale.LARGEST):
        other, found = step(scaled(before, scale), batch())
        assert same(other.replace(loss_scale={}), after.replace(loss_scale={}))
        assert found["loss_scale"] == scale and all(found[name] == metrics[name] for name in expected)
    for name, value in expected.items():  # another program, so equal up to rounding
        assert metrics[name] == pytest.approx(float(value), rel=1e-6)
    for name, value in plain.evaluated().items():
        np.testing.assert_allclose(after.evaluated()[name], value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("options", [(), ("accumulate=2", "optimizer.clip_norm=0.1", "ema=0.9")])
def test_an_overflow_skips_the_update_and_halves_the_scale(options):
    step, before = prepare("dtype=float16", "schedule.name=cosine", *options)
    high = scaled(before, 2.0**40, finite=5)
    after, metrics = step(high, batch())
    assert metrics["skipped"] == 1 and metrics["loss_scale"] == 2.0**39 and np.isfinite(metrics["loss"])
    assert jax.device_get(after.loss_scale) == {"scale": 2.0**39, "finite": 0, "skipped": 1}
    assert int(after.step) == 1 and same(after.replace(step=0, loss_scale={}), high.replace(step=0, loss_scale={}))
    while metrics["skipped"]:
        last, (after, metrics) = after, step(after, batch())
    assert 2.0**8 < metrics["loss_scale"] < 2.0**40 and int(after.loss_scale["finite"]) == 1
    assert changed(last.params, after.params) == set(before.params)
    # The optimizer's count stood still, so the first update has the first rate.
    assert metrics["lr"] == pytest.approx(0.1) and int(after.loss_scale["skipped"]) == int(last.step)


def test_a_loss_that_is_not_finite_skips_the_update_too():
    step, before = prepare("dtype=float16")
    broken = before.replace(params={**before.params, "fc.bias": before.params["fc.bias"].at[0].set(jnp.inf)})
    after, metrics = step(broken, batch())
    assert not np.isfinite(metrics["loss"]) and metrics["skipped"] == 1 and same(after.params, broken.params)


def test_the_scale_grows_after_so_many_finite_steps_in_a_row_and_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(loss_scale, "INTERVAL", 3)
    state, found = loss_scale.initial(), []
    for finite in (True, True, False, True, True, True, True, True, True):
        state = loss_scale.updated(state, jnp.asarray(finite))
        found.append(float(np.log2(state["scale"])))
    assert found == [16, 16, 15, 15, 15, 16, 16, 16, 17]
    state = {**state, "scale": jnp.float32(loss_scale.LARGEST), "finite": jnp.int32(2)}
    state = loss_scale.updated(state, jnp.asarray(True))
    assert state["scale"] == loss_scale.LARGEST and state["finite"] == 0


def test_float16_learns_what_float32_does_and_keeps_parameters_in_float32():
    *_, exact = take_steps(count=30)
    _, after, rounded = take_steps("dtype=float16", count=30)
    assert rounded["loss"] == pytest.approx(exact["loss"], rel=0.01) and rounded["accuracy"] == 1
    assert {x.dtype for x in {**after.params, **after.stats}.values()} == {jnp.float32.dtype}


def test_only_a_float16_run_has_a_scale_in_its_state_and_metrics():
    for dtype in ("float32", "bfloat16"):
        _, after, metrics = take_steps(f"dtype={dtype}")
        assert after.loss_scale == {} and set(metrics) == {"loss", "accuracy", "lr", "grad_norm"}
        assert not any("loss_scale" in name for name in flat(after))
    _, after, metrics = take_steps("dtype=float16")
    assert {"loss_scale", "skipped"} < set(metrics)
    assert sum("loss_scale" in name for name in flat_rest(after)) == 3
    back = restore(after, after.evaluated(), flat_rest(after))
    assert jax.tree.structure(back) == jax.tree.structure(after) and same(back, after)


# --- the log


def metrics_of(**changes):
    return {"loss": 2.0, "accuracy": 0.5, "lr": 0.1, "grad_norm": 1.0, "loss_scale": 8.0, "skipped": 0.0, **changes}


def test_a_skipped_step_is_no_failure_and_no_number_of_the_log(tmp_path):
    window, skipped = Window(tmp_path, 4, []), {"grad_norm": np.inf, "skipped": 1.0}
    log = Log(tmp_path, 10, 0)
    for step, steps in ((3, [{}, skipped, {"loss_scale": 4.0}]), (4, [{**skipped, "loss": np.nan}])):
        for changes in steps:
            window.append(metrics_of(**changes))
        window.fetch(step)
        log.write(step, 1.0, 1.0, window.means(1.0, 0.0))
    log.close()
    texts = (tmp_path / "metrics.jsonl").read_text().splitlines()
    lines = [json.loads(text, parse_constant=pytest.fail) for text in texts]
    assert lines[0]["grad_norm"] == 1 and lines[0]["loss_scale"] == 4 and lines[0]["skipped"] == pytest.approx(1 / 3)
    assert lines[1]["skipped"] == 1 and not {"loss", "grad_norm"} & set(lines[1])


def test_a_scale_below_one_ends_the_run_in_one_line(tmp_path):
    window = Window(tmp_path, 4, [])
    window.append(metrics_of(grad_norm=np.inf, skipped=1.0, loss_scale=1.0))
    window.append(metrics_of(grad_norm=np.inf, skipped=1.0, loss_scale=0.5))
    with pytest.raises(UserError, match="at step 7, in float16 even with a loss scale of 1: .*dtype=float32") as caught:
        window.fetch(7)
    assert "\n" not in str(caught.value)


def test_a_loss_that_stays_infinite_ends_the_run(tmp_path):
    step, state = prepare("dtype=float16", "lr=1e30")
    window = Window(tmp_path, 8, [])
    with pytest.raises(UserError, match="the loss is nan .*at step 18, in float16 even with a loss scale of 1"):
        for number in range(1, 30):  # the first update spoils the parameters, and 2**16 is halved 17 times
            state, metrics = step(state, batch())
            window.append(metrics)
            window.fetch(number)


# --- whole runs, on a data set made on the spot


@pytest.fixture
def t4(monkeypatch):
    monkeypatch.setattr(precision, "hardware", lambda: ("gpu", "7.5"))


def load(data, *overrides):
    return configs.load("demo", [*fake_data.RUN, f"dataset.data_dir={data}", "checkpoint.every_steps=5", *overrides])


def logged(workdir):
    timed = ("seconds", "clips_per_second", "data_wait")
    return [{k: v for k, v in line.items() if k not in timed} for line in read_metrics(workdir)]


def tensors(workdir):
    folder = checkpoint.find(workdir, "last")
    return {**checkpoint.restore_tensors(folder / "train"), **checkpoint.load_weights(folder)[0]}


class Stop(Exception):
    pass


def test_a_float16_run_is_near_float32_and_resumed_bit_for_bit(data, tmp_path, monkeypatch, t4):
    monkeypatch.setattr(loss_scale, "INITIAL", 2.0**22)  # the first steps overflow
    monkeypatch.setattr(loss_scale, "INTERVAL", 4)
    config = load(data, "dtype=float16")
    whole = loop.train_and_evaluate(config, tmp_path / "whole")
    assert logged(tmp_path / "whole")[0]["skipped"] > 0 and tensors(tmp_path / "whole")["loss_scale.skipped"] >= 1

    to_device = loop.to_device
    # With a skipped step that is not logged yet, then after a checkpoint.
    for count, how in ((2, Interrupted), (3, Stop)):
        with monkeypatch.context() as patch:

            def cut_off(batches, mesh, count=count, how=how):
                for number, rows in enumerate(to_device(batches, mesh)):
                    if number == count and how is Stop:
                        raise Stop
                    if number == count:
                        os.kill(os.getpid(), signal.SIGTERM)
                    yield rows

            patch.setattr(loop, "to_device", cut_off)
            with pytest.raises(how):
                loop.train_and_evaluate(config, tmp_path / "cut")
        if how is Interrupted:
            progress = json.loads((checkpoint.find(tmp_path / "cut", "last") / "progress.json").read_text())
            assert [np.isfinite(step["grad_norm"]) for step in progress["window"]] == [False]
    # On hardware that does better it goes on all the same: another dtype would be another run.
    monkeypatch.setattr(precision, "hardware", lambda: ("gpu", "8.0"))
    assert loop.train_and_evaluate(config, tmp_path / "cut") == whole
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")
    ours, theirs = tensors(tmp_path / "cut"), tensors(tmp_path / "whole")
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in theirs)

    exact = loop.train_and_evaluate(load(data), tmp_path / "exact")
    lines = logged(tmp_path / "exact")
    assert not {"loss_scale", "skipped"} & set(lines[-1])
    assert not any("loss_scale" in name for name in tensors(tmp_path / "exact"))
    assert logged(tmp_path / "whole")[-1]["loss"] == pytest.approx(lines[-1]["loss"], rel=0.2)
    assert whole["protocol"] == exact["protocol"].replace("float32", "float16")


def test_float16_is_refused_on_a_cpu_before_anything_is_written(data, tmp_path):
    config = load(data, "dtype=float16", "init_from=somewhere")
    for command in (loop.train_and_evaluate, lambda *rest: evaluate_checkpoint(*rest, which="init")):
        with pytest.raises(UserError, match="^dtype=float16: a CPU .*: set dtype=float32$"):
            command(config, tmp_path / "w")
    assert not (tmp_path / "w").exists()
