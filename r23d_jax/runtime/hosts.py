"""Several processes that train one network, usually one a host: joining, agreeing, stopping, failing together.

Every process runs the same command. Process 0 writes the workdir, the others read it. With one process all of
this does nothing.
"""

import argparse
import atexit
import contextlib
import hashlib
import itertools
import json
import os
import re
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from r23d_jax.errors import UserError, one_line
from r23d_jax.runtime.aborts import Aborts
from r23d_jax.runtime.launch import Place, place
from r23d_jax.runtime.signals import EXIT_STATUS, Interrupted, InterruptedAlone

_PATIENCE = 900  # seconds that all wait for one that lives but is slow: importing weights, writing a report
_LAST_WORDS = 2  # seconds for a process to say itself why it ends, where process 0 hears of it and is gone before
_SHARED = 30  # seconds a network file system has to show a new file to the other hosts


# --- joining --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def joined(flags: argparse.Namespace) -> Iterator[None]:
    """Joins the others, and leaves them together at the end.

    A process that fails in between tells the others why, and so does one that alone was told to stop; one that is lost
    is missed by them after `--heartbeat` seconds. Each of these ends them all, with a line that names it.
    """
    global _group
    where = place(flags, os.environ)
    if where is None:
        yield
        return
    _group = _Group(where, flags.heartbeat, flags.join_timeout)
    try:
        _group.meet(flags.join_timeout)
        yield
    except BaseException as error:
        if isinstance(error, Interrupted) and not isinstance(error, InterruptedAlone):
            _group.leave()
        else:
            _group.fail(error)
        raise
    _group.leave()


class _Group:
    """The processes that joined, seen from one of them."""

    def __init__(self, where: Place, heartbeat: int, join_timeout: int):
        self.names, self.count, self._where, self._heartbeat, self._join_timeout = {}, 0, where, heartbeat, join_timeout
        self._rounds = itertools.count()
        self._last_words: tuple[str, int] | None = None
        self._aborts = Aborts(self._explain)
        self._aborts.install()
        self._leaving = threading.Event()
        if where.process == 0 and where.coordinator:
            _check_port(where.coordinator)

        import jax

        # Its handler of SIGTERM would swallow the signal until training begins, and ours does its work from there.
        jax.config.update("jax_enable_preemption_service", False)
        try:
            jax.distributed.initialize(
                where.coordinator,
                where.processes,
                where.process,
                initialization_timeout=join_timeout,
                heartbeat_timeout_seconds=heartbeat,
                shutdown_timeout_seconds=_PATIENCE,
                cluster_detection_method="deactivate" if None not in where else None,
            )
        except (RuntimeError, ValueError, TypeError) as error:  # what JAX cannot find out
            at = f"--coordinator {where.coordinator}" if where.coordinator else "--distributed"
            raise UserError(f"{at}: the processes cannot join ({one_line(error)})") from error

        from jax._src import distributed  # no public name gives the store of keys that all processes share

        self.client, self.me = distributed.global_state.client, distributed.global_state.process_id
        self.count = distributed.global_state.num_processes
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="hosts")
        self._watcher.start()

    def meet(self, seconds: int) -> None:
        """Learns the names of all hosts."""
        self.client.key_value_set(f"r23d/host/{self.me}", socket.gethostname())
        self.wait("joined", seconds)
        self.names = {int(key.rsplit("/", 1)[1]): name for key, name in self.client.key_value_dir_get("r23d/host")}
        if self.me == 0:
            print("processes: " + ", ".join(f"{i} on {self.names[i]}" for i in range(self.count)), file=sys.stderr)

    def name(self, process: int) -> str:
        return f"process {process} ({self.names[process]})" if process in self.names else f"process {process}"

    def wait(self, what: str, seconds: int = _PATIENCE) -> None:
        """Until all are here.

        Raises:
          UserError: naming those that were not, though alive.
        """
        try:
            self.client.wait_at_barrier(f"r23d/{what}", seconds * 1000)
        except RuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
            late = ", ".join(self._named(str(error))) or "a process"
            raise UserError(f'{late} did not get to "{what}" within {seconds} s of the others') from error

    def next_round(self) -> int:
        """A number for the keys of an agreement: all processes make the same ones in the same order."""
        return next(self._rounds)

    def leave(self) -> None:
        """Waits for all, so that none is missed."""
        import jax

        try:
            self.wait("end")
        except UserError as error:
            self.fail(error)
            raise
        self._leaving.set()
        self.client.key_value_set(f"r23d/stop/{self.me}", "")
        self._watcher.join()
        jax.distributed.shutdown()

    def fail(self, error: BaseException) -> None:
        """Tells the others, and sees to it that this process ends without waiting for them."""
        reason = one_line(error)
        if not isinstance(error, UserError | OSError | KeyboardInterrupt | Interrupted):
            # A collective that failed, most likely since a process was lost: the service will know which one.
            time.sleep(self._heartbeat + 15)
            reason = f"{type(error).__name__}: {reason}"
        self._leaving.set()
        kind, status = ("interrupted", EXIT_STATUS) if isinstance(error, Interrupted) else ("error", 1)
        self._last_words = f"{kind}: {reason}", status
        # Else JAX would wait for all others before this process may exit.
        atexit.register(self._exit_at_once, status)
        message = reason if reason.startswith("process ") else f"{self.name(self.me)}: {reason}"
        message = json.dumps([f"{kind}: {message}", status])
        others = [process for process in range(self.count) if process != self.me]
        try:
            for process in others:
                self.client.key_value_set(f"r23d/stop/{process}", message, allow_overwrite=True)
            for process in others:
                self.client.blocking_key_value_get(f"r23d/heard/{process}", 3000)
        except RuntimeError:  # process 0 has gone before, or one hears nothing: the heartbeat finds out
            return
        if self.me == 0:
            time.sleep(1)  # the others have heard; they end on their own before they miss this one

    def _exit_at_once(self, status: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    def _watch(self) -> None:
        """Ends this process when another one says that it failed, or that it was told to stop."""
        try:
            message = self.client.blocking_key_value_get(f"r23d/stop/{self.me}", 2**31 - 1)
            self.client.key_value_set(f"r23d/heard/{self.me}", "yes", allow_overwrite=True)
        except RuntimeError:  # the service is gone: its own message comes through `Aborts`
            return
        if not self._leaving.is_set():
            self._aborts.end(*json.loads(message))

    def _explain(self, text: str) -> tuple[str, int]:
        """What the coordination service wrote when it ended this process, in one line, and the status to end with."""
        if self._last_words:
            time.sleep(_LAST_WORDS)
            return self._last_words
        if not self.count:
            at = self._where.coordinator or "the address that was found"
            return (
                f"error: not all processes arrived at {at} within {self._join_timeout} s (--join-timeout); start the "
                "same command on every host"
            ), EXIT_STATUS
        who = ", ".join(self._named(text)) or self.name(0)
        return (
            f"error: {who} was lost (it died, or gave no sign of life for {self._heartbeat} s); all processes end, and "
            "the same command continues from the last checkpoint"
        ), EXIT_STATUS

    def _named(self, text: str) -> list[str]:
        """The processes that the coordination service lists in a message, each on a line."""
        numbers = {int(number) for number in re.findall(r"^(\d+)$", text, re.MULTILINE)}
        return [self.name(process) for process in sorted(numbers & set(range(self.count)))]


def _check_port(coordinator: str) -> None:
    """JAX 0.10.2 can end in a segmentation fault where the port is taken."""
    port = int(coordinator.rpartition(":")[2])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the service does
        try:
            probe.bind(("", port))
        except (OSError, OverflowError) as error:
            reason = f"port {port} of this host cannot be had ({one_line(error)})"
            raise UserError(f"--coordinator {coordinator}: {reason}; name another one") from None


_group: _Group | None = None


# --- agreeing -------------------------------------------------------------------------------------------


def assert_equal(facts: Mapping[str, Any]) -> None:
    """Checks that all processes are about to do the same.

    Args:
      facts: JSON values by what to call them, the most telling ones first.

    Raises:
      UserError: naming the process that differs from process 0, and the first facts it differs in.
    """
    if _group is None:
        return
    facts = json.loads(json.dumps({**facts, **_own_facts()}))
    key = f"r23d/agree/{_group.next_round()}"
    if _group.me == 0:
        _group.client.key_value_set(key, json.dumps(facts))
    is_primary = json.loads(_group.client.blocking_key_value_get(key, _PATIENCE * 1000))
    differ = [name for name in {**facts, **is_primary} if facts.get(name) != is_primary.get(name)]
    if differ:
        shown = ", ".join(f"{name}: {facts.get(name)!r}, not {is_primary.get(name)!r}" for name in differ[:3])
        raise UserError(
            f"{_group.name(_group.me)} differs from {_group.name(0)} in {shown}; every process needs the same command, "
            "code, data set and workdir"
        )
    _group.wait(key)


def _own_facts() -> dict[str, Any]:
    import jax

    from r23d_jax.runtime.workdir import metadata_version

    code = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        code.update(path.read_bytes())
    return {
        "code": code.hexdigest()[:12],
        **{name: metadata_version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")},
        "devices": f"{jax.local_device_count()} x {jax.local_devices()[0].device_kind}",
    }


def digest(tensors: Mapping[str, Any]) -> str:
    """Of flat `{name: array}`; "" where there is nobody to compare it with."""
    if _group is None:
        return ""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode() + np.asarray(tensors[name]).tobytes())
    return found.hexdigest()[:12]


def check_shared(workdir: Path) -> None:
    """Checks that every process sees what process 0 writes in the workdir.

    Raises:
      UserError: naming the one that does not.
    """
    if _group is None:
        return
    key, file = f"r23d/shared/{_group.next_round()}", workdir / ".lock"  # held by process 0; its content is free
    if _group.me == 0:
        file.write_text(uuid.uuid4().hex)
        _group.client.key_value_set(key, file.read_text())
    token, until = _group.client.blocking_key_value_get(key, _PATIENCE * 1000), time.monotonic() + _SHARED
    while not (file.is_file() and file.read_text() == token):
        if time.monotonic() > until:
            raise UserError(
                f"{_group.name(_group.me)}: --workdir {workdir} is not the folder that {_group.name(0)} writes to; "
                "it must be on a file system that all hosts share"
            )
        time.sleep(0.2)
    _group.wait(key)


def decide(interrupted: bool, out_of_time: bool, due: bool = True) -> tuple[bool, bool]:
    """What all processes do: stop when any of them was told to, and end when process 0's time is up.

    Args:
      interrupted, out_of_time: as this process sees it.
      due: whether this is a step to ask the others at, the same for all; asking waits for the devices. In
        between nobody stops.

    Returns:
      (interrupted, out_of_time), the same in every process.
    """
    if _group is None:
        return interrupted, out_of_time
    if not due:
        return False, False
    from jax.experimental import multihost_utils

    votes = multihost_utils.process_allgather(np.asarray([interrupted, out_of_time]))
    return bool(votes[:, 0].any()), bool(votes[0, 1])


def barrier(what: str) -> None:
    """Until every process is here, and so what process 0 wrote before is there to be read."""
    if _group is not None:
        _group.wait(f"{what}/{_group.next_round()}")


def is_primary() -> bool:
    """Whether this is the process that writes."""
    return _group is None or _group.me == 0
