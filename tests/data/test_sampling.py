"""Sampling rules against index tables written out by hand, and properties of them all."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r23d_jax.data import sampling
from r23d_jax.data.dataset import VideoRecord
from r23d_jax.errors import UserError


class Fixed:
    """A generator whose every draw is the same share of the range."""

    def __init__(self, share: float):
        self.share = share

    def integers(self, high):
        return np.floor(np.asarray(high) * self.share).astype(int)


@pytest.mark.parametrize(
    "num_frames, frames, stride, share, expected",
    [
        (10, 4, 1, 0.0, [0, 1, 2, 3]),
        (10, 4, 1, 0.5, [3, 4, 5, 6]),
        (10, 4, 1, 0.99, [6, 7, 8, 9]),  # the last that fits
        (10, 4, 3, 0.99, [0, 3, 6, 9]),  # only one fits
        (10, 4, 2, 0.99, [3, 5, 7, 9]),
        (4, 4, 1, 0.99, [0, 1, 2, 3]),
        (3, 4, 1, 0.99, [0, 1, 2, 0]),  # too short: looped from the start
        (3, 8, 1, 0.5, [0, 1, 2, 0, 1, 2, 0, 1]),
        (5, 4, 2, 0.5, [0, 2, 4, 1]),
        (1, 3, 4, 0.5, [0, 0, 0]),
    ],
)
def test_dense_by_hand(num_frames, frames, stride, share, expected):
    found = sampling.dense(num_frames, frames, stride, Fixed(share))
    assert found.tolist() == expected
    assert found.dtype == np.int32


@pytest.mark.parametrize(
    "num_frames, frames, share, expected",
    [
        (12, 4, 0.0, [0, 3, 6, 9]),
        (12, 4, 0.99, [2, 5, 8, 11]),
        (12, 4, None, [1, 4, 7, 10]),
        (10, 4, 0.0, [0, 2, 5, 7]),
        (10, 4, 0.99, [1, 4, 6, 9]),
        (10, 4, None, [1, 3, 6, 8]),
        (3, 6, 0.99, [0, 0, 1, 1, 2, 2]),  # too short: slowed down
        (3, 6, None, [0, 0, 1, 1, 2, 2]),
        (1, 3, None, [0, 0, 0]),
    ],
)
def test_segments_by_hand(num_frames, frames, share, expected):
    rng = None if share is None else Fixed(share)
    assert sampling.segments(num_frames, frames, rng).tolist() == expected


@pytest.mark.parametrize(
    "num_frames, frames, stride, expected",
    [
        (8, 4, 1, [[0, 1, 2, 3], [4, 5, 6, 7]]),  # the last full one is there
        (11, 4, 1, [[0, 1, 2, 3], [4, 5, 6, 7]]),  # a tail shorter than a clip is not
        (12, 4, 1, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]),
        (4, 4, 1, [[0, 1, 2, 3]]),
        (3, 4, 1, [[0, 1, 2, 0]]),
        (1, 2, 1, [[0, 0]]),
        (11, 3, 2, [[0, 2, 4], [6, 8, 10]]),  # 10 is the last frame the second clip needs
        (10, 3, 2, [[0, 2, 4]]),
    ],
)
def test_every_clip_by_hand(num_frames, frames, stride, expected):
    assert sampling.every(num_frames, frames, stride).tolist() == expected


@pytest.mark.parametrize(
    "num_frames, frames, stride, views, expected",
    [
        (10, 4, 1, 1, [[3, 4, 5, 6]]),
        (10, 4, 1, 2, [[0, 1, 2, 3], [6, 7, 8, 9]]),
        (10, 4, 1, 3, [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]),
        (10, 4, 2, 3, [[0, 2, 4, 6], [1, 3, 5, 7], [3, 5, 7, 9]]),
        (5, 4, 1, 3, [[0, 1, 2, 3], [0, 1, 2, 3], [1, 2, 3, 4]]),
        (2, 4, 1, 2, [[0, 1, 0, 1], [0, 1, 0, 1]]),
    ],
)
def test_uniform_views_by_hand(num_frames, frames, stride, views, expected):
    assert sampling.uniform(num_frames, frames, stride, views).tolist() == expected


@pytest.mark.parametrize("arguments", [(0, 4, 1), (4, 0, 1), (4, 4, 0)])
def test_nonsense_is_refused(arguments):
    with pytest.raises(ValueError, match="at least 1"):
        sampling.every(*arguments)


sizes = st.integers(1, 400), st.integers(1, 70), st.integers(1, 9)


@given(*sizes, st.integers(0, 2**32), st.integers(1, 12))
def test_every_index_is_a_frame(num_frames, frames, stride, seed, views):
    rng = np.random.default_rng(seed)
    for found in (
        sampling.dense(num_frames, frames, stride, rng)[None],
        sampling.segments(num_frames, frames, rng)[None],
        sampling.segments(num_frames, frames)[None],
        sampling.every(num_frames, frames, stride),
        sampling.uniform(num_frames, frames, stride, views),
    ):
        assert found.dtype == np.int32
        assert found.shape[1] == frames
        assert found.min() >= 0
        assert found.max() < num_frames


@given(*sizes, st.integers(0, 2**32))
def test_long_videos_keep_the_stride(num_frames, frames, stride, seed):
    if num_frames >= sampling.span(frames, stride):
        found = sampling.dense(num_frames, frames, stride, np.random.default_rng(seed))
        assert (np.diff(found) == stride).all()


@given(*sizes)
def test_every_clip_leaves_less_than_a_clip(num_frames, frames, stride):
    found = sampling.every(num_frames, frames, stride)
    used = np.unique(found)
    if num_frames >= sampling.span(frames, stride):
        assert len(used) == found.size  # none twice
        following = found[-1, 0] + frames * stride
        assert num_frames - following < sampling.span(frames, stride)
    else:
        assert len(found) == 1
    if stride == 1 and num_frames % frames == 0:
        assert len(used) == num_frames


@given(*sizes, st.integers(2, 12))
def test_uniform_views_reach_both_ends(num_frames, frames, stride, views):
    found = sampling.uniform(num_frames, frames, stride, views)
    assert len(found) == views
    assert found[0, 0] == 0
    if num_frames >= sampling.span(frames, stride):
        assert found[-1, -1] == num_frames - 1
        assert np.ptp(np.diff(found[:, 0])) <= 1


@given(st.integers(1, 400), st.integers(1, 5), st.integers(1, 300), st.integers(1, 32))
def test_whole_videos_are_covered(num_frames, stride, max_frames, multiple):
    found = sampling.whole(num_frames, stride, max_frames, multiple)
    needed = -(-num_frames // stride)
    assert found.shape[1] <= max_frames
    if needed <= max_frames:
        assert len(found) == 1 and needed <= found.shape[1] < needed + multiple
        assert found.shape[1] % multiple == 0 or found.shape[1] == max_frames
        assert found[0, :needed].tolist() == list(range(0, num_frames, stride))
        assert (found[0] == np.arange(found.shape[1]) * stride % num_frames).all()
    else:
        assert found.shape == (-(-needed // max_frames), max_frames)
        if stride == 1:
            assert set(found.ravel()) == set(range(num_frames))


def test_fitted_lengths_go_up_by_a_quarter_at_most():
    assert sampling.LENGTHS[:16] == (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256)
    assert sampling.LENGTHS[16:20] == (320, 384, 448, 512) and sampling.LENGTHS[-1] > 2**14
    lengths = np.array(sampling.LENGTHS[3:])
    assert (np.diff(lengths) > 0).all() and (lengths[1:] / lengths[:-1] <= 1.25).all()


@pytest.mark.parametrize(
    "num_frames, stride, max_frames, length",
    [
        (1, 1, 64, 8),
        (7, 1, 64, 8),
        (11, 1, 64, 8),  # 11 / 8 is less than 16 / 11
        (12, 1, 64, 16),
        (67, 2, 64, 32),  # 34 frames at its stride
        (71, 1, 256, 64),
        (72, 1, 256, 80),
        (100, 1, 100, 96),  # nothing above what is allowed
        (511, 2, 256, 256),
    ],
)
def test_a_fitted_video_has_the_nearest_length(num_frames, stride, max_frames, length):
    found = sampling.fitted(num_frames, stride, max_frames)
    assert found.tolist() == [sampling.linspace(num_frames, length).tolist()]


def test_fitted_by_hand():
    assert sampling.fitted(3, 1, 8).tolist() == [[0, 0, 0, 0, 1, 1, 1, 2]]
    assert sampling.fitted(8, 1, 8).tolist() == [list(range(8))]
    assert sampling.fitted(10, 1, 10).tolist() == [[0, 1, 2, 3, 5, 6, 7, 9]]
    assert sampling.fitted(15, 1, 14).tolist() == [list(range(8)), list(range(7, 15))]  # clips of 8
    assert sampling.fitted(33, 2, 16)[:, 0].tolist() == [0, 2]  # 17 frames at its stride: two clips of 16
    assert "8 to 96 frames" in sampling.fitted_in_words(100)
    with pytest.raises(UserError, match="max_frames=7: must be at least 8"):
        sampling.fitted(3, 1, 7)


@given(st.integers(1, 3000), st.integers(1, 5), st.integers(8, 700))
def test_fitted_videos_are_shown_from_end_to_end(num_frames, stride, max_frames):
    found = sampling.fitted(num_frames, stride, max_frames)
    frames, length = -(-num_frames // stride), found.shape[1]
    assert found.dtype == np.int32 and length in sampling.LENGTHS and length <= max_frames
    assert found[0, 0] == 0 and (np.diff(found, axis=1) >= 0).all()
    if frames <= max_frames:
        assert len(found) == 1 and found[0, -1] == num_frames - 1
        allowed = [other for other in sampling.LENGTHS if other <= max_frames]
        nearest = min(abs(np.log(other / frames)) for other in allowed)
        assert abs(np.log(length / frames)) == pytest.approx(nearest)
        assert frames < 28 or 0.8 <= length / frames <= 1.25 or length == allowed[-1]
    else:
        assert length == max(other for other in sampling.LENGTHS if other <= max_frames)
        assert len(found) == -(-frames // length) and num_frames - found[-1, -1] <= stride
        assert (np.diff(found, axis=1) == stride).all()


@given(st.integers(1, 400), st.integers(1, 70), st.integers(0, 2**32))
def test_segments_stay_in_their_parts(num_frames, frames, seed):
    found = sampling.segments(num_frames, frames, np.random.default_rng(seed))
    assert (np.diff(found) >= 0).all()
    part = np.arange(frames)
    assert (found >= part * num_frames // frames).all()
    assert (found * frames < np.maximum((part + 1) * num_frames, found * frames + 1)).all()
    if num_frames <= frames:
        assert set(found) == set(range(num_frames))


def test_dense_starts_are_uniform():
    rng = np.random.default_rng(0)
    starts = [int(sampling.dense(12, 4, 2, rng)[0]) for _ in range(3000)]
    counts = np.bincount(starts, minlength=6)
    assert len(counts) == 6
    assert np.abs(counts - 500).max() < 5 * np.sqrt(500)


@pytest.mark.parametrize("length, frames", [(1, 4), (3, 4), (16, 16), (100, 16), (99, 2), (50, 1)])
def test_linspace_goes_from_the_first_frame_to_the_last(length, frames):
    found = sampling.linspace(length, frames)
    assert found.dtype == np.int32 and found[0] == 0 and (np.diff(found) >= 0).all()
    assert found[-1] == (length - 1 if frames > 1 else 0)
    assert found.tolist() == [int((length - 1) * i / max(frames - 1, 1)) for i in range(frames)]


def test_a_video_without_a_rate_keeps_its_frames():
    video = VideoRecord("a", 0, 7, 8, 8, {}, fps=0.0)
    assert sampling.axis(video, 15.0).tolist() == list(range(7))
    at_30 = dataclasses.replace(video, fps=30.0)
    assert sampling.axis(at_30, 15.0).tolist() == [0, 2, 4]
    assert sampling.axis(at_30, None).tolist() == list(range(7))
    late = dataclasses.replace(video, fps=10.0, times=np.array([0, 0.1, 0.2, 0.3, 0.9, 1.0, 1.1]))
    assert sampling.axis(late, 5.0).tolist() == [0, 2, 3, 3, 3, 5]
