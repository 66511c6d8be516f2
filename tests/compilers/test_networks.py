"""The table of every network: what is compiled again, what failed, and where the tables go."""

import argparse
import importlib.util
import json

import pytest
from compiled_result import RESULT
from paths import ROOT

from r23d_jax.compilers import measure
from r23d_jax.errors import UserError


@pytest.fixture
def networks(monkeypatch):
    spec = importlib.util.spec_from_file_location("benchmark_networks", ROOT / "benchmarks" / "networks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(measure, "versions", lambda target: {"jax": "1"})
    return module


def flags(**changed):
    usual = {"networks": ["rmc4_18", "i3d"], "targets": ["tpu:v5e:2x2@16"], "again": False, "small": False}
    return argparse.Namespace(**(usual | {"time_limit": 9} | changed))


def test_what_is_there_is_not_compiled_again(networks, monkeypatch, tmp_path, capsys):
    ran, path, results = [], tmp_path / "all.json", {}

    def compiled(words, limit):
        ran.append(words[words.index("--arch") + 1])
        return {"error": "not compiled in 9 s"} if ran[-1] == "i3d" else dict(RESULT)

    monkeypatch.setattr(networks, "compiled", compiled)
    networks.fill(results, path, flags())
    assert ran == ["rmc4_18", "i3d"] and results == json.loads(path.read_text())
    networks.fill(results, path, flags())
    assert len(ran) == 2
    networks.fill(results, path, flags(networks=["i3d"], again=True))
    networks.fill(results, path, flags(networks=["rmc4_18"], small=True))
    assert ran[2:] == ["i3d", "rmc4_18"]
    monkeypatch.setattr(measure, "versions", lambda target: {"jax": "2"})
    networks.fill(results, path, flags(networks=["rmc4_18"]))
    assert len(ran) == 5
    text = "\n".join(networks.tables(results, "tpu:v5e:2x2@16"))
    assert "| rmc4_18, r2plus3d_18 | 233 | 10.20 | 147 | 17% | 4.00 GiB | 51 | 103 | 2 | 60 s |" in text
    assert "- i3d: not compiled in 9 s" in text and networks.tables(results, "gpu:h100@64") == []


def test_small_networks_are_thin_where_they_can_be(networks):
    assert "--config.model.width=8" in networks.command("rmc4_18", "gpu:h100", 8, True)
    assert not any("layers" in word for word in networks.command("i3d", "gpu:h100", 8, True))
    assert "--clip" not in networks.command("rmc4_18", "gpu:h100", 8, False)


def test_a_process_that_fails_is_noted(networks):
    assert networks.compiled(["sh", "-c", "echo error: so it is >&2; exit 3"], 9) == {"error": "status 3: so it is"}
    assert networks.compiled(["sh", "-c", "echo '{\"fits\": false}'; exit 1"], 9) == {"fits": False}
    assert networks.compiled(["sleep", "9"], 1) == {"error": "not compiled in 1 s"}


def test_the_tables_go_between_the_marks(networks, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{networks.BEGIN}\nold\n{networks.END}\nafter\n")
    networks.insert(page, ["new"])
    assert page.read_text() == f"before\n{networks.BEGIN}\n\nnew\n{networks.END}\nafter\n"
    networks.insert(page, ["newer", ""])
    assert "new\n" not in page.read_text()
    page.write_text("no marks")
    with pytest.raises(UserError, match="has no place for the table"):
        networks.insert(page, ["new"])
    assert networks.BEGIN in (ROOT / "docs" / "accelerators.md").read_text()


def test_targets_of_the_table(networks):
    assert networks.split("gpu:h100@64") == ("gpu:h100", 64)
    for wrong in ("gpu:h100", "gpu:h100@0", "gpu:none@4"):
        with pytest.raises(UserError, match="gpu:h100@64|no such chip"):
            networks.split(wrong)
