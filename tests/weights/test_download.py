"""Downloads against a server of our own: resuming, wrong contents, pages, no network; and the registry."""

import hashlib
import http.server
import re
import tarfile
import threading

import pytest

from r23d_jax import models
from r23d_jax.errors import UserError
from r23d_jax.weights import download, families, registry
from r23d_jax.weights.families import datasets, torchvision
from r23d_jax.weights.family import Family, File, Published

CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def server():
    """Serves `server.files`; counts requests; `server.cut` breaks the connection after so many bytes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.requests.append(self.headers.get("Range"))
            status, kind, body = server.files.get(self.path, (404, "text/html", b"<html>not here</html>"))
            start = 0
            match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            if match and server.ranges and status == 200:
                start, status = int(match[1]), 206
                if start >= len(body):
                    self.send_error(416)
                    return
            body = body[start:]
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: server.cut] if server.cut else body)
            if server.cut:
                self.connection.close()

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.requests, server.cut, server.ranges = {}, [], 0, True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def publish(server, tmp_path, monkeypatch):
    """Puts a file on the server and into the registry; returns the cache folder."""
    monkeypatch.setenv("R23D_CACHE", str(tmp_path / "cache"))

    def add(content=CONTENT, kind="application/octet-stream", name="weights.pth", **fields):
        server.files[f"/{name}"] = (200, kind, content)
        url = f"http://127.0.0.1:{server.server_address[1]}/{name}"
        file = File(name, url, **fields)
        entry = Published("test", "r3d_18", (file,), torchvision.preprocessing(), 400)
        family = Family(name="test", table=dict, archs=(), preprocessing=dict, published=(entry,))
        monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, family))
        return tmp_path / "cache"

    return add


SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_fetched_once_verified_and_cached(publish, server):
    cache = publish(sha256=SHA256[:8])
    assert download.fetch("test") == cache / "weights.pth"
    assert (cache / "weights.pth").read_bytes() == CONTENT
    assert download.fetch("test") == cache / "weights.pth" and len(server.requests) == 1
    assert [path.name for path in cache.iterdir()] == ["weights.pth"]


def test_resumes_where_it_broke(publish, server):
    cache = publish(sha256=SHA256[:8])
    server.cut = 300_000
    with pytest.raises(UserError, match="broke at 300000 of 1048576 bytes|no download"):
        download.fetch("test")
    assert (cache / "weights.pth.part").stat().st_size == 300_000 and not (cache / "weights.pth").exists()
    server.cut = 0
    download.fetch("test")
    assert (cache / "weights.pth").read_bytes() == CONTENT and server.requests == [None, "bytes=300000-"]


@pytest.mark.parametrize("have", [1000, len(CONTENT)])
def test_servers_that_cannot_resume_and_parts_that_are_whole(publish, server, have):
    cache = publish(sha256=SHA256[:8])
    cache.mkdir()
    (cache / "weights.pth.part").write_bytes(CONTENT[:have])
    server.ranges = have == len(CONTENT)
    download.fetch("test")
    assert (cache / "weights.pth").read_bytes() == CONTENT


def test_wrong_contents_are_removed(publish):
    cache = publish(sha256="00000000")
    with pytest.raises(UserError, match=f"SHA-256 is {SHA256[:8]}, not the published 00000000: removed; fetch it from"):
        download.fetch("test")
    assert not list(cache.iterdir())
    cache = publish(sha256=SHA256[:8])
    (cache / "weights.pth").write_bytes(b"put there by hand, and wrong")
    with pytest.raises(UserError, match="not the published"):
        download.fetch("test")


def test_git_blob_hash(publish):
    blob = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
    cache = publish(git_blob=blob)
    assert download.fetch("test") == cache / "weights.pth"
    assert registry.identify("ff" * 32, blob).name == "test"


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_web_page_instead_of_the_file(publish, kind):
    """Said by its type, or only by its contents."""
    cache = publish(b"<!DOCTYPE html><html>please log in</html>", kind)
    with pytest.raises(UserError, match="a web page instead of the file.*fetch it by hand.* put it at|to ") as caught:
        download.fetch("test")
    assert str(cache / "weights.pth") in str(caught.value) and not list(cache.iterdir())


def test_no_network_is_one_line_with_what_to_do(publish, server, monkeypatch):
    cache = publish()
    server.files.clear()
    for message in ("the server answered 404", "no download"):
        with pytest.raises(UserError, match=message) as caught:
            download.fetch("test")
        text = str(caught.value)
        assert "\n" not in text and "http://127.0.0.1" in text and str(cache / "weights.pth") in text
        server.shutdown()
        server.server_close()
    (cache / "weights.pth").write_bytes(CONTENT)  # by hand
    assert download.fetch("test") == cache / "weights.pth"


def test_files_only_a_browser_can_fetch(publish, server):
    cache = publish(direct=False)
    with pytest.raises(UserError, match="no program may fetch it; download it from http"):
        download.fetch("test")
    assert not server.requests
    cache.mkdir(exist_ok=True)
    (cache / "weights.pth").write_bytes(CONTENT)
    assert download.fetch("test") == cache / "weights.pth"


def test_archives(publish, tmp_path):
    (tmp_path / "model.ckpt").write_bytes(CONTENT)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "model.ckpt", "model.ckpt")
    cache = publish((tmp_path / "a.tar.gz").read_bytes(), name="a.tar.gz", member="model.ckpt")
    assert download.fetch("test") == cache / "model.ckpt"
    assert (cache / "model.ckpt").read_bytes() == CONTENT
    (cache / "model.ckpt").unlink()
    (cache / "a.tar.gz").write_bytes(b"broken")
    with pytest.raises(UserError, match="cannot take model.ckpt out of it"):
        download.fetch("test")
    assert [path.name for path in cache.iterdir()] == ["a.tar.gz"]


# --- the registry ------------------------------------------------------------------------------------------


def test_every_publication_names_a_network_and_its_protocol():
    for name, published in registry.published().items():
        assert name == published.name
        models.canonical(published.arch)
        assert published.labels in ("", "kinetics400") and (published.labels == "") == (published.classes != 400)
        assert all(score["protocol"] and 40 < score["value"] < 100 for score in published.scores)
        assert len(published.preprocessing.mean) == len(published.preprocessing.std)
        for file in published.files:
            assert file.url.startswith(("https://", "http://")) and re.fullmatch("[0-9a-f]*", file.sha256)
            assert len(file.git_blob) in (0, 40)
    files = [file.name for published in registry.published().values() for file in published.files]
    assert len(files) == len(set(files)), "two publications would share a place in the cache"


def test_names_are_found_or_suggested():
    assert registry.get("vmz-rmc4_18-16-kinetics400").scores[1]["value"] == 65.6
    with pytest.raises(UserError, match="did you mean .*torchvision-r3d_18-kinetics400"):
        registry.get("torchvision-r3d_18-kinetics")


def test_identified_by_the_published_prefix():
    assert registry.identify("b3b3357e" + "0" * 56).name == "torchvision-r3d_18-kinetics400"
    assert registry.identify("0" * 64) is None


def test_kinetics_names():
    names = datasets.kinetics400()
    assert len(names) == len(set(names)) == 400 and names == tuple(sorted(names, key=str))
    assert names[0] == "abseiling" and names[227] == "playing cricket" and names[399] == "zumba"
