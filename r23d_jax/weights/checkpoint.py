"""Checkpoints on disk: written atomically, and verified when read.

A checkpoint is a folder with `card.json`, `weights/` (Orbax: the evaluated weights) and `checksums.json` over all of
its files; that of a run also has `train/` (Orbax: the rest of its state) and `progress.json` (with the scores of
evaluations so far). It is written under another name and renamed when complete, so that a folder with a number as its
name is always complete.
"""

import errno
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from r23d_jax.errors import UserError
from r23d_jax.runtime.files import files_below, read_json, sync, sync_folder, write_json
from r23d_jax.weights import card as cards

Tensors = dict[str, np.ndarray]
_STEP = re.compile(r"\d{8}")


class DamagedError(UserError):
    """A checkpoint whose content differs from what was written."""


# --- one folder -----------------------------------------------------------------------------------------


def save_weights(folder: Path, weights: Mapping[str, Any], card: cards.Card) -> Path:
    """Writes a checkpoint that has only weights, as the converter does.

    Args:
      folder: must not exist yet, or be empty.
      weights: flat `{name: array}` of parameters and running statistics.
      card: written with its `tensors_sha256` filled in.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists already; name a folder that does not, or remove it first")
    write_folder(folder, {"weights": weights}, card, {})
    return folder


def load_weights(folder: Path) -> tuple[Tensors, cards.Card]:
    """Reads weights and card of a checkpoint folder, and verifies its checksums."""
    folder = Path(folder)
    card = cards.read_card(folder)
    _verify(folder)
    weights = restore_tensors(folder / "weights")
    if cards.tree_sha256(weights) != card.tensors_sha256:
        raise DamagedError(f"{folder}: its tensors are not the ones its card was written for")
    return weights, card


def find(path: str | Path, which: str = "best") -> Path:
    """Returns the checkpoint folder at `path`, or the best or last one of the workdir there.

    "best" has the highest top1 of the run's evaluations; without evaluations it is the last.
    """
    path = Path(path)
    if (path / cards.FILE_NAME).is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; name a workdir, or a checkpoint folder with {cards.FILE_NAME}")
    steps = checkpoint_steps(path / "checkpoints")
    if not steps:
        raise UserError(f"{path}: no checkpoint in it, neither {cards.FILE_NAME} nor checkpoints/ of a run")
    best = best_step(path) if which == "best" else None
    return path / "checkpoints" / f"{steps[-1] if best is None else best:08d}"


def best_step(workdir: Path) -> int | None:
    """Returns the step of a workdir's best checkpoint; None if none was evaluated."""
    scores = read_scores(workdir / "checkpoints")
    scored = [step for step in checkpoint_steps(workdir / "checkpoints") if step in scores]
    return max(scored, key=lambda step: (scores[step], step), default=None)


# --- files ----------------------------------------------------------------------------------------------


def _checkpointer() -> ocp.Checkpointer:
    """Returns Orbax's checkpointer for this process only: weights are replicated, so every host has all of them.

    Orbax's V1 API cannot do that: its `save` compares the folder's name over all processes, whichever it is told of.
    """
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(),
        active_processes={jax.process_index()},
        barrier_sync_key_prefix=f"r23d{jax.process_index()}",
    )
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(multiprocessing_options=alone), multiprocessing_options=alone)


def write_folder(folder: Path, trees: dict[str, Mapping[str, Any]], card: cards.Card, progress: dict) -> None:
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
        sync(writing)  # otherwise a power failure could keep the name and lose the content
        if folder.exists():
            folder.rmdir()  # fails unless it is empty
        os.replace(writing, folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(writing, ignore_errors=True)
        raise


def _check_space(folder: Path, trees: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises if there is not enough disk space; TensorStore would print a traceback per task when it runs out."""
    needed = sum(np.asarray(value).nbytes for tree in trees.values() for value in tree.values()) + (1 << 20)
    free = shutil.disk_usage(folder).free
    if free < needed:
        text = f"{os.strerror(errno.ENOSPC)}: {needed / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free"
        raise OSError(errno.ENOSPC, text)


def _save_tree(folder: Path, tree: Mapping[str, Any]) -> None:
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.CRITICAL)  # Orbax prints a traceback in addition to raising the error
    try:
        _checkpointer().save(folder.resolve(), args=ocp.args.PyTreeSave({k: np.asarray(v) for k, v in tree.items()}))
    except ValueError as error:  # TensorStore's error for a full disk
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(folder)) from error
    finally:
        absl.setLevel(level)


def restore_tensors(folder: Path) -> Tensors:
    if not folder.is_dir():
        return {}
    checkpointer = _checkpointer()
    names = checkpointer.metadata(folder.resolve()).item_metadata.keys()
    as_numpy = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
    return checkpointer.restore(folder.resolve(), args=ocp.args.PyTreeRestore(restore_args=as_numpy))


def _checksums(folder: Path) -> dict[str, str]:
    files = sorted(p for p in files_below(folder) if p.name != "checksums.json")
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _verify(folder: Path) -> None:
    try:
        expected = read_json(folder / "checksums.json")
    except (FileNotFoundError, ValueError):  # a missing permission does not mean damage
        expected = None
    if not isinstance(expected, dict):
        raise DamagedError(f"{folder}: damaged checkpoint: checksums.json is missing or unreadable")
    found = _checksums(folder)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise DamagedError(f"{folder}: damaged checkpoint: {name} is missing")
        if found[name] != expected.get(name):
            raise DamagedError(f"{folder}: damaged checkpoint: {name} does not match its checksum")


def checkpoint_steps(root: Path) -> list[int]:
    return sorted(int(p.name) for p in root.glob("*") if _STEP.fullmatch(p.name) and p.is_dir())


def read_scores(root: Path) -> dict[int, float]:
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


def write_scores(root: Path, scores: dict[int, float]) -> None:
    fields = {str(step): float(scores[step]) for step in sorted(scores)}
    write_json(root / "scores.json", {**fields, "sha256": _scores_sha256(scores)})


def _scores_sha256(scores: dict[int, float]) -> str:
    return hashlib.sha256(repr(sorted(scores.items())).encode()).hexdigest()
