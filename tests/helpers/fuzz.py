"""Damages files at random and reads them: a clear refusal or the right answer, and nothing else.

    python tests/helpers/fuzz.py [--minutes 60 | --cases 200] [--seed 0] [--only records,index]

Each case damages a small built data set (shards or index), a checkpoint of ours or its card, a weights file of
another framework, a state dict to be converted, a video, or what a run left, and reads it the way the commands do.
Allowed are a `UserError` of one line, and, where the file has checksums, exactly what it held before; without them,
well-formed arrays. A crash, a hang, any other exception or a wrong number is a finding: its case number is printed, and
`--first N --cases 1` repeats it. Cases run in a process of their own, so that one that dies is counted too.
"""

import argparse
import faulthandler
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from fuzz_targets import TARGETS  # noqa: E402

from r23d_jax.errors import UserError  # noqa: E402

HANG = 600  # seconds for one case; a busy machine may stop it for minutes
# --- running --------------------------------------------------------------------------------------------


def child(flags: argparse.Namespace, names: list[str]) -> int:
    """Runs cases from `flags.first` on; what it is at, and what came of those before, stands in `flags.at`."""
    folder = Path(tempfile.mkdtemp(prefix="r23d_fuzz_", dir=flags.at.parent))
    targets = [TARGETS[name](folder / name) for name in names]
    outcomes, until = Counter(), time.monotonic() + flags.minutes * 60
    number = flags.first
    while number < flags.first + flags.cases if flags.cases else time.monotonic() < until:
        flags.at.write_text(json.dumps({"case": number, "outcomes": outcomes}))
        faulthandler.dump_traceback_later(HANG, exit=True)
        name = names[number % len(names)]
        try:
            targets[number % len(names)].case(np.random.default_rng([flags.seed, number]))
            outcomes[f"{name}: read"] += 1
        except UserError as error:
            outcomes[f"{name}: refused"] += 1
            if "\n" in str(error) or not str(error):
                outcomes["FINDINGS"] += 1
                print(f"case {number} ({name}): not one line: {error!r}", file=sys.stderr)
        except Exception:
            outcomes["FINDINGS"] += 1
            print(f"case {number} ({name}):\n{traceback.format_exc()}", file=sys.stderr)
        faulthandler.cancel_dump_traceback_later()
        number += 1
    flags.at.write_text(json.dumps({"case": number, "outcomes": outcomes}))
    return 1 if outcomes["FINDINGS"] else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--cases", type=int, default=0, help="this many instead of so many minutes")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(TARGETS))
    parser.add_argument("--at", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    names = flags.only.split(",")
    if flags.at:
        return child(flags, names)
    until, first, outcomes = time.monotonic() + flags.minutes * 60, flags.first, Counter()
    with tempfile.TemporaryDirectory(prefix="r23d_fuzz_") as folder:
        at = Path(folder) / "at"
        while True:
            left = max((until - time.monotonic()) / 60, 0)
            cases = flags.first + flags.cases - first if flags.cases else 0
            command = [sys.executable, __file__, "--at", at, "--first", first, "--seed", flags.seed]
            command += ["--only", flags.only, "--minutes", left, "--cases", cases]
            status = subprocess.run(list(map(str, command))).returncode
            if not at.is_file():
                return 1  # it did not get as far as the first case, and said why
            reached = json.loads(at.read_text())
            outcomes.update(reached["outcomes"])
            first = reached["case"]
            if status in (0, 1):
                break
            outcomes["FINDINGS"] += 1  # it died or hung at this case; go on behind it
            print(f"case {first}: the process ended with {status}", file=sys.stderr)
            first += 1
            at.unlink()
            if flags.cases and first >= flags.first + flags.cases:
                break
    print(json.dumps({"cases": first - flags.first, **dict(sorted(outcomes.items()))}))
    return 1 if outcomes["FINDINGS"] else 0


if __name__ == "__main__":
    sys.exit(main())
