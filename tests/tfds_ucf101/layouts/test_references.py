"""Where the videos of a table are found, and where a name is not enough."""

import pytest
from list_files import scan, touch, write

from r23d_jax.errors import UserError


def test_paths_of_tables(tmp_path):
    """Without the folders in front, with others, and by the name alone, as far as that is one video."""
    touch(tmp_path, "data/wave/1.mp4", "data/clap/1.mp4", "data/clap/2.mp4", "data/clap/3.mp4")
    rows = ["clap/1.avi,clap,train", "/old/place/wave/1.mp4,wave,train", "2,clap,test"]
    write(tmp_path, {"videos.csv": "\n".join(["path,label,split", *rows])})
    shown = {source.name: source.shown for source in scan(tmp_path).sources}
    assert shown == {
        "clap/1": "data/clap/1.mp4",
        "wave/1": "data/wave/1.mp4",
        "clap/2": "data/clap/2.mp4",
    }


@pytest.mark.parametrize(
    "row, message",
    [
        ("1.mp4,wave,train", "1.mp4 of the table could be data/clap/1.mp4 or data/wave/1.mp4: give the path"),
        ("other/2.mp4,clap,train", "1 videos listed .* not on disk, first other/2.mp4"),
        ("/old/other/2.mp4,clap,train", "1 videos listed .* not on disk, first /old/other/2.mp4"),
        ("2.mp4,wave,train", "clap/2.mp4 and 2.mp4 are both the video data/clap/2.mp4: remove one of the two"),
    ],
)
def test_paths_that_are_not_one_video(tmp_path, row, message):
    touch(tmp_path, "data/wave/1.mp4", "data/clap/1.mp4", "data/clap/2.mp4")
    write(tmp_path, {"videos.csv": f"path,label,split\nclap/2.mp4,clap,train\n{row}\n"})
    with pytest.raises(UserError, match=message):
        scan(tmp_path)


def test_frames_of_two_names_that_a_table_means(tmp_path):
    touch(tmp_path, "a/img_1.jpg", "a/mask_1.jpg", "b/img_1.jpg")
    write(tmp_path, {"videos.csv": "path,label,split\na,x,train\nb,x,test\n"})
    with pytest.raises(
        UserError, match="a holds pictures of 2 names: 1 of img_#.jpg, 1 of mask_#.jpg; keep those of one"
    ):
        scan(tmp_path)


def test_flow_is_asked_of_videos(tmp_path):
    write(tmp_path, {"videos.csv": "path,label,split\na.mp4,x,train\nb.mp4,x,test\n"})
    touch(tmp_path, "a.mp4", "b.mp4")
    assert len(scan(tmp_path).sources) == 2
    with pytest.raises(
        UserError, match="a.mp4 has no flow_x_# and flow_y_# pictures, and the config asks for flow_files"
    ):
        scan(tmp_path, flow="tvl1", flow_files=True)


def test_a_file_that_is_named_is_taken_whatever_its_ending(tmp_path):
    touch(tmp_path, "a/1.dat", "a/2", "a/3.txt")
    write(tmp_path, {"videos.csv": "path,label,split\na/1.dat,x,train\na/2,x,test\na/3.txt,x,train\n"})
    assert [source.shown for source in scan(tmp_path).sources] == ["a/1.dat", "a/2", "a/3.txt"]
