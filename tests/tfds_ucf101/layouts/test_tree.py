"""What a folder holds: numbered pictures, videos by ending or by opening them, links, and odd names."""

import time

import pytest
from building import write_video
from list_files import scan, touch

from r23d_jax.errors import UserError
from tfds_ucf101.layouts.tree import Folder, _Numbered


def test_hidden_files(tmp_path):
    touch(
        tmp_path,
        "a/1.avi",
        "a/2.avi",
        "b/1.avi",
        "a/._1.avi",
        "a/Thumbs.db",
        ".git/x/1.avi",
        "__MACOSX/a/1.avi",
        "a/.h/1.avi",
        "a/@eaDir/1.jpg",
    )
    plan = scan(tmp_path)
    assert [source.name for source in plan.sources] == ["a/1", "a/2", "b/1"]
    assert plan.notes == ()


def test_links(tmp_path):
    touch(tmp_path, "store/1.avi", "store/2.avi", "in/b/3.avi", "in/b/4.avi")
    (tmp_path / "in/a").symlink_to(tmp_path / "store")
    (tmp_path / "in/b/5.avi").symlink_to(tmp_path / "store/1.avi")
    (tmp_path / "in/b/6.avi").symlink_to(tmp_path / "nothing.avi")  # told before the build decodes anything
    assert [source.name for source in scan(tmp_path / "in").sources] == ["a/1", "a/2", "b/3", "b/4", "b/5", "b/6"]


@pytest.mark.parametrize("target", [".", "..", "more", "../b"])
def test_links_that_lead_back(tmp_path, target):
    touch(tmp_path, "in/a/more/1.avi", "in/a/2.avi", "in/b/3.avi")
    (tmp_path / "in/b/back").symlink_to(tmp_path / "in/a")
    (tmp_path / "in/a/more/link").symlink_to(tmp_path / "in/a" / target)
    with pytest.raises(UserError, match="link is a link to a folder that it lies in: remove it|back is a link"):
        scan(tmp_path / "in")


def test_names_with_odd_letters(tmp_path):
    names = ["a b", "a, b", "ü", "日本", "a\nb", "\x1b[31m", "#1", "%20", "ﬁ\u2028x"]
    touch(tmp_path, *(f"Klasse ä/{name}.avi" for name in names), "Klasse ä/a\nb.txt", "b/1.avi")
    plan = scan(tmp_path)
    assert {source.name for source in plan.sources} == {"b/1", *(f"Klasse ä/{name}" for name in names)}
    assert plan.notes == ("passed over, no videos of a class: Klasse ä/a\\nb.txt",)
    touch(tmp_path, "a\nb/1.avi")
    with pytest.raises(UserError, match=r"'a\\nb' cannot be the name of a class folder"):
        scan(tmp_path)


def test_a_name_that_is_not_text(tmp_path):
    touch(tmp_path, "a/1.avi", "a/2.avi")
    (tmp_path / "a" / "\udcff.avi").touch()
    with pytest.raises(UserError, match=r"a: the name b'\\xff.avi' is not UTF-8: rename it"):
        scan(tmp_path)


def test_numbered_pictures(tmp_path):
    names = ["a-0001.jpg", "a-0002.jpg", "a-0004.jpg", "b_9.PNG", "b_10.PNG", "b_11.PNG", "7.webp", "c1d.jpg", "e٣.jpg"]
    touch(tmp_path, *names, "cover.jpg", "12", "clip3.avi")
    folder = Folder(tmp_path)
    assert [(one.prefix, one.suffix, one.width, one.runs) for one in folder.pictures] == [
        ("", ".webp", 1, ((7, 7),)),
        ("a-", ".jpg", 4, ((1, 2), (4, 4))),
        ("b_", ".PNG", 1, ((9, 11),)),
    ]
    assert [one.stem for one in folder.pictures] == ["", "a", "b"]
    media = folder.frames(folder.pictures[1])
    assert (list(media.names()), media.missing_numbers()) == (["a-0001.jpg", "a-0002.jpg", "a-0004.jpg"], 1)
    assert list(folder.frames(folder.pictures[2]).names()) == ["b_9.PNG", "b_10.PNG", "b_11.PNG"]
    assert folder.files == ["12", "c1d.jpg", "clip3.avi", "cover.jpg", "e٣.jpg"]
    assert folder.videos == ["clip3.avi"]


@pytest.mark.parametrize(
    "names, message",
    [
        (["a1.jpg", "a01.jpg"], "a#.jpg numbered in two ways"),
        (
            [f"v_g01_c{clip:02d}{frame:04d}.jpg" for clip in (1, 2, 3) for frame in range(1, 31)],
            "v_g01_c#.jpg numbered 10001 to 10030, 20001 to 20030, 30001 to 30030: frames of several videos",
        ),
        (["a09.jpg", "a010.jpg", "a11.jpg"], "a#.jpg numbered in two ways"),
        (["a1.jpg", "a2.png"], "two kinds, a#.jpg and a#.png"),
        (["a1.jpg", "a2.JPG"], "two kinds, a#.JPG and a#.jpg"),
    ],
)
def test_pictures_numbered_in_two_ways(tmp_path, names, message):
    touch(tmp_path, *names)
    with pytest.raises(UserError, match=message):
        _ = Folder(tmp_path).pictures


def test_files_of_unknown_endings_are_opened(tmp_path):
    write_video(tmp_path / "a.avi", 0)
    for name in ("video", "other", "b.clip", "x.jpg"):
        (tmp_path / name).write_bytes((tmp_path / "a.avi").read_bytes())
    touch(tmp_path, "README", "c.clip", "empty.mp4", "notes.txt")
    folder = Folder(tmp_path)
    # A known ending is believed: an empty video is to be told, and not passed over.
    assert folder.videos == ["a.avi", "b.clip", "empty.mp4", "other", "video"]
    assert folder.others == ["README", "c.clip", "notes.txt", "x.jpg"]


def test_lines(tmp_path):
    (tmp_path / "list.txt").write_bytes("\ufeffa\r\n\r\n b \rc\u2028d\n".encode())
    assert Folder(tmp_path).lines("list.txt") == [(1, "a"), (3, "b"), (4, "c\u2028d")]


def test_the_first_bytes_of_a_text(tmp_path):
    (tmp_path / "list.txt").write_bytes("\ufeffäöü".encode())
    (tmp_path / "bad.txt").write_bytes("ä".encode()[:1])
    assert Folder(tmp_path).text("list.txt", 6) == "ä"
    assert Folder(tmp_path).text("list.txt") == "äöü"
    assert Folder(tmp_path).text("bad.txt", 1) == ""
    with pytest.raises(UserError, match="bad.txt is not UTF-8 text"):
        Folder(tmp_path).text("bad.txt")


def test_a_folder_that_cannot_be_listed(tmp_path):
    with pytest.raises(UserError, match="nothing: cannot be listed: No such file"):
        _ = Folder(tmp_path / "nothing").files


def test_millions_of_pictures_take_seconds():
    """UCF101 as flat frames has 2.5 million; an eighth of that, and more time than it takes on a slow machine."""
    start = time.process_time()
    numbered = _Numbered(Folder("here"))
    for video in range(1600):
        for number in range(1, 201):
            assert numbered.add(f"v_ApplyEyeMakeup_g{video:04d}_c01-{number:04d}.jpg")
    assert [len(one.runs) for one in numbered.sets()] == [1] * 1600
    assert time.process_time() - start < 5
