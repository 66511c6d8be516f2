"""Metrics against counts made by hand, and the same for any division into batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r23d_jax.evaluation import metrics


def test_ranks_by_hand():
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.2, 0.2, 0.2]])
    assert metrics.ranks(scores, np.array([2, 0, 1, 2])).tolist() == [1, 0, 1, 2]


def test_finish_by_hand():
    #        true 0    true 0    true 1    true 2
    scores = np.eye(3)[[0, 1, 1, 0]]
    result = metrics.finish(metrics.sums(scores, np.array([0, 0, 1, 2]), np.ones(4, bool)))
    assert result == {"top1": 0.5, "top5": 1.0, "mean_class": pytest.approx((0.5 + 1 + 0) / 3)}


def test_a_class_without_videos_does_not_count_in_the_mean():
    scores = np.eye(4)[[0, 1]]
    result = metrics.finish(metrics.sums(scores, np.array([0, 0]), np.ones(2, bool)))
    assert result["mean_class"] == 0.5


def test_top5_of_seven_classes():
    scores = np.arange(7.0)[None].repeat(7, axis=0)
    result = metrics.finish(metrics.sums(scores, np.arange(7), np.ones(7, bool)))
    assert result["top1"] == pytest.approx(1 / 7) and result["top5"] == pytest.approx(5 / 7)


@given(st.integers(1, 40), st.integers(2, 9), st.integers(1, 17), st.integers(0, 2**31))
def test_any_batch_size_gives_the_same_counts(rows, classes, batch, seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, 4, (rows, classes)).astype(float), rng.integers(0, classes, rows)
    whole = metrics.sums(scores, labels, np.ones(rows, bool))
    padded = -(-rows // batch) * batch
    pad = [(0, padded - rows)]
    scores, labels = np.pad(scores, [*pad, (0, 0)]), np.pad(labels, pad)
    mask = np.arange(padded) < rows
    total = None
    for start in range(0, padded, batch):
        part = metrics.sums(*(x[start : start + batch] for x in (scores, labels, mask)))
        total = part if total is None else metrics.add(total, part)
    for key in whole:
        assert np.array_equal(whole[key], total[key])


def test_softmax_survives_large_logits():
    assert metrics.softmax(np.array([[1e4, 0.0]])).tolist() == [[1.0, 0.0]]
