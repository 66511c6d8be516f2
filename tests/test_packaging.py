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


PROMISED = SpecifierSet(PROJECT["project"]["requires-python"])
PYTHONS = [f"3.{minor}" for minor in range(8, 20) if PROMISED.contains(f"3.{minor}")]


def requirements(name):
    """The entries of a requirements file, without comments and hashes."""
    lines = re.sub(r" \\\n", " ", (ROOT / name).read_text()).splitlines()
    lines = [re.split(r"#|--hash", line)[0].strip() for line in lines]
    found = [Requirement(line) for line in lines if line]
    assert all(re.fullmatch(r"==[^*]+", str(requirement.specifier)) for requirement in found), "not a pin"
    return found


def pins(name, python):
    """{distribution: version} of a requirements file, for a Python on Linux."""
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    found = [one for one in requirements(name) if one.marker is None or one.marker.evaluate(environment)]
    names = [canonicalize_name(requirement.name) for requirement in found]
    assert len(set(names)) == len(names), "named twice"
    return {name: str(requirement.specifier)[2:] for name, requirement in zip(names, found, strict=True)}


@pytest.mark.parametrize("python", PYTHONS)
def test_what_is_declared_has_bounds_and_the_pins_are_within_them(python):
    environment = {"python_version": python}
    pinned = pins("requirements.in", python)
    for requirement in [*DEPENDENCIES, *(one for extra in EXTRAS.values() for one in extra)]:
        if requirement.marker is None or requirement.marker.evaluate(environment):
            version = pinned.get(canonicalize_name(requirement.name))
            assert version is not None, f"{requirement.name} is not pinned"
            assert requirement.specifier.contains(version), f"{requirement} leaves out {version}, which was tested"
            if not requirement.extras:  # jax[tpu] is bounded by jax
                assert {spec.operator for spec in requirement.specifier} == {">=", "<"}, f"{requirement}: two bounds"


@pytest.mark.parametrize("python", PYTHONS)
def test_requirements_and_lock_hold_the_same_pins(python):
    direct, whole = pins("requirements.in", python), pins("requirements.txt", python)
    assert direct.items() <= whole.items() and pins("requirements.lock", python) == whole, "run `make lock`"
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"https?:|file:|--index|--find-links|@ ", text), "an address of one machine"
    for block in re.split(r"\n(?=\w)", text)[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), f"{block.split()[0]}: no hash"


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
    assert [path.name for path in WORKFLOWS] == ["fresh-install.yml", "tests.yml"]
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}
        for name, job in workflow["jobs"].items():
            pythons = job["strategy"]["matrix"]["python"]
            assert pythons == PYTHONS or name in ("oldest", "between") and set(pythons) <= set(PYTHONS)
            commands = [step["run"] for step in job["steps"] if "run" in step]
            scripts = [ROOT / script for script in re.findall(r"\.ci/\w+", " ".join(commands))]
            assert scripts and all(os.access(script, os.X_OK) for script in scripts)
            for extras in re.findall(r"\.\[([\w,]+)\]", " ".join(commands)):
                assert set(extras.split(",")) <= EXTRAS.keys()


def test_what_to_install_is_said_with_the_declared_bounds():
    declared = {f"{one.name}{one.specifier}" for extra in EXTRAS.values() for one in extra}
    said = {}
    for path in (ROOT / "r23d_jax").rglob("*.py"):
        for text in re.findall(r"'(tensorflow[<>=][^'{]*)'", path.read_text()):
            said.setdefault(str(Requirement(text)), path.name)
    assert {Requirement(text).name for text in said} == {"tensorflow"}
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


@pytest.mark.parametrize(
    "there, chosen",
    [
        (["python3"], "python3"),
        (["python3", "python3.12"], "python3"),
        (["python3.14", "python3.11"], "python3.14"),
        (["python3.11"], "python3.11"),
        (["python3 of 3.10", "python3.13"], "python3.13"),
        (["python3 of 3.15"], None),
        ([], None),
    ],
)
def test_make_chooses_a_python_that_fits_and_says_which(tmp_path, there, chosen):
    for name in ("python3", "python3.14", "python3.13", "python3.12", "python3.11"):
        script = tmp_path / name
        # The others are there and do not run, like pyenv's of versions that are not switched on.
        other = next((one.split(" of 3.")[1] for one in there if one.startswith(f"{name} of")), None)
        run = f'exec "{sys.executable}" "$@"' if name in there else "exit 127"
        if other is not None:
            run = f"""exec "{sys.executable}" -c "import sys; sys.version_info = (3, {other}); $2" """
        script.write_text(f"#!/bin/sh\n{run}\n")
        script.chmod(0o755)
    venv = tmp_path / "venv"
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    command = ["make", "-C", ROOT, f"VENV={venv}", f"{venv}/.created"]
    if chosen is None:
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert run.returncode == 2 and "error: no Python from 3.11 to 3.14 found" in run.stderr and not venv.exists()
    else:
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert re.search(rf"^{venv}: Python 3\.\d+\.\d+, {chosen}$", run.stdout, re.M)
        assert (venv / "bin/python").exists()
