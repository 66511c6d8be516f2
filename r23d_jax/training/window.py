"""Averages metrics over the steps since the last line of the log."""

import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from r23d_jax.errors import UserError


class Window:
    """Collects the metrics of steps without waiting for them, and averages them for a line of the log.

    Args:
      workdir: named in the error of a loss that is not finite.
      batch_size: clips per step.
      saved: metrics of steps that were not logged before an interruption; not counted in `clips_per_second`.
    """

    def __init__(self, workdir: Path, batch_size: int, saved: list[dict[str, float]]):
        self._workdir, self._batch_size = workdir, batch_size
        self._steps: list[dict[str, Any]] = list(saved)
        self._untimed = len(saved)

    def append(self, metrics: dict[str, jax.Array]) -> None:
        """Adds the metrics of one step."""
        self._steps.append(metrics)

    def fetch(self, step: int) -> list[dict[str, float]]:
        """Waits for the steps up to `step` and returns their metrics.

        Raises:
          UserError: the loss or the gradient's norm is not finite; in float16, where such a step is skipped, only once
            that has brought the loss scale below 1.
        """
        self._steps = [{name: float(x) for name, x in metrics.items()} for metrics in jax.device_get(self._steps)]
        for offset, metrics in enumerate(self._steps):
            skipped = metrics.get("skipped", 0) > 0
            finite = math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"])
            if metrics["loss_scale"] < 1 if skipped else not finite:
                bad = step - len(self._steps) + offset + 1
                how = ", in float16 even with a loss scale of 1" if skipped else ""
                way = ", or set --config.dtype=float32 in a new workdir" if skipped else ""
                raise UserError(
                    f"the loss is {metrics['loss']} (norm of the gradient {metrics['grad_norm']}) at step {bad}{how}: "
                    f"lower --config.lr or set --config.optimizer.clip_norm{way}; {self._workdir} keeps the "
                    "checkpoints before it"
                )
        return self._steps

    def means(self, seconds: float, waited: float) -> dict[str, float]:
        """Returns the means over the fetched steps (of `lr` and `loss_scale` the last value), and empties the window.

        Of skipped steps, numbers that are not finite are left out; nan if there are no others.

        Args:
          seconds: duration of the steps.
          waited: seconds in which the device waited for data.
        """
        steps, timed = self._steps, len(self._steps) - self._untimed
        self._steps, self._untimed = [], 0
        return {
            **{name: _mean([metrics[name] for metrics in steps]) for name in steps[0]},
            **{name: steps[-1][name] for name in ("lr", "loss_scale") if name in steps[-1]},
            "clips_per_second": timed * self._batch_size / seconds,
            "data_wait": waited / seconds,
        }


def _mean(values: list[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan
