"""The checkpoints of one run: saved in the background, pruned, and resumed from the newest whole one.

Not Orbax's CheckpointManager, which takes a score with the save, before the evaluation, and has no checksums.
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
    find,
    load_weights,
    read_scores,
    restore_tensors,
    steps_of,
    write_folder,
    write_scores,
)


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
        progress = {"step": step, "scores": read_scores(self.root), **progress}
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
            write_scores(self.root, {**read_scores(self.root), step: top1})
            self._prune()

    def resume(self) -> tuple[Tensors, Tensors, cards.Card, dict[str, Any]] | None:
        """The newest whole checkpoint: `(weights, train, card, progress)`, or None when there is none.

        A damaged one is named on stderr and the one before it is used; if all are damaged it is an error.
        """
        steps = steps_of(self.root)
        for step in reversed(steps):
            folder = self.root / f"{step:08d}"
            try:
                weights, card = load_weights(folder)
                progress = read_json(folder / "progress.json")
                rest = restore_tensors(folder / "train")
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
        return step in read_scores(self.root)

    def _check_scores(self, progress: dict[str, Any]) -> None:
        try:
            read_scores(self.root)
        except DamagedError as error:
            print(f"warning: {error}; written anew from the checkpoint", file=sys.stderr)
            if self._writer:
                write_scores(self.root, {int(step): score for step, score in progress.get("scores", {}).items()})

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
        write_folder(folder, host, card, progress)
        self._prune()

    def _prune(self) -> None:
        steps, scores = steps_of(self.root), read_scores(self.root)
        kept = set(steps[-self._keep :])
        if scores:
            kept.add(int(find(self.root.parent, "best").name))
        for step in set(steps) - kept:
            doomed = self.root / f".writing-old-{step}"
            os.replace(self.root / f"{step:08d}", doomed)  # never a half-deleted checkpoint under its name
            shutil.rmtree(doomed)
