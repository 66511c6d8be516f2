"""Errors of the user are reported in one line; only bugs print a traceback."""

import argparse
import os
import select
import sys
from collections.abc import Callable
from typing import Any, NoReturn


class UserError(Exception):
    """An error that the user can fix. The message names the file or key, the value, and what to do."""


_program_name = ("", "")  # of a module's parser, and as typed


def set_program_name(program: str, typed: str) -> None:
    """Makes parsers of `program` show what the user typed instead, such as `r23d predict`."""
    global _program_name
    _program_name = (program, typed)


class Parser(argparse.ArgumentParser):
    """An argument parser that raises a `UserError` for a bad command line."""

    def __init__(self, *args: Any, prog: str | None = None, **kwargs: Any):
        super().__init__(*args, prog=_program_name[1] if prog == _program_name[0] else prog, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def run_command(main: Callable[[], int | None], argv: list[str] | None = None) -> None:
    """Runs a command's `main` and exits with its status: 0 only on success.

    A `UserError` becomes one line on stderr and exit status 1; so does an `OSError` (a full disk, a missing
    permission), which already names its file. With `--debug` on the command line the traceback is shown instead. A
    closed pipe on stdout (`... | head`) ends the command silently with status 141, as SIGPIPE would.

    Args:
      main: takes no arguments, returns an exit status or None for 0.
      argv: the arguments to look for `--debug` in; by default `sys.argv`.
    """
    argv = sys.argv if argv is None else argv
    try:
        try:
            status = main()
        finally:
            print(end="", flush=True)  # here, where a full disk or a closed pipe can still be reported
    except (UserError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _stdout_closed():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # discards what is still in the buffer
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


def _stdout_closed() -> bool:
    """Returns whether stdout is a pipe without a reader; a `BrokenPipeError` may come from another pipe."""
    watch = select.poll()
    try:
        watch.register(sys.stdout, 0)
    except (ValueError, TypeError):  # stdout is not a file (in a notebook), or was never open
        return False
    return any(events & select.POLLERR for _, events in watch.poll(0))


def one_line(error: BaseException) -> str:
    """Returns the error's message on one line, for a terminal or a report."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def printable(text: str) -> str:
    """Returns a text that may come from a file with what no terminal should get (escapes, line ends) written out."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
