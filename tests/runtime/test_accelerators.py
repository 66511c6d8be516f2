"""An accelerator that JAX does not see is named, with the command that mends it."""

import os
import subprocess
import sys
import types

import pytest
from flax import nnx

from r23d_jax import models
from r23d_jax.inference.classifier import Classifier
from r23d_jax.runtime import accelerators, mesh
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights.card import Card

NVRM = "NVRM version: NVIDIA UNIX {} Kernel Module  {}  Tue Oct 20 2026\nGCC version: 12.2.0\n"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for {}  {}  Release Build\n"


def machine(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def pci(vendor, device, address="0000:00:05.0"):
    return {f"sys/bus/pci/devices/{address}/{name}": f"{text}\n" for name, text in
            (("vendor", vendor), ("device", device))}  # fmt: skip


@pytest.mark.parametrize(
    "files, extra",
    [
        ({}, None),
        ({"dev/nvidiactl": "", "proc/driver/nvidia/version": NVRM.format("x86_64", "580.65.06")}, "cuda13"),
        ({"dev/nvidia0": "", "proc/driver/nvidia/version": NVRM.format("x86_64", "535.183.01")}, "cuda12"),
        ({"dev/nvidia0": "", "proc/driver/nvidia/version": OPEN.format("aarch64", "590.10")}, "cuda13"),
        ({"dev/dxg": ""}, "cuda12"),  # the driver is Windows'
        (pci("0x1ae0", "0x0063"), "tpu"),
        (pci("0x1ae0", "0x0042"), None),  # a network card of Google's virtual machines
        (pci("0x10de", "0x0063"), None),
    ],
)
def test_what_is_attached(tmp_path, files, extra):
    found = accelerators.attached(machine(tmp_path, files))
    assert (None if found is None else found[1]) == extra


def test_it_is_said_once_with_the_command_that_keeps_jax(monkeypatch, capsys):
    monkeypatch.setattr(accelerators, "attached", lambda root: ("a TPU", "tpu"))
    chosen = types.SimpleNamespace(jax_platforms=None)
    fake = types.SimpleNamespace(
        config=chosen, default_backend=lambda: "cpu", process_index=lambda: 0, __version__="9.9"
    )
    monkeypatch.setattr(accelerators, "jax", fake)
    accelerators.warn_if_unused.cache_clear()
    accelerators.warn_if_unused()
    accelerators.warn_if_unused()
    said = capsys.readouterr().err
    assert said.count("warning: this machine has a TPU") == 1
    assert "-m pip install 'jax[tpu]==9.9'" in said


def test_nothing_is_said_where_the_cpu_is_meant():
    code = (
        "from r23d_jax.runtime import accelerators\n"
        "accelerators.attached = lambda root: ('a TPU', 'tpu')\n"
        "accelerators.warn_if_unused()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], env={**os.environ, "JAX_PLATFORMS": "cpu"}, capture_output=True)
    assert run.returncode == 0 and not run.stderr


def test_training_and_inference_look(monkeypatch):
    looked = []
    monkeypatch.setattr(accelerators, "warn_if_unused", lambda: looked.append(True))
    mesh.create_mesh()
    assert len(looked) == 1
    arguments = {"num_classes": 2, "width": 4, "layers": (1, 1, 1, 1), "in_channels": 3, "dropout": 0.0}
    spec = Preprocessing(resize=(20, 24), crop=16, frames=4, stride=1, fps=None, mean=(0.5,) * 3, std=(0.5,) * 3)
    model = models.create("r2plus3d_18", **arguments, rngs=nnx.Rngs(0))
    Classifier(models.flatten(model), Card("r2plus3d_18", arguments, ("a", "b"), spec))
    assert len(looked) == 2


def test_nothing_is_said_where_gpus_are_hidden(monkeypatch, capsys):
    monkeypatch.setattr(accelerators, "attached", lambda root: ("an NVIDIA GPU", "cuda13"))
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    accelerators.warn_if_unused.cache_clear()
    accelerators.warn_if_unused()
    assert not capsys.readouterr().err
