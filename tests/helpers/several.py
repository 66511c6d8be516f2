"""Several processes of one command over loopback, as they would run on several hosts."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from paths import ROOT

from r23d_jax.training.log import read_metrics


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def start(
    command: Sequence[str],
    processes: int,
    *,
    different: dict[int, Sequence[str]] | None = None,
    devices: int = 1,
    heartbeat: int = 60,
    only: Sequence[int] | None = None,
) -> list[subprocess.Popen]:
    """Starts the processes.

    Args:
      command: after the interpreter, the same for all.
      processes: how many; with one it is told nothing of others.
      different: further arguments of some of them.
      devices: of each.
      heartbeat: in seconds; a busy machine needs many.
      only: start these, as if the others never came.
    """
    port, started = free_port(), []
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
    for process in range(processes) if only is None else only:
        place = (
            [
                "--coordinator",
                f"127.0.0.1:{port}",
                "--processes",
                str(processes),
                "--process",
                str(process),
                "--heartbeat",
                str(heartbeat),
            ]
            if processes > 1
            else []
        )
        arguments = [sys.executable, *map(str, command), *place, *(different or {}).get(process, ())]
        started.append(
            subprocess.Popen(
                arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    return started


def finish(started: Sequence[subprocess.Popen], timeout: float = 1500) -> list[subprocess.CompletedProcess]:
    """Waits for all; kills what is left after the time."""
    done, until = [], time.monotonic() + timeout
    try:
        for process in started:
            out, err = process.communicate(timeout=max(until - time.monotonic(), 0))
            done.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.communicate()
    return done


def wait_for(condition: Callable[[], bool], started: Sequence[subprocess.Popen], timeout: float = 900) -> None:
    """Until the condition holds; an error if a process ends before or the time is over."""
    until = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > until or any(process.poll() is not None for process in started):
            raise AssertionError(f"it did not come to that: {[d.stderr for d in finish(started, 0.1)]}")
        time.sleep(0.05)


def reached(workdir: Path, step: int) -> bool:
    """Whether the log of a run is at a step."""
    return any(line["step"] >= step for line in read_metrics(workdir))
