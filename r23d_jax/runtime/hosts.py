"""Several processes that train one network, usually one a host: joining, comparing, stopping and ending together.

Every process runs the same command; process 0 writes the workdir, the others read it. With one process all of this
does nothing. JAX's coordination service finds out that a process is lost, and ends the others: docs/hosts.md.
"""

import argparse
import atexit
import contextlib
import hashlib
import inspect
import json
import os
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
from r23d_jax.runtime.launch import place
from r23d_jax.runtime.signals import EXIT_STATUS, Interrupted, InterruptedAlone

_PATIENCE = 900  # seconds that all wait for one that lives but is slow: importing weights, writing a report
_LAST_WORDS = 5  # seconds for others that fail, too, to say so before process 0 ends them by its end
_SHARED = 30  # seconds a network file system has to show a new file to the other hosts


@contextlib.contextmanager
def joined(flags: argparse.Namespace) -> Iterator[None]:
    """Joins the others. When the program exits JAX waits for them, so that they end together.

    A process that fails in between, or alone is told to stop, exits with its own words and status and without waiting;
    the others miss it and are ended by JAX, after `--heartbeat` seconds at the latest.

    Raises:
      UserError: the processes cannot join, or have different numbers of devices.
    """
    where = place(flags, os.environ)
    if where is None:
        yield
        return
    import jax

    at = f"--coordinator {where.coordinator}" if where.coordinator else "--distributed"
    if where.process == 0 and where.coordinator:
        _check_port(where.coordinator)
    # Where not all come JAX ends the process, and says no more than that a deadline was exceeded.
    print(f"{at}: waiting up to {flags.join_timeout} s for all processes (--join-timeout)", file=sys.stderr, flush=True)
    # Its handler of SIGTERM would swallow the signal until training begins, and ours does its work from there.
    if hasattr(jax.config, "jax_enable_preemption_service"):  # JAX 0.7 does not go without
        jax.config.update("jax_enable_preemption_service", False)
    times = {
        "initialization_timeout": flags.join_timeout,
        "heartbeat_timeout_seconds": flags.heartbeat,
        "shutdown_timeout_seconds": _PATIENCE,  # JAX 0.7 has a fixed one
    }
    known = inspect.signature(jax.distributed.initialize).parameters
    try:
        jax.distributed.initialize(
            *where,
            **{name: seconds for name, seconds in times.items() if name in known},
            cluster_detection_method="deactivate" if None not in where else None,
        )
    except (RuntimeError, ValueError, TypeError) as error:  # what JAX cannot find out
        raise UserError(f"{at}: the processes cannot join ({one_line(error)})") from error
    primary = True  # until it is known
    try:
        owners = [device.process_index for device in jax.devices()]
        counts = [owners.count(process) for process in range(jax.process_count())]
        if len(set(counts)) > 1:
            raise UserError(f"processes 0 to {len(counts) - 1} have {counts} devices: all must have the same number")
        names = ", ".join(f"{process} on {name}" for process, name in enumerate(_gather(socket.gethostname())))
        primary = is_primary()
        if primary:
            print(f"processes: {names}", file=sys.stderr)
        yield
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, UserError | OSError):
            # Most likely a collective that failed since a process was lost: JAX says which one, and ends this one.
            time.sleep(flags.heartbeat + 15)
        if isinstance(error, InterruptedAlone) or not isinstance(error, Interrupted):
            atexit.register(_exit_alone, EXIT_STATUS if isinstance(error, Interrupted) else 1, primary)
        raise


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


def _exit_alone(status: int, primary: bool) -> None:
    """Ends this process at exit, before JAX's own function of that kind, which waits for all others to come there."""
    if primary:
        time.sleep(_LAST_WORDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _several() -> bool:
    import jax

    return jax.distributed.is_initialized()


def is_primary() -> bool:
    """Whether this is the process that writes."""
    import jax

    return not _several() or jax.process_index() == 0


def _gather(value: Any) -> list[Any]:
    """Returns a JSON value of every process, in their order."""
    from jax.experimental import multihost_utils

    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    with _patience("a comparison"):
        longest = int(multihost_utils.process_allgather(np.int32(len(data))).max())
        padded = np.pad(data, (0, longest - len(data)), constant_values=ord(" "))
        return [json.loads(row.tobytes()) for row in multihost_utils.process_allgather(padded)]


@contextlib.contextmanager
def _patience(what: str) -> Iterator[None]:
    """Ends this process where a collective takes too long, for which JAX has no time limit that is public."""

    def give_up():
        text = f'error: not all processes came to "{what}" within {_PATIENCE} s; look for the one that hangs'
        print(text, file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(_PATIENCE, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def barrier(what: str) -> None:
    """Waits until every process is here, and so what process 0 wrote before is there to be read."""
    if _several():
        from jax.experimental import multihost_utils

        with _patience(what):
            multihost_utils.sync_global_devices(what)


def assert_equal(facts: Mapping[str, Any]) -> None:
    """Checks that all processes are about to do the same.

    Args:
      facts: JSON values by what to call them, the most telling ones first.

    Raises:
      UserError: in every process, naming the first one that differs from process 0, and the first facts it differs in.
    """
    if not _several():
        return
    hosts, all_facts = zip(*_gather([socket.gethostname(), {**facts, **_own_facts()}]), strict=True)
    for process, theirs in enumerate(all_facts):
        differ = [name for name in {**all_facts[0], **theirs} if theirs.get(name) != all_facts[0].get(name)]
        if differ:
            shown = ", ".join(f"{name}: {theirs.get(name)!r}, not {all_facts[0].get(name)!r}" for name in differ[:3])
            raise UserError(
                f"process {process} ({hosts[process]}) differs from process 0 ({hosts[0]}) in {shown}; every process "
                "needs the same command, code, data set and workdir"
            )


def _own_facts() -> dict[str, Any]:
    import jax

    from r23d_jax.runtime.workdir import metadata_version

    code = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        code.update(path.read_bytes())
    return {
        "code": code.hexdigest()[:12],
        **{name: metadata_version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")},
        "devices": jax.local_devices()[0].device_kind,
    }


def digest(tensors: Mapping[str, Any]) -> str:
    """Returns a digest of flat `{name: array}`; "" where there is nobody to compare it with."""
    if not _several():
        return ""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode() + np.asarray(tensors[name]).tobytes())
    return found.hexdigest()[:12]


def check_shared(workdir: Path) -> None:
    """Checks that every process sees what process 0 writes in the workdir.

    Raises:
      UserError: in every process, naming the first one that does not.
    """
    if not _several():
        return
    file, token = workdir / ".lock", _gather(uuid.uuid4().hex)[0]  # held by process 0; its content is free
    if is_primary():
        file.write_text(token)
    until = time.monotonic() + _SHARED
    while not (seen := file.is_file() and file.read_text() == token) and time.monotonic() < until:
        time.sleep(0.2)
    hosts, folders, all_seen = zip(*_gather([socket.gethostname(), str(workdir), seen]), strict=True)
    if not all(all_seen):
        process = all_seen.index(False)
        raise UserError(
            f"process {process} ({hosts[process]}): --workdir {folders[process]} is not the folder that process 0 "
            f"({hosts[0]}) writes to; it must be on a file system that all hosts share"
        )


def sync_stop(interrupted: bool, out_of_time: bool, due: bool = True) -> tuple[bool, bool]:
    """Returns what all processes do: stop when any of them was told to, and end when process 0's time is up.

    Args:
      interrupted, out_of_time: as this process sees it.
      due: whether this is a step to ask the others at, the same for all; asking waits for the devices. In
        between nobody stops.

    Returns:
      (interrupted, out_of_time), the same in every process.
    """
    if not _several():
        return interrupted, out_of_time
    if not due:
        return False, False
    from jax.experimental import multihost_utils

    votes = multihost_utils.process_allgather(np.asarray([interrupted, out_of_time]))
    return bool(votes[:, 0].any()), bool(votes[0, 1])
