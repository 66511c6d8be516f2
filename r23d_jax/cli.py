"""The `r23d` command. Only the module of the given verb is imported.

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
    """A module with a `main()`, its help line, and flags that the verb sets."""

    module: str
    what: str
    flags: tuple[str, ...] = ()


VERBS = {
    "build": _Verb("build", "build a data set of a folder of videos: `tfds build tfds_ucf101` from any folder"),
    "train": _Verb("main", "train and evaluate a network, or resume a run", ("--mode", "train")),
    "eval": _Verb("main", "evaluate a checkpoint or published weights on every test video", ("--mode", "eval")),
    "probe": _Verb("probe", "make a classifier for your own clips on the frozen features of published weights"),
    "predict": _Verb("predict", "classify the actions in video files"),
    "features": _Verb("features", "extract features of video files from a stage of the network"),
    "weights": _Verb("weights.__main__", "list published weights, or fetch one and say how to use it"),
    "convert": _Verb("convert", "import weights from PyTorch, TensorFlow and Caffe2, and export them to PyTorch"),
    "push": _Verb("push", "publish the weights of a run on the Hugging Face Hub, with their model card"),
    "two-stream": _Verb("two_stream", "fuse the scores of an RGB and an optical-flow network"),
    "study": _Verb("study", "train a series of networks with one recipe and several seeds"),
    "table": _Verb("table", "write a table of results, each with its protocol"),
    "report": _Verb("report.__main__", "write the report.html of a run again"),
    "browse": _Verb("browse", "draw clips as a network gets them, or summarise a built data set"),
    "models": _Verb("models.__main__", "list the networks with their size and cost"),
    "export": _Verb("export", "write a network as StableHLO or as a TensorFlow SavedModel"),
    "benchmark": _Verb("benchmark", "measure loader, transfer and training step separately"),
}


def main() -> int | None:
    """Runs the verb's module with the rest of the command line.

    Raises:
      UserError: the verb is missing or unknown.
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
    """Entry point of the installed command."""
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
