"""`benchmarks/wheels.py`: what is missing elsewhere, and what is downloaded for it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from paths import ROOT

from r23d_jax.errors import UserError

sys.path.insert(0, str(ROOT / "benchmarks"))

import wheels  # noqa: E402

LIST = """\
Package            Version      Editable project location
------------------ ------------ -------------------------
jax                0.11.2
ml_dtypes          0.6.0
my.project         1.0+local    /somewhere
opencv-python==5.0
orbax-checkpoint
"""


def test_lists_of_pip_and_bare_names_are_read():
    expected = {"jax": "0.11.2", "ml-dtypes": "0.6.0", "my-project": "1.0+local", "opencv-python": "5.0"}
    assert wheels.read_list(LIST) == expected | {"orbax-checkpoint": ""}


def test_what_is_missing_is_what_neither_a_name_nor_its_like_is_there_for():
    have = wheels.read_list(LIST)
    asked = ["jax>=0.7", "ml_dtypes", "opencv-contrib-python-headless>=4.12", "orbax_checkpoint>=99", "grain>=0.2"]
    assert [one.name for one in wheels.missing([*map(Requirement, asked)], have)] == ["grain"]
    with pytest.raises(UserError, match="jax 0.11.2 is there, and jax<0.11 is needed"):
        wheels.missing([Requirement("jax<0.11")], have)
    assert {"jax", "grain", "array_record"} <= {one.name for one in wheels.needed()}
    assert not {one.name for one in wheels.needed()} & set(wheels.UNUSED)


@pytest.fixture
def index(monkeypatch):
    """In place of `pip download`: needs by name; returns the calls."""
    needs = {
        "grain": ["portpicker>=1", "jax", 'old; python_version < "3.12"', 'more; extra == "all"'],
        "portpicker": [],
    }
    calls = []

    def download(command, **_):
        folder, asked = Path(command[command.index("--dest") + 1]), [w for w in command[9:] if w[0].isalpha()]
        asked = [word for word in asked if Requirement(word).name in needs or "nowhere" in word]
        calls.append(asked)
        if any("nowhere" in word for word in asked):
            return subprocess.CompletedProcess(command, 1, "", "WARNING: slow\nERROR: No matching distribution\n")
        for name in (Requirement(word).name for word in asked):
            with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
                lines = [f"Name: {name}", *(f"Requires-Dist: {need}" for need in needs[name])]
                wheel.writestr(f"{name}-1.0.dist-info/METADATA", "\n".join(lines))
                wheel.writestr("data", bytes(2**20))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)
    return calls


def test_needs_are_followed_as_far_as_they_are_missing(run, monkeypatch, tmp_path, index):
    (tmp_path / "have.txt").write_text(LIST)
    monkeypatch.setattr(wheels, "needed", lambda: [Requirement("grain>=0.2"), Requirement("jax")])
    arguments = ("--have", tmp_path / "have.txt", "--out", tmp_path / "out")
    status, out, _ = run(wheels.main, *arguments)
    assert status == 0 and index == [["grain>=0.2"], ["portpicker>=1"]]
    assert "grain-1.0" in out and "2.0 MiB" in out and f"--no-deps --target site {tmp_path}/out/*.whl" in out
    status, _, err = run(wheels.main, *arguments)
    assert status == 1 and "is not empty" in err
    status, _, err = run(wheels.main, *arguments[:3], tmp_path / "other", "--limit-mib", "1")
    assert status == 1 and err.startswith("error: 2.0 MiB") and err.count("\n") == 1
    monkeypatch.setattr(wheels, "needed", lambda: [Requirement("nowhere")])
    status, _, err = run(wheels.main, *arguments[:3], tmp_path / "third")
    assert status == 1 and "No matching distribution" in err


def test_a_list_that_is_no_text_is_refused(run, tmp_path):
    path = tmp_path / "have.txt"
    path.write_bytes(LIST.encode("utf-16"))  # as PowerShell writes it
    status, out, err = run(wheels.main, "--have", path)
    assert status == 1 and not out and err.startswith(f"error: --have {path}: no text in UTF-8")
    assert err.count("\n") == 1 and "pip list" in err


def test_here_nothing_is_missing(run):
    assert run(wheels.main)[:2] == (0, "nothing is missing\n")
