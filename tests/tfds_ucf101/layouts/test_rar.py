"""Unpacking rar files; those of these tests are stored without compression."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest
from paths import ROOT
from write_rar import write_old_rar, write_rar

from r23d_jax.errors import UserError
from tfds_ucf101.layouts import rar

FILES = {
    "UCF-101/": b"",
    "UCF-101/Archery/v_Archery_g01_c01.avi": bytes(range(256)) * 300,
    "UCF-101/Archery/v_Archery_g08_c01.avi": b"two",
    "UCF-101/Jump é/empty.avi": b"",
}
CONTENT = {name: data for name, data in FILES.items() if not name.endswith("/")}


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def without_mark(folder):
    return {name: data for name, data in content(folder).items() if name != rar.MARK}


@pytest.fixture
def archive(tmp_path):
    return write_rar(tmp_path / "UCF101.rar", FILES)


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    monkeypatch.setattr(rar, "_library", lambda: None)


def test_files_come_out_as_they_went_in(archive, tmp_path, nothing_installed, capsys):
    folder = rar.unpack(archive, tmp_path / "here/unpacked")
    assert without_mark(folder) == CONTENT
    assert capsys.readouterr().err == f"unpacking {archive} into {folder}: 3 files, 75.0 KiB ...\n"
    assert [path.name for path in folder.parent.iterdir()] == ["unpacked"]


@pytest.mark.parametrize("version", [20, 29])
def test_an_archive_of_an_older_version_with_a_comment(tmp_path, nothing_installed, version):
    files = {"UCF-101/a.avi": b"123" * 1000, "UCF-101/b.avi": b""}
    archive = write_old_rar(tmp_path / "UCF101.rar", files, version=version, end=version == 29)
    assert without_mark(rar.unpack(archive, tmp_path / "out")) == files


def test_an_archive_of_an_older_version_that_is_cut_off(tmp_path):
    archive = write_old_rar(tmp_path / "UCF101.rar", {"a.avi": b"123"}, end=False)
    with pytest.raises(UserError, match="UCF101.rar is cut off, its end is missing"):
        rar.unpack(archive, tmp_path / "out")


def test_what_is_there_is_used_again_until_the_archive_changes(archive, tmp_path, capsys):
    folder = rar.unpack(archive, tmp_path / "unpacked")
    (folder / "UCF-101/mine").touch()
    capsys.readouterr()
    assert rar.unpack(archive, folder) == folder and (folder / "UCF-101/mine").exists()
    assert capsys.readouterr().err == ""
    write_rar(archive, {"other.avi": b"1"})
    os.utime(archive, (1, 1))
    rar.unpack(archive, folder)
    assert without_mark(folder) == {"other.avi": b"1"}


def test_a_folder_of_something_else_is_left_alone(archive, tmp_path):
    (tmp_path / "unpacked").mkdir()
    (tmp_path / "unpacked/mine").touch()
    with pytest.raises(UserError, match="unpacked holds something else than UCF101.rar unpacked"):
        rar.unpack(archive, tmp_path / "unpacked")
    assert [path.name for path in (tmp_path / "unpacked").iterdir()] == ["mine"]


def test_a_run_that_is_killed_leaves_nothing_of_the_folder_s_name(archive, tmp_path):
    program = f"""
        import os, signal
        from pathlib import Path
        from tfds_ucf101.layouts import rar
        rar._difference = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        rar.unpack(Path({str(archive)!r}), Path({str(tmp_path / "unpacked")!r}))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "unpacked").exists() and (tmp_path / "unpacked.partial").exists()
    assert without_mark(rar.unpack(archive, tmp_path / "unpacked")) == CONTENT
    assert not (tmp_path / "unpacked.partial").exists()


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "C:/evil", "..\\evil"])
def test_names_that_lead_out_are_refused(tmp_path, name):
    archive = write_rar(tmp_path / "in/a.rar", {"good.avi": b"1", name: b"2"})
    with pytest.raises(UserError, match="would lie outside of the folder"):
        rar.unpack(archive, tmp_path / "in/out")
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "a.rar"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"damage": ["a.avi"]}, r"could not be unpacked \(copying: "),
        ({"encrypted": ["a.avi"]}, "is encrypted: unpack it"),
        ({"links": ["a.avi"]}, "holds the link a.avi"),
        ({"end": False}, "(is cut off|is no rar file, or damaged)"),
        ({"method": 3}, "is compressed, and nothing here unpacks rar: install one of unrar, bsdtar"),
    ],
)
def test_what_cannot_be_unpacked_is_one_line(tmp_path, options, message, nothing_installed):
    archive = write_rar(tmp_path / "in/a.rar", {"a.avi": b"123", "b.avi": b"4"}, **options)
    with pytest.raises(UserError, match=message) as caught:
        rar.unpack(archive, tmp_path / "in/out")
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(archive))
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.rar"]


@pytest.mark.parametrize("kept", [0, 4, 20, 40, 400, 1000, -1, -9])
def test_an_archive_that_is_cut_off(archive, tmp_path, kept):
    archive.write_bytes(archive.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"UCF101.rar (is (no rar file|cut off)|could not be unpacked)"):
        rar.unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_archive(tmp_path):
    with pytest.raises(UserError, match="a.rar is missing"):
        rar.unpack(tmp_path / "a.rar", tmp_path / "out")
    (tmp_path / "a.rar").write_bytes(b"PK\x03\x04 a zip file")
    with pytest.raises(UserError, match="a.rar is no rar file"):
        rar.unpack(tmp_path / "a.rar", tmp_path / "out")


def test_a_disk_that_is_too_small(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 5, 5000))
    with pytest.raises(UserError, match="takes 75.0 KiB unpacked, .* has 4.9 KiB left: make room"):
        rar.unpack(archive, tmp_path / "out")


def fake_program(folder, body):
    """A program named unrar that runs Python with `archive` and `folder` set."""
    path = folder / "bin/unrar"
    path.parent.mkdir()
    path.write_text(f"#!{sys.executable}\nimport pathlib, sys\nfolder = pathlib.Path(sys.argv[-1])\n{body}\n")
    path.chmod(0o755)
    return str(path)


def with_program(monkeypatch, path):
    monkeypatch.setattr(shutil, "which", lambda program: path if program == "unrar" else None)
    monkeypatch.setattr(rar, "_library", lambda: None)


def test_a_program_unpacks_what_is_compressed(tmp_path, monkeypatch):
    archive = write_rar(tmp_path / "a.rar", {"a/b.avi": b"123"}, method=3)
    write = "(folder / 'a').mkdir(); (folder / 'a/b.avi').write_bytes(b'123')"
    with_program(monkeypatch, fake_program(tmp_path, write))
    assert without_mark(rar.unpack(archive, tmp_path / "out")) == {"a/b.avi": b"123"}


@pytest.mark.parametrize(
    "body, reason",
    [
        ("sys.exit('it is too new')", "unrar: exit status 1, it is too new"),
        ("", "unrar: left out b.avi"),
        ("(folder / 'b.avi').write_bytes(b'12')", "unrar: b.avi has 2 bytes, not 3"),
        ("(folder / 'b.avi').write_bytes(b'124')", "unrar: b.avi has another checksum"),
        ("(folder / 'b.avi').write_bytes(b'123'); (folder / 'c').touch()", "unrar: made a file c that"),
        ("(folder / 'b.avi').symlink_to('/etc/passwd')", "unrar: made the link b.avi"),
    ],
)
def test_a_program_that_fails_is_found_out(tmp_path, monkeypatch, body, reason):
    archive = write_rar(tmp_path / "a.rar", {"b.avi": b"123"}, method=3)
    with_program(monkeypatch, fake_program(tmp_path, body))
    with pytest.raises(UserError, match=reason):
        rar.unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


@pytest.mark.slow  # it takes libarchive, which is no Python package
def test_libarchive_gives_the_same(archive, tmp_path, monkeypatch):
    library = rar._library()
    assert library is not None, "install libarchive to run this test"
    monkeypatch.setattr(
        rar, "_ways", lambda contents: [("libarchive", lambda *given: rar._by_library(library, *given))]
    )
    assert without_mark(rar.unpack(archive, tmp_path / "out")) == CONTENT
    old = {"UCF-101/a.avi": b"123" * 1000, "UCF-101/b.avi": b"1"}
    archive = write_old_rar(tmp_path / "old.rar", old)
    assert without_mark(rar.unpack(archive, tmp_path / "old")) == old
    archive = write_rar(tmp_path / "damaged.rar", FILES, damage=["UCF-101/Archery/v_Archery_g08_c01.avi"])
    with pytest.raises(UserError, match=r"damaged.rar could not be unpacked \(libarchive: \w+"):
        rar.unpack(archive, tmp_path / "other")


def test_several_processes_at_once_unpack_it_once(archive, tmp_path):
    program = textwrap.dedent(f"""
        import pathlib, time
        from tfds_ucf101.layouts import rar
        difference = rar._difference
        rar._difference = lambda *arguments: time.sleep(0.5) or difference(*arguments)
        rar.unpack(pathlib.Path({str(archive)!r}), pathlib.Path({str(tmp_path / "out")!r}))
    """)
    options = {"cwd": ROOT, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([sys.executable, "-c", program], **options) for _ in range(3)]
    said = [one.communicate(timeout=120)[1] for one in started]
    assert [one.returncode for one in started] == [0, 0, 0], said
    assert sum("unpacking" in text for text in said) == 1
    assert without_mark(tmp_path / "out") == CONTENT
