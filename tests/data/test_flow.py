"""Optical flow: as computed, as stored, through the build, and from a video file."""

import hashlib
import json

import cv2
import numpy as np
import pytest
from building import SMALL, build, media, read, read_index, write_folder, write_video

from r23d_jax.data import flow, records
from r23d_jax.data.video import VideoError, read_rgb
from r23d_jax.errors import UserError
from r23d_jax.inference import clips as video_clips
from r23d_jax.transforms.spec import FARNEBACK
from tfds_ucf101 import frames
from tfds_ucf101.layouts.frames import one_video
from tfds_ucf101.layouts.tree import Folder
from tfds_ucf101.stored import FrameOptions
from tfds_ucf101.tfds_ucf101_dataset_builder import Builder

DIRECT = {
    "tvl1": lambda a, b: cv2.optflow.DualTVL1OpticalFlow_create().calc(a, b, None),
    "farneback": lambda a, b: cv2.calcOpticalFlowFarneback(
        a, b, None, 2**-0.5, 5, 10, 2, 7, 1.5, cv2.OPTFLOW_FARNEBACK_GAUSSIAN
    ),
    "dis": lambda a, b: cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(a, b, None),
}


def expected(path, algorithm, size):
    """uint8 [N-1, H, W, 2] by OpenCV called directly, with the definition of the quantisation."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in read_rgb(path, size)[0]]
    fields = np.stack([DIRECT[algorithm](a, b) for a, b in zip(grey[:-1], grey[1:], strict=True)])
    return np.round((np.clip(fields, -20, 20) + 20) * 255 / 40).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("input"), groups=(1, 8))


@pytest.fixture(scope="module")
def built(folder, tmp_path_factory):
    """A data set of each algorithm in one place."""
    out = tmp_path_factory.mktemp("built")
    for algorithm in DIRECT:
        build(folder, out, {"name": algorithm, "size": [24, 33], "flow": algorithm})
    return out


def test_quantisation():
    values = np.asarray([-99, -20, -10, -0.1, 0, 0.1, 19.99, 20, 99], np.float32)
    stored = flow.quantise(values)
    assert stored.tolist() == [0, 0, 64, 127, 128, 128, 255, 255, 255]
    inside = np.linspace(-20, 20, 999, dtype=np.float32)
    assert np.abs(flow.dequantise(flow.quantise(inside)) - inside).max() <= 20 / 255 + 1e-6
    assert FARNEBACK["std"] == (0.972347 / (2 * flow.BOUND), 0.755146 / (2 * flow.BOUND))


def test_picture_is_lossless():
    field = np.random.default_rng(0).integers(0, 256, (5, 7, 2), np.uint8)
    png = flow.to_png(field)
    np.testing.assert_array_equal(flow.from_png(png), field)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(png, np.uint8), -1)[5:], field[..., 1])
    assert flow.from_png(b"not a picture") is None
    assert flow.from_png(cv2.imencode(".png", np.zeros((3, 4), np.uint8))[1]) is None  # an odd height


def test_motion_to_the_right_and_down_is_positive():
    texture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (64, 80), np.uint8), (0, 0), 2)
    moved = np.roll(texture, (1, 2), axis=(0, 1))  # one down, two to the right
    for algorithm in DIRECT:
        x, y = np.median(flow.Flow(algorithm).field(texture, moved)[16:-16, 16:-16].reshape(-1, 2), axis=0)
        assert (x, y) == pytest.approx((2, 1), abs=0.35), algorithm


@pytest.mark.parametrize("algorithm", DIRECT)
def test_records_hold_what_opencv_gives(built, folder, algorithm):
    dataset = records.VideoDataset.open(built, algorithm)
    assert (dataset.channels, dataset.flow, dataset.num_channels) == ("flow", algorithm, 2)
    for position, video in enumerate(dataset.videos):
        field = expected(folder / "videos" / f"{video.name}.avi", algorithm, (24, 33))
        assert video.num_frames == len(field)
        out = np.empty((len(field), 24, 33, 2), np.uint8)
        dataset.decode(position, range(len(field)), out)
        np.testing.assert_array_equal(out, field)


def test_metadata_say_what_it_is(built):
    index = read_index(built / "tfds_ucf101/tvl1/1.1.0")
    assert index["config"]["flow"] == "tvl1"
    details = index["flow_details"]
    assert details["algorithm"] == "tvl1" and details["library"] == f"OpenCV {cv2.__version__}"
    assert details["parameters"]["lambda_"] == 0.15 and details["bound"] == 20
    assert json.loads((built / "tfds_ucf101/tvl1/1.1.0/metadata.json").read_text())["flow"] == details
    fingerprints = {read_index(built / f"tfds_ucf101/{name}/1.1.0")["fingerprint"] for name in DIRECT}
    assert len(fingerprints) == 3
    examples = read(built / "tfds_ucf101/tvl1/1.1.0")
    assert all(len(example["frames"]) == example["num_frames"] for example in examples)
    assert sorted(path.name for path in built.iterdir()) == ["tfds_ucf101"]  # nothing unfinished stays behind


def test_named_configs():
    assert {name: config.flow for name, config in Builder.builder_configs.items() if config.flow} == {
        "flow": "tvl1",
        "flow256": "tvl1",
        "flow_farneback": "farneback",
    }


def test_one_frame_has_no_flow(tmp_path):
    write_video(tmp_path / "one.avi", 0, 1)
    options = FrameOptions((24, 33), 90, 1, 25.0, "dis")
    with pytest.raises(VideoError, match="too short: 1 frame, optical flow needs 2"):
        frames.encode(media(tmp_path / "one.avi"), options)
    with pytest.raises(VideoError, match="one frame only"):
        video_clips.scan(tmp_path / "one.avi", (24, 33), flow="dis")


def test_images_of_a_folder(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 24, 33, 3), np.uint8)
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture[..., ::-1])
    stored = frames.encode(media(tmp_path), FrameOptions((24, 33), 90, 1, 12.0, "farneback"))
    assert (len(stored.frames), stored.fps, stored.height, stored.width) == (2, 12.0, 24, 33)
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    first = flow.quantise(DIRECT["farneback"](grey[0], grey[1]))
    np.testing.assert_array_equal(flow.from_png(stored.frames[0]), first)


@pytest.mark.parametrize("keep", [0, 2**20])
def test_a_video_file_gives_the_stored_flow(folder, keep):
    path = folder / "videos/Run/v_Run_g08_c01.avi"
    scanned = video_clips.scan(path, (24, 33), keep, flow="farneback")
    field = expected(path, "farneback", (24, 33))
    assert scanned.count == len(field) and (scanned.frames is None) == (keep == 0)
    indices = np.asarray([[6, 7, 8], [2, 2, 3]])
    for row, clip in video_clips.read_clips(scanned, indices):
        np.testing.assert_array_equal(clip, field[indices[row]])


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"name": "x", "flow": "brox"}, "config key flow is 'brox'; give one of tvl1, farneback, dis"),
        ({"name": "x", "flow": True}, "config key flow is True"),
    ],
)
def test_unknown_algorithm(keys, message, tmp_path):
    with pytest.raises(UserError, match=message):
        build(tmp_path, tmp_path, {**SMALL, **keys})


def test_fingerprint_is_of_the_pictures(built):
    index = read_index(built / "tfds_ucf101/dis/1.1.0")
    example = read(built / "tfds_ucf101/dis/1.1.0")[0]
    digest = hashlib.sha256()
    for picture in example["frames"]:
        digest.update(len(picture).to_bytes(8, "little") + picture)
    assert digest.hexdigest() == index["videos"][0]["sha256"]


def test_flow_pictures_are_stored_as_they_are(tmp_path):
    """mmaction2's rawframes: frames, and the flow of each to the next as grey pictures, x and y apart."""
    rng, made = np.random.default_rng(0), {}
    for name in ("Jump", "Run"):
        for group in (1, 8):
            video = tmp_path / f"in/rawframes/{name}/v_{name}_g{group:02d}_c01"
            video.mkdir(parents=True)
            made[f"{name}/{video.name}"] = fields = rng.integers(0, 256, (4, 24, 33, 2), np.uint8)
            for number in range(5):
                cv2.imwrite(str(video / f"img_{number + 1:05d}.jpg"), np.zeros((24, 33, 3), np.uint8))
            for number, field in enumerate(fields, 1):
                cv2.imwrite(str(video / f"flow_x_{number:05d}.png"), field[..., 0])
                cv2.imwrite(str(video / f"flow_y_{number:05d}.png"), field[..., 1])
    keys = {"name": "pictures", "size": [24, 33], "flow": "tvl1", "flow_files": True, "fps": 12}
    folder = build(tmp_path / "in", tmp_path / "out", keys)
    dataset = records.VideoDataset.open(tmp_path / "out", "tfds_ucf101/pictures")
    assert (dataset.flow, dataset.num_channels, dataset.canvas) == ("tvl1", 2, (24, 33))
    for position, video in enumerate(dataset.videos):
        out = np.empty((4, 24, 33, 2), np.uint8)
        dataset.decode(position, range(4), out)
        np.testing.assert_array_equal(out, made[video.name])
    details = json.loads((folder / "videos.json").read_text())["flow_details"]
    assert details == {"algorithm": "tvl1", "library": "pictures of the input", "bound": 20.0}
    rgb = build(tmp_path / "in", tmp_path / "out", SMALL)
    assert {video.num_frames for video in records.VideoDataset.open(tmp_path / "out", "tfds_ucf101/small").videos} == {
        5
    }
    notes = json.loads((rgb / "build_report.json").read_text())["notes"]
    assert any("optical flow lies beside the frames and is not used" in note for note in notes), notes


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda video: cv2.imwrite(str(video / "flow_y_2.png"), np.zeros((9, 9), np.uint8)),
            "flow_y_2.png of 9x9, the",
        ),
        (lambda video: (video / "flow_x_2.png").write_bytes(b"no picture"), "holds flow_x_2.png, which"),
    ],
)
def test_flow_pictures_that_do_not_fit(tmp_path, spoil, message):
    for number in (1, 2):
        for axis in "xy":
            cv2.imwrite(str(tmp_path / f"flow_{axis}_{number}.png"), np.zeros((24, 33), np.uint8))
    spoil(tmp_path)
    options = FrameOptions((24, 33), 90, 1, 25.0, "tvl1", flow_files=True)
    with pytest.raises(VideoError, match=message):
        frames.encode(one_video(Folder(tmp_path), flow_files=True), options)
    with pytest.raises(VideoError, match="holds no optical flow as pictures, and the config asks for flow_files"):
        write_video(tmp_path / "a.avi", 0, 3)
        frames.encode(media(tmp_path / "a.avi"), options)
