"""Measures training steps, computed in several ways, in one process.

The programs of a wave are compiled side by side, while those of the next wave are traced; they are timed when nothing
is compiled any more, since the compiler tries kernels on the device, too. A compilation that takes too long is left
behind, and marked in what is timed beside it.
"""

import functools
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gpu_parts import sizes
from gpu_parts.children import Reporter
from gpu_parts.combinations import Combination
from gpu_parts.timing import rates
from r23d_jax import benchmark
from r23d_jax import config as configs
from r23d_jax.errors import one_line
from r23d_jax.models.ops import hardware
from r23d_jax.runtime.compile import planned_bytes
from r23d_jax.runtime.mesh import by_row, create_mesh
from r23d_jax.training import speed

_LONGEST = 100  # seconds of compilation
_TIMING = 6  # seconds to keep for the measurement of a program


class Program(NamedTuple):
    """A compiled training step, and the seconds of its compilation."""

    step: jax.stages.Compiled
    compile_s: float


def config_of(arch: str, size: sizes.Sizes) -> ConfigDict:
    """Returns the config of a measurement in bfloat16."""
    arguments = ["--arch", arch, "--batch", str(size.batch), "--clip", size.clip, "--dtype", "bfloat16"]
    _, overrides = benchmark.parse(arguments)
    return configs.load("common", [*overrides, f"model.width={size.width}", f"model.layers={size.layers}"])


@functools.cache
def inputs(arch: str, size: sizes.Sizes) -> tuple[Any, dict[str, jax.Array], float]:
    """Returns a state before the first step, a batch on the device, and the multiply-adds of a clip."""
    config, mesh = config_of(arch, size), create_mesh()
    with _weights_on_cpu():
        state, _, _, macs = speed.programs(config, mesh)
    return state, jax.device_put(speed.noise(config), by_row(mesh)), macs


def _weights_on_cpu() -> AbstractContextManager[None]:
    """Makes fresh weights on the CPU: they are many small programs, which it compiles sooner."""
    return jax.default_device(jax.local_devices(backend="cpu")[0])


def lower(way: Combination, size: sizes.Sizes) -> jax.stages.Lowered:
    """Traces the training step of a combination."""
    state, batch, _ = inputs(way.arch, size)
    with hardware.use(way.policy()):
        with _weights_on_cpu():
            run, _ = speed.steps(config_of(way.arch, size), create_mesh())
        return run.step.lower(state, batch)


def build(way: Combination, lowered: "Future[jax.stages.Lowered]") -> Program:
    """Compiles a traced training step.

    Raises:
      Exception: whatever the compiler has against it.
    """
    step = lowered.result()
    begun = time.perf_counter()
    return Program(step.compile(compiler_options=way.compiler_options()), time.perf_counter() - begun)


def measure(way: Combination, program: Program, size: sizes.Sizes) -> dict[str, Any]:
    """Runs a program; loss and gradient of its first step show whether it computes what the others do."""
    initial, batch, macs = inputs(way.arch, size)
    state = jax.tree.map(jnp.copy, initial)  # it is donated
    metrics: dict[str, jax.Array] = {}

    def step() -> None:
        nonlocal state, metrics
        state, metrics = program.step(state, batch)

    step()
    first = {name: float(metrics[name]) for name in ("loss", "grad_norm")}
    found = rates(step, lambda: jax.block_until_ready(metrics), size.batch, size.rounds, size.window)
    return {
        **way._asdict(),
        "batch": size.batch,
        "clip": size.clip,
        "clips_per_s": found["rate"],
        "least": found["least"],
        "largest": found["largest"],
        "tflops": 6 * macs * found["rate"] / 1e12,
        "bytes": planned_bytes(program.step),
        "compile_s": program.compile_s,
        **first,
    }


def main() -> None:
    reporter = Reporter()
    size = sizes.of(reporter.settings["small"])
    waves = [[Combination(*way) for way in wave] for wave in reporter.settings["waves"]]
    pool, behind = ThreadPoolExecutor(2 * max(map(len, waves)) + 1), set[Future]()
    traced: dict[Combination, Future] = {}
    for index, wave in enumerate(waves):
        if reporter.left() < 2 * _TIMING * len(wave):
            break
        reporter.send(begin=index)
        traced |= _trace(pool, wave, size) if index == 0 else {}
        futures = {way: pool.submit(build, way, traced.pop(way)) for way in wave}
        traced |= _trace(pool, waves[index + 1], size) if index + 1 < len(waves) else {}
        late = _wait(reporter, futures, traced, _TIMING * len(wave))
        behind = {future for future in behind | set(futures.values()) if not future.done()}
        for way, future in futures.items():
            if future.done():
                _report(reporter, way, future, size, len(behind))
            elif late:
                reporter.send(failed={"name": str(way), "why": f"not compiled within {_LONGEST} s"})
        futures.clear()  # frees the programs
    reporter.end()


def _trace(pool: ThreadPoolExecutor, wave: list[Combination], size: sizes.Sizes) -> dict[Combination, Future]:
    inputs(wave[0].arch, size)  # once, before the threads ask for them
    return {way: pool.submit(lower, way, size) for way in wave}


def _wait(reporter: Reporter, compiling: dict[Any, Future], tracing: dict[Any, Future], spare: float) -> bool:
    """Waits for all, after a while for one that is compiled; whether there was time for the others, too."""
    wait_for([*compiling.values(), *tracing.values()], min(_LONGEST, reporter.left() - spare))
    late = reporter.left() > spare
    wait_for(compiling.values(), max(0, reporter.left() - spare), FIRST_COMPLETED)
    return late


def _report(reporter: Reporter, way: Combination, future: Future, size: sizes.Sizes, beside: int) -> None:
    try:
        reporter.send(record=measure(way, future.result(), size) | {"compiling_beside": beside})
    except Exception as error:  # whatever it is: the others are measured, and this is reported
        reporter.send(failed={"name": str(way), "why": one_line(error)[:300]})


if __name__ == "__main__":
    main()
