"""An accelerator that JAX does not see is named, with the command that mends it."""

import os
import subprocess
import sys
import types

import pytest

from r23d_jax.runtime import accelerators

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
