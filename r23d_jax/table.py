"""Writes a table of results as Markdown and HTML, every number with its protocol.

    python -m r23d_jax.table RESULTS... [--out table.md] [--html table.html] [--study]

RESULTS are workdirs or results.json files. Results that differ only in the seed share a line, with mean and
deviation. `--study` writes the eleven rows of the study (configs/rows.py), with the study's and published figures
beside ours; a row without a result says "not measured".
"""

import argparse
import sys
from pathlib import Path

from r23d_jax.errors import Parser, run_command
from r23d_jax.experiments.table import grouped, plain, read_run_result, study
from r23d_jax.report.table_page import markdown, page
from r23d_jax.runtime.files import write_text


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m r23d_jax.table", description="Writes a table of results, as Markdown and HTML.")
    parser.add_argument("results", nargs="*", type=Path, help="workdirs or results.json files")
    parser.add_argument("--out", type=Path, help="Markdown file (default: printed)")
    parser.add_argument("--html", type=Path, help="HTML file")
    parser.add_argument("--study", action="store_true", help="the eleven rows of the study, in its order")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    flags = parser.parse_args(argv)
    if not flags.results and not flags.study:
        parser.error("name results, or --study for a table without any")
    return flags


def main() -> int:
    flags = parse(sys.argv[1:])
    unique = {result.path.resolve(): result for result in map(read_run_result, flags.results)}
    groups = grouped(unique.values())
    table = study(groups) if flags.study else plain(groups)
    if flags.out:
        write_text(flags.out, markdown(table))
    if flags.html:
        write_text(flags.html, page(table))
    print("\n".join(str(path) for path in (flags.out, flags.html) if path) or markdown(table))
    return 0


if __name__ == "__main__":
    run_command(main)
