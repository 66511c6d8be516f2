"""Every way to compute each of a network's convolutions, timed: what the table of `models.ops.hardware` rests on.

    python benchmarks/layers.py [--arch r2plus1d_18] [--batch 4] [--clip 16x112x112] [--dtype float32] [--json FILE]

The distinct convolutions are taken from the network itself, traced with abstract arrays. For each of them every
formulation that can compute it is timed, on inputs that lie on the device: forward, the gradient of the input and that
of the kernel, each a program by itself (a gradient that needs no forward pass does none). Rounds take turns, figures
are medians; GFLOP/s are those of a direct convolution (two operations a multiply-add), whatever the formulation
computes instead. `*` marks what the table takes on this hardware. What a formulation refuses or fails at is named
below the table.
"""

import argparse
import collections
import dataclasses
import functools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from r23d_jax import models  # noqa: E402
from r23d_jax.benchmark import clip_size  # noqa: E402
from r23d_jax.errors import one_line, run_command  # noqa: E402
from r23d_jax.models.ops import formulations, hardware, winograd  # noqa: E402
from r23d_jax.runtime.console import positive, seconds  # noqa: E402

FORMULATIONS = {
    name: getattr(formulations, name)
    for name in ("native", "pointwise", "folded", "temporal", "shifted", "stacked_inputs", "stacked_outputs")
} | {"winograd.spatial": winograd.spatial, "winograd.temporal": winograd.temporal}
ACTS = ("forward", "input gradient", "kernel gradient")


class Layer(NamedTuple):
    """One convolution: shapes of input and kernel, strides and padding."""

    shape: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: formulations.Strides
    padding: formulations.Padding

    def __str__(self) -> str:
        size, channels = "x".join(map(str, self.kernel[:3])), f"{self.kernel[3]}->{self.kernel[4]}"
        stride = "" if self.strides == (1, 1, 1) else f" /{','.join(map(str, self.strides))}"
        return f"{size} {channels}{stride}, {'x'.join(map(str, self.shape[1:4]))}"

    def output(self) -> tuple[int, ...]:
        """The shape of what it gives."""
        sizes = [
            (size + sum(pad) - taps) // stride + 1
            for size, pad, taps, stride in zip(self.shape[1:4], self.padding, self.kernel, self.strides, strict=False)
        ]
        return (self.shape[0], *sizes, self.kernel[4])

    def operations(self) -> int:
        """Floating-point operations, two a multiply-add, padding counted as if it were input."""
        return 2 * math.prod(self.output()) * math.prod(self.kernel[:4])


def layers_of(create: Callable[[], nnx.Module], clips: tuple[int, ...], dtype: str) -> collections.Counter:
    """How often a network has each convolution, for clips of shape `[B, T, H, W, C]`."""
    model = nnx.eval_shape(create)
    model.eval()
    graph, state = nnx.split(model)
    layers, policy = collections.Counter(), hardware.policy()

    def count(*layer: Any) -> formulations.Formulation:
        layers[Layer(*layer)] += 1
        return policy.choice(*layer)

    with hardware.use(dataclasses.replace(policy, choice=count)):
        jax.eval_shape(lambda state, video: nnx.merge(graph, state)(video), state, jax.ShapeDtypeStruct(clips, dtype))
    return layers


def can_compute(name: str, layer: Layer) -> bool:
    """Whether the formulation is for such a kernel; the others' assumptions are not all checked by themselves."""
    (time, height, width), pad = layer.kernel[:3], layer.padding
    fits = {
        "pointwise": time == height == width == 1 and not any(map(any, pad)),
        "folded": time == 1 and not any(pad[0]),
        "temporal": height == width == 1 and not any(pad[1] + pad[2]),
        "winograd.spatial": height == width == 3 and layer.strides == (1, 1, 1),
        "winograd.temporal": layer.kernel[:3] == (3, 1, 1) and layer.strides == (1, 1, 1),
    }
    return fits.get(name, True)


def programs(formulation: formulations.Formulation, layer: Layer, dtype: str) -> dict[str, Callable[[], Any]]:
    """The three acts, compiled; each waits for its result.

    Raises:
      Exception: whatever the formulation or the compiler has against this layer.
    """
    rng = np.random.default_rng(0)
    shapes = layer.shape, layer.kernel, layer.output()
    x, kernel, dy = (jax.device_put(rng.standard_normal(s, np.float32).astype(jnp.dtype(dtype))) for s in shapes)

    def apply(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return formulation(x, kernel, layer.strides, layer.padding)

    def input_gradient(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> jax.Array:
        return jax.vjp(lambda x: apply(x, kernel), x)[1](dy)[0]

    def kernel_gradient(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> jax.Array:
        return jax.vjp(lambda kernel: apply(x, kernel), kernel)[1](dy)[0]

    made = {}
    acts = zip(ACTS, (lambda x, kernel, dy: apply(x, kernel), input_gradient, kernel_gradient), strict=True)
    for act, function in acts:
        program = jax.jit(function, compiler_options=hardware.compiler_options(dtype)).lower(x, kernel, dy).compile()
        made[act] = functools.partial(_wait_for, program, x, kernel, dy)
        made[act]()
    return made


def _wait_for(program: Callable[..., Any], *arguments: jax.Array) -> None:
    jax.block_until_ready(program(*arguments))


def time_layer(layer: Layer, dtype: str, rounds: int, least: float) -> tuple[dict[str, dict[str, float]], list[str]]:
    """`({formulation: {act: seconds}}, what was left out and why)`; a formulation's rounds take turns with the rest."""
    made, left_out = {}, []
    for name, formulation in FORMULATIONS.items():
        if not can_compute(name, layer):
            continue
        try:
            made[name] = programs(formulation, layer, dtype)
        except Exception as error:  # whatever it is: the others are measured, and this is reported
            left_out.append(f"{name}: {one_line(error)[:200]}")
    found = {name: {} for name in made}
    for act in ACTS:
        repeats = {name: max(1, round(least / max(timed(acts[act], 1), 1e-9))) for name, acts in made.items()}
        times = {name: [] for name in made}
        for _ in range(rounds):
            for name, acts in made.items():
                times[name].append(timed(acts[act], repeats[name]))
        for name, values in times.items():
            found[name][act] = statistics.median(values)
    return found, left_out


def timed(act: Callable[[], Any], repeats: int) -> float:
    """Seconds a call."""
    begun = time.perf_counter()
    for _ in range(repeats):
        act()
    return (time.perf_counter() - begun) / repeats


def measure(layers: collections.Counter, dtype: str, rounds: int, least: float) -> Iterator[dict]:
    """A record for each layer, as soon as it is measured."""
    for layer, times in layers.items():
        found, left_out = time_layer(layer, dtype, rounds, least)
        chosen = hardware.policy().choice(*layer)
        yield {
            "layer": str(layer),
            "times": times,
            **layer._asdict(),
            "gflop": layer.operations() / 1e9,
            "chosen": next(name for name, formulation in FORMULATIONS.items() if formulation is chosen),
            "seconds": found,
            "left_out": left_out,
        }


def table(record: dict) -> list[str]:
    """Lines of a Markdown table: milliseconds and GFLOP/s."""
    times = f", {record['times']} times" if record["times"] > 1 else ""
    lines = [f"| {record['layer']}{times} | {' | '.join(ACTS)} | all |", "|---|" + "---|" * (len(ACTS) + 1)]
    for name, acts in sorted(record["seconds"].items(), key=lambda item: sum(item[1].values())):
        cells = [f"{acts[act] * 1e3:.2f} ms, {record['gflop'] / acts[act]:.0f}" for act in ACTS]
        mark = " *" if name == record["chosen"] else ""
        lines.append(f"| {name}{mark} | {' | '.join(cells)} | {sum(acts.values()) * 1e3:.2f} ms |")
    return [*lines, *(f"left out: {reason}" for reason in record["left_out"]), ""]


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="r2plus1d_18")
    parser.add_argument("--batch", type=positive, default=4)
    parser.add_argument("--clip", default="16x112x112", metavar="TxHxW")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--width", type=positive, default=64, help="channels of layer1")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--seconds", type=seconds, default=0.2, help="least length of a round")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--debug", action="store_true", help="show a traceback on errors")
    return parser.parse_args(argv)


def main() -> None:
    flags = parse()
    frames, side = clip_size(flags.clip)

    def create() -> nnx.Module:
        options = {"frames": frames, "width": flags.width, "dtype": jnp.dtype(flags.dtype)}
        return models.create(flags.arch, 101, rngs=nnx.Rngs(0), **options)

    layers = layers_of(create, (flags.batch, frames, side, side, 3), flags.dtype)
    device = f"{jax.devices()[0].device_kind}, JAX {jax.__version__}"
    print(
        f"{flags.arch}, {flags.batch} clips of {flags.clip}, {flags.dtype}; {len(layers)} different convolutions of "
        f"{layers.total()}; {device}; milliseconds, and GFLOP/s of a direct convolution; * is the chosen one\n"
    )
    records = []
    for record in measure(layers, flags.dtype, flags.rounds, flags.seconds):
        records.append(record)
        print("\n".join(table(record)), flush=True)
    if flags.json:
        content = {
            "arch": flags.arch,
            "batch": flags.batch,
            "clip": flags.clip,
            "dtype": flags.dtype,
            "device": device,
            "rounds": flags.rounds,
            "layers": records,
        }
        flags.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    run_command(main)
