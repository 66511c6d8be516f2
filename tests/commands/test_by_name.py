"""From a name to an answer, with whole processes and a server of this machine: a row of the registry by one command."""

import functools
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from fake_videos import write_video
from paths import ROOT

from r23d_jax import models
from r23d_jax.weights import architecture, registry, torch_files
from r23d_jax.weights.families import torchvision

NAME = "dronefreak-mc3_18-ucf101"
FILE = "dronefreak/mc3-18-ucf101/resolve/main/mc318-ufc101-split-1.pth"  # below $HF_ENDPOINT


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, parts of files too; `cut` breaks the connection after so many bytes, `page` sends a web page."""

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range"))
        if server.page:
            body, start, kind = b"<!DOCTYPE html><title>Log in</title>", 0, "text/html"
        else:
            body, kind = Path(self.translate_path(self.path)).read_bytes(), "application/octet-stream"
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", kind)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : server.cut or None])

    def log_message(self, *args):
        del args


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A folder with random weights under the names and in the form of that publication."""
    folder = tmp_path_factory.mktemp("served")
    shapes = models.flatten(architecture.abstract("mc3_18", {"num_classes": 101}))
    rng = np.random.default_rng(0)

    def values(path, shape):
        fan = int(np.prod(shape[:-1]))
        if path.endswith("kernel"):
            return rng.normal(0, (2 / fan) ** 0.5, shape).astype(np.float32)
        return np.full(shape, float(path.endswith((".scale", ".var"))), np.float32)

    state, errors = torchvision.VIDEO.export({path: values(path, leaf.shape) for path, leaf in shapes.items()})
    assert not errors
    (folder / FILE).parent.mkdir(parents=True)
    torch_files.write(folder / FILE, {f"backbone.{name}": value for name, value in state.items()})
    return folder


@pytest.fixture
def server(served):
    handler = functools.partial(Handler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked, server.cut, server.page = [], 0, False
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        server.address = f"http://127.0.0.1:{server.server_address[1]}"
        yield server
        server.shutdown()


@pytest.fixture
def r23d(server, tmp_path):
    """Runs the command with an empty cache; returns the finished process."""

    def run(*arguments):
        proxies = {name for name in os.environ if name.lower().endswith("_proxy")}
        environment = {key: value for key, value in os.environ.items() if key not in proxies}
        environment |= {"R23D_CACHE": str(tmp_path / "cache"), "HF_ENDPOINT": server.address, "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-m", "r23d_jax", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)

    return run


def error_of(done):
    """The one line of a command that failed, after those of what it downloaded."""
    *others, last = done.stderr.splitlines()
    assert done.returncode == 1 and last.startswith("error: "), done.stderr
    assert all(line.startswith("mc318-ufc101-split-1.pth: downloading") for line in others), done.stderr
    return last


def test_a_name_and_a_video_are_enough_and_later_no_network(server, r23d, tmp_path):
    video = write_video(tmp_path / "one.mkv", count=40)
    cut = server.cut = 1_000_000
    message = error_of(r23d("predict", "--checkpoint", NAME, video))
    assert f"the connection broke at {cut} of " in message and "try again" in message and server.asked == [None]
    server.cut = 0
    first = r23d("predict", "--checkpoint", NAME, video, "--json", tmp_path / "first.json")
    assert first.returncode == 0, first.stderr
    assert server.asked[1:] == [f"bytes={cut}-"]  # it went on from there
    server.shutdown()
    server.server_close()
    again = r23d("predict", "--checkpoint", NAME, video, "--json", tmp_path / "again.json")
    assert again.returncode == 0, again.stderr
    answers = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("first", "again")]
    assert answers[0] == answers[1] and len(server.asked) == 2
    (answer,) = answers[0]
    assert {row["label"] for row in answer["top"]} <= set(registry.labels(registry.get(NAME)))
    assert answer["clips"] == 1
    assert "one clip of 16 frames, frames evenly spaced over the whole video" in answer["protocol"]
    assert "centre crop 112x112 of frames resized to 128x171" in answer["protocol"]


def test_what_is_no_such_file_is_refused_in_one_line(server, r23d, tmp_path):
    video = write_video(tmp_path / "one.mkv")
    server.page = True
    message = error_of(r23d("predict", "--checkpoint", NAME, video))
    assert "web page" in message and str(tmp_path / "cache" / "mc318-ufc101-split-1.pth") in message
    server.page = False
    wrong = f"{server.address}/{FILE}#sha256={hashlib.sha256(b'').hexdigest()}"
    message = error_of(r23d("predict", "--checkpoint", wrong, video))
    assert "SHA-256" in message and f"{server.address}/{FILE}" in message
    address = server.address
    server.shutdown()
    server.server_close()
    message = error_of(r23d("predict", "--checkpoint", NAME, video))
    assert f"{address}/{FILE}" in message and str(tmp_path / "cache" / "mc318-ufc101-split-1.pth") in message
    assert not [path for path in (tmp_path / "cache").rglob("*.pth*")]
