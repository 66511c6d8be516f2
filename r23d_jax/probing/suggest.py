"""Ranks unlabelled videos by how uncertain a probe is of them: which to label next."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from r23d_jax.errors import UserError
from r23d_jax.inference import sources
from r23d_jax.probing.choose import video_scores
from r23d_jax.probing.data import LabelledVideo, LabelledVideos
from r23d_jax.probing.extract import Extractor, samples_of
from r23d_jax.probing.files import FileReader
from r23d_jax.probing.fit import Probe
from r23d_jax.runtime.files import write_text
from tfds_ucf101.media import VideoFile

FILE_NAME = "suggestions.csv"
_COLUMNS = ("path", "uncertainty", "label", "score", "second_label", "second_score")


def suggest(
    probe: Probe, extractor: Extractor, folder: str, out: Path, say: Callable[[str], None], batch_size: int = 0
) -> list[str]:
    """Writes `out/suggestions.csv`, the most uncertain video first, and returns lines for the user.

    Uncertainty is the entropy of a video's scores, divided by that of equal ones: from 0 to 1 (B. Settles, "Active
    Learning Literature Survey", 2009, section 3.1).

    Args:
      probe: fitted.
      extractor: of its features.
      folder: of videos, searched recursively; or a file or a pattern.
      out: folder of the table.
      batch_size: clips per batch; 0 to choose by the device.
      say: called with a line for each video that cannot be read.

    Raises:
      UserError: there is no video, or none can be read.
    """
    found = find(folder)
    data = _unlabelled(found, folder)
    features, failed = extractor.run(data, range(len(found)), probe.choice.features.views, batch_size)
    for index, error in failed.items():
        say(f"left out: {found[index].path}: {error}")
    if not features:
        raise UserError(f"--suggest {folder}: no video in it can be read")
    places = sorted(features)
    samples = samples_of(data, features, places, extractor.grid_of)
    scores = video_scores(probe.choice, samples)
    entropy = -np.sum(scores * np.log(np.maximum(scores, 1e-12)), axis=1) / np.log(scores.shape[1])
    order = np.argsort(-entropy, kind="stable")
    best = np.argsort(-scores, axis=1, kind="stable")
    labels = probe.card.labels
    rows = []
    for row in order:
        first, second = best[row, :2]
        values = (labels[first], f"{scores[row, first]:.4f}", labels[second], f"{scores[row, second]:.4f}")
        rows.append((str(found[places[row]].path), f"{entropy[row]:.4f}", *values))
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([_COLUMNS, *rows])
    write_text(out / FILE_NAME, table.getvalue())
    lines = [f"{out / FILE_NAME}: {len(rows)} unlabelled videos, the most uncertain first:"]
    return lines + [f"  {row[1]}  {row[0]}  ({row[2]} {row[3]}, {row[4]} {row[5]})" for row in rows[:5]]


def find(folder: str) -> list[sources.VideoSource]:
    """Returns the videos of a folder, file or pattern. Raises a `UserError` if there is none."""
    found, problems = sources.find([folder])
    if problems:
        raise UserError(f"--suggest {problems[0]}")
    return found


def _unlabelled(found: list[sources.VideoSource], folder: str) -> LabelledVideos:
    videos = tuple(LabelledVideo(str(one.relative), 0, "neither", "", str(one.path)) for one in found)
    return LabelledVideos(
        full_name=Path(folder).name,
        fingerprint="",
        class_names=("unknown",),
        videos=videos,
        split="1",
        splits=("1",),
        has_test=False,
        leak_check=True,
        layout="",
        notes=(),
        stored_as=None,
        channels="rgb",
        flow=None,
        dataset=None,
        positions=tuple(range(len(videos))),
        reader=FileReader(tuple(VideoFile(str(one.path)) for one in found)),
    )
