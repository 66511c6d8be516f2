"""Features as arrays: averages over parts of time, side by side as a network's head sees them."""

import jax.numpy as jnp
import numpy as np
import pytest
import synthetic

from r23d_jax.models import head
from r23d_jax.probing.samples import PARTS, FeatureSet, in_parts


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 12])
def test_parts_of_time_are_averages_that_average_to_that_of_all(steps):
    series = np.random.default_rng(0).normal(size=(2, steps, 5)).astype(np.float32)
    parts = in_parts(series)
    assert parts.shape == (2, PARTS, 5) and parts.dtype == np.float32
    np.testing.assert_allclose(parts.mean(axis=1), series.mean(axis=1), atol=1e-6)
    if steps % PARTS == 0:
        expected = series.reshape(2, PARTS, -1, 5).mean(axis=2)
        np.testing.assert_allclose(parts, expected, atol=1e-6)


@pytest.mark.parametrize("bins", [1, PARTS])
def test_a_head_in_the_network_sees_the_same(bins):
    """Clips of one network have other lengths in each stage."""
    rng = np.random.default_rng(1)
    series = {stage: rng.normal(size=(4, steps, 6)).astype(np.float32) for stage, steps in (("a", 7), ("b", 2))}
    made = synthetic.make([0, 1, 0, 1], stages={"a": 6, "b": 6})
    made.averages["plain"].update({stage: in_parts(value) for stage, value in series.items()})
    seen = made.vectors(FeatureSet(("a", "b"), bins, False), "plain")
    expected = head.in_bins([jnp.asarray(value) for value in series.values()], bins)
    np.testing.assert_allclose(seen, expected, atol=1e-6)


def test_the_sets_are_stages_alone_and_the_deepest_together():
    stages = {name: 2 for name in "abcd"}
    of = {set_.stages for set_ in synthetic.make([0, 1], stages=stages).feature_sets()}
    assert of == {("a",), ("b",), ("c",), ("d",), ("c", "d"), ("b", "c", "d"), ("a", "b", "c", "d"), ("b", "c")}
    plain = synthetic.make([0, 1], stages=stages).feature_sets()
    both = synthetic.make([0, 1], stages=stages, views=head.VIEWS).feature_sets()
    assert len(set(plain)) == len(plain) == 16 and not any(set_.mirrored for set_ in plain)
    assert len(set(both)) == len(both) == 32 and sum(set_.mirrored for set_ in both) == 16


def test_clips_belong_to_their_videos():
    made = synthetic.make([0, 1, 2], clips=[2, 1, 3], views=head.VIEWS)
    assert made.video.tolist() == [0, 0, 1, 2, 2, 2] and made.channels == synthetic.STAGES
    assert made.clips_of(np.array([2, 0])).tolist() == [0, 1, 3, 4, 5]
    values = np.arange(12.0).reshape(6, 2)
    np.testing.assert_allclose(made.of_videos(values), [[1, 2], [4, 5], [8, 9]])
    some = made.only([2, 0])
    assert some.labels.tolist() == [2, 0] and some.groups.tolist() == ["g2", "g0"]
    assert some.video.tolist() == [1, 1, 0, 0, 0]
    for view, of in made.averages.items():
        for stage, array in of.items():
            assert np.array_equal(some.averages[view][stage], array[[0, 1, 3, 4, 5]])
    mirrored = FeatureSet(("high",), 1, True)
    both = [made.vectors(mirrored, view) for view in head.VIEWS]
    np.testing.assert_allclose(made.seen(mirrored), (both[0] + both[1]) / 2, atol=1e-6)
