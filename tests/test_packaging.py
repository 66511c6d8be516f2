"""requirements.txt, requirements.lock and pyproject.toml say the same, and the package holds everything."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = {
    name: [Requirement(text) for text in texts] for name, texts in PROJECT["project"]["optional-dependencies"].items()
}
DEPENDENCIES = [Requirement(text) for text in PROJECT["project"]["dependencies"]]


def pins(name):
    """{distribution: version} of a requirements file."""
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith("-")]
    assert all(re.fullmatch(r"==[^*]+", str(requirement.specifier)) for requirement in found), "not a pin"
    names = [canonicalize_name(requirement.name) for requirement in found]
    assert len(set(names)) == len(names), "named twice"
    return {name: str(requirement.specifier)[2:] for name, requirement in zip(names, found, strict=True)}


PINNED = pins("requirements.txt")
OTHER_PINS = {**pins("requirements-convert.txt"), **pins("requirements-dev.txt")}


def test_what_is_declared_has_bounds_and_the_pins_are_within_them():
    for requirement in [*DEPENDENCIES, *(one for extra in EXTRAS.values() for one in extra)]:
        name = canonicalize_name(requirement.name)
        version = PINNED.get(name) or OTHER_PINS.get(name)
        assert version is not None, f"{name} is not pinned"
        assert requirement.specifier.contains(version), f"{requirement} leaves out {version}, which was tested"
        if not requirement.extras:  # jax[cuda] is bounded by jax
            assert {spec.operator for spec in requirement.specifier} == {">=", "<"}, f"{requirement}: two bounds"


def test_the_lock_is_of_the_pins_with_hashes():
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"https?:|file:|--index|--find-links|@ ", text), "an address of one machine"
    locked = {}
    for block in re.split(r"\n(?=\S)", text):
        entry = re.match(r"([\w.-]+)==(\S+)(?: ; (.*?))? \\\n", block)
        if entry:
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), f"{entry[1]}: no hash"
            locked[canonicalize_name(entry[1])] = entry[2], entry[3]
    assert {name: locked.get(name, ("not there",))[0] for name in PINNED} == PINNED, "run `make lock`"
    only_elsewhere = {name for name in locked if name not in PINNED}
    assert all(locked[name][1] for name in only_elsewhere), "needed here too, and not pinned: run `make lock`"


def test_every_package_that_is_imported_is_declared():
    distributions = metadata.packages_distributions()
    declared = {canonicalize_name(one.name) for one in DEPENDENCIES}
    for_builds = declared | {canonicalize_name(one.name) for extra in EXTRAS.values() for one in extra}
    for_builds |= {"etils"}  # TFDS's own
    for package, allowed in (("r23d_jax", declared), ("configs", declared), ("tfds_ucf101", for_builds)):
        for path in (ROOT / package).rglob("*.py"):
            for module, at_import in _imports(path):
                names = {canonicalize_name(name) for name in distributions.get(module, [])}
                enough = allowed if at_import else for_builds | {"ml-dtypes"}  # JAX's own
                assert names & enough, f"{path.relative_to(ROOT)} imports {module}, which pyproject.toml does not name"


def _imports(path):
    """Third-party top-level modules, and whether the file's own import needs each."""
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules = [node.module]
        for module in {name.split(".")[0] for name in modules}:
            if module not in sys.stdlib_module_names and module not in ("r23d_jax", "tfds_ucf101"):
                yield module, id(node) in top


def test_every_package_and_data_file_is_installed():
    tool = PROJECT["tool"]["setuptools"]
    folders = {path.parent for name in ("r23d_jax", "tfds_ucf101") for path in (ROOT / name).rglob("*.py")}
    expected = {folder.relative_to(ROOT).as_posix().replace("/", ".") for folder in folders} | {"r23d_jax.configs"}
    assert set(tool["packages"]) == expected
    listed = {path for pattern in tool["package-data"]["r23d_jax"] for path in (ROOT / "r23d_jax").glob(pattern)}
    others = {p for p in (ROOT / "r23d_jax").rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert others == listed


SHARED = ["pyproject.toml", "Makefile", *(path.name for path in ROOT.glob("requirements*"))]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("path", [*(ROOT / name for name in SHARED), *WORKFLOWS, *(ROOT / ".ci").iterdir()])
def test_no_address_of_one_machine(path):
    assert not re.search(r"--(extra-)?index-url\s|--find-links|https?://", path.read_text())


def test_workflows_run_what_is_there_on_every_python_that_is_promised():
    promised = SpecifierSet(PROJECT["project"]["requires-python"])
    versions = [f"3.{minor}" for minor in range(8, 20) if promised.contains(f"3.{minor}")]
    assert [path.name for path in WORKFLOWS] == ["fresh-install.yml", "tests.yml"]
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}
        for job in workflow["jobs"].values():
            assert job["strategy"]["matrix"]["python"] == versions
            commands = [step["run"] for step in job["steps"] if "run" in step]
            scripts = [ROOT / command for command in commands if command.startswith(".ci/")]
            assert scripts and all(os.access(script, os.X_OK) for script in scripts)
            for extras in re.findall(r"\.\[([\w,]+)\]", " ".join(commands)):
                assert set(extras.split(",")) <= EXTRAS.keys()


def test_what_to_install_is_said_with_the_declared_bounds():
    declared = {str(requirement).replace(" ", "") for extra in EXTRAS.values() for requirement in extra}
    said = {}
    for path in (ROOT / "r23d_jax").rglob("*.py"):
        for text in re.findall(r"pip install '([^'.][^']*)'", path.read_text()):
            said.setdefault(str(Requirement(text)), path.name)
    assert {Requirement(text).name for text in said} == {"tensorflow", "torch"}
    assert not {text: name for text, name in said.items() if text not in declared}


def test_what_lies_at_the_top_is_a_command_or_one_of_three():
    """The house: a library is in a folder, and a command is arguments and calls."""
    for path in (ROOT / "r23d_jax").glob("*.py"):
        if path.stem not in ("__init__", "__main__", "cli", "config", "errors"):
            text = path.read_text()
            assert "def main(" in text and 'if __name__ == "__main__":' in text, f"{path.name} is no command"
            assert text.count("\n") <= 110, f"{path.name}: a command is arguments and calls; the rest is a library"


def test_benchmarks_start():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    paths = sorted((ROOT / "benchmarks").glob("*.py"))
    running = [
        subprocess.Popen(
            [sys.executable, path, "--help"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for path in paths
    ]
    for path, process in zip(paths, running, strict=True):
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0 and "usage" in out, f"{path.name}: {err}"
