"""Downloads against a server of our own: resuming, several addresses, wrong contents, pages, secrets, no network."""

import base64
import hashlib
import http.server
import re
import subprocess
import sys
import tarfile
import threading
import time

import pytest

from r23d_jax.errors import UserError
from r23d_jax.runtime.addresses import public_name
from r23d_jax.runtime.files import locked
from r23d_jax.weights import download, families, registry
from r23d_jax.weights.families import torchvision
from r23d_jax.weights.family import Family, File, Published

CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def server():
    """Serves `server.files`.

    It counts requests; `cut` breaks the connection after so many bytes, `shift` moves the parts it sends, and
    `sizes` says whether a 416 tells how long the file is.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.requests.append(self.headers.get("Range"))
            server.seen.append((self.path, self.headers.get("Authorization")))
            status, kind, body = server.files.get(self.path, (404, "text/html", b"<html>not here</html>"))
            if status in (301, 302):
                self.send_response(status)
                self.send_header("Location", kind)
                self.end_headers()
                return
            start, total = 0, len(body)
            match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            if match and server.ranges and status == 200:
                start, status = int(match[1]), 206
                if start >= total:
                    self.send_response(416)
                    if server.sizes:
                        self.send_header("Content-Range", f"bytes */{total}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                start = max(0, start + server.shift)
            body = body[start:]
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if status == 206 and server.sizes:
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            self.end_headers()
            self.wfile.write(body[: server.cut] if server.cut else body)
            if server.cut:
                self.connection.close()

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.requests, server.seen = {}, [], []
    server.cut, server.shift, server.ranges, server.sizes = 0, 0, True, True
    server.url = f"http://127.0.0.1:{server.server_address[1]}/"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("R23D_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def publish(server, cache, monkeypatch):
    """Puts a file on the server and into the registry; returns the cache folder."""

    def add(content=CONTENT, kind="application/octet-stream", name="weights.pth", mirrors=(), **fields):
        server.files[f"/{name}"] = (200, kind, content)
        file = File(name, server.url + name, mirrors=tuple(server.url + mirror for mirror in mirrors), **fields)
        entry = Published("test", "r3d_18", (file,), torchvision.preprocessing(), 400)
        family = Family(name="test", table=dict, archs=(), preprocessing=dict, published=(entry,))
        monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, family))
        return cache

    return add


def names(folder):
    return sorted(path.name for path in folder.iterdir())


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
    with pytest.raises(UserError, match=f"SHA-256 is {SHA256[:8]}, not 00000000; fetch it by hand"):
        download.fetch("test")
    assert not list(cache.iterdir())
    cache = publish(sha256=SHA256[:8])
    (cache / "weights.pth").write_bytes(b"put there by hand, and wrong")
    with pytest.raises(UserError, match="not .*: removed; fetch it by hand from"):
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
    cache = publish(direct=False, pages=("https://example.org/folder?key=1",))
    with pytest.raises(
        UserError, match=r"no program may fetch it; download it from http.* or https://example.org/folder\?key=1 and"
    ):
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


# --- several addresses ---


@pytest.mark.parametrize(
    "bad, reason",
    [
        ((404, "text/plain", b""), "the server answered 404 Not Found"),
        ((200, "text/html", b"<html>"), "a web page instead of the file"),
        ((200, "application/octet-stream", b"something else"), "its SHA-256 is .*, not"),
    ],
)
def test_the_next_address_where_one_fails(publish, server, capsys, bad, reason):
    cache = publish(sha256=SHA256[:8], mirrors=("mirror/copy.pth",))
    server.files["/mirror/copy.pth"], server.files["/weights.pth"] = server.files["/weights.pth"], bad
    assert download.fetch("test").read_bytes() == CONTENT and names(cache) == ["weights.pth"]
    assert re.search(
        rf"weights.pth: {server.url}weights.pth: {reason}.*; trying the next address", capsys.readouterr().err
    )


def test_every_address_and_its_reason_if_all_fail(publish, server):
    cache = publish(b"wrong", git_blob="0" * 40, mirrors=("mirror?key=secret",), pages=("https://example.org/page",))
    server.files["/mirror?key=secret"] = (200, "text/html", b"<html>")
    with pytest.raises(UserError) as caught:
        download.fetch("test")
    text = str(caught.value)
    assert f"{server.url}weights.pth: its Git blob hash is" in text and "secret" not in text and "\n" not in text
    assert f"{server.url}mirror: a web page instead of the file" in text
    places = f"by hand from {server.url}weights.pth or {server.url}mirror or https://example.org/page and put it at"
    assert text.endswith(f"{places} {cache / 'weights.pth'}") and not names(cache)


def test_mirrors_of_a_file_that_only_a_browser_can_fetch(publish, server):
    publish(direct=False, sha1=hashlib.sha1(CONTENT).hexdigest(), mirrors=("copy.pth",))
    server.files["/copy.pth"] = server.files.pop("/weights.pth")
    assert download.fetch("test").read_bytes() == CONTENT and [path for path, _ in server.seen] == ["/copy.pth"]


def test_sha1(publish, server):
    publish(sha1="1234")
    with pytest.raises(UserError, match="its SHA-1 is .*, not 1234"):
        download.fetch("test")


@pytest.mark.parametrize("has_hash", [True, False])
def test_parts_of_two_addresses(publish, server, has_hash):
    """They are put together only where a hash decides; nothing is left of them."""
    cache = publish(mirrors=("copy.pth",), sha256=SHA256 if has_hash else "")
    server.files["/copy.pth"] = server.files["/weights.pth"]
    server.cut = 300_000
    with pytest.raises(UserError, match="broke at .* of 1048576 bytes.*; try again to go on, or fetch it by hand"):
        download.fetch("test")
    assert len(names(cache)) == (1 if has_hash else 2)
    server.cut, server.requests[:] = 0, []
    del server.files["/weights.pth"]
    assert download.fetch("test").read_bytes() == CONTENT and names(cache) == ["weights.pth"]
    assert server.requests[1] == ("bytes=600000-" if has_hash else "bytes=300000-")


def test_a_part_with_wrong_bytes_is_fetched_anew(publish, server):
    cache = publish(sha256=SHA256)
    cache.mkdir()
    (cache / "weights.pth.part").write_bytes(b"x" * 1000)
    assert download.fetch("test").read_bytes() == CONTENT and server.requests == ["bytes=1000-", None]


@pytest.mark.parametrize("sizes", [True, False])
def test_a_part_that_begins_elsewhere_than_asked_is_not_appended(publish, server, sizes):
    cache = publish()
    server.cut = 1000
    with pytest.raises(UserError, match="broke"):
        download.fetch("test")
    server.cut, server.shift, server.sizes = 0, -7, sizes
    assert download.fetch("test").read_bytes() == CONTENT and names(cache) == ["weights.pth"]
    assert server.requests == [None, "bytes=1000-", None]


@pytest.mark.parametrize("have, sizes", [(len(CONTENT), True), (len(CONTENT), False), (len(CONTENT) + 5, True)])
def test_nothing_follows_a_part(publish, server, have, sizes):
    """Status 416: complete only if the server says that the file is as long."""
    publish(sha256=SHA256)
    path = download.cache_dir() / "weights.pth.part"
    path.parent.mkdir()
    path.write_bytes((CONTENT + b"extra")[:have])
    server.sizes = sizes
    assert download.fetch("test").read_bytes() == CONTENT
    assert server.requests == [f"bytes={have}-"] + ([] if sizes and have == len(CONTENT) else [None])


def test_hugging_face_and_its_mirror(server, cache, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"{server.url}hub/")
    server.files["/hub/a/b/resolve/main/c.pth"] = (200, "application/octet-stream", CONTENT)
    file = File("c.pth", "https://huggingface.co/a/b/resolve/main/c.pth", SHA256)
    assert download.fetch_file(file).read_bytes() == CONTENT


def test_a_full_disk(publish, monkeypatch):
    cache = publish()
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1 << 19}))
    with pytest.raises(UserError, match="weights.pth: 1 MiB, but only 0 MiB free in"):
        download.fetch("test")
    assert not names(cache)


# --- two at once ---

FETCH = "import sys; from r23d_jax.weights import download; print(download.fetch_url(sys.argv[1]).read_bytes()[:1])"


def test_two_processes_download_once(server, cache):
    server.files["/w.pth"] = (200, "application/octet-stream", CONTENT)
    command = [sys.executable, "-c", FETCH, f"{server.url}w.pth"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0 and out == "b'\\x00'\n", err
    assert len(server.requests) == 1 and [path.name for path in cache.rglob("*") if path.is_file()] == ["w.pth"]


def test_the_second_waits_and_says_so(publish, server, capsys):
    cache = publish()
    cache.mkdir()
    with locked(cache, wait=True):
        second = threading.Thread(target=download.fetch, args=("test",))
        second.start()
        while "waiting for another process" not in capsys.readouterr().err:
            time.sleep(0.01)
        (cache / "weights.pth").write_bytes(CONTENT)
    second.join(timeout=60)
    assert not second.is_alive() and not server.requests


# --- addresses of the user ---


def test_an_address_is_fetched_once(server, cache):
    server.files["/folder/w%20x.pth?v=1"] = (200, "application/octet-stream", CONTENT)
    address = f"{server.url}folder/w%20x.pth?v=1"
    path = download.fetch_url(address)
    folder = hashlib.sha256(address.encode()).hexdigest()[:12]
    assert path == cache / "addresses" / folder / "w_x.pth" and path.read_bytes() == CONTENT
    server.files.clear()
    assert download.fetch_url(address) == path and len(server.requests) == 1
    assert download.fetch_url(f"{address}#sha256={SHA256}") == path
    with pytest.raises(UserError, match=f"SHA-256 is .*, not 00000000; for another copy remove {path} and try again"):
        download.fetch_url(f"{address}#sha256=00000000")
    assert path.is_file()


def test_the_hash_of_an_address(server, cache):
    server.files["/w.pth"] = (200, "application/octet-stream", CONTENT)
    with pytest.raises(UserError, match="not 0123456789"):
        download.fetch_url(f"{server.url}w.pth#sha256=0123456789")
    assert download.fetch_url(f"{server.url}w.pth#sha256={SHA256[:10].upper()}").name == "w.pth"
    for fragment in ("sha256=xyz", "sha256=12", "sha1=12345678", "L5"):
        with pytest.raises(UserError, match="w.pth: after # only sha256= and 8 to 64 hex digits may stand"):
            download.fetch_url(f"{server.url}w.pth#{fragment}")


def test_secrets_are_sent_but_never_shown(server, cache, capsys):
    address = f"http://me:pa%20ss@{server.url.removeprefix('http://')}w.pth?token=hidden"
    for status in (403, 200):
        server.files["/w.pth?token=hidden"] = (status, "application/octet-stream", CONTENT)
        if status == 403:
            with pytest.raises(UserError, match="the server answered 403") as caught:
                download.fetch_url(address)
            text = str(caught.value)
            assert f"{server.url}w.pth" in text and str(cache / "addresses") in text and "\n" not in text
    path = download.fetch_url(address)
    shown = text + str(path) + capsys.readouterr().err + public_name(address)
    assert not any(secret in shown for secret in ("pa%20ss", "pa ss", "hidden", "me:", "token"))
    sent = base64.b64encode(b"me:pa ss").decode()
    assert server.seen[-1] == ("/w.pth?token=hidden", f"Basic {sent}")


def test_a_password_is_not_sent_to_where_the_server_redirects(server, cache):
    server.files["/other/w.pth"] = (200, "application/octet-stream", CONTENT)
    server.files["/w.pth"] = (302, f"http://localhost:{server.server_address[1]}/other/w.pth", b"")
    download.fetch_url(f"http://me:pass@{server.url.removeprefix('http://')}w.pth")
    assert server.seen[-1] == ("/other/w.pth", None)


@pytest.mark.parametrize(
    "address, public",
    [
        ("https://u:p@example.org:8080/a/b.pth?c=d#e", "https://example.org:8080/a/b.pth"),
        ("HTTP://Example.org", "http://example.org"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
    ],
)
def test_public_names(address, public):
    assert public_name(address) == public


@pytest.mark.parametrize(
    "address", ["https://u:secret@:80/x?secret", "http://u:secret@host:port/x", "ftp://u:secret@h/x"]
)
def test_what_is_no_address(address):
    with pytest.raises(UserError, match="not an http or https address of a file") as caught:
        download.fetch_url(address)
    assert "secret" not in str(caught.value)


def test_an_address_without_a_network(server, cache):
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match=r"w.pth: no download \(.*\); fetch it by hand from http://127") as caught:
        download.fetch_url(f"{server.url}w.pth?token=hidden")
    assert str(cache / "addresses") in str(caught.value) and "hidden" not in str(caught.value)
