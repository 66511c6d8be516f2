"""HMDB51's lists and CSV tables: what they say, and what is said of those that do not fit."""

from pathlib import Path

import pytest
from list_files import scan, touch
from paths import REAL

from r23d_jax.errors import UserError
from tfds_ucf101 import csv_lists, hmdb51, lists, sources

OFFICIAL = REAL / "lists" / "hmdb51"


def roles_of(plan: sources.Plan) -> dict[str, tuple[int, ...]]:
    return {source.name: source.roles for source in plan.sources}


# --- HMDB51


@pytest.fixture
def hmdb(tmp_path):
    """Two classes, one with an underscore; four videos each, of which one is used in no split."""
    lines = {1: "a.avi 1 \nb.avi 2 \nc.avi 0 \nd_#2.avi 0 \n", 2: "a.avi 2\nb.avi 1\nc.avi 1\nd_#2.avi 0\n"}
    for name in ("wave", "ride_bike"):
        touch(tmp_path / "videos", *(f"{name}/{stem}.avi" for stem in ("a", "b", "c", "d_#2")))
        for split, text in lines.items():
            path = tmp_path / hmdb51.FOLDER / f"{name}_test_split{split}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text.replace("\n", "\r\n").encode())
    return tmp_path


def test_hmdb51_lists(hmdb):
    plan = scan(hmdb)
    assert plan.class_names == ("ride_bike", "wave")
    assert plan.splits == ("1", "2")
    roles = roles_of(plan)
    for name in plan.class_names:
        assert roles[f"{name}/a"] == (lists.TRAIN, lists.TEST, lists.NEITHER)
        assert roles[f"{name}/b"] == (lists.TEST, lists.TRAIN, lists.NEITHER)
        assert roles[f"{name}/c"] == (lists.NEITHER, lists.TRAIN, lists.NEITHER)
        assert roles[f"{name}/d_#2"] == (lists.NEITHER,) * 3
    assert plan.unlisted == plan.absent == ()  # "neither" is said of d_#2; it is not unlisted
    touch(hmdb / "videos", "wave/e.avi")
    assert scan(hmdb).unlisted == ("wave/e",)


def test_hmdb51_chosen_classes_and_parts(hmdb):
    (hmdb / "videos/wave/b.avi").unlink()
    with pytest.raises(UserError, match="1 videos listed in .*testTrainMulti.* not on disk, first wave/b.*subset"):
        scan(hmdb)
    assert scan(hmdb, subset=True).absent == ("wave/b",)
    assert scan(hmdb, classes=["ride_bike"]).class_names == ("ride_bike",)
    with pytest.raises(UserError, match="has no lists, and 7 of 7 videos carry no group"):
        scan(hmdb, use_lists="ignore")


@pytest.mark.parametrize(
    "file, text, message",
    [
        ("wave_test_split1.txt", "a.avi 3\n", "line 1: 'a.avi 3' is not a file and 0, 1 or 2"),
        ("wave_test_split1.txt", "a.avi\n", "line 1: 'a.avi' is not a file and 0, 1 or 2"),
        ("wave_test_split1.txt", "1\n", "line 1: '1' is not a file and 0, 1 or 2"),
        ("wave_test_split1.txt", "../a.avi 1\n", "'../a.avi' is not the name of a file in the folder wave"),
        ("wave_test_split1.txt", "a.avi 1\na.mp4 2\n", r"line 2: a.mp4 is listed twice \(first in line 1\)"),
        ("wave_test_split1.txt", "z.avi 1\n", "1 videos listed .* first wave/z"),
        ("wave_test_split1.txt", None, "wave_test_split1.txt is missing, other classes have theirs"),
        ("wave_split1.txt", "a.avi 1\n", "wave_split1.txt is not named <class>_test_split1.txt"),
        ("Wave_test_split1.txt", "a.avi 1\n", "the classes Wave and wave differ in upper and lower case only"),
        ("fly_test_split1.txt", "a.avi 1\n", "fly_test_split2.txt is missing"),
    ],
)
def test_hmdb51_lists_that_do_not_fit(hmdb, file, text, message):
    path = hmdb / hmdb51.FOLDER / file
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        scan(hmdb)
    assert "\n" not in str(caught.value)


def test_hmdb51_folder_without_lists(hmdb):
    for path in (hmdb / hmdb51.FOLDER).iterdir():
        path.unlink()
    with pytest.raises(UserError, match="holds no <class>_test_split1.txt"):
        scan(hmdb)


def test_hmdb51_official_lists(tmp_path):
    if not OFFICIAL.is_dir():
        pytest.skip(f"{OFFICIAL} is not there: HMDB51's lists are not part of the project")
    # There in another project's form, "<folder>/<stem> 0 <label>" a side: written as HMDB51's own are.
    names = (OFFICIAL / "label_map.txt").read_text().split()
    assert tuple(names) == hmdb51.CLASSES
    folder = tmp_path / hmdb51.FOLDER
    folder.mkdir()
    stems = {}
    for split in lists.SPLITS:
        lines = {name: [] for name in names}
        for side, flag in (("train", 1), ("val", 2)):
            for line in (OFFICIAL / f"hmdb51_flow_{side}_split_{split}.txt").read_text().splitlines():
                stem, _, label = line.rsplit(" ", 2)
                lines[names[int(label)]].append(f"{stem.split('/')[-1]}.avi {flag} ")
        for name, of_class in lines.items():
            (folder / f"{name}_test_split{split}.txt").write_text("\n".join(of_class))
        stems[split] = {(name, line.split(".avi")[0], line[-2]) for name, of in lines.items() for line in of}
    listed = hmdb51.read(folder)
    for split, sides in listed.splits.items():
        assert tuple(map(len, sides)) == hmdb51.COUNTS
        read = {(*key.split("/"), flag) for side, flag in zip(sides, "12", strict=True) for key in side}
        assert read == stems[split]
    hmdb51.check_counts(listed, listed.splits)
    listed.splits["2"][0].pop()
    with pytest.raises(UserError, match="HMDB51's split 2 has 3570/1530 train/test videos, found 3569/1530"):
        hmdb51.check_counts(listed, listed.splits)


# --- CSV tables

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
    (tmp_path / csv_lists.FILE).write_text(TABLE)
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
    assert all(Path(source.path).is_file() for source in plan.sources)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv_as_other_programs_write_it(folder, encoding, newline):
    touch(folder, "jürgen/5.mp4")
    lines = [" Path , SPLIT,seconds,Label", "", "jürgen\\5.mp4, Test ,1.5,wave", "./anna//1.mp4,train,2,wave"]
    (folder / csv_lists.FILE).write_bytes(newline.join(lines).encode(encoding))
    roles = roles_of(scan(folder))
    assert {name: role[0] for name, role in roles.items()} == {"wave/jürgen/5": lists.TEST, "wave/anna/1": lists.TRAIN}


def test_csv_with_a_column_a_split(folder):
    text = "path,label,split1,split3\nanna/1.mp4,wave,train,test\nanna/2.mp4,wave,test,train\n"
    (folder / csv_lists.FILE).write_text(text)
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
    (folder / csv_lists.FILE).unlink()
    for name, text in files.items():
        (folder / csv_lists.FOLDER).mkdir(exist_ok=True)
        (folder / csv_lists.FOLDER / name).write_text(text)
    assert roles_of(scan(folder)) == roles


def test_csv_over_folders_of_frames(folder):
    touch(folder, "shots/a/1.jpg", "shots/b/1.jpg")
    (folder / csv_lists.FILE).write_text("path,label,split\nshots/a,wave,train\nshots/b,wave,test\n")
    assert list(roles_of(scan(folder))) == ["wave/shots/a", "wave/shots/b"]


def test_csv_names_ucf101s_layout_as_its_lists_do(tmp_path):
    names = [f"Run/v_Run_g{group:02d}_c01.avi" for group in (1, 9, 16)]
    touch(tmp_path / "videos", *names)
    plain = scan(tmp_path)
    sides = [[("train", "test")[role - 1] for role in source.roles] for source in plain.sources]
    rows = [",".join(["videos/" + name, "Run", *side]) for name, side in zip(names, sides, strict=True)]
    (tmp_path / csv_lists.FILE).write_text("\n".join(["path,label,split1,split2,split3", *rows]))
    assert scan(tmp_path) == plain


@pytest.mark.parametrize(
    "row, message",
    [
        ("../out.mp4,wave,train", r"line 6: '../out.mp4' does not stay in the input folder"),
        ("anna/../../out.mp4,wave,train", "does not stay in the input folder"),
        ("..\\out.mp4,wave,train", "does not stay in the input folder"),
        ("/etc/passwd,wave,train", "does not stay in the input folder"),
        ("C:\\clips\\1.mp4,wave,train", "does not stay in the input folder"),
        (",wave,train", "line 6: the path is ''"),
        ('"a\nb.mp4",wave,train', r"line 7: the path is 'a\\nb.mp4'"),
        ("anna/9.mp4,,train", "line 6: no label"),
        ("anna/9.mp4,a/b,train", "'a/b' cannot be the name of a class"),
        ("anna/9.mp4,Wave,train", "the classes Wave and wave differ in upper and lower case only"),
        ("anna/9.mp4,wave,val", "line 6: split is 'val'; give train or test, or leave it empty"),
        ("anna/9.mp4,wave", "line 6: 2 fields, the first line has 3; quote those with commas"),
        ("ben, at home/9.mp4,wave,train", "line 6: 4 fields, the first line has 3"),
        ('"anna/9.mp4,wave,train', "line 6: not a CSV table"),
        ("anna/1.mp4,wave,train", "line 6: anna/1.mp4 is in split 1 by .*videos.csv line 2 already: listed twice"),
        ("anna/1.mp4,wave,test", "line 6: anna/1.mp4 is in split 1 by .* line 2 already: test here and train there"),
        ("anna/1.mp4,jump,test", "line 6: anna/1.mp4 is 'jump' here and 'wave' in .*videos.csv line 2"),
        ("anna/1.avi,wave,train", "anna/1.avi and anna/1.mp4 would both be named wave/anna/1"),
        ("anna/9.mp4,wvae,test", "line 6: the label 'wvae' is tested but never trained in split 1"),
        ("anna/9.mp4,wave,train", "1 videos listed in .*videos.csv are not on disk, first anna/9.mp4.*subset"),
    ],
)
def test_rows_that_do_not_fit(folder, row, message):
    with open(folder / csv_lists.FILE, "a", newline="") as file:
        file.write(row + "\n")
    with pytest.raises(UserError, match=message) as caught:
        scan(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, message",
    [
        (b"", "is empty; its first line must be path,label,split"),
        (b"path,label,split\n", "lists no videos"),
        (b"path;label;split\na;b;c\n", "line 1: no column 'path' in 'path;label;split'"),
        (b"path,class,split\n", "line 1: no column 'label'"),
        (b"path,label\nanna/1.mp4,wave\n", "line 1: no column 'split'; give it"),
        (b"path,label,split,split\n", "the column 'split' is there twice"),
        (b"path,label,split4\n", "unknown column 'split4'"),
        (b"path,label,split,split1\n", "split and split1 exclude each other"),
        (b"path,label,split\nanna/1.mp4,wave,train\n", "every split has one side without videos"),
        ("path,label,split\nanna/1.mp4,wave,träin\n".encode("latin-1"), "is not UTF-8"),
        (b"path,label,split\nv_A_g01_c01.avi,A,train\nv_A_g01_c02.avi,A,test\n", "has group 1 of A on both sides"),
    ],
)
def test_tables_that_do_not_fit(folder, text, message):
    touch(folder, "v_A_g01_c01.avi", "v_A_g01_c02.avi")
    (folder / csv_lists.FILE).write_bytes(text)
    with pytest.raises(UserError, match=message) as caught:
        scan(folder)
    assert "\n" not in str(caught.value)


def test_csv_choices(folder):
    (folder / "anna/2.mp4").unlink()
    with pytest.raises(UserError, match="first anna/2.mp4"):
        scan(folder)
    (folder / csv_lists.FILE).write_text(TABLE + "anna/9.mp4,wave,train\nvideos/jump/3b.avi,jump,test\n")
    touch(folder, "videos/jump/3b.avi")
    plan = scan(folder, subset=True)
    assert plan.absent == ("wave/anna/2", "wave/anna/9")
    plan = scan(folder, classes=["Jump"])
    assert plan.class_names == ("jump",)
    assert [source.label for source in plan.sources] == [0, 0, 0]
    with pytest.raises(UserError, match="asks for the class fly, which .*videos.csv does not have"):
        scan(folder, classes=["fly"])


def test_lists_of_two_kinds(folder):
    (folder / lists.LISTS_FOLDER).mkdir()
    with pytest.raises(UserError, match="ucfTrainTestlist and .*videos.csv are both there"):
        scan(folder)
    (folder / lists.LISTS_FOLDER).rmdir()
    (folder / csv_lists.FOLDER).mkdir()
    assert scan(folder, use_lists="required").splits == ("1",)  # no tables in it
    (folder / csv_lists.FOLDER / "more.csv").touch()
    with pytest.raises(UserError, match="videos.csv and .*more.csv are both there"):
        scan(folder)
    with pytest.raises(UserError, match="1 of 1 videos carry no group"):
        scan(folder, use_lists="ignore")
