"""The table of every network: what is compiled again, what failed, and where the tables go; what policies are worth."""

import argparse
import contextlib
import dataclasses
import json
import subprocess
import sys

import pytest
from compiled_result import RESULT
from paths import ROOT

from r23d_jax.compilers import measure
from r23d_jax.errors import UserError
from r23d_jax.models.ops import hardware
from r23d_jax.models.ops.hardware import Hardware
from r23d_jax.runtime.mesh import create_mesh

sys.path.insert(0, str(ROOT / "benchmarks"))

import networks as table_of_networks  # noqa: E402
import policies as parts_of_policies  # noqa: E402


@pytest.fixture
def networks(monkeypatch):
    monkeypatch.setattr(measure, "versions", lambda target: {"jax": "1"})
    return table_of_networks


def flags(**changed):
    usual = {"networks": ["rmc4_18", "i3d"], "targets": ["tpu:v5e:2x2@16"], "again": False, "small": False}
    return argparse.Namespace(**(usual | {"time_limit": 9} | changed))


def test_what_is_there_is_not_compiled_again(networks, monkeypatch, tmp_path, capsys):
    ran, path, results = [], tmp_path / "all.json", {}

    def compiled(words, limit):
        ran.append(words[words.index("--arch") + 1])
        return {"error": "status 1: why", "refused": True} if ran[-1] == "i3d" else dict(RESULT)

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
    assert "\nTraining step, clips of 16x112x112, bfloat16; jax 2; not run.\n" in text and "estimated clips/s" in text
    assert "v5e:2x2, 16 clips a chip, small networks" in networks.tables(results, "tpu:v5e:2x2@16 small")[0]
    assert "| rmc4_18, r2plus3d_18 | 243 | 10.20 | 147 | 17% | 4.00 GiB | 51 | 103 | 2 | 60 s |" in text
    assert "- i3d: status 1: why" in text and networks.tables(results, "gpu:h100@64") == []


def test_what_other_versions_compiled_has_a_table_of_its_own(networks):
    results = {KEY: GOOD | {"versions": {"jax": "1"}}, KEY.replace("rmc4", "r3d"): GOOD | {"versions": {"jax": "2"}}}
    text = "\n".join(networks.tables(results, "tpu:v5e:2x2@16"))
    assert text.count("| network |") == 2 and text.count("### ") == 1 and "jax 1;" in text and "jax 2;" in text


def test_small_networks_are_no_part_of_the_docs(networks, run, tmp_path):
    status, out, err = run(networks.main, tmp_path / "all.json", "--small", "--docs", tmp_path / "page.md")
    assert (status, out) == (1, "") and "leave out --small" in err and not list(tmp_path.iterdir())


def test_small_networks_are_thin_where_they_can_be(networks):
    assert "--config.model.width=8" in networks.command("rmc4_18", "gpu:h100", 8, True)
    assert not any("layers" in word for word in networks.command("i3d", "gpu:h100", 8, True))
    assert "--clip" not in networks.command("rmc4_18", "gpu:h100", 8, False)


def test_a_process_that_fails_is_noted(networks):
    def shell(script):
        return networks.compiled(["sh", "-c", script], 9)

    refused = {"error": "status 1: so it is", "refused": True}
    assert shell("echo odd >&2; echo error: so it is >&2; exit 1") == refused
    assert shell("echo error: so it is >&2; exit 3") == {"error": "status 3: so it is"}
    assert shell("echo Traceback >&2; echo MemoryError >&2; exit 1") == {"error": "status 1: MemoryError"}
    assert shell("kill -9 $$") == {"error": "status -9: nothing"}
    assert shell("echo error: half >&2; echo '{'; kill -9 $$") == {"error": "status -9: half"}
    assert shell("true") == {"error": "status 0: nothing"}
    assert shell(r"printf '\377\n' >&2; exit 2") == {"error": "status 2: \ufffd"}
    assert networks.compiled(["sh", "-c", "echo '{\"fits\": false}'; exit 1"], 9) == {"fits": False}
    assert networks.compiled(["sleep", "9"], 1) == {"error": "not compiled in 1 s"}


@pytest.mark.parametrize("error", ["status -9: nothing", "status 0: nothing", "not compiled in 9 s"])
def test_what_was_killed_or_took_too_long_is_tried_again(networks, monkeypatch, tmp_path, error):
    given = [{"error": error}, {"error": "status 1: why", "refused": True}]
    monkeypatch.setattr(networks, "compiled", lambda words, limit: given.pop(0))
    results, path = {}, tmp_path / "all.json"
    for left in (1, 0, 0):
        networks.fill(results, path, flags(networks=["i3d"]))
        results = networks.read_results(path)
        assert len(given) == left
    assert results["i3d tpu:v5e:2x2@16"]["error"] == "status 1: why"


KEY = "rmc4_18 tpu:v5e:2x2@16"
GOOD = RESULT | {"arch": "rmc4_18"}


@pytest.mark.parametrize(
    "text, why",
    [
        ("", "no JSON"),
        ('{"a', "no JSON"),
        ("\udcff", "no JSON"),
        ("[1]", "has no object with results"),
        ("null", "has no object with results"),
        ('{"a": 1}', "'a' is no result"),
        (json.dumps({KEY: 1}), f"{KEY!r} is no result"),
        (json.dumps({KEY: {"arch": "rmc4_18"}}), f"{KEY!r} is no result"),
        (json.dumps({KEY: GOOD | {"compile_s": "long"}}), f"{KEY!r} is no result"),
        (json.dumps({KEY: GOOD | {"arch": "none"}}), f"{KEY!r} is no result"),
        (json.dumps({KEY: GOOD, "r3d_18 gpu:none@4": GOOD}), "'r3d_18 gpu:none@4' is no result"),
    ],
)
def test_a_file_of_something_else_is_refused_in_a_line_and_kept(networks, run, tmp_path, text, why):
    path, data = tmp_path / "all.json", text.encode(errors="surrogateescape")
    path.write_bytes(data)
    status, out, err = run(networks.main, path)
    assert status == 1 and not out and err.startswith(f"error: {path}: {why}") and err.count("\n") == 1, err
    assert "name another file" in err and path.read_bytes() == data


def test_what_a_file_has_is_printed_and_errors_can_be_traced(networks, run, monkeypatch, tmp_path):
    path = tmp_path / "all.json"
    path.write_text(json.dumps({KEY: GOOD | {"versions": {"jax": "1"}, "small": False}}))
    monkeypatch.setattr(networks, "compiled", None)
    status, out, _ = run(networks.main, path, "--networks", "rmc4_18", "--targets", "tpu:v5e:2x2@16", "--debug")
    assert status == 0 and "| rmc4_18, r2plus3d_18 | 243 |" in out
    path.write_text("[")
    monkeypatch.setattr(sys, "argv", ["networks.py", str(path), "--debug"])
    with pytest.raises(UserError, match="no JSON"):
        networks.main()
    status, _, err = run(networks.main, tmp_path)
    assert status == 1 and "is a folder; name a file" in err and err.count("\n") == 1


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


@pytest.fixture
def policies(monkeypatch):
    """The module, whose target is this machine, and which never gets as far as compiling."""
    from r23d_jax.compilers import programs

    @contextlib.contextmanager
    def compiling(target):
        with hardware.trace_for(Hardware("gpu", (9, 0))):
            yield create_mesh()

    monkeypatch.setattr(parts_of_policies.targets, "quiet", lambda: None)
    monkeypatch.setattr(programs, "compiling", compiling)
    monkeypatch.setattr(programs, "compile_step", lambda *_: pytest.fail("nothing is compiled here"))
    return parts_of_policies


@pytest.mark.parametrize(
    "arguments, why",
    [
        (["--arch", "nosuch"], "no network is called 'nosuch'"),
        (["--layers", "1,1"], "layers=(1, 1): must be"),
        (["--layers", "0,1,1,1"], "layers=(0, 1, 1, 1): must be"),
        (["--layers", "many"], "layers=('many',): must hold numbers"),
        (["--arch", "i3d", "--layers", "1,1,1,1"], "i3d: layers=(1, 1, 1, 1): not an option"),
        (["--layers", "1,1,1,99999"], "layers=(1, 1, 1, 99999): give the number of blocks"),
        (["--arch", "i3d", "--with", "a=1", "b"], "--with b: write OPTION=VALUE"),
        (["--arch", "i3d", "--only", "none"], "--only 'none': there are 'as chosen', 'without formulations',"),
        (["--target", "gpu:none"], "there is no such chip"),
        (["--json", "."], "--json .: is a folder"),
    ],
)
def test_policies_refuses_what_cannot_be_compiled_before_it_prints(policies, run, arguments, why):
    status, out, err = run(policies.main, *arguments)
    assert status == 1 and not out and err.startswith("error: ") and why in err and err.count("\n") == 1, err


def test_policies_leaves_out_each_part_of_a_policy(policies):
    fields = {field.name for field in dataclasses.fields(hardware.Policy)} - {"dtypes"}  # of the options
    assert sorted(name for part in policies.left_out().values() for name in part) == sorted(fields)
    assert all(hardware.Policy(**part) == hardware.Policy() for part in policies.left_out().values())
    on_gpu, on_tpu = (policies.policies(hardware.policy_of(Hardware(*where))) for where in (("gpu", (9, 0)), ("tpu",)))
    assert "without formulations" in on_gpu and "without formulations" not in on_tpu
    chosen = hardware.Policy(options={"a": "1", "b": True})
    changed = policies.policies(chosen, [["a=", "c=2"], ["a=x=y"]])
    assert changed["with a= c=2"].options == {"b": True, "c": "2"}
    assert changed["with a=x=y"].options == {"a": "x=y", "b": True} and chosen.options["a"] == "1"
    assert on_gpu["without formulations"].statistics == "one pass" and on_gpu["none of them"] == hardware.Policy()


def test_policies_sets_the_environment_before_jax_is_loaded():
    code = "import sys, policies; sys.exit('jax' in sys.modules)"
    assert not subprocess.run([sys.executable, "-c", code], cwd=ROOT / "benchmarks").returncode


def test_make_bench_leaves_out_what_measures_nothing_of_any_machine():
    command = ["make", "-n", "bench", f"PYTHON={sys.executable}"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (files,) = [line for line in said.splitlines() if line.startswith("for file in")]
    assert "benchmarks/loader.py" in files
    assert not any(name in files for name in ("networks.py", "policies.py", "gpu.py", "wheels.py"))
