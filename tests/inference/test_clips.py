"""Which frames of a file make a clip, how they are read, and which files are meant."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from fake_videos import SPEC, write_video
from paths import REAL

from r23d_jax import errors
from r23d_jax.data import sampling, views
from r23d_jax.data import video as videos
from r23d_jax.data.dataset import VideoRecord
from r23d_jax.inference import clips as video_clips
from r23d_jax.inference import protocol, sources
from r23d_jax.transforms import spec as specs
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.viz import overlay
from r23d_jax.weights.card import Card

EDGE = REAL / "clips" / "edge"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "one.mkv")


def scanned(count, fps=10.0):
    return video_clips.Scanned("x", count, fps, (4, 4), None)


def test_resampling_keeps_drops_and_repeats():
    assert sampling.resample(5, 25.0, None).tolist() == [0, 1, 2, 3, 4]
    assert sampling.resample(6, 30.0, 15.0).tolist() == [0, 2, 4]
    assert sampling.resample(6, 30.0, 25.0).tolist() == [0, 1, 2, 3, 4]
    assert sampling.resample(3, 10.0, 20.0).tolist() == [0, 0, 1, 1, 2, 2]
    assert sampling.resample(1, 30.0, 15.0).tolist() == [0]


def test_plan_dense_uniform_and_short():
    spec = Preprocessing(resize=8, crop=8, frames=4)
    dense = video_clips.plan(scanned(11), spec, "dense")
    assert dense.indices.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert dense.start_seconds.tolist() == [0.0, 0.4]
    assert dense.windows[0][:2] == (0.0, 1.1)
    uniform = video_clips.plan(scanned(11), spec, 3)
    assert uniform.indices[:, 0].tolist() == [0, 3, 7]
    assert video_clips.plan(scanned(3), spec, "dense").indices.tolist() == [[0, 1, 2, 0]]


def test_plan_of_whole_videos():
    spec = Preprocessing(resize=8, crop=8, frames=0, max_frames=6)
    assert video_clips.plan(scanned(5), spec, "dense").indices.tolist() == [[0, 1, 2, 3, 4]]
    longer = video_clips.plan(scanned(15), spec, "dense").indices
    assert longer.shape == (3, 6)
    assert set(longer.ravel()) == set(range(15))  # nothing of a whole video is left out
    at_half_rate = Preprocessing(resize=8, crop=8, frames=0, max_frames=6, fps=5.0)
    assert video_clips.plan(scanned(9), at_half_rate, "dense").indices.tolist() == [[0, 2, 4, 6]]


RATES = [(None, 1, 64), (25.0, 1, 64), (12.5, 1, 40), (30.0, 2, 20), (4.0, 1, 20)]


@pytest.mark.parametrize("fps, stride, max_frames", RATES)
def test_fitted_clips_of_a_file_are_those_of_a_built_set(fps, stride, max_frames):
    """Of constant and of varying rate, and as many shapes as there are lengths."""
    rng = np.random.default_rng(0)
    constant = [(count, rate, None) for count in (1, 2, 7, 30, 31, 64, 65, 200) for rate in (25.0, 30_000 / 1001)]
    varying = [(count, np.cumsum(rng.choice([0.02, 0.04, 0.3], count)) - 0.02) for count in (3, 29, 64, 150)]
    varying = [(count, (count - 1) / (times[-1] - times[0]), times - times[0]) for count, times in varying]
    records = [
        VideoRecord(f"v{place}", 0, count, 4, 4, {}, fps=rate, times=times)
        for place, (count, rate, times) in enumerate(constant + varying)
    ]
    options = {"stride": stride, "fps": fps, "max_frames": max_frames}
    spec = Preprocessing(resize=8, crop=8, frames=0, sampling="fitted", **options)
    positions = np.arange(len(records))[::-1]
    listed = views.plans(SimpleNamespace(videos=records), positions, frames=16, views="fitted", **options)
    lengths = [one.indices.shape[1] for one in listed]
    assert sorted(set(lengths)) == lengths and set(lengths) <= set(sampling.LENGTHS) and len(lengths) > 1
    for place, position in enumerate(positions):
        video = records[position]
        file = video_clips.Scanned("x", video.num_frames, video.fps, (4, 4), None, frame_times=video.times)
        of_file = video_clips.plan(file, spec).indices
        (of_set,) = [one.indices[one.video == place] for one in listed if (one.video == place).any()]
        np.testing.assert_array_equal(of_file, of_set)
        np.testing.assert_array_equal(of_file, video_clips.plan(file, spec, "fitted").indices)
        axis = sampling.axis(video, fps)
        np.testing.assert_array_equal(of_file, axis[sampling.fitted(len(axis), stride, max_frames)])


def test_windows_of_fitted_clips():
    spec = Preprocessing(resize=8, crop=8, frames=0, max_frames=32, sampling="fitted")
    plan = video_clips.sliding(scanned(100), spec, window=3.0, step=2.0)  # 30 frames each, played as 32
    assert plan.indices.shape == (5, 32) and [rows.tolist() for _, _, rows in plan.windows] == [[0], [1], [2], [3], [4]]
    assert (plan.indices[:, 0].tolist(), plan.indices[:, -1].tolist()) == ([0, 20, 40, 60, 70], [29, 49, 69, 89, 99])


def test_a_card_of_whole_videos_says_how_they_are_taken():
    spec = Preprocessing(resize=8, crop=8, frames=0, max_frames=100, fps=10.0, sampling="fitted")
    card = Card("r3d_18", {"num_classes": 3}, (), spec)
    assert "one clip of 8 to 96 frames, whichever of few lengths" in protocol.describe(card, None, "float32")
    assert "(of more than 100 frames: the clips of 96 that cover it) at 10 frames/s" in protocol.describe(
        card, "fitted", "float32"
    )
    assert "as many as cover it 100-frame clips" in protocol.describe(card, "dense", "float32")
    assert "all frames of stride 1 at 10 frames/s, fitted to one of few lengths" in specs.describe(spec)
    with pytest.raises(ValueError, match="sampling cannot be what it says"):
        Card.from_dict(dataclasses.replace(card, preprocessing=dataclasses.replace(spec, frames=16)).to_dict())
    with pytest.raises(ValueError, match="stride and max_frames cannot be what it says"):
        Card.from_dict(dataclasses.replace(card, preprocessing=dataclasses.replace(spec, max_frames=7)).to_dict())
    for fitting in (spec, dataclasses.replace(spec, max_frames=8)):
        fields = dataclasses.replace(card, preprocessing=fitting).to_dict()
        assert Card.from_dict(fields).preprocessing == fitting and fitting.views == "fitted"


def test_sliding_windows_share_clips_and_end_with_the_video():
    spec = Preprocessing(resize=8, crop=8, frames=4)
    plan = video_clips.sliding(scanned(21), spec, window=0.8, step=0.4)
    assert [(round(start, 3), round(end, 3)) for start, end, _ in plan.windows] == [
        (0.0, 0.8),
        (0.4, 1.2),
        (0.8, 1.6),
        (1.2, 2.0),
        (1.3, 2.1),
    ]
    firsts = [plan.indices[rows, 0].tolist() for _, _, rows in plan.windows]
    assert firsts == [[0, 4], [4, 8], [8, 12], [12, 16], [13, 17]]
    assert len(plan.indices) == 7
    assert len(video_clips.sliding(scanned(3), spec, 0.8, 0.4).windows) == 1
    with pytest.raises(errors.UserError, match="--window 0.2: shorter than this checkpoint's clip, which takes 0.40 s"):
        video_clips.sliding(scanned(21), spec, 0.2, 0.1)


@pytest.mark.parametrize("view", ["dense", 5])
def test_second_pass_gives_the_same_frames(clip, view):
    everything, fps = videos.read_rgb(clip, SPEC.resize)
    kept = video_clips.scan(clip, SPEC.resize)
    dropped = video_clips.scan(clip, SPEC.resize, keep_bytes=0)
    assert (kept.count, kept.fps, kept.size, dropped.frames) == (24, fps, (32, 44), None)
    spec = Preprocessing(resize=SPEC.resize, crop=28, frames=5, stride=2)
    plan = video_clips.plan(kept, spec, view)
    for source in (kept, dropped):
        read = dict(video_clips.read_clips(source, plan.indices))
        assert sorted(read) == list(range(len(plan.indices)))
        for row, frames in read.items():
            np.testing.assert_array_equal(frames, everything[plan.indices[row]])


def test_second_pass_holds_only_the_clips_at_hand(tmp_path, monkeypatch):
    path = write_video(tmp_path / "long.mkv", count=120)
    spec = Preprocessing(resize=16, crop=16, frames=4)
    source = video_clips.scan(path, spec.resize, keep_bytes=0)
    plan = video_clips.sliding(source, spec, 0.8, 0.2)
    alive, most = set(), 0

    class Counted(np.ndarray):
        def __del__(self):
            alive.discard(id(self))

    original = videos.Scaler.rgb

    def counted(*arguments):
        frame = original(*arguments).view(Counted)
        alive.add(id(frame))
        return frame

    monkeypatch.setattr(videos.Scaler, "rgb", counted)
    for _ in video_clips.read_clips(source, plan.indices):
        most = max(most, len(alive))
    assert most <= 8


@pytest.mark.skipif(not EDGE.is_dir(), reason="../shared/real/clips/edge is not there: no videos with rotation flags")
def test_rotated_videos_are_decoded_upright():
    sizes = [video_clips.scan(EDGE / f"video_{angle}.mov", 32).size for angle in (0, 90, 180, 270)]
    assert sizes == [(32, 56), (56, 32), (32, 56), (56, 32)]


def test_frames_that_a_clip_leaves_out_take_the_one_before():
    clip_of, place_of = overlay._clips_by_frame(np.asarray([[0, 2, 4], [7, 8, 7]]), 10, 2)
    assert clip_of.tolist() == [0, 0, 0, 0, 0, 0, -1, 1, 1, 1]
    assert place_of.tolist() == [0, 0, 1, 1, 2, 2, -1, 0, 1, 1]


def test_sources_of_patterns_links_and_doubles(tmp_path):
    for name in ("a/x.avi", "a/y.mp4", "b/x.avi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    found, problems = sources.find([str(tmp_path / "*" / "x.*"), str(tmp_path / "a" / "y.mp4"), str(tmp_path / "a")])
    assert [str(source.relative) for source in found[:3]] == ["a/x.avi", "b/x.avi", "y.mp4"]
    assert not problems and len({source.path for source in found}) == len(found)
    assert sources.outputs(found[:3], tmp_path, ".npz") == [tmp_path / n for n in ("a/x.npz", "b/x.npz", "y.npz")]


def test_outputs_of_namesakes(tmp_path):
    pair = [sources.VideoSource(tmp_path / name, sources.Path(name)) for name in ("a.avi", "a.mp4", "b.avi")]
    assert [path.name for path in sources.outputs(pair, tmp_path, ".npz")] == ["a.avi.npz", "a.mp4.npz", "b.npz"]
    clash = [sources.VideoSource(tmp_path / name / "a.avi", sources.Path("a.avi")) for name in "xy"]
    with pytest.raises(errors.UserError, match="x/a.avi and .*y/a.avi would both be written to"):
        sources.outputs(clash, tmp_path, ".npz")
