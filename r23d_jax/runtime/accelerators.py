"""Says so when a machine has a GPU or TPU that JAX does not see, and what to install."""

import functools
import os
import re
import sys
from pathlib import Path

import jax

_NVIDIA = ("dev/nvidia0", "dev/nvidiactl", "dev/dxg")  # the last is Windows' subsystem for Linux
_GOOGLE = "0x1ae0"  # vendor of PCI devices, most of which are disks and network cards of virtual machines
_TPUS = ("0x0027", "0x0056", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076", "0x0083", "0x007c")
_CUDA_13_DRIVER = 580  # the oldest for CUDA 13, by its release notes


@functools.cache
def warn_if_unused() -> None:
    """Prints one warning on stderr, once a process, if JAX computes on the CPU of a machine with a GPU or TPU.

    Says nothing if `JAX_PLATFORMS` names what to compute on, or `CUDA_VISIBLE_DEVICES` hides the GPUs.
    """
    if jax.config.jax_platforms or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return
    if jax.default_backend() != "cpu" or jax.process_index():
        return
    found = attached(Path("/"))
    if found is not None:
        name, extra = found
        rule = "!" * 100
        print(
            f"{rule}\nwarning: this machine has {name}, and JAX computes on the CPU: "
            f"JAX's package for it is not installed, or does not fit.\n"
            f"         {sys.executable} -m pip install 'jax[{extra}]=={jax.__version__}'\n"
            f"         mends it; JAX_PLATFORMS=cpu says that the CPU is meant.\n{rule}",
            file=sys.stderr,
            flush=True,
        )


def attached(root: Path) -> tuple[str, str] | None:
    """Returns an accelerator's name and the extra of the package `jax` that drives it; None without one.

    Args:
      root: of the file system, `/`.
    """
    if any((root / path).exists() for path in _NVIDIA):
        driver = root / "proc/driver/nvidia/version"
        version = re.search(r"Kernel Module\D*(?:x86_64|aarch64)?\s+(\d+)\.", _text(driver))
        return "an NVIDIA GPU", "cuda13" if version and int(version[1]) >= _CUDA_13_DRIVER else "cuda12"
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        if _text(device / "vendor") == _GOOGLE and _text(device / "device") in _TPUS:
            return "a TPU", "tpu"
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
