"""Videos and pictures that are read out of zip files."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from building import write_video
from list_files import scan, sides_of
from PIL import Image

from r23d_jax.data.video import Video, VideoError
from r23d_jax.errors import UserError
from tfds_ucf101 import frames
from tfds_ucf101.layouts import archives
from tfds_ucf101.layouts.archives import Zip, ZipFolder
from tfds_ucf101.layouts.tree import Folder, Pictures
from tfds_ucf101.media import FrameFiles
from tfds_ucf101.stored import FrameOptions

OPTIONS = FrameOptions((24, 32), 90, 1, 25.0)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
LARGE = bytes(range(256)) * 40


def jpeg(number):
    data = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (3, 4, 3), np.uint8)
    Image.fromarray(pixels).resize((32, 24)).save(data, "JPEG")
    return data.getvalue()


def write(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def same_length(path, before, after):
    """Replaces bytes, as names that `zipfile` would not write."""
    data = path.read_bytes()
    assert len(before) == len(after) and before in data
    path.write_bytes(data.replace(before, after))
    return path


def test_names_are_those_of_files(tmp_path):
    wanted = ["UCF101/v_Archery_g01_c01.avi", "ucfTrainTestlist/classInd.txt", "Jump é/日本.avi"]
    others = ["UCF101/", "__MACOSX/UCF101/._v_Archery_g01_c01.avi", ".DS_Store", "UCF101/.hidden/a.avi"]
    archive = Zip(write(tmp_path / "a.zip", dict.fromkeys([*others[:2], *wanted, *others[2:]], b"")))
    assert archive.names == wanted


@pytest.mark.parametrize(
    "stored, shown",
    [
        ("Jump é".encode(), "Jump é/a.avi"),  # UTF-8 that does not say so
        ("Jump é".encode("cp437") + b"!", "Jump é!/a.avi"),
    ],
)
def test_names_that_do_not_say_their_encoding(tmp_path, stored, shown):
    path = same_length(write(tmp_path / "a.zip", {"Archery/a.avi": b"1"}), b"Archery", stored)
    assert Zip(path).names == [shown] and Zip(path).video(shown).content() == b"1"


def test_backslashes_of_windows(tmp_path):
    path = same_length(write(tmp_path / "a.zip", {"Archery/a.avi": b"1"}), b"Archery/a.avi", b"Archery\\a.avi")
    assert Zip(path).names == ["Archery/a.avi"] and Zip(path).read("Archery/a.avi") == b"1"


@pytest.mark.parametrize("name", ["/a.avi", "../a.avi", "a/../../b.avi", "C:/a.avi", "..\\a.avi", "a/.."])
def test_names_that_lead_out_are_refused(tmp_path, name):
    stand_in = "x" * len(name)
    path = same_length(write(tmp_path / "a.zip", {stand_in: b"1"}), stand_in.encode(), name.encode())
    with pytest.raises(UserError, match="a.zip holds .*, which would lie outside of it"):
        Zip(path)


def test_names_that_are_no_text(tmp_path):
    path = write(tmp_path / "a.zip", {"é.avi": b"1"})  # marked as UTF-8
    with pytest.raises(UserError, match="a.zip: a name in it is not UTF-8"):
        Zip(same_length(path, "é".encode(), b"\xff\xff"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.avi", b"1")
        archive.writestr("a.avi", b"2")
    with pytest.raises(UserError, match="a.zip holds a.avi twice"):
        Zip(tmp_path / "a.zip")


@pytest.mark.parametrize("method", METHODS)
def test_a_video_is_what_it_was(tmp_path, method):
    write_video(tmp_path / "a.avi", 1)
    data = (tmp_path / "a.avi").read_bytes()
    archive = Zip(write(tmp_path / "a.zip", {"Run/before.avi": LARGE, "Run/a.avi": data}, method))
    media = pickle.loads(pickle.dumps(archive.video("Run/a.avi")))
    assert not media.still and media.content() == data and media.missing_numbers() == 0
    assert media.path == f"{tmp_path}/a.zip/Run/a.avi"
    assert len(pickle.dumps(media)) < 300


@pytest.mark.parametrize("method", METHODS)
def test_pictures_are_what_they_were(tmp_path, method):
    files = {f"{n:04d}": jpeg(n) for n in (1, 2, 3, 7)}
    for name, data in files.items():
        (tmp_path / f"v-{name}.jpg").write_bytes(data)
    content = {f"train/Run/v-{name}.jpg": data for name, data in files.items()}
    archive = Zip(write(tmp_path / "a.zip", {"train/Run/w-0001.jpg": LARGE, **content}, method))
    runs = ((1, 3), (7, 7))
    media = pickle.loads(pickle.dumps(archive.frames("train/Run", Pictures("v-", ".jpg", 4, runs))))
    lying = FrameFiles(str(tmp_path), "v-", ".jpg", 4, runs)
    assert list(media.pictures()) == list(lying.pictures())
    assert media.still and len(media) == 4 and media.missing_numbers() == 3
    assert frames.encode(media, OPTIONS) == frames.encode(lying, OPTIONS)
    assert media.path == f"{tmp_path}/a.zip/train/Run"


def test_pictures_at_the_top(tmp_path):
    archive = Zip(write(tmp_path / "a.zip", {"1.jpg": b"1", "2.jpg": b"2"}))
    assert list(archive.frames("", Pictures("", ".jpg", 1, ((1, 2),))).pictures()) == [("1.jpg", b"1"), ("2.jpg", b"2")]


def test_behind_other_data_and_streamed(tmp_path):
    """A self-extracting archive, and one whose sizes stand behind the data."""

    class Stream(io.RawIOBase):
        def __init__(self):
            self.data = bytearray(b"program")

        def writable(self):
            return True

        def write(self, data):
            self.data += data
            return len(data)

    stream = Stream()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.avi", LARGE)
    (tmp_path / "a.zip").write_bytes(stream.data)
    assert Zip(tmp_path / "a.zip").video("a.avi").content() == LARGE


def test_identity_is_that_of_the_member_and_the_archive(tmp_path):
    files = {"a.avi": b"1", "b.avi": b"2", "1.jpg": b"3"}

    def identities():
        archive = Zip(tmp_path / "a.zip")
        return [archive.video("a.avi").identity(), archive.frames("", Pictures("", ".jpg", 1, ((1, 1),))).identity()]

    write(tmp_path / "a.zip", files)
    first = identities()
    assert json.loads(json.dumps(first)) == json.loads(json.dumps(identities()))
    write(tmp_path / "a.zip", {**files, "c.avi": b""})
    assert all(one != other for one, other in zip(first, identities(), strict=True))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("change", ["content", "header", "end"])
def test_damage_is_found_when_it_is_read(tmp_path, method, change):
    data = np.random.default_rng(0).bytes(2000)
    path = write(tmp_path / "a.zip", {"b.avi": b"1", "a/1.jpg": data, "a/2.jpg": data}, method)
    archive = Zip(path)
    video, still = archive.video("a/2.jpg"), archive.frames("a", Pictures("", ".jpg", 1, ((1, 2),)))
    with zipfile.ZipFile(path) as reading:
        start = reading.getinfo("a/2.jpg").header_offset
    content = bytearray(path.read_bytes())
    if change == "end":
        content = content[: start + 100]
    else:
        at = start + (500 if change == "content" else 1)
        content[at : at + 3] = bytes(byte ^ 0x5A for byte in content[at : at + 3])
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"a.zip/a/2.jpg: is damaged in the archive \(.*\): download or copy it again"):
        video.content()
    with pytest.raises(VideoError, match=r"a.zip/a: holds 2.jpg, which is damaged in the archive"):
        list(still.pictures())


@pytest.mark.parametrize("kept", [0, 10, 200, -1, -30])
def test_an_archive_that_is_cut_off(tmp_path, kept):
    path = write(tmp_path / "a.zip", {"a.avi": LARGE, "b.avi": LARGE}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match="a.zip is no zip file, or cut off .*download or copy it again"):
        Zip(path)


def flags_and_methods(path, flag=0, method=None):
    """Sets a flag, or the method, of every member, as `zipfile` cannot."""
    data = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(signature)
        while start >= 0:
            data[start + at] |= flag
            if method is not None:
                data[start + at + 2] = method
            start = data.find(signature, start + 4)
    path.write_bytes(data)
    return path


def test_an_encrypted_archive(tmp_path):
    with pytest.raises(UserError, match="a.zip is encrypted .a.avi.: unpack it"):
        Zip(flags_and_methods(write(tmp_path / "a.zip", {"a.avi": b"1"}), flag=1))


def test_an_unknown_compression(tmp_path):
    with pytest.raises(UserError, match="a.zip is compressed as Python cannot read it .a.avi by method 9.: unpack it"):
        Zip(flags_and_methods(write(tmp_path / "a.zip", {"a.avi": b"1"}), method=9))


def test_a_video_is_decoded_out_of_an_archive(tmp_path):
    write_video(tmp_path / "a.avi", 1)
    media = Zip(write(tmp_path / "a.zip", {"a.avi": (tmp_path / "a.avi").read_bytes()})).video("a.avi")
    with Video(media.path, data=media.content()) as archived, Video(tmp_path / "a.avi") as lying:
        pairs = list(zip(archived.frames(), lying.frames(), strict=True))
    assert len(pairs) == 5 and all(np.array_equal(a.to_ndarray(), b.to_ndarray()) for a, b in pairs)


def tree(folder):
    """All that is found in a folder, and the bytes of its media."""
    return {
        "name": folder.name,
        "shown": folder.shown,
        "files": {name: folder.read(name) for name in folder.files},
        "videos": folder.videos,
        "pictures": {one.pattern: list(folder.frames(one).pictures()) for one in folder.pictures},
        "folders": {name: tree(below) for name, below in folder.folders.items()},
    }


def test_an_archive_looks_like_the_folder_it_was_made_of(tmp_path):
    write_video(tmp_path / "all/UCF101/Run/v_Run_g01_c01.avi", 1)
    video = (tmp_path / "all/UCF101/Run/v_Run_g01_c01.avi").read_bytes()
    files = {
        "readme.txt": b"read me",
        "UCF101/Run/v_Run_g01_c01.avi": video,
        "UCF101/Run/v_Run_g01_c02.odd": video,
        "UCF101/Run/notes.odder": b"no video",
        "frames/Jump/a-0001.jpg": b"1",
        "frames/Jump/a-0003.jpg": b"3",
        "lists/classInd.txt": b"1 Run\r\n",
        "__MACOSX/._readme.txt": b"",
    }
    for name, data in files.items():
        (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "all" / name).write_bytes(data)
    found = tree(ZipFolder(Zip(write(tmp_path / "a.zip", files))))
    assert found == tree(Folder(tmp_path / "all")) | {"name": "a.zip"}
    assert found["folders"]["UCF101"]["folders"]["Run"]["videos"] == ["v_Run_g01_c01.avi", "v_Run_g01_c02.odd"]
    folder = ZipFolder(Zip(tmp_path / "a.zip"), "a.zip").below(["UCF101", "Run"])
    assert folder.shown == "a.zip/UCF101/Run" and folder.path == f"{tmp_path}/a.zip/UCF101/Run"
    assert folder.video("v_Run_g01_c01.avi").content() == video


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a")])
def test_a_name_of_a_file_and_a_folder(tmp_path, names):
    folder = ZipFolder(Zip(write(tmp_path / "a.zip", dict.fromkeys(names, b""))))
    with pytest.raises(UserError, match="a.zip holds a as a file and as a folder"):
        list(folder.walk(3))


def test_a_file_that_claims_to_be_enormous_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_LARGEST", 1000)
    name = "Jump/1.jpg"
    archive = Zip(write(tmp_path / "a.zip", {"Jump/a.avi": LARGE, name: LARGE, "Jump/b.avi": LARGE[:1000]}))
    with pytest.raises(VideoError, match=r"a.avi: is too large to be read in the archive \(10.0 KiB\): unpack it"):
        archive.video("Jump/a.avi").content()
    with pytest.raises(VideoError, match="Jump: holds 1.jpg, which is too large"):
        list(archive.frames("Jump", Pictures("", ".jpg", 1, ((1, 1),))).pictures())
    assert archive.video("Jump/b.avi").content() == LARGE[:1000]
    assert ZipFolder(archive).folders["Jump"].read("a.avi", 7) == LARGE[:7], "the first bytes can be had"


@pytest.mark.parametrize("inside", ["", "{side}/"])
def test_an_archive_a_side(tmp_path, inside):
    for side, stems in {"train": "ab", "test": "cd"}.items():
        files = {f"{inside.format(side=side)}{label}/{stem}.mp4": b"" for stem in stems for label in ("wave", "clap")}
        write(tmp_path / f"{side}.zip", files)
    plan = scan(tmp_path)
    assert plan.class_names == ("clap", "wave") and plan.notes == ()
    assert sides_of(plan)["wave/a"] == "train" and sides_of(plan)["clap/d"] == "test"


def test_an_archive_a_class(tmp_path):
    for label in ("wave", "clap"):
        write(tmp_path / f"{label}.zip", {f"{n}.mp4": b"" for n in range(4)})
    assert scan(tmp_path).class_names == ("clap", "wave")


def test_an_archive_of_lists_that_holds_a_folder_of_its_name(tmp_path):
    videos = {"train": "Run/v_Run_g08_c01.avi", "test": "Run/v_Run_g01_c01.avi"}
    write(tmp_path / "UCF-101.zip", dict.fromkeys(videos.values(), b""))
    lists = {"classInd.txt": "1 Run", "trainlist01.txt": f"{videos['test']} 1", "testlist01.txt": videos["train"]}
    write(tmp_path / "ucfTrainTestlist.zip", {f"ucfTrainTestlist/{name}": text for name, text in lists.items()})
    plan = scan(tmp_path)
    assert sides_of(plan) == {"Run/v_Run_g01_c01": "train", "Run/v_Run_g08_c01": "test"}
    assert plan.layout.endswith("split 1 from the lists in ucfTrainTestlist.zip/ucfTrainTestlist")
