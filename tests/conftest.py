"""Settings of all tests: on the CPU, compiled programs shared between tests and their subprocesses."""

import os
import sys
import tempfile

import fake_data
import pytest
from hypothesis import settings

from r23d_jax import errors

os.environ.setdefault("JAX_PLATFORMS", "cpu")
settings.register_profile("busy machine", deadline=None)  # time is no property of what is tested
settings.load_profile("busy machine")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # Two cores spend most of a test compiling; runs of the same program, resumed ones say, need it only once.
    _CACHE = tempfile.TemporaryDirectory(prefix="r23d-test-cache-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command's `main` as from a shell: `(exit status, stdout, stderr)`."""

    def call(main, *arguments):
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            errors.run_command(main)
        output = capsys.readouterr()
        return ended.value.code, output.out, output.err

    return call


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """The data set of `fake_data.RUN`, of three classes; for reading only."""
    folder = tmp_path_factory.mktemp("data")
    fake_data.write(folder, classes=3, groups=12, frames=10, height=24, width=28)
    return folder


@pytest.fixture(scope="session")
def probe_paths(tmp_path_factory):
    """Videos, weights and kept features for the tests of probes; see `probe_videos.Paths`."""
    import probe_videos

    return probe_videos.write(tmp_path_factory.mktemp("probe"))
