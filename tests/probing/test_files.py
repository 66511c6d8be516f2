"""The content of videos, wherever it lies: the same frames and the same hash as of a plain file."""

import hashlib
import shutil
import zipfile
from pathlib import Path

import cv2
import fake_data
import numpy as np
import pytest
from fake_videos import write_video
from list_files import touch

from r23d_jax.data.video import VideoError
from r23d_jax.errors import UserError
from r23d_jax.inference import clips
from r23d_jax.probing.data import open_data


@pytest.fixture
def folder(tmp_path):
    """Two classes of two videos; those of `b` are the same."""
    for seed, name in enumerate(("a/1", "a/2", "b/1")):
        write_video(tmp_path / f"{name}.mkv", count=4 + seed, seed=seed)
    shutil.copy(tmp_path / "b/1.mkv", tmp_path / "b/2.mkv")
    return tmp_path


def same(one: clips.Scanned, other: clips.Scanned) -> bool:
    fields = [(s.count, s.fps, s.size, s.flow, s.notes, s.frame_times is None) for s in (one, other)]
    return fields[0] == fields[1] and all(map(np.array_equal, one.frames, other.frames))


@pytest.mark.parametrize("resize, flow", [((16, 20), None), (24, None), (None, "farneback")])
def test_a_file_is_scanned_as_predict_does(folder, resize, flow):
    data = open_data(folder)
    for index, video in enumerate(data.videos):
        alone = clips.scan(folder / video.shown, resize, flow=flow)
        assert same(data.scan(index, resize, flow), alone) and data.scan(index, resize, flow).path == alone.path


def test_the_hash_is_of_the_content_alone(folder):
    data = open_data(folder)
    hashes = [data.content_sha256(index) for index in range(4)]
    assert hashes[0] == hashlib.sha256((folder / "a/1.mkv").read_bytes()).hexdigest()
    assert hashes[2] == hashes[3] and len(set(hashes)) == 3


def test_a_video_in_an_archive_is_the_file(folder):
    with zipfile.ZipFile(folder / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.glob("?/*.mkv")):
            archive.write(path, path.relative_to(folder))
    (folder / "packed").mkdir()
    (folder / "all.zip").rename(folder / "packed/all.zip")
    packed, plain = open_data(folder / "packed"), open_data(folder)
    assert [video.name for video in packed.videos] == [video.name for video in plain.videos]
    for index in range(4):
        assert packed.content_sha256(index) == plain.content_sha256(index)
        for flow in (None, "farneback"):
            assert same(packed.scan(index, (16, 20), flow), plain.scan(index, (16, 20), flow))
    (folder / "packed/all.zip").write_bytes(b"")
    with pytest.raises(VideoError, match="all.zip/a/1.mkv: is damaged in the archive"):
        packed.scan(0, 16)


def write_pictures(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, 1):
        cv2.imwrite(str(folder / f"img_{number:05d}.png"), frame[..., ::-1])


def test_pictures_are_a_video(tmp_path):
    frames = fake_data.pixels(0, 4, 24, 32)
    write_pictures(tmp_path / "a/1", frames)
    write_pictures(tmp_path / "a/2", frames)
    write_pictures(tmp_path / "b/3", frames[::-1])
    data = open_data(tmp_path)
    assert data.notes == ("pictures do not say their frame rate; 25 a second is assumed",)
    scanned = data.scan(0, None)
    assert (scanned.count, scanned.fps, scanned.size, scanned.times) == (4, 25.0, (24, 32), None)
    assert np.array_equal(scanned.frames, frames)
    assert np.array_equal(data.scan(2, None).frames, frames[::-1])
    small = data.scan(0, (12, 16))
    assert small.size == (12, 16) and small.frames[0].shape == (12, 16, 3)
    assert data.content_sha256(0) == data.content_sha256(1) != data.content_sha256(2)
    flow = data.scan(0, None, "farneback")
    ((_, fields),) = clips.read_clips(flow, np.arange(flow.count)[None])
    assert fields.shape == (3, 24, 32, 2) and np.array_equal(fields, clips.scale(frames, None, "farneback"))


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/broken.mp4").write_bytes(b"no video at all")
    write_video(tmp_path / "a/gone.mkv", count=2)
    write_pictures(tmp_path / "b/one", np.zeros((1, 16, 16, 3), np.uint8))
    touch(tmp_path / "b/cut", "img_1.jpg")
    data = open_data(tmp_path)
    (tmp_path / "a/gone.mkv").unlink()
    with pytest.raises(VideoError, match="a/broken.mp4: is no readable video"):
        data.scan(0, 16)
    with pytest.raises(VideoError, match="a/gone.mkv: does not exist"):
        data.scan(1, 16)
    with pytest.raises(VideoError, match="a/gone.mkv: cannot be read .No such file"):
        data.content_sha256(1)
    with pytest.raises(VideoError, match="b/cut: holds img_1.jpg, which"):
        data.scan(2, 16)
    with pytest.raises(VideoError, match="b/one: holds one frame only, and optical flow needs two"):
        data.scan(3, 16, "tvl1")
    (tmp_path / "b/one/img_00001.png").unlink()
    with pytest.raises(VideoError, match="b/one: cannot be read .No such file"):
        data.scan(3, 16)


@pytest.mark.parametrize("flow", [None, "farneback"])
def test_a_built_set_gives_its_frames_as_stored(tmp_path, flow):
    fake_data.write(tmp_path, classes=2, groups=3, frames=5, vary=True, flow=flow)
    data = open_data(f"rgb@{tmp_path}")
    assert (data.channels, data.flow) == ("flow" if flow else "rgb", flow)
    for index, position in enumerate(data.positions):
        record = data.dataset.videos[position]
        scanned = data.scan(index, (999, 999), flow)
        assert (scanned.count, scanned.fps, scanned.size) == (record.num_frames, 25.0, (record.height, record.width))
        out = np.empty((record.num_frames, *data.dataset.canvas, data.dataset.num_channels), np.uint8)
        data.dataset.decode(position, range(record.num_frames), out)
        assert np.array_equal(scanned.frames, out[:, : record.height, : record.width])
        ((_, read),) = clips.read_clips(scanned, np.arange(record.num_frames)[None])
        assert np.array_equal(read, scanned.frames)
    with pytest.raises(UserError, match="tfds_ucf101/rgb/1.1.0 holds .*, and .* are asked for"):
        data.scan(0, None, "tvl1")


def test_the_hash_of_a_built_video_is_of_its_frames_and_times(tmp_path):
    fake_data.write(tmp_path / "new", classes=2, groups=3, frames=4)
    fake_data.write(tmp_path / "old", classes=2, groups=3, frames=4, index_format=1)
    new, old = open_data(f"rgb@{tmp_path}/new"), open_data(f"rgb@{tmp_path}/old")
    hashes = [new.content_sha256(index) for index in range(6)]
    assert len(set(hashes)) == 6 and hashes == [new.content_sha256(index) for index in range(6)]
    assert len({old.content_sha256(index) for index in range(6)}) == 6
    (new.dataset.path / "videos.npz").write_bytes(b"damaged")
    again = type(new.reader)(new.dataset, new.positions)
    with pytest.raises(UserError, match="videos.npz: damaged"):
        again.content_sha256(0)
