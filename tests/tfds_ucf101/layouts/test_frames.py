"""Which pictures of a folder are a video, and which its optical flow: mmaction2's rawframes."""

import pytest
from list_files import scan, touch

from r23d_jax.errors import UserError

FLOW = {"flow": "tvl1", "flow_files": True}


def rawframes(folder, names=("Run/a", "Run/b", "Jump/a", "Jump/b"), rgb=True) -> None:
    for name in names:
        kinds = ("img", "flow_x", "flow_y") if rgb else ("flow_x", "flow_y")
        touch(folder / name, *(f"{kind}_0000{n}.jpg" for kind in kinds for n in (1, 2)))


def test_rawframes(tmp_path):
    rawframes(tmp_path / "rawframes")
    plan = scan(tmp_path)
    assert plan.layout.startswith("mmaction2's rawframes: 4 videos, split 1 from chance, class by class")
    assert plan.notes == (
        'optical flow lies beside the frames and is not used; `tfds build` stores it with "flow": "tvl1", '
        '"flow_files": true',
    )
    for source in plan.sources:
        assert list(source.media.names()) == ["img_00001.jpg", "img_00002.jpg"]
    plan = scan(tmp_path, **FLOW)
    assert plan.notes == ()
    media = plan.sources[0].media
    assert [(one.prefix, len(one)) for one in (media.x, media.y)] == [("flow_x_", 2), ("flow_y_", 2)]


def test_rawframes_of_flow_alone(tmp_path):
    rawframes(tmp_path, rgb=False)
    with pytest.raises(UserError, match="Jump/a holds optical flow only; build it with .*flow_files"):
        scan(tmp_path)
    assert len(scan(tmp_path, **FLOW).sources) == 4


@pytest.mark.parametrize(
    "extra, message",
    [
        (
            "Run/a/mask_00001.jpg",
            "holds pictures of 2 names: 2 of img_#####.jpg, 1 of mask_#####.jpg; keep those of one",
        ),
        ("Run/a/img_00003.png", "holds pictures of two kinds, img_#.jpg and img_#.png: remove one of them"),
        ("Run/a/img_1.jpg", "holds img_#.jpg numbered in two ways, .*: number them in one way"),
    ],
)
def test_mixed_pictures_are_never_merged(tmp_path, extra, message):
    rawframes(tmp_path)
    touch(tmp_path, extra)
    with pytest.raises(UserError, match=message):
        scan(tmp_path)


def test_flow_that_does_not_fit(tmp_path):
    rawframes(tmp_path)
    touch(tmp_path, "Run/a/flow_x_00003.jpg")
    with pytest.raises(UserError, match="3 of flow_x_#####.jpg and 2 of flow_y_#####.jpg, of other numbers"):
        scan(tmp_path, **FLOW)
    assert len(scan(tmp_path).sources) == 4
    (tmp_path / "Jump/a/flow_y_00001.jpg").unlink()
    (tmp_path / "Jump/a/flow_y_00002.jpg").unlink()
    with pytest.raises(
        UserError, match="Jump/a holds no flow_x_# and flow_y_# pictures, and the config asks for flow_files"
    ):
        scan(tmp_path, **FLOW)
    with pytest.raises(UserError, match="Jump/a holds pictures of 2 names"):
        scan(tmp_path)


@pytest.mark.parametrize("paths", [["Run/a.avi", "Run/b.avi"], ["Run/a-1.jpg", "Run/b-1.jpg"], ["v_Run_g01_c01.avi"]])
def test_flow_is_asked_of_what_has_none(tmp_path, paths):
    touch(tmp_path, *paths)
    with pytest.raises(UserError, match="asks for flow_files"):
        scan(tmp_path, **FLOW)


def test_flow_beside_videos(tmp_path):
    """The videos are taken, and the folders of frames where their flow is asked for."""
    rawframes(tmp_path / "rawframes")
    touch(tmp_path / "videos", *(f"{name}.avi" for name in ("Run/a", "Run/b", "Jump/a", "Jump/b")))
    plan = scan(tmp_path)
    assert plan.sources[0].shown == "videos/Jump/a.avi"
    assert plan.notes == ("there, too, and not used: rawframes/",)
    plan = scan(tmp_path, **FLOW)
    assert plan.sources[0].shown == "rawframes/Jump/a"
    assert plan.notes == ("there, too, and not used: videos/",)


def test_other_pictures_in_the_folder_of_a_video(tmp_path):
    touch(tmp_path, *(f"{name}/v{n}/frame1.jpg" for name in "ab" for n in range(3)), "a/v1/masks/1.png")
    with pytest.raises(UserError, match="a/v1 holds frames of a video, and masks/ in it holds others: move these away"):
        scan(tmp_path)
