"""User mistakes in one line under `tfds build`, a command that is not ours and would print a traceback."""

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType, TracebackType

from r23d_jax.errors import UserError, one_line

_DEBUG = "R23D_DEBUG"


def tell_mistakes_in_one_line() -> None:
    """From here on the `tfds` command ends on a `UserError` with one line on stderr and exit status 1.

    SIGTERM ends it as an interrupt does, with the half-built data set removed and the workers stopped. In
    any other program this does nothing, so errors can be caught as usual. With R23D_DEBUG=1 in the
    environment the traceback is shown.
    """
    program = Path(sys.argv[0])
    is_tfds = program.stem == "tfds" or program.parts[-3:] == ("scripts", "cli", "main.py")
    if is_tfds and not os.environ.get(_DEBUG):
        sys.excepthook = _excepthook
        signal.signal(signal.SIGTERM, _terminated)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit("error: terminated")


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, (UserError, OSError)):
        print(f"error: {one_line(error)}", file=sys.stderr)
    elif isinstance(error, json.JSONDecodeError):
        print(f"error: --config is not valid JSON: {one_line(error)}", file=sys.stderr)
    elif isinstance(error, KeyboardInterrupt):
        print("error: interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
