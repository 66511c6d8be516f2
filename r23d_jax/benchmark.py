"""`python -m r23d_jax.benchmark [--config FILE | --arch NAME --batch N --clip 16x112x112 --dtype float32]`

Measures loader, transfer to the device and step separately, with the training step and the loader of a real run, and
names the slowest. Rates are medians over rounds, without compilation, which is reported separately.

With `--target tpu:v5e:4x4` or `--target gpu:h100` nothing is measured: the steps of a run are compiled for that
hardware, which need not be there, and what its compiler says of them is written: memory, operations, estimated time.
"""

import argparse
import functools
import re
import sys
from pathlib import Path

from ml_collections import ConfigDict

from r23d_jax import config as configs
from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.runtime.console import check_output, positive, seconds, write_result
from r23d_jax.runtime.files import write_text
from r23d_jax.training.speed import PARTS, measure, summary_lines


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and the `key=value` overrides of the config."""
    description = __doc__.split("\n\n", 1)[1]
    parser = Parser(prog="python -m r23d_jax.benchmark", description=description)
    parser.add_argument("--config", default="common", help="a config file, or the name of one of configs/")
    parser.add_argument("--arch", help="network instead of the config's")
    parser.add_argument("--batch", type=positive, metavar="N", help="clips per step; with --target, on each chip")
    parser.add_argument("--clip", metavar="TxHxW", help="the network's input: 16x112x112")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="to compute in")
    parser.add_argument("--only", choices=PARTS, help="measure this part alone")
    parser.add_argument("--rounds", type=positive, help="rounds of each measurement (default 5)")
    parser.add_argument("--seconds", type=seconds, metavar="S", help="least length of a round (default 3)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there; - prints nothing else")
    parser.add_argument("--target", metavar="NAME", help="compile for tpu:v5e:4x4, gpu:h100, ... instead of measuring")
    parser.add_argument("--largest", action="store_true", help="with --target: find the largest batch by compiling")
    parser.add_argument("--training-only", action="store_true", help="with --target: not the evaluation step")
    parser.add_argument("--report", metavar="FILE", help="with --target: write a page with the figures of every layer")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    rest, overrides = configs.split_overrides(argv)
    flags = parser.parse_args(rest)
    measuring, compiling = (flags.only, flags.rounds, flags.seconds), (flags.largest, flags.training_only, flags.report)
    if any(measuring if flags.target is not None else compiling):
        raise UserError("--only, --rounds, --seconds measure; --largest, --training-only, --report go with --target")
    for key, value in (("arch", flags.arch), ("batch_size", flags.batch), ("dtype", flags.dtype)):
        if value is not None:
            overrides.append(f"{key}={value}")
    if flags.clip:
        frames, side = clip_size(flags.clip)
        overrides += [f"clip.frames={frames}", f"clip.size={side}"]
        if not any(override.startswith("clip.resize=") for override in overrides):
            # The ratio of the published networks: 128x171 for a crop of 112.
            overrides.append(f"clip.resize={round(side * 128 / 112)},{round(side * 171 / 112)}")
    return flags, overrides


def clip_size(text: str) -> tuple[int, int]:
    """Returns frames and side of a `--clip` such as "16x112x112"."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(re.fullmatch("[1-9][0-9]{0,4}", part) for part in parts) or parts[1] != parts[2]:
        raise UserError(f"--clip {text}: write frames, height and width, for example 16x112x112; frames are square")
    return int(parts[0]), int(parts[1])


def main() -> int:
    flags, overrides = parse(sys.argv[1:])
    config = configs.load(flags.config, overrides)
    check_output("--json", flags.json)
    if flags.target is not None:
        return compile_for_target(config, flags)
    parts = (flags.only,) if flags.only else PARTS
    from r23d_jax.data import records
    from r23d_jax.runtime.compile import enable_cache

    enable_cache()
    why_not = ""
    if not flags.only:
        try:
            records.VideoDataset.open(config.dataset.data_dir, config.dataset.name)
        except UserError as error:  # step and transfer need no data
            parts, why_not = ("step", "transfer"), f"loader not measured: {error}"
    result = measure(config, parts, flags.rounds or 5, flags.seconds or 3)
    write_result(result, [*summary_lines(result), *([why_not] if why_not else [])], flags.json)
    return 0


def compile_for_target(config: ConfigDict, flags: argparse.Namespace) -> int:
    """Writes what the target's compiler says; returns 1 if a step does not fit in a chip's memory."""
    from r23d_jax.compilers import targets

    target = targets.parse(flags.target)
    check_output("--report", flags.report, stdout=False)
    targets.quiet()  # before JAX is loaded
    from r23d_jax.compilers.lines import lines
    from r23d_jax.compilers.measure import measure
    from r23d_jax.report import program_page

    say = functools.partial(print, file=sys.stderr, flush=True)
    result, layers = measure(config, target, flags.batch, flags.largest, not flags.training_only, say)
    if flags.report:
        write_text(Path(flags.report), program_page.build(result, layers))
    write_result(result, lines(result), flags.json)
    return 0 if result["fits"] and (result["evaluation"] or result)["fits"] else 1


if __name__ == "__main__":
    run_command(main)
