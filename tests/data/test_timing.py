"""When frames are shown: time stamps of every container, whether they vary, and resampling by them."""

from fractions import Fraction

import numpy as np
import pytest
from odd_videos import changing_rate, write

from r23d_jax.data import sampling, timing
from r23d_jax.data.timing import Clock
from r23d_jax.data.video import Video
from tfds_ucf101 import frames
from tfds_ucf101.media import VideoFile
from tfds_ucf101.stored import FrameOptions


def clock(ticks, base, dts=None):
    made = Clock(Fraction(base))
    for pts, other in zip(ticks, dts or [None] * len(ticks), strict=True):
        made.add(pts, other)
    return made


def varies(ticks, base):
    made = clock(ticks, base)
    return made.varies(made.seconds())


RATES = [Fraction(r) for r in (1, 10, 12, 15, "24000/1001", 24, 25, "30000/1001", 30, 50, "60000/1001", 120, 240)]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("base", [1000, 90_000, 12_800, 1_000_000])
@pytest.mark.parametrize("rounding", [round, int, lambda value: -int(-value // 1)])
def test_rounding_to_the_time_base_is_no_variable_rate(rate, base, rounding):
    for count in (1, 2, 3, 10, 1000):
        even = [rounding(Fraction(n) * base / rate) for n in range(count)]
        assert not varies(even, Fraction(1, base))
    dropped = even[:500] + even[501:]
    assert varies(dropped, Fraction(1, base))
    assert varies(even[:1] + even[2:], Fraction(1, base)) and varies(even[:-2] + even[-1:], Fraction(1, base))
    doubled = even[:500] + [(even[499] + even[500]) // 2] + even[500:]
    if doubled[499] < doubled[500] < doubled[501]:
        assert varies(doubled, Fraction(1, base))


def test_a_gif_counts_in_hundredths():
    assert not varies([round(100 * n / 30) for n in range(100)], Fraction(1, 100))
    assert not varies([round(100 * n / 12.5) for n in range(100)], Fraction(1, 100))
    assert varies([10, 20, 30, 90, 100], Fraction(1, 100))


def test_jitter_below_half_a_frame_is_no_variable_rate():
    rng = np.random.default_rng(0)
    jitter = [int(3000 * n + rng.integers(-500, 500)) for n in range(300)]
    assert not varies(jitter, Fraction(1, 90_000))


def test_stamps_of_decoding_stand_in_for_disordered_ones():
    disordered = [1, 3, 2, 4, 6, 7, 5]
    made = clock(disordered, Fraction(1, 25), [2, 3, 4, 5, 6, 7, 8])
    np.testing.assert_allclose(made.seconds(), np.arange(7) / 25)
    assert made.rate(made.seconds()) == pytest.approx(25)
    for dts in ([None] * 7, [1, 2, 2, 3, 4, 5, 6]):
        made = clock(disordered, Fraction(1, 25), dts)
        assert made.seconds() is None and made.rate(None) == pytest.approx(25)


def test_missing_stamps_say_nothing():
    assert clock([0, None, 2], 1).seconds() is None and clock([None, None], 1).rate(None) is None
    assert clock([], 1).seconds() is None and clock([5], 1).seconds().tolist() == [0]
    assert clock([5], 1).rate(np.zeros(1)) is None


def test_a_gap_of_an_hour_is_an_error_of_the_clock():
    """Clips of a given rate would show the one frame for days."""
    assert clock([0, 90_000, 95_443 * 90_000], Fraction(1, 90_000)).seconds() is None
    assert clock([0, 90_000, 600 * 90_000], Fraction(1, 90_000)).seconds().tolist() == [0, 1, 600]


# --- resampling -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fps", "wanted"), [(30, 15), (30, 25), (25, 25), (10, 20), (25, 30), (30, 10), (24, 16)])
def test_even_times_give_what_a_rate_gives(fps, wanted):
    for count in (1, 2, 7, 100):
        times = np.arange(count) / fps
        by_rate = sampling.resample(count, fps, wanted)
        np.testing.assert_array_equal(sampling.resample(count, fps, wanted, times), by_rate)
        milliseconds = sampling.resample(count, fps, wanted, np.round(1000 * times) / 1000)
        np.testing.assert_array_equal(milliseconds, by_rate)


def test_at_each_moment_the_frame_shown_then():
    times = np.array([0, 1, 2, 2.1, 2.2, 2.3])
    assert sampling.resample(6, 2.2, 2.0, times).tolist() == [0, 0, 1, 1]
    assert sampling.resample(6, 2.2, 10.0, times).tolist() == [0] * 10 + [1] * 10 + [2, 3, 4, 5]
    assert sampling.resample(6, 2.2, None, times).tolist() == [0, 1, 2, 3, 4, 5]
    assert sampling.resample(1, 2.0, 4.0, np.zeros(1)).tolist() == [0, 0]
    assert sampling.resample(6, 2.2, 0.1, times).tolist() == [0]
    assert timing.end_of(times, 2.2) == pytest.approx(2.4) and timing.end_of([0.0], 4) == 0.25


def test_milliseconds_of_a_dropped_frame_neither_drop_nor_double_others():
    times = np.array([round(1000 * n / 30) / 1000 for n in range(90) if n != 40])
    indices = sampling.resample(89, 29.7, 30.0, times)
    assert indices.tolist() == [*range(40), 39, *range(40, 89)]


def test_the_first_two_seconds_have_as_many_frames_as_the_axis_asks():
    """167 frames, most of them in a short part: counting frames would take them at the average rate."""
    times = np.concatenate([np.arange(100) / 60, 100 / 60 + np.arange(67) / 10])
    indices = sampling.resample(167, 20.0, 25.0, times)
    assert (np.arange(len(indices)) / 25 < 2).sum() == 50
    shown = times[indices]
    assert (shown <= np.arange(len(indices)) / 25 + 1e-3).all()
    assert (np.arange(len(indices)) / 25 - shown < 0.101).all()


# --- videos ---------------------------------------------------------------------------------------------


def times_of(path, threads=0):
    with Video(path, threads=threads) as video:
        count = len(list(video.frames()))
        return count, video.fps, video.times


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
@pytest.mark.parametrize("name", ["a.avi", "a.mkv", "a.mp4", "a.mov", "a.ts", "a.mpg", "a.flv", "a.asf", "a.h264"])
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30_000, 1001), Fraction(12)])
def test_a_constant_rate_is_constant_in_every_container(tmp_path, codec, name, rate):
    codec = {"a.mpg": "mpeg2video", "a.flv": "libx264", "a.h264": "libx264", "a.ts": "libx264"}.get(name, codec)
    if codec == "mpeg2video" and rate == 12:
        rate = Fraction(24)  # a rate that MPEG-2 has
    path = write(tmp_path / name, 60, codec, rate=rate, max_b_frames=2)
    for threads in (0, 1):
        count, fps, times = times_of(path, threads)
        assert times is None and count == 60
        if name != "a.h264":  # which has no times at all
            assert fps == pytest.approx(float(rate), rel=0.012)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.mov"])
@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_a_variable_rate_is_told_with_its_times(tmp_path, name, codec):
    if codec == "ffv1" and name != "a.mkv":
        codec = "mpeg4"
    wanted = changing_rate()
    path = write(tmp_path / name, 130, codec, times=wanted)
    count, fps, times = times_of(path)
    assert count == 130 and times.dtype == np.float64
    np.testing.assert_allclose(times, np.array(wanted) / 1000, atol=2e-3)
    assert fps == pytest.approx(129 / times[-1], rel=0.02)


@pytest.mark.parametrize("flow", [None, "farneback"])
def test_times_are_stored_where_the_rate_varies(tmp_path, flow):
    wanted = changing_rate()
    options = FrameOptions((24, 32), 90, 1, 25.0, flow)
    stored = frames.encode(VideoFile(str(write(tmp_path / "a.mkv", 130, "ffv1", times=wanted))), options)
    assert len(stored.frames) == len(stored.times) == 130 - bool(flow) and stored.times.dtype == np.float64
    np.testing.assert_allclose(stored.times, np.array(wanted)[: len(stored.times)] / 1000)
    assert stored.findings == {"variable_rate": 1}
    even = frames.encode(VideoFile(str(write(tmp_path / "b.mkv", 30, "ffv1"))), options)
    assert even.times is None and even.findings == {}
