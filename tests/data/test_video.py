"""Decoding: every frame, upright, in the right colours, and clear refusals. Videos are made here with PyAV."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
import simplejpeg
from odd_videos import psnr, scene
from paths import REAL
from PIL import Image

from r23d_jax.data import video
from r23d_jax.data.orientation import UPRIGHT
from r23d_jax.data.scaling import Scaler, target_size
from r23d_jax.data.video import Video, VideoError, probe, read_rgb
from tfds_ucf101 import frames as stored_frames
from tfds_ucf101.media import VideoFile
from tfds_ucf101.stored import FrameOptions

CLIPS = REAL / "clips"
needs_real = pytest.mark.skipif(not CLIPS.is_dir(), reason=f"{CLIPS} is not there: real clips are not in the project")


def write_video(path, count=6, codec="mpeg4", pixels="yuv420p", size=(48, 64), times=None, matrix=None, span=None):
    """Writes `count` scenes at 25 frames a second, or at the given times in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = size
        stream.pix_fmt = pixels
        stream.bit_rate = 8_000_000
        if times:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        if codec == "mjpeg":
            stream.codec_context.qmin = stream.codec_context.qmax = 1
        if matrix:
            stream.codec_context.colorspace = matrix
        if span:
            stream.codec_context.color_range = span
        for t in range(count):
            frame = av.VideoFrame.from_ndarray(scene(t, *size), "rgb24")
            frame = frame.reformat(
                format=pixels, dst_colorspace="ITU709" if matrix == 1 else "ITU601", dst_color_range=span
            )
            frame.pts, frame.time_base = (times[t], Fraction(1, 1000)) if times else (t, Fraction(1, 25))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    "resize, expected",
    [(None, (240, 320)), ((128, 171), (128, 171)), (256, (256, 341)), (120, (120, 160)), (1, (1, 1))],
)
def test_target_size(resize, expected):
    assert target_size(240, 320, resize) == expected
    if not isinstance(resize, tuple):
        assert target_size(320, 240, resize) == expected[::-1]


@pytest.mark.parametrize(
    "name, codec", [("a.avi", "mpeg4"), ("a.mkv", "mpeg4"), ("a.mp4", "libx264"), ("a.mpg", "mpeg2video")]
)
def test_every_frame_in_order(tmp_path, name, codec):
    path = write_video(tmp_path / name, 12, codec)
    frames, fps = read_rgb(path)
    assert frames.shape == (12, 48, 64, 3) and frames.dtype == np.uint8
    assert fps == pytest.approx(25)
    for t, frame in enumerate(frames):
        assert psnr(frame, scene(t)) > 27
        assert np.argmin([-psnr(frame, scene(other)) for other in range(12)]) == t
    info = probe(path)
    assert (info.height, info.width, info.orientation, info.fps) == (48, 64, UPRIGHT, pytest.approx(25))


def test_variable_rate_keeps_every_frame(tmp_path):
    times = [0, 40, 80, 500, 540, 1000]
    frames, fps = read_rgb(write_video(tmp_path / "a.mkv", 6, "ffv1", "bgr0", times=times))
    assert [int(np.argmax([psnr(f, scene(t)) for t in range(6)])) for f in frames] == list(range(6))
    assert 4 < fps < 7


def test_stops_early_and_resizes(tmp_path):
    path = write_video(tmp_path / "a.avi")
    frames, _ = read_rgb(path, (20, 30), max_frames=2)
    assert frames.shape == (2, 20, 30, 3)
    with Video(path) as opened:
        shapes = [frame.shape for frame in opened.rgb(24)]
    assert shapes == [(24, 32, 3)] * 6


@pytest.mark.parametrize(
    "codec, pixels, matrix, span, name",
    [
        ("mpeg4", "yuv420p", None, None, "a.avi"),
        ("mjpeg", "yuvj420p", None, 2, "a.avi"),
        ("mjpeg", "yuvj444p", None, 2, "a.avi"),
        ("libx264", "yuv420p", 1, 1, "a.mp4"),
        ("libx264", "yuv420p", 1, 2, "a.mp4"),
        ("libx264", "yuv444p", None, None, "a.mp4"),
        ("ffv1", "bgr0", None, None, "a.mkv"),
        ("ffv1", "yuv420p10le", None, None, "a.mkv"),
    ],
)
@pytest.mark.parametrize("size", [(240, 320), (128, 172), (128, 171)])
def test_colours_agree_with_the_plain_path(tmp_path, codec, pixels, matrix, span, name, size):
    """Planes straight to JPEG against RGB, a PIL resize, and PIL's JPEG."""
    path = write_video(tmp_path / name, 1, codec, pixels, (240, 320), matrix=matrix, span=span)
    exact = np.asarray(Image.fromarray(scene(0, 240, 320)).resize(size[::-1], Image.BILINEAR))
    buffer = io.BytesIO()
    Image.fromarray(exact).save(buffer, "JPEG", quality=90)
    plain = simplejpeg.decode_jpeg(buffer.getvalue())
    options = FrameOptions(size, 90, 1, 25.0)
    ours = simplejpeg.decode_jpeg(stored_frames.encode(VideoFile(str(path)), options).frames[0])
    assert ours.shape == (*size, 3)
    # An odd width moves swscale's chroma by up to half a sample of it, at the right edge.
    assert psnr(ours, exact) > (32 if size[1] % 2 else 38)
    assert psnr(ours, plain) > (32 if size[1] % 2 else 38)
    assert np.abs(ours.mean((0, 1)) - plain.mean((0, 1))).max() < 2.5
    with Video(path) as opened:
        rgb = next(opened.rgb(size))
    assert psnr(rgb, exact) > 40
    assert np.abs(rgb.mean((0, 1)) - exact.mean((0, 1))).max() < 1.5


def test_jpeg_is_a_function_of_the_picture(tmp_path):
    """MJPEG at its native size: the planes are stored as they are, and a reversed video has the same frames."""
    options = FrameOptions(None, 90, 1, 25.0)
    path = write_video(tmp_path / "a.avi", 5, "mjpeg", "yuvj420p", (64, 64))
    with Video(path) as opened:
        for frame in opened.frames():
            planes = Scaler().planes(frame, 64, 64)
            direct = [np.frombuffer(p, np.uint8).reshape(-1, p.line_size)[:, : p.width] for p in frame.planes]
            assert all(np.array_equal(a, b) for a, b in zip(planes, direct, strict=True))
    forward = stored_frames.encode(VideoFile(str(path)), options).frames
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.avi"), "w", format="avi") as twin:
        stream = twin.add_stream_from_template(source.streams.video[0])
        packets = [bytes(packet) for packet in source.demux(video=0) if packet.size]
        for t, data in enumerate(reversed(packets)):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, t, t, Fraction(1, 25)
            twin.mux(packet)
    backward = stored_frames.encode(VideoFile(str(tmp_path / "b.avi")), options).frames
    assert len(set(forward)) == 5
    assert forward == backward[::-1]


@pytest.mark.parametrize("size", [(24, 32), (24, 33), (25, 32), (25, 33)])
def test_jpeg_does_not_depend_on_what_the_memory_held(tmp_path, size):
    path = write_video(tmp_path / "a.avi", 6, "mpeg4")
    options = FrameOptions(size, 90, 1, 25.0)
    first = stored_frames.encode(VideoFile(str(path)), options).frames
    for value in range(0, 256, 51):
        held = [np.full(n, value, np.uint8) for n in range(300, 3000, 10)]  # what later buffers are made of
        del held
        assert stored_frames.encode(VideoFile(str(path)), options).frames == first
    plane = np.arange(size[0] * size[1], dtype=np.uint8).reshape(size)
    kept = stored_frames._with_even_surroundings(plane)
    assert np.array_equal(kept, plane)
    if size != (24, 32):
        assert np.array_equal(np.pad(plane, [(0, n % 2) for n in size], "edge"), kept.base)


def test_audio_only(tmp_path):
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        samples.sample_rate = 8000
        container.mux(stream.encode(samples))
    with pytest.raises(VideoError, match=r"a.wav: has no video stream \(only audio\)"):
        read_rgb(path)


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "does not exist"),
        (b"", "is an empty file"),
        (b"no video at all\n" * 50, "is no "),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "is no readable video|holds no frames|has no video stream"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "is no "),
        (
            b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
            "is no ",
        ),
    ],
)
@pytest.mark.parametrize("name", ["a.avi", "a.txt"])
def test_files_that_are_no_video(tmp_path, content, message, name):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoError, match=message) as caught:
        read_rgb(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_folder_is_no_video(tmp_path):
    with pytest.raises(VideoError, match="is a folder"):
        probe(tmp_path)


def test_damage_is_refused_though_frames_came_before_it(tmp_path):
    path = write_video(tmp_path / "a.avi", 20, "png", "rgb24")
    data = bytearray(path.read_bytes())
    start = len(data) * 7 // 10
    data[start : start + 1000] = bytes(1000)
    path.write_bytes(data)
    with pytest.raises(VideoError, match="cannot be decoded after frame [1-9]"):
        read_rgb(path)


def test_odd_names(tmp_path):
    for name in ("a b%03d.avi", "file:x.avi", "ümlaut,1.avi"):
        frames, _ = read_rgb(write_video(tmp_path / "x.avi", 2).rename(tmp_path / name))
        assert len(frames) == 2


def test_text_that_is_not_utf8(tmp_path):
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "PIPPI"
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(scene(0), "rgb24")))
        container.mux(stream.encode())
    assert path.read_bytes().count(b"PIPPI") == 1
    path.write_bytes(path.read_bytes().replace(b"PIPPI", b"P\xefpp\xed"))  # Latin-1
    assert read_rgb(path)[0].shape == (1, 48, 64, 3)


@needs_real
def test_real_corrupted_and_unordered():
    with pytest.raises(VideoError, match="corrupted.mp4: cannot be decoded after frame"):
        read_rgb(CLIPS / "edge" / "corrupted.mp4")
    with Video(CLIPS / "edge" / "unordered.mov") as opened:
        times = [frame.time for frame in opened.frames()]
    assert len(times) == 4 and times == sorted(times)


@needs_real
def test_real_rotations():
    """The four files show one scene, once their flags are followed: upright ones look alike."""
    means = {}
    for degrees, size in ((0, (320, 568)), (180, (320, 568)), (90, (568, 320)), (270, (568, 320))):
        path = CLIPS / "edge" / f"video_{degrees}.mov"
        info = probe(path)
        assert (info.height, info.width) == size
        frames, _ = read_rgb(path)
        assert frames.shape[1:3] == size
        with av.open(str(path)) as container:
            raw = next(container.decode(video=0)).to_ndarray(format="rgb24")
        # The flag is the clockwise turn that a player makes.
        means[degrees] = psnr(frames[0], np.rot90(raw, -degrees // 90))
        options = FrameOptions((64, 64), 90, 1, 25.0)
        kept = stored_frames.encode(VideoFile(str(path)), options)
        assert (kept.source_height, kept.source_width) == size
        small = np.asarray(Image.fromarray(frames[0]).resize((64, 64), Image.BILINEAR))
        assert psnr(simplejpeg.decode_jpeg(kept.frames[0]), small) > 28
    assert min(means.values()) > 30


@needs_real
def test_real_headers_are_not_believed():
    frames, fps = read_rgb(CLIPS / "kinetics" / "decord_flipping_a_pancake.mkv", (16, 16))
    assert len(frames) == 310 and fps == pytest.approx(30)
    paths = sorted((CLIPS / "hmdb51").glob("*cartwheel*.avi"))
    assert len(read_rgb(paths[0], (16, 16))[0]) == 83


def test_module_needs_no_accelerator_library():
    assert not hasattr(video, "jax") and not hasattr(video, "tensorflow")
