"""`python -m r23d_jax.benchmark [--config FILE | --arch NAME --batch N --clip 16x112x112 --dtype float32]`

Measures loader, transfer to the device and step apart, with the training step and the loader of a real run, and
says which of them is the slowest. Rates are medians over rounds, the compilation left out and told by itself.
"""

import argparse
import itertools
import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from r23d_jax import config as configs
from r23d_jax.console import positive, seconds
from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.files import write_json

_PARTS = ("step", "loader", "transfer")
_CLASSES = tuple(f"class {index}" for index in range(101))  # UCF101's number
_MATMUL = {"cpu": 2048, "gpu": 8192, "tpu": 8192}  # side of the square matrices whose product is the ceiling


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags, and the `key=value` overrides."""
    description = __doc__.split("\n\n")[1]
    parser = Parser(prog="python -m r23d_jax.benchmark", description=description)
    parser.add_argument("--config", default="common", help="a config file, or the name of one of configs/")
    parser.add_argument("--arch", help="instead of the config's network")
    parser.add_argument("--batch", type=positive, metavar="N", help="clips a step")
    parser.add_argument("--clip", metavar="TxHxW", help="the network's input: 16x112x112")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="to compute in")
    parser.add_argument("--only", choices=_PARTS, help="measure this part alone")
    parser.add_argument("--rounds", type=positive, default=5, help="rounds of each measurement (default 5)")
    parser.add_argument("--seconds", type=seconds, default=3, metavar="S", help="least length of a round (default 3)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there; - prints nothing else")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    rest, overrides = configs.split_overrides(argv)
    flags = parser.parse_args(rest)
    for key, value in (("arch", flags.arch), ("batch_size", flags.batch), ("dtype", flags.dtype)):
        if value is not None:
            overrides.append(f"{key}={value}")
    if flags.clip:
        frames, side = clip_size(flags.clip)
        overrides += [f"clip.frames={frames}", f"clip.size={side}"]
        if not any(override.startswith("clip.resize=") for override in overrides):
            # As much larger than the crop as the published networks have it: 128x171 for 112.
            overrides.append(f"clip.resize={round(side * 128 / 112)},{round(side * 171 / 112)}")
    return flags, overrides


def clip_size(text: str) -> tuple[int, int]:
    """Frames and side of `--clip`, "16x112x112"."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(re.fullmatch("[1-9][0-9]{0,4}", part) for part in parts) or parts[1] != parts[2]:
        raise UserError(f"--clip {text}: write frames, height and width, for example 16x112x112; frames are square")
    return int(parts[0]), int(parts[1])


def measure(config: ConfigDict, parts: tuple[str, ...] = _PARTS, rounds: int = 5, seconds: float = 3) -> dict[str, Any]:
    """Measures the parts of a run of this config.

    Args:
      config: locked; its data set is only needed for "loader".
      parts: any of "step", "loader" and "transfer".
      rounds: of each measurement.
      seconds: least length of a round.

    Returns:
      What `--json` writes. `tflops` and `mfu` are those of the training step: three times the forward pass's
      multiply-adds as two operations each, over the rate of a matrix product of the same type in this process.
      Parts not measured are None.

    Raises:
      UserError: the config asks for what no network or device can do.
    """
    import jax

    result = {
        "arch": config.arch, "batch": config.batch_size, "clip": _clip_text(config), "dtype": config.dtype,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}", "inference_clips_per_s": None,
        "train_clips_per_s": None, "compile_s": None, "peak_bytes": None, "tflops": None, "mfu": None,
        "matmul_tflops": None, "transfer_clips_per_s": None, "transfer_bytes_per_s": None,
        "loader_clips_per_s": None, "host_bytes": None, "rounds": rounds, "spread": {},
    }  # fmt: skip
    if "step" in parts:
        result |= _step(config, rounds, seconds, result["spread"])
    if "transfer" in parts:
        result |= _transfer(config, rounds, seconds, result["spread"])
    if "loader" in parts:
        result |= _loader(config, rounds, seconds, result["spread"])
    return result


def _clip_text(config: ConfigDict) -> str:
    return f"{config.clip.frames}x{config.clip.size}x{config.clip.size}"


def _rates(actions: dict[str, Callable[[], Any]], work: dict[str, float], rounds: int, seconds: float, spread: dict):
    """Work a second of each action, the median over rounds in which they take turns; the actions block."""
    repeats = {}
    for name, action in actions.items():
        action()  # compiled, caches warm
        once = min(_timed(action, 1) for _ in range(2))
        repeats[name] = max(1, round(seconds / once))
    rates: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            rates[name].append(work[name] * repeats[name] / _timed(action, repeats[name]))
    for name, found in rates.items():
        spread[name] = [min(found), max(found)]
    return {name: statistics.median(found) for name, found in rates.items()}


def _timed(action: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        action()
    return time.perf_counter() - start


def _step(config: ConfigDict, rounds: int, seconds: float, spread: dict) -> dict[str, Any]:
    """The training step and the evaluation step on one batch that stays on the device, and a matrix product."""
    import jax
    import jax.numpy as jnp

    from r23d_jax import parallel
    from r23d_jax.compiled import peak_bytes

    mesh = parallel.create_mesh()
    parallel.check_batch(config.batch_size, mesh, config.accumulate)
    state, train, evaluate, macs = programs(config, mesh)
    batch = jax.device_put(noise(config), parallel.by_row(mesh))
    begun = time.perf_counter()
    train = train.lower(state, batch).compile()
    compile_s = time.perf_counter() - begun

    def train_once():
        nonlocal state
        state, metrics = train(state, batch)
        jax.block_until_ready(metrics)

    def evaluate_once():
        jax.block_until_ready(evaluate(state.evaluated(), batch))

    side = _MATMUL.get(jax.default_backend(), 4096)
    matrix = jnp.ones((side, side), jnp.dtype(config.dtype))
    product = jax.jit(jnp.matmul)

    def multiply():
        jax.block_until_ready(product(matrix, matrix))

    rates = _rates(
        {"train": train_once, "inference": evaluate_once, "matmul": multiply},
        {"train": config.batch_size, "inference": config.batch_size, "matmul": 2 * side**3 / 1e12},
        rounds, seconds, spread,
    )  # fmt: skip
    tflops, ceiling = 6 * macs * rates["train"] / 1e12, rates["matmul"] * jax.device_count()
    return {
        "inference_clips_per_s": rates["inference"], "train_clips_per_s": rates["train"], "compile_s": compile_s,
        "peak_bytes": peak_bytes(train), "gmacs_per_clip": macs / 1e9, "tflops": tflops, "matmul_tflops": ceiling,
        "mfu": tflops / ceiling,
    }  # fmt: skip


def programs(config: ConfigDict, mesh):
    """`(state, training step, evaluation step, multiply-adds of a clip)`; the steps are jitted, as in `train`."""
    import jax

    from r23d_jax import assemble, optim, parallel
    from r23d_jax.data import augment
    from r23d_jax.functional import Functional, weights_of
    from r23d_jax.models import convolution, summary
    from r23d_jax.step import init_state, make_eval_step, make_train_step

    arguments = assemble.model_arguments(config, len(_CLASSES), 3, None)
    model = assemble.create(config.arch, arguments, config.dtype, config.seed)
    if config.freeze_batch_norm:
        assemble.freeze_batch_norm(model)
    network, spec = Functional(model), assemble.preprocessing(config)
    params, stats = weights_of(model)
    factors = optim.lr_factors(config, params, assemble.stages(model))
    learning = {name for name, factor in factors.items() if factor}
    rate = optim.schedule(config, 10**6, 10**3)
    tx = optim.create(config, rate, {name: factors[name] for name in learning})
    state = init_state(params, stats, tx, learning, config.ema, config.seed)
    transform = augment.train_transform(
        spec, augment.Augmentation.from_config(config.augment), _CLASSES, config.dtype
    )
    options = {"out_shardings": parallel.replicated(mesh), "compiler_options": convolution.compiler_options()}
    train = jax.jit(make_train_step(config, network, tx, rate, learning, transform), donate_argnums=0, **options)
    evaluate = jax.jit(make_eval_step(network, augment.eval_transform(spec, 1, config.dtype)), **options)
    size = config.clip.size
    cost = summary.cost(lambda: assemble.create(config.arch, arguments), (config.clip.frames, size, size, 3))
    return jax.device_put(state, parallel.replicated(mesh)), train, evaluate, cost.nominal_macs


def noise(config: ConfigDict) -> dict[str, np.ndarray]:
    """A batch of noise, of the size that the config resizes to: what the loader would hand over."""
    resize = config.clip.resize
    height, width = resize if isinstance(resize, tuple) and len(resize) == 2 else (np.max(resize), np.max(resize))
    rows, rng = config.batch_size, np.random.default_rng(0)
    return {
        "frames": rng.integers(0, 256, (rows, config.clip.frames, height, width, 3), np.uint8),
        "size": np.tile(np.int32([height, width]), (rows, 1)),
        "label": np.arange(rows, dtype=np.int32) % len(_CLASSES),
        "crop": np.zeros(rows, np.int32),
        "index": np.arange(rows, dtype=np.int32),
    }


def _transfer(config: ConfigDict, rounds: int, seconds: float, spread: dict) -> dict[str, Any]:
    """A batch of uint8 frames from the host to the devices."""
    import jax

    from r23d_jax import parallel

    mesh = parallel.create_mesh()
    parallel.check_batch(config.batch_size, mesh, config.accumulate)
    frames, sharding = noise(config)["frames"], parallel.by_row(mesh)
    rates = _rates(
        {"transfer": lambda: jax.block_until_ready(jax.device_put(frames, sharding))},
        {"transfer": config.batch_size}, rounds, seconds, spread,
    )  # fmt: skip
    rate = rates["transfer"]
    return {"transfer_clips_per_s": rate, "transfer_bytes_per_s": rate * frames.nbytes / config.batch_size}


def _loader(config: ConfigDict, rounds: int, seconds: float, spread: dict) -> dict[str, Any]:
    """Training batches decoded one after another with nothing else going on, once every record has been read."""
    from r23d_jax.data import batches, records

    dataset = records.VideoDataset.open(config.dataset.data_dir, config.dataset.name)
    training = dataset.subset(config.dataset.split, "train")
    size = {"frames": config.clip.frames, "batch_size": config.batch_size, "threads": config.workers,
            "processes": config.processes, "prefetch": config.prefetch}  # fmt: skip
    stream = batches.train_batches(
        dataset, training, stride=config.clip.stride, sampling=config.clip.sampling, seed=config.seed,
        balanced=config.dataset.balanced, **size,
    )  # fmt: skip
    with stream:
        first_epoch = min(-(-len(training) // config.batch_size), 10**4)
        for _ in itertools.islice(stream, first_epoch):
            pass
        rates = _rates({"loader": lambda: next(stream)}, {"loader": config.batch_size}, rounds, seconds, spread)
    return {
        "loader_clips_per_s": rates["loader"], "host_bytes": batches.host_bytes(dataset, **size),
        "dataset": dataset.full_name, "stored": dataset.stored_size,
    }  # fmt: skip


def report(result: dict[str, Any]) -> list[str]:
    """The figures in lines for the terminal, and which part is the slowest."""
    from r23d_jax.compiled import bytes_text

    lines = [f"{result['arch']}, {result['batch']} clips of {result['clip']}, {result['dtype']}, {result['device']}"]
    rates = {
        "training step": result["train_clips_per_s"], "transfer": result["transfer_clips_per_s"],
        "loader": result["loader_clips_per_s"],
    }  # fmt: skip
    spread = {"training step": "train"}
    for name, rate in {"inference": result["inference_clips_per_s"], **rates}.items():
        if rate is not None:
            low, high = result["spread"][spread.get(name, name)]
            lines.append(f"{name:14} {rate:10.2f} clips/s   ({low:.2f} to {high:.2f} over {result['rounds']} rounds)")
    if result["host_bytes"] is not None:
        lines.append(f"the loader takes at most {bytes_text(result['host_bytes'])} of host memory")
    if result["mfu"] is not None:
        memory = f", {bytes_text(result['peak_bytes'])}" if result["peak_bytes"] else ""
        lines.append(
            f"training at {result['tflops']:.3f} TFLOP/s, {result['mfu']:.1%} of a matrix product's "
            f"{result['matmul_tflops']:.3f}; compiled in {result['compile_s']:.1f} s{memory}"
        )
    known = {name: rate for name, rate in rates.items() if rate is not None}
    if len(known) > 1:
        slowest = min(known, key=known.get)
        lines.append(f"the slowest is the {slowest}: a run of this config is bound by it")
    return lines


def main() -> int:
    flags, overrides = parse(sys.argv[1:])
    config = configs.load(flags.config, overrides)
    parts = (flags.only,) if flags.only else _PARTS
    from r23d_jax import compile_cache
    from r23d_jax.data import records

    compile_cache.enable()
    why_not = ""
    if not flags.only:
        try:
            records.VideoDataset.open(config.dataset.data_dir, config.dataset.name)
        except UserError as error:  # step and transfer need no data
            parts, why_not = ("step", "transfer"), f"loader not measured: {error}"
    if flags.json and flags.json != "-":
        Path(flags.json).parent.mkdir(parents=True, exist_ok=True)
        if Path(flags.json).is_dir():
            raise UserError(f"--json {flags.json}: is a folder; name a file")
    result = measure(config, parts, flags.rounds, flags.seconds)
    if flags.json == "-":
        print(json.dumps(result, indent=1))
        return 0
    if flags.json:
        write_json(Path(flags.json), result)
    print("\n".join([*report(result), *([why_not] if why_not else [])]))
    return 0


if __name__ == "__main__":
    run_command(main)
