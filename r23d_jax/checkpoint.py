"""Checkpoints on disk: saved whole or not at all, checked when read, and three separate ways to use one.

* `resume` continues a run in its own workdir: weights, optimizer, step, everything.
* `init_from` starts a new run from the weights of another.
* `load_weights` uses a checkpoint.

A checkpoint is a folder: `card.json`, `weights/` (Orbax: what is evaluated), and for a run also `train/`
(Orbax: the rest of its state), `progress.json` (with the scores of the evaluations so far), and `checksums.json`
over all of them. It is written under another name and renamed when complete, so a folder with a number for a name
is always a whole one.
"""

import errno
import hashlib
import logging
import os
import re
import shutil
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from r23d_jax.errors import UserError, one_line
from r23d_jax.files import files_below, read_json, sync, sync_folder, write_json
from r23d_jax.weights import card as cards

Tensors = dict[str, np.ndarray]
_STEP = re.compile(r"\d{8}")


class DamagedError(UserError):
    """A checkpoint that is not what was written."""


# --- one folder -----------------------------------------------------------------------------------------


def save_weights(folder: Path, weights: Mapping[str, Any], card: cards.Card) -> Path:
    """Writes a checkpoint of weights alone, as the converter does.

    Args:
      folder: must not exist yet, or be empty.
      weights: flat `{name: array}`, parameters and running statistics together.
      card: its `tensors_sha256` is filled in here.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists already; name a folder that does not, or remove it first")
    _write(folder, {"weights": weights}, card, {})
    return folder


def load_weights(folder: Path) -> tuple[Tensors, cards.Card]:
    """Reads weights and card of one checkpoint folder, checked against its checksums."""
    folder = Path(folder)
    card = cards.read_card(folder)
    _verify(folder)
    weights = _restore(folder / "weights")
    if cards.tree_sha256(weights) != card.tensors_sha256:
        raise DamagedError(f"{folder}: its tensors are not the ones its card was written for")
    return weights, card


def find(path: str | Path, which: str = "best") -> Path:
    """The checkpoint folder that `path` means: itself, or a workdir's best or last one.

    "best" is the highest top1 over the evaluations of that run; without any it is the last.
    """
    path = Path(path)
    if (path / cards.FILE_NAME).is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; name a workdir, or a checkpoint folder with {cards.FILE_NAME}")
    steps = _steps(path / "checkpoints")
    if not steps:
        raise UserError(f"{path}: no checkpoint in it, neither {cards.FILE_NAME} nor checkpoints/ of a run")
    best = best_step(path) if which == "best" else None
    return path / "checkpoints" / f"{steps[-1] if best is None else best:08d}"


def best_step(workdir: Path) -> int | None:
    """The step of the best checkpoint of a workdir; None where no checkpoint in it was evaluated."""
    scores = _read_scores(workdir / "checkpoints")
    scored = [step for step in _steps(workdir / "checkpoints") if step in scores]
    return max(scored, key=lambda step: (scores[step], step), default=None)


# --- a run's checkpoints --------------------------------------------------------------------------------


class Checkpoints:
    """The checkpoints of one workdir. Saving happens in the background, one at a time."""

    def __init__(self, workdir: Path, keep: int = 1, writer: bool = True):
        """
        Args:
          workdir: the run's folder.
          keep: newest checkpoints kept; the best one is kept besides.
          writer: False on every process but one, which then never touches the disk.
        """
        self.root = Path(workdir) / "checkpoints"
        self._keep, self._writer = keep, writer
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future | None = None
        if writer:
            for leftover in self.root.glob(".writing-*"):
                shutil.rmtree(leftover)

    def save(self, step: int, weights: Any, train: Any, card: cards.Card, progress: dict[str, Any]) -> None:
        """Copies the state to the host, then writes it in the background.

        Args:
          step: names the checkpoint.
          weights, train: flat `{name: array}` of what is evaluated, and of the rest of the state.
          card: written into it; `tensors_sha256` is filled in.
          progress: JSON values a resumed run needs (epoch, seconds).
        """
        self.wait()
        if not self._writer:
            return
        host = jax.device_get({"weights": weights, "train": train})
        progress = {"step": step, "scores": _read_scores(self.root), **progress}
        self._pending = self._pool.submit(self._save, step, host, card, progress)

    def wait(self) -> None:
        """Returns when the last save is on disk; raises what went wrong with it."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            try:
                pending.result()
            except OSError as error:
                raise UserError(
                    f"{self.root}: the checkpoint could not be written ({one_line(error)}); those before it are whole"
                ) from error

    def score(self, step: int, top1: float) -> None:
        """Notes the evaluation result of a saved step, by which the best checkpoint is chosen."""
        self.wait()
        if self._writer:
            _write_scores(self.root, {**_read_scores(self.root), step: top1})
            self._prune()

    def resume(self) -> tuple[Tensors, Tensors, cards.Card, dict[str, Any]] | None:
        """The newest whole checkpoint: `(weights, train, card, progress)`, or None when there is none.

        A damaged one is named on stderr and the one before it is used; if all are damaged it is an error.
        """
        steps = _steps(self.root)
        for step in reversed(steps):
            folder = self.root / f"{step:08d}"
            try:
                weights, card = load_weights(folder)
                progress = read_json(folder / "progress.json")
                rest = _restore(folder / "train")
                self._set_aside([newer for newer in steps if newer > step])
                self._check_scores(progress)
                return weights, rest, card, progress
            # Not found: of several processes the one that writes has set it aside, for being damaged.
            except (UserError, FileNotFoundError) as error:
                print(f"warning: {one_line(error)}; trying the checkpoint before it", file=sys.stderr)
        if steps:
            raise UserError(f"{self.root}: every checkpoint in it is damaged; start in a new workdir")
        return None

    def close(self) -> None:
        self.wait()
        self._pool.shutdown()

    def scored(self, step: int) -> bool:
        """Whether the result of a step's evaluation is noted."""
        return step in _read_scores(self.root)

    def _check_scores(self, progress: dict[str, Any]) -> None:
        try:
            _read_scores(self.root)
        except DamagedError as error:
            print(f"warning: {error}; written anew from the checkpoint", file=sys.stderr)
            if self._writer:
                _write_scores(self.root, {int(step): score for step, score in progress.get("scores", {}).items()})

    def _set_aside(self, damaged: list[int]) -> None:
        """Takes damaged checkpoints out of the count, or they would pass for the newest."""
        for step in damaged if self._writer else ():
            aside = self.root / f"damaged-{step:08d}"
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(self.root / f"{step:08d}", aside)

    def _save(self, step: int, host: dict[str, Tensors], card: cards.Card, progress: dict) -> None:
        folder = self.root / f"{step:08d}"
        if folder.exists():  # the same state, saved again
            shutil.rmtree(folder)
        _write(folder, host, card, progress)
        self._prune()

    def _prune(self) -> None:
        steps, scores = _steps(self.root), _read_scores(self.root)
        kept = set(steps[-self._keep :])
        if scores:
            kept.add(int(find(self.root.parent, "best").name))
        for step in set(steps) - kept:
            doomed = self.root / f".writing-old-{step}"
            os.replace(self.root / f"{step:08d}", doomed)  # never a half-deleted checkpoint under its name
            shutil.rmtree(doomed)


# --- starting from another checkpoint -------------------------------------------------------------------


def init_from(
    target: Mapping[str, Any], source: Mapping[str, np.ndarray], head: str, keep_head: bool, origin: str
) -> tuple[Tensors, str]:
    """New initial weights: the source's where they fit, the target's for a new head.

    Args:
      target: the new network's flat weights (fresh).
      source: the other checkpoint's flat weights.
      head: top-level name of the classifier; only below it may anything be re-initialised.
      keep_head: take the source's head as well (the labels are the same).
      origin: what to call the source in messages.

    Returns:
      The weights, and a report of what was loaded, re-initialised and unused.

    Raises:
      UserError: naming every tensor that does not fit. Nothing is loaded in part.
    """
    def in_head(name):
        return name.startswith(f"{head}.") and not keep_head

    result, loaded, fresh, wrong = {}, [], [], []
    for name, value in target.items():
        if in_head(name):
            fresh.append(name)
            result[name] = np.asarray(value)
        elif name not in source:
            wrong.append(f"{name} is not in it")
        elif source[name].shape != value.shape:
            wrong.append(f"{name} is {list(source[name].shape)}, here {list(value.shape)}")
        else:
            loaded.append(name)
            result[name] = np.asarray(source[name]).astype(value.dtype)
    unused = [name for name in source if name not in target or in_head(name)]
    wrong += [f"{name} has no place here" for name in unused if not in_head(name)]
    if wrong:
        shown = "; ".join(wrong[:4]) + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        raise UserError(f"init_from {origin}: these are weights of another network: {shown}")
    report = (
        f"init_from {origin}: {len(loaded)} tensors loaded; re-initialised: {', '.join(fresh) or 'none'}; "
        f"unused: {', '.join(unused) or 'none'}"
    )
    return result, report


# --- files ----------------------------------------------------------------------------------------------


def _checkpointer() -> ocp.Checkpointer:
    """Orbax, told that this process writes alone: parameters are replicated, so one host has them all."""
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(),
        active_processes={jax.process_index()},
        barrier_sync_key_prefix=f"r23d{jax.process_index()}",
    )
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(multiprocessing_options=alone), multiprocessing_options=alone)


def _write(folder: Path, trees: dict[str, Mapping[str, Any]], card: cards.Card, progress: dict) -> None:
    """Writes everything under a temporary name, then renames."""
    writing = folder.parent / f".writing-{folder.name}"
    if writing.exists():
        shutil.rmtree(writing)
    writing.mkdir(parents=True)
    try:
        _check_space(writing, trees)
        for name, tree in trees.items():
            if tree:
                _save_tree(writing / name, tree)
        weights = {k: np.asarray(v) for k, v in trees["weights"].items()}
        fields = {**card.to_dict(), "tensors_sha256": cards.tree_sha256(weights)}
        write_json(writing / cards.FILE_NAME, fields)
        if progress:
            write_json(writing / "progress.json", progress)
        write_json(writing / "checksums.json", _checksums(writing))
        sync(writing)  # or a power failure could keep the name and lose what is in it
        if folder.exists():
            folder.rmdir()  # only ever an empty one
        os.replace(writing, folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(writing, ignore_errors=True)
        raise


def _check_space(folder: Path, trees: Mapping[str, Mapping[str, Any]]) -> None:
    """Before anything is written: TensorStore's tasks that fail side by side write tracebacks of their own."""
    needed = sum(np.asarray(value).nbytes for tree in trees.values() for value in tree.values()) + (1 << 20)
    free = shutil.disk_usage(folder).free
    if free < needed:
        text = f"{os.strerror(errno.ENOSPC)}: {needed / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free"
        raise OSError(errno.ENOSPC, text)


def _save_tree(folder: Path, tree: Mapping[str, Any]) -> None:
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.CRITICAL)  # Orbax would write a traceback, and raise the error besides
    try:
        _checkpointer().save(folder.resolve(), {k: np.asarray(v) for k, v in tree.items()})
    except ValueError as error:  # what TensorStore makes of a full disk
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(folder)) from error
    finally:
        absl.setLevel(level)


def _restore(folder: Path) -> Tensors:
    if not folder.is_dir():
        return {}
    checkpointer = _checkpointer()
    names = checkpointer.metadata(folder.resolve()).item_metadata.keys()
    as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
    return checkpointer.restore(folder.resolve(), restore_args=as_numpy)


def _checksums(folder: Path) -> dict[str, str]:
    files = sorted(p for p in files_below(folder) if p.name != "checksums.json")
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _verify(folder: Path) -> None:
    try:
        expected = read_json(folder / "checksums.json")
    except (FileNotFoundError, ValueError):  # one that may not be read is not damaged
        expected = None
    if not isinstance(expected, dict):
        raise DamagedError(f"{folder}: damaged checkpoint: checksums.json is missing or unreadable")
    found = _checksums(folder)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise DamagedError(f"{folder}: damaged checkpoint: {name} is missing")
        if found[name] != expected.get(name):
            raise DamagedError(f"{folder}: damaged checkpoint: {name} does not match its checksum")


def _steps(root: Path) -> list[int]:
    return sorted(int(p.name) for p in root.glob("*") if _STEP.fullmatch(p.name) and p.is_dir())


def _read_scores(root: Path) -> dict[int, float]:
    path = root / "scores.json"
    if not path.is_file():
        return {}
    try:
        fields = read_json(path)
        checksum = fields.pop("sha256", None)
        scores = {int(step): float(score) for step, score in fields.items()}
        if not all(0 <= score <= 1 for score in scores.values()):
            raise ValueError
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise DamagedError(f"{path}: damaged: not the scores of evaluations") from None
    if checksum not in (None, _scores_sha256(scores)):
        raise DamagedError(f"{path}: damaged: its scores do not match its checksum")
    return scores


def _write_scores(root: Path, scores: dict[int, float]) -> None:
    fields = {str(step): float(scores[step]) for step in sorted(scores)}
    write_json(root / "scores.json", {**fields, "sha256": _scores_sha256(scores)})


def _scores_sha256(scores: dict[int, float]) -> str:
    return hashlib.sha256(repr(sorted(scores.items())).encode()).hexdigest()
