"""What the compiler of a target says of a config's training and evaluation step."""

import importlib.metadata
import os
from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from r23d_jax import config as configs
from r23d_jax.compilers import figures, gpu_target, hlo, layers, memory, programs
from r23d_jax.compilers.programs import Compiled, DoesNotFitError
from r23d_jax.compilers.targets import Target
from r23d_jax.runtime import precision
from r23d_jax.training import speed

_COMMON = (
    "collectives transposes copies prefetches convolutions matmuls fallbacks gradients_as_forward "
    "loops_of_unknown_length"
).split()


def measure(
    config: ConfigDict,
    target: Target,
    batch: int | None = None,
    prove_largest: bool = False,
    evaluation: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[dict[str, Any], list[layers.Layer]]:
    """Compiles the steps of a config for a target.

    Args:
      config: locked.
      target: what to compile for.
      batch: clips a chip, instead of the config's `batch_size` over the chips.
      prove_largest: find the largest batch by compiling, instead of estimating it.
      evaluation: compile the evaluation step, too.
      say: called with a line before each compilation.

    Returns:
      The object that `--json` writes, and the layers of the training step. Where the step does not fit and the compiler
      gives no program, the figures of it are None and there are no layers.

    Raises:
      UserError: the config does not fit the network or the chips, the target cannot be compiled for, or a run there
        would refuse the dtype.
    """
    hardware = target.chip.platform, ".".join(map(str, target.capability or ()))
    precision.check(config.dtype, *hardware)
    if advice := precision.advice(config.dtype, *hardware):
        say(advice)
    with programs.compiling(target) as mesh:
        if batch:
            config = configs.changed(config, [f"batch_size={batch * mesh.size}"])
        config = speed.filled(config)
        steps = programs.steps(config, mesh)
        each, macs = config.batch_size // mesh.size, speed.multiply_adds(config)
        result = _about(config, target, mesh.size, each) | {"gmacs_per_clip": macs / 1e9}
        peak, beside = result["peak_flops"], steps.waiting
        say(f"compiling the training step for {target.text}")
        try:
            training = programs.compile_step(steps.training, target)
        except DoesNotFitError as error:
            result |= _figures(None, each, target, 6 * macs, peak) | memory.not_fitting(error, beside, target.chip)
            found = []
        else:
            program = hlo.parse(training.text)
            result |= _figures(training, each, target, 6 * macs, peak, program)
            result |= memory.figures(training, beside, target.chip)
            found = layers.layers(program, steps.modules, steps.stages, each)
        largest = memory.largest_batch(result, steps, each, config.accumulate)
        result |= {"largest_batch": largest, "largest_batch_is": "estimated"}
        result["layers"] = [vars(layer) | {"layouts": dict(layer.layouts)} for layer in found]
        result["evaluation"] = _evaluation(steps, target, 2 * macs, peak, say) if found and evaluation else None
        if prove_largest:
            result |= _proven(config, target, mesh, result, each, say)
    return result, found


def _about(config: ConfigDict, target: Target, chips: int, batch: int) -> dict[str, Any]:
    variables = {name: os.environ.get(name) for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")}
    return {
        "target": target.text,
        "arch": config.arch,
        "batch": batch,
        "clip": f"{config.clip.frames}x{config.clip.size}x{config.clip.size}",
        "dtype": config.dtype,
        "chips": chips,
        "peak_flops": target.chip.rates[config.dtype],
        "memory_is": "whole" if target.chip.platform == "tpu" else "lower bound",
        "versions": versions(target),
        "options": programs.options(target, config.dtype),
        "environment": {name: value for name, value in variables.items() if value},
    }


def versions(target: Target) -> dict[str, str]:
    """Returns the versions that decide what is compiled: JAX, jaxlib and libtpu, or CUDA and cuDNN."""
    found = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib")}
    if target.chip.platform == "gpu":
        return found | {
            "cuda": gpu_target.cuda_version(),
            "cudnn": ".".join(map(str, gpu_target.cudnn_version())),
        }
    try:
        return found | {"libtpu": importlib.metadata.version("libtpu")}
    except importlib.metadata.PackageNotFoundError:
        return found | {"libtpu": os.environ.get("TPU_LIBRARY_PATH", "")}


def _figures(
    compiled: Compiled | None,
    batch: int,
    target: Target,
    flops: float,
    peak: float,
    program: hlo.Program | None = None,
) -> dict[str, Any]:
    """Returns the figures of a step per clip; all None without a program.

    Args:
      batch: clips a chip.
      flops: the network's own operations a clip.
      peak: rate of the chip, in operations a second.
    """
    names = ("compile_s", "flops_per_clip", "bytes_per_clip", "estimated_cycles_per_clip")
    rates = ("estimated_clips_per_s", "estimated_peak_share", "clips_per_s_at_peak")
    if compiled is None or program is None:
        return dict.fromkeys((*names, *rates, *_COMMON))
    found, chip = figures.figures(program, target.chip.platform), target.chip
    cycles = found["cycles"] / batch if found["cycles"] else None
    rate = chip.clock / cycles if cycles else None
    values = (compiled.seconds, found["flops"] / batch, found["bytes"] / batch, cycles)
    shares = (rate, rate * flops / peak if rate else None, peak / flops)
    return (
        dict(zip(names, values, strict=True))
        | dict(zip(rates, shares, strict=True))
        | {name: found[name] for name in _COMMON}
    )


def _evaluation(
    steps: programs.Steps, target: Target, flops: float, peak: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """Returns the figures of the evaluation step; those of a program are None where it does not fit."""
    say(f"compiling the evaluation step for {target.text}")
    about = {"batch": steps.evaluated}
    try:
        compiled = programs.compile_step(steps.evaluation, target)
    except DoesNotFitError as error:
        found = memory.not_fitting(error, steps.evaluation_waiting, target.chip)
        return about | _figures(None, steps.evaluated, target, flops, peak) | found
    found = _figures(compiled, steps.evaluated, target, flops, peak, hlo.parse(compiled.text))
    return about | found | memory.figures(compiled, steps.evaluation_waiting, target.chip)


def _proven(config, target, mesh, result, batch, say) -> dict[str, Any]:
    def fits(clips: int) -> bool:
        jax.clear_caches()  # of traces, which else add up
        steps = programs.steps(configs.changed(config, [f"batch_size={clips * mesh.size}"]), mesh)
        try:
            return memory.figures(programs.compile_step(steps.training, target), steps.waiting, target.chip)["fits"]
        except DoesNotFitError:
            return False

    known = batch if result["fits"] else 0
    guess = result["largest_batch"] or max(1, batch // 2)
    return {
        "largest_batch": memory.proven_largest(fits, guess, say, known, config.accumulate),
        "largest_batch_is": "proven",
    }
