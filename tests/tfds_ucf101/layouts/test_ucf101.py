"""UCF101: its names, groups and counts, its lists wherever they lie, and what is said of those that do not fit."""

import pytest
from list_files import pretend, scan, sides_of, touch, write, write_lists
from paths import REAL

from r23d_jax.errors import UserError
from tfds_ucf101 import lists
from tfds_ucf101.layouts import ucf101
from tfds_ucf101.layouts.tree import Folder

OFFICIAL = REAL / "lists" / "ucfTrainTestlist"


@pytest.fixture
def folder(tmp_path):
    """Two classes, groups 1 and 9 in each, one clip; lists for the splits 1 and 3."""
    names = [f"{c}/v_{c}_g{g}_c01.avi" for c in ("Run", "Jump") for g in ("01", "009")]
    touch(tmp_path / "videos", *names)
    train, test = [n for n in names if "g009" in n], [n for n in names if "g01" in n]
    write_lists(tmp_path / ucf101.FOLDER, ["Run", "Jump"], {"1": (train, test), "3": (test, train)})
    return tmp_path


# --- the data set itself


def test_names_are_those_of_the_data_set():
    names = ucf101.names()
    assert len(names) == len(set(names)) == ucf101.VIDEOS == 13320
    assert names[0] == "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01" and names[-1] == "YoYo/v_YoYo_g25_c05"
    assert "HandstandPushups/v_HandStandPushups_g01_c01" in names
    assert len({name.split("/")[0] for name in names}) == 101
    ucf101.check_videos(names)
    groups = {name: lists.group_and_clip(name)[0] for name in names}
    ucf101.check_counts(ucf101.split_by_groups(groups, "here"))


def test_what_is_missing_or_surplus_is_named():
    names = ucf101.names()
    with pytest.raises(
        UserError, match="has 13320 videos, found 13318; missing: Archery/v_Archery_g03_c02, YoYo/v_YoYo"
    ):
        ucf101.check_videos(set(names) - {"Archery/v_Archery_g03_c02", names[-1]})
    with pytest.raises(UserError, match="found 13321; not among them: archery/v_archery_g26_c01; .*subset"):
        ucf101.check_videos([*names, "Archery/v_Archery_g26_c01"])
    ucf101.check_videos(str(number) for number in range(13320))  # none under its name: they are counted
    with pytest.raises(UserError, match="UCF101 has 13320 videos, found 13319; add them, or .*subset"):
        ucf101.check_videos(str(number) for number in range(13319))
    sides = ucf101.split_by_groups({name: lists.group_and_clip(name)[0] for name in names}, "here")
    sides["2"] = {key: lists.VAL if key == names[-1] else role for key, role in sides["2"].items()}
    ucf101.check_counts(sides)  # val counts as train
    sides["2"] = {key: lists.NEITHER if key == names[-1] else role for key, role in sides["2"].items()}
    with pytest.raises(UserError, match="split 2 has 9586/3734 train/test videos, found 9585/3734"):
        ucf101.check_counts(sides)


def test_every_group_is_test_in_the_official_split():
    groups = {f"A/v_A_g{g:02d}_c01": g for g in range(1, 26)}
    sides = ucf101.split_by_groups(groups, "here")
    tests = {split: sorted(groups[key] for key in lists.of_side(one, lists.TEST)) for split, one in sides.items()}
    assert tests == {"1": list(range(1, 8)), "2": list(range(8, 15)), "3": list(range(15, 22))}
    assert all(one.keys() == groups.keys() for one in sides.values())


@pytest.mark.parametrize(
    "names, whole, most",
    [
        (ucf101.CLASSES, True, True),
        ([name.lower() for name in ucf101.CLASSES], True, True),
        (ucf101.CLASSES[:51], False, True),
        (ucf101.CLASSES[:50], False, False),
        ([*ucf101.CLASSES, "Fly"], False, False),
        ([], False, False),
    ],
)
def test_its_classes(names, whole, most):
    assert (ucf101.is_ucf101(names), ucf101.is_most(names)) == (whole, most)


def test_its_own_order_of_classes():
    assert tuple(ucf101.in_order(reversed(ucf101.CLASSES))) == ucf101.CLASSES
    assert ucf101.in_order(["HammerThrow", "Hammering"]) == ["HammerThrow", "Hammering"]


# --- as its archive unpacks


@pytest.mark.parametrize("videos", ["UCF-101", "UCF101/UCF-101", "ucf101/UCF-101", "data/UCF101/UCF-101/UCF-101"])
@pytest.mark.parametrize(
    "lists_folder",
    [
        "ucfTrainTestlist",
        "UCF101TrainTestSplits-RecognitionTask/ucfTrainTestlist",
        "UCFTrainTestList",
        "annotations",
        "UCF101/annotations",
        "data/UCF101/UCF101TrainTestSplits-RecognitionTask/ucfTrainTestlist",
        "a/b/c/d/ucfTrainTestlist",
    ],
)
def test_archive_and_lists_wherever_they_lie(tmp_path, videos, lists_folder):
    names = [f"{name}/v_{name}_g0{group}_c01" for name in ("Archery", "Diving") for group in (1, 2)]
    touch(tmp_path / videos, *(f"{name}.avi" for name in names))
    write_lists(tmp_path / lists_folder, ["Diving", "Archery"], {"2": (names[::2], names[1::2])})
    plan = scan(tmp_path)
    assert plan.class_names == ("Diving", "Archery")
    assert sides_of(plan, "2") == dict(zip(names, ["train", "test"] * 2, strict=True))
    assert plan.layout == f"UCF101 as videos in class folders: 4 videos, split 2 from the lists in {lists_folder}"
    assert plan.notes == ()


def test_files_of_lists_in_any_case_and_in_the_folder_itself(tmp_path):
    names = ["Run/a.avi", "Run/b.avi", "Run/c.avi"]
    touch(tmp_path, *names)
    write(tmp_path, {"CLASSIND.TXT": "1 Run\n", "TrainList01.txt": "Run/a.avi 1\n", "TESTLIST01.TXT": "Run/b.avi\n"})
    write(tmp_path, {"vallist01.txt": "Run/c.avi 1\n"})
    plan = scan(tmp_path)
    assert sides_of(plan) == {"Run/a": "train", "Run/b": "test", "Run/c": "val"}
    assert plan.layout == f"videos in class folders: 3 videos, split 1 from the lists in {tmp_path.name}"


def test_copies_of_lists(folder):
    inner = folder / "more" / ucf101.FOLDER
    write_lists(inner, ["Run", "Jump"], {})
    for path in (folder / ucf101.FOLDER).iterdir():
        (inner / path.name).write_bytes(path.read_bytes())
    assert "the lists in more/ucfTrainTestlist" in scan(folder).layout
    (inner / "trainlist03.txt").write_text("Run/v_Run_g01_c01.avi 1\n")
    with pytest.raises(UserError, match="more/ucfTrainTestlist and .*ucfTrainTestlist are different lists"):
        scan(folder)


def test_lists_in_the_folder_win_over_groups(folder):
    plan = scan(folder)
    assert plan.class_names == ("Run", "Jump")
    assert plan.splits == ("1", "3")
    roles = {source.name: source.roles for source in plan.sources}
    assert roles["Run/v_Run_g01_c01"] == (lists.TEST, lists.NEITHER, lists.TRAIN)
    assert roles["Jump/v_Jump_g009_c01"] == (lists.TRAIN, lists.NEITHER, lists.TEST)
    assert [source.label for source in plan.sources] == [1, 1, 0, 0]
    assert [(source.group, source.clip) for source in plan.sources] == [(9, 1), (1, 1)] * 2
    assert plan.unlisted == plan.absent == ()
    assert plan.layout == "videos in class folders: 4 videos, splits 1 and 3 from the lists in ucfTrainTestlist"


def test_frames_match_lists_of_files(folder):
    (folder / "videos").rename(folder.parent / "old")
    for name in ("Run/v_Run_g01_c01", "Run/v_Run_g009_c01", "Jump/v_Jump_g01_c01", "Jump/v_Jump_g009_c01"):
        touch(folder / "frames", f"{name}/1.jpg")
    plan = scan(folder)
    assert [source.shown for source in plan.sources][0] == "frames/Jump/v_Jump_g009_c01"
    assert plan.splits == ("1", "3")


def test_file_names_may_differ_from_the_class_and_in_case(tmp_path):
    names = [
        "HandstandPushups/v_HandStandPushups_g01_c01.avi",
        "HandstandPushups/v_HandStandPushups_g08_c01.avi",
    ]
    touch(tmp_path / "videos", *names)
    write_lists(
        tmp_path / ucf101.FOLDER,
        ["HandstandPushups"],
        {"1": ([names[1].replace("HandStand", "Handstand")], [names[0]])},
    )
    assert list(sides_of(scan(tmp_path)).values()) == ["test", "train"]


def test_the_form_of_the_lines_decides_for_the_whole_list(tmp_path):
    names = ["Archery/video 1", "Archery/video 2", "Diving/video 1", "Diving/video 2"]
    touch(tmp_path / "videos", *(f"{name}.avi" for name in names))
    folder = tmp_path / ucf101.FOLDER
    train, test = [name for name in names if "1" in name], [name for name in names if "2" in name]
    write_lists(folder, ["Archery", "Diving"], {"1": (train, test)})
    assert list(sides_of(scan(tmp_path)).values()) == ["train", "test"] * 2
    # Without an ending, and every number is the class's: that is what train lists look like.
    (folder / "testlist01.txt").write_text("Archery/video 2\nDiving/video 2 \n")
    assert list(sides_of(scan(tmp_path)).values()) == ["train", "test"] * 2
    (folder / "testlist01.txt").write_text("Archery/video 2.avi 1\nDiving/video 2.avi\n")
    with pytest.raises(UserError, match="testlist01.txt line 2: no class number, which line 1 has"):
        scan(tmp_path)


def test_lists_with_tabs_and_either_line_end(folder):
    (folder / ucf101.FOLDER / "classInd.txt").write_bytes(b"\xef\xbb\xbf1\tRun\r2 Jump\r\n")
    path = folder / ucf101.FOLDER / "trainlist01.txt"
    path.write_text(path.read_text().replace(" ", "\t"))
    assert scan(folder).splits == ("1", "3")


def test_lists_are_of_the_config_to_ignore(folder):
    plan = scan(folder, use_lists="ignore")
    # Groups 1 and 9 are test in the splits 1 and 2; in split 3 neither is, so it does not exist.
    assert plan.splits == ("1", "2")
    assert plan.class_names == ("Jump", "Run")
    roles = {source.name: source.roles for source in plan.sources}
    assert roles["Run/v_Run_g01_c01"] == (lists.TEST, lists.TRAIN, lists.NEITHER)
    assert plan.layout == "videos in class folders: 4 videos, splits 1 and 2 from groups"
    assert len(plan.notes) == 1
    assert "not used, though they look like lists: ucfTrainTestlist/classInd.txt, " in plan.notes[0]


def test_a_listed_split_that_lacks_a_side_is_left_out(folder):
    for name in ("Run", "Jump"):
        (folder / f"videos/{name}/v_{name}_g009_c01.avi").unlink()
    write_lists(folder / ucf101.FOLDER, ["Run", "Jump"], {"2": ([], ["Run/v_Run_g01_c01.avi"])})
    with pytest.raises(UserError, match="every split has one side without videos"):
        scan(folder, subset=True)
    both = (["Run/v_Run_g01_c01.avi"], ["Jump/v_Jump_g01_c01.avi"])
    write_lists(folder / ucf101.FOLDER, ["Run", "Jump"], {"2": both})
    plan = scan(folder, subset=True)
    assert plan.splits == ("2",)
    assert plan.notes == (
        "without train or without test videos, and left out: splits 1 and 3",
        "split 2 tests classes of which it trains nothing: Jump",
    )


def test_unlisted_videos_are_told(folder):
    touch(folder / "videos", "Run/.DS_Store", "Run/Thumbs.db", ".cache/x", "Run/v_Run_g30_c01.avi")
    plan = scan(folder)
    assert len(plan.sources) == 5
    assert plan.unlisted == ("Run/v_Run_g30_c01",)


def test_subset_and_classes(folder):
    (folder / "videos/Run/v_Run_g01_c01.avi").unlink()
    with pytest.raises(UserError, match="1 videos? listed .* not on disk, first Run/v_Run_g01_c01.*subset"):
        scan(folder)
    plan = scan(folder, subset=True)
    assert plan.absent == ("Run/v_Run_g01_c01",)
    assert len(plan.sources) == 3
    plan = scan(folder, classes=["Jump"])
    assert plan.class_names == ("Jump",)
    assert [source.label for source in plan.sources] == [0, 0]
    with pytest.raises(UserError, match="asks for the class Fly"):
        scan(folder, classes=["Fly"])


def test_the_whole_is_asserted_unless_a_part_is_asked_for(tmp_path):
    for name in ucf101.CLASSES:
        touch(tmp_path / "videos", f"{name}/v_{name}_g01_c01.avi", f"{name}/v_{name}_g08_c01.avi")
    with pytest.raises(
        UserError, match="UCF101 has 13320 videos, found 202; missing: ApplyEyeMakeup/v_ApplyEyeMakeup_g"
    ):
        scan(tmp_path)
    plan = scan(tmp_path, subset=True)
    assert plan.class_names == ucf101.CLASSES  # also without classInd.txt
    assert len(scan(tmp_path, classes=["Biking", "Archery"]).sources) == 4
    # A class that is missing altogether is missing, too.
    for path in (tmp_path / "videos/Archery").iterdir():
        path.unlink()
    (tmp_path / "videos/Archery").rmdir()
    with pytest.raises(UserError, match="UCF101 has 13320 videos, found 200"):
        scan(tmp_path)


def test_the_whole_data_set_by_groups_and_in_folds(tmp_path, monkeypatch):
    pretend(monkeypatch, tmp_path, (f"UCF-101/{name}.avi" for name in ucf101.names()))
    plan = scan(tmp_path)
    assert plan.layout == "UCF101 as videos in class folders: 13,320 videos, splits 1 to 3 from groups"
    assert plan.class_names == ucf101.CLASSES
    plan = scan(tmp_path, validation=0.1)
    assert plan.layout.endswith("splits 1 to 3 from groups, 10% of train as val (seed 0)")
    for split in plan.splits:
        sides = sides_of(plan, split)
        assert list(sides.values()).count("test") == ucf101.COUNTS[split][1]
        val = [key for key, side in sides.items() if side == "val"]
        assert 0.09 < len(val) / ucf101.COUNTS[split][0] < 0.12
        assert {key.split("/")[0] for key in val} == set(ucf101.CLASSES)
    plan = scan(tmp_path, folds=5)  # other splits have other counts
    assert plan.splits == ("1", "2", "3", "4", "5")


# --- what does not fit


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda r: touch(r / "videos", "Fly/a.avi"), "class folder Fly .* not in the classes of .*ucfTrainTestlist"),
        (lambda r: (r / "videos/Run").rename(r / "Run"), r"the class Run \(1 in all\) has no folder"),
        (lambda r: touch(r / "videos", "Run/v_Run_g01_c01.mp4"), "would both be named Run/v_Run_g01_c01"),
        (lambda r: (r / "videos/Empty").mkdir(), "class folder .*Empty is empty"),
        (lambda r: touch(r / "videos", "RUN/a.avi"), "differ in upper and lower case"),
    ],
)
def test_folders_that_do_not_fit(folder, change, message):
    change(folder)
    with pytest.raises(UserError, match=message) as caught:
        scan(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "file, text, message",
    [
        ("classInd.txt", "1 Run\n3 Jump\n", "line 2: class number 3, expected 2"),
        ("classInd.txt", "Run\nJump\n", "line 1: 'Run' is not a class number"),
        ("classInd.txt", "1 Run\n2 Run\n", "line 2: the class Run is named twice"),
        ("classInd.txt", "1 Run\n2 RUN\n", "the classes Run and RUN differ in upper and lower case only"),
        ("classInd.txt", "\n", "names no class"),
        ("classInd.txt", "1 ../Run\n", "cannot be the name of a class folder"),
        ("classInd.txt", None, "classInd.txt is missing"),
        ("trainlist01.txt", None, "trainlist01.txt is missing"),
        ("testlist03.txt", None, "testlist03.txt is missing"),
        ("TRAINLIST1.txt", "", "TRAINLIST1.txt and trainlist01.txt are both there"),
        ("trainlist01.txt", "Run/../../etc/passwd 1\n", "not of the form <Class>/<file>"),
        ("trainlist01.txt", "/Run/a.avi 1\n", "not of the form <Class>/<file>"),
        ("trainlist01.txt", "Run/.. 1\n", "not of the form <Class>/<file>"),
        ("trainlist01.txt", "Run/a.avi 2\n", "line 1: label 2, but classInd.txt has Run as number 1"),
        ("trainlist01.txt", "Fly/a.avi 1\n", "the class Fly is not in classInd.txt"),
        (
            "trainlist01.txt",
            "Run/a.avi 1\nRun/a.mp4 1\n",
            r"line 2: Run/a.mp4 is listed twice \(first in line 1\)",
        ),
        ("trainlist01.txt", "Run/v_Run_g01_c01.avi 1\n", "in both trainlist01.txt and testlist01.txt"),
        ("trainlist01.txt", "Run/v_Run_g07_c01.avi 1\n", "1 videos? listed .* not on disk"),
    ],
)
def test_lists_that_do_not_fit(folder, file, text, message):
    path = folder / ucf101.FOLDER / file
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        scan(folder)
    assert "\n" not in str(caught.value)


def test_lists_that_are_not_text(folder):
    (folder / ucf101.FOLDER / "testlist01.txt").write_bytes(b"\xff\xfe\x00R")
    with pytest.raises(UserError, match="is not UTF-8"):
        scan(folder)


def test_a_folder_of_lists_without_lists(folder):
    for path in (folder / ucf101.FOLDER).glob("t*.txt"):
        path.unlink()
    with pytest.raises(UserError, match="holds no trainlist01.txt and testlist01.txt: add them or remove"):
        scan(folder)


def test_a_source_on_both_sides_is_refused(folder):
    touch(folder / "videos", "Run/v_Run_g01_c02.avi")
    with open(folder / ucf101.FOLDER / "trainlist03.txt", "a", newline="") as file:
        file.write("Run/v_Run_g01_c02.avi 1\r\n")
    assert scan(folder).leak_check
    with open(folder / ucf101.FOLDER / "trainlist01.txt", "a", newline="") as file:
        file.write("Run/v_Run_g01_c02.avi 1\r\n")
    with pytest.raises(
        UserError, match="split 1 has clips of one source video on two sides: Run/v_Run_g01_c01 is test"
    ):
        scan(folder)
    plan = scan(folder, leak_check=False)
    assert not plan.leak_check
    assert plan.layout.endswith("splits 1 and 3 from the lists in ucfTrainTestlist; leak check off")


def test_official_lists(tmp_path, monkeypatch):
    if not OFFICIAL.is_dir():
        pytest.skip(f"{OFFICIAL} is not there: UCF101's lists are not part of the project")
    listed = ucf101.read_lists(Folder(OFFICIAL))
    assert listed.class_names == ucf101.CLASSES
    assert sorted(listed.mentioned) == sorted(ucf101.names())
    ucf101.check_videos(listed.mentioned)
    ucf101.check_counts(listed.sides)
    lists.check_no_leak(listed.sides, {key: lists.origin_of(key) for key in listed.mentioned})
    groups = {key: lists.group_and_clip(key)[0] for key in listed.mentioned}
    assert listed.sides == ucf101.split_by_groups(groups, "here")
