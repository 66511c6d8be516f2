"""Weights from the Hugging Face Hub, with the real client and a small server on loopback."""

import dataclasses
import hashlib
import importlib
import json
import os
import subprocess
import sys

import fake_hub
import fake_videos
import numpy as np
import pytest
from paths import ROOT
from safetensors.numpy import save_file

from r23d_jax.errors import UserError
from r23d_jax.weights import card as cards
from r23d_jax.weights import checkpoint, hub, repository

FOREIGN = {"README.md": b"# theirs", "config.json": b'{"architectures": ["Other"]}'}


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """Weights, their card, and the files of the repository that has them."""
    folder = tmp_path_factory.mktemp("ours")
    values, card = checkpoint.load_weights(fake_videos.write_checkpoint(folder / "checkpoint"))
    repository.write(folder / "repository", values, card, "# ours\n")
    return values, card, {path.name: path.read_bytes() for path in (folder / "repository").iterdir()}


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server that this process's client talks to, with a cache of its own and no token."""
    import huggingface_hub as client

    with fake_hub.serving() as running:
        for name, value in running.environment(tmp_path / "home", token=None).items():
            monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
        monkeypatch.setenv("R23D_CACHE", str(tmp_path / "cache"))
        constants = importlib.import_module("huggingface_hub.constants")  # which read the environment once
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        client.close_session()
        yield running
        client.close_session()


def refusal(address):
    with pytest.raises(UserError) as raised:
        hub.fetch(address)
    text = str(raised.value)
    assert "\n" not in text and address in text and fake_hub.TOKEN not in text
    return text


# --- ours -----------------------------------------------------------------------------------------------


def test_a_repository_of_ours_has_the_same_bits_and_is_fetched_once(server, ours):
    values, card, files = ours
    commit = server.add("me/net", {**files, "large.bin": b"not needed"})
    folder = hub.fetch("hf://me/net")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert repository.is_repository(folder)
    found, its_card = repository.read(folder)
    assert its_card == card and found.keys() == values.keys()
    for name, value in values.items():
        assert found[name].dtype == value.dtype and np.array_equal(found[name], value)
    server.requests.clear()
    assert hub.fetch("hf://me/net") == hub.fetch("hf://me/net@main") == folder
    assert "GET" not in {method for method, path in server.requests if "/resolve/" in path}
    server.requests.clear()
    assert hub.fetch(f"hf://me/net@{commit}") == folder
    assert server.requests == []  # what cannot change


def test_another_commit_is_another_folder(server, ours):
    values, card, files = ours
    first = server.add("me/net", files)
    assert hub.fetch("hf://me/net").name == first
    second = server.repositories["me/net"].commit({"config.json": files["config.json"] + b" "})
    server.repositories["me/net"].commit({"config.json": b"{}"}, branch="wip/other")
    assert hub.fetch("hf://me/net").name == second != first
    assert hub.fetch(f"hf://me/net@{first}").name == first
    assert hub.fetch("hf://me/net@wip/other").name == "model.safetensors"  # no card there: anybody's weights


def test_what_no_longer_belongs_together_is_refused(tmp_path, ours):
    values, card, files = ours
    damaged = files["model.safetensors"][:-40]
    other = json.dumps({**card.to_dict(), "tensors_sha256": "0" * 64}).encode()
    later = json.dumps({**card.to_dict(), "format": 2}).encode()
    broken = json.dumps({**card.to_dict(), "labels": 5}).encode()
    for number, (changed, message) in enumerate(
        [
            ({"model.safetensors": damaged}, "damaged or truncated safetensors file"),
            ({"config.json": other}, "not the tensors that config.json was written for"),
            ({"config.json": later}, "weights card of format 2"),
            ({"config.json": broken}, "not a readable weights card"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, content in {**files, **changed}.items():
            (folder / name).write_bytes(content)
        assert repository.is_repository(folder)
        with pytest.raises(UserError, match=message) as raised:
            repository.read(folder)
        assert str(folder) in str(raised.value) and "\n" not in str(raised.value)
    (folder / "config.json").write_bytes(FOREIGN["config.json"])
    assert not repository.is_repository(folder)
    (folder / "config.json").write_bytes(b"\xff{")
    assert not repository.is_repository(folder)


def test_a_repository_is_written_whole_or_not_at_all(tmp_path, ours):
    values, card, files = ours
    folder = tmp_path / "there"
    folder.mkdir()
    assert repository.write(folder, values, card, "") == folder
    with pytest.raises(UserError, match="exists already"):
        repository.write(folder, values, card, "")
    with pytest.raises(AttributeError):
        repository.write(tmp_path / "half", values, None, "")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_tensors_of_any_stride_are_written_as_they_are(tmp_path, ours):
    card = ours[1]
    values = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "b": np.float32(3).reshape(()),
        "c": np.zeros((2, 0)),
    }
    found, its_card = repository.read(repository.write(tmp_path / "x", values, card, ""))
    assert all(
        np.array_equal(found[name], value) and found[name].shape == value.shape for name, value in values.items()
    )
    assert its_card == dataclasses.replace(card, tensors_sha256=cards.tree_sha256(values))


@pytest.mark.parametrize(
    "text, public",
    [
        ("scratch", "scratch"),
        ("torchvision-r3d_18-kinetics400", "torchvision-r3d_18-kinetics400"),
        ("torchvision weights r3d_18.pth, Kinetics-400", "torchvision weights r3d_18.pth, Kinetics-400"),
        ("hf://o/r/f.pth@main", "hf://o/r/f.pth@main"),
        ("https://a.b/c/d.pth", "https://a.b/c/d.pth"),
        ("runs/kinetics/checkpoints/00000100", "00000100"),
        ("/home/me/My Runs/w.pth", "w.pth"),
        ("~/w/x.pth", "x.pth"),
        ("C:\\Users\\me\\w.pth", "w.pth"),
        ("file:///home/me/w.pth", "w.pth"),
        ("weights of /home/me/x.pth, not trained here", "weights of x.pth, not trained here"),
    ],
)
def test_what_is_published_names_no_path_of_this_machine(ours, text, public):
    source = {"file": "a/w.pth", "dataset": "tfds_ucf101/motion/1.0.0", "from": ["/home/me/y"], "stored": [64, 64]}
    card = repository.public(dataclasses.replace(ours[1], init=text, source=source), "mit")
    assert card.init == public and card.licence == "mit"
    assert card.source == {**source, "file": "w.pth", "from": ["y"]}


# --- of others ------------------------------------------------------------------------------------------


def test_the_only_weights_of_another_project(server):
    server.add("they/net", {**FOREIGN, "a/model.safetensors": b"tensors", "pytorch_model.bin": b"the same"})
    path = hub.fetch("hf://they/net")
    assert path.read_bytes() == b"tensors" and path.name == "model.safetensors"
    assert hub.fetch("hf://they/net/pytorch_model.bin").read_bytes() == b"the same"
    assert hub.fetch("hf://they/net/a/model.safetensors") == path
    server.add("they/old", {**FOREIGN, "net.pyth": b"old"})
    assert hub.fetch("hf://they/old").read_bytes() == b"old"


def test_several_weights_are_listed_with_their_addresses(server):
    server.add("they/two", {**FOREIGN, "a.pth": b"a", "b/b.pth": b"b"})
    text = "several files of weights in it; name one: hf://they/two/a.pth, hf://they/two/b/b.pth"
    assert refusal("hf://they/two").endswith(text)
    server.repositories["they/two"].commit({"c.pth": b"c"}, branch="dev")
    server.repositories["they/two"].commit({f"{i:02}.safetensors": b"" for i in range(15)}, branch="many")
    assert refusal("hf://they/two@many").endswith("hf://they/two/11.safetensors@many and 3 more")
    server.add("they/none", FOREIGN)
    assert "no file of weights in it (.safetensors, .pth," in refusal("hf://they/none")


# --- without a server -----------------------------------------------------------------------------------


def test_what_is_cached_is_used_without_a_server_and_a_line_says_so(server, ours, capsys):
    commit = server.add("me/net", ours[2])
    server.add("they/net", {**FOREIGN, "w.pth": b"w"})
    server.add("they/two", {"a.pth": b"a", "b.pth": b"b"})
    addresses = ("hf://me/net", "hf://they/net", "hf://they/two/a.pth")
    before = [hub.fetch(address) for address in addresses]
    assert capsys.readouterr().err == ""
    server.failing = 503
    assert hub.fetch("hf://me/net") == before[0]
    line = f"using what is cached, commit {commit[:12]}\n"
    assert capsys.readouterr().err == f"note: hf://me/net: the server answers 503 for now; {line}"
    server.stop()
    assert [hub.fetch(address) for address in addresses] == before
    assert capsys.readouterr().err.count("no answer from the Hub (") == 3
    text = refusal("hf://me/another")
    assert "no answer from the Hub (" in text and text.endswith("it is not in the cache; try again with a network")
    assert "not in the cache" in refusal("hf://they/two/b.pth")
    assert "not in the cache" in refusal("hf://me/net@other")


def test_a_part_of_a_repository_is_not_taken_for_the_whole(server, ours):
    server.add("me/net", ours[2])
    hub.fetch("hf://me/net/config.json")
    server.stop()
    assert "not in the cache" in refusal("hf://me/net")


def test_offline_mode_asks_no_server(server, tmp_path, ours):
    """In processes of their own, since the client reads the environment when it is imported."""
    server.add("me/net", ours[2])
    code = "import sys; from r23d_jax import errors; from r23d_jax.weights import hub\n"
    code += "errors.run_command(lambda: print(hub.fetch(sys.argv[1])))"

    def fetch(address, **more):
        changed = server.environment(tmp_path / "home", R23D_CACHE=str(tmp_path / "own"), **more)
        environment = {k: v for k, v in {**os.environ, **changed}.items() if v is not None}
        command = [sys.executable, "-W", "error", "-c", code, address]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    status, out, err = fetch("hf://me/net", HF_HUB_OFFLINE="1")
    problem = "hf://me/net: HF_HUB_OFFLINE is set, and it is not in the cache; unset it"
    assert (status, out, err) == (1, "", f"error: {problem}\n")
    status, out, err = fetch("hf://me/net")
    assert (status, err) == (0, "") and str(tmp_path / "own" / "hub") in out
    server.requests.clear()
    status, again, err = fetch("hf://me/net", HF_HUB_OFFLINE="1")
    assert (status, again) == (0, out) and server.requests == []
    assert err.startswith("note: hf://me/net: HF_HUB_OFFLINE is set; using what is cached, commit ")


# --- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "hf://",
        "hf://net",
        "hf://me/",
        "hf://me/net/",
        "hf://me/net@",
        "hf://me/../x",
        "hf://me/net/../../x",
        "hf:/me/net",
    ]
    + ["hf://me/net/a//b", "hf://me/net@a@b", "hf://me/n et", "hf://me/net@a b", "hf://me/net@../x", "hf://me/net\n"],
)
def test_a_malformed_address_says_the_form(address):
    with pytest.raises(UserError, match=r"not an address of the Hugging Face Hub; write hf://OWNER/REPO\[/FILE\]"):
        hub.parse(address)


def test_an_address_has_parts():
    assert hub.parse("hf://o/r") == ("hf://o/r", "o/r", "", "main")
    assert hub.parse("hf://o/r.x/a/b.pth@refs/pr/1")[1:] == ("o/r.x", "a/b.pth", "refs/pr/1")
    assert "hf_..." in str(pytest.raises(UserError, hub.parse, f"hf://{fake_hub.TOKEN}").value)


def test_what_is_not_there_or_not_open_says_what_to_do(server, ours, monkeypatch):
    server.add("me/net", ours[2])
    server.add("me/gated", ours[2], gated=True)
    server.add("me/private", ours[2], private=True)
    log_in = "set HF_TOKEN, or log in with `hf auth login`"
    assert f"no such repository, or a private one (401): check its name, or {log_in}" in refusal("hf://me/nothing")
    assert "no such repository, or a private one (401)" in refusal("hf://me/private")
    assert f"access on request: ask for it on the page of me/gated, then {log_in}" in refusal("hf://me/gated")
    assert "no revision 'v2' in it; name a branch, a tag or a commit" in refusal("hf://me/net@v2")
    assert "no revision" in refusal(f"hf://me/net@{'0' * 40}")
    text = refusal("hf://me/net/model.safetensor")
    assert text.endswith("no such file in it; name one: hf://me/net/model.safetensors")
    assert refusal("hf://me/net/zzz").endswith("name one: hf://me/net/model.safetensors")
    assert "refused: " in refusal("hf://me/a--b")
    monkeypatch.setenv("HF_TOKEN", fake_hub.TOKEN)
    assert hub.fetch("hf://me/gated").is_dir() and hub.fetch("hf://me/private").is_dir()
    assert "no such repository, or a private one (404)" in refusal("hf://me/nothing")
    server.failing = 418
    assert "refused: " in refusal("hf://me/net")


def test_without_the_client_its_name_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install huggingface_hub, or this project with '\.\[hub\]'"):
        hub.fetch("hf://me/net")


def test_a_full_disk_is_no_missing_network(server, ours):
    server.add("me/net", ours[2])
    (hub.cache_dir()).mkdir()
    (hub.cache_dir() / "hub").write_text("in the way")
    with pytest.raises(OSError, match="hub"):
        hub.fetch("hf://me/net")


def test_tensors_of_another_project_stay_what_they_are(server, tmp_path):
    save_file({"w": np.ones(3, np.float32)}, tmp_path / "w.safetensors")
    content = (tmp_path / "w.safetensors").read_bytes()
    server.add("they/net", {"w.safetensors": content})
    path = hub.fetch("hf://they/net")
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(content).digest()
