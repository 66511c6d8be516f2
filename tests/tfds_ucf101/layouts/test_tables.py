"""Tables of videos of every form: what they say, and what is said of those that do not fit."""

from pathlib import Path

import pytest
from list_files import scan, touch

from r23d_jax.errors import UserError
from tfds_ucf101 import lists, sources
from tfds_ucf101.layouts import tables, ucf101


def roles_of(plan: sources.Plan) -> dict[str, tuple[int, ...]]:
    return {source.name: source.roles for source in plan.sources}


PATHS = ("anna/1.mp4", "anna/2.mp4", "videos/jump/3.avi", "ben, at home/4.mkv")
TABLE = """path,label,split
anna/1.mp4,wave,train
anna/2.mp4,wave,test
videos/jump/3.avi,jump,train
"ben, at home/4.mkv",jump,
"""


@pytest.fixture
def folder(tmp_path):
    touch(tmp_path, *PATHS)
    (tmp_path / tables.FILE).write_text(TABLE)
    return tmp_path


def test_csv(folder):
    plan = scan(folder)
    assert plan.class_names == ("jump", "wave")
    assert plan.splits == ("1",)
    assert {name: roles[0] for name, roles in roles_of(plan).items()} == {
        "wave/anna/1": lists.TRAIN,
        "wave/anna/2": lists.TEST,
        "jump/3": lists.TRAIN,  # as UCF101's layout would name it
        "jump/ben, at home/4": lists.NEITHER,
    }
    assert {source.name: source.shown for source in plan.sources}["jump/3"] == "videos/jump/3.avi"
    assert all(Path(source.media.path).is_file() for source in plan.sources)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv_as_other_programs_write_it(folder, encoding, newline):
    touch(folder, "jürgen/5.mp4")
    lines = [" Path , SPLIT,seconds,Label", "", "jürgen\\5.mp4, Test ,1.5,wave", "./anna//1.mp4,train,2,wave"]
    (folder / tables.FILE).write_bytes(newline.join(lines).encode(encoding))
    roles = roles_of(scan(folder))
    assert {name: role[0] for name, role in roles.items()} == {"wave/jürgen/5": lists.TEST, "wave/anna/1": lists.TRAIN}


def test_csv_with_a_column_a_split(folder):
    text = "path,label,split1,split3\nanna/1.mp4,wave,train,test\nanna/2.mp4,wave,test,train\n"
    (folder / tables.FILE).write_text(text)
    assert roles_of(scan(folder)) == {"wave/anna/1": (1, 0, 2), "wave/anna/2": (2, 0, 1)}


@pytest.mark.parametrize(
    "files, roles",
    [
        (
            {
                "list1.csv": "path,label,split\nanna/1.mp4,wave,train\nanna/2.mp4,wave,test\n",
                "list02.csv": "path,label,split\nanna/1.mp4,wave,test\nanna/2.mp4,wave,train\n",
            },
            {"wave/anna/1": (1, 2, 0), "wave/anna/2": (2, 1, 0)},
        ),
        (
            {"train.csv": "path,label\nanna/1.mp4,wave\n", "test.csv": "path,label\nanna/2.mp4,wave\n"},
            {"wave/anna/1": (1, 0, 0), "wave/anna/2": (2, 0, 0)},
        ),
        (
            {
                "train_1.csv": "path,label\nanna/1.mp4,wave\n",
                "test_1.csv": "path,label\nanna/2.mp4,wave\n",
                "train_2.csv": "path,label\nanna/2.mp4,wave\n",
                "test_2.csv": "path,label\nanna/1.mp4,wave\n",
            },
            {"wave/anna/1": (1, 2, 0), "wave/anna/2": (2, 1, 0)},
        ),
    ],
)
def test_several_tables(folder, files, roles):
    (folder / tables.FILE).unlink()
    for name, text in files.items():
        (folder / tables.FOLDER).mkdir(exist_ok=True)
        (folder / tables.FOLDER / name).write_text(text)
    assert roles_of(scan(folder)) == roles


def test_csv_over_folders_of_frames(folder):
    touch(folder, "shots/a/1.jpg", "shots/b/1.jpg")
    (folder / tables.FILE).write_text("path,label,split\nshots/a,wave,train\nshots/b,wave,test\n")
    assert list(roles_of(scan(folder))) == ["wave/shots/a", "wave/shots/b"]


def test_csv_names_ucf101s_layout_as_its_lists_do(tmp_path):
    names = [f"Run/v_Run_g{group:02d}_c01.avi" for group in (1, 9, 16)]
    touch(tmp_path / "videos", *names)
    plain = scan(tmp_path)
    sides = [[("train", "test")[role - 1] for role in source.roles] for source in plain.sources]
    rows = [",".join(["videos/" + name, "Run", *side]) for name, side in zip(names, sides, strict=True)]
    (tmp_path / tables.FILE).write_text("\n".join(["path,label,split1,split2,split3", *rows]))
    listed = scan(tmp_path)
    assert listed.sources == plain.sources
    assert listed.layout == "videos and a table: 3 videos, splits 1 to 3 from videos.csv"


@pytest.mark.parametrize(
    "row, message",
    [
        ("../out.mp4,wave,train", r"line 6: '../out.mp4' does not stay in the input folder"),
        ("anna/../../out.mp4,wave,train", "does not stay in the input folder"),
        ("..\\out.mp4,wave,train", "does not stay in the input folder"),
        ("/etc/passwd,wave,train", "1 videos listed in .*videos.csv are not on disk, first /etc/passwd"),
        ("C:\\clips\\1.mp4,wave,train", "does not stay in the input folder"),
        (",wave,train", "line 6: the path is ''"),
        ('"a\nb.mp4",wave,train', r"line 7: the path is 'a\\nb.mp4'"),
        ("anna/9.mp4,,train", "line 6: no label"),
        ("anna/9.mp4,a/b,train", "'a/b' cannot be the name of a class"),
        ("anna/9.mp4,Wave,train", "the classes Wave and wave differ in upper and lower case only"),
        ("anna/9.mp4,wave,vla", "line 6: split is 'vla'; give train, val or test, or leave it empty"),
        ("anna/9.mp4,wave", "line 6: 2 fields, the first line has 3; quote those with commas"),
        ("ben, at home/9.mp4,wave,train", "line 6: 4 fields, the first line has 3"),
        ('"anna/9.mp4,wave,train', "line 6: not a CSV table"),
        ("anna/1.mp4,wave,train", "line 6: anna/1.mp4 is in split 1 by .*videos.csv line 2 already: listed twice"),
        ("anna/1.mp4,wave,test", "line 6: anna/1.mp4 is in split 1 by .* line 2 already: test here and train there"),
        ("anna/1.mp4,jump,test", "line 6: anna/1.mp4 is 'jump' here and 'wave' in .*videos.csv line 2"),
        ("anna/1.avi,wave,train", "anna/1.avi and anna/1.mp4 would both be named wave/anna/1"),
        ("anna/9.mp4,wvae,test", "line 6: the label 'wvae' is tested but never trained in split 1"),
        ("anna/9.mp4,wvae,val", "line 6: the label 'wvae' is tested but never trained in split 1"),
        ("./anna//1.MP4,wave,neither", "anna/1.MP4 and anna/1.mp4 would both be named wave/anna/1"),
        ("anna/9.mp4,wave,train", "1 videos listed in .*videos.csv are not on disk, first anna/9.mp4.*subset"),
    ],
)
def test_rows_that_do_not_fit(folder, row, message):
    with open(folder / tables.FILE, "a", newline="") as file:
        file.write(row + "\n")
    with pytest.raises(UserError, match=message) as caught:
        scan(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, message",
    [
        (b"", "is empty; its first line must be path,label,split"),
        (b"path,label,split\n", "lists no videos"),
        (b"path|label|split\na|b|c\n", r"line 1: no column 'path' in 'path\|label\|split'"),
        (b"path,kind,split\n", "line 1: no column 'label'"),
        (b"path,label,split,split\n", "the column 'split' is there twice"),
        (b"path,label,split0\n", "unknown column 'split0'; give split, or split1, split2 and so on to 10"),
        (b"path,label,split11\n", "unknown column 'split11'"),
        (b"path,label,split4\nanna/1.mp4,a,train\nanna/2.mp4,a,test\n", "has the split 4; set the config's folds to 4"),
        (b"path,label,split,split1\n", "split and split1 exclude each other"),
        (b"path,label,split\nanna/1.mp4,wave,train\n", "every split has one side without videos"),
        ("path,label,split\nanna/1.mp4,wave,träin\n".encode("latin-1"), "is not UTF-8"),
        (
            b"path,label,split\nv_A_g01_c01.avi,A,train\nv_A_g01_c02.avi,A,test\n",
            "clips of one source video on two sides: A/v_A_g01_c01 is train",
        ),
    ],
)
def test_tables_that_do_not_fit(folder, text, message):
    touch(folder, "v_A_g01_c01.avi", "v_A_g01_c02.avi")
    (folder / tables.FILE).write_bytes(text)
    with pytest.raises(UserError, match=message) as caught:
        scan(folder)
    assert "\n" not in str(caught.value)


def test_csv_choices(folder):
    (folder / "anna/2.mp4").unlink()
    with pytest.raises(UserError, match="first anna/2.mp4"):
        scan(folder)
    (folder / tables.FILE).write_text(TABLE + "anna/9.mp4,wave,train\nvideos/jump/3b.avi,jump,test\n")
    touch(folder, "videos/jump/3b.avi")
    plan = scan(folder, subset=True)
    assert plan.absent == ("wave/anna/2", "wave/anna/9")
    plan = scan(folder, classes=["Jump"])
    assert plan.class_names == ("jump",)
    assert [source.label for source in plan.sources] == [0, 0, 0]
    with pytest.raises(UserError, match="asks for the class fly, which .*videos.csv does not have"):
        scan(folder, classes=["fly"])


def test_lists_of_two_kinds(folder):
    (folder / ucf101.FOLDER).mkdir()
    with pytest.raises(UserError, match="ucfTrainTestlist and .*videos.csv are both there"):
        scan(folder)
    (folder / ucf101.FOLDER).rmdir()
    (folder / tables.FOLDER).mkdir()
    assert scan(folder, use_lists="required").splits == ("1",)  # no tables in it
    (folder / tables.FOLDER / "more.csv").touch()
    with pytest.raises(UserError, match="videos.csv and .*more.csv are both there"):
        scan(folder)
    with pytest.raises(UserError, match="every split has one side without videos .*from chance"):
        scan(folder, use_lists="ignore", classes=["jump"])


def test_a_table_without_sides_is_divided_by_chance(tmp_path):
    names = [f"{number}.mp4" for number in range(20)]
    touch(tmp_path / "clips", *names)
    rows = [f"clips/{name},{'wave' if place % 2 else 'jump'}" for place, name in enumerate(names)]
    (tmp_path / "videos.csv").write_text("\n".join(["path,label", *rows]))
    plan = scan(tmp_path)
    assert plan.class_names == ("jump", "wave")
    sides = [source.roles[0] for source in plan.sources]
    assert [sides.count(role) for role in (lists.TRAIN, lists.VAL, lists.TEST)] == [14, 2, 4]
    assert "20 videos, split 1 from chance" in plan.layout
    (tmp_path / "videos.csv").rename(tmp_path / "list.csv")
    (tmp_path / "lists").mkdir()
    (tmp_path / "list.csv").rename(tmp_path / "lists/list.csv")
    with pytest.raises(UserError, match="list.csv line 1: no column 'split'; give it"):
        scan(tmp_path)
