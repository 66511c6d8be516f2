"""Processes that measure: each reports what it finds as it finds it, and is stopped at the end of its time."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
PATHS = (ROOT, ROOT / "benchmarks", ROOT / "tests" / "helpers")


class Reporter:
    """A child's side: its settings, and the channel of its events.

    Everything else that the process prints goes to stderr. The process ends with its parent.
    """

    def __init__(self):
        self.settings: dict[str, Any] = json.loads(sys.argv[1])
        self._events = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        threading.Thread(target=self._end_with, args=(os.getppid(),), daemon=True).start()

    def left(self) -> float:
        """Returns the seconds until this process is stopped."""
        return self.settings["ends"] - time.time()

    def send(self, **event: Any) -> None:
        """Sends an event; `record` is a result, `failed` a name and a reason."""
        self._events.write(json.dumps(event) + "\n")

    def end(self) -> None:
        """Ends the process at once, whatever its threads are doing."""
        self.send(done=True)
        os._exit(0)

    def _end_with(self, parent: int) -> None:
        while os.getppid() == parent and self.left() > -10:
            time.sleep(0.5)
        if os.getpgrp() == os.getpid():  # with those that it started
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


def _with_cpu() -> dict[str, str]:
    """Returns the variable that has JAX see the CPU, too, on which fresh weights are made, if one leaves it out."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    return {"JAX_PLATFORMS": f"{platforms},cpu"} if platforms and "cpu" not in platforms.split(",") else {}


def events(
    module: str, settings: dict[str, Any], seconds: float, log: Path, environment: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Runs `python -m module` and yields its events; the last one is `done` or `ended`, with the reason.

    Args:
      module: with a `Reporter`.
      settings: for it; "ends", by the clock of the system, is added.
      seconds: after which the process and those that it started are killed.
      log: its stderr is appended there.
      environment: variables beside this process's.
    """
    paths = [*map(str, PATHS), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", module, json.dumps(settings | {"ends": time.time() + seconds})]
    ends, begins = time.monotonic() + seconds, log.stat().st_size if log.exists() else 0
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **_with_cpu(), **environment, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    lines: queue.Queue[str | None] = queue.Queue()
    reading = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reading.start()
    try:
        while (line := lines.get(timeout=max(0.0, ends - time.monotonic()))) is not None:
            try:
                event = json.loads(line)
            except ValueError:  # it died while it wrote
                continue
            yield event
            if "done" in event:
                return
        status = process.wait(timeout=max(1.0, ends - time.monotonic()))
        yield {"ended": f"exit status {status}: {_last_words(log, begins)}"}
    except (queue.Empty, subprocess.TimeoutExpired):
        yield {"ended": f"stopped after {seconds:.0f} s", "late": True}
    finally:  # with whatever it started itself, which would go on using the device
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reading.join()


def _read(stream: IO[str], lines: queue.Queue) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


def _last_words(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - 4000))
        said = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return " / ".join(said[-3:])[-600:] or "no message"
