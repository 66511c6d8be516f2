"""Command-line arguments and terminal output that commands share."""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tqdm import tqdm

from r23d_jax import errors
from r23d_jax.errors import one_line
from r23d_jax.runtime.files import write_json

if TYPE_CHECKING:
    from r23d_jax.inference.sources import VideoSource

_EIGHTHS = " ▏▎▍▌▋▊▉"


def add_shared_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the arguments of both `predict` and `features`."""
    command.add_argument("videos", nargs="+", metavar="VIDEO", help="a file, a folder or a quoted pattern")
    add_checkpoint(command)
    command.add_argument(
        "--clips",
        type=views,
        metavar="K|dense",
        help="K clips spread over the video, or every non-overlapping one (default: as the weights' card says)",
    )
    command.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="to compute in")
    command.add_argument("--batch", type=positive, default=0, metavar="N", help="clips per batch (default: 4 to 16)")
    command.add_argument("--debug", action="store_true", help="show tracebacks")


def add_checkpoint(command: argparse.ArgumentParser) -> None:
    """Adds the arguments that say whose weights are used."""
    command.add_argument(
        "--checkpoint",
        required=True,
        metavar="WEIGHTS",
        help="a published name (`r23d weights` lists them), a weights file, hf://OWNER/REPO[/FILE][@REVISION], an "
        "https address, a checkpoint folder or a workdir",
    )
    command.add_argument("--which", choices=("best", "last"), default="best", help="checkpoint of a workdir")


def positive(text: str) -> int:
    """Parses an int above 0."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number of at least 1")
    return int(text)


def seconds(text: str) -> float:
    """Parses a number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: must be a number of seconds above 0")
    return value


def views(text: str) -> str | int:
    """Parses "dense" or a number of clips."""
    return text if text == "dense" else positive(text)


def check_output(flag: str, path: str | None, stdout: bool = True) -> None:
    """Makes the folder of a file that is written at the end; `path` is None for none, "-" for stdout where that may be.

    Raises:
      UserError: it is a folder, or nothing can be written there.
    """
    if path == "-" and not stdout:
        raise errors.UserError(f"{flag} -: name a file")
    if path and path != "-":
        if Path(path).is_dir():
            raise errors.UserError(f"{flag} {path}: is a folder; name a file")
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=Path(path).parent):
                pass
        except OSError as error:
            raise errors.UserError(f"{flag} {path}: nothing can be written there: {error.strerror}") from error


def write_result(result: dict[str, Any], lines: Sequence[str], path: str | None) -> None:
    """Prints the lines, and writes the result as JSON to the path; where that is "-", prints it instead."""
    if path == "-":
        print(json.dumps(result, indent=1))
        return
    if path:
        write_json(Path(path), result)
    print("\n".join(lines))


class Reporter:
    """Prints results and errors while files are processed, and a progress bar for many files.

    Args:
      quiet: print errors only.

    Attributes:
      problems: number of errors so far.
    """

    def __init__(self, quiet: bool = False):
        self.problems = 0
        self._quiet = quiet

    def say(self, text: str) -> None:
        """Prints a result to stdout."""
        if not self._quiet:
            tqdm.write(printable(text, sys.stdout), file=sys.stdout)

    def problem(self, text: str) -> None:
        """Prints an error to stderr, on one line."""
        self.problems += 1
        tqdm.write(f"error: {printable(text, sys.stderr)}", file=sys.stderr)

    def notes(self, source: "VideoSource", notes: Iterable[str]) -> None:
        """Prints what the user should know of a video to stderr, a line each; `notes` follow its name."""
        for note in notes:
            tqdm.write(printable(f"note: {source.path} {note}", sys.stderr), file=sys.stderr)

    def failed(self, source: "VideoSource", error: Exception) -> None:
        """Reports a video's error, with the file's name unless the message has it."""
        text = one_line(error)
        self.problem(text if str(source.path) in text else f"{source.path}: {text}")

    def bar(self, sources: Sequence["VideoSource"]) -> AbstractContextManager[Iterable["VideoSource"]]:
        """Returns the videos, wrapped in a progress bar if there are several and stderr is a terminal."""
        hidden = True if len(sources) < 2 else None
        return tqdm(sources, unit="video", file=sys.stderr, leave=False, disable=hidden)

    def summary(self, done: int, total: int) -> None:
        """Prints a summary if there was more than one video."""
        if total > 1:
            errors = f", {self.problems} error{'s' if self.problems > 1 else ''}" if self.problems else ""
            self.say(f"{done} of {total} videos{errors}")


def bar(share: float, width: int, stream: TextIO) -> str:
    """Returns a bar of at most `width` characters, exact to an eighth of one if the stream takes UTF-8."""
    if not _takes_utf8(stream):
        return "#" * round(share * width)
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def printable(text: str, stream: TextIO) -> str:
    """Escapes control characters, and characters that the stream cannot encode, with backslashes."""
    encoding = stream.encoding or "ascii"
    shown = "\n".join(map(errors.printable, text.split("\n")))
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def _takes_utf8(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().replace("-", "") == "utf8"
