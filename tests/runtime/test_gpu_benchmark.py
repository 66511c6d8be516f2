"""`benchmarks/gpu.py`: its time, what it keeps when something fails, and what it prints. Speed is never asserted."""

import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from paths import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu  # noqa: E402
from gpu_parts import children, combinations, machine, parts, table  # noqa: E402
from gpu_parts.combinations import Combination  # noqa: E402
from gpu_parts.results import AUTOTUNE, Results, restore_autotune  # noqa: E402

from r23d_jax.errors import UserError  # noqa: E402
from r23d_jax.runtime import precision  # noqa: E402

PLAIN = Combination("r2plus1d_18", "native", "default", 1, "two passes")
FIRST = {"loss": 4.6, "grad_norm": 1.0, "compiling_beside": 0, "bytes": 2**34, "compile_s": 40.0, "tflops": 300.0}


def record(way: Combination, rate: float, **changes) -> dict:
    rates = {"clips_per_s": rate, "least": rate, "largest": rate}
    return way._asdict() | {"batch": 64, "clip": "16x112x112"} | FIRST | rates | changes


def run_child(log: Path, then: str, seconds: float) -> list[dict]:
    return list(children.events("measuring", {"then": then}, seconds, log, {}))


def test_what_a_process_measured_is_there_when_it_is_stopped_or_dies(tmp_path):
    log = tmp_path / "log"
    *found, last = run_child(log, "end", 60)
    assert [event["record"]["number"] for event in found] == [1, 2] and last == {"done": True}
    *found, last = run_child(log, "die", 60)
    assert len(found) == 2 and last == {"ended": "exit status 1: this is no event / out of memory"}
    begun = time.monotonic()
    *found, last = run_child(log, "sleep", 5)
    assert len(found) in (0, 2) and last == {"ended": "stopped after 5 s", "late": True}
    assert time.monotonic() - begun < 20


def test_a_killed_call_leaves_valid_json(tmp_path):
    code = (
        "import sys; from pathlib import Path; from gpu_parts.results import Results\n"
        "results = Results(Path(sys.argv[1]), minutes=1)\n"
        "while True: results.add('step', {'clips_per_s': 1.0}); print('kept', flush=True)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"}
    command = [sys.executable, "-c", code, tmp_path]
    for _ in range(3):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert [process.stdout.readline() for _ in range(20)] == ["kept\n"] * 20
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert len(json.loads((tmp_path / "gpu.json").read_text())["step"]) >= 20


def test_what_was_started_ends_with_the_call(tmp_path):
    code = (
        "import sys; from pathlib import Path; from gpu_parts import children\n"
        "for event in children.events('measuring', {'then': 'sleep'}, 60, Path(sys.argv[1]), {}): print(event)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", code, tmp_path / "log"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    child = int(re.search(r"'pid': (\d+)", process.stdout.readline())[1])
    os.kill(child, 0)
    process.kill()
    process.communicate()
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        time.sleep(0.2)
    raise AssertionError("the process goes on")


class Processes:
    """In place of `children.events`: every process takes `seconds`, or its time, and then sends `events`."""

    def __init__(self, monkeypatch, seconds: float, events=lambda module, settings: [{"done": True}]):
        self.now, self.calls, self._seconds, self._events = 0.0, [], seconds, events
        monkeypatch.setattr(children, "events", self)

    def __call__(self, module, settings, seconds, log, environment):
        self.calls.append((module.removeprefix("gpu_parts."), seconds, settings))
        self.now += min(self._seconds, seconds)
        late = [{"ended": "stopped", "late": True}] if self._seconds > seconds else []
        yield from late or self._events(module.removeprefix("gpu_parts."), settings)


def call_of(processes: Processes, folder: Path, minutes: float = 8, **before) -> parts.Call:
    results = Results(folder, minutes=minutes)
    results.content |= before
    return parts.Call(results, False, 60 * minutes, folder / "cache", clock=lambda: processes.now)


def test_no_part_outlasts_its_limit_and_nothing_the_call(monkeypatch, tmp_path):
    processes = Processes(monkeypatch, 1000)
    call = call_of(processes, tmp_path)
    for name, part in parts.PARTS.items():
        call.begin(name)
        part(call)
    begun = {name: seconds for name, seconds, _ in processes.calls}
    assert begun == {"machine": 60, "step": 180, "theirs": 180, "loop": 60}  # 8 minutes, and nothing of numerics
    assert processes.now == 480
    assert any("float32" in name for name in call.results.content["left"])
    every = {str(way) for wave in combinations.waves(call.size.archs, 1) for way in wave}
    assert every <= set(call.results.content["left"])


def test_the_first_call_measures_the_most_promising_of_every_network():
    waves = combinations.waves(("r2plus1d_18", "r3d_18"), 2)
    every = [way for wave in waves for way in wave]
    assert len(set(every)) == len(every) and {len({way.arch for way in wave}) for wave in waves} == {1}
    assert [wave[0].arch for wave in waves[:2]] == ["r2plus1d_18", "r3d_18"]
    grid = {way[1:4] for way in every if way.statistics == "one pass" and way.arch == "r2plus1d_18"}
    assert grid >= set(itertools.product((combinations.CHOSEN, "2d"), combinations.OPTIONS, (1, 8)))
    assert PLAIN in waves[2] and PLAIN._replace(arch="r3d_18") in waves[3]
    assert {way.multiple for way in every if way.arch == "r3d_18"} == {1}
    assert Combination.of(json.loads(json.dumps(every[0]._asdict()))) == every[0]


def test_what_kills_the_process_is_found_and_the_rest_is_measured(monkeypatch, tmp_path):
    bad = Combination("r2plus1d_18", "2d", "default", 8, "one pass")

    def events(module, settings):
        for index, wave in enumerate(settings["waves"]):
            yield {"begin": index}
            if bad in wave:
                yield {"ended": "exit status -6: CUDA error"}
                return
            for way in wave:
                yield {"record": record(way, 100)}
        yield {"done": True}

    processes = Processes(monkeypatch, 1, events)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    call = call_of(processes, tmp_path)
    call.begin("step")
    parts.step(call)
    found, total = call.results.content["step"], sum(map(len, combinations.waves(call.size.archs, 2)))
    assert len(found) == total - 1 and bad not in map(Combination.of, found)
    assert len(call.results.content["failures"]) == 2  # with others, then alone
    call.begin("step")
    processes.calls.clear()
    parts.step(call)  # a later call tries nothing twice but the one
    assert [settings["waves"] for _, _, settings in processes.calls] == [[[bad]]]


def test_a_pair_that_kills_pytorch_is_left_out(monkeypatch, tmp_path):
    def events(module, settings):
        yield {"machine": {"torch": "2.11.0"}}
        for arch, mode in settings["pairs"]:
            yield {"begin": [arch, mode]}
            if (arch, mode) == ("r3d_18", "eager"):
                yield {"ended": "exit status -11: no message"}
                return
            yield {"record": {"arch": arch, "mode": mode, "clips_per_s": 10.0}}
        yield {"done": True}

    call = call_of(Processes(monkeypatch, 1, events), tmp_path)
    call.begin("torch")
    parts.torch(call)
    found = [(row["arch"], row["mode"]) for row in call.results.content["torch"]]
    assert found == [("r2plus1d_18", "eager"), ("r2plus1d_18", "compiled"), ("r3d_18", "compiled")]
    assert call.results.content["machine"]["torch"] == "2.11.0"


def test_without_pytorch_its_part_says_so(monkeypatch, tmp_path):
    processes = Processes(monkeypatch, 1)
    call = call_of(processes, tmp_path, machine={"torch": "none"})
    call.begin("torch")
    parts.torch(call)
    assert not processes.calls and "PyTorch is not installed" in json.dumps(call.results.content["failures"])


def test_the_fastest_computes_what_the_others_do():
    ways = [way for wave in combinations.waves(("r3d_18",), 4) for way in wave][:5]
    rows = [record(way, rate) for way, rate in zip(ways, (100, 200, 300, 400, 500), strict=True)]
    rows[4]["loss"], rows[3]["grad_norm"], rows[2]["compiling_beside"] = 4.9, 2.0, 1
    assert parts.winners({"step": rows})["r3d_18"] == rows[1]
    rows[4]["loss"] = float("nan")
    assert parts.winners({"step": rows})["r3d_18"] == rows[1]


def test_an_earlier_call_is_continued_on_the_same_machine_alone(monkeypatch, tmp_path):
    first, second, cache = tmp_path / "first", tmp_path / "second", tmp_path / "cache"
    for folder in (first, second, cache / AUTOTUNE):
        folder.mkdir(parents=True)
    (cache / AUTOTUNE / "one.textproto").write_text("algorithm")
    results = Results(first, minutes=8)
    results.add("machine", {"device": "1 x H200", "jaxlib": "0.11.2"})
    results.add("step", record(PLAIN, 100))
    results.fail("something", "for some reason")
    results.log.write_bytes(b"." * 2**23)
    results.tidy(cache)
    assert {path.name for path in first.iterdir()} == {"gpu.json", "gpu.log", "autotune.tar"}
    assert results.log.stat().st_size < 2**22
    assert restore_autotune(first, tmp_path / "again") and not restore_autotune(second, tmp_path / "again")
    assert (tmp_path / "again" / AUTOTUNE / "one.textproto").read_text() == "algorithm"
    later = Results(second, table.read_results("--after", first / "gpu.json"), minutes=4)
    assert len(later.content["calls"]) == 2 and len(later.content["step"]) == 1 and not later.content["failures"]
    assert later.content["step"][0]["call"] == 1
    here = {"device": "1 x H100", "jaxlib": "0.11.2", "cudnn": "9.10.2"}
    processes = Processes(monkeypatch, 1, lambda *_: [{"record": here}, {"done": True}])
    call = parts.Call(later, False, 240, cache, clock=lambda: processes.now)
    call.begin("machine")
    with pytest.raises(UserError, match="had device 1 x H200"):
        parts.machine(call)


@pytest.mark.parametrize("capability", ["", "7.5", "8.0"])
def test_a_gpu_without_bfloat16_is_refused(monkeypatch, tmp_path, capability):
    monkeypatch.setattr(precision, "hardware", lambda: ("gpu", capability))
    here = machine.versions() | {"device": "1 x Tesla T4"}
    processes = Processes(monkeypatch, 1, lambda *_: [{"record": here}, {"done": True}])
    call = call_of(processes, tmp_path)
    call.begin("machine")
    with pytest.raises(UserError, match="T4.*below 8.0") if capability == "7.5" else nullcontext():
        parts.machine(call)


def test_children_see_the_cpu(monkeypatch):
    for platforms, added in (("cuda", {"JAX_PLATFORMS": "cuda,cpu"}), ("cuda,cpu", {}), ("", {})):
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
        assert children._with_cpu() == added


def test_versions_that_compute_wrongly_or_slowly_are_named():
    assert machine.warnings({"cudnn": "9.15.1", "torch": "2.11.0"}) == []
    assert machine.warnings({"cudnn": "none", "torch": "none"}) == []
    old, wrong, torch = machine.warnings({"cudnn": "9.10.2", "torch": "2.9.1+cu130"})
    assert "9.15" in old and "wrongly" in wrong and "2.9" in torch
    assert len(machine.warnings({"cudnn": "9.13.0"})) == 1


def test_results_are_printed_as_markdown(run, tmp_path):
    path = tmp_path / "gpu.json"
    best = Combination("r2plus1d_18", "native", "nhwc", 8, "one pass")
    results = Results(tmp_path, minutes=8)
    status, out, _ = run(gpu.main, "--table", path)
    assert status == 0 and "Device: unmeasured" in out and "| r2plus1d_18 | unmeasured |" in out
    versions = {"device": "1 x H200", "driver": "580", "cores": 16, "python": "3.12.3", "jax": "0.11.2"}
    results.add("machine", versions | {"matmul_tflops": 750.0})
    results.add("step", record(best, 1500))
    results.add("step", record(PLAIN, 600))
    for mode, rate in (("eager", 900.0), ("compiled", 1000.0)):
        results.add("torch", {"arch": "r2plus1d_18", "mode": mode, "clips_per_s": rate})
    facts = {"decoding": "processes", "cores": 16, "clips_per_s": 1400.0, "data_wait": 0.02}
    results.add("loop", best._asdict() | facts | {"hours_for_300_epochs_of_ucf101": 0.57})
    results.add("numerics", {"dtype": "float32", "loss": [2.0, 1.0], "accuracy": [0.1, 0.5]})
    results.add("numerics", record(best._replace(deterministic=True), 1200))
    results.leave("something")
    status, out, _ = run(gpu.main, "--table", path)
    assert status == 0 and "JAX 0.11.2" in out and "750 TFLOP/s" in out
    assert "| r2plus1d_18 | 1500.0 | 16.0 | 40.0% | 900.0 | 1000.0 | 1.50 |" in out
    assert "| r2plus1d_18, 16 cores decoding in processes | 1400.0 | 2% | 0.57 |" in out
    assert "| float32 | 2.000 | 1.000 | 50.0% |" in out and "cost 20.0%" in out and "no time left: something" in out
    assert re.search(r"nhwc \| multiples of 8 .* 1500.*\n.*default \| as they are", out)  # the fastest first
    results.content["machine"] = {"torch": "2.11.0"}  # PyTorch's process added it, the machine's died
    assert "?, driver ?, ? cores" in table.markdown(results.content)


def damaged(folder: Path) -> dict[str, str]:
    """What a `gpu.json` may have that is not the results of a call, by name."""
    content = Results(folder, minutes=8).content
    texts = {"broken": '{"calls": [', "bytes": "\udcff", "list": "[]", "another": '{"a": 1}', "null": "null"}
    odd = {"step": [{"arch": "r3d_18"}], "machine": [], "calls": None, "left": 3, "loop": [1], "torch": [[]]}
    return texts | {part: json.dumps(content | {part: value}) for part, value in odd.items()}


def test_what_is_no_result_is_refused_in_a_line_and_kept(run, monkeypatch, tmp_path):
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # of this process
    for name, text in damaged(tmp_path).items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "gpu.json").write_bytes(text.encode(errors="surrogateescape"))
        for flag, value in (("--table", folder / "gpu.json"), ("--after", folder)):
            status, out, err = run(gpu.main, flag, value, "--out", folder)
            assert status == 1 and not out and err.startswith(f"error: {flag} {folder / 'gpu.json'}: no results"), err
            assert err.count("\n") == 1 and "name a gpu.json" in err
        assert (folder / "gpu.json").read_bytes() == text.encode(errors="surrogateescape")
    status, _, err = run(gpu.main, "--after", tmp_path / "none", "--out", tmp_path / "out")
    assert status == 1 and err.startswith("error: --after") and "No such file" in err and err.count("\n") == 1


def test_damaged_autotuning_results_are_named(run, monkeypatch, tmp_path):
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # of this process
    Results(tmp_path, minutes=8)
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:xz") as archive:
        archive.add(ROOT / "benchmarks", AUTOTUNE)
    for data in (b"no archive", whole.getvalue()[:2000]):
        (tmp_path / "autotune.tar").write_bytes(data)
        status, _, err = run(gpu.main, "--after", tmp_path, "--out", tmp_path / "out")
        assert status == 1 and err.startswith(f"error: --after {tmp_path / 'autotune.tar'}: damaged"), err
        assert err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "0", "soon"])
def test_a_call_has_some_minutes(run, text):
    status, _, err = run(gpu.main, f"--minutes={text}")
    assert status == 1 and f"--minutes: {text}: must be a number of minutes above 0" in err and err.count("\n") == 1
    assert gpu.parse(["--minutes", "0.5"]).minutes == 0.5


def test_nothing_that_is_missing_on_such_a_machine_is_imported():
    code = (
        "import importlib, pkgutil, sys\n"
        "for name in sys.argv[1:]: sys.modules[name] = None\n"
        "import gpu, gpu_parts, training, r23d_jax.training.loop\n"
        "for module in pkgutil.iter_modules(gpu_parts.__path__):\n"
        "    if module.name != 'theirs': importlib.import_module(f'gpu_parts.{module.name}')\n"
    )
    absent = ("av", "tensorflow", "tensorflow_datasets", "torch", "matplotlib", "PIL", "markupsafe", "safetensors")
    environment = {**os.environ, "PYTHONPATH": ":".join(map(str, children.PATHS))}
    subprocess.run([sys.executable, "-c", code, *absent], env=environment, check=True)


@pytest.mark.slow
def test_it_runs_with_tiny_sizes(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", "--small", "--minutes", "12", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert done.returncode == 0 and not content["failures"], done.stdout + done.stderr
    assert {row["arch"] for row in content["step"]} == {"r2plus1d_18", "r3d_18"} and not content["left"]
    assert {row["mode"] for row in content["torch"]} == {"eager", "compiled"}
    assert {row["decoding"] for row in content["loop"]} == {"threads", "processes"}
    assert {row.get("dtype", "deterministic") for row in content["numerics"]} == {
        "float32",
        "bfloat16",
        "deterministic",
    }
    assert "| training step, clips/s |" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} <= {"gpu.json", "gpu.log", "autotune.tar"}
