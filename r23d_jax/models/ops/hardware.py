"""How networks are computed on which hardware: one table.

Networks know nothing of it: their layers ask `policy()` while they are traced. Every policy gives the same outputs and
gradients, up to rounding, of the same parameters.
"""

import contextlib
import contextvars
import dataclasses
import functools
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Literal

import jax
import jax.numpy as jnp

from r23d_jax.models.ops import formulations

_PLATFORMS = {"cuda": "gpu", "rocm": "gpu"}  # JAX's names for exports


@dataclasses.dataclass(frozen=True)
class Hardware:
    """What a program is compiled for.

    Attributes:
      platform: "cpu", "gpu" or "tpu"; also what `jax.export` calls GPUs, "cuda" and "rocm".
      capability: NVIDIA's compute capability (major, minor) of a GPU; None if it is unknown, as for an exported program
        or AMD's GPUs.
      kind: JAX's name of the device ("TPU v5 lite"); empty if it is unknown.
    """

    platform: str
    capability: tuple[int, int] | None = None
    kind: str = ""

    def __post_init__(self):
        object.__setattr__(self, "platform", _PLATFORMS.get(self.platform, self.platform))


@dataclasses.dataclass(frozen=True)
class Policy:
    """How networks are computed.

    Attributes:
      choice: of a convolution's formulation by its shapes.
      options: of the compiler, by name.
      dtypes: names of the dtypes that networks computed in them are compiled with the options for; None for all.
      multiples: by the name of a dtype, what the number of channels between the two convolutions of a factorised one
        is padded to a multiple of, with zeros; 1 where there is none.
      statistics: how batch normalisation computes mean and variance: the variance from the differences from the mean,
        in a second pass, or, of 16-bit activations, both in one pass, from the sums of the differences from the
        running mean and of their squares.
      lanes: channels that are computed at once; layers of at most half as many are computed on pairs of frames, see
        `packing`. 0 for none.
      unrounded_gradients: whether the gradients of kernels that are rounded to 16 bits leave their convolutions as
        float32, and are summed over chips as that.
      whole_pixels: how frames are resampled, see `transforms.clip.resample`.
    """

    choice: formulations.Choice = formulations.always_native
    options: Mapping[str, str | bool] = dataclasses.field(default_factory=dict)
    dtypes: tuple[str, ...] | None = None
    multiples: Mapping[str, int] = dataclasses.field(default_factory=dict)
    statistics: Literal["two passes", "one pass"] = "two passes"
    lanes: int = 0
    unrounded_gradients: bool = False
    whole_pixels: bool = False

    def pairs(self, channels: int) -> bool:
        """Returns whether to compute layers of this many channels on pairs of frames."""
        return 2 * channels <= self.lanes

    def padded(self, channels: int, dtype: jnp.dtype) -> int:
        """Returns the number of channels to compute instead of this many between factorised convolutions."""
        multiple = self.multiples.get(jnp.dtype(dtype).name, 1)
        more = -(-channels // multiple) * multiple
        return channels if self.lanes and more >= 2 * channels else more  # so that they are no pairs' channels


# XLA's layout of 3D convolutions is NCDHW unless it is told otherwise. cuDNN's kernels for tensor cores read and write
# NDHWC with channels in multiples of 16 bytes: it copies what comes otherwise, input and output, in every call. Without
# tensor cores for a dtype (bfloat16 before Ampere, which XLA computes in float32) NCDHW is what needs no copies; nor
# has cuDNN a kernel for 3D convolutions of float32 in NDHWC before Hopper.
def _on_gpu(channels_last: tuple[str, ...] | None, multiples: Mapping[str, int]) -> Policy:
    return Policy(
        formulations.fast_on_gpu,
        {"xla_gpu_force_conv_nhwc": True},
        dtypes=channels_last,
        multiples=multiples,
        statistics="one pass",  # a pass over the activations less
        whole_pixels=True,
    )


# Platform, the least compute capability, policy. The first row that fits is taken: newer GPUs come before older ones,
# and the last one of a platform is for any capability, known or not.
_TABLE: tuple[tuple[str, tuple[int, int] | None, Policy], ...] = (
    (
        "cpu",
        None,
        Policy(
            formulations.fast_on_cpu,
            # Enables YNN's reductions, which speed up batch normalisation, but neither its convolutions (slower
            # gradients of weights) nor its matmuls (their fusion slows down Winograd's products).
            {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"},
        ),
    ),
    (
        "tpu",
        None,
        Policy(
            statistics="one pass",
            lanes=128,
            multiples={"bfloat16": 8, "float32": 8},
            unrounded_gradients=True,
        ),
    ),
    ("gpu", (9, 0), _on_gpu(None, {"bfloat16": 8, "float16": 8, "float32": 4})),
    ("gpu", (8, 0), _on_gpu(("bfloat16", "float16"), {"bfloat16": 8, "float16": 8})),
    ("gpu", (7, 0), _on_gpu(("float16",), {"float16": 8})),
    ("gpu", (0, 0), _on_gpu((), {})),
    ("gpu", None, Policy()),  # an exported program, whose options are those of whoever compiles it
)

# KiB of a TPU's vector memory that one fused operation may use: half of it. XLA's default is an eighth, for which it
# divides convolutions into more and smaller pieces.
_VECTOR_MEMORY = {"xla_tpu_scoped_vmem_limit_kib": str(2**16)}
# Larger gradients are summed over chips one by one, so that some are while others are computed: on a v5e in pieces that
# become part of the convolutions and loops that are computed meanwhile, which XLA supports nowhere else; from v6e on
# by the chip's SparseCores.
_ONE_BY_ONE = {"xla_jf_crs_combiner_threshold_in_bytes": str(2**20)}
_IN_PIECES = _ONE_BY_ONE | {
    "xla_enable_async_all_reduce": True,
    "xla_tpu_enable_async_collective_fusion_fuse_all_reduce": True,
    "xla_tpu_enable_async_collective_fusion_fuse_kloop_fusions": True,
    # From a fifth of the chip's memory on the scheduler prefers what frees memory to what overlaps. Otherwise it puts
    # off gradients of kernels, and keeps their activations.
    "xla_tpu_scheduler_percent_shared_memory_limit": "20",
}
_BY_SPARSE_CORES = _ONE_BY_ONE | {"xla_tpu_enable_sparse_core_collective_offload_all_reduce": True}
# More options of a TPU's compiler by JAX's name of the device.
_KINDS = {
    "TPU v5 lite": _VECTOR_MEMORY | _IN_PIECES,
    "TPU v6 lite": _VECTOR_MEMORY | _BY_SPARSE_CORES,
    "TPU7x": _BY_SPARSE_CORES,
}

_override: contextvars.ContextVar[Policy | None] = contextvars.ContextVar("policy", default=None)


def policy_of(hardware: Hardware) -> Policy:
    """Returns the table's policy; for unknown platforms the native one."""
    for platform, least, policy in _TABLE:
        known = hardware.capability is not None and least is not None
        if platform == hardware.platform and (least is None or (known and hardware.capability >= least)):
            more = _KINDS.get(hardware.kind)
            return dataclasses.replace(policy, options={**policy.options, **more}) if more else policy
    return Policy()


@functools.cache
def here() -> Hardware:
    """Returns the hardware of the default backend."""
    device = jax.local_devices()[0]
    capability = getattr(device, "compute_capability", "").split(".")
    numbers = tuple(map(int, capability)) if all(part.isdecimal() for part in capability) else None
    return Hardware(jax.default_backend(), numbers, device.device_kind)


def policy() -> Policy:
    """Returns the policy in use: that of the hardware here, or of the innermost `trace_for` or `use`."""
    return _override.get() or policy_of(here())


@contextlib.contextmanager
def use(policy: Policy) -> Iterator[None]:
    """Computes networks by this policy, for measurements of alternatives to the table's.

    Trace a new function inside the context, since `jax.jit` reuses earlier traces; compiler options apply to
    `jax.jit` called inside. For example the native formulations without options:

        with hardware.use(dataclasses.replace(hardware.policy(), choice=formulations.always_native, options={})):
            setup = training.setup.create(...)
            setup.step.lower(state, batch).compile()
    """
    token = _override.set(policy)
    try:
        yield
    finally:
        _override.reset(token)


def trace_for(hardware: Hardware | str) -> contextlib.AbstractContextManager[None]:
    """Computes networks as this hardware does instead of the default backend, as `use` does; for export.

    Args:
      hardware: or the name of a platform: "cpu", "gpu", "cuda", "rocm" or "tpu".
    """
    return use(policy_of(Hardware(hardware) if isinstance(hardware, str) else hardware))


def compiler_options(dtype: jnp.dtype | None = None) -> dict[str, str | bool]:
    """Returns the policy's options for `jax.jit(..., compiler_options=...)` or `.compile(compiler_options=...)`.

    Leaves out those that XLA_FLAGS sets or jaxlib does not know. Those of a TPU are all taken where there is none.

    Args:
      dtype: that the network computes in; None for the options of all dtypes.
    """
    now, set_by_user = policy(), " ".join(os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS"))
    if dtype is not None and now.dtypes is not None and jnp.dtype(dtype).name not in now.dtypes:
        return {}
    options = now.options.items()
    return {name: value for name, value in options if name not in set_by_user and _accepted(name, value)}


@functools.cache
def _accepted(option: str, value: str | bool) -> bool:
    """Returns whether this jaxlib knows the option, by compiling a trivial function.

    The options of CPUs and GPUs are known everywhere, the others only to TPUs' compiler.
    """
    of_tpu = not option.startswith(("xla_cpu_", "xla_gpu_"))
    if of_tpu and jax.default_backend() != "tpu":
        return True
    try:
        device = jax.local_devices(backend="tpu" if of_tpu else "cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves out the CPU
        device = jax.local_devices()[0]
    try:
        with jax.default_device(device):
            jax.jit(lambda x: x + 1).lower(0.0).compile(compiler_options={option: value})
    except (RuntimeError, ValueError) as error:  # JaxRuntimeError is a RuntimeError
        logging.getLogger(__name__).info("compiler option %s=%s not used: %s", option, value, error)
        return False
    return True
