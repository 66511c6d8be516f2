"""README, guides and notebook: links lead somewhere, commands and config keys exist."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from paths import ROOT

from r23d_jax import cli, config

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOK = ROOT / "docs" / "motion.ipynb"


def text_of(path):
    if path.suffix != ".ipynb":
        return path.read_text()
    cells = json.loads(path.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def commands():
    """Every command line in a block of a page: (page, line), continued lines put together."""
    for page in PAGES:
        for block in re.findall(r"^ *```\n(.*?)^ *```", page.read_text(), re.S | re.M):
            for line in re.sub(r"\\\n\s*", " ", block).splitlines():
                if re.match(r"\s*(\.venv/bin/)?(python -m r23d_jax|tfds build|make |r23d )", line):
                    yield page, re.split(r"\s#\s", line.strip())[0].strip()


@pytest.mark.parametrize("page", [*PAGES, NOTEBOOK], ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text_of(page)):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_guide_is_linked_from_the_readme():
    readme = (ROOT / "README.md").read_text()
    for path in [*PAGES[1:], NOTEBOOK]:
        assert f"({path.relative_to(ROOT)})" in readme, path.name


PACKAGES = ("r23d_jax.models", "r23d_jax.report", "r23d_jax.weights")


def test_commands_and_their_flags_exist():
    found = list(commands())
    assert len(found) > 40
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    shared = "".join((ROOT / "r23d_jax" / name).read_text() for name in ("runtime/console.py", "runtime/launch.py"))
    for page, line in found:
        words = line.removeprefix(".venv/bin/").split()
        if words[0] == "make":
            assert set(words[1:]) <= targets, f"{page.name}: {line}"
        if words[0] != "python":
            continue
        module = words[2] + (".__main__" if words[2] in PACKAGES else "")
        assert module.removeprefix("r23d_jax.") in {verb.module for verb in cli.VERBS.values()}, f"{page.name}: {line}"
        source = Path(importlib.util.find_spec(module).origin).read_text() + shared
        for flag in re.findall(r"\s(--[a-z_-]+)(?=[\s=]|$)", line):
            if flag != "--config":
                assert f'"{flag}"' in source, f"{page.name}: {line}"
        for name in re.findall(r"--config ([\w/.:]+)", line):
            config.load(name)


def test_config_keys_exist():
    keys = config.flatten(config.load("common"))
    sections = {key.rpartition(".")[0] for key in keys}
    for page in PAGES:
        for key in re.findall(r"--config\.([a-z_.]+)=", page.read_text()):
            assert key in keys or key.removeprefix("rgb.") in keys or key in sections, f"{page.name}: {key}"
