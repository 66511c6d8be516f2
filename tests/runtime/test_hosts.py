"""Several processes over loopback: place, agreement, failures and losses, and one result whatever their number."""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess

import fake_data
import numpy as np
import pytest
import several

from r23d_jax import config as configs
from r23d_jax.errors import UserError
from r23d_jax.runtime import hosts, launch
from r23d_jax.training import loop
from r23d_jax.training.log import read_metrics
from r23d_jax.weights import checkpoint

WORKER = ["tests/helpers/several_worker.py", "--do"]
SMALL = (*fake_data.RUN, "checkpoint.every_steps=5")  # those of test_loop.py: the programs are in the cache


# --- its place ------------------------------------------------------------------------------------------


def place(*arguments, **environment):
    parser = argparse.ArgumentParser()
    launch.add_flags(parser)
    return launch.place(parser.parse_args(arguments), environment)


def test_alone_where_nothing_speaks_of_others():
    assert place() is None
    assert place("--processes", "1", "--distributed", SLURM_STEP_NUM_TASKS="4") is None
    assert place(SLURM_JOB_ID="7", SLURM_NTASKS="4") is None  # a batch script that starts one process
    assert place(SLURM_STEP_NUM_TASKS="1", SLURM_STEP_NODELIST="n1") is None
    assert place(TPU_WORKER_HOSTNAMES="localhost", KUBERNETES_SERVICE_HOST="10.0.0.1") is None


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NODELIST": "n[1-4]"},
        {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1"},
        {"TPU_WORKER_HOSTNAMES": "a,b"},
        {"TPU_PROCESS_ADDRESSES": "a:1,b:1"},
        {"MEGASCALE_COORDINATOR_ADDRESS": "a:1"},
    ],
)
def test_launchers_are_found_by_what_they_say(environment):
    assert place(**environment) == (None, None, None)  # JAX finds the rest


def test_flags_win_over_the_environment():
    said = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}
    assert place(**said) == ("a:1", 2, 1)
    assert place("--coordinator", "b:2", "--process", "0", **said) == ("b:2", 2, 0)
    assert place("--distributed") == (None, None, None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--coordinator", "a:1"), "--processes and --process: missing"),
        (("--coordinator", "a:1", "--processes", "2", "--process", "2"), "--process 2: must be from 0 to 1"),
        (("--coordinator", "a", "--processes", "2", "--process", "1"), "must be HOST:PORT"),
        (("--heartbeat", "0"), "at least 1 second"),
    ],
)
def test_a_place_that_cannot_be_is_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        place(*arguments)
    with pytest.raises(UserError, match="JAX_NUM_PROCESSES=two"):
        place(JAX_NUM_PROCESSES="two")


# --- agreement and failures -----------------------------------------------------------------------------


def own_words(process):
    """What a process says itself: JAX prints its own lines, by C++, with a letter and the date before them."""
    lines = process.stderr.splitlines()
    return [line for line in lines if line.startswith(("error: ", "interrupted: "))]


def named_by_jax(process):
    """The processes that JAX names when it ends this one."""
    found = re.search(r"tasks are unhealthy \(stopped sending heartbeats\):\n((?:\d+\n)+)", process.stderr)
    if found:
        return [int(number) for number in found[1].split()]
    assert "leader task was preempted/died" in process.stderr, process.stderr
    return [0]


def test_two_processes_agree_and_the_one_that_differs_is_named(tmp_path):
    started = several.start([*WORKER, "agree", "--workdir", tmp_path / "w"], 2, different={1: ["--lr", "0.2"]})
    done = several.finish(started)
    for process in done:
        (words,) = own_words(process)
        assert process.returncode == 1 and words.startswith("error: process 1 (")
        assert "config.lr: '0.2', not '0.1'" in words
        votes = json.loads(process.stdout.splitlines()[-1])
        assert votes == [[False, False], [True, False], [False, False], [False, True], [False, False]]


@pytest.mark.slow
def test_different_numbers_of_devices_are_refused():
    for process in several.finish(several.start([*WORKER, "crash"], 2, different={1: ["--devices", "2"]})):
        (words,) = own_words(process)
        assert process.returncode == 1 and "[1, 2] devices" in words


@pytest.mark.parametrize(
    ("fact", "theirs", "words"),
    [
        ("config.lr", 0.06, "config.lr: 0.06, not 0.05"),
        ("fingerprint", "f00d", "fingerprint: 'f00d', not 'beef'"),
        ("step", 10, "step: 10, not 20"),
        ("state", "2" * 12, "state: '222222222222', not '111111111111'"),
        ("surplus", None, "surplus"),
    ],
)
def test_the_start_asks_for_config_data_set_step_and_weights(monkeypatch, fact, theirs, words):
    facts = {"config.lr": 0.05, "fingerprint": "beef", "step": 20, "state": "1" * 12, "surplus": 1}
    others = [facts, facts]

    def gather(value):
        return [[f"host{number}", {**value[1], **other}] for number, other in enumerate([value[1], *others])]

    monkeypatch.setattr(hosts, "_several", lambda: True)
    monkeypatch.setattr(hosts, "_gather", gather)
    hosts.assert_equal(facts)
    others[1] = {**facts, fact: theirs}
    with pytest.raises(UserError, match=rf"process 2 \(host2\) differs from process 0 \(host0\) in {words}"):
        hosts.assert_equal(facts)


@pytest.mark.slow
@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_of_one_is_told_by_it_and_ends_the_others(failing, monkeypatch):
    monkeypatch.setenv("R23D_TEST_ONE", str(failing))
    done = several.finish(several.start([*WORKER, "fail"], 2, heartbeat=10))
    assert done[failing].returncode == 1 and own_words(done[failing]) == ["error: shard 7 is damaged"]
    other = done[1 - failing]
    assert other.returncode == -signal.SIGABRT and named_by_jax(other) == [failing]


@pytest.mark.slow
def test_a_signal_to_one_that_has_not_begun_is_told_by_it_and_ends_the_others(monkeypatch):
    monkeypatch.setenv("R23D_TEST_ONE", "1")
    first, second = several.finish(several.start([*WORKER, "stop"], 2, heartbeat=10))
    reason = "interrupted: there was nothing new to save; the same command continues"
    assert second.returncode == 75 and own_words(second) == [reason]
    assert first.returncode == -signal.SIGABRT and named_by_jax(first) == [1]


@pytest.mark.slow
def test_a_signal_to_all_that_have_not_begun_ends_each_with_the_status_of_an_interruption(monkeypatch):
    monkeypatch.setenv("R23D_TEST_ONE", "all")
    for process in several.finish(several.start([*WORKER, "stop"], 3)):
        assert process.returncode == 75 and len(own_words(process)) == 1


@pytest.mark.slow
def test_a_failure_of_all_is_told_by_each():
    for process in several.finish(several.start([*WORKER, "crash"], 2)):
        assert process.returncode == 1 and own_words(process) == ["error: the loss is nan at step 5"]


@pytest.mark.slow
@pytest.mark.parametrize("doing", ["die", "die_in_a_step"])
@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_is_lost_ends_the_others_with_its_name(lost, doing, monkeypatch):
    monkeypatch.setenv("R23D_TEST_ONE", str(lost))
    done = several.finish(several.start([*WORKER, doing], 3, heartbeat=10))
    assert done[lost].returncode == -signal.SIGKILL
    for number, process in enumerate(done):
        if number != lost:
            assert process.returncode == -signal.SIGABRT and named_by_jax(process) == [lost]
    assert re.search(r"^processes: 0 on \S+, 1 on \S+, 2 on \S+$", done[0].stderr, re.MULTILINE)


@pytest.mark.slow
def test_waiting_for_one_that_hangs_ends(monkeypatch):
    monkeypatch.setenv("R23D_TEST_ONE", "1")
    done = several.finish(several.start([*WORKER, "hang"], 2))
    assert own_words(done[0]) == [
        'error: not all processes came to "the end of a step" within 3 s; look for the one that hangs'
    ]
    assert done[0].returncode == 1 and done[1].returncode == -signal.SIGABRT


@pytest.mark.slow
def test_waiting_for_those_that_never_come_ends():
    for number in (0, 1):
        (done,) = several.finish(several.start([*WORKER, "crash", "--join-timeout", "5"], 2, only=[number]))
        assert done.returncode == -signal.SIGABRT and "DEADLINE_EXCEEDED" in done.stderr
        assert re.match(r"--coordinator 127.0.0.1:\d+: waiting up to 5 s for all processes", done.stderr)


# --- training -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("alone") / "w"
    config = configs.load("demo", [*SMALL, f"dataset.data_dir={data}"])
    return workdir, loop.train_and_evaluate(config, workdir)


def command(data, workdir, *overrides):
    keys = [f"--config.{o}" for o in (*SMALL, f"dataset.data_dir={data}", *overrides)]
    return ["-m", "r23d_jax.main", "--config", "demo", "--workdir", workdir, *keys]


def run(data, workdir, processes, *overrides, devices=1):
    done = several.finish(several.start(command(data, workdir, *overrides), processes, devices=devices))
    assert [process.returncode for process in done] == [0] * processes, [process.stderr for process in done]
    return done


def assert_same_run(workdir, other, bits=False):
    """Same counts, same steps; parameters, losses and predictions alike to rounding."""
    ours, theirs = (checkpoint.load_weights(checkpoint.find(w, "last"))[0] for w in (workdir, other))
    rtol, atol = (0, 0) if bits else (2e-3, 2e-4)
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=rtol, atol=atol, err_msg=name)
    ours, theirs = ({x["step"]: x["loss"] for x in read_metrics(w) if "loss" in x} for w in (workdir, other))
    assert ours.keys() == theirs.keys()
    np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=0 if bits else 1e-3)
    with np.load(workdir / "predictions.npz") as ours, np.load(other / "predictions.npz") as theirs:
        for name in ("names", "labels", "clips"):
            np.testing.assert_array_equal(ours[name], theirs[name])
        np.testing.assert_allclose(ours["scores"], theirs["scores"], rtol=0 if bits else 1e-2, atol=0 if bits else 1e-4)
    ours, theirs = (json.loads((w / "results.json").read_text()) for w in (workdir, other))
    assert ours["videos_evaluated"] == ours["videos_expected"] == theirs["videos_evaluated"]


def test_two_processes_train_what_one_does(data, alone, tmp_path):
    first, second = run(data, tmp_path / "w", 2)
    assert_same_run(tmp_path / "w", alone[0])
    assert "results.json" in first.stdout and "results.json" not in second.stdout
    assert json.loads((tmp_path / "w" / "config.json").read_text())["environment"]["processes"] == 2


@pytest.mark.slow
def test_four_processes_of_two_devices_train_what_one_does(data, alone, tmp_path):
    run(data, tmp_path / "w", 4, devices=2)
    assert_same_run(tmp_path / "w", alone[0])


@pytest.mark.slow
def test_a_process_killed_in_training_ends_the_others_and_the_restart_continues(data, tmp_path):
    run(data, tmp_path / "whole", 2)
    for lost in (1, 0):
        started = several.start(command(data, tmp_path / "w"), 2, heartbeat=15)
        several.wait_for(lambda lost=lost: several.reached(tmp_path / "w", 6 if lost else 10), started)
        started[lost].kill()
        other = several.finish(started)[1 - lost]
        assert other.returncode == -signal.SIGABRT and named_by_jax(other) == [lost]
    run(data, tmp_path / "w", 2)
    assert_same_run(tmp_path / "w", tmp_path / "whole", bits=True)


@pytest.mark.slow
def test_a_signal_to_one_stops_all_at_one_step(data, alone, tmp_path):
    started = several.start(command(data, tmp_path / "w", "steps=2000"), 2)
    several.wait_for(lambda: several.reached(tmp_path / "w", 4), started)
    started[1].send_signal(signal.SIGTERM)
    done = several.finish(started)
    assert [process.returncode for process in done] == [75, 75]
    said = [[line for line in process.stderr.splitlines() if "saved at step" in line] for process in done]
    assert said[0] == said[1] and len(said[0]) == 1


@pytest.mark.slow
def test_a_signal_to_one_stops_all_in_an_evaluation_and_the_restart_makes_it_up(data, tmp_path):
    views = ("eval.every_epochs=1", "eval.views=40")  # long enough to be met by a signal
    run(data, tmp_path / "whole", 2, *views)
    for number in (signal.SIGTERM, signal.SIGKILL):
        started = several.start(command(data, tmp_path / "w", *views), 2, heartbeat=15)
        step = 3 if number == signal.SIGTERM else 9  # after each of which an evaluation is due
        several.wait_for(lambda step=step: (tmp_path / "w" / "checkpoints" / f"{step:08d}").is_dir(), started)
        started[1].send_signal(number)
        done = several.finish(started)
        assert done[0].returncode == (75 if number == signal.SIGTERM else -signal.SIGABRT), done[0].stderr
        assert step not in checkpoint.read_scores(tmp_path / "w" / "checkpoints"), "the evaluation was over"
        if number == signal.SIGTERM:
            assert f"interrupted: saved at step {step} of 12" in done[1].stderr and done[1].returncode == 75
    run(data, tmp_path / "w", 2, *views)
    assert_same_run(tmp_path / "w", tmp_path / "whole", bits=True)
    scores = [(w / "checkpoints" / "scores.json").read_text() for w in (tmp_path / "w", tmp_path / "whole")]
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_processes_with_other_data_or_another_step_are_told(data, alone, tmp_path):
    fake_data.write(tmp_path, classes=3, groups=12, frames=10, height=24, width=28, seed=5)
    other = ["--config.dataset.data_dir", tmp_path]
    for process in several.finish(several.start(command(data, tmp_path / "w"), 2, different={1: other})):
        assert process.returncode == 1 and "differs from process 0" in process.stderr, process.stderr
        assert "in fingerprint: '" in process.stderr
    for name in "ab":
        shutil.copytree(alone[0], tmp_path / name)
    shutil.rmtree(checkpoint.find(tmp_path / "b", "last"))
    older = ["--workdir", tmp_path / "b"]
    for process in several.finish(several.start(command(data, tmp_path / "a"), 2, different={1: older})):
        assert process.returncode == 1 and "differs from process 0" in process.stderr, process.stderr
        assert "in step: 10, not 12" in process.stderr


@pytest.mark.slow
def test_a_workdir_that_is_not_shared_is_noticed(data, tmp_path):
    started = several.start(command(data, tmp_path / "w"), 2, different={1: ["--workdir", tmp_path / "other"]})
    for process in several.finish(started):
        assert process.returncode == 1 and "is not the folder that process 0" in process.stderr


@pytest.mark.slow
def test_evaluating_on_four_processes_gives_the_same_predictions(data, alone, tmp_path):
    several_run = tmp_path / "w"
    os.symlink(alone[0] / "checkpoints", several_run.mkdir() or several_run / "checkpoints")
    done = several.finish(several.start([*command(data, several_run), "--mode", "eval"], 4))
    assert [process.returncode for process in done] == [0] * 4, [process.stderr for process in done]
    with np.load(several_run / "predictions.npz") as ours, np.load(alone[0] / "predictions.npz") as theirs:
        for name in ("names", "labels", "clips"):
            np.testing.assert_array_equal(ours[name], theirs[name])
        np.testing.assert_allclose(ours["scores"], theirs["scores"], rtol=1e-4, atol=1e-6)


# --- other hardware -------------------------------------------------------------------------------------


def moved(data, workdir, before, after):
    """A run that begins on some hardware and ends on other; each is (processes, devices)."""
    run(data, workdir, before[0], "budget_minutes=0", "checkpoint.keep=9", devices=before[1])
    for step in checkpoint.checkpoint_steps(workdir / "checkpoints"):
        if step > 5:
            subprocess.run(["rm", "-r", workdir / "checkpoints" / f"{step:08d}"], check=True)
    (workdir / "checkpoints" / "scores.json").unlink()
    (workdir / "results.json").unlink()
    done = run(data, workdir, after[0], devices=after[1])
    assert "resuming at step 5 of 12" in done[0].stderr


def test_a_checkpoint_of_two_devices_continues_on_one(data, alone, tmp_path):
    moved(data, tmp_path / "w", (1, 2), (1, 1))
    assert_same_run(tmp_path / "w", alone[0])


@pytest.mark.slow
@pytest.mark.parametrize("after", [(1, 1), (1, 4), (2, 1), (2, 2)])
def test_a_checkpoint_of_eight_devices_continues_elsewhere(data, alone, tmp_path, after):
    moved(data, tmp_path / "w", (1, 8), after)
    assert_same_run(tmp_path / "w", alone[0])


@pytest.mark.slow
def test_a_checkpoint_of_two_processes_continues_in_one(data, alone, tmp_path):
    moved(data, tmp_path / "w", (2, 1), (1, 1))
    assert_same_run(tmp_path / "w", alone[0])
