"""Extracted frames: what every other program reads is read and counted, what is cut off is refused in one line."""

import io

import numpy as np
import pytest
import simplejpeg
from odd_videos import picture, psnr, scene
from PIL import Image

from r23d_jax.data import flow
from r23d_jax.data.video import VideoError
from tfds_ucf101 import frames, stills
from tfds_ucf101.stored import FrameOptions

PIXELS = np.clip(scene(0, 96, 128) + np.random.default_rng(0).integers(-20, 20, (96, 128, 3)), 0, 255).astype(np.uint8)
JPEG = picture(PIXELS, quality=90)
IN_PARTS = picture(PIXELS, quality=90, restart_marker_blocks=8)
PROGRESSIVE = picture(PIXELS, quality=90, progressive=True)
RAW_SIZE = FrameOptions(None, 90, 1, 12.0)


class Pictures:
    """Pictures in memory, as a layout reader would give them."""

    path, still = "some/folder", True

    def __init__(self, *data, missing=0):
        self._data, self._missing = data, missing

    def pictures(self):
        return iter([(f"{number}.x", data) for number, data in enumerate(self._data)])

    def missing_numbers(self):
        return self._missing


def store(*data, options=RAW_SIZE):
    return frames.encode(Pictures(*data), options)


def by_libjpeg(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def changed(data, at, new):
    return data[:at] + new + data[at + len(new) :]


def inserted(data, at, new):
    return data[:at] + new + data[at:]


FIRST_RESTART = IN_PARTS.index(b"\xff\xd0")
SUPERFLUOUS = {
    "zeros before the end": inserted(JPEG, -2, bytes(8)),
    "text before the end": inserted(JPEG, -2, b"superfluous"),
    "zeros before a restart marker": inserted(IN_PARTS, FIRST_RESTART, bytes(8)),
    "zeros before a table": inserted(JPEG, JPEG.index(b"\xff\xdb"), bytes(3)),
    "zeros before the end of a progressive one": inserted(PROGRESSIVE, -2, bytes(8)),
    "a number of JFIF's revision": changed(JPEG, JPEG.index(b"JFIF\0") + 5, b"\x09"),
}


@pytest.mark.parametrize("name", SUPERFLUOUS)
def test_superfluous_bytes_are_read_and_counted_and_not_kept(name):
    data = SUPERFLUOUS[name]
    stored = store(JPEG, data)
    assert stored.findings == {"repaired_frames": 1}
    assert stored.frames[0] == JPEG and stored.frames[1] != data
    simplejpeg.decode_jpeg(stored.frames[1], strict=True)  # nothing is wrong with what is stored
    assert psnr(by_libjpeg(stored.frames[1]), by_libjpeg(JPEG)) > 33
    assert stored.fps == 12 and stored.times is None


@pytest.mark.parametrize("data", [inserted(JPEG, 2, b"\xff\xff"), IN_PARTS, PROGRESSIVE])
def test_what_is_allowed_is_kept_as_it_is(data):
    assert store(data).frames == [data] and store(data).findings == {}


@pytest.mark.parametrize("tail", [bytes(100), b"garbage" * 50, JPEG, b"\xff\xd9", b"\xff\xd8"])
def test_what_follows_the_end_does_not_matter(tail):
    """Phones append a second picture for the whole one's depth or motion."""
    stored = store(JPEG + tail, JPEG)
    assert len(stored.frames) == 2 and stored.findings == {}
    assert stored.frames == [JPEG, JPEG]


@pytest.mark.parametrize("name", ["lost restart marker", "zeros in the middle"])
def test_wrong_pixels_are_those_of_every_other_program(name):
    data = {
        "lost restart marker": IN_PARTS[:FIRST_RESTART] + IN_PARTS[FIRST_RESTART + 2 :],
        "zeros in the middle": changed(JPEG, len(JPEG) // 2, bytes(40)),
    }[name]
    stored = store(data)
    assert sum(stored.findings.values()) == 1
    assert psnr(by_libjpeg(stored.frames[0]), by_libjpeg(data)) > 30


@pytest.mark.parametrize(
    "data",
    [
        JPEG[: len(JPEG) // 2],
        JPEG[: len(JPEG) // 2] + b"\xff\xd9",
        JPEG[:-2],
        JPEG[: len(JPEG) // 2] + JPEG[:2],
        PROGRESSIVE[: len(PROGRESSIVE) // 2],
        inserted(IN_PARTS, FIRST_RESTART, bytes(8))[: len(IN_PARTS) // 2] + b"\xff\xd9",  # behind another fault
    ],
)
@pytest.mark.parametrize("options", [RAW_SIZE, FrameOptions((8, 8), 90, 1, 25.0, "dis")])
def test_a_picture_that_ends_early_is_refused(data, options):
    with pytest.raises(VideoError, match=r"some/folder: holds 1.x, a damaged JPEG \(.+\)") as caught:
        store(JPEG, data, options=options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds 0.x, which is an empty file"),
        (b"\xff\xd8\xff\xe0 cut off", "holds 0.x, which "),
        (b"a text", "holds 0.x, which is no "),
        (
            picture(scene(0), "GIF", save_all=True, append_images=[Image.fromarray(scene(9))]),
            "0.x, which is 2 pictures",
        ),
    ],
)
def test_what_is_no_picture_is_refused(data, message):
    with pytest.raises(VideoError, match=message):
        store(data)


def test_every_kind_of_picture(tmp_path):
    pixels = scene(3)
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    alpha = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    deep = grey.astype(np.uint16) * 257
    kinds = {
        "PNG": picture(pixels, "PNG"),
        "BMP": picture(pixels, "BMP"),
        "WEBP": picture(pixels, "WEBP", quality=95),
        "lossless WEBP": picture(pixels, "WEBP", lossless=True),
        "WEBP with alpha": picture(alpha, "WEBP", quality=95),
        "PNG with alpha": picture(alpha, "PNG"),
        "TIFF": picture(pixels, "TIFF"),
        "grey PNG": picture(grey, "PNG"),
        "deep PNG": picture(deep, "PNG"),
        "grey BMP": picture(grey, "BMP"),
        "GIF": picture(grey, "GIF"),
    }
    for name, data in kinds.items():
        stored = store(data)
        expected = np.repeat(grey[..., None], 3, 2) if "grey" in name or name in ("deep PNG", "GIF") else pixels
        assert psnr(simplejpeg.decode_jpeg(stored.frames[0]), expected) > 30, name
        assert (stored.height, stored.width, stored.findings) == (48, 64, {}), name
        still = stills.read(tmp_path, "a", data)
        assert not (still.flawless_jpeg or still.repaired or still.damaged)


def test_flow_of_repaired_and_turned_pictures():
    """Flow is computed on the upright pictures, whatever was wrong with them."""
    options = FrameOptions((48, 64), 90, 1, 25.0, "farneback")
    upright = [picture(scene(t), quality=95) for t in range(3)]
    odd = [upright[0], inserted(upright[1], -2, bytes(8)), upright[2]]
    turned = [picture(np.ascontiguousarray(scene(t)[::-1]), orientation=4, quality=95) for t in range(3)]
    expected = [flow.dequantise(flow.from_png(data)) for data in store(*upright, options=options).frames]
    for data, findings in ((odd, {"repaired_frames": 1}), (turned, {})):
        stored = store(*data, options=options)
        assert len(stored.frames) == 2 and stored.findings == findings
        for field, other in zip(stored.frames, expected, strict=True):
            assert np.abs(flow.dequantise(flow.from_png(field)) - other).mean() < 0.3


def test_a_jpeg_that_claims_to_be_enormous_is_unreadable():
    place = JPEG.index(b"\xff\xc0") + 5
    with pytest.raises(VideoError, match="which claims 65500x65500 pixels: too many to decode"):
        store(changed(JPEG, place, (65500).to_bytes(2, "big") * 2))
