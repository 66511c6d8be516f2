"""Videos in folders, as people have them: what is found, on which side, and how it is called in one line."""

import zipfile

import pytest
from list_files import pretend, scan, sides_of, touch, write_lists

from r23d_jax.errors import UserError
from tfds_ucf101.layouts import ucf101


def pevogam(wrapper="ucf101-frames/", names=None, side=None, spelled=lambda key: key, frames=2):
    """Paths of Kaggle's pevogam/ucf101-frames: frames of many videos side by side, in train and test of split 1."""
    for key in ucf101.names() if names is None else names:
        group = int(key.rpartition("_g")[2][:2])
        of_side = side(key) if side else "test" if group < 8 else "train"
        name, stem = spelled(key).split("/")
        for number in range(1, frames + 1):
            yield f"{wrapper}{of_side}/{name}/{stem}-{number:04d}.jpg"


# --- pevogam/ucf101-frames


@pytest.mark.parametrize("wrapper", ["", "ucf101-frames/", "archive/ucf101-frames/"])
def test_pevogam_whole(tmp_path, monkeypatch, wrapper):
    pretend(monkeypatch, tmp_path, pevogam(wrapper))
    plan = scan(tmp_path)
    assert plan.layout == (
        "UCF101 as frames by Kaggle's pevogam/ucf101-frames: 13,320 videos, splits 1 to 3 from groups; the folders' "
        "own train/test agrees with split 1"
    )
    assert plan.notes == ()
    assert plan.class_names == ucf101.CLASSES
    assert sorted(source.name for source in plan.sources) == sorted(ucf101.names())
    for split, (train, test) in ucf101.COUNTS.items():
        sides = list(sides_of(plan, split).values())
        assert (sides.count("train"), sides.count("test")) == (train, test)
    first = plan.sources[0]
    assert first.shown == f"{wrapper}test/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01"
    assert list(first.media.names()) == [f"v_ApplyEyeMakeup_g01_c01-000{number}.jpg" for number in (1, 2)]


def test_pevogam_missing_videos_are_named(tmp_path, monkeypatch):
    lacking = ["Archery/v_Archery_g03_c02", "HandstandPushups/v_HandStandPushups_g20_c01"]
    pretend(monkeypatch, tmp_path, pevogam(names=[name for name in ucf101.names() if name not in lacking]))
    with pytest.raises(UserError, match=f"found 13318; missing: {', '.join(lacking)}; add them, or .*subset"):
        scan(tmp_path)
    assert len(scan(tmp_path, subset=True).sources) == 13318


@pytest.mark.parametrize(
    "spelled",
    [
        lambda key: key.replace("HandstandPushups/", "HandStandPushups/"),
        lambda key: key.replace("HandStandPushups", "HandstandPushups"),
        lambda key: key.replace("tand", "TAND"),
    ],
)
def test_pevogam_handstand_pushups_however_spelled(tmp_path, monkeypatch, spelled):
    pretend(monkeypatch, tmp_path, pevogam(spelled=spelled, frames=1))
    plan = scan(tmp_path)
    assert plan.class_names == ucf101.CLASSES
    assert len(plan.sources) == 13320


def test_pevogam_handstand_pushups_spelled_in_two_ways(tmp_path, monkeypatch):
    paths = [path.replace("test/HandstandPushups/", "test/HandStandPushups/") for path in pevogam(frames=1)]
    pretend(monkeypatch, tmp_path, paths)
    plan = scan(tmp_path)
    assert plan.class_names == ucf101.CLASSES
    assert plan.layout.endswith("agrees with split 1")


SOME = [f"{name}/v_{name}_g{group:02d}_c01" for name in ("Archery", "Diving") for group in (1, 2, 9, 10, 20)]


def test_pevogam_with_val(tmp_path):
    touch(
        tmp_path,
        *pevogam(
            names=SOME,
            side=lambda key: "val" if "_g20" in key else "test" if "_g0" in key and "_g09" not in key else "train",
        ),
    )
    plan = scan(tmp_path)
    assert plan.layout.endswith("splits 1 to 3 from groups; the folders' own train/val/test agrees with split 1")
    sides = {key: sides_of(plan, "1")[key] for key in SOME[:5]}
    assert list(sides.values()) == ["test", "test", "train", "train", "val"]
    assert sides_of(plan, "2")[SOME[4]] == "train"


def test_pevogam_with_val_of_the_same_sources(tmp_path):
    names = [*SOME, "Archery/v_Archery_g20_c02", "Diving/v_Diving_g20_c02"]
    touch(
        tmp_path,
        *pevogam(
            names=names,
            side=lambda key: (
                "val" if "c02" in key else "test" if key in (SOME[0], SOME[1], SOME[5], SOME[6]) else "train"
            ),
        ),
    )
    plan = scan(tmp_path)
    assert "agrees with split 1, but its val has clips of train's source videos and counts as train" in plan.layout
    assert set(sides_of(plan).values()) == {"train", "test"}


def test_pevogam_with_sides_of_its_own(tmp_path):
    touch(tmp_path, *pevogam(names=SOME, side=lambda key: "test" if "_g20" in key else "train"))
    with pytest.raises(
        UserError, match="not UCF101's split 1 in 6 of 10 videos, first Archery/v_Archery_g01_c01: .*ignore"
    ):
        scan(tmp_path)
    plan = scan(tmp_path, use_lists="ignore")
    assert plan.layout.endswith("splits 1 to 3 from groups; the folders' own sides differ from split 1 in 6 videos")
    plan = scan(tmp_path, use_lists="folders")
    assert plan.layout.endswith("10 videos, split 1 from its own sides")
    assert [key for key, side in sides_of(plan).items() if side == "test"] == [SOME[4], SOME[9]]


def test_pevogam_with_lists_beside_it(tmp_path):
    touch(tmp_path, *pevogam(names=SOME))
    write_lists(
        tmp_path / "ucfTrainTestlist", ["Archery", "Diving"], {"1": (SOME[2:5] + SOME[7:], SOME[:2] + SOME[5:7])}
    )
    assert scan(tmp_path).layout.endswith(
        "from the lists in ucfTrainTestlist; the folders' own sides agree with split 1"
    )


# --- frames


def test_frames_in_class_folders(tmp_path):
    touch(tmp_path / "frames", *(f"Run/v_Run_g0{group}_c01/{n}.jpg" for group in (1, 8) for n in range(8, 12)))
    plan = scan(tmp_path)
    assert plan.layout == "frames in class folders, a folder a video: 2 videos, splits 1 and 2 from groups"
    assert list(plan.sources[0].media.names()) == ["8.jpg", "9.jpg", "10.jpg", "11.jpg"]


@pytest.mark.parametrize("wrapper", ["jpegs_256/", "frames/", "UCF101/jpegs_256/", ""])
def test_folders_of_frames_without_classes(tmp_path, wrapper):
    names = ["HandStandPushups_g01_c01", "HandStandPushups_g08_c01", "Archery_g01_c01", "Archery_g08_c01"]
    touch(tmp_path, *(f"{wrapper}v_{name}/frame00000{n}.jpg" for name in names for n in (1, 2)))
    plan = scan(tmp_path)
    assert plan.class_names == ("Archery", "HandstandPushups")
    assert sides_of(plan) == {
        "Archery/v_Archery_g01_c01": "test",
        "Archery/v_Archery_g08_c01": "train",
        "HandstandPushups/v_HandStandPushups_g01_c01": "test",
        "HandstandPushups/v_HandStandPushups_g08_c01": "train",
    }
    assert plan.layout.startswith(
        "UCF101 as videos or folders of frames without class folders: 4 videos, splits 1 and 2"
    )


def test_files_without_classes(tmp_path):
    touch(tmp_path, *(f"v_{name}_g0{group}_c01.avi" for name in ("Run", "Jump") for group in (1, 8)), "readme.md")
    plan = scan(tmp_path)
    assert plan.class_names == ("Jump", "Run")
    assert plan.notes == ("passed over, no videos of a class: readme.md",)
    touch(tmp_path, "v_Run_g01_c01.mp4")
    with pytest.raises(UserError, match="v_Run_g01_c01.avi and v_Run_g01_c01.mp4 would both be named v_Run_g01_c01"):
        scan(tmp_path)


def test_frames_that_are_missing_are_videos_all_the_same(tmp_path):
    touch(tmp_path / "frames", *(f"Run/{name}/1.jpg" for name in "abc"))
    (tmp_path / "frames/Run/d").mkdir()
    (tmp_path / "frames/Jump/e").mkdir(parents=True)
    plan = scan(tmp_path)
    assert [(source.name, list(source.media.names())) for source in plan.sources if source.name[-1] in "de"] == [
        ("Jump/e", []),
        ("Run/d", []),
    ]


def test_folders_of_frames_that_say_no_class(tmp_path):
    touch(tmp_path, "one/frame1.jpg", "two/frame1.jpg")
    with pytest.raises(UserError, match="holds folders of frames and no class folders, .* such as one: .*videos.csv"):
        scan(tmp_path)


def test_frames_of_several_videos_without_names(tmp_path):
    touch(tmp_path, "Run/1.jpg", "Run/2.jpg", "Jump/a.avi")
    with pytest.raises(UserError, match="Run holds pictures whose names do not say of which video, #.jpg: put those"):
        scan(tmp_path)


# --- own data


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "Validation", "Testing"), ("TRAIN", "valid", "test")]
)
@pytest.mark.parametrize("kind", [".mp4", "/1.png", "-1.webp"])
@pytest.mark.parametrize("wrapper", ["", "videos/", "my data/"])
def test_train_val_test(tmp_path, names, kind, wrapper):
    stems = {name: side for name, side in zip("abc", names, strict=True)}
    touch(
        tmp_path,
        *(f"{wrapper}{side}/{label}/{stem}{kind}" for stem, side in stems.items() for label in ("wave", "clap")),
    )
    plan = scan(tmp_path)
    assert plan.class_names == ("clap", "wave")
    assert sides_of(plan) == {
        f"{label}/{stem}": side
        for label in ("clap", "wave")
        for stem, side in zip("abc", ("train", "val", "test"), strict=True)
    }
    assert plan.layout.endswith(", divided by folders: 6 videos, split 1 from its own sides")
    assert plan.notes == ()


@pytest.mark.parametrize("second", ["val", "test", "validation"])
def test_two_sides_are_train_and_test(tmp_path, second):
    touch(tmp_path, "train/wave/1.mp4", f"{second}/wave/2.mp4")
    assert sides_of(scan(tmp_path)) == {"wave/1": "train", "wave/2": "test"}


@pytest.mark.parametrize(
    "names", [("training_set", "testing_set"), ("Train Videos", "Test Videos"), ("train2", "val2")]
)
def test_sides_are_found_in_words(tmp_path, names):
    for stem, side in zip("ab", names, strict=True):
        touch(tmp_path, *(f"{side}/{label}/{stem}.mp4" for label in ("wave", "clap")))
    assert sides_of(scan(tmp_path)) == {"clap/a": "train", "clap/b": "test", "wave/a": "train", "wave/b": "test"}


@pytest.mark.parametrize("names", [("training dog", "test drive"), ("training_set", "testing_set", "wave")])
def test_words_of_sides_in_the_names_of_classes(tmp_path, names):
    touch(tmp_path, *(f"{name}/{n}.mp4" for name in names for n in range(3)))
    assert scan(tmp_path).class_names == tuple(sorted(names))


@pytest.mark.parametrize("kind", [".mp4", "/1.png"])
@pytest.mark.parametrize("path", ["wave/{side}/{n}{kind}", "split1/{side}/wave/{n}{kind}"])
def test_sides_within_classes_are_not_lost(tmp_path, path, kind):
    for n, side in enumerate(("train", "test")):
        touch(tmp_path, path.format(side=side, n=n, kind=kind))
    touch(tmp_path, *(f"clap/{n}{kind}" for n in range(3)))
    with pytest.raises(UserError, match="(wave|split1) holds a folder train and other sides: give that folder, if"):
        scan(tmp_path)


@pytest.mark.parametrize("kind", [".mp4", "/img_1.png"])
def test_a_folder_of_videos_is_no_class(tmp_path, kind):
    touch(tmp_path, *(f"videos/wave_{n}{kind}" for n in range(4)))
    (tmp_path / "labels.csv").write_text("filename,label\nwave_1.mp4,wave\n")
    with pytest.raises(UserError, match="videos.* no class folders.* add a table videos.csv"):
        scan(tmp_path)


def test_equal_names_on_several_sides(tmp_path):
    touch(tmp_path, "train/wave/1.mp4", "train/wave/2.mp4", "val/wave/1.mp4", "test/wave/1.mp4")
    assert sides_of(scan(tmp_path)) == {
        "wave/test/1": "test",
        "wave/train/1": "train",
        "wave/train/2": "train",
        "wave/val/1": "val",
    }


@pytest.mark.parametrize(
    "paths, message",
    [
        (["train/wave/1.mp4", "test/Wave/2.mp4"], "the classes wave and Wave differ in upper and lower case only"),
        (["train/wave/1.mp4", "test/wvae/2.mp4"], "the class wvae is tested but never trained"),
        (["train/a/1.mp4", "val/a/2.mp4", "valid/a/3.mp4"], "val and .*valid would be the same side: remove one"),
        (["val/wave/1.mp4", "test/wave/2.mp4"], "holds test and val, and no train"),
        (["train/wave/1.mp4", "test/2.mp4"], "test holds videos or frames, and no class folders: put them into some"),
        (["train/1.mp4", "test/2.mp4", "val/3.mp4"], "test holds videos or frames, and no class folders"),
        (["train/wave/a_g01_c01.mp4", "test/wave/a_g01_c02.mp4"], "split 1 has clips of one source video on two sides"),
    ],
)
def test_sides_that_do_not_fit(tmp_path, paths, message):
    touch(tmp_path, *paths)
    with pytest.raises(UserError, match=message) as caught:
        scan(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_lies_beside_the_sides_is_told(tmp_path):
    touch(tmp_path, "train/wave/1.mp4", "test/wave/2.mp4", "extra/wave/3.mp4", "intro.mp4", "train/wave/notes.txt")
    plan = scan(tmp_path)
    assert len(plan.sources) == 2
    assert plan.notes == ("passed over, no videos of a class: train/wave/notes.txt, extra/, intro.mp4",)


def test_classes_divided_by_chance(tmp_path):
    touch(tmp_path, *(f"{name}/{n}.mp4" for name in ("wave", "clap") for n in range(20)))
    plan = scan(tmp_path)
    assert plan.layout == (
        "videos in class folders: 40 videos, split 1 from chance, class by class and source by source (70% train, 15% "
        "val, 15% test; seed 0)"
    )
    for name in ("wave", "clap"):
        sides = [side for key, side in sides_of(plan).items() if key.startswith(name)]
        assert [sides.count(side) for side in ("train", "val", "test")] == [14, 3, 3]
    assert scan(tmp_path).sources == plan.sources
    assert sides_of(scan(tmp_path, split_seed=1)) != sides_of(plan)
    plan = scan(tmp_path, sides=[0.5, 0, 0.5])
    assert plan.layout.endswith("(50% train, 50% test; seed 0)")
    plan = scan(tmp_path, folds=4, validation=0.2)
    assert plan.layout.endswith(
        "splits 1 to 4 from 4 folds by chance, class by class and source by source (seed 0), 20% of train as val "
        "(seed 0)"
    )
    assert {source.roles.count(2) for source in plan.sources} == {1}


def test_some_videos_without_a_group(tmp_path):
    touch(tmp_path / "videos", *(f"Run/v_Run_g0{group}_c01.avi" for group in (1, 2, 8, 9)))
    touch(tmp_path / "videos", "Run/readme.txt", "Run/cover.jpg")
    plan = scan(tmp_path)
    assert plan.layout == "videos in class folders: 4 videos, splits 1 and 2 from groups"
    assert plan.notes == ("passed over, no videos of a class: videos/Run/cover.jpg, videos/Run/readme.txt",)
    touch(tmp_path / "videos", "Run/a.avi")
    with pytest.raises(
        UserError, match="1 of 5 videos carry no group.*first Run/a: rename or remove them, add ucfTrain"
    ):
        scan(tmp_path)
    assert "from chance" in scan(tmp_path, sides=[0.8, 0, 0.2]).layout
    touch(tmp_path / "videos", *(f"Run/{n}.avi" for n in range(3)))  # as many without: groups are no habit here
    assert "split 1 from chance" in scan(tmp_path).layout


def test_groups_that_leave_one_side_empty(tmp_path):
    touch(tmp_path / "videos", "Run/v_Run_g22_c01.avi", "Run/v_Run_g23_c01.avi")
    with pytest.raises(UserError, match="groups 22 to 23 only.*add lists"):
        scan(tmp_path)


# --- what can go wrong


def test_classes_that_are_called_like_something_else(tmp_path):
    names = ["test", "train", "videos", "frames", "val", "ucf101", "list"]
    touch(tmp_path, *(f"{name}/{n}.mp4" for name in names for n in range(3)))
    plan = scan(tmp_path)
    assert plan.class_names == tuple(sorted(names))
    assert len(plan.sources) == 21 and plan.notes == ()
    touch(tmp_path, *(f"videos/{name}/{n}.mp4" for name in names for n in range(3)))
    assert scan(tmp_path).sources[0].name == "frames/0"


def test_classes_in_a_folder_of_videos_are_not_looked_into(tmp_path):
    touch(tmp_path, *(f"videos/{name}/{n}/1.mp4" for name in ("frames", "jump") for n in range(3)))
    assert scan(tmp_path).class_names == ("frames", "jump")


def test_names_of_classes_stay_as_they_are(tmp_path):
    touch(tmp_path, *(f"{name}/{n}.avi" for name in ("punch", "diving") for n in range(3)))
    assert scan(tmp_path).class_names == ("diving", "punch")  # which UCF101 spells otherwise


@pytest.mark.parametrize("wrapper", ["", "videos/", "UCF-101/"])
def test_one_class(tmp_path, wrapper):
    touch(tmp_path, *(f"{wrapper}Run/v_Run_g0{group}_c01.avi" for group in (1, 8)))
    plan = scan(tmp_path)
    assert plan.class_names == ("Run",)
    assert plan.notes == ()


def test_a_video_beside_the_classes_makes_one_class_of_all(tmp_path):
    touch(tmp_path, "mine/intro.mp4", *(f"mine/{name}/{n}.mp4" for name in ("wave", "clap") for n in range(3)))
    with pytest.raises(UserError, match="all videos are in one folder, mine, and nothing says their classes"):
        scan(tmp_path)
    assert scan(tmp_path, classes=["mine"]).class_names == ("mine",)


@pytest.mark.parametrize("wrapper", ["", "videos/"])
def test_videos_without_classes_in_a_folder_are_no_class(tmp_path, wrapper):
    touch(tmp_path, f"{wrapper}data/1.avi", f"{wrapper}data/2.avi")
    message = "all videos are in one folder, data, and nothing says their classes"
    with pytest.raises(UserError, match=f"{message}: put them in a folder a class"):
        scan(tmp_path)
    assert scan(tmp_path, classes=["data"]).class_names == ("data",)
    (tmp_path / "labels.csv").write_text("file,class\n1.avi,a\n2.avi,b\n")  # without sides
    with pytest.raises(UserError, match=rf"{message} \(not used, though they look like lists: labels.csv\): put"):
        scan(tmp_path)


def test_videos_and_frames(tmp_path):
    touch(tmp_path, *(f"videos/Run/v_Run_g0{group}_c01.avi" for group in (1, 8)))
    touch(tmp_path, *(f"frames/Run/v_Run_g0{group}_c01/1.jpg" for group in (1, 8)))
    plan = scan(tmp_path)
    assert plan.sources[0].shown == "videos/Run/v_Run_g01_c01.avi"
    assert plan.notes == ("there, too, and not used: frames/",)


def test_what_is_no_class_is_told(tmp_path):
    touch(tmp_path, *(f"videos/{name}.avi" for name in ("a/1", "a/2", "b/1", "b/2", "3")))
    touch(tmp_path, "videos/docs/readme.md", "videos/4.jpg", "x.py")
    plan = scan(tmp_path)
    assert plan.class_names == ("a", "b")
    assert plan.notes == ("passed over, no videos of a class: videos/docs/, videos/3.avi, videos/#.jpg",)


def test_nested_folders(tmp_path):
    touch(tmp_path / "videos", "a/anna/1.avi", "a/ben/1.avi", "a/ben/more/1.avi", "a/2.avi", "b/x/y/z/1.avi", "b/1.avi")
    assert [source.name for source in scan(tmp_path).sources] == [
        "a/2",
        "a/anna/1",
        "a/ben/1",
        "a/ben/more/1",
        "b/1",
        "b/x/y/z/1",
    ]


@pytest.mark.parametrize(
    "paths, flow",
    [
        (["a/1/{}/001.jpg", "a/1/{}/002.jpg", "b/2/{}/001.jpg"], "a/1/flow_x"),
        (["a/{}/1/001.jpg", "b/{}/1/001.jpg"], "a/flow_x"),
        (["{}/v_Run_g01_c01/frame1.jpg", "{}/v_Run_g09_c01/frame1.jpg"], "flow_x"),
        (["flow/{}/Run/1/1.jpg", "flow/{}/Run/2/1.jpg"], "flow/flow_x"),
    ],
)
@pytest.mark.parametrize("names", [("flow_x", "flow_y"), ("u", "v")])
@pytest.mark.parametrize("keys", [{}, {"flow": "tvl1", "flow_files": True}])
def test_optical_flow_with_a_folder_a_direction_is_never_taken_for_frames(tmp_path, paths, flow, names, keys):
    touch(tmp_path, *(path.format(name) for path in paths for name in names))
    flow = flow.replace("flow_x", names[0])
    with pytest.raises(UserError, match=f"/{flow} and {names[1]}/ beside it hold optical flow, a folder a direction"):
        scan(tmp_path, **keys)


@pytest.mark.parametrize(
    "names, pattern",
    [
        (["v1/flow_x_1"], "flow_x_#.jpg"),  # one direction alone
        (["v1/flow_i_1", "v1/flow_i_2"], "flow_i_#.jpg"),
        (["flow_x_v1_1", "flow_y_v1_1"], "flow_x_v1_#.jpg"),
    ],
)
def test_pictures_of_flow_that_are_not_read_are_no_frames(tmp_path, names, pattern):
    touch(tmp_path, *(f"{folder}/{name}.jpg" for folder in "ab" for name in names))
    with pytest.raises(UserError, match=f"/a.* holds {pattern}, optical flow by its name"):
        scan(tmp_path)


def test_folders_that_are_called_like_directions_of_flow(tmp_path):
    touch(tmp_path, "u/1.avi", "u/2.avi", "v/1.avi", "v/2.avi", "w/x/1.jpg", "w/y/1.jpg", "w/y/2.jpg")
    assert [source.name for source in scan(tmp_path).sources] == ["u/1", "u/2", "v/1", "v/2", "w/x", "w/y"]


def test_an_empty_class_folder(tmp_path):
    touch(tmp_path, "videos/a/1.avi", "videos/a/2.avi")
    (tmp_path / "videos/b").mkdir()
    with pytest.raises(UserError, match="the class folder .*videos/b is empty: fill it or remove it"):
        scan(tmp_path)


@pytest.mark.parametrize(
    "paths, there, first, second",
    [
        ([], "nothing", "videos/<Class>", "a folder a class"),
        (["UCF101.tar.gz"], "UCF101.tar.gz", "UCF101.zip or", "videos/<Class>"),
        (["a.mp4", "b.mp4"], "a.mp4, b.mp4", "any folder and a table videos.csv", "a folder a class"),
        (["1.jpg", "2.jpg"], "#.jpg", "any folder and a table", "frames/<Class>/<video>"),
        (["train/readme.txt", "x.txt"], "train/, x.txt", "train, val and test", "a folder a class"),
        ([f"{n}/x.txt" for n in range(9)], "0/, 1/, 2/, 3/, 4/ and 4 more", "videos/<Class>", "a folder a class"),
    ],
)
def test_nothing_fits(tmp_path, paths, there, first, second):
    touch(tmp_path, *paths)
    with pytest.raises(UserError) as caught:
        scan(tmp_path)
    message = str(caught.value)
    assert f"{tmp_path} is of no known layout: it holds {there}. Nearest: (1) {first}" in message
    assert f"; (2) {second}" in message
    assert "\n" not in message


@pytest.mark.parametrize("around", ["videos/UCF-101", "frames/UCF101/UCF-101", "videos.zip/UCF-101"])
def test_a_folder_of_videos_around_ucf101s_own(tmp_path, around):
    names = [f"{name}/v_{name}_g{group:02d}_c01" for name in ("Biking", "Punch") for group in (1, 8)]
    if ".zip" in around:
        with zipfile.ZipFile(tmp_path / "videos.zip", "w") as archive:
            for name in names:
                archive.writestr(f"UCF-101/{name}.avi", b"")
    else:
        touch(tmp_path / around, *(f"{name}.avi" for name in names))
    assert [source.name for source in scan(tmp_path).sources] == names
