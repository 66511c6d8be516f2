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


def main() -> None:
    """Replaces this process by `tfds`.

    Raises:
      UserError: TensorFlow Datasets is not installed.
    """
    parser = Parser(
        prog="python -m r23d_jax.build",
        usage="%(prog)s --manual_dir=DIR --data_dir=OUT [--config NAME|JSON] [...]",
        description="Builds a data set of a folder of videos: the command `tfds build tfds_ucf101` from any folder. "
        "docs/own-data.md has the layout and the configs; `tfds build --help` has every flag.",
    )
    _, arguments = parser.parse_known_args()
    if importlib.util.find_spec("tensorflow_datasets") is None:
        raise UserError(
            "building a data set needs TensorFlow Datasets and Apache Beam: in a checkout, pip install '.[build]'"
        )
    builder = Path(importlib.util.find_spec("tfds_ucf101").origin).parent
    sys.stdout.flush()
    command = [sys.executable, "-m", "tensorflow_datasets.scripts.cli.main", "build", os.fspath(builder), *arguments]
    os.execv(sys.executable, command)


if __name__ == "__main__":
    run_command(main)
