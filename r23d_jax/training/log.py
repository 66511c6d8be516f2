"""The log of a run: metrics.jsonl, TensorBoard events and a progress bar."""

import json
import math
import os
import sys
import time
from pathlib import Path

from tqdm import tqdm

from r23d_jax.errors import UserError, one_line

_INPUT_BOUND = 0.2  # share of the time spent waiting for data above which the log warns


class Log:
    """The log of one run.

    Args:
      workdir: where `metrics.jsonl` and the events go.
      total: steps of the run.
      start: step to start at. Lines of later steps, left by a run that was interrupted after its last
        checkpoint, are dropped: the resumed run writes them again.
      writer: whether this process writes; if not (every host but one), the log does nothing.
    """

    def __init__(self, workdir: Path, total: int, start: int, writer: bool = True):
        self._writer, self._failed, self._warned = writer, False, False
        self._compiling = True  # the time of the first line includes compilation
        if not writer:
            return
        path = self._path = Path(workdir) / "metrics.jsonl"
        lines, damaged = _parse(path)
        if start and damaged:  # training does not depend on the log
            print(f"warning: {path}: damaged and left out: line {', '.join(map(str, damaged))}", file=sys.stderr)
        kept = [line for line in lines if line["step"] <= start] if start else []
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(temporary, path)
        self._file = path.open("a", buffering=1)
        self._events = _Events(Path(workdir), start)
        self._bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True, disable=None)

    def write(self, step: int, epoch: float, seconds: float, scalars: dict[str, float]) -> None:
        """Writes one line of `metrics.jsonl`, and the same scalars to TensorBoard; JSON has none that is not finite."""
        if self._writer:
            scalars = {name: value for name, value in scalars.items() if math.isfinite(value)}
            line = {"step": step, "epoch": round(epoch, 4), "seconds": round(seconds, 3), **scalars}
            try:
                self._file.write(json.dumps(line) + "\n")
                self._events.write(step, scalars)
            except OSError as error:
                self._failed = True
                reason = f"cannot be written ({one_line(error)})"
                raise UserError(
                    f"{self._path}: {reason}; what was saved is whole, and the same command continues from there"
                ) from error

    def progress(self, step: int, means: dict[str, float], regular: bool) -> None:
        """Moves the bar to `step`, and says once when the run is input-bound.

        Args:
          step: steps done.
          means: the metrics of the last line.
          regular: whether the line covers a full logging interval; otherwise it has too few steps to warn by.
        """
        if not self._writer:
            return
        wait = means["data_wait"]
        text = f"loss {means['loss']:.3f}, accuracy {means['accuracy']:.2f}, {means['clips_per_second']:.1f} clips/s, "
        self._bar.set_postfix_str(f"{text}waiting for data {wait:.0%}", refresh=False)
        self._bar.update(step - self._bar.n)
        if regular and not self._compiling and not self._warned and wait > _INPUT_BOUND:
            self._warned = True
            self.say(
                f"the run is input-bound: waiting for data {wait:.0%} of the time; raise workers or processes, store "
                "smaller frames, or see `python -m r23d_jax.benchmark --only loader`"
            )
        self._compiling = False

    def say(self, text: str) -> None:
        """Prints a line above the progress bar."""
        if self._writer:
            tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        if self._writer:
            self._bar.close()
            try:
                with self._file:  # closed whatever happens
                    self._events.close()
            except OSError:
                if not self._failed:  # else it would hide the first error
                    raise


class _Events:
    """Writer of TensorBoard events.

    Writes in the calling thread: tensorboardX's `SummaryWriter` uses a thread that dies when the disk is full, after
    which the run would block for ever.
    """

    def __init__(self, workdir: Path, start: int):
        from tensorboardX.event_file_writer import EventsWriter  # slow: imports PyTorch if it is installed
        from tensorboardX.proto import event_pb2, summary_pb2

        self._Event, self._Summary = event_pb2.Event, summary_pb2.Summary
        self._file = EventsWriter(str(workdir / "events"))
        if start:  # tells TensorBoard to drop later steps of the interrupted run
            status = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._file.write_event(self._Event(step=start + 1, session_log=status))

    def write(self, step: int, scalars: dict[str, float]) -> None:
        values = [self._Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._file.write_event(self._Event(wall_time=time.time(), step=step, summary=self._Summary(value=values)))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_metrics(workdir: Path) -> list[dict]:
    """Returns the lines of a run's metrics.jsonl, without a half-written last one (of a killed run).

    Raises:
      UserError: any other line is damaged.
    """
    path = Path(workdir) / "metrics.jsonl"
    lines, damaged = _parse(path)
    if damaged:
        raise UserError(f"{path}: line {damaged[0]} is damaged; remove it, or run the training's command again")
    return lines


def _parse(path: Path) -> tuple[list[dict], list[int]]:
    """Returns the valid lines, and the numbers of damaged ones; an unfinished last line is neither."""
    texts = path.read_bytes().split(b"\n") if path.is_file() else []
    whole, damaged = [], []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            whole.append(line)
        elif number < len(texts):
            damaged.append(number)
    return whole, damaged
