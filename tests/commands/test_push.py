"""`r23d push`: what goes to the Hub comes back bit for bit, and names nothing of this machine."""

import json
import os
import subprocess
import sys

import fake_hub
import fake_run
import fake_videos
import numpy as np
import pytest
from paths import ROOT

from r23d_jax import push
from r23d_jax.weights import checkpoint, repository


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run of two checkpoints, of which the first is the best and the last has the results."""
    folder = tmp_path_factory.mktemp("push") / "run"
    lines = fake_run.log_lines(lines=20)
    found = fake_run.predictions(fake_videos.LABELS, per_class=4)
    fake_run.write(folder, found, lines, data_dir=folder / "data", init=str(folder / "start"))
    for step, seed in ((100, 1), (200, 2)):
        path = fake_videos.write_checkpoint(
            folder / "checkpoints" / f"{step:08d}", seed=seed, file="/home/me/start.pth"
        )
        assert path.is_dir()
    checkpoint.write_scores(folder / "checkpoints", {100: 0.9, 200: 0.8})
    return folder


def run_push(server, home, *arguments, **more):
    """Status, stdout and stderr of the command as a process of its own, in which no warning passes."""
    changed = server.environment(home, R23D_CACHE=str(home / "cache"), **more)
    environment = {k: v for k, v in {**os.environ, **changed}.items() if v is not None}
    code = "import sys; from r23d_jax import cli; sys.argv[0] = 'r23d'; cli.run()"
    command = [sys.executable, "-W", "error", "-c", code, "push", *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert fake_hub.TOKEN not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def test_what_is_pushed_comes_back_bit_for_bit(workdir, tmp_path):
    fetching = "import sys; from r23d_jax.weights import hub; print(hub.fetch(sys.argv[1]))"
    with fake_hub.serving() as server:
        status, out, err = run_push(
            server, tmp_path, workdir, "me/net", "--which", "last", "--licence", "MIT", "--private"
        )
        assert (status, err) == (0, "")
        assert out == f"{server.url}/me/net\nuse it: r23d predict --checkpoint hf://me/net VIDEO\n"
        there = server.repositories["me/net"]
        assert there.private and len(there.commits) == 1
        files = there.commits[there.resolve("main")]
        assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
        environment = server.environment(tmp_path, R23D_CACHE=str(tmp_path / "cache"))
        environment = {k: v for k, v in {**os.environ, **environment}.items() if v is not None}
        command = [sys.executable, "-c", fetching, "hf://me/net"]
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
        )
        status, again, _ = run_push(server, tmp_path, workdir, "me/net", "--revision", "best")
        assert status == 0 and "hf://me/net@best VIDEO" in again
        assert there.resolve("best") != there.resolve("main") and len(there.commits) == 2
    values, card = repository.read(done.stdout.strip())
    expected, its_card = checkpoint.load_weights(workdir / "checkpoints" / "00000200")
    assert values.keys() == expected.keys() and all(np.array_equal(values[name], expected[name]) for name in expected)
    assert card == repository.public(its_card, "MIT") and card.source == {"file": "start.pth"}
    for name in ("README.md", "config.json"):
        assert b"/home/" not in files[name] and bytes(workdir.parent) not in files[name]
    best = there.commits[there.resolve("best")]
    assert json.loads(best["config.json"])["tensors_sha256"] != card.tensors_sha256
    assert b'license: "mit"' in files["README.md"] and b"model-index" in files["README.md"]
    assert b"are of step 200, these weights of step 100" in best["README.md"]


def test_out_writes_the_folder_and_asks_nobody(run, monkeypatch, workdir, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    out = tmp_path / "folder"
    status, said, err = run(push.main, workdir / "checkpoints" / "00000100", "me/net", "--out", out)
    assert err == "note: The run's results are of step 200, these weights of step 100: they are left out.\n"
    assert (status, said) == (0, f"{out}: README.md, config.json, model.safetensors; nothing was pushed\n")
    assert repository.is_repository(out)
    assert repository.read(out)[1].labels == fake_videos.LABELS
    status, _, err = run(push.main, workdir, "me/net", "--which", "last", "--out", out)
    assert status == 1 and err.startswith(f"error: {out}: exists already") and err.count("\n") == 1


def test_mistakes_are_one_line(run, monkeypatch, workdir, tmp_path):
    out = ("--out", tmp_path / "x")
    for arguments, message in (
        ((workdir, "net", *out), "error: net: not the name of a repository; write OWNER/REPO\n"),
        ((workdir, "a/b", "--revision", "x y", *out), "error: hf://a/b@x y: not an address of the Hugging Face Hub"),
        ((tmp_path / "nothing", "a/b", *out), f"error: {tmp_path}/nothing: no such folder; name a workdir"),
        ((tmp_path, "a/b", *out), f"error: {tmp_path}: no checkpoint in it"),
    ):
        status, _, err = run(push.main, *arguments)
        assert status == 1 and err.startswith(message) and err.count("\n") == 1
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    status, _, err = run(push.main, workdir, "a/b")
    assert status == 1 and "pip install huggingface_hub" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "repo, token, offline, message",
    [
        (
            "me/net",
            None,
            None,
            "error: no token for the Hugging Face Hub: set HF_TOKEN, or log in with `hf auth login`\n",
        ),
        (
            "me/net",
            "hf_wrongwrongwrong",
            None,
            "error: hf://me/net: nothing was pushed: this token may not write there (401)",
        ),
        ("someone-else/net", fake_hub.TOKEN, None, "may not write there (403); set HF_TOKEN, or log in"),
        ("me/net", fake_hub.TOKEN, "1", "error: hf://me/net: nothing was pushed: HF_HUB_OFFLINE is set; unset it\n"),
        ("me/a--b", fake_hub.TOKEN, None, "error: hf://me/a--b: refused: "),
    ],
)
def test_a_push_that_may_not_be_is_one_line(workdir, tmp_path, repo, token, offline, message):
    with fake_hub.serving() as server:
        status, out, err = run_push(
            server, tmp_path, workdir, repo, "--which", "last", token=token, HF_HUB_OFFLINE=offline
        )
        assert (status, out) == (1, "") and message in err and err.count("\n") == 1 and "wrongwrong" not in err
        assert not server.repositories


def test_a_push_without_a_server_is_one_line(workdir, tmp_path):
    with fake_hub.serving() as server:
        server.stop()
        status, out, err = run_push(server, tmp_path, workdir, "me/net", "--which", "last")
    assert (status, out) == (1, "") and "nothing was pushed: no answer from the Hub (" in err and err.count("\n") == 1


def test_who_may_read_one_of_the_files_may_read_all(workdir, tmp_path, run):
    assert run(push.main, workdir, "me/net", "--out", tmp_path / "out")[0] == 0
    assert len({path.stat().st_mode for path in (tmp_path / "out").iterdir()}) == 1


@pytest.mark.parametrize(
    "init, public",
    [
        ("https://me:secret@host:8080/w.pth?key=secret", "https://host:8080/w.pth"),
        ("hf://owner/repo/w.pth@v1", "hf://owner/repo/w.pth@v1"),
        ("torchvision-r3d_18-kinetics400", "torchvision-r3d_18-kinetics400"),
        ("/home/me/weights/w.pth", "w.pth"),
        ("../weights/i3d", "i3d"),
        ("my runs/a client/w.pt", "w.pt"),
        ("2D torchvision weights r.pth, inflated", "2D torchvision weights r.pth, inflated"),
    ],
)
def test_where_weights_began_is_said_without_secrets_and_paths(init, public):
    assert repository.public_origin(init) == public
