"""Which videos to label next: those that a probe is least sure of come first."""

import csv

import numpy as np
import pytest
from probe_videos import COLOURS, link, write_video

import r23d_jax
from r23d_jax import report
from r23d_jax.errors import UserError
from r23d_jax.probing import session, suggest


@pytest.fixture(scope="module")
def ranked(probe_paths, tmp_path_factory):
    """The folder, the lines for the user, and the rows of the table. Blends of two classes are among the videos."""
    folder = tmp_path_factory.mktemp("suggest")
    unlabelled = folder / "unlabelled"
    link(unlabelled / "known", *(probe_paths.root / "train").glob("*/*[13].mkv"))
    for number, pair in enumerate((("blue", "green"), ("green", "red"))):
        blend = np.mean([COLOURS[name] for name in pair], axis=0)
        write_video(unlabelled / f"{'-'.join(pair)}.mkv", blend, seed=number)
    (unlabelled / "broken.mkv").write_bytes(b"no video")
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "_strips", lambda *arguments: ({}, "there are none in this test"))
        options = {"suggest": str(unlabelled), "folder": probe_paths.features, "mirrored": False, "say": said.append}
        done = session.run(probe_paths.weights, probe_paths.root, folder / "run", **options)
    with (folder / "run/suggestions.csv").open(newline="") as file:
        return folder, done.lines, list(csv.DictReader(file)), said


def test_blends_come_first_and_what_is_known_last(ranked):
    _, lines, rows, said = ranked
    assert len(rows) == 8
    names = [row["path"].rpartition("/")[2] for row in rows]
    assert set(names[:2]) == {"blue-green.mkv", "green-red.mkv"}, names
    assert [row["label"] for row in rows[2:]] == [name.rstrip("0123456789.mkv") for name in names[2:]]
    uncertainties = [float(row["uncertainty"]) for row in rows]
    assert uncertainties == sorted(uncertainties, reverse=True) and 0 <= min(uncertainties) < max(uncertainties) <= 1
    assert f"left out: {ranked[0] / 'unlabelled/broken.mkv'}: " in "\n".join(said)
    assert lines[-6].endswith("suggestions.csv: 8 unlabelled videos, the most uncertain first:")
    assert rows[0]["path"] in lines[-5] and rows[4]["path"] in lines[-1]


def test_scores_are_those_that_the_run_predicts(ranked):
    folder, _, rows, _ = ranked
    clf = r23d_jax.load(folder / "run")
    assert list(rows[0]) == ["path", "uncertainty", "label", "score", "second_label", "second_score"]
    for row, found in zip(rows, clf.predict([row["path"] for row in rows], top=2), strict=True):
        first, second = found.top
        assert (row["label"], row["second_label"]) == (first["label"], second["label"])
        assert abs(float(row["score"]) - first["score"]) < 1e-4 > abs(float(row["second_score"]) - second["score"])
        entropy = -np.sum(found.scores * np.log(np.maximum(found.scores, 1e-12))) / np.log(3)
        assert abs(float(row["uncertainty"]) - entropy) < 1e-3


def test_a_folder_without_videos_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="--suggest .*: no video in this folder"):
        suggest.find(str(tmp_path))
