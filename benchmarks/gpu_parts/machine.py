"""Measures the machine: versions, and the rate of a matrix product in bfloat16, the ceiling of the MFU."""

import importlib.metadata
import os
import platform
import subprocess
from typing import Any

import jax
import jax.numpy as jnp

from gpu_parts import sizes
from gpu_parts.children import Reporter
from gpu_parts.timing import rates
from r23d_jax.compilers import gpu_target
from r23d_jax.runtime import precision

_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "torch", "torchvision", "triton")


def versions() -> dict[str, Any]:
    """Returns the device, and the versions of what computes on it."""
    device = jax.devices()[0]
    found = {
        "device": f"{jax.device_count()} x {device.device_kind}",
        "backend": jax.default_backend(),
        "against_bfloat16": precision.advice("bfloat16", *precision.hardware()),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }
    found |= {name: _version(name) for name in _PACKAGES}
    return found | {"cudnn": cudnn(), "driver": driver()}


def cudnn() -> str:
    """Returns the version of the cuDNN that JAX uses, "none" without one."""
    if loaded := gpu_target.installed_cudnn():
        return ".".join(map(str, loaded))
    packages = (_version(f"nvidia-cudnn-cu{major}") for major in (13, 12))
    return next((version for version in packages if version != "none"), "none")


def driver() -> str:
    """Returns the version of the driver, as `nvidia-smi` says it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.split("\n")[0]
    except (OSError, subprocess.SubprocessError):
        return "none"


def warnings(found: dict[str, Any]) -> list[str]:
    """Returns what is known against some of these versions."""
    said, cudnn = [], _numbers(found.get("cudnn", ""))
    if cudnn and cudnn < (9, 15):
        said.append(f"cuDNN {found['cudnn']}: want 9.15 or newer for 3D convolutions (pytorch/pytorch#163539, #166122)")
    if (9, 8) <= cudnn < (9, 11):
        said.append("cuDNN 9.8 to 9.10 compute some 3D convolutions in bfloat16 wrongly")
    if _numbers(found.get("torch", "")) == (2, 9):
        said.append("PyTorch 2.9 computes 3D convolutions without cuDNN: do not compare with it")
    return said


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def main() -> None:
    reporter = Reporter()
    size = sizes.of(reporter.settings["small"])
    found = versions()
    reporter.send(record=found)
    if found["backend"] == "cpu" and not reporter.settings["small"]:
        reporter.end()
    keys = jax.random.split(jax.random.key(0))
    a, b = (jax.random.normal(key, (size.matmul, size.matmul), jnp.bfloat16) for key in keys)
    product, last = jax.jit(jnp.matmul), None

    def multiply() -> None:
        nonlocal last
        last = product(a, b)

    multiply()
    found = rates(multiply, lambda: last.block_until_ready(), 2 * size.matmul**3 / 1e12, size.rounds, size.window / 2)
    reporter.send(record={"matmul_tflops": found["rate"]})
    reporter.end()


if __name__ == "__main__":
    main()
