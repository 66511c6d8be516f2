"""What a probe learns from: folders, tables and built data sets, opened as they are found."""

import pickle
import subprocess
import sys
import textwrap
from collections import Counter

import fake_data
import pytest
from fake_videos import write_video
from list_files import pretend, touch, write, write_lists
from paths import ROOT, needs_real

from r23d_jax.errors import UserError
from r23d_jax.probing.data import open_data
from tfds_ucf101.layouts import references, ucf101


def parts(data):
    return {video.name: video.part for video in data.videos}


def test_a_folder_without_sides_is_all_train(tmp_path):
    touch(tmp_path / "mine", *(f"{name}/{n}.mp4" for name in ("wave", "clap") for n in (2, 1)), "clap/readme.txt")
    data = open_data(tmp_path / "mine")
    assert [video.name for video in data.videos] == ["clap/1", "clap/2", "wave/1", "wave/2"]
    assert [video.label for video in data.videos] == [0, 0, 1, 1] and data.class_names == ("clap", "wave")
    assert {video.part for video in data.videos} == {"train"} and not data.has_test
    assert {video.group for video in data.videos} == {""}
    assert (data.split, data.splits, data.leak_check) == ("1", ("1",), True)
    assert (data.full_name, data.stored_as, data.channels, data.flow, data.dataset) == ("mine", None, "rgb", None, None)
    assert data.layout == "videos in class folders: 4 videos, nothing in it says train and test"
    assert data.notes == ("passed over, no videos of a class: clap/readme.txt",)
    assert data.videos[0].shown == "clap/1.mp4" and data.positions == (0, 1, 2, 3)
    assert (
        open_data(f"{tmp_path}/mine/").fingerprint == data.fingerprint == pickle.loads(pickle.dumps(data)).fingerprint
    )


def test_groups_are_source_videos_or_folders_of_a_class(tmp_path):
    touch(
        tmp_path,
        *(f"wave/p{person}/{n}.mp4" for person in range(5) for n in (1, 2)),
        "clap/x_g01_c01.mp4",
        "clap/b.mp4",
    )
    groups = {video.name: video.group for video in open_data(tmp_path).videos}
    assert groups["wave/p3/1"] == groups["wave/p3/2"] == "wave/p3"
    assert (groups["clap/x_g01_c01"], groups["clap/b"]) == ("x_g01", "")


def test_lists_say_the_sides_of_every_split(tmp_path):
    names = [f"{name}/v_{name}_g{n:02d}_c01" for name in ("Jump", "Run") for n in (1, 2, 3)]
    touch(tmp_path / "videos", *(f"{name}.avi" for name in names), "Run/unlisted.avi")
    files = [f"{name}.avi" for name in names]
    two = {"1": (files[::3] + files[1::3], files[2::3]), "2": (files[2::3] + files[1::3], files[::3])}
    write_lists(tmp_path / "ucfTrainTestlist", ("Run", "Jump"), two)
    data = open_data(tmp_path, "2")
    assert data.class_names == ("Run", "Jump") and data.splits == ("1", "2") and data.has_test
    assert Counter(parts(data).values()) == {"train": 4, "test": 2, "neither": 1}
    assert parts(data)["Jump/v_Jump_g01_c01"] == "test" and parts(open_data(tmp_path))["Jump/v_Jump_g01_c01"] == "train"
    assert data.layout.endswith("7 videos, splits 1 and 2 from the lists in ucfTrainTestlist")
    assert "in no list and not used: 1 videos, first Run/unlisted" in data.notes
    with pytest.raises(UserError, match=f"split 3: {tmp_path.name} has the splits 1, 2$"):
        open_data(tmp_path, "3")
    with pytest.raises(UserError, match="split all: give one split at a time"):
        open_data(tmp_path, "all")


@pytest.mark.parametrize("sides, has_test", [(("train", "val", "test"), True), (("train", "val"), False)])
def test_val_stays_val(tmp_path, sides, has_test):
    touch(tmp_path / "folders", *(f"{side}/{name}/{side}.mp4" for side in sides for name in "ab"))
    rows = [f"{name}/{side}.mp4,{name},{side}" for side in sides for name in "ab"]
    write(tmp_path, {"tables/any.csv": "\n".join(["path,label,split", *rows])})
    touch(tmp_path / "tables", *(row.split(",")[0] for row in rows))
    for given in ("folders", "tables", "tables/any.csv"):
        data = open_data(tmp_path / given)
        assert parts(data) == {f"{name}/{side}": side for side in sides for name in "ab"}
        assert data.has_test == has_test


def test_groups_of_ucf101_decide_where_they_can(tmp_path):
    names = [f"{name}/v_{name}_g{n:02d}_c01.avi" for name in ("Run", "Jump") for n in (3, 9)]
    touch(tmp_path / "both", *names)
    data = open_data(tmp_path / "both", "2")
    assert data.layout == "videos in class folders: 4 videos, splits 1 and 2 from groups"
    assert parts(data)["Run/v_Run_g09_c01"] == "test"
    touch(tmp_path / "one", *names[::2])
    assert set(parts(open_data(tmp_path / "one")).values()) == {"train"}
    touch(tmp_path / "some", *names, "Run/of_no_group.avi")
    assert set(parts(open_data(tmp_path / "some")).values()) == {"train"}


def test_a_part_of_ucf101_is_a_note(tmp_path, monkeypatch):
    pretend(monkeypatch, tmp_path, [f"{name}/{n}.avi" for name in ucf101.CLASSES for n in (1, 2)])
    data = open_data(tmp_path)
    assert data.class_names == ucf101.CLASSES and data.notes == ("UCF101 has 13320 videos, found 202",)
    pretend(monkeypatch, tmp_path, [f"{name}.avi" for name in ucf101.names() if "_c01" in name])
    data = open_data(tmp_path)
    assert data.has_test and data.notes[0].startswith("UCF101 has 13320 videos, found 2525; missing: ApplyEyeMakeup/v_")


@pytest.mark.parametrize("name", ["labels.csv", "train.csv", "my videos.TSV", "list.txt"])
def test_a_table_need_not_say_sides(tmp_path, name):
    """Also one that is called like a list of labels, which it is not."""
    between = "\t" if name.endswith("TSV") else ","
    touch(tmp_path, "anna/1.mp4", "ben/2.mp4", "not listed.mp4", "test.csv", "archive.zip")
    write(tmp_path, {name: f"path{between}label\nanna/1.mp4{between}0\nben/2.mp4{between}1\n"})
    data = open_data(tmp_path / name)
    assert data.class_names == ("0", "1") and data.full_name == name and data.notes == ()
    assert [(video.name, video.label, video.part, video.shown) for video in data.videos] == [
        ("0/anna/1", 0, "train", "anna/1.mp4"),
        ("1/ben/2", 1, "train", "ben/2.mp4"),
    ]


@pytest.mark.parametrize(
    "name, text",
    [
        ("ann.txt", "a/1.mp4 0\nb/2.mp4 1\n"),
        ("pairs.csv", "a/1.mp4,a\nb/2.mp4,b\n"),
        ("jester.csv", "a/1.mp4;a\nb/2.mp4;b\n"),
        ("some.json", '[{"id": "1", "template": "a"}, {"id": "2", "template": "b"}]'),
    ],
)
def test_tables_without_a_line_of_columns(tmp_path, name, text):
    touch(tmp_path, "a/1.mp4", "b/2.mp4")
    write(tmp_path, {name: text})
    data = open_data(tmp_path / name)
    assert data.class_names == ("a", "b") and [video.shown for video in data.videos] == ["a/1.mp4", "b/2.mp4"]


def test_a_table_of_absolute_paths(tmp_path, monkeypatch):
    touch(tmp_path, "disk/wave/1.mp4", "disk/clap/2.mp4")
    (tmp_path / "home").mkdir()
    rows = [f"{tmp_path}/disk/{path},{label}" for path, label in (("wave/1.mp4", "wave"), ("clap/2.mp4", "clap"))]
    write(tmp_path, {"home/videos.csv": "\n".join(["path,label", *rows])})
    monkeypatch.setattr(references, "_walk", lambda folder: pytest.fail("looked through somebody's home"))
    monkeypatch.chdir(tmp_path / "home")
    data = open_data("videos.csv")
    assert [video.name for video in data.videos] == ["clap/2", "wave/1"]
    assert data.reader.media[1].path == f"{tmp_path}/disk/wave/1.mp4"


def test_a_missing_file_of_a_table_is_named(tmp_path):
    touch(tmp_path, "a/1.mp4", "b/2.mp4")
    write(tmp_path, {"own.csv": "path,label\na/1.mp4,a\nb/7.mp4,b\nb/2.mp4,b\nb/8.mp4,b\n"})
    with pytest.raises(
        UserError, match="2 videos listed in .*own.csv are not on disk, first b/7.mp4: add them, or take"
    ):
        open_data(tmp_path / "own.csv")


def test_classes_without_train_videos(tmp_path):
    rows = ["a/1.mp4,a,train", "b/2.mp4,b,train", "c/3.mp4,c,"]
    touch(tmp_path, *(row.split(",")[0] for row in rows))
    write(tmp_path, {"own.csv": "\n".join(["path,label,split", *rows])})
    assert open_data(tmp_path / "own.csv").notes == ("split 1 has no train video of these classes: c",)
    write(tmp_path, {"own.csv": "\n".join(["path,label,split", rows[0], "b/2.mp4,b,", rows[2]])})
    with pytest.raises(UserError, match="split 1 has train videos of one class at most, and none of b, c"):
        open_data(tmp_path / "own.csv")
    touch(tmp_path / "grouped", "Run/v_Run_g09_c01.avi", "Sit/v_Sit_g09_c01.avi", "Jump/v_Jump_g01_c01.avi")
    assert open_data(tmp_path / "grouped").notes == ("split 1 has no train video of these classes: Jump",)


LISTS = {"ucfTrainTestlist/classInd.txt": "1 a\n2 b\n", "ucfTrainTestlist/testlist01.txt": "b/2.mp4\n"}


@pytest.mark.parametrize(
    "paths, texts, given, message",
    [
        (["1.mp4", "2.mp4"], {}, "", "is of no known layout: it holds 1.mp4, 2.mp4. .* a folder a class"),
        (["mine/1.mp4", "mine/2.mp4"], {}, "", "all videos are in one folder, mine, .*: put them in a folder a class"),
        (["a/x_g01_c01.mp4", "a/x_g02_c01.mp4"], {}, "", "has one class only, a: a probe needs two; give a folder a"),
        (["a/1.mp4"], {"t.csv": "path,label\na/1.mp4,a\n"}, "t.csv", "t.csv has one class only, a"),
        (["a/1.mp4"], {"t.csv": "path,lable\na/1.mp4,a\n"}, "t.csv", "t.csv line 1: no column 'label' in 'path,lable'"),
        (["a/1.mp4"], {"t.csv": "clip,kind\na/1.mp4,a\n"}, "t.csv", "t.csv line 1: no column 'path' in 'clip,kind'"),
        (["a/1.mp4"], {"t.csv": "path,label\n../1.mp4,a\n"}, "t.csv", "line 2: '../1.mp4' does not stay in the input"),
        (["a/1.mp4"], {"t.csv": "path,label,split\na/1.mp4,a,test\n"}, "t.csv", "no train video .they are from t.csv"),
        (["a/1.mp4"], {}, "a/1.mp4", "1.mp4 is a video: give a folder that holds a folder of videos a class, a table"),
        (["a.zip"], {}, "a.zip", "a.zip is an archive: give the folder that it lies in"),
        (["a.npz"], {}, "a.npz", "a.npz is no table: give"),
        ([], {}, "nothing", "nothing does not exist: give a folder that holds .* or NAME@DATA_DIR of a built data set"),
        (["a/1.mp4", "b/2.mp4"], LISTS | {"ucfTrainTestlist/trainlist01.txt": "a/1.mp4 1\na/3.mp4 1\n"}, "",
         "1 videos listed in .*ucfTrainTestlist are not on disk, first a/3: add them, or take them out of the lists$"),
        (["a/1.mp4", "b/2.mp4", "c/3.mp4"], LISTS | {"ucfTrainTestlist/trainlist01.txt": "a/1.mp4 1\n"}, "",
         "the class folder c in .* is not in the classes of .*: add it there, or remove the folder$"),
        (["a/1.mp4"], LISTS | {"ucfTrainTestlist/trainlist01.txt": "a/1.mp4 1\n"}, "",
         r"the class b \(1 in all\) has no folder in .*: add it, or take it out of the lists$"),
        (["train/a/x_g01_c01.mp4", "test/a/x_g01_c02.mp4"], {}, "", "on two sides: .*lists, they must stay together$"),
        (["a/1/flow_x_1.jpg", "a/1/flow_y_1.jpg", "b/2/img_1.jpg"], {}, "", "a/1 holds optical flow only, which is"),
        (["train/Biking/v_Biking_g01_c01.avi", "train/Punch/v_Punch_g08_c01.avi", "test/Punch/v_Punch_g09_c01.avi"],
         {}, "", "the folders' own sides are not UCF101's split 1 in 2 .*: move them$"),
    ],
)  # fmt: skip
def test_what_is_refused_is_said_in_one_line(tmp_path, paths, texts, given, message):
    """And never by keys of the builder's config, which a probe has not."""
    touch(tmp_path, *paths)
    write(tmp_path, texts)
    with pytest.raises(UserError, match=message) as caught:
        open_data(tmp_path / given)
    said = str(caught.value)
    assert "\n" not in said and not any(word in said for word in ("config", "manual_dir", "subset", "flow_files"))


def test_an_empty_class_folder(tmp_path):
    touch(tmp_path, "a/1.mp4", "b/2.mp4")
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError, match="the class folder .*c is empty: fill it or remove it"):
        open_data(tmp_path)


def test_a_built_set(tmp_path):
    fake_data.write(tmp_path, classes=2, groups=3, frames=4)
    data = open_data(f"tfds_ucf101@{tmp_path}", "2")
    dataset = data.dataset
    assert (data.full_name, data.stored_as) == ("tfds_ucf101/rgb/1.1.0", dataset.stored_as)
    assert data.class_names == dataset.class_names and data.splits == ("1", "2", "3") and data.has_test
    assert [video.name for video in data.videos] == sorted(dataset.videos.names())
    for video, position in zip(data.videos, data.positions, strict=True):
        record = dataset.videos[position]
        assert (video.name, video.label, video.part) == (record.name, record.label, record.splits["2"])
        assert video.group == record.origin != ""
    assert data.layout == "built data set: 6 videos of 32x40, splits 1, 2, 3"
    other = fake_data.write(tmp_path / "unpacked", classes=2, groups=3, frames=4, seed=1)
    assert (
        open_data(f"rgb@{other.parents[2]}", "2").fingerprint
        != data.fingerprint
        != open_data(f"@{tmp_path}").fingerprint
    )
    with pytest.raises(
        UserError, match=f"x@{tmp_path}: no such data set in {tmp_path} .*tfds_ucf101/x, .*build it: tfds"
    ):
        open_data(f"x@{tmp_path}")
    with pytest.raises(UserError, match="split 4: tfds_ucf101/rgb/1.1.0 has the splits 1, 2, 3"):
        open_data(f"rgb@{tmp_path}", "4")
    with pytest.raises(UserError, match=f"holds built data sets: give tfds_ucf101/rgb@{tmp_path}"):
        open_data(tmp_path)
    touch(tmp_path, "videos/wave/1.mp4", "videos/clap/1.mp4")
    assert open_data(tmp_path).class_names == ("clap", "wave")
    with pytest.raises(UserError, match=f"rgb@{tmp_path}/no: {tmp_path}/no is no folder"):
        open_data(f"rgb@{tmp_path}/no")


def test_the_fingerprint_is_of_names_labels_and_parts(tmp_path):
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4", "4.mp4")

    def of(*rows):
        write(tmp_path, {"own.csv": "\n".join(["path,label,split", *rows])})
        return open_data(tmp_path / "own.csv").fingerprint

    same = "2.mp4,b,train"
    found = [of("1.mp4,a,train", same), of("3.mp4,a,train", same), of("1.mp4,c,train", same)]
    found += [of("1.mp4,a,train", same, "4.mp4,a,val"), of("1.mp4,a,train", same, "4.mp4,a,test")]
    assert len(set(found)) == 5 and of("1.mp4,a,train", same) == found[0]


def test_neither_tfds_nor_other_libraries_of_the_build_are_needed(tmp_path):
    for name in ("clap", "wave"):
        write_video(tmp_path / name / "1.mkv", count=3)
    touch(tmp_path / "rar", "UCF101.rar")
    touch(tmp_path / "parquet", "data/train-00000-of-00001.parquet")
    program = f"""
        import sys
        absent = "tensorflow tensorflow_datasets apache_beam mlcroissant pyarrow rarfile google_crc32c"
        sys.modules.update(dict.fromkeys(absent.split()))
        from r23d_jax.errors import UserError
        from r23d_jax.probing.data import open_data
        data = open_data({str(tmp_path)!r})
        print(len(data.videos), data.scan(0, 16).count, len(data.content_sha256(1)))
        for name in ("rar", "parquet"):
            try:
                open_data({str(tmp_path)!r} + "/" + name)
            except UserError as error:
                print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, cwd=ROOT)
    assert not done.returncode, done.stderr
    opened, *errors = done.stdout.splitlines()
    assert opened == "2 3 64"
    for error, (name, library) in zip(
        errors, (("UCF101.rar: a rar", "rarfile"), ("a Parquet", "pyarrow")), strict=True
    ):
        assert f"{name} file needs {library}, not installed here: pip install 'r23d_jax[build]'" in error


def test_real_videos():
    data = open_data(needs_real("tennis7"))
    assert Counter(parts(data).values()) == {"train": 259, "test": 112} and len(data.class_names) == 7
    sides = {}
    for video in data.videos:
        sides.setdefault(video.group, set()).add(video.part)
    assert "" not in sides and len(sides) == 177 and all(len(one) == 1 for one in sides.values())
    assert Counter(parts(open_data(needs_real("ps7"), "3")).values()) == {"train": 18, "test": 9}
