"""Faults of the machine: a full disk, a workdir that cannot be written, kills, signals, damaged files at random."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys

import fake_data
import numpy as np
import pytest
import several
from paths import ROOT

from r23d_jax import main, models
from r23d_jax.errors import UserError
from r23d_jax.experiments import single
from r23d_jax.runtime.signals import EXIT_STATUS
from r23d_jax.training import log as log_files
from r23d_jax.training.checkpoints import Checkpoints
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights import checkpoint
from r23d_jax.weights.card import Card

CARD = Card(models.NAMES[0], {"num_classes": 1}, ("a",), Preprocessing(resize=None, crop=16, frames=4))


@pytest.fixture
def file_limit():
    """Files cannot grow beyond a size, as on a full disk, though the error is another one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save(checkpoints, step):
    weights = {f"w{i}": np.random.default_rng(step).normal(size=(100, 200)).astype(np.float32) for i in range(2)}
    checkpoints.save(step, weights, {"step": np.int32(step)}, CARD, {})
    checkpoints.wait()


# Orbax leaves coroutines behind where a file cannot be written, and Python cannot close them after their loop.
@pytest.mark.filterwarnings("ignore:Exception ignored in. None:pytest.PytestUnraisableExceptionWarning")
def test_a_checkpoint_that_does_not_fit_harms_nothing(tmp_path, file_limit):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    file_limit(50_000)
    with pytest.raises(UserError, match=r"checkpoint could not be written \(\[Errno 27\] File too large.*are whole"):
        save(checkpoints, 2)
    file_limit(1 << 30)
    assert os.listdir(tmp_path / "checkpoints") == ["00000001"]
    save(checkpoints, 3)
    assert Checkpoints(tmp_path).resume()[1]["step"] == 3


def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    with pytest.raises(UserError, match="No space left on device: 1.2 MB are needed, 1.0 MB are free"):
        save(checkpoints, 2)
    assert Checkpoints(tmp_path).resume()[1]["step"] == 1


def test_a_log_that_cannot_be_written_ends_in_one_line_and_no_wait(tmp_path, file_limit):
    log = log_files.Log(tmp_path, 1000, 0)
    file_limit(4000)
    with pytest.raises(UserError, match=r"(metrics.jsonl): cannot be written \(.*File too large\)"):
        for step in range(1000):
            log.write(step, 0.0, 0.0, {"loss": 1.0, "accuracy": 0.5})
    log.close()
    file_limit(1 << 30)
    kept = log_files.read_metrics(tmp_path)
    assert 20 < len(kept) < 100 and [line["step"] for line in kept] == list(range(len(kept)))


def test_a_damaged_line_of_the_log_is_named_and_keeps_no_run_from_going_on(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n\0\0\0\n{"step": 3}\n7\n\xff\n{"step": 6}\n{"ste')
    with pytest.raises(UserError, match="metrics.jsonl: line 2 is damaged"):
        log_files.read_metrics(tmp_path)
    log_files.Log(tmp_path, 10, 5).close()
    assert "metrics.jsonl: damaged and left out: line 2, 4, 5" in capsys.readouterr().err
    assert log_files.read_metrics(tmp_path) == [{"step": 1}, {"step": 3}]


def test_events_are_read_back(tmp_path):
    from tensorboardX.proto import event_pb2

    log = log_files.Log(tmp_path, 10, 4)
    log.write(5, 0.5, 1.0, {"loss": 0.25})
    log.close()
    (path,) = tmp_path.glob("events.out.tfevents.*")
    data, found = path.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        found.append(event_pb2.Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    assert found[0].file_version == "brain.Event:2"
    assert found[1].step == 5 and found[1].session_log.status == event_pb2.SessionLog.START
    assert found[2].step == 5 and found[2].summary.value[0].tag == "loss"
    assert found[2].summary.value[0].simple_value == 0.25


# --- whole runs -----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, too small for two checkpoints."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2300k", "tmpfs", folder], capture_output=True, text=True)
    assert done.returncode == 0, f"this test mounts a small file system, as root: {done.stderr}"
    yield folder
    subprocess.run(["umount", folder], check=True)


def command(data, workdir, *overrides):
    keys = (
        *fake_data.TINY,
        "steps=8",
        "log_every=2",
        "checkpoint.every_steps=2",
        "checkpoint.keep=9",
        "dataset.name=tfds_ucf101",
        f"dataset.data_dir={data}",
        *overrides,
    )
    start = [sys.executable, "-m", "r23d_jax.main", "--config", "demo", "--workdir", str(workdir)]
    return [*start, *[f"--config.{key}" for key in keys]]


def train(data, workdir, *overrides):
    return subprocess.run(command(data, workdir, *overrides), cwd=ROOT, capture_output=True, text=True)


def test_a_signal_saves_and_leaves_with_a_status_of_its_own(data, tmp_path):
    steps = []
    for number in (signal.SIGINT, signal.SIGTERM):
        arguments = command(data, tmp_path / "w", "steps=100000", "log_every=1", "checkpoint.every_steps=100000")
        process = subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        several.wait_for(lambda: several.reached(tmp_path / "w", max(steps, default=0) + 3), [process])
        process.send_signal(number)
        said = process.communicate(timeout=600)[1].splitlines()
        assert process.returncode == EXIT_STATUS, said
        assert not steps or f"resuming at step {steps[-1]} of 100000 (init_from is not read again)" in said
        steps.append(int(re.fullmatch(r"interrupted: saved at step (\d+) of 100000; .* continues", said[-1])[1]))
        assert checkpoint.find(tmp_path / "w", "last").name == f"{steps[-1]:08d}"
    assert steps[1] > steps[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_signal_where_nothing_is_to_be_saved_has_the_same_status(tmp_path, monkeypatch, capsys, number, mode):
    def signalled(*_, **__):
        os.kill(os.getpid(), number)
        raise AssertionError("it went on")

    monkeypatch.setattr(single, "train", signalled)
    monkeypatch.setattr(single, "evaluate", signalled)
    monkeypatch.setattr(sys, "argv", ["main", "--config", "demo", "--workdir", str(tmp_path), "--mode", mode])
    before = signal.getsignal(number)
    assert main.main() == EXIT_STATUS and signal.getsignal(number) is before
    assert capsys.readouterr().err == "interrupted: there was nothing new to save; the same command continues\n"


@pytest.mark.slow
def test_a_run_on_a_full_disk_ends_in_one_line_and_continues_elsewhere(data, tmp_path, small_disk):
    done = train(data, small_disk / "w")
    assert done.returncode == 1 and done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr, done.stderr
    assert "No space left on device" in done.stderr.splitlines()[-1]
    shutil.copytree(small_disk / "w", tmp_path / "w")
    done = train(data, tmp_path / "w")
    assert done.returncode == 0 and "resuming at step" in done.stderr, done.stderr


@pytest.mark.slow
def test_a_workdir_that_cannot_be_written_is_one_line(data, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = train(data, small_disk / "w")
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ") and str(small_disk / "w") in done.stderr


@pytest.mark.parametrize("kills", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_kills_at_random_moments_change_nothing(data, tmp_path, kills):
    command = [sys.executable, "benchmarks/kill.py", "--kills", kills, "--steps", 18, "--data_dir", data]
    command += ["--name", "tfds_ucf101/rgb", "--json", tmp_path / "found.json"]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["kills"] == kills and found["differences"] == [] and found["checkpoints_lost"] == []


# --- damaged at random ----------------------------------------------------------------------------------


def fuzz(cases, only):
    command = [sys.executable, "tests/helpers/fuzz.py", "--cases", str(cases), "--only", only]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_data_sets_damaged_at_random_are_refused_or_read_right():
    found = fuzz(40, "records,index")
    assert found["cases"] == 40 and found["records: refused"] > 3 and found["index: refused"] > 3


@pytest.mark.slow
def test_files_damaged_at_random_are_refused_or_read_right():
    found = fuzz(1000, "records,index,checkpoint,weights,cards,results")
    assert found["cases"] == 1000 and min(found["checkpoint: refused"], found["results: refused"]) > 50
