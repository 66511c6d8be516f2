"""The workdir of a run: its config, environment and commit, and the lock that reserves it for one process."""

import contextlib
import fcntl
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
from ml_collections import ConfigDict

from r23d_jax.config import flatten, from_flat
from r23d_jax.errors import UserError
from r23d_jax.runtime.addresses import public_name
from r23d_jax.runtime.files import read_json, write_json

if TYPE_CHECKING:
    from r23d_jax.data.dataset import Dataset

# Keys that may change between sessions of a run, because they do not affect what is learned.
_FREE = (
    "dataset.data_dir",
    "eval.",
    "checkpoint.",
    "budget_minutes",
    "log_every",
    "workers",
    "processes",
    "prefetch",
    "remat",
)


def check_workdir(workdir: Path, config: ConfigDict, dataset: "Dataset") -> None:
    """Checks that a run in `workdir`, if there is one, has this config and data set.

    Raises:
      UserError: they differ; the message names the keys.
    """
    flat = _json_values(config)
    if (workdir / "checkpoints").is_dir() and any((workdir / "checkpoints").glob("*")):
        keys, fingerprint = recorded(workdir)
        # A value of the clip that either leaves to the weights is compared once the checkpoint's card says it.
        later = [k for k in flat if k.startswith("clip.") and None in (keys.get(k), flat[k])]
        free = (*_FREE, *later)
        differ = [k for k in {**keys, **flat} if not k.startswith(free) and keys.get(k) != flat.get(k)]
        if differ:
            shown = ", ".join(f"{k}={keys.get(k)!r} there, {flat.get(k)!r} now" for k in differ[:3])
            raise UserError(f"{workdir}: holds a run of another config ({shown}); use a new workdir")
        if fingerprint != dataset.fingerprint:
            raise UserError(f"{workdir}: holds a run on another build of the data set; use a new workdir")


def recorded(workdir: Path) -> tuple[dict[str, Any], str]:
    """Returns the flat config and the data set's fingerprint in `config.json`; keys it lacks have their defaults.

    Raises:
      UserError: the file is missing or unreadable.
    """
    path = workdir / "config.json"
    try:
        before = read_json(path)
        return _json_values(from_flat(before["config"])), before["dataset"]["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, UserError) as error:
        raise UserError(f"{path}: unreadable ({error}); use a new workdir") from None


def facts(config: ConfigDict, dataset: "Dataset") -> dict[str, Any]:
    """Returns what must be equal in all processes of a run: all keys except the data's path, and its fingerprint."""
    keys = {f"config.{key}": value for key, value in _json_values(config).items() if key != "dataset.data_dir"}
    return {**keys, "data set": dataset.full_name, "fingerprint": dataset.fingerprint[:12]}


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Locks the workdir for this process; raises a `UserError` if another process has it."""
    with (workdir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{workdir}: another process is training in it; wait for it or use a new workdir") from None
        yield


def claim_workdir(workdir: Path, config: ConfigDict, dataset: "Dataset") -> None:
    """Writes `config.json`."""
    workdir.mkdir(parents=True, exist_ok=True)
    data = {"name": dataset.full_name, "fingerprint": dataset.fingerprint}
    values = {"config": _json_values(config), "dataset": data, "environment": environment()}
    write_json(workdir / "config.json", values)


def _json_values(config: ConfigDict) -> dict[str, Any]:
    """Returns the flat config as JSON would, with lists for tuples, and of an address no password and query."""
    values = json.loads(json.dumps(flatten(config)))
    return values | {"init_from": public_name(values["init_from"])}


def environment() -> dict[str, Any]:
    """Returns versions, devices and host of this process."""
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    return {
        "r23d_jax": metadata_version("r23d_jax"),
        "commit": commit(),
        "python": platform.python_version(),
        **{name: metadata_version(name) for name in names},
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "processes": jax.process_count(),
        "cpu_count": os.cpu_count(),
    }


def metadata_version(name: str) -> str:
    """Returns the version of an installed distribution, "" if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def commit() -> str:
    """Returns the commit of this checkout, with "+changes" if it has any; "" outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        git = ["git", "-C", str(root)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        status = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return head.stdout.strip() + ("+changes" if status.stdout.strip() else "") if head.returncode == 0 else ""
