"""The `r23d` command: a verb for every job. Only the module of the verb that was given is imported.

r23d VERB [arguments]
r23d VERB --help
"""

import difflib
import importlib
import sys
from typing import NamedTuple

import r23d_jax
from r23d_jax import errors
from r23d_jax.errors import UserError


class _Verb(NamedTuple):
    """A module with a `main()`, the flags that the verb stands for, and what it does in one line."""

    module: str
    what: str
    flags: tuple[str, ...] = ()


VERBS = {
    "build": _Verb("build", "build a data set of a folder of videos: `tfds build tfds_ucf101` from any folder"),
    "train": _Verb("main", "train a network and score it, or go on where a run was stopped", ("--mode", "train")),
    "eval": _Verb("main", "score a checkpoint or published weights over every test video", ("--mode", "eval")),
    "predict": _Verb("predict", "say what is done in video files"),
    "features": _Verb("features", "write what a stage of the network makes of video files"),
    "convert": _Verb("convert", "take over weights from PyTorch, TensorFlow and Caffe2, and give them back"),
    "two-stream": _Verb("two_stream", "put an RGB and an optical-flow network's scores together"),
    "study": _Verb("study", "train every network of a ladder under one recipe, with several seeds"),
    "table": _Verb("table", "write one table of many results, each with its protocol"),
    "report": _Verb("report.__main__", "write the report.html of a run again"),
    "browse": _Verb("browse", "draw clips as a network sees them, or sum up a data set that was built"),
    "models": _Verb("models.__main__", "list the networks with their size and cost"),
    "export": _Verb("export", "write a network as StableHLO or as a TensorFlow SavedModel"),
    "benchmark": _Verb("benchmark", "measure loader, transfer and training step apart"),
}


def main() -> int | None:
    """Hands the command line to the verb's module.

    Raises:
      UserError: no verb, or an unknown one.
    """
    program = "python -m r23d_jax" if sys.argv[0].endswith("__main__.py") else "r23d"
    given, *rest = sys.argv[1:] or [""]
    if given in ("-h", "--help", "help"):
        print(_help(program))
        return 0
    if given in ("-V", "--version"):
        print(f"r23d_jax {r23d_jax.__version__}")
        return 0
    name = given.replace("_", "-")
    if name not in VERBS:
        close = difflib.get_close_matches(name, VERBS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"{program} --help lists the commands"
        raise UserError(f"{program} {given}: there is no such command; {hint}" if given else f"no command; {hint}")
    verb = VERBS[name]
    if verb.flags and any(flag.partition("=")[0] == verb.flags[0] for flag in rest):
        raise UserError(f"{program} {name}: {verb.flags[0]} is said by the command itself; leave it out")
    module = verb.module.removesuffix(".__main__")
    errors.set_program_name(f"python -m r23d_jax.{module}", f"{program} {name}")
    sys.argv[1:] = [*verb.flags, *rest]
    return importlib.import_module(f"r23d_jax.{verb.module}").main()


def run() -> None:
    """The installed command."""
    errors.run_command(main)


def _help(program: str) -> str:
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.what}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            f"usage: {program} COMMAND [arguments]",
            "",
            "Action recognition in video with spatiotemporal convolutions.",
            "",
            *lines,
            "",
            f"{program} COMMAND --help says what a command takes.",
        ]
    )
