"""`python -m r23d_jax.benchmark [--config FILE | --arch NAME --batch N --clip 16x112x112 --dtype float32]`

Measures loader, transfer to the device and step separately, with the training step and the loader of a real run, and
names the slowest. Rates are medians over rounds, without compilation, which is reported separately.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from r23d_jax import config as configs
from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.runtime.console import positive, seconds
from r23d_jax.runtime.files import write_json
from r23d_jax.training.speed import PARTS, measure, summary_lines


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the flags, and the `key=value` overrides of the config."""
    description = __doc__.split("\n\n")[1]
    parser = Parser(prog="python -m r23d_jax.benchmark", description=description)
    parser.add_argument("--config", default="common", help="a config file, or the name of one of configs/")
    parser.add_argument("--arch", help="network instead of the config's")
    parser.add_argument("--batch", type=positive, metavar="N", help="clips per step")
    parser.add_argument("--clip", metavar="TxHxW", help="the network's input: 16x112x112")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="to compute in")
    parser.add_argument("--only", choices=PARTS, help="measure this part alone")
    parser.add_argument("--rounds", type=positive, default=5, help="rounds of each measurement (default 5)")
    parser.add_argument("--seconds", type=seconds, default=3, metavar="S", help="least length of a round (default 3)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there; - prints nothing else")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    rest, overrides = configs.split_overrides(argv)
    flags = parser.parse_args(rest)
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
    if flags.json and flags.json != "-":
        Path(flags.json).parent.mkdir(parents=True, exist_ok=True)
        if Path(flags.json).is_dir():
            raise UserError(f"--json {flags.json}: is a folder; name a file")
    result = measure(config, parts, flags.rounds, flags.seconds)
    if flags.json == "-":
        print(json.dumps(result, indent=1))
        return 0
    if flags.json:
        write_json(Path(flags.json), result)
    print("\n".join([*summary_lines(result), *([why_not] if why_not else [])]))
    return 0


if __name__ == "__main__":
    run_command(main)
