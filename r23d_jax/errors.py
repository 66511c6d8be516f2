"""Mistakes of the user's are told in one line; only faults of ours print a traceback."""

import argparse
import os
import select
import sys
from collections.abc import Callable
from typing import Any, NoReturn


class UserError(Exception):
    """Something the user can mend. The message names the file or key, the value, and what to do."""


_spelling = ("", "")


def set_program_name(program: str, really: str) -> None:
    """From here on parsers call `program` what the user typed, `r23d predict` say."""
    global _spelling
    _spelling = (program, really)


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the command line in one line, as everything else is said."""

    def __init__(self, *args: Any, prog: str | None = None, **kwargs: Any):
        super().__init__(*args, prog=_spelling[1] if prog == _spelling[0] else prog, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def run_command(main: Callable[[], int | None], argv: list[str] | None = None) -> None:
    """Runs a command's `main` and exits with its status: 0 only on success.

    A `UserError` becomes one line on stderr and exit status 1; so does an `OSError` (a full disk, a
    missing permission), which already names its file. With `--debug` anywhere on the command line the
    traceback is shown instead. Where the reader of a pipe has gone (`... | head`), it ends without a word and with
    status 141, as a program that SIGPIPE ends.

    Args:
      main: takes no arguments, returns an exit status or None for 0.
      argv: the arguments to look for `--debug` in; `sys.argv` by default.
    """
    argv = sys.argv if argv is None else argv
    try:
        try:
            status = main()
        finally:
            print(end="", flush=True)  # here, where a full disk or a closed pipe can still be told
    except (UserError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still in the buffer
            sys.exit(141)
        if "--debug" in argv:
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        if "--debug" in argv:
            raise
        print("error: interrupted", file=sys.stderr)
        status = 130
    sys.exit(status or 0)


def _nobody_reads() -> bool:
    """Whether stdout is a pipe that was closed at its other end. Pipes of other kinds break, too."""
    watch = select.poll()
    try:
        watch.register(sys.stdout, 0)
    except (ValueError, TypeError):  # stdout is no file here: a notebook's, or closed from the start
        return False
    return any(events & select.POLLERR for _, events in watch.poll(0))


def one_line(error: BaseException) -> str:
    """The error's message on one line, for a terminal or a report."""
    return " ".join(str(error).split()) or type(error).__name__
