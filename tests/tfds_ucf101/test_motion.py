"""The rendered set: twins are one set of frames, nothing but order names the class, and the motion shows."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from r23d_jax.errors import UserError
from tfds_ucf101 import motion

GROUPS, CLIPS = 3, 2


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("motion")
    motion.render(out, seed=3, groups=GROUPS, clips=CLIPS)
    return out


def _path(root: Path, name: str, group: int, clip: int) -> Path:
    return root / "videos" / name / f"v_{name}_g{group:02d}_c{clip:02d}.avi"


def _packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def _frames(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def _twins(root: Path):
    for first, second in motion.PAIRS:
        for group in range(1, GROUPS + 1):
            for clip in range(1, CLIPS + 1):
                yield _path(root, first, group, clip), _path(root, second, group, clip)


def test_classes_are_the_pairs():
    assert len(motion.PAIRS) == 4
    assert sorted(sum(motion.PAIRS, ())) == list(motion.CLASSES) and len(set(motion.CLASSES)) == 8
    for first, second in motion.PAIRS:
        assert (first in motion.FLIP_SENSITIVE) == (second in motion.FLIP_SENSITIVE)
    assert set(motion.FLIP_SENSITIVE) < set(motion.CLASSES)


def test_every_video_is_there_and_nothing_else(rendered):
    expected = {path for twins in _twins(rendered) for path in twins}
    assert {path for path in rendered.rglob("*") if path.is_file()} == expected
    assert len(expected) == 8 * GROUPS * CLIPS


def test_twins_are_the_same_packets_reversed(rendered):
    for first, second in _twins(rendered):
        assert _packets(first) == _packets(second)[::-1]


def test_twins_are_the_same_frames_reversed(rendered):
    for first, second in _twins(rendered):
        one, two = _frames(first), _frames(second)
        assert one.shape == (motion.FRAMES, motion.SIZE, motion.SIZE, 3)
        assert sorted(frame.tobytes() for frame in one) == sorted(frame.tobytes() for frame in two)
        np.testing.assert_array_equal(one, two[::-1])


def test_no_unordered_statistic_tells_twins_apart(rendered):
    for first, second in _twins(rendered):
        one, two = (_frames(path).astype(np.int64) for path in (first, second))
        np.testing.assert_array_equal(one.sum(0), two.sum(0))
        np.testing.assert_array_equal((one**2).sum(0), (two**2).sum(0))
        # Clip by clip as well: the evaluation's clips of one are those of the other, in reverse.
        for length in (8, 16):
            sums = [video.reshape(-1, length, *video.shape[1:]).sum(1) for video in (one, two)]
            np.testing.assert_array_equal(sums[0], sums[1][::-1])


def test_nothing_beside_the_frames_tells_twins_apart(rendered):
    for first, second in _twins(rendered):
        one, two = first.stat(), second.stat()
        assert (one.st_size, one.st_mtime_ns, one.st_mode) == (two.st_size, two.st_mtime_ns, two.st_mode)
        data, other = first.read_bytes(), second.read_bytes()
        body = data.index(b"movi")
        assert data[:body] == other[:body], "the containers' headers differ"
        facts = []
        for path in (first, second):
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                times = [(p.pts, p.duration, p.is_keyframe) for p in container.demux(stream) if p.size]
                facts.append((stream.frames, stream.average_rate, container.metadata, stream.metadata, times))
        assert facts[0] == facts[1]
        assert facts[0][0] == motion.FRAMES


def test_frames_fill_clips_of_8_and_16_and_none_is_repeated(rendered):
    assert motion.FRAMES % 16 == 0
    for first, _ in _twins(rendered):
        assert len({frame.tobytes() for frame in _frames(first)}) == motion.FRAMES


def test_no_two_videos_share_a_frame_or_a_background(rendered):
    """Over groups, clips and pairs alike: what is learnt of one video is of no use for another."""
    seen: set[bytes] = set()
    still = []
    for first, _ in _twins(rendered):
        video = _frames(first)
        frames = {frame.tobytes() for frame in video}
        assert not frames & seen
        seen |= frames
        still.append(np.median(video, axis=0).astype(np.float32))
    for index, one in enumerate(still):
        for two in still[:index]:
            assert np.abs(one - two).mean() > 8


def test_one_seed_is_one_data_set_whatever_the_workers(rendered, tmp_path):
    motion.render(tmp_path, seed=3, groups=1, clips=1, workers=1)
    for path in tmp_path.rglob("*.avi"):
        assert path.read_bytes() == (rendered / path.relative_to(tmp_path)).read_bytes()


def test_another_seed_is_another_data_set(rendered, tmp_path):
    motion.render(tmp_path, seed=4, groups=1, clips=1)
    for path in tmp_path.rglob("*.avi"):
        assert not set(_packets(path)) & set(_packets(rendered / path.relative_to(tmp_path)))


def test_render_clip_depends_on_its_arguments_only():
    for pair in range(len(motion.PAIRS)):
        one, two = (motion.render_clip(pair, np.random.default_rng(5), 8, 48) for _ in range(2))
        assert one.shape == (8, 48, 48, 3) and one.dtype == np.uint8
        np.testing.assert_array_equal(one, two)


def _evidence(clip: np.ndarray, pair: int) -> float:
    """Optical flow of a clip along the motion of the pair's first class: positive where it shows that class.

    In pixels a frame, Farneback's flow, the mean over the frame with its still background.
    """
    side = clip.shape[1]
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip]
    flow = np.stack(
        [
            cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 3, 13, 3, 7, 1.5, 0)
            for a, b in zip(grey[:-1], grey[1:], strict=True)
        ]
    )
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    radius = np.hypot(x, y) + 1e-6
    zero = np.zeros_like(x)
    # y points down: (-y, x) turns clockwise on the screen.
    along = ((zero - 1, zero), (zero, zero - 1), (-y / radius, x / radius), (x / radius, y / radius))[pair]
    return float((flow * np.stack(along, -1)).sum(-1).mean())


def test_every_clip_shows_its_class(rendered):
    """The flow has the labelled direction in (nearly) all clips of 8 consecutive frames, of both twins."""
    right = []
    for first, second in _twins(rendered):
        pair = next(i for i, names in enumerate(motion.PAIRS) if first.parent.name == names[0])
        for path, sign in ((first, 1), (second, -1)):
            video = _frames(path)
            right += [sign * _evidence(video[t : t + 8], pair) > 0.2 for t in range(0, motion.FRAMES, 8)]
    assert np.mean(right) >= 0.98, f"{np.mean(right):.3f} of {len(right)} clips"


def test_either_direction_is_rendered_first_in_half_of_the_videos(monkeypatch):
    """The rendered direction is drawn, and the frames handed out always show the pair's first class."""
    signs = []
    poses = motion._poses

    def record(pair, rng, frames, size, sign):
        signs.append(sign)
        return poses(pair, rng, frames, size, sign)

    monkeypatch.setattr(motion, "_poses", record)
    for seed in range(60):
        motion.render_clip(seed % 4, np.random.default_rng(seed), 2, 32)
    assert 15 <= signs.count(1) <= 45 and len(signs) == 60


def test_progress_counts_every_video(tmp_path):
    counted: list[int] = []
    motion.render(tmp_path, groups=1, clips=1, frames=8, size=32, progress=counted.append)
    assert sum(counted) == 8


@pytest.mark.parametrize(
    "wrong", [{"groups": 0}, {"clips": 100}, {"frames": 1}, {"size": 63}, {"size": 16}, {"seed": -1}]
)
def test_numbers_out_of_range_are_named(tmp_path, wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        motion.render(tmp_path, **wrong)
    assert not list(tmp_path.iterdir())
