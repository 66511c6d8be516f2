"""Where this process stands among several: from flags, or from what a launcher says in the environment."""

import argparse
import re
from collections.abc import Mapping
from typing import NamedTuple

from r23d_jax.errors import UserError


class Place(NamedTuple):
    """What `jax.distributed.initialize` is told; None for what it finds in the environment."""

    coordinator: str | None
    processes: int | None
    process: int | None


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of a command that can run on several hosts."""
    group = parser.add_argument_group("several hosts", "the same command on each; see docs/hosts.md")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens, the same for all")
    group.add_argument("--processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process", type=int, metavar="I", help="which of them this is, from 0")
    group.add_argument(
        "--distributed",
        action="store_true",
        help="find the others as JAX does (Slurm, Open MPI, "
        "Kubernetes, TPU pods); not needed under srun, mpirun and on GKE's TPU pods",
    )
    group.add_argument(
        "--heartbeat",
        type=int,
        default=60,
        metavar="SECONDS",
        help="silence after which a process counts as lost and the others end; %(default)s",
    )
    group.add_argument(
        "--join-timeout",
        type=int,
        default=300,
        metavar="SECONDS",
        help="how long to wait at the start until all are there; %(default)s",
    )


def place(flags: argparse.Namespace, environment: Mapping[str, str]) -> Place | None:
    """This process's place among several, or None where it is alone.

    Flags win over `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`, and these over what a
    launcher says of itself.

    Raises:
      UserError: a part of it is missing or cannot be.
    """
    if flags.heartbeat < 1 or flags.join_timeout < 1:
        raise UserError("--heartbeat and --join-timeout: must be at least 1 second")
    coordinator = flags.coordinator or environment.get("JAX_COORDINATOR_ADDRESS")
    numbers = {
        "--processes": _number(flags.processes, environment, "JAX_NUM_PROCESSES"),
        "--process": _number(flags.process, environment, "JAX_PROCESS_ID"),
    }
    processes, process = numbers.values()
    if processes == 1:
        return None
    if flags.distributed or (coordinator, processes, process) == (None, None, None):
        found = flags.distributed or _launched_together(environment)
        return Place(coordinator, processes, process) if found else None
    missing = [name for name, value in {"--coordinator": coordinator, **numbers}.items() if value is None]
    if missing:
        needed = "several hosts need --coordinator, --processes and --process"
        raise UserError(f"{' and '.join(missing)}: missing; {needed}")
    if not 0 <= process < processes:
        raise UserError(f"--process {process}: must be from 0 to {processes - 1}, for there are {processes} processes")
    if not re.fullmatch(r".+:\d+", coordinator):
        raise UserError(f"--coordinator {coordinator}: must be HOST:PORT")
    return Place(coordinator, processes, process)


def _number(flag: int | None, environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name)
    if flag is not None or text is None:
        return flag
    if not re.fullmatch("[0-9]{1,9}", text):
        raise UserError(f"{name}={text}: must be a number")
    return int(text)


def _launched_together(environment: Mapping[str, str]) -> bool:
    """Whether a launcher that JAX knows says that it started several processes.

    Kubernetes jobs and TPU virtual machines without such a list are asked for with `--distributed`: only their
    servers know whether there are others.
    """
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES") or ""
    counts = [
        environment.get("SLURM_STEP_NUM_TASKS", "") if "SLURM_STEP_NODELIST" in environment else "",
        environment.get("OMPI_COMM_WORLD_SIZE", "") if "OMPI_MCA_orte_hnp_uri" in environment else "",
        str(len(hosts.split(","))),
    ]
    several = any(count.isdecimal() and int(count) > 1 for count in counts)
    return several or "MEGASCALE_COORDINATOR_ADDRESS" in environment
