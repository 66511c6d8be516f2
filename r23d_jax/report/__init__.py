"""`report.html`: one self-contained page on a run, written from its workdir.

    python -m r23d_jax.report WORKDIR [--data_dir DIR]

writes it again. What the workdir does not hold is said on the page.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from r23d_jax.errors import UserError, one_line
from r23d_jax.report import numbers, page
from r23d_jax.report.run import Run, read_run
from r23d_jax.runtime.files import write_text

if TYPE_CHECKING:
    from r23d_jax.data.dataset import Dataset
    from r23d_jax.weights.card import Card

_WORST, _SUREST = 6, 4


def write(
    workdir: Path,
    dataset: "Dataset | None" = None,
    weights: "tuple[Mapping[str, Any], Card] | None" = None,
    data_dir: str | None = None,
) -> Path:
    """Writes `workdir/report.html`, the whole file or none of it.

    Args:
      workdir: of a run.
      dataset: what it was evaluated on, for the frames; by default it is looked for where the run had it.
      weights: flat weights and their card, where those evaluated are not a checkpoint of the workdir.
      data_dir: where to look for the data set instead.

    Returns:
      The page's path.

    Raises:
      UserError: not a workdir, or a damaged file in it.
    """
    run = read_run(workdir)
    strips, why_not = _strips(run, dataset, weights, data_dir)
    path = run.workdir / "report.html"
    write_text(path, page.build(run, strips, why_not))
    return path


def _strips(run: Run, dataset, weights, data_dir) -> tuple[dict[str, list], str]:
    """Strips of frames by kind, and why there are none."""
    if run.scores is None:
        return {}, "there are no predictions to choose videos from"
    if "streams" in run.results:
        return {}, "two networks were fused here; the reports of the streams show what each saw"
    from r23d_jax.report import strips  # JAX and the decoder, which the rest of the page does without

    wrong = numbers.most_wrong(run.scores.scores, run.scores.labels, _WORST)
    right = numbers.most_confident(run.scores.scores, run.scores.labels, _SUREST)
    try:
        dataset = dataset or strips.evaluated_dataset(run, data_dir)
        weights = weights or strips.evaluated_weights(run)
        found = strips.collect(run, dataset, weights, np.concatenate([wrong, right]))
    except (UserError, OSError, RuntimeError) as error:  # RuntimeError: JAX out of memory; the rest still counts
        return {}, one_line(error)[:400].rstrip(".")
    return {"wrong": found[: len(wrong)], "right": found[len(wrong) :]}, ""
