"""One of several processes, without a network: joins, does what it is told, leaves. See test_hosts.py."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.runtime import hosts, launch
from r23d_jax.runtime.signals import EXIT_STATUS, Interrupted, exit_on_signal


def main() -> int:
    parser = Parser(prog="several_worker")
    parser.add_argument("--do", required=True)
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--lr", default="0.1")
    parser.add_argument("--devices", default="1")
    launch.add_flags(parser)
    flags = parser.parse_args(sys.argv[1:])
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={flags.devices}"
    try:
        with hosts.joined(flags), exit_on_signal():
            return globals()[f"do_{flags.do}"](flags)
    except Interrupted as interrupted:
        print(f"interrupted: {interrupted}", file=sys.stderr)
        return EXIT_STATUS


def do_agree(flags):
    if flags.process == 0:
        flags.workdir.mkdir()
    hosts.check_shared(flags.workdir)
    hosts.assert_equal({"config.lr": "0.1", "step": 3})
    votes = [
        hosts.sync_stop(False, False),
        hosts.sync_stop(flags.process == 1, False),
        hosts.sync_stop(False, flags.process == 1),  # the clock that counts is process 0's
        hosts.sync_stop(False, flags.process == 0),
        hosts.sync_stop(True, True, due=False),
    ]
    print(json.dumps(votes))
    hosts.assert_equal({"config.lr": flags.lr, "step": 3})
    return 0


def _chosen(flags):
    return os.environ["R23D_TEST_ONE"] in ("all", str(flags.process))


def do_fail(flags):
    if _chosen(flags):
        raise UserError("shard 7 is damaged")
    hosts.assert_equal({"step": 3})


def do_crash(flags):
    raise UserError("the loss is nan at step 5")  # in all of them at once


def do_stop(flags):
    if _chosen(flags):
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(300)


def do_hang(flags):
    hosts._PATIENCE = 3
    if not _chosen(flags):
        hosts.barrier("the end of a step")
    time.sleep(300)


def do_die(flags):
    if _chosen(flags):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(300)


def do_die_in_a_step(flags):
    if _chosen(flags):
        os.kill(os.getpid(), signal.SIGKILL)
    hosts.barrier("step")


if __name__ == "__main__":
    run_command(main)
