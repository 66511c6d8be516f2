"""Measures loader, transfer to the device and step separately, with the step and the loader of a real run."""

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

PARTS = ("step", "loader", "transfer")

_NUM_CLASSES = 101  # as many as UCF101 has
_MATMUL = {"cpu": 2048, "gpu": 8192, "tpu": 8192}  # side of the square matrices of the MFU's reference product


def measure(config: ConfigDict, parts: tuple[str, ...] = PARTS, rounds: int = 5, seconds: float = 3) -> dict[str, Any]:
    """Measures the parts of a run of this config.

    Args:
      config: locked; its data set is only read for "loader".
      parts: any of "step", "loader" and "transfer".
      rounds: of each measurement.
      seconds: approximate length of a round.

    Returns:
      The object that `--json` writes; values of parts not measured are None. `tflops` is the rate of the training
      step, counted as three times the forward pass at two operations per multiply-add; `mfu` is its ratio to the
      rate of a matrix product of the same dtype, measured in this process.

    Raises:
      UserError: the config does not fit the network or the devices.
    """
    import jax

    config = filled(config)
    result = {
        "arch": config.arch,
        "batch": config.batch_size,
        "clip": _clip_text(config),
        "dtype": config.dtype,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "inference_clips_per_s": None,
        "train_clips_per_s": None,
        "compile_s": None,
        "peak_bytes": None,
        "tflops": None,
        "mfu": None,
        "matmul_tflops": None,
        "transfer_clips_per_s": None,
        "transfer_bytes_per_s": None,
        "loader_clips_per_s": None,
        "host_bytes": None,
        "rounds": rounds,
        "spread": {},
    }
    if "step" in parts:
        result |= _step(config, rounds, seconds, result["spread"])
    if "transfer" in parts:
        result |= _transfer(config, rounds, seconds, result["spread"])
    if "loader" in parts:
        result |= _loader(config, rounds, seconds, result["spread"])
    return result


def filled(config: ConfigDict) -> ConfigDict:
    """Returns the config with the clip of the weights it names, or of its network; see `weights.clip_values`."""
    from r23d_jax.weights import clip_values

    return clip_values.of_config(config)


def _clip_text(config: ConfigDict) -> str:
    return f"{config.clip.frames}x{config.clip.size}x{config.clip.size}"


def _rates(actions: dict[str, Callable[[], Any]], work: dict[str, float], rounds: int, seconds: float, spread: dict):
    """Returns each blocking action's median work per second over rounds in which they alternate; fills `spread`."""
    repeats = {}
    for name, action in actions.items():
        action()  # compiles, and warms caches
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
    """Measures training and evaluation step on a batch that stays on the device, and a matrix product."""
    import jax
    import jax.numpy as jnp

    from r23d_jax.runtime import precision
    from r23d_jax.runtime.compile import peak_bytes
    from r23d_jax.runtime.mesh import by_row, check_batch, create_mesh

    mesh = create_mesh()
    precision.check(config.dtype, *precision.hardware())
    check_batch(config.batch_size, mesh, config.accumulate)
    state, train, evaluate, macs = programs(config, mesh)
    batch = jax.device_put(noise(config), by_row(mesh))
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
        rounds,
        seconds,
        spread,
    )
    tflops, ceiling = 6 * macs * rates["train"] / 1e12, rates["matmul"] * jax.device_count()
    return {
        "inference_clips_per_s": rates["inference"],
        "train_clips_per_s": rates["train"],
        "compile_s": compile_s,
        "peak_bytes": peak_bytes(train),
        "gmacs_per_clip": macs / 1e9,
        "tflops": tflops,
        "matmul_tflops": ceiling,
        "mfu": tflops / ceiling,
    }


def programs(config: ConfigDict, mesh):
    """Returns `(state, training step, evaluation step, multiply-adds per clip)`; the steps are jitted as in a run."""
    import jax

    from r23d_jax.runtime.mesh import replicated

    run, evaluate = steps(config, mesh)
    return jax.device_put(run.state(), replicated(mesh)), run.step, evaluate, multiply_adds(config)


def multiply_adds(config: ConfigDict) -> int:
    """Returns the multiply-adds of a network's forward pass of one clip; a training step has three times as many."""
    from r23d_jax import models
    from r23d_jax.models import summary

    config = filled(config)
    clip = (config.clip.frames, config.clip.size, config.clip.size, len(config.clip.mean))
    arguments = _model_arguments(config)
    return summary.nominal_macs(lambda: models.create_from_arguments(config.arch, arguments), clip)


def steps(config: ConfigDict, mesh):
    """Returns `(setup, evaluation step)` of a run of as many classes as UCF101 has; the steps are jitted as there.

    Where the config has the mean and standard deviation of two channels, they are those of optical flow.
    """
    from r23d_jax.evaluation.step import jitted_eval_step
    from r23d_jax.training import setup
    from r23d_jax.transforms import spec as specs

    config = filled(config)
    channels = ("flow", "tvl1") if len(config.clip.mean) == 2 else ("rgb", None)
    arguments, spec = _model_arguments(config), specs.from_config(config, *channels)
    names = (*config.augment.flip_sensitive, *(f"class {index}" for index in range(_NUM_CLASSES)))[:_NUM_CLASSES]
    run = setup.create(config, arguments, names, spec, mesh, total_steps=10**6, steps_per_epoch=10**3)
    return run, jitted_eval_step(run.network, spec, 1, config.dtype, mesh)


def _model_arguments(config: ConfigDict) -> dict[str, Any]:
    from r23d_jax.training import setup

    return setup.model_arguments(config, _NUM_CLASSES, len(config.clip.mean), None)


def noise(config: ConfigDict) -> dict[str, np.ndarray]:
    """Returns a batch of random frames as the loader would return it, of the size that the config resizes to."""
    config = filled(config)
    resize = config.clip.resize
    height, width = resize if isinstance(resize, tuple) and len(resize) == 2 else (np.max(resize), np.max(resize))
    rows, rng = config.batch_size, np.random.default_rng(0)
    return {
        "frames": rng.integers(0, 256, (rows, config.clip.frames, height, width, len(config.clip.mean)), np.uint8),
        "size": np.tile(np.int32([height, width]), (rows, 1)),
        "label": np.arange(rows, dtype=np.int32) % _NUM_CLASSES,
        "crop": np.zeros(rows, np.int32),
        "index": np.arange(rows, dtype=np.int32),
    }


def _transfer(config: ConfigDict, rounds: int, seconds: float, spread: dict) -> dict[str, Any]:
    """Measures the transfer of a batch of uint8 frames from the host to the devices."""
    import jax

    from r23d_jax.runtime.mesh import by_row, check_batch, create_mesh

    mesh = create_mesh()
    check_batch(config.batch_size, mesh, config.accumulate)
    frames, sharding = noise(config)["frames"], by_row(mesh)
    rates = _rates(
        {"transfer": lambda: jax.block_until_ready(jax.device_put(frames, sharding))},
        {"transfer": config.batch_size},
        rounds,
        seconds,
        spread,
    )
    rate = rates["transfer"]
    return {"transfer_clips_per_s": rate, "transfer_bytes_per_s": rate * frames.nbytes / config.batch_size}


def _loader(config: ConfigDict, rounds: int, seconds: float, spread: dict) -> dict[str, Any]:
    """Measures the loader alone, after a first epoch that fills the file cache."""
    from r23d_jax.data import loader, records
    from r23d_jax.training import setup

    dataset = records.VideoDataset.open(config.dataset.data_dir, config.dataset.name)
    training = dataset.subset(config.dataset.split, "train")
    names = ("batch_size", "prefetch", "processes")
    size = {name: config[name] for name in names} | {"frames": config.clip.frames, "threads": config.workers}
    stream = setup.train_batches(config, dataset, training, process_index=0, process_count=1)
    with stream:
        first_epoch = min(-(-len(training) // config.batch_size), 10**4)
        for _ in itertools.islice(stream, first_epoch):
            pass
        rates = _rates({"loader": lambda: next(stream)}, {"loader": config.batch_size}, rounds, seconds, spread)
    return {
        "loader_clips_per_s": rates["loader"],
        "host_bytes": loader.host_bytes(dataset, **size),
        "dataset": dataset.full_name,
        "stored": dataset.stored_size,
    }


def summary_lines(result: dict[str, Any]) -> list[str]:
    """Returns the results of `measure` as lines of text, with the slowest part last."""
    from r23d_jax.runtime.text import bytes_text

    lines = [f"{result['arch']}, {result['batch']} clips of {result['clip']}, {result['dtype']}, {result['device']}"]
    rates = {
        "training step": result["train_clips_per_s"],
        "transfer": result["transfer_clips_per_s"],
        "loader": result["loader_clips_per_s"],
    }
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
