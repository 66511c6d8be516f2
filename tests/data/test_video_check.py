"""What can be told of a file without decoding it, and which files are left in peace."""

import struct

import pytest
from odd_videos import copied, write

from r23d_jax.data.video import VideoError, read_rgb
from r23d_jax.data.video_check import Checked, check

NAMES = ["a.avi", "a.mp4", "a.mov", "a.mkv"]


def whole(path, count=40, **options):
    return write(path, count, "libx264" if path.suffix != ".avi" else "mpeg4", **options)


@pytest.mark.parametrize("name", [*NAMES, "a.mpg", "a.ts", "a.flv", "a.asf"])
def test_whole_files_pass_with_what_their_header_says(tmp_path, name):
    path = write(tmp_path / name, 40, "mpeg2video" if name == "a.mpg" else "libx264", size=(64, 96))
    found = check(path)
    assert (found.height, found.width, found.fps) == (64, 96, 25)
    if name in NAMES:
        assert found.frames == 40
    else:
        assert 25 < found.frames < 50  # from a duration, with or without the last frames


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("faststart", [False, True])
def test_half_a_file_is_told_with_its_bytes(tmp_path, name, faststart):
    container = {"movflags": "+faststart"} if faststart and name in ("a.mp4", "a.mov") else {}
    path = whole(tmp_path / name, container=container)
    data = path.read_bytes()
    for share in (0.3, 0.5, 0.9):
        if name == "a.mp4" and share == 0.9 and not faststart:
            continue  # cut within the last box: see below
        kept = data[: int(len(data) * share)]
        path.write_bytes(kept)
        with pytest.raises(VideoError, match=rf"is cut off: {len(kept)} bytes of the \d+ that its header") as caught:
            check(path)
        claimed = int(caught.value.reason.split("of the ")[1].split()[0])
        assert len(kept) < claimed <= len(data)


def test_a_file_without_a_moov_box(tmp_path):
    path = whole(tmp_path / "a.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(VideoError, match="has no moov box, which says where the frames are: its recording was not"):
        check(path)
    path.write_bytes(data[: data.index(b"moov") + 100])
    with pytest.raises(VideoError, match="is cut off: "):
        check(path)
    size = data.index(b"mdat")
    unfinished = bytearray(data[: data.index(b"moov") - 4])
    struct.pack_into(">I", unfinished, size - 4, 0)  # to the end of the file
    path.write_bytes(unfinished)
    with pytest.raises(VideoError, match="has no moov box"):
        check(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.touch(), "is an empty file"),
        (lambda path: path.mkdir(), "is a folder; give a video file"),
        (lambda path: path.symlink_to("/nowhere/b.avi"), "is a broken link to /nowhere/b.avi"),
        (lambda path: path.write_text("a text\n" * 99), "is no "),
        (lambda path: path.write_bytes(b"RIFF\x00\x00\x00\x00AVI "), "is no readable video|has no video stream"),
        (lambda path: path.write_bytes(b"\x00\x00\x00\x18ftypisom"), "is cut off: 12 bytes of the 24"),
        (lambda path: path.write_bytes(b"\x1a\x45\xdf\xa3"), "is no readable video"),
    ],
)
def test_what_is_no_video_is_told_in_one_line(tmp_path, make, reason):
    path = tmp_path / "a.avi"
    make(path)
    with pytest.raises(VideoError, match=reason) as caught:
        check(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


# --- no false alarms ------------------------------------------------------------------------------------


def change(path, name, value, layout="<I", at=4):
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, data.index(name) + at, value)
    path.write_bytes(data)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_an_avi_that_was_streamed(tmp_path, size):
    path = whole(tmp_path / "a.avi")
    change(path, b"RIFF", size)
    change(path, b"movi", size, at=-4)
    assert check(path).frames == 40


def test_an_avi_whose_size_is_a_little_wrong(tmp_path):
    path = whole(tmp_path / "a.avi")
    change(path, b"RIFF", path.stat().st_size)  # the header of eight bytes counted too
    assert check(path).frames == 40


def riff(kind, *chunks):
    body = kind + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_an_avi_of_several_riff_chunks(tmp_path):
    """OpenDML, beyond 1 GB: each chunk says its own length."""
    path = whole(tmp_path / "a.avi")
    more = b"LIST" + struct.pack("<I", 4 + 1000) + b"movi" + bytes(1000)
    path.write_bytes(path.read_bytes() + riff(b"AVIX", more))
    assert check(path).frames == 40
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(VideoError, match="is cut off"):
        check(path)


def test_an_mp4_whose_last_box_goes_to_the_end(tmp_path):
    path = whole(tmp_path / "a.mp4", container={"movflags": "+faststart"})
    change(path, b"mdat", 0, ">I", -4)
    assert check(path).frames == 40
    data = path.read_bytes()
    path.write_bytes(data[:-200])
    with pytest.raises(VideoError, match="is cut off"):  # the tables know where the last packet ends
        check(path)


def test_what_is_appended_or_too_large_and_harmless(tmp_path):
    path = whole(tmp_path / "a.mp4", container={"movflags": "+faststart"})
    data = path.read_bytes()
    for tail in (bytes(5), bytes(100), b"appended text " * 9, b"\x00\x00\xff\xfffree"):
        path.write_bytes(data + tail)
        assert check(path).frames == 40
    path.write_bytes(data)
    change(path, b"mdat", len(data), ">I", -4)  # larger than the file, but no packet lies there
    assert check(path).frames == 40


def test_fragments_and_trims(tmp_path):
    path = whole(tmp_path / "a.mp4", container={"movflags": "frag_keyframe+empty_moov"}, gop_size=10)
    assert check(path).frames >= 0 and len(read_rgb(path)[0]) == 40
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(VideoError, match="is cut off"):
        check(path)
    trimmed = copied(whole(tmp_path / "b.mp4", 100), tmp_path / "c.mp4", 1.3)
    assert check(trimmed) == Checked(100, 48, 64, 25.0)


def test_a_matroska_file_that_was_streamed(tmp_path):
    path = whole(tmp_path / "a.mkv")
    data = bytearray(path.read_bytes())
    at = data.index(b"\x18\x53\x80\x67") + 4
    data[at : at + 8] = b"\x01" + b"\xff" * 7
    path.write_bytes(data)
    check(path)
    path.write_bytes(data[: len(data) // 2])
    check(path)  # it does not say how long it is
