"""The build on a cluster: Beam's DaskRunner with a scheduler and two workers, each a process of its own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from building import SMALL, read_index, write_folder
from paths import ROOT

pytestmark = pytest.mark.slow

SCRIPTS = Path(sys.executable).parent
# Of each worker, how many tasks it has done.
COUNT = "import sys; from distributed import Client; c = Client(sys.argv[1]); " + (
    "print(*c.run(lambda dask_worker: dask_worker.state.executed_count).values())"
)


@pytest.fixture
def cluster(tmp_path):
    """The address of the scheduler, HOST:PORT."""
    away = tmp_path / "away"  # so that nothing is found because of the current folder
    away.mkdir()
    contact = away / "scheduler.json"
    common = [f"--scheduler-file={contact}", "--host=127.0.0.1", "--no-dashboard"]
    lines = [[SCRIPTS / "dask", "scheduler", "--port=0", *common]]
    lines += [[SCRIPTS / "dask", "worker", "--nthreads=1", "--no-nanny", f"--local-directory={away}", *common]] * 2
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    processes = []
    try:
        for i, line in enumerate(lines):
            with (away / f"{i}.log").open("w") as log:
                processes.append(subprocess.Popen(line, cwd=away, env=environment, stdout=log, stderr=log))
            _wait_for(contact.exists, processes)
        address = json.loads(contact.read_text())["address"].removeprefix("tcp://")
        _wait_for(lambda: (away / "0.log").read_text().count("Register worker") == 2, processes)
        yield address
    finally:
        for process in processes:
            process.kill()  # at SIGTERM a worker may wait for a scheduler that is gone
            process.wait()


def test_two_workers_write_the_same_shards_as_this_machine_alone(cluster, tmp_path):
    root = write_folder(tmp_path / "input", classes=("Jump", "Run", "Swim"))
    asked = {
        "alone": "direct_num_workers=1,direct_running_mode=in_memory",
        "dask": f"runner=DaskRunner,dask_client_address={cluster}",
    }
    running = {name: _start_build(root, tmp_path / name, options) for name, options in asked.items()}
    for process in running.values():
        stderr = process.communicate(timeout=600)[1]
        assert process.returncode == 0, stderr
    alone, dask = (next((tmp_path / name).glob("tfds_ucf101/small/*")) for name in asked)
    names = sorted(path.name for path in alone.iterdir())
    assert names == sorted(path.name for path in dask.iterdir())
    assert len(read_index(dask)["shards"]) > 4
    for name in names:
        if name != "build_report.json":  # which tells of the time and the workers
            assert (alone / name).read_bytes() == (dask / name).read_bytes(), name
    assert json.loads((dask / "build_report.json").read_text())["workers"] is None
    done = subprocess.run([sys.executable, "-c", COUNT, cluster], capture_output=True, text=True, timeout=60)
    counts = [int(count) for count in done.stdout.split()]
    assert len(counts) == 2 and min(counts) > 0, done.stderr


def _start_build(root: Path, out: Path, options: str) -> subprocess.Popen:
    line = [SCRIPTS / "tfds", "build", "tfds_ucf101", f"--config={json.dumps(SMALL)}"]
    line += [f"--manual_dir={root}", f"--data_dir={out}", f"--beam_pipeline_options={options}"]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _wait_for(condition, processes) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until and all(process.poll() is None for process in processes)
        time.sleep(0.1)
