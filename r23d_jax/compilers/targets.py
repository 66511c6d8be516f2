"""Names of hardware to compile for, with the published facts of each chip.

A target is `tpu:GENERATION:TOPOLOGY` (`tpu:v5e:4x4`, `tpu:v5p:2x2x1`) or `gpu:CHIP` with a number of them
(`gpu:h100`, `gpu:h100:8`). Nothing of it has to be in this machine: JAX's packages for it bring the compiler.

"A chip" is a device as JAX counts them. On a v4 and v5p that is a chip with both of its cores, on a tpu7x one of its
two cores, with half of the chip's memory and rate.
"""

import dataclasses
import importlib.util
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from r23d_jax.compilers import gpu_target
from r23d_jax.errors import UserError, one_line

if TYPE_CHECKING:
    from jax.sharding import Mesh

_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published facts of one device.

    Attributes:
      platform: "tpu" or "gpu".
      rates: peak rate of dense matrix products by the dtype to compute in, in operations a second.
      memory: bytes of its memory.
      usable: bytes of it that a program can have.
      bandwidth: of its memory, in bytes a second.
      clock: of its cores, in Hz.
      axes: of a TPU's topology.
      most: largest size of each axis of a TPU's topology, or largest number of GPUs.
    """

    platform: str
    rates: Mapping[str, float]
    memory: int
    usable: int
    bandwidth: float
    clock: float
    axes: int = 0
    most: int = 0


def _tpu(rate: float, memory: int, usable: int, bandwidth: float, clock: float, axes: int, most: int) -> Chip:
    # By default XLA multiplies float32 as bfloat16.
    return Chip("tpu", {"bfloat16": rate, "float32": rate}, memory, usable, bandwidth, clock, axes, most)


# Rates, memory and bandwidth are those of Google Cloud's pages on each generation (docs.cloud.google.com/tpu/docs). The
# clocks follow from the peak rate and the multipliers: a core has four matrix units of 128x128 (v4, v5p: two cores of
# them), those of v6e and tpu7x count as four of 256x256. Usable memory is what the compiler calls available: the rest
# is the system's.
_TPUS = {
    "v4": _tpu(275e12, 32 * _GIB, int(31.25 * _GIB), 1228e9, 1.05e9, axes=3, most=16),
    "v5e": _tpu(197e12, 16 * _GIB, int(15.75 * _GIB), 819e9, 1.5e9, axes=2, most=16),
    "v5p": _tpu(459e12, 96 * _GIB, int(95.73 * _GIB), 2765e9, 1.75e9, axes=3, most=28),
    "v6e": _tpu(918e12, 32 * _GIB, int(31.24 * _GIB), 1638e9, 1.75e9, axes=2, most=16),
    "tpu7x": _tpu(2307e12 / 2, 96 * _GIB, int(94.74 * _GIB), 7380e9 / 2, 2.2e9, axes=3, most=28),
}


def _gpu(name: str, bfloat16: float, float16: float, float32: float) -> Chip:
    facts = gpu_target.FACTS[name]
    rates = {"bfloat16": bfloat16 * 1e12, "float16": float16 * 1e12, "float32": float32 * 1e12}
    return Chip(
        "gpu", rates, facts.memory, int(facts.memory * gpu_target.SHARE), facts.bandwidth, facts.clock, most=1024
    )


# NVIDIA's data sheets, in TFLOP/s without sparsity. By default XLA computes float32 as TensorFloat-32 from Ampere on,
# bfloat16 as float32 before it, and float16 as float32 on Pascal.
_GPUS = {
    "h100": _gpu("h100", 989.4, 989.4, 494.7),
    "h200": _gpu("h200", 989.4, 989.4, 494.7),
    "b200": _gpu("b200", 2250, 2250, 1125),
    "a100": _gpu("a100", 312, 312, 156),
    "t4": _gpu("t4", 8.1, 65, 8.1),
    "v100": _gpu("v100", 15.7, 125, 15.7),
    "p100": _gpu("p100", 10.6, 10.6, 10.6),
}
CHIPS = {"tpu": _TPUS, "gpu": _GPUS}


@dataclasses.dataclass(frozen=True)
class Target:
    """Hardware to compile for.

    Attributes:
      text: as the user wrote it.
      name: of the chip ("v5e", "h100").
      chip: its facts.
      topology: sizes of a TPU's axes, or `(hosts, GPUs a host)`.
    """

    text: str
    name: str
    chip: Chip
    topology: tuple[int, ...]

    @property
    def platform(self) -> str:
        """JAX's name of the platform that programs are lowered for: "tpu" or "cuda"."""
        return "tpu" if self.chip.platform == "tpu" else "cuda"

    @property
    def capability(self) -> tuple[int, int] | None:
        """Compute capability of a GPU."""
        return gpu_target.FACTS[self.name].capability if self.chip.platform == "gpu" else None

    @property
    def options(self) -> dict[str, str]:
        """Options of every compilation for it, besides those that its programs ask for."""
        return {} if self.chip.platform == "tpu" else gpu_target.OPTIONS

    @contextmanager
    def compiling(self) -> "Iterator[Mesh]":
        """Yields the mesh of its devices; programs are to be lowered and compiled inside the context.

        Raises:
          UserError: JAX's package for it is missing, or the compiler refuses the topology.
        """
        import jax
        import numpy as np
        from jax.sharding import Mesh

        on_cpu()
        with uncached(), nullcontext() if self.chip.platform == "tpu" else gpu_target.lowering_without_hardware():
            try:
                devices = self._devices()
            except (NotImplementedError, jax.errors.JaxRuntimeError) as error:
                raise UserError(f"--target {self.text}: the compiler refuses it: {one_line(error)[:300]}") from error
            # The order of a run's mesh.
            devices = sorted(devices, key=lambda device: (device.process_index, device.id))
            yield Mesh(np.asarray(devices), ("data",))

    def _devices(self) -> list[Any]:
        from jax.experimental import topologies

        if self.chip.platform == "gpu":
            return gpu_target.devices(self.name, *self.topology)
        if not (importlib.util.find_spec("libtpu") or os.environ.get("TPU_LIBRARY_PATH")):
            raise UserError(f"--target {self.text}: the TPU's compiler is not installed: pip install 'jax[tpu]'")
        name = f"{self.name}:{'x'.join(map(str, self.topology))}"
        # A v4's two cores are one device only if that is asked for; a v5p's always are.
        extra: dict[str, Any] = {"chip_config_name": "megacore"} if self.name == "v4" else {}
        if set(self.topology) == {1}:
            extra["chips_per_host_bounds"] = (1, 1, 1)  # in place of 2x2x1
        return topologies.get_topology_desc(platform="tpu", topology_name=name, **extra).devices


def parse(text: str) -> Target:
    """Returns the target of a name such as "tpu:v5e:2x4", "gpu:h100" or "gpu:h100:8".

    Raises:
      UserError: there is no such chip, or not in this number.
    """
    platform, _, rest = text.lower().partition(":")
    name, _, size = rest.partition(":")
    known = [f"{kind}:{chip}" for kind, chips in CHIPS.items() for chip in chips]
    chip = CHIPS.get(platform, {}).get(name)
    if chip is None:
        raise UserError(f"--target {text}: there is no such chip; use one of {', '.join(known)}")
    sizes = tuple(int(part) for part in size.split("x")) if re.fullmatch(r"[1-9]\d{0,3}(x[1-9]\d{0,3})*", size) else ()
    if platform == "gpu":
        return Target(text, name, chip, _hosts(text, chip, sizes if size else (1,)))
    if len(sizes) != chip.axes:
        shape = "x".join("4" * chip.axes)
        raise UserError(f"--target {text}: write the slice as {chip.axes} numbers, for example tpu:{name}:{shape}")
    if max(sizes) > chip.most:
        raise UserError(f"--target {text}: no axis of a slice of {name} is longer than {chip.most}")
    return Target(text, name, chip, sizes)


def _hosts(text: str, chip: Chip, sizes: tuple[int, ...]) -> tuple[int, int]:
    """Returns hosts and GPUs on each; a host has up to eight."""
    if len(sizes) != 1 or sizes[0] > chip.most or (sizes[0] > 8 and sizes[0] % 8):
        raise UserError(f"--target {text}: write 1 to 8 GPUs or a multiple of 8 up to {chip.most}, such as gpu:h100:8")
    return (math.ceil(sizes[0] / 8), min(sizes[0], 8))


def on_cpu() -> None:
    """Keeps this process off the machine's own accelerators, which may be busy; before anything is computed."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    if jax.default_backend() != "cpu":
        raise UserError("--target: this process computes on an accelerator already; start one for --target alone")


@contextmanager
def uncached() -> Iterator[None]:
    """Leaves JAX's cache of compiled programs alone: it can write those without hardware, but not read them."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # which remembers whether it is enabled
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def quiet() -> None:
    """Sets what libtpu and XLA read from the environment when they are loaded; what is set already stays.

    libtpu would ask Google's metadata server what machine this is, refuse to be loaded by two processes at once (it
    drives no TPU here), and print on stderr what it cannot find out. XLA would log warnings; errors still appear.
    """
    for name, value in (
        ("ALLOW_MULTIPLE_LIBTPU_LOAD", "1"),
        ("TPU_SKIP_MDS_QUERY", "1"),
        ("TPU_WORKER_HOSTNAMES", "localhost"),
        ("TPU_ACCELERATOR_TYPE", "v5litepod-4"),
        ("TPU_MIN_LOG_LEVEL", "3"),
        ("TF_CPP_MIN_LOG_LEVEL", "2"),
    ):
        os.environ.setdefault(name, value)
