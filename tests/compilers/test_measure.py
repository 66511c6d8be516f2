"""`measure` and the command around it, with what a compiler would say put in its place."""

import contextlib
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from r23d_jax import benchmark
from r23d_jax import config as configs
from r23d_jax.compilers import measure, programs, targets

TEXT = (Path(__file__).parent / "tpu.hlo").read_text()
SMALL = [
    "dtype=bfloat16",
    "model.width=4",
    "model.layers=1,1,1,1",
    "clip.frames=4",
    "clip.size=16",
    "clip.resize=18,24",
]
FLAGS = ("--arch", "r2plus3d_18", *(f"--config.{override}" for override in SMALL), "--batch", "2")
# What the project promises of `--json`.
CONTRACT = (
    "target arch batch clip dtype chips compile_s flops_per_clip bytes_per_clip estimated_cycles_per_clip temp_bytes "
    "argument_bytes largest_batch collectives transposes convolutions"
).split()


@pytest.fixture
def compiler(monkeypatch):
    """One chip, and a compiler that takes up to 40 clips on it; what it was given."""
    given = []

    @contextlib.contextmanager
    def compiling(self):
        yield Mesh(np.asarray(jax.devices()[:1]), ("data",))

    def compile_step(step, target):
        function, (state, batch) = step
        clips = batch["label"].shape[0]
        if clips == 2:
            function.lower(state, batch)
        given.append((jax.tree.map(lambda x: type(x), state), clips))
        if clips > 40:
            raise programs.DoesNotFitError("temporaries (20.0G) exceeds available HBM (15.75G)")
        return programs.Compiled(TEXT, 1.5, 2**20, clips * 2**28, 2**20 + clips * 2**28)

    monkeypatch.setattr(targets.Target, "compiling", compiling)
    monkeypatch.setattr(programs, "compile_step", compile_step)
    monkeypatch.setattr(measure, "versions", lambda target: {"jax": "0"})
    monkeypatch.setattr(targets, "quiet", lambda: None)
    return given


def test_both_steps_are_compiled_and_nothing_is_computed(compiler, run, tmp_path):
    path, page = tmp_path / "new" / "out.json", tmp_path / "page.html"
    status, out, err = run(benchmark.main, "--target", "tpu:v5e:1x1", *FLAGS, "--json", path, "--report", page)
    assert status == 0 and "compiling the training step" in err and "2 clips of 4x16x16" in out, err
    (state, clips), (weights, _) = compiler
    assert clips == 2 and set(jax.tree.leaves(state) + jax.tree.leaves(weights)) == {jax.ShapeDtypeStruct}
    result = json.loads(path.read_text())
    assert set(CONTRACT) <= set(result) and result["evaluation"]["temp_bytes"] == 2 * 2**28
    assert result["estimated_cycles_per_clip"] == 7300 / 2 and result["collectives"]["count"] == 3
    assert result["estimated_clips_per_s"] == pytest.approx(1.5e9 / 3650)
    assert result["argument_bytes"] == 2**20 and result["fits"] and 50 < result["largest_batch"] < 64
    names = {layer["name"] for layer in result["layers"]}
    assert "layer1/0/conv1/0" in names and "layer1/0/conv1/0" in page.read_text()


def test_a_step_that_does_not_fit_is_an_answer(compiler, run, tmp_path):
    status, out, err = run(benchmark.main, "--target", "tpu:v5e:1x1", *FLAGS, "--batch", "64", "--json", "-")
    result = json.loads(out)
    assert status == 1 and set(CONTRACT) <= set(result) and "Traceback" not in err
    assert result["fits"] is False and result["compile_s"] is result["evaluation"] is None
    assert result["program_bytes"] == 20 * 2**30 and 40 < result["largest_batch"] < 64
    page = tmp_path / "page.html"
    status, out, _ = run(benchmark.main, "--target", "tpu:v5e:1x1", *FLAGS, "--batch", "64", "--report", page)
    assert status == 1 and "DOES NOT FIT: at least 20.00 GiB" in out and "DOES NOT FIT" in page.read_text()


def test_an_evaluation_that_does_not_fit_is_an_answer(compiler, run):
    flags = [*FLAGS[:-1], "8", "--config.accumulate=8", "--config.eval.batch_size=41"]
    status, out, _ = run(benchmark.main, "--target", "tpu:v5e:1x1", *flags)
    assert status == 1 and "evaluation of 41 clips a chip: DOES NOT FIT" in out and "training: fits" in out


def test_a_batch_counts_the_clips_of_a_chip_and_is_a_multiple_of_accumulate(compiler, run):
    status, out, err = run(
        benchmark.main, "--target", "tpu:v5e:1x1", *FLAGS[:-1], "6", "--config.accumulate=3", "--largest"
    )
    assert status == 0 and "largest batch a chip: 39 clips, proven" in out, err
    status, _, err = run(benchmark.main, "--target", "tpu:v5e:1x1", *FLAGS[:-1], "7", "--config.accumulate=3")
    assert status == 1 and "multiple of accumulate=3" in err


def test_a_dtype_that_a_run_there_would_refuse_or_be_advised_against(compiler, run):
    flags = [*FLAGS, "--config.dtype=float16"]
    status, _, err = run(benchmark.main, "--target", "gpu:h100", *flags)
    assert status == 1 and "set dtype=bfloat16" in err
    status, _, err = run(benchmark.main, "--target", "gpu:t4", *flags)
    assert status == 0 and "bfloat16" not in err
    _, _, err = run(benchmark.main, "--target", "gpu:t4", *FLAGS)
    assert "XLA computes convolutions in float32 on this GPU (compute capability 7.5" in err


def test_the_share_of_the_peak_is_of_the_networks_own_operations(compiler):
    config = configs.load("common", ["arch=r2plus3d_18", "batch_size=2", *SMALL])
    result, _ = measure.measure(config, targets.parse("tpu:v5e:1x1"))
    own = result["gmacs_per_clip"] * 1e9
    for found, times in ((result, 6), (result["evaluation"], 2)):
        assert found["estimated_peak_share"] == pytest.approx(found["estimated_clips_per_s"] * times * own / 197e12)
        assert found["clips_per_s_at_peak"] == pytest.approx(197e12 / (times * own))


def test_the_largest_batch_is_proven(compiler):
    config = configs.load("common", ["arch=r2plus3d_18", "batch_size=8", *SMALL])
    said = []
    result, _ = measure.measure(config, targets.parse("tpu:v5e:1x1"), prove_largest=True, say=said.append)
    assert (result["batch"], result["largest_batch"], result["largest_batch_is"]) == (8, 40, "proven")
    assert any("fits" in line for line in said)


def test_a_config_for_accumulation_and_its_training_step_alone(compiler):
    config = configs.load("common", ["arch=r2plus3d_18", "batch_size=8", "accumulate=4", "ema=0.9", *SMALL])
    said = []
    result, _ = measure.measure(config, targets.parse("tpu:v5e:1x1"), evaluation=False, say=said.append)
    assert result["batch"] == 8 and result["largest_batch_is"] == "estimated"
    assert result["evaluation"] is None and said == ["compiling the training step for tpu:v5e:1x1"]


@pytest.mark.parametrize("name", ["demo", "study", "i3d:flow", "i3d:rgb", "scratch:r3d_18", "rows:5", "vmz:flow"])
def test_configs_of_any_classes_and_of_flow(compiler, run, name):
    size = ("--config.clip.frames=16", "--config.clip.size=16", "--config.clip.resize=18,24", "--config.batch_size=4")
    status, out, err = run(benchmark.main, "--config", name, "--target", "tpu:v5e:1x1", *size, "--training-only")
    assert status == 0 and "training: fits" in out, err
