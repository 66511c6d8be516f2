"""HMDB51's lists, and what is said of those that do not fit."""

import pytest
from list_files import scan, touch
from paths import REAL

from r23d_jax.errors import UserError
from tfds_ucf101 import lists
from tfds_ucf101.layouts import hmdb51
from tfds_ucf101.layouts.tree import Folder

OFFICIAL = REAL / "lists" / "hmdb51"


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
    roles = {source.name: source.roles for source in plan.sources}
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
    plan = scan(hmdb, use_lists="ignore")
    assert "split 1 from chance, class by class" in plan.layout
    assert "testTrainMulti_7030_splits" in plan.notes[0]


@pytest.mark.parametrize("folder", ["annotations", "more/testtrainmulti_7030_splits"])
def test_hmdb51_lists_lie_elsewhere(hmdb, folder):
    (hmdb / folder).parent.mkdir(exist_ok=True)
    (hmdb / hmdb51.FOLDER).rename(hmdb / folder)
    plan = scan(hmdb)
    assert plan.layout == f"videos in class folders: 8 videos, splits 1 and 2 from the lists in {folder}"
    assert plan.notes == ()


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
    for split in ("1", "2", "3"):
        lines = {name: [] for name in names}
        for side, flag in (("train", 1), ("val", 2)):
            for line in (OFFICIAL / f"hmdb51_flow_{side}_split_{split}.txt").read_text().splitlines():
                stem, _, label = line.rsplit(" ", 2)
                lines[names[int(label)]].append(f"{stem.split('/')[-1]}.avi {flag} ")
        for name, of_class in lines.items():
            (folder / f"{name}_test_split{split}.txt").write_text("\n".join(of_class))
        stems[split] = {(name, line.split(".avi")[0], line[-2]) for name, of in lines.items() for line in of}
    listed = hmdb51.read_lists(Folder(folder))
    sides = {split: dict(one) for split, one in listed.sides.items()}
    for split, one in sides.items():
        assert {(*key.split("/"), str(role)) for key, role in one.items()} == stems[split]
    hmdb51.check(names, sides)
    del sides["2"][lists.of_side(sides["2"], lists.TRAIN)[0]]
    with pytest.raises(UserError, match="HMDB51's split 2 has 3570/1530 train/test videos, found 3569/1530"):
        hmdb51.check(names, sides)
    hmdb51.check(names[1:], sides)
