"""Tables as matthewjansen, SlowFast, mmaction2, Kinetics, Something-Something, Jester and others write them."""

import zipfile
from pathlib import Path

import pytest
from list_files import scan, sides_of, touch, write, write_lists

from r23d_jax.errors import UserError
from tfds_ucf101 import sources


def put(folder: Path, texts: dict[str, str], *paths: str) -> sources.Plan:
    """Tables and videos in a folder, and the plan of it."""
    write(folder, texts)
    touch(folder, *paths)
    return scan(folder)


def test_matthewjansen_has_a_table_a_side(tmp_path):
    paths = {side: [f"{side}/{name}/v_{name}_g0{group}_c01.avi" for name in ("Swing", "Archery")]
             for group, side in enumerate(("train", "val", "test"), 1)}  # fmt: skip
    header = "clip_name,clip_path,label"
    texts = {
        f"{side}.csv": "\n".join([header, *(f"{path[-15:-4]},/{path},{path.split('/')[1]}" for path in of_side)])
        for side, of_side in paths.items()
    }
    plan = put(tmp_path, texts, *(path for of_side in paths.values() for path in of_side))
    assert sides_of(plan) == {
        "Archery/v_Archery_g01_c01": "train",
        "Archery/v_Archery_g02_c01": "val",
        "Archery/v_Archery_g03_c01": "test",
        "Swing/v_Swing_g01_c01": "train",
        "Swing/v_Swing_g02_c01": "val",
        "Swing/v_Swing_g03_c01": "test",
    }
    assert plan.layout == "UCF101 as videos and tables: 6 videos, split 1 from test.csv, train.csv, val.csv"
    assert plan.notes == ()
    # The folders' own sides, and the tables beside them named.
    plan = scan(tmp_path, use_lists="folders")
    assert plan.layout == "UCF101 as videos in class folders, divided by folders: 6 videos, split 1 from its own sides"
    assert plan.notes == ("not used, though they look like lists: test.csv, train.csv, val.csv",)
    assert sides_of(plan)["Swing/v_Swing_g02_c01"] == "val"


@pytest.mark.parametrize("delimiter", [" ", ",", "\t", ";"])
@pytest.mark.parametrize("prefix", ["", "/data/somewhere/kinetics/"])
def test_slowfast_path_and_label(tmp_path, delimiter, prefix):
    sides = {"train": ["1", "2"], "val": ["3"], "test": ["4"]}
    lines = {
        f"{side}.csv": "\n".join(
            f"{prefix}clips/{name}/{name[0]} {n}.mp4{delimiter}{label}"
            for n in names
            for label, name in enumerate(("zumba", "abseiling"))
        )
        for side, names in sides.items()
    }
    paths = [f"clips/{name}/{name[0]} {n}.mp4" for name in ("zumba", "abseiling") for n in "1234"]
    plan = put(tmp_path, lines, *paths)
    assert plan.class_names == ("zumba", "abseiling")  # as the table numbers them
    assert sides_of(plan) == {
        f"{name}/{name[0]} {n}": side for name in ("abseiling", "zumba") for side, of in sides.items() for n in of
    }
    assert [source.label for source in plan.sources] == [1] * 4 + [0] * 4
    assert plan.layout == "videos and tables: 8 videos, split 1 from test.csv, train.csv, val.csv"


def test_a_val_table_that_is_the_test_table_again(tmp_path):
    texts = {"train.csv": "a/1.mp4 0\n", "val.csv": "a/2.mp4 0\n", "test.csv": "a/2.mp4 0\n"}
    plan = put(tmp_path, texts, "a/1.mp4", "a/2.mp4")
    assert sides_of(plan) == {"a/1": "train", "a/2": "test"}
    assert plan.notes == ("not used, though they look like lists: val.csv",)


def test_mmaction2_frames_count_and_label(tmp_path):
    rows = {"train": "sit/a 120 1\nrun/b 30 0\n", "val": "sit/c 7 1\n"}
    texts = {f"my_{side}_split_2_rawframes.txt": text for side, text in rows.items()}
    plan = put(tmp_path, texts, *(f"rawframes/{v}/img_00001.jpg" for v in ("sit/a", "run/b", "sit/c")))
    assert plan.class_names == ("run", "sit")
    # Two sides are train and test, whatever the second is called.
    assert sides_of(plan, "2") == {"run/b": "train", "sit/a": "train", "sit/c": "test"}
    assert plan.layout.startswith("frames and tables: 3 videos, split 2 from my_train_split_2_rawframes.txt, my_val")


def mmaction2(folder: Path) -> None:
    """What the tools of mmaction2 leave of UCF101, less its lists in annotations/: two videos in three splits."""
    texts = {}
    for split in (1, 2, 3):
        for side, name in (("train", "v_Archery_g0{}_c01".format), ("val", "v_Archery_g1{}_c01".format)):
            texts[f"ucf101_{side}_split_{split}_rawframes.txt"] = f"Archery/{name(split)} 120 2\n"
            texts[f"ucf101_{side}_split_{split}_videos.txt"] = f"Archery/{name(split)}.avi 2\n"
            touch(folder / "videos/Archery", f"{name(split)}.avi")
            pictures = ("img_00001.jpg", "img_00002.jpg", "flow_x_00001.jpg", "flow_y_00001.jpg")
            touch(folder / "rawframes/Archery" / name(split), *pictures)
    write(folder, texts)


def test_mmaction2_leaves_videos_and_frames_side_by_side(tmp_path):
    mmaction2(tmp_path)
    plan = scan(tmp_path)
    assert plan.splits == ("1", "2", "3")
    assert [source.shown for source in plan.sources][0] == "videos/Archery/v_Archery_g01_c01.avi"
    assert sides_of(plan, "2") == {
        "Archery/v_Archery_g01_c01": "neither",
        "Archery/v_Archery_g02_c01": "train",
        "Archery/v_Archery_g03_c01": "neither",
        "Archery/v_Archery_g11_c01": "neither",
        "Archery/v_Archery_g12_c01": "test",
        "Archery/v_Archery_g13_c01": "neither",
    }
    assert plan.layout.startswith("UCF101 as videos and tables: 6 videos, splits 1 to 3 from ucf101_train_split_1_vid")
    assert "ucf101_train_split_1_rawframes.txt" in plan.notes[0] and "videos.txt" not in plan.notes[0]
    flow = scan(tmp_path, flow="tvl1", flow_files=True)
    assert sides_of(flow, "2") == sides_of(plan, "2")
    assert [source.shown for source in flow.sources][0] == "rawframes/Archery/v_Archery_g01_c01"
    assert [name for name in flow.sources[0].media.x.names()] == ["flow_x_00001.jpg"]
    # The lists that they are made from win where they are there, too.
    names = [f"Archery/v_Archery_g{group}_c01.avi" for group in ("01", "02", "03", "11", "12", "13")]
    write_lists(tmp_path / "annotations", ["Archery"], {"1": (names[:3], names[3:])})
    plan = scan(tmp_path)
    assert plan.layout.startswith("UCF101 as videos in class folders: 6 videos, split 1 from the lists in annotations")
    assert plan.notes[0] == "there, too, and not used: rawframes/"


def test_kinetics(tmp_path):
    header = "label,youtube_id,time_start,time_end,split,is_cc"
    texts = {
        "annotations/train.csv": f"{header}\nair drumming,-3B32lodo2M,59,69,train,0\n",
        "annotations/validate.csv": f'{header}\n"air drumming",__7xc0o4pYw,0,10,validate,0\n',
        "annotations/test.csv": f"{header}\nair drumming,tH7TEBPDAPQ,108,118,test,1\n",
    }
    paths = [
        "train/air drumming/-3B32lodo2M_000059_000069.mp4",
        "val/air drumming/__7xc0o4pYw_000000_000010.mp4",
        "test/tH7TEBPDAPQ_000108_000118.mp4",
    ]
    plan = put(tmp_path, texts, *paths)
    assert sides_of(plan) == {
        "air drumming/-3B32lodo2M_000059_000069": "train",
        "air drumming/__7xc0o4pYw_000000_000010": "val",
        "air drumming/tH7TEBPDAPQ_000108_000118": "test",
    }
    assert [source.origin for source in plan.sources] == ["-3B32lodo2M", "__7xc0o4pYw", "tH7TEBPDAPQ"]
    (tmp_path / paths[0]).unlink()
    with pytest.raises(UserError, match="1 videos listed .* not on disk, first -3B32lodo2M_000059_000069; .*subset"):
        scan(tmp_path)
    texts["annotations/train.csv"] += "air drumming,x,five,9,train,0\n"
    with pytest.raises(UserError, match="train.csv line 3: time_start and time_end are 'five' and '9'; give seconds"):
        put(tmp_path, texts)


def test_something_something_v2(tmp_path):
    texts = {
        "labels/labels.json": '{"Holding something": "0"}',  # in a folder of its own: not needed
        "something-something-v2-labels.json": '{"Pushing something so that it falls": "0", "Holding something": "1"}',
        "something-something-v2-train.json": """[
            {"id": "78687", "label": "holding pot", "template": "Holding [something]", "placeholders": ["pot"]},
            {"id": "5", "label": "pushing", "template": "Pushing [something] so that [it] falls"}]""",
        "something-something-v2-validation.json": '[{"id": "42", "label": "h", "template": "Holding [something]"}]',
        "something-something-v2-test.json": '[{"id": "1"}, {"id": "2"}]',
    }
    plan = put(tmp_path, texts, *(f"20bn-something-something-v2/{n}.webm" for n in (78687, 5, 42, 1, 2)))
    assert plan.class_names == ("Pushing something so that it falls", "Holding something")
    assert sides_of(plan) == {
        "Holding something/42": "test",
        "Holding something/78687": "train",
        "Pushing something so that it falls/5": "train",
    }
    assert plan.notes == ("not used, though they look like lists: labels/labels.json",)
    texts["something-something-v2-validation.json"] = '[{"template": "Holding [something]", "other": {"id": 1}}]'
    with pytest.raises(UserError, match="validation.json entry 1: no id"):
        put(tmp_path, texts)


def test_jester(tmp_path):
    texts = {
        "jester-v1-labels.csv": "Swiping Left\nDrumming Fingers\n",
        "jester-v1-train.csv": "34870;Drumming Fingers\n56557;Swiping Left\n",
        "jester-v1-validation.csv": "9223;Drumming Fingers\n",
        "jester-v1-test.csv": "1\n2\n",
    }
    plan = put(tmp_path, texts, *(f"20bn-jester-v1/{n}/0000{i}.jpg" for n in (34870, 56557, 9223, 1) for i in "12"))
    assert plan.class_names == ("Swiping Left", "Drumming Fingers")
    assert sides_of(plan) == {
        "Drumming Fingers/34870": "train",
        "Drumming Fingers/9223": "test",
        "Swiping Left/56557": "train",
    }
    assert plan.layout == "frames and tables: 3 videos, split 1 from jester-v1-train.csv, jester-v1-validation.csv"
    assert plan.notes == ("not used, though they look like lists: jester-v1-test.csv",)


@pytest.mark.parametrize(
    "header",
    ["file_name,label,split", "Video_Path;Class;Subset", "filename\tcategory\tpartition", "video,action,set,fps"],
)
@pytest.mark.parametrize("name", ["metadata.csv", "videos.csv", "lists/all.csv", "annotations/my list.txt"])
def test_other_names_of_columns(tmp_path, header, name):
    delimiter = next(sign for sign in ",;\t" if sign in header)
    rows = [("a.mp4", "wave", "training"), ("b.mp4", "wave", "Valid"), ("c.mp4", "wave", "TEST")]
    lines = [header, *(delimiter.join([*row, "5"][: header.count(delimiter) + 1]) for row in rows)]
    plan = put(tmp_path, {name: "\n".join(lines)}, "a.mp4", "b.mp4", "c.mp4")
    assert sides_of(plan) == {"wave/a": "train", "wave/b": "val", "wave/c": "test"}
    assert plan.layout == f"videos and a table: 3 videos, split 1 from {name}"


@pytest.mark.parametrize("kind", ["files", "folders", "flat"])
def test_flat_folder_and_table(tmp_path, kind):
    ending = {"files": ".mp4", "folders": "/1.jpg", "flat": "-0001.jpg"}[kind]
    table = {"videos.csv": "path,label,split\na,wave,train\nb,clap,train\nc,wave,val\nd,clap,test\n"}
    plan = put(tmp_path, table, *(f"clips/{name}{ending}" for name in "abcd"))
    assert sides_of(plan) == {"clap/b": "train", "clap/d": "test", "wave/a": "train", "wave/c": "val"}
    assert plan.sources[0].shown == {"files": "clips/b.mp4"}.get(kind, "clips/b")
    assert plan.unlisted == ()


def test_labels_as_numbers(tmp_path):
    numbers = [0, 1, 2, 10, 11]
    table = "\n".join(f"{n}a.mp4 {n}" for n in numbers)
    texts = {"train.txt": table, "test.txt": table.replace("a", "b")}
    plan = put(tmp_path, texts, *(f"{n}{side}.mp4" for n in numbers for side in "ab"))
    assert plan.class_names == ("0", "1", "2", "10", "11")  # no list of labels: the numbers, in their order
    write(tmp_path, {"labels.txt": "\n".join(f"name {n}" for n in range(12))})
    assert scan(tmp_path).class_names == ("name 0", "name 1", "name 2", "name 10", "name 11")
    write(tmp_path, {"labels.txt": "id,name\n" + "\n".join(f"{n},name {n}" for n in range(12))})
    assert scan(tmp_path).class_names == ("name 0", "name 1", "name 2", "name 10", "name 11")
    write(tmp_path, {"labels.txt": "\n".join(f"name {n}" for n in range(1, 12))})
    with pytest.raises(UserError, match="11[ab].mp4 has label 11, and the list of labels in .* has 11"):
        scan(tmp_path)
    write(tmp_path, {name: text.replace("0a.mp4 0\n", "").replace("0b.mp4 0\n", "") for name, text in texts.items()})
    assert scan(tmp_path).class_names == ("name 1", "name 2", "name 10", "name 11")  # counting from 1


def test_a_table_of_something_else_is_named_and_not_used(tmp_path):
    touch(tmp_path, *(f"{name}/v_{name}_g0{group}_c01.avi" for name in ("Run", "Jump") for group in (1, 8)))
    write(tmp_path, {"loss_train.csv": "name,label\nx,1\n", "loss_val.csv": "name,label\ny,1\n"})
    plan = scan(tmp_path)
    assert plan.layout == "videos in class folders: 4 videos, splits 1 and 2 from groups"
    assert plan.notes == ("not used, though they look like lists: loss_train.csv, loss_val.csv",)
    with pytest.raises(UserError, match="2 videos listed in .* not on disk, first x"):
        scan(tmp_path, use_lists="required")


@pytest.mark.parametrize(
    "texts, message",
    [
        (
            {"train.csv": "a.mp4 0\n" * 25 + "b.mp4\n", "val.csv": "c.mp4 0"},
            "line 26: 'b.mp4' is not a video and a label",
        ),
        ({"train.csv": "a.mp4 0\na.mp4 0\n", "val.csv": "c.mp4 0"}, "line 2: a.mp4 is in split 1 by .*line 1 already"),
        ({"train.csv": "a.mp4 0\n", "val.csv": "../c.mp4 0"}, "val.csv line 1: '../c.mp4' does not stay in the input"),
        ({"train.json": '[{"id": "1"', "val.json": '[{"id": "2"}]'}, "train.json: not JSON"),
        ({"train.json": '[{"id": "1"}]', "val.json": '[{"id": "2"}]'}, "lists no videos"),
        ({"train.csv": "a.mp4,x,y\n", "val.csv": "b.mp4,z\n"}, "is of no known layout: it holds train.csv, val.csv"),
    ],
)
def test_lines_that_do_not_fit(tmp_path, texts, message):
    write(tmp_path, texts)
    with pytest.raises(UserError, match=message) as caught:
        scan(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_same_video_in_lists_of_two_splits_keeps_its_label(tmp_path):
    texts = {"train1.txt": "a 0\n", "val1.txt": "b 0\n", "train2.txt": "b 0\n", "val2.txt": "a 0\n"}
    plan = put(tmp_path, texts, "a.mp4", "b.mp4")
    assert {source.name: source.roles for source in plan.sources} == {"0/a": (1, 2, 0), "0/b": (2, 1, 0)}


def test_a_table_on_one_long_line(tmp_path):
    entries = {
        side: [f'{{"id": "{side}{n}", "template": "Holding [it]"}}' for n in range(3000)] for side in ("train", "val")
    }
    texts = {f"{side}.json": f"[{', '.join(of_side)}]" for side, of_side in entries.items()}
    plan = put(tmp_path, texts, *(f"{side}{n}.webm" for side in entries for n in range(3000)))
    assert len(plan.sources) == 6000


def test_a_list_of_labels_among_the_tables(tmp_path):
    texts = {"lists/labels.csv": "wave\nclap\n", "lists/train.csv": "a 0\nb 1\n", "lists/test.csv": "c 0\nd 1\n"}
    plan = put(tmp_path, texts, *(f"{name}.mp4" for name in "abcd"))
    assert plan.class_names == ("wave", "clap")
    assert plan.notes == ()


def test_tables_in_a_zip_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        for side, number in (("train", 1), ("val", 2), ("test", 3)):
            archive.writestr(f"data/{side}.csv", f"clip_name,clip_path,label\nx,/{side}/wave/{number}.mp4,wave\n")
            archive.writestr(f"data/{side}/wave/{number}.mp4", b"")
    plan = scan(tmp_path)
    assert sides_of(plan) == {"wave/1": "train", "wave/2": "val", "wave/3": "test"}
    assert plan.notes == ()


def test_a_label_of_very_many_digits_is_a_name(tmp_path):
    label = "9" * 5000
    touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "videos.csv").write_text(f"path,label,split\na.mp4,{label},train\nb.mp4,{label},test\n")
    assert scan(tmp_path).class_names == (label,)
