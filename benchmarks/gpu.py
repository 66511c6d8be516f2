"""What has to be measured on a GPU, in one or two calls of minutes, the most valuable first.

    python benchmarks/gpu.py --out DIR                      # 8 minutes at most
    python benchmarks/gpu.py --out DIR2 --after DIR         # what that one had no time for
    python benchmarks/gpu.py --table DIR/gpu.json           # prints a file's results as Markdown again
    python benchmarks/gpu.py --small                        # tries it with tiny sizes, on a CPU as well

- machine: versions, and the rate of a matrix product in bfloat16.
- step: the whole training step of R(2+1)D-18, R3D-18 and R(2+3)D-18 in bfloat16, 64 clips of 16x112x112, with
  convolutions as the table of `models.ops.hardware` has them, native 3D or 2D, by several options of the compiler, with
  and without padded mid-planes; the fastest.
- torch: torchvision's R(2+1)D-18 and R3D-18 in PyTorch on the same card: eager and compiled, channels_last_3d, bfloat16
  autocast, the same batch.
- loop: the whole training loop, fed from shards with all cores, and the hours of 300 epochs of UCF101.
- numerics: loss curves in float32 and bfloat16, and the cost of deterministic operations.

Each part has a limit of its own within `--minutes`; what fails is reported, and the rest is measured. DIR then has
gpu.json, which is written whenever something was measured; gpu.log; and autotune.tar, the compiler's choices of
kernels, which `--after` takes up.
"""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

_BEGUN = time.monotonic()

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

from gpu_parts import table  # noqa: E402
from gpu_parts.parts import PARTS, Call  # noqa: E402
from gpu_parts.results import Results, restore_autotune  # noqa: E402

from r23d_jax.errors import Parser, UserError, run_command  # noqa: E402
from r23d_jax.runtime.console import seconds  # noqa: E402


def minutes(text: str) -> float:
    """Parses a number of minutes above 0."""
    try:
        return seconds(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text}: must be a number of minutes above 0") from None


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of the results; by default one below the temporary folder")
    parser.add_argument("--after", type=Path, metavar="DIR", help="folder of an earlier call, which is continued")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, divided by commas; always with machine")
    parser.add_argument("--minutes", type=minutes, default=8, help="for everything (default 8)")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try it, on a CPU as well")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print the results of a gpu.json, measure nothing")
    parser.add_argument("--debug", action="store_true", help="show a traceback on errors")
    flags = parser.parse_args(argv)
    flags.only = flags.only.split(",")
    if not set(flags.only) <= set(PARTS):
        parser.error(f"--only {','.join(flags.only)}: some of {','.join(PARTS)}")
    return flags


def measure(flags: argparse.Namespace, out: Path, scratch: Path) -> int:
    """Measures the parts; the exit status: 0 if anything but the machine was measured."""
    cache = scratch / "cache"
    before = table.read_results("--after", flags.after / "gpu.json") if flags.after else None
    tuned = bool(flags.after) and restore_autotune(flags.after, cache)
    results = Results(out, before, minutes=flags.minutes, small=flags.small, tuned_before=tuned)
    call = Call(results, flags.small, _BEGUN + 60 * flags.minutes, cache)
    try:
        for part in ("machine", *(part for part in PARTS if part in flags.only and part != "machine")):
            call.begin(part)
            PARTS[part](call)
            results.tidy(cache)
            if results.content["machine"].get("backend") == "cpu" and not flags.small:
                raise UserError("JAX sees no GPU here; --small tries it on a CPU")
    finally:
        results.tidy(cache)
    results.say(f"\n{table.markdown(results.content)}\n\n{out / 'gpu.json'}")
    return 0 if any(results.content[part] for part in PARTS if part != "machine") else 1


def main() -> int:
    flags = parse()
    if flags.table:
        print(table.markdown(table.read_results("--table", flags.table)))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is being run ends, too
    out = (flags.out or Path(tempfile.mkdtemp(prefix="benchmark_gpu_"))).resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {flags.out}: {error.strerror}; name a folder") from error
    if (out / "gpu.json").exists() and not (flags.after and flags.after.resolve() == out):
        raise UserError(f"--out {flags.out}: has the gpu.json of an earlier call; name another folder")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        return measure(flags, out, Path(scratch))


if __name__ == "__main__":
    run_command(main)
