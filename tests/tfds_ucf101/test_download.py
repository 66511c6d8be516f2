"""Downloads from servers on this machine, through TFDS's download manager."""

import hashlib
import http.server
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import tensorflow_datasets as tfds
from paths import ROOT
from tensorflow_datasets.core.download import checksums

from r23d_jax.errors import UserError
from tfds_ucf101 import download
from tfds_ucf101.download import File

VIDEOS, LISTS = b"videos" * 100_000, b"lists"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the path: `good`, a status, `wrong` bytes, `short`, `cut` off, `stalled` or `silent`."""

    def do_GET(self):  # the name that http.server calls
        self.server.asked.append(self.path)
        _, way, name = self.path.split("/")
        way = self.server.instead.get(way, way)
        data = VIDEOS if "videos" in name else LISTS
        if way == "silent":
            self.server.ended.wait(20)
            return
        self.send_response(int(way) if way.isdigit() else 200)
        self.send_header("Content-Length", str(len(data) - (way == "short")))
        self.end_headers()
        if way == "good":
            self.wfile.write(data)
        elif way == "wrong":
            self.wfile.write(bytes(len(data)))
        elif way == "short":
            self.wfile.write(data[:-1])
        elif way in ("cut", "stalled"):
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            if way == "stalled":
                self.server.ended.wait(20)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as opened:
        opened.asked, opened.instead, opened.ended = [], {}, threading.Event()
        opened.daemon_threads = True
        opened.address = f"http://127.0.0.1:{opened.server_port}"
        thread = threading.Thread(target=opened.serve_forever, args=[0.02], daemon=True)
        thread.start()
        yield opened
        opened.ended.set()
        opened.shutdown()
        thread.join()


def file(server, *ways, name="videos.zip", data=VIDEOS):
    addresses = tuple(way if ":" in way else f"{server.address}/{way}/{name}" for way in ways)
    return File(name, len(data), hashlib.sha256(data).hexdigest(), addresses)


def manager(folder, *registered, **options):
    """TFDS's manager, which knows the checksums of `registered`."""
    known = {
        address: checksums.UrlInfo(tfds.core.utils.Size(one.size), one.sha256, one.name)
        for one in registered
        for address in one.mirrors
    }
    return tfds.download.DownloadManager(
        download_dir=folder,
        url_infos=known,
        dataset_name="tfds_ucf101",
        manual_dir_instructions="put it there",
        **options,
    )


def left(folder):
    """Files in a download folder, without TFDS's own notes and our links."""
    return [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink() and p.suffix != ".INFO"]


@pytest.mark.parametrize("registered", [True, False])
def test_files_are_linked_into_one_folder_and_fetched_once(server, tmp_path, capsys, registered):
    files = [file(server, "good"), file(server, "good", name="lists.zip", data=LISTS)]
    folder = download.fetch(manager(tmp_path, *files * registered), files)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"videos.zip": VIDEOS, "lists.zip": LISTS}
    assert all(path.is_symlink() for path in folder.iterdir()) and len(left(tmp_path)) == 2
    said = capsys.readouterr().err
    assert f"videos.zip, 585.9 KiB, from {server.address}/good/videos.zip\n" in said
    asked = len(server.asked)
    assert download.fetch(manager(tmp_path, *files * registered), files) == folder
    assert len(server.asked) == asked and capsys.readouterr().err == ""


REASONS = {
    "404": "HTTP status 404",
    "503": "HTTP status 503",
    "wrong": "it has another checksum",
    "short": f"it has {len(VIDEOS) - 1} bytes, not {len(VIDEOS)}",
    "cut": "the connection broke off",
    "http://127.0.0.1:9/videos.zip": "it cannot be reached",
    "nonsense:/videos.zip": "No connection adapters were found for 'nonsense:/videos.zip'",
}


@pytest.mark.parametrize("registered", [True, False])
@pytest.mark.parametrize("way", REASONS)
def test_a_mirror_that_fails_gives_way_to_the_next(server, tmp_path, capsys, way, registered):
    one = file(server, way, "good")
    folder = download.fetch(manager(tmp_path, *[one] * registered), [one])
    assert (folder / "videos.zip").read_bytes() == VIDEOS
    assert f"{one.mirrors[0]}: {REASONS[way]}\n" in capsys.readouterr().err
    assert len(left(tmp_path)) == 1, "nothing of the first is left"


@pytest.mark.parametrize("way", ["stalled", "silent"])
def test_a_server_that_falls_silent_gives_way_to_the_next(server, tmp_path, capsys, way, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", (1, 1))
    one = file(server, way, "good")
    started = time.monotonic()
    assert (download.fetch(manager(tmp_path, one), [one]) / "videos.zip").read_bytes() == VIDEOS
    assert time.monotonic() - started < 15
    assert f"{one.mirrors[0]}: it does not answer in time\n" in capsys.readouterr().err
    assert len(left(tmp_path)) == 1


def test_all_mirrors_fail(server, tmp_path):
    one = file(server, "404", "wrong")
    with pytest.raises(UserError) as caught:
        download.fetch(manager(tmp_path, one), [one])
    assert str(caught.value) == (
        f"videos.zip could not be downloaded ({one.mirrors[0]}: HTTP status 404; {one.mirrors[1]}: it has another "
        "checksum); download it by hand and give its folder, or that of your own videos, as --manual_dir"
    )
    assert left(tmp_path) == [] and not (tmp_path / download.FOLDER).exists()


def test_what_was_downloaded_by_hand_is_taken(server, tmp_path):
    (tmp_path / "manual").mkdir()
    (tmp_path / "manual/videos.zip").write_bytes(VIDEOS)
    files = [file(server, "404"), file(server, "good", name="lists.zip", data=LISTS)]
    folder = download.fetch(manager(tmp_path / "dl", manual_dir=tmp_path / "manual"), files)
    assert (folder / "videos.zip").resolve() == tmp_path / "manual/videos.zip"
    assert {path.split("/")[-1] for path in server.asked} == {"lists.zip"}


def test_what_was_downloaded_by_hand_in_part_is_refused(server, tmp_path):
    (tmp_path / "manual").mkdir()
    (tmp_path / "manual/videos.zip").write_bytes(VIDEOS[:9])
    with pytest.raises(UserError, match=f"manual/videos.zip has 9 bytes, not {len(VIDEOS)} as published"):
        download.fetch(manager(tmp_path / "dl", manual_dir=tmp_path / "manual"), [file(server, "good")])


def test_a_link_to_what_is_gone_is_made_again(server, tmp_path):
    one = file(server, "good")
    folder = download.fetch(manager(tmp_path), [one])
    (folder / "videos.zip").resolve().unlink()
    assert (download.fetch(manager(tmp_path), [one]) / "videos.zip").read_bytes() == VIDEOS


def test_a_full_disk(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: download.shutil._ntuple_diskusage(9, 9, 1000))
    with pytest.raises(UserError, match="has 1.0 KiB left, the download takes 585.9 KiB: give --download_dir"):
        download.fetch(manager(tmp_path), [file(server, "good")])
    assert server.asked == []


def test_a_run_that_is_killed_leaves_nothing_wrong(server, tmp_path):
    one = file(server, "stalled")
    program = f"""
        import tensorflow_datasets as tfds
        from tfds_ucf101.download import File, fetch
        manager = tfds.download.DownloadManager(download_dir={str(tmp_path)!r}, dataset_name="tfds_ucf101")
        fetch(manager, [{one!r}])
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in left(tmp_path)):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / download.FOLDER / "videos.zip").exists()
    (broken_off,) = left(tmp_path)
    for path in (broken_off, broken_off.parent):
        os.utime(path, (1, 1))  # long ago
    server.instead = {"stalled": "good"}
    assert (download.fetch(manager(tmp_path), [one]) / "videos.zip").read_bytes() == VIDEOS
    assert len(left(tmp_path)) == 1, "what was broken off is removed"


def test_the_published_files_are_those_that_tfds_registers():
    known = checksums.get_all_url_infos()
    for one in download.FILES:
        assert [(known[url].size, known[url].checksum) for url in one.mirrors] == [(one.size, one.sha256)]
