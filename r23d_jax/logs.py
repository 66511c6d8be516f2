"""What a run writes while it trains: metrics.jsonl, TensorBoard events, a progress bar."""

import json
import os
import sys
from pathlib import Path

from tqdm import tqdm


class Log:
    """The log of one run. With `writer=False` (every host but one) it does nothing.

    Args:
      workdir: where `metrics.jsonl` and the events go.
      total: steps of the run.
      start: the step it starts at; lines of later steps, written by a run that was interrupted after its
        last checkpoint, are dropped, for they will be written again.
      writer: whether this process writes.
    """

    def __init__(self, workdir: Path, total: int, start: int, writer: bool = True):
        self._writer = writer
        if not writer:
            return
        from tensorboardX import SummaryWriter  # where PyTorch is installed it imports all of it

        path = Path(workdir) / "metrics.jsonl"
        kept = [line for line in read_metrics(workdir) if line["step"] <= start] if start else []
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(temporary, path)
        self._file = path.open("a", buffering=1)
        self._events = SummaryWriter(str(workdir), purge_step=start + 1 if start else None)
        self._bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True, disable=None)

    def write(self, step: int, epoch: float, seconds: float, scalars: dict[str, float]) -> None:
        """One line of `metrics.jsonl`, and the same scalars to TensorBoard."""
        if self._writer:
            line = {"step": step, "epoch": round(epoch, 4), "seconds": round(seconds, 3), **scalars}
            self._file.write(json.dumps(line) + "\n")
            for name, value in scalars.items():
                self._events.add_scalar(name, value, step)

    def progress(self, step: int, text: str) -> None:
        """Moves the bar to `step`."""
        if self._writer:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self._writer:
            tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        if self._writer:
            self._bar.close()
            self._events.close()
            self._file.close()


def read_metrics(workdir: Path) -> list[dict]:
    """The lines of a run's metrics.jsonl; a half-written last line (a killed run) is left out."""
    path = Path(workdir) / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    whole = []
    for number, line in enumerate(lines):
        try:
            whole.append(json.loads(line))
        except ValueError:
            if number + 1 < len(lines):
                raise
    return whole
