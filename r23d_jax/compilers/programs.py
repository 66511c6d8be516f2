"""Compiles the training and the evaluation step of a config for a target, without computing anything."""

import dataclasses
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from r23d_jax import config as configs
from r23d_jax.compilers.targets import Target
from r23d_jax.errors import UserError, one_line
from r23d_jax.models.ops import hardware
from r23d_jax.runtime.compile import planned_bytes
from r23d_jax.runtime.mesh import AHEAD, by_row, check_batch, replicated
from r23d_jax.training import speed

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


class DoesNotFitError(Exception):
    """A program needs more memory than its device has.

    Attributes:
      needed, available: bytes on a chip, as the compiler says them; None if it does not.
    """

    def __init__(self, message: str):
        super().__init__(message)
        sizes = [float(size) * _UNITS[unit] for size, unit in re.findall(r"\b(\d+(?:\.\d+)?)([KMG])\b", message)]
        # "... required for HLO temporaries (20.1G) exceeds available HBM (15.75G)", or "Used 20.1G of 15.75G hbm."
        known = len(sizes) >= 2
        self.needed, self.available = (int(sizes[0]), int(sizes[1])) if known else (None, None)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler says of one program; sizes in bytes on one chip.

    Attributes:
      text: the program.
      seconds: compilation took, without tracing.
      arguments, temporaries: bytes of the arguments, and of what is needed besides arguments and results.
      planned: bytes of all together.
    """

    text: str
    seconds: float
    arguments: int
    temporaries: int
    planned: int


@dataclasses.dataclass(frozen=True)
class Steps:
    """The jitted steps of a run with abstract arguments, to be lowered inside the target's context.

    Attributes:
      training, evaluation: the functions with their arguments.
      state: bytes of the training state; every chip has all of it.
      gradients: bytes of the gradients of all trainable parameters.
      waiting: bytes beside a training step on a chip: of the batches that are transferred ahead, and the next step's.
      evaluation_waiting: the same beside an evaluation step, and what training goes on with: batches transferred ahead
        and the state that evaluation does not read.
      evaluated: clips a chip in a batch of the evaluation.
      modules: dotted paths of the network's modules that have weights.
      stages: the network's top-level modules in order of depth.
    """

    training: tuple[Callable[..., Any], tuple[Any, ...]]
    evaluation: tuple[Callable[..., Any], tuple[Any, ...]]
    state: int
    gradients: int
    waiting: int
    evaluation_waiting: int
    evaluated: int
    modules: tuple[str, ...]
    stages: tuple[str, ...]


@contextmanager
def compiling(target: Target) -> Iterator[Mesh]:
    """Yields the mesh of a target's devices; networks traced inside are computed as the table of `hardware` says."""
    with target.compiling() as mesh:
        kind = mesh.devices.flat[0].device_kind
        with hardware.trace_for(hardware.Hardware(target.platform, target.capability, kind)):
            yield mesh


def steps(config: ConfigDict, mesh: Mesh) -> Steps:
    """Returns the steps of a config over the mesh of a target. No weights are made.

    Args:
      config: locked; `batch_size` counts the clips of all chips.
      mesh: from `compiling`, whose context is still open.

    Raises:
      UserError: the config does not fit the network or the number of chips.
    """
    check_batch(config.batch_size, mesh, config.accumulate)
    made = []

    def build():
        made.extend(speed.steps(config, mesh))
        return made[0].state()

    state = _placed(jax.eval_shape(build), replicated(mesh))
    run, evaluate = made
    one = speed.noise(configs.changed(config, [f"batch_size={config.accumulate}"]))

    def batch_of(clips):
        return {
            name: jax.ShapeDtypeStruct((clips, *rows.shape[1:]), rows.dtype, sharding=by_row(mesh))
            for name, rows in one.items()
        }

    evaluated = -(-(config.eval.batch_size or config.batch_size) // mesh.size)
    batch, other, weights = batch_of(config.batch_size), batch_of(evaluated * mesh.size), state.evaluated()
    ahead, left = AHEAD * _bytes(batch) // mesh.size, _bytes(state) - _bytes(weights)
    learned = [state.params[name] for name in run.learning]
    return Steps(
        (run.step, (state, batch)),
        (evaluate, (weights, other)),
        _bytes(state),
        _bytes(learned),
        ahead + _bytes(batch) // mesh.size,
        (AHEAD + 1) * _bytes(other) // mesh.size + ahead + left,
        evaluated,
        tuple(sorted({name.rpartition(".")[0] for name in (*run.params, *run.stats)})),
        run.stages,
    )


def compile_step(step: tuple[Callable[..., Any], tuple[Any, ...]], target: Target) -> Compiled:
    """Compiles one of `Steps`.

    Raises:
      DoesNotFitError: the compiler found no way to place it in the chip's memory.
      UserError: the compiler refused it for another reason.
    """
    function, arguments = step
    lowered = function.lower(*arguments)
    begun = time.perf_counter()
    try:
        program = lowered.compile(compiler_options=target.options or None)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error) and "space vmem" not in str(error):  # a chip's, not a core's
            raise DoesNotFitError(str(error)) from error
        raise UserError(f"--target {target.text}: not compiled: {one_line(error)[:400]}") from error
    seconds = time.perf_counter() - begun
    plan = program.memory_analysis()
    return Compiled(
        program.as_text(), seconds, plan.argument_size_in_bytes, plan.temp_size_in_bytes, planned_bytes(program)
    )


def options(target: Target, dtype: str) -> dict[str, str]:
    """Returns the compiler's options that `compile_step` compiles a run's steps with, inside `compiling`."""
    return hardware.compiler_options(dtype) | target.options


def _placed(tree: Any, sharding: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
