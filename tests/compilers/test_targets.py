"""Names of hardware, what is missing to compile for it, what fits in its memory, and what is said of it."""

import importlib.util
import os
import subprocess
import sys
import types

import jax
import pytest
from compiled_result import RESULT
from jax._src import xla_bridge
from paths import ROOT

from r23d_jax import benchmark
from r23d_jax import config as configs
from r23d_jax.compilers import gpu_target, layers, memory, programs, targets
from r23d_jax.compilers.lines import lines
from r23d_jax.errors import UserError
from r23d_jax.report import program_page

GIB = 2**30


@pytest.mark.parametrize(
    "text, name, topology, platform",
    [
        ("tpu:v5e:2x4", "v5e", (2, 4), "tpu"),
        ("tpu:v5e:16x16", "v5e", (16, 16), "tpu"),
        ("TPU:v4:2x2x1", "v4", (2, 2, 1), "tpu"),
        ("tpu:tpu7x:2x2x1", "tpu7x", (2, 2, 1), "tpu"),
        ("gpu:h100", "h100", (1, 1), "cuda"),
        ("gpu:a100:8", "a100", (1, 8), "cuda"),
        ("gpu:b200:64", "b200", (8, 8), "cuda"),
    ],
)
def test_names(text, name, topology, platform):
    target = targets.parse(text)
    assert (target.name, target.topology, target.platform) == (name, topology, platform)


@pytest.mark.parametrize(
    "text, message",
    [
        ("tpu:v5x:2x2", "no such chip; use one of tpu:v4, tpu:v5e"),
        ("cpu", "use one of tpu:v4, tpu:v5e"),
        ("gpu:h1000", "use one of tpu:v4, .* gpu:h100"),
        ("tpu:v5e", "write the slice as 2 numbers, for example tpu:v5e:4x4"),
        ("tpu:v5e:2x2x2", "write the slice as 2 numbers"),
        ("tpu:v5e:0x4", "write the slice as 2 numbers"),
        ("tpu:v5e:32x32", "no axis of a slice of v5e is longer than 16"),
        ("gpu:h100:2x2", "write 1 to 8 GPUs or a multiple of 8"),
        ("gpu:h100:12", "write 1 to 8 GPUs or a multiple of 8"),
        ("gpu:h100:100000", "write 1 to 8 GPUs"),
    ],
)
def test_names_that_are_none(text, message):
    with pytest.raises(UserError, match=f"^--target {text}: .*{message}".replace("?", r"\?")):
        targets.parse(text)


def test_every_chip_has_plausible_facts():
    for chips in targets.CHIPS.values():
        for name, chip in chips.items():
            assert all(5e12 < rate < 3e15 for rate in chip.rates.values()) and 1e9 <= chip.clock < 3e9, name
            assert 0.7 * chip.memory < chip.usable < chip.memory and 2e11 < chip.bandwidth < 1e13, name
            assert chip.most and (chip.platform == "gpu" or chip.axes in (2, 3)), name


def test_gpus_are_described_to_the_compiler():
    text = gpu_target.description(gpu_target.FACTS["h100"], (9, 12, 0))
    for line in ("core_count: 132", "major: 9 minor: 0", "ACCELERATED_FEATURES", "major: 9 minor: 12 patch: 0"):
        assert line in text
    assert "ACCELERATED" not in gpu_target.description(gpu_target.FACTS["a100"], (9, 12, 0))


def test_lowering_without_hardware_takes_back_what_it_changes(monkeypatch):
    before = xla_bridge.canonicalize_platform
    with pytest.raises(ValueError, match="stop"), gpu_target.lowering_without_hardware():
        assert xla_bridge.canonicalize_platform("gpu") == "cuda"
        assert xla_bridge.canonicalize_platform("cpu") == "cpu"
        raise ValueError("stop")
    assert xla_bridge.canonicalize_platform is before
    monkeypatch.delattr(xla_bridge, "canonicalize_platform")
    with pytest.raises(UserError, match=f"JAX {jax.__version__} does not compile for a GPU that is not there"):
        with gpu_target.lowering_without_hardware():
            pass


def test_the_cache_of_programs_is_off_inside_and_as_before_after():
    before = jax.config.jax_enable_compilation_cache
    with targets.uncached():
        assert not jax.config.jax_enable_compilation_cache
    assert jax.config.jax_enable_compilation_cache == before


def test_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    with pytest.raises(UserError, match=r"the TPU's compiler is not installed: pip install 'jax\[tpu\]'"):
        with targets.parse("tpu:v5e:2x2").compiling():
            pass
    from jax.experimental import topologies

    def missing(**_):
        raise NotImplementedError("topology not implemented for cuda")

    monkeypatch.setattr(topologies, "get_topology_desc", missing)
    monkeypatch.setattr(gpu_target, "_plugin_version", lambda what: 0)
    with pytest.raises(UserError, match=r"compiler for CUDA is not installed: pip install 'jax\[cuda13\]'"):
        with targets.parse("gpu:h100").compiling():
            pass
    monkeypatch.setattr(gpu_target, "_plugin_version", lambda what: 13000)
    with pytest.raises(UserError, match=r"gpu:v100: CUDA 13.0 cannot compile for it: pip install 'jax\[cuda12\]'"):
        with targets.parse("gpu:v100").compiling():
            pass


def test_versions_as_the_plugin_writes_them(monkeypatch):
    found = {"cudnn_get_version": 92801, "cuda_runtime_get_version": 13050}
    monkeypatch.setattr(gpu_target, "_plugin_version", found.get)
    assert gpu_target.cudnn_version() == (9, 28, 1) and gpu_target.cuda_version() == "13.5"


@pytest.mark.parametrize(
    "message, needed, available",
    [
        ("memory required for HLO temporaries (40.5G) exceeds available HBM (15.75G).", 40.5 * GIB, 15.75 * GIB),
        ("Ran out of memory in memory space hbm. Used 20.00G of 15.75G hbm. Exceeded by 4.25G.", 20 * GIB, 15.75 * GIB),
        ("RESOURCE_EXHAUSTED: no more", None, None),
    ],
)
def test_what_the_compiler_says_that_does_not_fit(message, needed, available):
    error = programs.DoesNotFitError(message)
    assert error.needed == needed and error.available == available


STEPS = programs.Steps(
    (), (), GIB, GIB // 2, waiting=3 * 2**20, evaluation_waiting=0, evaluated=1, modules=(), stages=()
)
V5E = targets.parse("tpu:v5e:2x2").chip


def test_memory_of_a_program():
    compiled = programs.Compiled("", 1.0, arguments=GIB, temporaries=4 * GIB, planned=5 * GIB)
    found = memory.figures(compiled, STEPS.waiting, V5E)
    assert found["fits"] and found["waiting_bytes"] == 3 * 2**20
    most = memory.largest_batch(found, STEPS, 16)
    constant, each = 1.5 * GIB, (3.5 * GIB + 3 * 2**20) / 16
    assert constant + most * each <= V5E.usable < constant + (most + 1) * each
    assert memory.largest_batch(found, STEPS, 16, multiple=7) == most // 7 * 7 < most
    tight = programs.Compiled("", 1.0, arguments=GIB, temporaries=4 * GIB, planned=V5E.usable)
    assert not memory.figures(tight, STEPS.waiting, V5E)["fits"], "the batches that wait need a place, too"
    error = programs.DoesNotFitError("Used 20.00G of 15.50G hbm")
    found = memory.not_fitting(error, STEPS.waiting, V5E)
    assert not found["fits"] and found["usable_bytes"] == 15.5 * GIB
    assert 0 < memory.largest_batch(found, STEPS, 64) < 64
    assert memory.largest_batch(memory.not_fitting(programs.DoesNotFitError(""), STEPS.waiting, V5E), STEPS, 64) is None


@pytest.mark.parametrize("most, guess, known", [(13, 13, 4), (13, 40, 4), (13, 5, 4), (0, 3, 0), (1, 1, 0), (41, 3, 1)])
def test_the_largest_batch_is_found_by_trying(most, guess, known):
    tried = []

    def fits(batch):
        tried.append(batch)
        return batch <= most

    assert memory.proven_largest(fits, guess, lambda line: None, known) == most
    assert len(tried) == len(set(tried)) < 25


def test_large_batches_are_multiples_of_eight():
    assert memory.proven_largest(lambda batch: batch <= 133, 120, lambda line: None, 64) == 128
    tried = []
    assert memory.proven_largest(lambda batch: tried.append(batch) or batch <= 40, 20, lambda line: None, 6, 3) == 39
    assert all(batch % 3 == 0 for batch in tried)


def test_what_is_said():
    text = "\n".join(lines(RESULT))
    assert "10.200 M estimated cycles a clip" in text and "ESTIMATE is 147.1 clips/s a chip, " in text
    assert "17.0% of the peak rate by the network's own 243.0 GFLOP a clip" in text
    assert "73 DHWNC; 1 neither cuDNN's nor fused" in text
    assert "103 collectives (976.6 KiB), 1 of them (2.0 KiB) while" in text
    assert "largest batch a chip: 51 clips, estimated" in text and "by jax 0.12, option=1" in text
    assert text.endswith("waiting beside it)") and "training: fits: 5.12 GiB a chip, of 15.75 GiB" in text
    unknown = {"compile_s": None, "temp_bytes": None, "argument_bytes": None, "fits": False, "largest_batch": None}
    *_, largest, verdict = lines(RESULT | unknown)
    assert "not known; --largest" in largest
    assert (
        verdict.startswith("training: DOES NOT FIT: at least 5.12 GiB a chip, of 15.75 GiB")
        and "config.remat" in verdict
    )
    assert "more than it has a chip" in lines(RESULT | unknown | {"program_bytes": None})[-1]


def test_what_a_gpu_needs_is_a_lower_bound():
    bound = RESULT | {"target": "gpu:h100", "memory_is": "lower bound", "fits": True}
    *_, largest, verdict = lines(bound)
    assert largest.startswith("largest batch a chip: 51 clips but for cuDNN's workspaces, estimated")
    assert verdict.startswith("training: fits but for cuDNN's workspaces: at least 5.12 GiB a chip")
    assert "DOES NOT FIT: at least 5.12 GiB" in lines(bound | {"fits": False})[-1]
    assert "Largest batch, at most, estimated" in program_page.build(bound, [])


def test_an_evaluation_that_does_not_fit_is_said():
    sizes = {name: RESULT[name] for name in ("program_bytes", "waiting_bytes", "usable_bytes")}
    failed = {"batch": 512, "compile_s": None, "temp_bytes": None, "argument_bytes": None, "fits": False}
    *_, evaluation, training = lines(RESULT | {"evaluation": failed | sizes})
    assert evaluation.startswith("evaluation of 512 clips a chip: DOES NOT FIT") and "eval.batch_size" in evaluation
    assert training.startswith("training: fits")


def test_rates_are_those_of_the_dtype():
    t4, a100, v5e = (targets.parse(name).chip.rates for name in ("gpu:t4", "gpu:a100", "tpu:v5e:1x1"))
    assert t4["float16"] / t4["bfloat16"] == pytest.approx(65 / 8.1) and t4["bfloat16"] == t4["float32"]
    assert a100["bfloat16"] == a100["float16"] == 2 * a100["float32"]
    assert v5e["float32"] == v5e["bfloat16"]


def test_a_core_without_vector_memory_is_no_question_of_the_batch():
    class Step:
        def lower(self):
            return self

        def compile(self, compiler_options):
            raise jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: E1001: Ran out of memory in memory space vmem while allocating on stack. "
                "Scoped allocation with size 512.0K and limit 64.0K exceeded scoped vmem limit by 448.0K."
            )

    with pytest.raises(UserError, match="not compiled: .*memory space vmem"):
        programs.compile_step((Step(), ()), targets.parse("tpu:v5e:1x1"))


def test_the_page_escapes_names_and_has_every_layer():
    layer = layers.Layer("layer1/<i>", "backward", cycles=1e6, flops=1e9, bytes=1e6, transposes=3)
    layer.layouts.update({"NDHWC": 2})
    text = program_page.build(RESULT, [layer, layers.Layer(layers.OTHER, "")])
    assert (
        "&lt;b&gt;net&lt;/b&gt;" in text and "layer1/&lt;i&gt;" in text and "<i>" not in text and "<b>net" not in text
    )
    assert "2 NDHWC" in text and "default-src" in text and "backward" in text
    assert "Stages of the training step" in text and "Its layers" in text
    on_gpu = program_page.build(RESULT, [layers.Layer("fc", "forward", flops=1)])
    assert "estimated M cycles" in text and "M cycles" not in on_gpu
    assert "Stages of" not in program_page.build(RESULT | {"compile_s": None}, [])


def test_flags_that_do_not_go_together(run):
    to_target = ("--target", "gpu:h100")
    for flags in (
        ("--largest",),
        ("--report", "a.html"),
        (*to_target, "--only", "step"),
        (*to_target, "--rounds", "2"),
        (*to_target, "--seconds", "1"),
    ):
        status, _, err = run(benchmark.main, *flags)
        assert status == 1 and "--only, --rounds, --seconds measure; --largest" in err
    status, _, err = run(benchmark.main, "--target", "tpu:v5x:2x2")
    assert status == 1 and err.count("\n") == 1 and "no such chip" in err
    for wrong in (("--target", "tpu:v5e:2x2", "--report", "-"), ("--target", "")):
        status, _, err = run(benchmark.main, *wrong)
        assert status == 1 and err.count("\n") == 1 and err.startswith("error: --")


def test_a_batch_over_chips_that_do_not_divide_it():
    config = configs.load("common")
    mesh = types.SimpleNamespace(size=256)
    with pytest.raises(UserError, match="config.batch_size=64 does not divide over 256 devices"):
        programs.steps(config, mesh)


def test_nothing_of_it_is_loaded_before_the_hardware_is_named():
    """The environment that libtpu reads has to be set before JAX is loaded."""
    code = "import sys, r23d_jax.benchmark, r23d_jax.compilers.targets; print('jax' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
