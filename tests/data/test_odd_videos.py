"""Pixels that are not square, several streams, cut and trimmed files, and what the build finds out about a video."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from odd_videos import copied, picture, psnr, scene, write

from r23d_jax.data.video import Video, probe, read_rgb
from r23d_jax.inference import clips
from tfds_ucf101 import frames
from tfds_ucf101.media import FrameFiles, VideoFile
from tfds_ucf101.stored import FINDINGS, FrameOptions


def store(path, resize=None, flow=None):
    return frames.encode(VideoFile(str(path)), FrameOptions(resize, 90, 1, 25.0, flow))


# --- pixels that are not square -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "ratio", "shown"),
    [
        ((512, 640), Fraction(64, 45), (512, 910)),
        ((480, 720), Fraction(32, 27), (480, 853)),
        ((480, 720), Fraction(8, 9), (480, 640)),
        ((48, 64), Fraction(1), (48, 64)),
        ((48, 64), Fraction(100), (48, 64)),
        ((48, 64), Fraction(1, 100), (48, 64)),
    ],
)
@pytest.mark.parametrize("name", ["a.avi", "a.mp4", "a.mkv"])
def test_square_pixels(tmp_path, size, ratio, shown, name):
    path = write(tmp_path / name, 2, size=size, sample_aspect_ratio=ratio)
    info = probe(path)
    assert (info.height, info.width) == shown
    assert read_rgb(path)[0].shape == (2, *shown, 3)
    assert clips.scan(path, None).size == shown
    stored = store(path)
    assert (stored.source_height, stored.source_width) == (stored.height, stored.width) == shown
    short = store(path, 24)
    assert (short.height, short.width) == (24, 24 * shown[1] // shown[0])


def test_the_density_of_print_of_a_picture_is_not_its_shape(tmp_path):
    (tmp_path / "0.jpg").write_bytes(picture(scene(0), dpi=(72, 144)))
    (tmp_path / "0.png").write_bytes(picture(scene(0), "PNG", dpi=(72, 144)))
    for ending in ("jpg", "png"):
        stored = frames.encode(FrameFiles(str(tmp_path), "", f".{ending}", 1, ((0, 0),)), FrameOptions(None, 90, 1, 25))
        assert (stored.height, stored.width) == (48, 64)
        assert probe(tmp_path / f"0.{ending}").width == 64


# --- several streams ------------------------------------------------------------------------------------


def two_streams(path, sizes=((120, 160), (240, 320)), default=None):
    with av.open(str(path), "w") as container:
        streams = []
        for number, size in enumerate(sizes):
            stream = container.add_stream("mpeg4", rate=25)
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            stream.disposition = av.stream.Disposition.default if number == default else av.stream.Disposition(0)
            streams.append(stream)
        for t in range(4):
            for stream, size in zip(streams, sizes, strict=True):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(scene(t, *size), "rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("default", "name", "chosen"), [(None, "a.mkv", 2), (None, "a.avi", 2), (0, "a.mkv", 1), (1, "a.mkv", 2)]
)
def test_the_default_or_largest_stream(tmp_path, default, name, chosen):
    path = two_streams(tmp_path / name, default=default)
    rgb, _ = read_rgb(path)
    assert rgb.shape == (4, 120 * chosen, 160 * chosen, 3)
    assert psnr(rgb[2], scene(2, *rgb.shape[1:3])) > 25
    with Video(path) as video:
        assert (video.streams, video.chosen) == (2, chosen)
    assert store(path).findings == {"streams": 2}
    assert clips.scan(path, 32).notes == (f"has 2 video streams; number {chosen}, the default or largest, is used",)


def test_one_stream_is_not_worth_a_note(tmp_path):
    path = write(tmp_path / "a.avi")
    assert clips.scan(path, 32).notes == () and store(path).findings == {}


# --- cut and trimmed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
@pytest.mark.parametrize(("gop", "start"), [(50, 1.3), (250, 1.3), (12, 1.3), (12, 3.1)])
def test_a_trimmed_mp4_is_whole(tmp_path, codec, gop, start):
    """An edit list hides the frames before the cut; the header counts them, or even those that nothing refers to."""
    whole = write(tmp_path / "a.mp4", 100, codec, gop_size=gop, max_b_frames=2)
    path = copied(whole, tmp_path / "b.mp4", start)
    stored = store(path)
    assert abs(len(stored.frames) - (100 - round(25 * start))) <= 1 and stored.fps == pytest.approx(25)
    with Video(path) as video:
        assert video.header_frames == 100
    assert stored.findings == {} and stored.times is None


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
@pytest.mark.parametrize("count", [45, 75])
def test_a_cut_avi_with_b_frames(tmp_path, codec, count):
    """The first B-frames refer to what was cut away; H.264's time stamps are not in order."""
    whole = write(tmp_path / "a.avi", count, codec, gop_size=12, max_b_frames=2)
    path = copied(whole, tmp_path / "b.avi", 0.8, from_key_frame=True)
    for threads in (0, 1):
        with Video(path, threads=threads) as video:
            kept = len(list(video.frames()))
            assert video.fps == 25 and video.times is None and not video.cut_off
            assert video.header_frames - 2 <= kept <= video.header_frames
    assert store(path).fps == 25 and store(path).findings == {}


def test_an_avi_that_shows_frames_again_is_whole(tmp_path):
    """Its header counts them, and they have no packets."""
    times = [80 * t for t in range(10)] + [800 + 240 * t for t in range(30)]
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for t, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(scene(t), "rgb24")
            frame.pts, frame.time_base = time // 40, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    stored = store(path)
    assert len(stored.frames) == 40 and stored.findings == {"variable_rate": 1}
    np.testing.assert_allclose(stored.times, np.array(times) / 1000, atol=1e-9)


def test_a_file_that_ends_early_is_told(tmp_path):
    path = write(tmp_path / "a.avi", 100)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    stored = store(path)
    assert 10 < len(stored.frames) < 90 and stored.findings["cut_off"] == 1
    data = bytearray(data)  # and so is a header that claims more frames, and more time
    for name, at in ((b"avih", 16), (b"strh", 32)):
        struct.pack_into("<I", data, data.index(name) + 8 + at, 999_999)
    path.write_bytes(data)
    assert store(path).findings == {"cut_off": 1}


# --- findings -------------------------------------------------------------------------------------------


def test_interlaced_and_hdr_frames_are_counted(tmp_path):
    options = {"x264-params": "interlaced=1", "preset": "veryfast"}
    assert store(write(tmp_path / "i.mp4", 4, "libx264", options=options)).findings == {"interlaced_frames": 4}
    for transfer in (16, 18):
        path = write(tmp_path / "h.mp4", 4, "libx264", color_trc=transfer)
        assert store(path).findings == {"hdr_frames": 4}


def test_missing_numbers_are_counted(tmp_path):
    for number in (1, 2, 5):
        (tmp_path / f"{number}.jpg").write_bytes(picture(scene(number)))
    stored = frames.encode(FrameFiles(str(tmp_path), "", ".jpg", 1, ((1, 2), (5, 5))), FrameOptions(None, 90, 1, 12.0))
    assert stored.findings == {"missing_numbers": 2} and stored.fps == 12 and stored.times is None


def test_damaged_frames_are_counted(tmp_path):
    path = write(tmp_path / "a.mpg", 40, "mpeg2video")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20] = np.random.default_rng(0).bytes(20)
    path.write_bytes(data)
    assert store(path).findings["damaged_frames"] >= 1
    assert {"cut_off", "damaged_frames", "interlaced_frames", "hdr_frames", "variable_rate", "streams"} <= set(FINDINGS)


def test_bytes_of_a_file_are_stored_like_the_file(tmp_path):
    """An archive's or a table's videos lie in no file of their own."""
    path = write(tmp_path / "a.mp4", 9, "libx264")

    class Inside:
        path, still = str(tmp_path / "no.zip"), False

        def content(self):
            return path.read_bytes()

    options = FrameOptions(24, 90, 1, 25.0)
    assert frames.encode(Inside(), options) == frames.encode(VideoFile(str(path)), options)
