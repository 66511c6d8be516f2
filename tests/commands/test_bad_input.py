"""Videos that are odd but right, files that may not be read, names that are no text: each read, or one line."""

import contextlib
import json
import os
import shutil
import struct
import tempfile
from pathlib import Path

import av
import fake_data
import numpy as np
import pytest
from fake_videos import write_checkpoint, write_video
from safetensors.numpy import save_file

from r23d_jax import config, features, predict
from r23d_jax.data.records import VideoDataset
from r23d_jax.data.video import Video, VideoError, read_rgb
from r23d_jax.errors import UserError
from r23d_jax.training import log as log_files
from r23d_jax.training.checkpoints import Checkpoints
from r23d_jax.weights import checkpoint, importing, readers
from tfds_ucf101 import config as builds
from tfds_ucf101 import sources

# --- videos ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.mark.parametrize(
    ("count", "size", "clips"), [(1, (48, 64), 1), (8, (51, 77), 2), (2, (2160, 3840), 1), (4, (16, 1000), 1)]
)
def test_one_frame_odd_sizes_and_4k_are_predicted(run, weights, tmp_path, count, size, clips):
    path = write_video(tmp_path / "a.mkv", count, size)
    status, _, err = run(predict.main, "--checkpoint", weights, path, "--json", tmp_path / "a.json")
    assert (status, err) == (0, "")
    (answer,) = json.loads((tmp_path / "a.json").read_text())
    assert answer["clips"] == clips and sum(row["score"] for row in answer["top"]) == pytest.approx(1, abs=1e-5)


def encode(path, codec, frames):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        container.start_encoding()  # writes the header, whatever follows
        for picture in fake_data.pixels(1, frames, 48, 64) if frames else ():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    return path


def test_a_video_without_a_frame_is_told(tmp_path):
    with pytest.raises(VideoError, match="a.mkv: (holds no frames|is no readable video)"):
        read_rgb(encode(tmp_path / "a.mkv", "mpeg4", 0))


@pytest.mark.parametrize(("degrees", "matrix"), [(90, (0, 1, -1, 0)), (180, (-1, 0, 0, -1)), (270, (0, -1, 1, 0))])
def test_a_rotated_video_is_seen_upright(tmp_path, degrees, matrix):
    path = encode(tmp_path / "a.mp4", "mpeg4", 3)
    raw, _ = read_rgb(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # the matrix of the track's header, in 16.16 numbers; each row ends in a 0
    a, b, c, d = (value << 16 for value in matrix)
    struct.pack_into(">5i", data, at, a, b, 0, c, d)
    path.write_bytes(data)
    turned, _ = read_rgb(path)
    np.testing.assert_array_equal(turned, np.rot90(raw, -degrees // 90, (1, 2)))


@pytest.mark.parametrize("claimed", [0, 1, 999_999])
def test_a_header_that_lies_about_the_frames_is_not_believed(tmp_path, claimed):
    path = encode(tmp_path / "a.avi", "mpeg4", 12)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"avih") + 8 + 16, claimed)
    struct.pack_into("<I", data, data.index(b"strh") + 8 + 32, claimed)
    path.write_bytes(data)
    with Video(path) as video:
        assert video.header_frames in (claimed, 12)
        assert len(list(video.frames())) == 12


# --- no permission --------------------------------------------------------------------------------------


@pytest.fixture
def shared():
    """A folder that everybody may enter: what pytest makes belongs to one user alone."""
    folder = Path(tempfile.mkdtemp(prefix="r23d_shared_"))
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        path.chmod(0o700)
    shutil.rmtree(folder)


@contextlib.contextmanager
def nobody():
    """The superuser may read and write everything, so the tests of a superuser go on as another user."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


VERSION = "tfds_ucf101/rgb/1.1.0"


def built(folder):
    fake_data.write(folder / "data", classes=2, groups=3, frames=4, height=16, width=24)
    return folder / "data"


def listed(folder):
    for name in ("Run/v_Run_g01_c01.avi", "Run/v_Run_g09_c01.avi"):
        (folder / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "videos" / name).touch()
    return folder


def scan(folder):
    sources.scan(folder, builds.DEFAULT, folder / "unpacked")


def labels_file(folder):
    (folder / "labels.txt").write_text("a\nb\n")
    return folder / "labels.txt"


def weights_file(folder):
    save_file({"a": np.zeros(3, np.float32)}, folder / "a.safetensors")
    return folder / "a.safetensors"


def config_file(folder):
    (folder / "mine.py").write_text("from . import common\nget_config = common.get_config\n")
    return folder / "mine.py"


@pytest.mark.parametrize(
    ("make", "locked", "read"),
    [
        (built, f"{VERSION}/videos.json", VideoDataset.open),
        (built, f"{VERSION}/tfds_ucf101-videos.array_record-00000-of-00002", VideoDataset.open),
        (built, VERSION, VideoDataset.open),
        (built, ".", VideoDataset.open),
        (lambda folder: write_checkpoint(folder / "w"), "card.json", checkpoint.load_weights),
        (lambda folder: write_checkpoint(folder / "w"), "checksums.json", checkpoint.load_weights),
        (lambda folder: write_checkpoint(folder / "w"), "weights", checkpoint.load_weights),
        (lambda folder: write_checkpoint(folder / "w"), ".", checkpoint.find),
        (lambda folder: write_video(folder / "a.mkv"), ".", read_rgb),
        (weights_file, ".", readers.read_tensors),
        (labels_file, ".", importing.read_labels),
        (config_file, ".", lambda path: config.load(str(path))),
        (listed, "videos", scan),
        (listed, "videos/Run", scan),
    ],
)
def test_what_may_not_be_read_is_named(shared, make, locked, read):
    whole = make(shared)
    for path in shared.rglob("*"):
        path.chmod(0o755)
    read(whole)  # also imports what `nobody` might not be allowed to
    (whole / locked if locked != "." else whole).chmod(0)
    with pytest.raises((UserError, OSError)) as caught, nobody():
        read(whole)
    told = str(caught.value)
    assert str(whole.parent) in told and "\n" not in told and "damaged checkpoint" not in told


def test_what_may_not_be_written_is_named_and_nothing_is_harmed(shared):
    checkpoints = Checkpoints(shared)
    tensors, card = checkpoint.load_weights(write_checkpoint(shared / "w"))
    checkpoints.save(1, tensors, {}, card, {})
    checkpoints.wait()
    for path in (shared, *shared.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = sorted(shared.rglob("*"))
    with nobody():
        with pytest.raises(UserError, match="00000002|checkpoint could not be written .*Permission denied"):
            checkpoints.save(2, tensors, {}, card, {})
            checkpoints.wait()
        with pytest.raises((UserError, OSError), match=str(shared)):
            checkpoint.save_weights(shared / "new", tensors, card)
        with pytest.raises((UserError, OSError), match=str(shared)):
            log_files.Log(shared, 10, 0)
    assert sorted(shared.rglob("*")) == before and Checkpoints(shared).resume()[3]["step"] == 1


# --- names ----------------------------------------------------------------------------------------------

ODD = os.fsdecode(b"v_\xff_g01_c01")


@pytest.mark.parametrize("name", [f"Run/{ODD}.avi", f"{ODD}/v_Run_g01_c01.avi"])
def test_names_that_are_no_text_are_refused_by_the_build(tmp_path, name):
    listed(tmp_path)
    (tmp_path / "videos" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "videos" / name).touch()
    with pytest.raises(UserError, match=r"b'v_\\xff_g01_c01.*' is not UTF-8: rename it"):
        scan(tmp_path)


def test_names_that_are_no_text_can_be_predicted(run, weights, tmp_path):
    path = write_video(tmp_path / "a.mkv").rename(tmp_path / f"{ODD}.mkv")
    status, out, err = run(predict.main, "--checkpoint", weights, path, "--json", tmp_path / "a.json")
    assert (status, err) == (0, "") and r"v_\udcff_g01_c01.mkv" in out
    assert json.loads((tmp_path / "a.json").read_text())[0]["video"] == str(path)
    status, _, err = run(features.main, "--checkpoint", weights, "--out", tmp_path / "f", path)
    assert (status, err) == (0, "") and os.listdir(tmp_path / "f") == [f"{ODD}.npz"]


def test_an_index_cannot_lead_out_of_its_folder(tmp_path):
    folder = built(tmp_path) / VERSION
    index = json.loads((folder / "videos.json").read_text())
    for name in ("../tfds_ucf101-videos.array_record-00000-of-00001", "/etc/x.array_record-00000-of-00001"):
        wrong = {**index, "shards": {**index["shards"], name: {"bytes": 1, "records": 1}}}
        (folder / "videos.json").write_text(json.dumps(wrong))
        with pytest.raises(UserError, match=r"videos.json: not an index of this version \(shard '"):
            VideoDataset.open(tmp_path / "data")


@pytest.mark.parametrize("name", ["videos.json", "card.json", "checksums.json"])
def test_json_of_endless_depth_is_refused(tmp_path, name):
    folder = built(tmp_path) / VERSION if name == "videos.json" else write_checkpoint(tmp_path / "w")
    (folder / name).write_text("[" * 200_000)
    with pytest.raises(UserError, match=name):
        VideoDataset.open(tmp_path / "data") if name == "videos.json" else checkpoint.load_weights(folder)
