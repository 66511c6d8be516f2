"""Which dtype to compute in on which hardware: the only place that knows.

NVIDIA GPUs from Ampere on (compute capability 8.0) multiply bfloat16 as fast as float16. On older ones XLA converts
bfloat16 convolutions to float32 (`ConvBfloat16Support` in its nvptx_compiler.cc). Volta and Turing (7.0 V100, 7.5 T4)
have tensor cores for float16. Pascal (6.0 P100) has none; it multiplies float16 at twice the rate, but XLA has cuDNN
compute float16 convolutions in float32 (`ConvDoFP32ComputationFP16Input` in its cuda_dnn.cc), so that float16 halves
what is stored and moved there, and no more.
"""

import re

import jax

from r23d_jax.errors import UserError
from r23d_jax.runtime import accelerators


def hardware() -> tuple[str, str]:
    """Returns the platform of JAX's first device ("cpu", "gpu", "tpu"), and its compute capability ("7.5") or ""."""
    accelerators.warn_if_unused()  # or a dtype would be refused for a CPU that was not meant
    device = jax.devices()[0]
    return device.platform, str(getattr(device, "compute_capability", ""))


def check(dtype: str, platform: str, capability: str) -> None:
    """Raises a `UserError` that names a better dtype if this is float16 and there is one; see `advice`."""
    better = advice(dtype, platform, capability)
    if better and dtype == "float16":
        raise UserError(better)


def advice(dtype: str, platform: str, capability: str) -> str | None:
    """Returns one line on the dtype that is better on this hardware, or None.

    Args:
      dtype: to compute in.
      platform, capability: from `hardware`; AMD's capabilities, such as "gfx90a", are not judged.
    """
    version = float(capability) if re.fullmatch(r"\d+\.\d+", capability) else None
    if dtype == "float16" and platform == "cpu":
        return "dtype=float16: a CPU computes float32 as fast, without loss scaling: set dtype=float32"
    if dtype == "float16" and platform == "tpu":
        return "dtype=float16: a TPU computes in bfloat16, without loss scaling: set dtype=bfloat16"
    if dtype == "float16" and version is not None and version >= 8:
        why = f"this GPU (compute capability {capability}) computes bfloat16 as fast, without loss scaling"
        return f"dtype=float16: {why}: set dtype=bfloat16"
    if dtype == "bfloat16" and version is not None and version < 8:
        gain = "uses its tensor cores" if version >= 7 else "halves memory and its traffic (it has no tensor cores)"
        return (
            f"dtype=bfloat16: XLA computes convolutions in float32 on this GPU (compute capability {capability}, "
            f"below 8.0); dtype=float16 {gain}"
        )
    return None
