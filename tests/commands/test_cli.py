"""The `r23d` command, and what an import does."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from r23d_jax import cli, errors

PACKAGE = Path(cli.__file__).parent


def run(monkeypatch, capsys, *argv, program="/somewhere/bin/r23d"):
    """Status, stdout and stderr of the command."""
    monkeypatch.setattr(sys, "argv", [program, *argv])
    monkeypatch.setattr(errors, "_program_name", ("", ""))
    with pytest.raises(SystemExit) as ended:
        cli.run()
    return ended.value.code, *capsys.readouterr()


def test_every_command_has_a_verb_and_every_verb_a_command():
    verbs = {verb.module for verb in cli.VERBS.values()}
    commands = set()
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        functions = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        if "main" in functions and module != "cli":
            commands.add(module)
    assert verbs == commands
    for verb in cli.VERBS.values():
        assert importlib.util.find_spec(f"r23d_jax.{verb.module}") is not None


@pytest.mark.parametrize("argument", ["--help", "-h", "help"])
def test_help_has_a_line_for_every_verb(monkeypatch, capsys, argument):
    status, out, _ = run(monkeypatch, capsys, argument)
    assert status == 0
    lines = [line.split(maxsplit=1) for line in out.splitlines() if line.startswith("  ")]
    assert [name for name, _ in lines] == list(cli.VERBS)
    assert max(map(len, out.splitlines())) <= 120


def test_version(monkeypatch, capsys):
    assert run(monkeypatch, capsys, "--version")[:2] == (0, "r23d_jax 0.1.0\n")


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "error: no command; r23d --help lists the commands\n"),
        (["predct"], "error: r23d predct: there is no such command; did you mean predict?\n"),
        (["xyz"], "error: r23d xyz: there is no such command; r23d --help lists the commands\n"),
        (["train", "--mode=eval"], "error: r23d train: --mode is said by the command itself; leave it out\n"),
        (["report"], "error: the following arguments are required: workdir; see r23d report --help\n"),
        (["eval", "--config", "x"], "error: the following arguments are required: --workdir; see r23d eval --help\n"),
    ],
)
def test_a_mistake_is_one_line_that_speaks_of_what_was_typed(monkeypatch, capsys, argv, message):
    assert run(monkeypatch, capsys, *argv) == (1, "", message)


def test_as_a_module_it_says_so(monkeypatch, capsys):
    status, out, _ = run(monkeypatch, capsys, "report", "--help", program="/here/r23d_jax/__main__.py")
    assert status == 0 and out.startswith("usage: python -m r23d_jax report [-h]")


def test_a_verb_is_its_module_with_the_flags_it_stands_for(monkeypatch, capsys):
    from r23d_jax import main

    seen = []
    monkeypatch.setattr(main, "main", lambda: seen.append(sys.argv[1:]))
    assert run(monkeypatch, capsys, "eval", "--workdir", "w")[0] == 0
    assert run(monkeypatch, capsys, "train", "--workdir", "w")[0] == 0
    assert seen == [["--mode", "eval", "--workdir", "w"], ["--mode", "train", "--workdir", "w"]]


def test_both_spellings_start():
    """As processes: `python -m r23d_jax` and the module by itself."""
    for command, usage in (
        (["r23d_jax", "report"], "usage: python -m r23d_jax report"),
        (["r23d_jax.report"], "usage: python -m r23d_jax.report"),
    ):
        done = subprocess.run([sys.executable, "-m", *command, "--help"], capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.startswith(usage) and not done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_gone_ends_a_command_without_a_word(unbuffered):
    """`r23d --help | head -1`: nothing more on stderr, and the status of a program that SIGPIPE ended."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "r23d_jax", "--help"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_other_pipes_that_break_are_told(monkeypatch, capsys):
    def main():
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(SystemExit) as ended:
        errors.run_command(main, [])
    assert ended.value.code == 1 and capsys.readouterr().err == "error: [Errno 32] Broken pipe\n"


def test_imports_start_no_backend_and_need_no_tensorflow():
    modules = sorted(
        path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
    )
    program = f"""
import sys, importlib
import r23d_jax
assert not {{"jax", "flax", "numpy"}} & sys.modules.keys()
for name in {modules!r}:
    importlib.import_module(name)
heavy = {{"tensorflow", "tensorflow_datasets", "torch", "apache_beam"}} & sys.modules.keys()
assert not heavy, heavy
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
assert r23d_jax.models.NAMES and r23d_jax.convert.load
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
