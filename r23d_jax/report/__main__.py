"""`python -m r23d_jax.report WORKDIR [--data_dir DIR]`: writes the report.html of a run again."""

import sys
from pathlib import Path

from r23d_jax.errors import Parser, run_command
from r23d_jax.report import write


def main() -> int:
    parser = Parser(prog="python -m r23d_jax.report", description="Writes the report.html of a run's workdir again.")
    parser.add_argument("workdir", type=Path, help="a run's --workdir")
    parser.add_argument("--data_dir", help="where the data set is now; by default where the run had it")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    flags = parser.parse_args(sys.argv[1:])
    print(write(flags.workdir, data_dir=flags.data_dir))
    return 0


if __name__ == "__main__":
    run_command(main)
