"""What a run left and someone changed, and numbers that cannot be: refused in one line, never believed."""

import fake_run
import numpy as np
import pytest

from r23d_jax import config as configs
from r23d_jax import report
from r23d_jax.errors import UserError
from r23d_jax.evaluation import fusion
from r23d_jax.evaluation.predictions import Predictions
from r23d_jax.experiments import table as result_table
from r23d_jax.runtime.signals import Interrupted
from r23d_jax.runtime.workdir import check_workdir
from r23d_jax.weights import checkpoint

# --- what a run left ------------------------------------------------------------------------------------


def test_predictions_damaged_anywhere_are_refused_or_read_right(tmp_path):
    found, path = fake_run.predictions(("a", "b"), per_class=2), tmp_path / "predictions.npz"
    found.save(path)
    whole, refused = path.read_bytes(), 0
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        try:
            again = Predictions.load(path)
        except UserError as error:
            assert str(error).startswith(f"{path}: ")
            refused += 1
        else:
            np.testing.assert_array_equal(again.scores, found.scores)
            np.testing.assert_array_equal(again.labels, found.labels)
    assert refused > len(whole) / 6


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("names", np.array("a")),
        ("names", np.arange(4)),
        ("class_names", np.array("a")),
        ("labels", np.zeros(4)),
        ("labels", np.array(["0"] * 4)),
        ("labels", np.array([0, 1, 2, 0])),
        ("scores", np.full((4, 2), np.nan, np.float32)),
        ("logits", np.full((4, 2), np.inf)),
        ("softmax_of_mean", np.zeros((4, 3), np.float32)),
        ("scores", np.zeros((4, 2), "U3")),
        ("clips", np.zeros(4, np.int32)),
        ("clips", np.ones((4, 1), np.int32)),
    ],
)
def test_predictions_that_cannot_be_are_refused(tmp_path, name, value):
    found = fake_run.predictions(("a", "b"), per_class=2)
    found.save(tmp_path / "predictions.npz")
    with np.load(tmp_path / "predictions.npz") as arrays:
        np.savez(tmp_path / "predictions.npz", **{**arrays, name: value})
    with pytest.raises(UserError, match="its arrays do not fit together; evaluate again"):
        Predictions.load(tmp_path / "predictions.npz")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("top1", 1.5),
        ("top1", True),
        ("mean_class", float("nan")),
        ("clip_top1", None),
        ("top1", [1]),
        ("step", "7"),
        ("step", -1),
        ("input", 5),
        ("seed", []),
        ("streams", 5),
        ("streams", [1]),
        ("streams", [{"from": 5}]),
        ("spread", 3),
        ("aggregates", 3),
        ("aggregates", {"mean_softmax": {"top1": 2}}),
        ("aggregates", {"mean_softmax": {"top5": 0.5}}),
        ("spread", {"top1": "x"}),
        ("splits", {}),
        ("videos_evaluated", 3.0),
        ("protocol", None),
    ],
)
@pytest.mark.parametrize(
    "read", [fusion.read_stream, result_table.read_run_result, report.read_run], ids=["fusion", "table", "report"]
)
def test_results_that_cannot_be_are_refused(tmp_path, read, key, value):
    fake_run.write(tmp_path, fake_run.predictions(("a", "b"), per_class=2), **{key: value})
    with pytest.raises(UserError, match=rf"results.json: not readable as results \(.*{key}.*; evaluate again"):
        read(tmp_path)


def test_checkpoints_without_their_config_are_not_resumed(tmp_path):
    (tmp_path / "checkpoints" / "00000012").mkdir(parents=True)
    with pytest.raises(UserError, match=r"config.json: unreadable \(.*No such file.*use a new workdir"):
        check_workdir(tmp_path, configs.load("demo"), None)


@pytest.mark.parametrize("scores", ['{"5": 1%s}' % ("0" * 400), '{"5": NaN}', '{"5": -3}', '{"5": [1]}', "[5]"])
def test_scores_that_cannot_be_choose_no_checkpoint(tmp_path, scores):
    (tmp_path / "checkpoints" / "00000005").mkdir(parents=True)
    (tmp_path / "checkpoints" / "scores.json").write_text(scores)
    with pytest.raises(UserError, match="scores.json: damaged"):
        checkpoint.find(tmp_path, "best")


# --- numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "override",
    [
        "lr=1" + "0" * 400,
        "steps=1" + "0" * 20,
        "batch_size=4294967296",
        "epochs=1e300",
        "lr=inf",
        "eval.views=" + "-" * 100_000 + "1",
        "lr=" + "(" * 100_000,
    ],
    ids=lambda override: override[:20],
)
def test_numbers_without_end_are_refused(override):
    with pytest.raises(UserError, match=override.partition("=")[0]):
        configs.load("demo", [override])


def test_an_interruption_is_no_error_that_someone_handles():
    assert not issubclass(Interrupted, Exception)
