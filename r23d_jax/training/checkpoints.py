"""Checkpoints of one run: saved in the background, pruned, and resumed from the newest intact one.

By hand since Orbax's CheckpointManager takes a score with the save, before the evaluation, and has no checksums.
"""

import os
import shutil
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax

from r23d_jax.errors import UserError, one_line
from r23d_jax.runtime.files import read_json
from r23d_jax.weights import card as cards
from r23d_jax.weights.checkpoint import (
    DamagedError,
    Tensors,
    checkpoint_steps,
    find,
    load_weights,
    read_scores,
    restore_tensors,
    write_folder,
    write_scores,
)


class Checkpoints:
    """Checkpoints of one workdir, saved in the background one at a time."""

    def __init__(self, workdir: Path, keep: int = 1, writer: bool = True):
        """
        Args:
          workdir: the run's folder.
          keep: number of newest checkpoints to keep; the best one is kept as well.
          writer: True in one process only; the others never write.
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
          step: number of the step, and name of the checkpoint.
          weights: flat `{name: array}` of the evaluated weights.
          train: flat `{name: array}` of the rest of the state.
          card: stored in the checkpoint; `tensors_sha256` is filled in.
          progress: JSON values a resumed run needs (epoch, seconds).
        """
        self.wait()
        if not self._writer:
            return
        host = jax.device_get({"weights": weights, "train": train})
        progress = {"step": step, "scores": read_scores(self.root), **progress}
        self._pending = self._pool.submit(self._save, step, host, card, progress)

    def wait(self) -> None:
        """Waits until the last save is on disk.

        Raises:
          UserError: the save failed.
        """
        if self._pending is not None:
            pending, self._pending = self._pending, None
            try:
                pending.result()
            except OSError as error:
                raise UserError(
                    f"{self.root}: the checkpoint could not be written ({one_line(error)}); those before it are whole"
                ) from error

    def score(self, step: int, top1: float) -> None:
        """Records the evaluation result of a saved step; the best checkpoint is chosen by it."""
        self.wait()
        if self._writer:
            write_scores(self.root, {**read_scores(self.root), step: top1})
            self._prune()

    def resume(self) -> tuple[Tensors, Tensors, cards.Card, dict[str, Any]] | None:
        """Returns `(weights, train, card, progress)` of the newest intact checkpoint, or None if there is none.

        Damaged ones are reported on stderr and set aside.

        Raises:
          UserError: there are checkpoints, and all of them are damaged.
        """
        steps = checkpoint_steps(self.root)
        for step in reversed(steps):
            folder = self.root / f"{step:08d}"
            try:
                weights, card = load_weights(folder)
                progress = read_json(folder / "progress.json")
                rest = restore_tensors(folder / "train")
                self._set_aside([newer for newer in steps if newer > step])
                self._check_scores(progress)
                return weights, rest, card, progress
            # FileNotFoundError: the writing process has already set the damaged checkpoint aside.
            except (UserError, FileNotFoundError) as error:
                print(f"warning: {one_line(error)}; trying the checkpoint before it", file=sys.stderr)
        if steps:
            raise UserError(f"{self.root}: every checkpoint in it is damaged; start in a new workdir")
        return None

    def close(self) -> None:
        self.wait()
        self._pool.shutdown()

    def scored(self, step: int) -> bool:
        """Returns whether the evaluation result of a step is recorded."""
        return step in read_scores(self.root)

    def _check_scores(self, progress: dict[str, Any]) -> None:
        try:
            read_scores(self.root)
        except DamagedError as error:
            print(f"warning: {error}; written anew from the checkpoint", file=sys.stderr)
            if self._writer:
                write_scores(self.root, {int(step): score for step, score in progress.get("scores", {}).items()})

    def _set_aside(self, damaged: list[int]) -> None:
        """Renames damaged checkpoints, so that they do not count as the newest."""
        for step in damaged if self._writer else ():
            aside = self.root / f"damaged-{step:08d}"
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(self.root / f"{step:08d}", aside)

    def _save(self, step: int, host: dict[str, Tensors], card: cards.Card, progress: dict) -> None:
        folder = self.root / f"{step:08d}"
        if folder.exists():  # a resumed run saves the same state again
            shutil.rmtree(folder)
        write_folder(folder, host, card, progress)
        self._prune()

    def _prune(self) -> None:
        steps, scores = checkpoint_steps(self.root), read_scores(self.root)
        kept = set(steps[-self._keep :])
        if scores:
            kept.add(int(find(self.root.parent, "best").name))
        for step in set(steps) - kept:
            doomed = self.root / f".writing-old-{step}"
            os.replace(self.root / f"{step:08d}", doomed)  # a half-deleted checkpoint must not keep its name
            shutil.rmtree(doomed)
