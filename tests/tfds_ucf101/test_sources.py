"""The plan of a build: what the config asks for, and what is said in its line and its notes."""

import pickle

import pytest
from list_files import scan, sides_of, touch, write, write_lists

from r23d_jax.errors import UserError
from tfds_ucf101 import lists, sources
from tfds_ucf101.config import VideoConfig


@pytest.fixture
def folder(tmp_path):
    """Two classes, four groups in each."""
    touch(tmp_path, *(f"{name}/v_{name}_g{g:02d}_c01.avi" for name in ("Run", "Jump") for g in (1, 2, 8, 9)))
    return tmp_path


def test_a_plan_is_small_and_whole(folder):
    plan = scan(folder)
    assert plan == pickle.loads(pickle.dumps(plan)) == scan(folder)
    assert [source.name for source in plan.sources] == sorted(source.name for source in plan.sources)
    source = plan.sources[-1]
    assert (source.name, source.shown, source.label) == ("Run/v_Run_g09_c01", "Run/v_Run_g09_c01.avi", 1)
    assert (source.group, source.clip, source.origin) == (9, 1, "v_run_g09")
    assert source.roles == (lists.TRAIN, lists.TEST, lists.NEITHER)
    assert source.media.path == str(folder / source.shown)


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match="nothing is no folder: give --manual_dir=DIR with your videos"):
        scan(tmp_path / "nothing")


def test_required_lists(folder):
    with pytest.raises(UserError, match="ucfTrainTestlist is missing, as are other lists"):
        scan(folder, use_lists="required")
    with pytest.raises(UserError, match='has no folders train and test, and the config\'s lists is "folders"'):
        scan(folder, use_lists="folders")


@pytest.mark.parametrize("use_lists", ["ignore", "folders"])
def test_lists_that_are_not_read_are_named(folder, use_lists):
    for name in ("train", "test"):
        (folder / name).mkdir()
    for name in ("Run", "Jump"):
        for group, side in ((1, "test"), (2, "test"), (8, "train"), (9, "train")):
            (folder / side / name).mkdir(exist_ok=True)
            (folder / name / f"v_{name}_g{group:02d}_c01.avi").rename(folder / side / name / f"{group}.avi")
        (folder / name).rmdir()
    write(
        folder,
        {"ucfTrainTestlist/classInd.txt": "not read", "my split.csv": "", "annotations/old/val.json": "", "a.txt": ""},
    )
    plan = scan(folder, use_lists=use_lists)
    assert plan.layout == "videos in class folders, divided by folders: 8 videos, split 1 from its own sides"
    named = "my split.csv, annotations/old/val.json, ucfTrainTestlist/classInd.txt"
    assert plan.notes == (f"not used, though they look like lists: {named}",)


def test_chosen_classes(folder):
    plan = scan(folder, classes=["run"])
    assert plan.class_names == ("Run",)
    assert [source.label for source in plan.sources] == [0] * 4
    with pytest.raises(UserError, match="the config asks for the class Fly, which .* does not have"):
        scan(folder, classes=["Run", "Fly"])


def test_validation_comes_out_of_train(folder):
    plan = scan(folder, validation=0.5)
    assert plan.layout.endswith("splits 1 and 2 from groups, 50% of train as val (seed 0)")
    for split in plan.splits:
        for name in plan.class_names:
            sides = [side for key, side in sides_of(plan, split).items() if key.startswith(name)]
            assert sorted(sides) == ["test", "test", "train", "val"]


def test_own_sides_without_a_test_are_not_used(folder):
    touch(folder / "more", *(f"train/{name}/v_{name}_g0{g}_c01.avi" for name in ("Run", "Jump") for g in (1, 8)))
    plan = scan(folder / "more")
    assert plan.layout == "videos in class folders: 4 videos, splits 1 and 2 from groups"


def test_folds(folder):
    plan = scan(folder, folds=4)
    assert plan.splits == ("1", "2", "3", "4")
    assert all(sorted(source.roles) == [lists.TRAIN] * 3 + [lists.TEST] for source in plan.sources)
    assert scan(folder, folds=2).sources[0].roles[2:] == (lists.NEITHER,)


def test_the_seed_is_that_of_the_config(tmp_path):
    touch(tmp_path, *(f"{name}/{n}.avi" for name in "ab" for n in range(30)))
    sides = [sides_of(scan(tmp_path, split_seed=seed)) for seed in (0, 0, 1)]
    assert sides[0] == sides[1] != sides[2]


def test_clips_of_a_source_stay_together_under_any_label(tmp_path):
    """Relabelled: the group counts for its source class, and not for the label."""
    rows = ["sport,v_Archery_g01_c01,train", "sport,v_Diving_g01_c01,test", "sport,v_Diving_g02_c01,train"]
    write(tmp_path, {"videos.csv": "\n".join(["label,path,split", *rows])})
    touch(tmp_path, *(f"{row.split(',')[1]}.avi" for row in rows))
    assert sides_of(scan(tmp_path))["sport/v_Diving_g01_c01"] == "test"
    write(tmp_path, {"videos.csv": "\n".join(["label,path,split", *rows, "other,v_Diving_g01_c02,train"])})
    touch(tmp_path, "v_Diving_g01_c02.avi")
    with pytest.raises(UserError, match="clips of one source video on two sides: other/v_Diving_g01_c02 is train"):
        scan(tmp_path)


def test_the_leak_check_may_be_off(tmp_path):
    touch(tmp_path, "train/a/x_g01_c01.avi", "test/a/x_g01_c02.avi")
    with pytest.raises(UserError, match="mend its lists, .* or set the config's leak_check to false"):
        scan(tmp_path)
    plan = scan(tmp_path, leak_check=False)
    assert not plan.leak_check
    assert plan.layout == (
        "videos in class folders, divided by folders: 2 videos, split 1 from its own sides; leak check off"
    )


def test_lists_of_two_kinds(folder):
    write_lists(folder / "ucfTrainTestlist", ["Run"], {})
    write(folder, {"other/jump_test_split1.txt": "a.avi 1"})
    with pytest.raises(UserError, match="ucfTrainTestlist and .*other are both there: move away the one"):
        scan(folder)
    with pytest.raises(UserError, match="holds no trainlist01.txt"):
        scan(folder / "ucfTrainTestlist")


@pytest.mark.parametrize(
    "splits, text",
    [(("1",), "split 1"), (("1", "2"), "splits 1 and 2"), (("1", "2", "3"), "splits 1 to 3"),
     (("1", "3", "4"), "splits 1, 3 and 4"), (tuple(map(str, range(1, 11))), "splits 1 to 10")],
)  # fmt: skip
def test_splits_in_words(splits, text):
    assert sources._in_words(splits) == text


def test_everything_said_is_one_line(tmp_path):
    touch(
        tmp_path,
        *(f"a\nb/x/{name}/{n}.avi" for name in "ab" for n in range(3)),
        "a\nb/x/a/no\nvideo.txt",
        "c\nlist.csv",
    )
    plan = scan(tmp_path)
    assert all("\n" not in line for line in (plan.layout, *plan.notes))
    assert len(plan.notes) == 2


def test_the_default_config_of_every_kind_of_build(folder):
    for keys in ({"name": "a"}, {"name": "b", "flow": "dis"}, {"name": "c", "short_side": 64}):
        assert sources.scan(folder, VideoConfig(**keys), folder).sources == scan(folder).sources
