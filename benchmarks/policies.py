"""What each part of a hardware's policy is worth, as that hardware's compiler sees it.

    python benchmarks/policies.py [--target tpu:v5e:1x1] [--arch r2plus1d_18] [--batch 16] [--dtype bfloat16]
                                  [--layers 1,1,1,1] [--only NAME ...] [--with OPTION=VALUE ...] [--json FILE]

Compiles the training step of a network for hardware that is not there: with the policy of the table in
`r23d_jax/models/ops/hardware.py`, with each of its parts left out, and with none of them. Nothing is run. For a TPU the
figure to compare is the compiler's estimate of cycles a clip; for a GPU, which has none, transposes and bytes. Every
`--with` is one more policy: as chosen, but with these options of the compiler; OPTION= leaves one to XLA's default.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from r23d_jax import config as configs  # noqa: E402
from r23d_jax.compilers import targets  # noqa: E402
from r23d_jax.compilers.lines import layouts_text, versions_text  # noqa: E402
from r23d_jax.errors import Parser, UserError, run_command  # noqa: E402
from r23d_jax.runtime.console import check_output, positive  # noqa: E402
from r23d_jax.runtime.files import write_json  # noqa: E402
from r23d_jax.runtime.text import bytes_text  # noqa: E402


def left_out() -> dict[str, dict[str, Any]]:
    """Returns the fields of a policy without one of its parts, by the name of the part."""
    from r23d_jax.models.ops import formulations  # loads JAX, before which `main` has something to do

    return {
        "formulations": {"choice": formulations.always_native},
        "one pass for the statistics": {"statistics": "two passes"},
        "pairs of frames": {"lanes": 0},
        "padded inner channels": {"multiples": {}},
        "unrounded gradients": {"unrounded_gradients": False},
        "frames resampled by whole pixels": {"whole_pixels": False},
        "compiler options": {"options": {}},
    }


def policies(chosen: Any, changes: Sequence[Sequence[str]] = ()) -> dict[str, Any]:
    """Returns the policies to compile by, by name; parts that the chosen one lacks are not left out of it.

    Args:
      chosen: a `hardware.Policy`.
      changes: lists of "OPTION=VALUE", each for a policy of its own.

    Raises:
      UserError: one is written otherwise.
    """
    made = {"as chosen": chosen}
    for part, without in left_out().items():
        other = dataclasses.replace(chosen, **without)
        if other != chosen:
            made[f"without {part}"] = other
    made["none of them"] = type(chosen)()
    for words in changes:
        if wrong := [word for word in words if not word.partition("=")[0] or "=" not in word]:
            raise UserError(f"--with {wrong[0]}: write OPTION=VALUE")
        options = chosen.options | dict(word.split("=", 1) for word in words)
        options = {name: value for name, value in options.items() if value != ""}
        made[f"with {' '.join(words)}"] = dataclasses.replace(chosen, options=options)
    return made


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="tpu:v5e:1x1", metavar="NAME", help="as in r23d_jax.benchmark")
    parser.add_argument("--arch", default="r2plus1d_18")
    parser.add_argument("--batch", type=positive, default=16, help="clips on each chip")
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--layers", default="", help="blocks of each stage, for example 1,1,1,1; default the network's")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of these policies, for example 'as chosen'")
    parser.add_argument(
        "--with",
        action="append",
        nargs="+",
        default=[],
        dest="changes",
        metavar="OPTION=VALUE",
        help="one more policy, with these options of the compiler",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--debug", action="store_true", help="show a traceback on errors")
    flags = parser.parse_args()
    target = targets.parse(flags.target)
    check_output("--json", flags.json and str(flags.json))
    targets.quiet()  # before JAX is loaded
    from r23d_jax import models
    from r23d_jax.compilers import figures, hlo, measure, programs
    from r23d_jax.models.ops import hardware

    models.canonical(flags.arch)
    found = {}
    with programs.compiling(target) as mesh:
        overrides = [f"arch={flags.arch}", f"batch_size={flags.batch * mesh.size}", f"dtype={flags.dtype}"]
        config = configs.load("common", overrides + ([f"model.layers={flags.layers}"] if flags.layers else []))
        programs.steps(config, mesh)  # an error if the network cannot have these layers
        every = policies(hardware.policy(), flags.changes)
        if unknown := set(flags.only or ()) - set(every):
            raise UserError(f"--only {unknown.pop()!r}: there are {', '.join(map(repr, every))}")
        print(
            f"{flags.arch}, {flags.batch} clips of 16x112x112 on each chip, {flags.dtype}, compiled for "
            f"{flags.target} by {versions_text(measure.versions(target))}, not run\n"
        )
        print(
            "| policy | M cycles a clip (estimate) | convolutions | traffic a clip | temporaries | transposes | copies "
            "| collectives | of them overlapped | compiled in, s |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|")
        for name, policy in every.items():
            if flags.only and name not in flags.only and not name.startswith("with "):
                continue
            with hardware.use(policy):
                step = programs.compile_step(programs.steps(config, mesh).training, target)
            result = figures.figures(hlo.parse(step.text), target.chip.platform)
            found[name] = {
                **{
                    key: result[key]
                    for key in ("cycles", "bytes", "convolutions", "transposes", "copies", "collectives")
                },
                "temp_bytes": step.temporaries,
                "compile_s": step.seconds,
            }
            between = result["collectives"]
            cells = [
                name,
                f"{result['cycles'] / flags.batch / 1e6:.2f}" if result["cycles"] else "",
                layouts_text(result["convolutions"]),
                bytes_text(result["bytes"] // flags.batch),
                bytes_text(step.temporaries),
                *(
                    f"{result[kind]['count']} ({bytes_text(result[kind]['bytes'])})"
                    for kind in ("transposes", "copies", "collectives")
                ),
                f"{between['overlapped']} ({bytes_text(between['overlapped_bytes'])})",
                f"{step.seconds:.0f}",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)
            if flags.json:
                write_json(flags.json, found)
    return 0


if __name__ == "__main__":
    run_command(main)
