"""All eight ways to turn and mirror a picture, as ffmpeg shows it: in videos and stills, for predict and the build."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
import simplejpeg
from odd_videos import picture, psnr, scene, set_matrix, write
from PIL import Image, ImageOps

from r23d_jax.data import orientation
from r23d_jax.data.orientation import EXIF, UPRIGHT, Orientation
from r23d_jax.data.video import Video, probe, read_rgb
from r23d_jax.inference import clips
from tfds_ucf101 import frames, stills
from tfds_ucf101.media import FrameFiles, VideoFile
from tfds_ucf101.stored import FrameOptions

# The matrices of ISO files, and what ffmpeg's transpose, hflip and vflip make of the picture.
MATRICES = {
    (1, 0, 0, 1): lambda p: p,
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (-1, 0, 0, -1): lambda p: p[::-1, ::-1],
    (0, 1, -1, 0): lambda p: np.rot90(p, -1),
    (0, -1, 1, 0): lambda p: np.rot90(p, 1),
    (0, 1, 1, 0): lambda p: p.swapaxes(0, 1),
    (0, -1, -1, 0): lambda p: np.rot90(p, 2).swapaxes(0, 1),
}


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("in_memory", [False, True])
def test_every_matrix_of_a_video(tmp_path, matrix, in_memory):
    path = write(tmp_path / "a.mp4", 3)
    raw, _ = read_rgb(path)
    set_matrix(path, *matrix)
    expected = np.stack([MATRICES[matrix](frame) for frame in raw])
    with Video(path, data=path.read_bytes() if in_memory else None) as video:
        np.testing.assert_array_equal(np.stack(list(video.rgb())), expected)
    info = probe(path)
    assert (info.height, info.width) == expected.shape[1:3]
    np.testing.assert_array_equal(np.stack(clips.scan(path, None).frames), expected)

    stored = frames.encode(VideoFile(str(path)), FrameOptions(None, 95, 1, 25.0))
    assert (stored.source_height, stored.source_width) == (stored.height, stored.width) == expected.shape[1:3]
    for data, frame in zip(stored.frames, expected, strict=True):
        assert psnr(simplejpeg.decode_jpeg(data), frame) > 35


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), UPRIGHT),
        ((0, 0, 0, 0), UPRIGHT),
        ((0.9, 0.3, -0.3, 0.9), UPRIGHT),
        ((0.2, 0.9, -0.9, 0.2), EXIF[5]),
        ((2, 0, 0, 1), UPRIGHT),
        ((-2, 0, 0, 0.5), EXIF[1]),
    ],
)
def test_the_nearest_right_angle(matrix, expected):
    a, b, c, d = (round(value * 65536) for value in matrix)
    assert orientation.of_matrix(np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32)) == expected


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("value", range(1, 9))
def test_every_orientation_of_exif(tmp_path, kind, value):
    data = picture(scene(0, 32, 48), kind, value)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    still = stills.read(tmp_path, "a", data)
    assert still.orientation == EXIF[value - 1] == orientation.of_exif(data)
    assert still.size == upright.shape[:2]
    turned = still.orientation.apply(still.frame.to_ndarray(format="rgb24"))
    assert psnr(turned, upright) > 28


@pytest.mark.parametrize("value", [3, 4, 6, 7])
@pytest.mark.parametrize("resize", [None, (32, 48), (48, 32), 16])
def test_jpeg_frames_are_upright_whatever_the_size(tmp_path, value, resize):
    data = picture(scene(0, 32, 48), orientation=value, quality=95)
    for number in range(2):
        (tmp_path / f"{number}.jpg").write_bytes(data)
    stored = frames.encode(FrameFiles(str(tmp_path), "", ".jpg", 1, ((0, 1),)), FrameOptions(resize, 95, 1, 25.0))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert (stored.source_height, stored.source_width) == upright.size[::-1]
    for kept in stored.frames:
        shown = Image.open(io.BytesIO(kept))
        assert shown.getexif().get(0x0112, 1) == 1
        expected = upright.resize(shown.size, Image.BILINEAR)
        assert psnr(np.asarray(shown), np.asarray(expected)) > 30
    if resize is None:
        assert (stored.height, stored.width) == upright.size[::-1]


def test_exif_of_every_frame_of_motion_jpeg(tmp_path):
    """Cameras write it into AVI too; each frame is turned by its own."""
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuvj420p"
        for t, value in enumerate((1, 4, 2)):
            packet = av.Packet(picture(scene(t, 32, 48), orientation=value))
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, t, t, Fraction(1, 25)
            container.mux(packet)
    rgb, _ = read_rgb(tmp_path / "a.avi")
    for t, flip in enumerate((lambda p: p, lambda p: p[::-1], lambda p: p[:, ::-1])):
        assert psnr(rgb[t], flip(scene(t, 32, 48))) > 25


def test_data_that_is_no_picture_has_no_exif():
    assert orientation.of_exif(b"") is None and orientation.of_exif(b"\xff\xd8 nothing") is None
    assert orientation.of_exif(picture(scene(0), orientation=None)) is None
    assert orientation.of_exif(picture(scene(0), orientation=9)) is None


def test_sizes_before_and_after():
    assert Orientation(True).size(2, 3) == (3, 2) and Orientation(False, True, True).size(2, 3) == (2, 3)
