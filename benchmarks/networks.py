"""The table of every network: what the compilers of a TPU v5e, a TPU v6e and an H100 say of its training step.

    python benchmarks/networks.py FILE [--networks NAME ...] [--targets TARGET@BATCH ...] [--again] [--small]
                                  [--time-limit S] [--docs docs/accelerators.md]

Every canonical name is compiled for every target by `r23d_jax.benchmark --target`, in bfloat16 and in a process of its
own, some minutes each; no hardware is needed, but JAX's packages for TPU and CUDA are. FILE gets each result when it is
there, so the same command goes on where it was stopped. What FILE holds is compiled again if JAX, its compilers or the
size differ; a change of this project's code is not noticed, `--again` compiles everything anew. A network that
takes longer than the limit, whose process is killed or ends without a result, or that the compiler refuses, is noted
with that, and makes the exit status 1; the same command tries it again, unless it was refused.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from r23d_jax import models  # noqa: E402
from r23d_jax.compilers import targets  # noqa: E402
from r23d_jax.compilers.lines import layouts_text, versions_text  # noqa: E402
from r23d_jax.errors import Parser, UserError, one_line, run_command  # noqa: E402
from r23d_jax.report.table_page import markdown_table  # noqa: E402
from r23d_jax.runtime.console import check_output, positive  # noqa: E402
from r23d_jax.runtime.files import read_json, write_json, write_text  # noqa: E402
from r23d_jax.runtime.text import bytes_text  # noqa: E402

TARGETS = ("tpu:v5e:2x2@16", "tpu:v6e:2x2@16", "gpu:h100@64")
BEGIN, END = "<!-- benchmarks/networks.py writes from here -->", "<!-- to here -->"
SMALL = " small"
SHALLOW = "--config.model.layers=1,1,1,1"
_SMALL = ("--clip", "4x16x16", "--config.clip.resize=18,24")
_SMALLER = {"width": "--config.model.width=8", "layers": SHALLOW}


def canonical_names() -> list[str]:
    """Returns the name of every network, without aliases."""
    return sorted({models.canonical(name) for name in models.names()})


def small_size(name: str) -> list[str]:
    """Returns flags of `r23d_jax.benchmark`: short clips, and thin layers and few, where the network can have them."""
    options = models.get(name).options
    return [*_SMALL, *(flag for option, flag in _SMALLER.items() if option in options)]


def command(name: str, target: str, batch: int, small: bool) -> list[str]:
    """Returns the command that compiles a network."""
    size = small_size(name) if small else []
    arguments = ["--target", target, "--arch", name, "--batch", str(batch), "--dtype", "bfloat16"]
    return [sys.executable, "-m", "r23d_jax.benchmark", *arguments, "--training-only", "--json", "-", *size]


def compiled(words: list[str], limit: int) -> dict[str, Any]:
    """Runs a command, and returns its JSON, or `{"error": line}`; with `"refused": True` if it gave the reason itself.

    One that was killed, perhaps since this machine had no memory left, or took too long may succeed another time.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    try:
        ran = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit,
            env={**os.environ, "PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not compiled in {limit} s"}
    try:
        return json.loads(ran.stdout)  # also where it does not fit, which is status 1
    except ValueError:
        said = ran.stderr.splitlines()
        why = [line for line in said if line.startswith("error: ")]
        last = (why or said or ["nothing"])[-1].removeprefix("error: ")
        refused = {"refused": True} if why and ran.returncode == 1 else {}
        return {"error": f"status {ran.returncode}: {last[:300]}"} | refused


def read_results(path: Path) -> dict[str, Any]:
    """Returns the results that a file has; none if there is no file.

    Raises:
      UserError: no table can be made of what it has.
    """
    if not path.exists():
        return {}
    try:
        results = read_json(path)
    except ValueError as error:
        raise UserError(f"{path}: no JSON ({one_line(error)}); name another file, or move it away") from None
    if not isinstance(results, dict):
        raise UserError(f"{path}: has no object with results; name another file, or move it away")
    for key, one in results.items():
        try:
            tables({key: one}, key.partition(" ")[2])
        except (UserError, ValueError, LookupError, TypeError, AttributeError):
            why = f"{key!r} is no result of this benchmark; name another file, or remove the entry"
            raise UserError(f"{path}: {why}") from None
    return results


def fill(results: dict[str, Any], path: Path, flags: argparse.Namespace) -> None:
    """Compiles what `results` lacks, and writes them after each."""
    from r23d_jax.compilers.measure import versions

    for where in flags.targets:
        text, batch = split(where)
        found = {"versions": versions(targets.parse(text)), "small": flags.small}
        for name in flags.networks or canonical_names():
            key = f"{name} {table_name(where, flags.small)}"
            known = results.get(key, {})
            final = "error" not in known or "refused" in known
            if not flags.again and final and known.items() >= found.items():
                continue
            result = compiled(command(name, text, batch, flags.small), flags.time_limit)
            result.pop("layers", None)  # long
            results[key] = result | found | {"arch": name, "target": text, "batch": batch}
            write_json(path, results)
            print(f"{key}: {result.get('error') or summary(result)}", flush=True)


def table_name(where: str, small: bool) -> str:
    """Returns the name of the table of a target, with its clips a chip, and of a size."""
    return where + SMALL * small


def split(where: str) -> tuple[str, int]:
    """Returns target and clips a chip of a name such as "gpu:h100@64"."""
    text, _, batch = where.partition("@")
    if not batch.isdecimal() or not int(batch):
        raise UserError(f"--targets {where}: write the target and the clips a chip, for example gpu:h100@64")
    targets.parse(text)
    return text, int(batch)


def summary(result: dict[str, Any]) -> str:
    """Returns one compiled network in a line."""
    if result["compile_s"] is None:
        return "does not fit"
    cycles = result["estimated_cycles_per_clip"]
    estimate = f"{cycles / 1e6:.2f} M cycles a clip, " if cycles else ""
    return f"{estimate}{bytes_text(result['temp_bytes'])} temporaries, compiled in {result['compile_s']:.0f} s"


def tables(results: dict[str, Any], name: str) -> list[str]:
    """Returns the lines of one target's table, one for each set of versions, and of what failed."""
    text, batch = split(name.removesuffix(SMALL))
    rows = [one for key, one in sorted(results.items()) if key.partition(" ")[2] == name]
    if not rows:
        return []
    estimated = text.startswith("tpu:")
    rates = [f"estimated {what}" for what in ("M cycles a clip", "clips/s a chip", "share of the peak rate")]
    header = ["network", "its own GFLOP a clip", *(rates if estimated else ["layouts"])]
    header += ["temporaries", "largest batch, estimated", "collectives", "transposes", "compiled in"]
    lines = [f"### {text}, {batch} clips a chip{', small networks' * name.endswith(SMALL)}", ""]
    made: dict[str, list[list[str]]] = {}
    for one in rows:
        versions = versions_text(one["versions"])
        if one.get("compile_s"):
            about = f"Training step, clips of {one['clip']}, bfloat16; {versions}; not run."
            made.setdefault(about, []).append(cells(one, estimated))
    numbers = [column for column in header if column not in ("network", "layouts")]
    for about, table in made.items():
        lines += [about, "", *markdown_table(header, table, numbers), ""]
    failed = [f"- {one['arch']}: {one.get('error', 'does not fit')}" for one in rows if not one.get("compile_s")]
    return [*lines, *failed, *([""] if failed else [])]


def cells(one: dict[str, Any], estimated: bool) -> list[str]:
    """Returns a network's row."""
    if estimated:
        middle = [
            f"{one['estimated_cycles_per_clip'] / 1e6:.2f}",
            f"{one['estimated_clips_per_s']:.0f}",
            f"{one['estimated_peak_share']:.0%}",
        ]
    else:
        middle = [layouts_text(one["convolutions"])]
    return [
        ", ".join([one["arch"], *models.get(one["arch"]).aliases]),
        f"{6 * one['gmacs_per_clip']:.0f}",
        *middle,
        bytes_text(one["temp_bytes"]),
        str(one["largest_batch"]),
        str(one["collectives"]["count"]),
        str(one["transposes"]["count"]),
        f"{one['compile_s']:.0f} s",
    ]


def insert(page: Path, lines: list[str]) -> None:
    """Puts the lines between the marks of a page."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(f"--docs {page}: has no place for the table, {BEGIN} to {END}")
    write_text(page, "\n".join([before + BEGIN, "", *lines, END + after]))


def main() -> int:
    parser = Parser(description=__doc__.split("\n\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE", help="JSON with the results, which grows")
    parser.add_argument("--networks", nargs="+", type=models.canonical, metavar="NAME", help="these instead of all")
    parser.add_argument("--targets", nargs="+", default=TARGETS, metavar="TARGET@BATCH", help="with clips a chip")
    parser.add_argument("--again", action="store_true", help="compile what FILE already holds, too")
    parser.add_argument("--small", action="store_true", help="thin and shallow networks and short clips, as a trial")
    parser.add_argument("--time-limit", type=positive, default=1800, metavar="S", help="for one network (default 1800)")
    parser.add_argument("--docs", type=Path, metavar="PAGE", help="write the tables there, between the marks")
    parser.add_argument("--debug", action="store_true", help="show a traceback on errors")
    flags = parser.parse_args()
    check_output("FILE", str(flags.file))
    if flags.small and flags.docs:
        raise UserError("--docs: the tables there are of whole networks; leave out --small")
    results = read_results(flags.file)
    fill(results, flags.file, flags)
    names = [table_name(where, flags.small) for where in flags.targets]
    lines = [line for name in names for line in tables(results, name)]
    if flags.docs:
        insert(flags.docs, lines)
    print("\n".join(lines))
    asked = [f"{arch} {name}" for name in names for arch in flags.networks or canonical_names()]
    return 1 if any("error" in results[key] for key in asked) else 0


if __name__ == "__main__":
    run_command(main)
