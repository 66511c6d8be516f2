"""Time stamps decide where the frame rate varies: in clips, windows, timeline, features and annotated copies."""

import csv

import numpy as np
import pytest
from fake_videos import SPEC, write_checkpoint
from odd_videos import changing_rate, psnr, scene, set_matrix, write
from PIL import Image

from r23d_jax import features, predict
from r23d_jax.data import sampling
from r23d_jax.data.video import Video, read_rgb
from r23d_jax.inference import classifier, clips, sources
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.viz import overlay

TIMES = np.array(changing_rate()) / 1000  # 10 frames at 1 a second, then 120 at 30
END = TIMES[-1] + TIMES[-1] - TIMES[-2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write(tmp_path_factory.mktemp("videos") / "a.mkv", 130, "ffv1", times=changing_rate())


def constant(count, fps):
    return clips.Scanned("x", count, fps, (4, 4), None)


@pytest.mark.parametrize("fps", [10.0, 25.0, 30_000 / 1001, 23.7])
@pytest.mark.parametrize("wanted", [None, 8.0, 25.0, 30.0])
def test_a_constant_rate_is_counted_as_ever(fps, wanted):
    """By the number of the frame, bit for bit: what was evaluated stays comparable."""
    for count in (1, 7, 100, 1001):
        moments = max(1, int(count * (wanted or fps) / fps + 1e-6))
        by_number = np.minimum((np.arange(moments) * (fps / (wanted or fps)) + 1e-6).astype(np.int64), count - 1)
        axis = np.arange(count) if wanted is None else by_number
        np.testing.assert_array_equal(sampling.resample(count, fps, wanted), axis)
        spec = Preprocessing(resize=8, crop=8, frames=4, fps=wanted)
        plan = clips.plan(constant(count, fps), spec, "dense")
        np.testing.assert_array_equal(plan.indices, axis[sampling.every(len(axis), 4, 1)])
        assert plan.start_seconds.tobytes() == (plan.indices[:, 0] / fps).tobytes()
        assert plan.windows[0][:2] == (0.0, count / fps)


def test_scanning_finds_the_times(video):
    scanned = clips.scan(video, None)
    np.testing.assert_allclose(scanned.times, TIMES)
    assert scanned.seconds == pytest.approx(END) and scanned.fps == pytest.approx(129 / TIMES[-1])
    np.testing.assert_allclose(scanned.at(np.array([[0, 9], [10, 129]])), TIMES[[[0, 9], [10, 129]]])
    field = clips.scan(video, (24, 32), flow="farneback")
    assert field.count == 129 and len(field.frame_times) == 130
    np.testing.assert_allclose(field.times, TIMES[:-1])


@pytest.mark.parametrize("rate", [2.0, 10.0, 25.0])
def test_clips_at_a_rate_show_the_frames_of_their_moments(video, rate):
    scanned = clips.scan(video, None)
    plan = clips.plan(scanned, Preprocessing(resize=8, crop=8, frames=5, fps=rate), "dense")
    moments = np.arange(5 * len(plan.indices)) / rate
    shown = plan.indices.ravel()
    assert (TIMES[shown] <= moments + 1e-3).all()
    assert (np.append(TIMES, END)[shown + 1] > moments - 1e-3).all()
    assert moments[-1] == pytest.approx(END, abs=5 / rate)
    np.testing.assert_allclose(plan.start_seconds, TIMES[plan.indices[:, 0]])


def test_clips_of_neighbouring_frames_say_when_they_start(video):
    plan = clips.plan(clips.scan(video, None), Preprocessing(resize=8, crop=8, frames=4), "dense")
    assert plan.indices[:3].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    np.testing.assert_allclose(plan.start_seconds, TIMES[plan.indices[:, 0]])
    assert plan.windows[0][:2] == (0.0, pytest.approx(END))


@pytest.mark.parametrize("rate", [None, 10.0])
@pytest.mark.parametrize("flow", [None, "farneback"])
def test_windows_are_of_time(video, rate, flow):
    """At 1.0 s stands frame 1, not frame 9, whose time is 9.0 s."""
    scanned = clips.scan(video, (24, 32), flow=flow)
    plan = clips.sliding(scanned, Preprocessing(resize=8, crop=8, frames=4, fps=rate), window=2.0, step=1.0)
    for start, end, rows in plan.windows:
        shown = TIMES[plan.indices[rows]]
        assert shown.max() < end and shown.min() > start - 1.001  # a frame is shown up to a second after its time
    lengths = [end - start for start, end, _ in plan.windows]
    assert min(lengths) > 1.9 and max(lengths) < 2.1
    first = plan.indices[plan.windows[1][2]]
    assert set(first.ravel()) <= {0, 1, 2} and plan.windows[-1][1] == pytest.approx(END, abs=0.15)


@pytest.fixture
def told(run, weights, video, tmp_path):
    """Runs `predict` and returns the rows of its timeline."""

    def told(*arguments):
        timeline = ("--timeline", tmp_path / "t.csv", "--window", 2, "--step", 1)
        status, _, err = run(predict.main, "--checkpoint", weights, video, *timeline, *arguments)
        assert (status, err) == (0, "")
        return list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))

    return told


def test_timeline_and_annotated_copy_keep_the_time(told, tmp_path):
    rows = told("--annotate", tmp_path / "a.mp4", "--cam")
    starts = np.array([float(row["start_seconds"]) for row in rows])
    assert len(rows) == pytest.approx(END - 1, abs=1) and np.diff(starts).max() < 1.1
    with Video(tmp_path / "a.mp4") as copy:
        assert len(list(copy.frames())) == 130
        np.testing.assert_allclose(copy.times, TIMES, atol=1e-3)


def test_an_annotated_gif_keeps_the_time(told, tmp_path):
    told("--annotate", tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        durations = []
        for number in range(gif.n_frames):
            gif.seek(number)
            durations.append(gif.info["duration"] / 1000)
    assert sum(durations) == pytest.approx(END, abs=0.05)
    np.testing.assert_allclose(durations[:10], 1.0)
    assert min(durations[10:-1]) >= 0.06 and len(durations) == pytest.approx(10 + 60, abs=2)


def test_features_say_when_clips_start(run, weights, video, tmp_path):
    assert run(features.main, "--checkpoint", weights, "--out", tmp_path, video)[0] == 0
    with np.load(tmp_path / "a.npz") as arrays:
        plan = clips.plan(clips.scan(video, None), SPEC, "dense")
        np.testing.assert_allclose(arrays["start_seconds"], TIMES[plan.indices[:, 0]])
        assert arrays["fps"] == pytest.approx(129 / TIMES[-1])


def test_segments_of_a_copy_change_with_the_time(weights, video, tmp_path):
    """The label of 9.5 s on is seen on the frames from 10.0 s on."""
    segments = [overlay.Segment(0.0, 9.5, [("dark", 0.0)]), overlay.Segment(9.5, 14.0, [("bright", 1.0)])]
    overlay.write(tmp_path / "a.mp4", video, 9.3, segments, times=TIMES)
    frames, _ = read_rgb(tmp_path / "a.mp4")
    bars = frames[:, -60:].astype(int).sum(axis=(1, 2, 3))
    change = np.flatnonzero(np.abs(np.diff(bars)) > 0.5 * np.abs(np.diff(bars)).max())
    assert change.tolist() == [9]


def test_heat_lies_on_the_frames_of_its_clip(weights, video):
    network = classifier.load(weights)
    (prediction,) = network.iter_predictions([sources.VideoSource(video, video)], sliding=(2.0, 1.0))
    heat = overlay.class_heat(network, prediction.result, 0)
    assert all(heat.at(frame) is not None for frame in range(10))
    clip_of, place_of = overlay._clips_by_frame(np.asarray([[0, 0, 0, 1, 1, 3]]), 6, None)
    assert clip_of.tolist() == [0, 0, 0, 0, 0, -1] and place_of.tolist() == [2, 4, 4, 5, 5, -1]


def test_copies_are_upright_and_in_square_pixels(tmp_path):
    plain = write(tmp_path / "a.mp4", 3, "libx264", size=(240, 320))
    odd = write(tmp_path / "b.mp4", 3, "libx264", size=(240, 160), sample_aspect_ratio=2)
    copies = []
    for path, matrix in ((plain, None), (odd, None), (plain, (-1, 0, 0, 1))):
        if matrix:
            set_matrix(path, *matrix)
        overlay.write(tmp_path / "copy.mp4", path, 25.0, [overlay.Segment(0.0, 1.0, [("a", 0.5)])])
        copies.append(read_rgb(tmp_path / "copy.mp4")[0][:, :240])
    assert copies[0].shape == copies[1].shape == copies[2].shape == (3, 240, 320, 3)
    assert psnr(copies[0][1], scene(1, 240, 320)) > 25
    assert psnr(copies[2], copies[0][:, :, ::-1]) > 25


def test_an_array_has_a_constant_rate():
    scanned = clips.scan_array(np.zeros((5, 8, 8, 3), np.uint8), 10.0, None)
    assert scanned.times is None and scanned.notes == () and scanned.seconds == 0.5
