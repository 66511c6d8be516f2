"""Training: `train_and_evaluate(config, workdir)` reads top to bottom."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from r23d_jax.data import records, views
from r23d_jax.data.dataset import Dataset
from r23d_jax.errors import UserError
from r23d_jax.evaluation.evaluator import Evaluator, write_results
from r23d_jax.models.structure import batch_norm_epsilon
from r23d_jax.runtime import hosts, precision
from r23d_jax.runtime.addresses import public_name
from r23d_jax.runtime.compile import Reported
from r23d_jax.runtime.mesh import check_batch, create_mesh, replicate, to_device
from r23d_jax.runtime.signals import Interrupt, Interrupted
from r23d_jax.runtime.workdir import check_workdir, claim_workdir, facts, locked
from r23d_jax.training import optim, setup
from r23d_jax.training.checkpoints import Checkpoints
from r23d_jax.training.clock import Clock
from r23d_jax.training.initial import initial_weights
from r23d_jax.training.log import Log
from r23d_jax.training.state import flat, flat_rest, restore
from r23d_jax.training.stopping import Stopping
from r23d_jax.training.waiting import Waiting
from r23d_jax.training.window import Window
from r23d_jax.transforms import spec as specs
from r23d_jax.weights import clip_values, loading
from r23d_jax.weights.card import Card


def train_and_evaluate(config: ConfigDict, workdir: Path, dataset: Dataset | None = None) -> dict[str, Any]:
    """Trains in `workdir`, or continues what was begun there, and evaluates the last checkpoint.

    Args:
      config: from `config.load`, locked.
      workdir: created if missing. A run of the same config in it is resumed.
      dataset: to train and evaluate on; by default the one that the config names.

    Returns:
      The content of `results.json`.

    Raises:
      UserError: bad config, data or weights; a workdir of another config; or a loss that is not finite.
      Interrupted: after SIGTERM or SIGINT, once the state is saved.
    """
    with contextlib.ExitStack() as stack:  # also after an error, a checkpoint being written is finished
        return _train_and_evaluate(config, Path(workdir), dataset, stack)


def _train_and_evaluate(
    config: ConfigDict, workdir: Path, dataset: Dataset | None, stack: contextlib.ExitStack
) -> dict[str, Any]:
    writer = jax.process_index() == 0
    setup.check(config)

    # --- data and devices
    mesh = create_mesh()
    check_batch(config.batch_size, mesh, config.accumulate)
    if dataset is None:
        dataset = records.VideoDataset.open(config.dataset.data_dir, config.dataset.name)
    training = dataset.subset(config.dataset.split, "train")
    steps_per_epoch = len(training) / config.batch_size
    total_steps = setup.steps_of(config, len(training))

    # --- where to start: resume in this workdir, or init_from another checkpoint, never both
    check_workdir(workdir, config, dataset)
    known = writer and workdir.is_dir()
    if known:
        stack.enter_context(locked(workdir))
    checkpoints = Checkpoints(workdir, config.checkpoint.keep, writer)
    stack.callback(checkpoints.close)
    resumed, source, origin, notes = checkpoints.resume(), None, None, []
    if resumed is not None:
        saved, rest, origin, progress = resumed
    else:
        precision.check(config.dtype, *precision.hardware())  # a run that began elsewhere goes on as it is
        progress = {"init": public_name(config.init_from) or "scratch", "seconds": 0.0, "window": []}
        if config.init_from:
            source, origin = loading.load_flat(config.init_from, config.arch, say=notes.append)
    given = config
    config, said = clip_values.resolve(given, dataset.channels, dataset.flow, origin and origin.preprocessing)
    spec = specs.from_config(config, dataset.channels, dataset.flow)
    if resumed is not None and spec != dataclasses.replace(origin.preprocessing, max_frames=spec.max_frames):
        there, here = specs.describe(origin.preprocessing), specs.describe(spec)
        raise UserError(
            f"{workdir}: holds a run of another config (clip: {there} there, {here} now); use a new workdir"
        )

    # --- network, optimizer, step and state
    arguments = setup.model_arguments(config, len(dataset.class_names), dataset.num_channels, origin)
    run = setup.create(config, arguments, dataset.class_names, spec, mesh, total_steps, steps_per_epoch)
    init, lines = progress["init"], []
    if resumed is not None:
        state = restore(run.state(), saved, rest)
        lines = [f"resuming at step {progress['step']} of {total_steps} (init_from is not read again)"]
    elif source is not None:
        fresh = {**run.params, **run.stats}
        weights, lines = initial_weights(config, fresh, run.stages[-1], dataset.class_names, spec, source, origin)
        lines = [*notes, *lines, *said]
        state = run.state(weights)
    else:
        state = run.state()
    step = int(state.step)
    hosts.assert_equal(facts(config, dataset) | {"step": step, "state": hosts.digest(flat(state))})
    state = replicate(state, mesh)
    card = _card(config, arguments, dataset, run, spec, init, origin, resumed is not None)
    evaluator = Evaluator(config, dataset, run.network, spec, card, mesh)

    # --- workdir and log
    if writer:
        claim_workdir(workdir, given, dataset)
        if not known:
            stack.enter_context(locked(workdir))
    hosts.check_shared(workdir)
    log = Log(workdir, total_steps, step, writer)
    stack.callback(log.close)
    rates = views.without_rate(dataset, training) if spec.fps else 0
    if rates:
        lines.append(f"{rates} of {len(training)} training videos have no frame rate: all of their frames are taken")
    advice = precision.advice(config.dtype, *precision.hardware())
    for line in [*lines, *([advice] if advice else []), _summary(config, dataset, training, run, total_steps, mesh)]:
        log.say(line)

    # --- loop
    train_step = Reported("training step", run.step, log.say)
    stream = setup.train_batches(config, dataset, training, start_step=step, num_steps=total_steps - step)
    stack.enter_context(stream)
    stream = to_device(stream, mesh)
    save_every = config.checkpoint.every_steps or max(50, round(steps_per_epoch))
    eval_every = max(1, round(config.eval.every_epochs * steps_per_epoch)) if config.eval.every_epochs else 0
    clock = Clock(progress["seconds"], config.budget_minutes)
    window = Window(workdir, config.batch_size, progress["window"])
    waiting = Waiting()
    stack.callback(waiting.close)
    interrupt = stack.enter_context(Interrupt())
    stopping = Stopping(interrupt, clock)

    def stop():
        checkpoints.wait()
        raise Interrupted(f"saved at step {step} of {total_steps}; the same command continues")

    def stop_if_requested():  # during an evaluation; its checkpoint is already saved
        if stopping.requested():
            stop()

    def evaluate_and_record():
        results, _ = evaluator.run(state.evaluated(), step, init, before_batch=stop_if_requested)
        log.write(step, step / steps_per_epoch, clock.seconds, {"eval_top1": results["top1"]})
        checkpoints.score(step, results["top1"])
        clock.restart()

    at_end = stopping.out_of_time or step == total_steps
    if resumed and eval_every and step % eval_every == 0 and not at_end and not checkpoints.scored(step):
        evaluate_and_record()  # the run was stopped between this checkpoint and its evaluation
    clock.restart()
    while not at_end:
        state, metrics = train_step(state, waiting.next(stream))
        waiting.step(metrics)
        window.append(metrics)
        step += 1

        # Decide once a step what is due: a signal may arrive at any time.
        logging = step % config.log_every == 0
        stopping.decide(due=logging)
        at_end = step == total_steps or stopping.out_of_time
        evaluating = bool(eval_every) and step % eval_every == 0 and not at_end
        saving = step % save_every == 0 or evaluating or at_end

        unlogged = []
        if logging or saving:
            window.fetch(step)
            means = window.means(clock.lap(), waiting.lap())
            log.write(step, step / steps_per_epoch, clock.seconds, means)
            log.progress(step, means, regular=logging)
        elif stopping.interrupted:
            unlogged = window.fetch(step)
            clock.lap()
        if saving or stopping.interrupted:
            progress = {"epoch": step / steps_per_epoch, "seconds": clock.seconds, "init": init, "window": unlogged}
            checkpoints.save(step, state.evaluated(), flat_rest(state), card, progress)
        if stopping.interrupted:
            stop()
        if evaluating:
            evaluate_and_record()
    if step < total_steps:
        log.say(f"budget of {config.budget_minutes:g} minutes used up at step {step} of {total_steps}")

    # --- results of the last checkpoint
    results, predictions = evaluator.run(state.evaluated(), step, init, before_batch=stop_if_requested)
    checkpoints.score(step, results["top1"])
    if writer:
        write_results(workdir, results, predictions)
    hosts.barrier("results")
    if stopping.requested():
        raise Interrupted(f"the run in {workdir} is finished and its results are written")
    return results


def _card(config, arguments, dataset, run, spec, init, origin: Card | None, resumed: bool) -> Card:
    """Returns the card of a run; `origin` is that of its initial weights or, resumed, the one it had before."""
    began = {}
    if origin is not None and resumed:
        began = {key: value for key, value in origin.source.items() if key.startswith("init_")}
    elif origin is not None:
        published = origin.source.get("published") or origin.source.get("init_published")
        began = {"init_sha256": origin.tensors_sha256, **({"init_published": published} if published else {})}
    return Card(
        arch=config.arch,
        model=arguments,
        labels=tuple(dataset.class_names),
        preprocessing=spec,
        bn_epsilon=batch_norm_epsilon(run.model),
        init=init,
        source={
            "dataset": dataset.full_name,
            "split": config.dataset.split,
            "fingerprint": dataset.fingerprint,
            "stored": dataset.stored_as,
            **began,
        },
        licence=origin.licence if origin else "",
    )


def _summary(config, dataset, training, run, total_steps, mesh) -> str:
    count = sum(value.size for value in run.params.values())
    learns = sum(run.params[name].size for name in run.learning)
    scaled = f" (lr {config.lr} per {config.lr_batch})" if config.lr_batch else ""
    return (
        f"{config.arch}: {count:,} parameters, {learns:,} learn; {dataset.full_name} split {config.dataset.split}: "
        f"{len(training)} training videos; {total_steps} steps of {config.batch_size} clips, "
        f"learning rate {optim.effective_lr(config):g}{scaled}; {mesh.size} x {jax.devices()[0].device_kind}"
    )
