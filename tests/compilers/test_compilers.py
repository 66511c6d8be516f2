"""The compilers of TPUs and GPUs themselves, which need no hardware, in processes of their own.

What a change of the step must not make worse is held by what the TPU's compiler says of a small network. `make
test-slow` compiles every network for a TPU and for a GPU; the packages for the latter lie in a folder beside the
environment's others, so that no other test sees them.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import networks  # noqa: E402

CUDA = Path(sys.prefix) / "cuda"  # `make test-slow` installs requirements-cuda.txt there
CANONICAL = networks.canonical_names()


def compile_for(target, name, batch, *flags, size=None):
    """What `benchmark --target` writes of a network, by default a small one, and its messages."""
    size = networks.small_size(name) if size is None else size
    words = ["--target", target, "--arch", name, "--batch", str(batch), "--dtype", "bfloat16", *size, *flags]
    paths = [str(ROOT), str(CUDA), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-W", "error::UserWarning", "-m", "r23d_jax.benchmark", *words, "--json", "-"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3000)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout), ran.stderr


@pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="libtpu is for Linux on x86-64")
def test_a_tpu_step_gets_no_worse(tmp_path):
    """The bounds are what libtpu 0.0.42.1 and 0.0.50.1 say, and some room. Lower them when a change earns it."""
    page = tmp_path / "page.html"
    result, said = compile_for("tpu:v5e:2x2", "r2plus3d_18", 4, "--report", page)
    assert said.splitlines() == [f"compiling the {step} step for tpu:v5e:2x2" for step in ("training", "evaluation")]
    assert result["chips"] == 4 and result["fits"]
    assert result["options"]["xla_tpu_scoped_vmem_limit_kib"] == "65536"
    assert 50_000 < result["estimated_cycles_per_clip"] * 4 <= 550_000
    assert result["transposes"]["count"] <= 2 and result["transposes"]["bytes"] <= 0.7e6
    between = result["collectives"]
    assert 10 <= between["count"] <= 21, "three of the gradients, the others of BatchNorms"
    assert between["overlapped"] >= 1 and between["overlapped_bytes"] > 0.3 * between["bytes"]
    assert result["fallbacks"]["count"] == 0 and result["loops_of_unknown_length"] == 0
    layers = {(layer["name"], layer["direction"]): layer for layer in result["layers"]}
    for direction in ("forward", "backward"):
        assert layers["layer1/0/conv1/0", direction]["cycles"] > 0 and layers["fc", direction]["flops"] > 0
    assert sum(layer["flops"] for layer in layers.values()) == pytest.approx(result["flops_per_clip"])
    assert "layer4/0/conv2/1" in page.read_text()


@pytest.mark.slow
def test_a_tpu_step_of_the_published_width_gets_no_worse():
    """One block a stage; in the small network of the quick test most cycles are what any instruction costs."""
    size = ["--clip", "8x56x56", "--config.clip.resize=64,86", networks.SHALLOW]
    result, _ = compile_for("tpu:v5e:2x2", "r2plus3d_18", 8, size=size)
    assert result["estimated_cycles_per_clip"] <= 366_000 and result["estimated_peak_share"] >= 0.22
    assert result["transposes"]["count"] <= 5 and result["collectives"]["count"] <= 27
    assert result["collectives"]["overlapped_bytes"] >= 0.6 * result["collectives"]["bytes"]


@pytest.mark.slow
@pytest.mark.parametrize("name", CANONICAL)
def test_every_network_compiles_for_a_tpu(name):
    result, _ = compile_for("tpu:v5e:1x1", name, 8)
    assert result["fits"] and sum(result["convolutions"].values()) > 30 and result["estimated_cycles_per_clip"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", CANONICAL)
def test_every_network_compiles_for_a_gpu(name):
    assert CUDA.is_dir(), f"{CUDA}: `make test-slow` installs requirements-cuda.txt there"
    result, _ = compile_for("gpu:h100", name, 8)
    assert result["fits"] and sum(result["convolutions"].values()) > 30 and result["fallbacks"]["count"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r2plus1d_18", "r3d_18", "r2plus3d_18", "mc3_18", "i3d"])
def test_on_a_gpu_convolutions_are_channels_last_and_only_weights_are_transposed(name):
    assert CUDA.is_dir(), f"{CUDA}: `make test-slow` installs requirements-cuda.txt there"
    size = [] if name == "i3d" else [networks.SHALLOW]
    one, two = (compile_for("gpu:h100", name, batch, "--training-only", size=size)[0] for batch in (8, 16))
    assert {layout[-1] for layout in two["convolutions"]} == {"C"}
    assert two["fallbacks"]["count"] == 0
    # The gradient of the input of I3D's 1x1x1 kernels is a forward convolution.
    assert two["gradients_as_forward"]["count"] == 0 or name == "i3d"
    # An activation is twice as large in twice the batch, a weight is not.
    assert two["transposes"]["bytes"] - one["transposes"]["bytes"] <= 8 * 2**19


@pytest.mark.slow
def test_gpus_from_turing_on_and_several_of_them():
    for target in ("gpu:t4", "gpu:a100", "gpu:h200", "gpu:b200"):
        assert compile_for(target, "r2plus3d_18", 8)[0]["estimated_cycles_per_clip"] is None
    result, _ = compile_for("gpu:h100:8", "r2plus3d_18", 8)
    assert result["chips"] == 8 and result["collectives"]["count"] >= 10


@pytest.mark.slow
@pytest.mark.parametrize(
    "target, overlaps",
    [
        ("tpu:v4:2x2x1", False),
        ("tpu:v5p:2x2x1", False),
        ("tpu:v6e:4x4", True),
        ("tpu:tpu7x:2x2x1", True),
        ("tpu:v5e:16x16", True),
    ],
)
def test_every_generation_of_tpu(target, overlaps):
    result, _ = compile_for(target, "r2plus3d_18", 8)
    assert result["fits"] and result["estimated_clips_per_s"] > 0
    assert (result["collectives"]["overlapped"] > 0) == overlaps
