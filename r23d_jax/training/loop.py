"""Training: `train_and_evaluate(config, workdir)` reads top to bottom."""

import contextlib
import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from r23d_jax import models
from r23d_jax.data import loader, records
from r23d_jax.errors import UserError
from r23d_jax.evaluation.evaluator import Evaluator, write_results
from r23d_jax.models.functional import Functional, weights_of
from r23d_jax.models.ops import convolution
from r23d_jax.models.structure import batch_norm_epsilon, freeze_batch_norm, stage_names
from r23d_jax.runtime import hosts
from r23d_jax.runtime.compile import Reported
from r23d_jax.runtime.mesh import check_batch, create_mesh, replicate, replicated, to_device
from r23d_jax.runtime.signals import Interrupt, Interrupted
from r23d_jax.runtime.workdir import check_workdir, claim_workdir, facts, locked
from r23d_jax.training import optim, setup
from r23d_jax.training.checkpoints import Checkpoints
from r23d_jax.training.initial import initial_weights
from r23d_jax.training.log import Log
from r23d_jax.training.step import TrainState, init_state, make_train_step
from r23d_jax.training.waiting import Waiting
from r23d_jax.transforms import clip as clip_transforms
from r23d_jax.transforms.spec import from_config
from r23d_jax.weights import loading
from r23d_jax.weights.card import Card

_INPUT_BOUND = 0.2  # share of the time a device may wait for data before the log says so


def train_and_evaluate(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Trains in `workdir`, or continues what was begun there, and evaluates the last checkpoint.

    Args:
      config: from `config.load`, locked.
      workdir: created if need be. A run of the same config in it is resumed; one of another is an error.

    Returns:
      What `results.json` holds.

    Raises:
      UserError: for anything the user can mend; also when the loss is no longer finite.
      Interrupted: after SIGTERM or SIGINT, when the state is saved.
    """
    with contextlib.ExitStack() as stack:  # whatever happens, a checkpoint being written is finished
        return _train_and_evaluate(config, Path(workdir), stack)


def steps_of(config: ConfigDict, videos: int) -> int:
    """Steps of a whole run of this config on so many training videos."""
    return config.steps or max(1, math.ceil(config.epochs * videos / config.batch_size))


def _train_and_evaluate(config: ConfigDict, workdir: Path, stack: contextlib.ExitStack) -> dict[str, Any]:
    writer = jax.process_index() == 0

    # --- data and devices
    mesh = create_mesh()
    check_batch(config.batch_size, mesh, config.accumulate)
    dataset = records.VideoDataset.open(config.dataset.data_dir, config.dataset.name)
    training = dataset.subset(config.dataset.split, "train")
    steps_per_epoch = len(training) / config.batch_size
    total_steps = steps_of(config, len(training))
    spec = from_config(config, dataset.channels, dataset.flow)

    # --- where to start: resume in this workdir, or init_from another checkpoint, never both
    check_workdir(workdir, config, dataset)
    known = writer and workdir.is_dir()
    if known:
        stack.enter_context(locked(workdir))
    checkpoints = Checkpoints(workdir, config.checkpoint.keep, writer)
    stack.callback(checkpoints.close)
    resumed, source, origin = checkpoints.resume(), None, None
    if resumed is not None:
        saved, rest, origin, progress = resumed
    elif config.init_from:
        source, origin = loading.load_flat(config.init_from, config.arch)

    # --- network
    arguments = setup.model_arguments(config, len(dataset.class_names), dataset.num_channels, origin)
    model = models.create_from_arguments(config.arch, arguments, config.dtype, config.seed)
    if config.freeze_batch_norm:
        freeze_batch_norm(model)
    network = Functional(model)
    params, stats = weights_of(model)
    stages = stage_names(model)

    # --- optimizer
    factors = optim.lr_factors(config, params, stages)
    learning = {name for name, factor in factors.items() if factor}
    learning_rate = optim.schedule(config, total_steps, steps_per_epoch)
    tx = optim.create(config, learning_rate, {name: factors[name] for name in learning})

    # --- state
    init, seconds, lines = config.init_from or "scratch", 0.0, []
    if resumed is not None:
        state = _restore(init_state(params, stats, tx, learning, config.ema, config.seed), saved, rest)
        init, seconds = progress["init"], progress["seconds"]
        lines = [f"resuming at step {progress['step']} of {total_steps} (init_from is not read again)"]
    else:
        if source is not None:
            weights, lines = initial_weights(
                config, {**params, **stats}, stages[-1], dataset.class_names, spec, source, origin
            )
            params, stats = ({name: weights[name] for name in part} for part in (params, stats))
        state = init_state(params, stats, tx, learning, config.ema, config.seed)
    start = int(state.step)
    hosts.assert_equal(facts(config, dataset) | {"step": start, "state": hosts.digest(_flat(state))})
    state = replicate(state, mesh)
    card = _card(config, arguments, dataset, model, spec, init)

    if writer:
        claim_workdir(workdir, config, dataset)
        if not known:
            stack.enter_context(locked(workdir))
    hosts.check_shared(workdir)
    log = Log(workdir, total_steps, start, writer)
    stack.callback(log.close)
    for line in [*lines, _summary(config, dataset, training, params, learning, total_steps, mesh)]:
        log.say(line)

    # --- compile
    augmentation = clip_transforms.Augmentation.from_config(config.augment)
    transform = clip_transforms.train_transform(spec, augmentation, dataset.class_names, config.dtype)
    train_step = make_train_step(config, network, tx, learning_rate, learning, transform)
    train_step = jax.jit(
        train_step,
        donate_argnums=0,
        out_shardings=replicated(mesh),
        compiler_options=convolution.compiler_options(),
    )
    train_step = Reported("training step", train_step, log.say)
    evaluator = Evaluator(config, dataset, network, spec, card, mesh)

    # --- loop
    stream = loader.train_batches(
        dataset,
        training,
        frames=spec.frames,
        stride=spec.stride,
        sampling=config.clip.sampling,
        batch_size=config.batch_size,
        seed=config.seed,
        start_step=start,
        num_steps=total_steps - start,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        balanced=config.dataset.balanced,
        threads=config.workers,
        processes=config.processes,
        prefetch=config.prefetch,
    )
    stack.enter_context(stream)
    stream = to_device(stream, mesh)
    save_every = config.checkpoint.every_steps or max(50, round(steps_per_epoch))
    eval_every = max(1, round(config.eval.every_epochs * steps_per_epoch)) if config.eval.every_epochs else 0
    window = progress["window"] if resumed else []  # metrics of the steps since the last line of the log
    waiting, warned = Waiting(), False
    stack.callback(waiting.close)
    began, step, saved_step = time.perf_counter(), start, start if resumed else -1
    in_window = len(window)  # of another session, whose time is not known here
    compiling = True  # in the first window, whose share of waiting says nothing

    def save():
        nonlocal saved_step
        progress = {"epoch": step / steps_per_epoch, "seconds": seconds, "init": init, "window": list(window)}
        checkpoints.save(step, state.evaluated(), _rest(state), card, progress)
        saved_step = step

    def evaluate_now():
        nonlocal began
        results, _ = evaluator.run(state.evaluated(), step, init, before_batch=stop_if_told)
        log.write(step, step / steps_per_epoch, seconds, {"eval_top1": results["top1"]})
        checkpoints.score(step, results["top1"])
        began = time.perf_counter()

    def stop():
        checkpoints.wait()
        raise Interrupted(f"saved at step {step} of {total_steps}; the same command continues")

    def stop_if_told():  # in an evaluation, before which its checkpoint was saved
        if hosts.sync_stop(interrupt.received, False)[0]:
            stop()

    def out_of_time(spent):
        return bool(config.budget_minutes) and spent > config.budget_minutes * 60

    with Interrupt() as interrupt:
        spent = out_of_time(seconds)  # by the sessions before this one
        ends = spent or step == total_steps
        if resumed and eval_every and step % eval_every == 0 and not ends and not checkpoints.scored(step):
            evaluate_now()  # the run was stopped between this checkpoint and its evaluation
        while step < total_steps and not spent:
            batch = waiting.next(stream)
            state, scalars = train_step(state, batch)
            waiting.step(scalars)
            window.append(scalars)
            step += 1
            logging = step % config.log_every == 0
            # Once a step, for a signal may come at any time; with several hosts when all wait for the device anyway.
            interrupted, spent = hosts.sync_stop(
                interrupt.received, out_of_time(seconds + time.perf_counter() - began), due=logging
            )
            at_end = step == total_steps or spent
            evaluating = bool(eval_every) and step % eval_every == 0 and not at_end
            saving = step % save_every == 0 or evaluating or at_end
            if logging or saving:
                window = _fetch(window, workdir, step)  # waits for the device
                elapsed = time.perf_counter() - began
                seconds += elapsed
                means = _means(window) | {
                    "clips_per_second": (len(window) - in_window) * config.batch_size / elapsed,
                    "data_wait": waiting.seconds / elapsed,
                }
                log.write(step, step / steps_per_epoch, seconds, means)
                log.progress(step, _progress_text(means))
                if logging and not compiling and not warned and means["data_wait"] > _INPUT_BOUND:
                    warned = True
                    log.say(_input_bound(means["data_wait"]))
                window, in_window, compiling = [], 0, False
                waiting.seconds, began = 0.0, time.perf_counter()
            elif interrupted:
                window = _fetch(window, workdir, step)
                seconds += time.perf_counter() - began
            if saving or interrupted:
                save()
            if evaluating and not interrupted:
                evaluate_now()
            if interrupted:
                stop()
            if at_end:
                break
        if step < total_steps:
            log.say(f"budget of {config.budget_minutes:g} minutes used up at step {step} of {total_steps}")
        if saved_step != step:
            save()

        # --- the result, of the last checkpoint
        weights = state.evaluated()
        results, predictions = evaluator.run(weights, step, init, before_batch=stop_if_told)
        checkpoints.score(step, results["top1"])
        if writer:
            write_results(workdir, results, predictions)
        hosts.barrier("results")
        if hosts.sync_stop(interrupt.received, False)[0]:
            raise Interrupted(f"the run in {workdir} is finished and its results are written")
    return results


def _card(config, arguments, dataset, model, spec, init) -> Card:
    return Card(
        arch=config.arch,
        model=arguments,
        labels=tuple(dataset.class_names),
        preprocessing=spec,
        bn_epsilon=batch_norm_epsilon(model),
        init=init,
        source={
            "dataset": dataset.full_name,
            "split": config.dataset.split,
            "fingerprint": dataset.fingerprint,
            "stored": dataset.stored_as,
        },
    )


def _rest(state: TrainState) -> dict[str, Any]:
    """What the weights that are evaluated do not already say of the state, as a flat dict."""
    leaves = jax.tree_util.tree_leaves_with_path(state.opt_state)
    rest = {f"opt_state{jax.tree_util.keystr(path)}": leaf for path, leaf in leaves}
    if state.ema:
        rest |= {f"raw.{name}": value for name, value in {**state.params, **state.stats}.items()}
    return {**rest, "step": state.step, "key": state.key}


def _flat(state: TrainState) -> dict[str, Any]:
    return {**state.evaluated(), **_rest(state)}


def _restore(like: TrainState, saved: dict[str, np.ndarray], rest: dict[str, np.ndarray]) -> TrainState:
    """The state that `saved` and `rest` were made from; `like` gives its structure."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(like.opt_state)
    names = [f"opt_state{jax.tree_util.keystr(path)}" for path, _ in leaves]
    now = {name: rest[f"raw.{name}"] for name in saved} if like.ema else saved
    return TrainState(
        step=rest["step"],
        key=rest["key"],
        params={name: now[name] for name in like.params},
        stats={name: now[name] for name in like.stats},
        opt_state=jax.tree_util.tree_unflatten(structure, [rest[name] for name in names]),
        ema=saved if like.ema else {},
    )


def _fetch(window: list[dict[str, Any]], workdir: Path, step: int) -> list[dict[str, float]]:
    """The metrics of the steps up to `step`, on the host; a loss that is not finite ends the run."""
    fetched = [{name: float(value) for name, value in scalars.items()} for scalars in jax.device_get(window)]
    for offset, scalars in enumerate(fetched):
        if not math.isfinite(scalars["loss"]) or not math.isfinite(scalars["grad_norm"]):
            bad = step - len(fetched) + offset + 1
            raise UserError(
                f"the loss is {scalars['loss']} (norm of the gradient {scalars['grad_norm']}) at step {bad}: lower "
                f"--config.lr or set --config.optimizer.clip_norm; {workdir} keeps the checkpoints before it"
            )
    return fetched


def _means(window: list[dict[str, float]]) -> dict[str, float]:
    """Means over a window; of the learning rate the last."""
    means = {name: float(np.mean([scalars[name] for scalars in window])) for name in window[0]}
    return means | {"lr": window[-1]["lr"]}


def _progress_text(means: dict[str, float]) -> str:
    return (
        f"loss {means['loss']:.3f}, accuracy {means['accuracy']:.2f}, {means['clips_per_second']:.1f} clips/s, "
        f"waiting for data {means['data_wait']:.0%}"
    )


def _input_bound(share: float) -> str:
    return (
        f"the run is input-bound: waiting for data {share:.0%} of the time; raise workers or processes, store smaller "
        "frames, or see `python -m r23d_jax.benchmark --only loader`"
    )


def _summary(config, dataset, training, params, learning, total_steps, mesh) -> str:
    count = sum(value.size for value in params.values())
    learns = sum(params[name].size for name in learning)
    scaled = f" (lr {config.lr} per {config.lr_batch})" if config.lr_batch else ""
    return (
        f"{config.arch}: {count:,} parameters, {learns:,} learn; {dataset.full_name} split {config.dataset.split}: "
        f"{len(training)} training videos; {total_steps} steps of {config.batch_size} clips, "
        f"learning rate {optim.effective_lr(config):g}{scaled}; {mesh.size} x {jax.devices()[0].device_kind}"
    )
