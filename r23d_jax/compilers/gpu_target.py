"""NVIDIA GPUs described to XLA's compiler, which then needs none in the machine.

XLA's CUDA plugin compiles for a described GPU (`jax.experimental.topologies`, upstream's test of it is jax-ml/jax
#33542). JAX itself has one place in the way: lowering asks which of CUDA and ROCm a "gpu" is, and looks for a live one
(jax-ml/jax #23971, #28376). `lowering_without_hardware` answers "cuda" there, for as long as its context.
"""

import dataclasses
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from r23d_jax.errors import UserError

# Choosing an algorithm by trying them needs the GPU.
OPTIONS = {"xla_gpu_autotune_level": "0"}
# JAX takes this share of a GPU's memory at the start, unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
SHARE = 0.75

_CUDA_13 = (7, 5)  # the oldest compute capability of CUDA 13, by its release notes
_TRIED = ((0, 10), (0, 12))  # versions of JAX in which `canonicalize_platform` was seen to be all that is in the way


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the compiler asks of a GPU, as its driver reports it (`cudaGetDeviceProperties`).

    Attributes:
      title: the device's name.
      capability: compute capability (major, minor).
      cores: streaming multiprocessors.
      lanes: float32 units of each.
      clock: Hz.
      memory, l2: bytes.
      bandwidth: of the memory, bytes a second.
      shared: bytes of shared memory of a multiprocessor.
      block: bytes of shared memory that one block can ask for.
      threads: most threads on a multiprocessor.
    """

    title: str
    capability: tuple[int, int]
    cores: int
    lanes: int
    clock: float
    memory: int
    l2: int
    bandwidth: float
    shared: int
    block: int
    threads: int = 2048


# NVIDIA's numbers; those of all but the T4 also stand in openxla/xla, xla/backends/gpu/target_config/specs.
FACTS = {
    "h100": Facts("NVIDIA H100 80GB HBM3", (9, 0), 132, 128, 1.98e9, 84942979072, 50 << 20, 3.35232e12, 233472, 232448),
    "h200": Facts("NVIDIA H200", (9, 0), 132, 128, 1.98e9, 151397597184, 50 << 20, 4.8e12, 233472, 232448),
    "b200": Facts("NVIDIA B200", (10, 0), 148, 128, 1.965e9, 191514411008, 132644864, 7.67232e12, 233472, 232448),
    "a100": Facts("NVIDIA A100-SXM4-80GB", (8, 0), 108, 64, 1.41e9, 85100068864, 40 << 20, 2.03904e12, 167936, 166912),
    "t4": Facts("Tesla T4", (7, 5), 40, 64, 1.59e9, 15843721216, 4 << 20, 3.20064e11, 65536, 65536, 1024),
    "v100": Facts("Tesla V100-SXM2-16GB", (7, 0), 80, 64, 1.53e9, 16935682048, 6 << 20, 8.98048e11, 98304, 98304),
    "p100": Facts("Tesla P100-SXM2-16GB", (6, 0), 56, 64, 1.4805e9, 17066885120, 4 << 20, 7.3216e11, 65536, 49152),
}


def devices(name: str, hosts: int, each: int) -> list[Any]:
    """Returns devices of a described machine: `hosts` with `each` GPUs of this name.

    Raises:
      UserError: JAX's package for CUDA is missing.
    """
    from jax.experimental import topologies

    cuda = cuda_version()
    if cuda and int(cuda.split(".")[0]) >= 13 and FACTS[name].capability < _CUDA_13:
        raise UserError(f"--target gpu:{name}: CUDA {cuda} cannot compile for it: pip install 'jax[cuda12]' instead")
    try:
        found = topologies.get_topology_desc(
            topology_name="",
            platform="cuda",
            target_config=description(FACTS[name], cudnn_version()),
            topology=f"1x{hosts}x{each}",
        )
    except NotImplementedError as error:
        if "topology not implemented" not in str(error):
            raise
        raise UserError(
            f"--target gpu:{name}: JAX's compiler for CUDA is not installed: pip install 'jax[cuda13]'"
        ) from error
    return found.devices


def description(facts: Facts, cudnn: tuple[int, int, int]) -> str:
    """Returns a GPU as text of XLA's GpuTargetConfigProto, with the version of cuDNN to compile for."""
    major, minor = facts.capability
    # From Hopper on, XLA generates code for exactly this architecture ("sm_90a").
    exact = "feature_extension: ACCELERATED_FEATURES" if major >= 9 else ""
    versions = " ".join(f"{part}: {value}" for part, value in zip(("major", "minor", "patch"), cudnn, strict=True))
    device = {
        "threads_per_warp": 32,
        "threads_per_block_limit": 1024,
        "threads_per_core_limit": facts.threads,
        "thread_dim_limit_x": 1024,
        "thread_dim_limit_y": 1024,
        "thread_dim_limit_z": 64,
        "block_dim_limit_x": 2**31 - 1,
        "block_dim_limit_y": 65535,
        "block_dim_limit_z": 65535,
        "core_count": facts.cores,
        "fpus_per_core": facts.lanes,
        "clock_rate_ghz": facts.clock / 1e9,
        "device_memory_size": facts.memory,
        "l2_cache_size": facts.l2,
        "memory_bandwidth": int(facts.bandwidth),
        "shared_memory_per_core": facts.shared,
        "shared_memory_per_block": 49152,
        "shared_memory_per_block_optin": facts.block,
        "registers_per_core_limit": 65536,
        "registers_per_block_limit": 65536,
    }
    lines = [f"  {key}: {value}" for key, value in device.items()]
    lines += [f"  cuda_compute_capability {{ major: {major} minor: {minor} {exact} }}"]
    return "\n".join(
        [
            "gpu_device_info {",
            *lines,
            "}",
            'platform_name: "CUDA"',
            f"dnn_version_info {{ {versions} }}",
            f'device_description_str: "{facts.title}"',
        ]
    )


def cudnn_version() -> tuple[int, int, int]:
    """Returns the version of the installed cuDNN, or of the one that JAX's plugin was built with."""
    return installed_cudnn() or _cudnn(_plugin_version("cudnn_build_version") or 91000)


def installed_cudnn() -> tuple[int, int, int] | None:
    """Returns the version of the cuDNN that JAX's plugin has loaded; None without one."""
    number = _plugin_version("cudnn_get_version")
    return _cudnn(number) if number else None


def _cudnn(number: int) -> tuple[int, int, int]:
    return number // 10000, number // 100 % 100, number % 100


def cuda_version() -> str:
    """Returns the version of the installed CUDA runtime ("13.0"); "" if it is not known."""
    number = _plugin_version("cuda_runtime_get_version") or _plugin_version("cuda_runtime_build_version")
    return f"{number // 1000}.{number % 1000 // 10}" if number else ""


def _plugin_version(what: str) -> int:
    for package in ("jax_cuda13_plugin", "jax_cuda12_plugin"):
        try:
            return int(getattr(importlib.import_module(f"{package}._versions"), what)())
        except Exception:  # the plugin raises RuntimeError, ImportError or worse for a library that is not there
            continue
    return 0


@contextmanager
def lowering_without_hardware() -> Iterator[None]:
    """Makes JAX take a "gpu" for CUDA within the context, whatever the machine has.

    Raises:
      UserError: this JAX has no such place.
    """
    import jax
    from jax._src import xla_bridge

    original = getattr(xla_bridge, "canonicalize_platform", None)
    if original is None:
        first, last = (".".join(map(str, version)) for version in _TRIED)
        raise UserError(
            f"--target gpu:...: JAX {jax.__version__} does not compile for a GPU that is not there; "
            f"JAX {first} to {last} do"
        )

    def canonicalize_platform(platform: str) -> str:
        return "cuda" if platform in ("gpu", "cuda") else original(platform)

    xla_bridge.canonicalize_platform = canonicalize_platform
    try:
        yield
    finally:
        xla_bridge.canonicalize_platform = original
