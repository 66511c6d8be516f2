"""`tfds build tfds_ucf101` from any folder.

The `tfds` command only finds the builder in a checkout's folder. This runs it with the builder's path and unchanged
arguments:

    r23d build --manual_dir=DIR --data_dir=OUT [--config NAME|JSON] [...]
"""

import importlib.util
import os
import sys
from pathlib import Path

from r23d_jax.errors import Parser, UserError, run_command

_NEEDED = ("tensorflow_datasets", "tensorflow", "apache_beam", "mlcroissant", "importlib_resources")


def main() -> None:
    """Replaces this process by `tfds`.

    Raises:
      UserError: what only building needs is not installed.
    """
    parser = Parser(
        prog="python -m r23d_jax.build",
        usage="%(prog)s --manual_dir=DIR --data_dir=OUT [--config NAME|JSON] [...]",
        description="Builds a data set of a folder of videos: the command `tfds build tfds_ucf101` from any folder. "
        "docs/own-data.md has the layout and the configs; `tfds build --help` has every flag.",
    )
    _, arguments = parser.parse_known_args()
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"building a data set needs {', '.join(missing)}, not installed here: in a checkout, pip install '.[build]'"
        )
    builder = Path(importlib.util.find_spec("tfds_ucf101").origin).parent
    sys.stdout.flush()
    command = [sys.executable, "-m", "tensorflow_datasets.scripts.cli.main", "build", os.fspath(builder), *arguments]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    run_command(main)
