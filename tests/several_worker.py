"""One of several processes, without a network: joins, does what it is told, leaves. See test_hosts.py."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from r23d_jax import distributed, launch
from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.interrupt import EXIT_STATUS, Interrupted, at_once


def main() -> int:
    parser = Parser(prog="several_worker")
    parser.add_argument("--do", required=True)
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--lr", default="0.1")
    launch.add_flags(parser)
    flags = parser.parse_args(sys.argv[1:])
    try:
        with distributed.joined(flags), at_once():
            return globals()[f"do_{flags.do}"](flags)
    except Interrupted as interrupted:
        print(f"interrupted: {interrupted}", file=sys.stderr)
        return EXIT_STATUS


def do_agree(flags):
    if flags.process == 0:
        flags.workdir.mkdir()
    distributed.check_shared(flags.workdir)
    distributed.agree({"config.lr": "0.1", "step": 3})
    votes = [
        distributed.decide(False, False),
        distributed.decide(flags.process == 1, False),
        distributed.decide(False, flags.process == 1),  # the clock that counts is process 0's
        distributed.decide(False, flags.process == 0),
        distributed.decide(True, True, due=False),
    ]
    print(json.dumps(votes))
    distributed.agree({"config.lr": flags.lr, "step": 3})
    return 0


def do_fail(flags):
    if flags.process == 1:
        raise UserError("shard 7 is damaged")
    time.sleep(300)


def do_crash(flags):
    raise UserError("the loss is nan at step 5")  # in all of them at once


def do_stop(flags):
    if flags.process == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(300)


def do_die(flags):
    time.sleep(2)  # until all know each other's hosts
    if flags.process == int(os.environ["R23D_TEST_DIES"]):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(300)


if __name__ == "__main__":
    run_command(main)
