"""Split lists, groups, official counts, and what is found in a folder; names only, nothing is decoded."""

import pytest
from list_files import scan, touch, write_lists
from paths import REAL

from r23d_jax.errors import UserError
from tfds_ucf101 import lists, sources

OFFICIAL = REAL / "lists" / "ucfTrainTestlist"


@pytest.fixture
def folder(tmp_path):
    """Two classes, groups 1 and 9 in each, one clip; lists for the splits 1 and 3."""
    names = [f"{c}/v_{c}_g{g}_c01.avi" for c in ("Run", "Jump") for g in ("01", "009")]
    touch(tmp_path / "videos", *names)
    train, test = [n for n in names if "g009" in n], [n for n in names if "g01" in n]
    write_lists(tmp_path / lists.LISTS_FOLDER, ["Run", "Jump"], {"1": (train, test), "3": (test, train)})
    return tmp_path


@pytest.mark.parametrize(
    "stem, expected",
    [
        ("v_Biking_g05_c02", (5, 2)),
        ("v_Smash_g067_c104", (67, 104)),
        ("v_HandStandPushups_g25_c07", (25, 7)),
        ("v_Biking_g5_c2", (-1, -1)),
        ("v_Biking_g05_c02_copy", (-1, -1)),
        ("run", (-1, -1)),
    ],
)
def test_group_and_clip(stem, expected):
    assert lists.group_and_clip(stem) == expected


@pytest.mark.parametrize(
    "name, stem",
    [("a.avi", "a"), ("a.b.mp4", "a.b"), ("a.3gp", "a"), ("clip.01", "clip.01"), ("a", "a"), ("a.webm", "a")],
)
def test_stem(name, stem):
    assert lists.stem_of(name) == stem


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


def test_groups_rule_without_lists(folder):
    plan = scan(folder, use_lists="ignore")
    # Groups 1 and 9 are test in the splits 1 and 2; in split 3 neither is, so it does not exist.
    assert plan.splits == ("1", "2")
    assert plan.class_names == ("Jump", "Run")
    roles = {source.name: source.roles for source in plan.sources}
    assert roles["Run/v_Run_g01_c01"] == (lists.TEST, lists.TRAIN, lists.NEITHER)


def test_every_group_is_test_in_the_official_split():
    keys = {f"A/v_A_g{g:02d}_c01": g for g in range(1, 26)}
    splits = lists.split_by_groups(keys, "here")
    tests = {split: sorted(keys[key] for key in sides[1]) for split, sides in splits.items()}
    assert tests == {"1": list(range(1, 8)), "2": list(range(8, 15)), "3": list(range(15, 22))}
    assert all(len(train) + len(test) == 25 for train, test in splits.values())


def test_names_without_groups_ask_for_lists(tmp_path):
    touch(tmp_path / "videos", "Run/a.avi", "Run/v_Run_g01_c01.avi")
    with pytest.raises(UserError, match="1 of 2 videos carry no group.*first Run/a: add ucfTrainTestlist"):
        scan(tmp_path)


def test_groups_that_leave_one_side_empty_ask_for_lists(tmp_path):
    touch(tmp_path / "videos", "Run/v_Run_g22_c01.avi", "Run/v_Run_g23_c01.avi")
    with pytest.raises(UserError, match="groups 22 to 23 only.*add lists"):
        scan(tmp_path)


def test_required_lists(tmp_path):
    touch(tmp_path / "videos", "Run/v_Run_g01_c01.avi")
    with pytest.raises(UserError, match="ucfTrainTestlist is missing"):
        scan(tmp_path, use_lists="required")


def test_frames_folders_match_lists_of_files(folder):
    (folder / "videos").rename(folder / "old")
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
        tmp_path / lists.LISTS_FOLDER,
        ["HandstandPushups"],
        {"1": ([names[1].replace("HandStand", "Handstand")], [names[0]])},
    )
    assert [source.roles[0] for source in scan(tmp_path).sources] == [lists.TEST, lists.TRAIN]


def test_hidden_files_are_passed_over_and_unlisted_ones_told(folder):
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


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda r: touch(r / "videos", "Fly/a.avi"), "class folder Fly .* not in .*classInd.txt"),
        (lambda r: (r / "videos/Run").rename(r / "Run"), r"the class Run \(1 in all\) has no folder"),
        (lambda r: touch(r / "videos", "Run/v_Run_g01_c01.mp4"), "would both be named Run/v_Run_g01_c01"),
        (lambda r: (r / "videos/Empty").mkdir(), "class folder .*Empty is empty"),
        (lambda r: (r / "frames/Run").mkdir(parents=True), "has 2 of the two"),
        (lambda r: (r / "videos").rename(r / "clips"), "has 0 of the two"),
        (lambda r: (r / "videos/Run/deep").mkdir(), "deep is not a video file"),
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
        ("classInd.txt", "1 Run\n2 Run\n", "names the class Run 2 times"),
        ("classInd.txt", "\n", "names no class"),
        ("classInd.txt", "1 ../Run\n", "cannot be the name of a class folder"),
        ("classInd.txt", None, "classInd.txt is missing"),
        ("trainlist01.txt", None, "trainlist01.txt is missing"),
        ("trainlist01.txt", "Run/../../etc/passwd 1\n", "not of the form <Class>/<file>"),
        ("trainlist01.txt", "/Run/a.avi 1\n", "not of the form <Class>/<file>"),
        ("trainlist01.txt", "Run/.. 1\n", "not of the form <Class>/<file>"),
        ("trainlist01.txt", "Run/a.avi 2\n", "label 2, but classInd.txt has Run as number 1"),
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
    path = folder / lists.LISTS_FOLDER / file
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        scan(folder)
    assert "\n" not in str(caught.value)


def test_lists_that_are_not_text(folder):
    (folder / lists.LISTS_FOLDER / "testlist01.txt").write_bytes(b"\xff\xfe\x00R")
    with pytest.raises(UserError, match="is not UTF-8"):
        scan(folder)


def test_a_group_on_both_sides_is_refused(folder):
    touch(folder / "videos", "Run/v_Run_g01_c02.avi")
    with open(folder / lists.LISTS_FOLDER / "trainlist03.txt", "a", newline="") as file:
        file.write("Run/v_Run_g01_c02.avi 1\r\n")
    scan(folder)
    with open(folder / lists.LISTS_FOLDER / "trainlist01.txt", "a", newline="") as file:
        file.write("Run/v_Run_g01_c02.avi 1\r\n")
    with pytest.raises(UserError, match="split 1 has group 1 of Run on both sides"):
        scan(folder)


def ucf101_keys() -> dict[str, int]:
    """Keys with groups whose counts are UCF101's: 25 groups a class, sizes such that the folds come out."""
    keys = {}
    totals = {lists.TEST_GROUPS[split]: test for split, (_, test) in lists.UCF101_COUNTS.items()}
    totals[range(22, 26)] = lists.UCF101_VIDEOS - sum(totals.values())
    for groups, total in totals.items():
        slots = [(c, g) for c in lists.UCF101_CLASSES for g in groups]
        for i in range(total):
            name, group = slots[i % len(slots)]
            keys[f"{name}/v_{name}_g{group:02d}_c{i // len(slots) + 1:02d}"] = group
    return keys


def test_official_counts():
    keys = ucf101_keys()
    assert len(keys) == 13320
    splits = lists.split_by_groups(keys, "here")
    lists.check_ucf101(len(keys), splits)
    with pytest.raises(UserError, match="UCF101 has 13320 videos, found 13319.*subset"):
        lists.check_ucf101(13319, splits)
    splits["2"][0].pop()
    with pytest.raises(UserError, match="split 2 has 9586/3734 train/test videos, found 9585/3734"):
        lists.check_ucf101(13320, splits)


def test_ucf101_is_checked_unless_a_part_is_asked_for(tmp_path):
    for name in lists.UCF101_CLASSES:
        touch(tmp_path / "videos", f"{name}/v_{name}_g01_c01.avi", f"{name}/v_{name}_g08_c01.avi")
    with pytest.raises(UserError, match="UCF101 has 13320 videos, found 202"):
        scan(tmp_path)
    plan = scan(tmp_path, subset=True)
    assert plan.class_names == lists.UCF101_CLASSES  # also without classInd.txt
    assert len(scan(tmp_path, classes=["Biking", "Archery"]).sources) == 4


def test_official_lists():
    if not OFFICIAL.is_dir():
        pytest.skip(f"{OFFICIAL} is not there: UCF101's lists are not part of the project")
    listed = lists.read_lists(OFFICIAL)
    assert listed.class_names == lists.UCF101_CLASSES
    splits, groups = listed.splits, {key: lists.group_and_clip(key)[0] for key in listed.mentioned}
    lists.check_ucf101(len(groups), splits)
    lists.check_no_leak(splits, groups)
    by_rule = lists.split_by_groups(groups, "here")
    for split, (train, test) in splits.items():
        assert (set(train), set(test)) == tuple(map(set, by_rule[split]))


def test_natural_order():
    names = ["frame10", "frame9", "frame1", "frame09b", "2", "10"]
    assert sorted(names, key=sources.natural_key) == ["2", "10", "frame1", "frame9", "frame09b", "frame10"]
