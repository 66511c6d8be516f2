"""Opening data sets, reading their frames, and what a user sees of damaged ones."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fake_data
import numpy as np
import pytest
import simplejpeg
from array_record.python import array_record_module
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT
from tensorflow_datasets.proto import tf_example_generated_pb2 as proto

from r23d_jax.data import shards
from r23d_jax.data.records import VideoDataset
from r23d_jax.errors import UserError


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data")
    fake_data.write(path, "rgb", vary=True)
    return path


@pytest.fixture
def damaged(data_dir, tmp_path) -> Path:
    """A copy of the data set's folder, for breaking."""
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    return tmp_path / "tfds_ucf101" / "rgb" / "1.0.0"


def read_frames(folder: Path) -> list[list[bytes]]:
    """Every record's frames, through the ArrayRecord library and protocol buffers."""
    found = []
    for path in sorted(folder.glob("*array_record*")):
        for data in array_record_module.ArrayRecordReader(str(path)).read_all():
            found.append(list(proto.Example.FromString(data).features.feature["frames"].bytes_list.value))
    return found


# Opening


@pytest.mark.parametrize("name", ["tfds_ucf101", "rgb", "tfds_ucf101/rgb", "rgb/1.0.0", "tfds_ucf101/rgb/1.0.0"])
def test_opens_by_any_clear_name(data_dir, name):
    dataset = VideoDataset.open(data_dir, name)
    assert dataset.full_name == "tfds_ucf101/rgb/1.0.0"
    assert dataset.class_names == ("Archery", "Basketball", "Bowling")
    assert len(dataset.videos) == 12
    assert (dataset.channels, dataset.flow, dataset.num_channels) == ("rgb", None, 3)
    assert dataset.canvas == (max(v.height for v in dataset.videos), max(v.width for v in dataset.videos))


def test_newest_version_and_several_configs(tmp_path):
    for version in ("1.0.0", "1.10.0", "1.9.0"):
        fake_data.write(tmp_path, "rgb", frames=2, version=version)
    assert VideoDataset.open(tmp_path).full_name == "tfds_ucf101/rgb/1.10.0"
    fake_data.write(tmp_path, "rgb128", frames=2)
    with pytest.raises(UserError, match="several are built .*rgb/1.10.0, rgb128/1.0.0; name one"):
        VideoDataset.open(tmp_path, "tfds_ucf101")
    assert VideoDataset.open(tmp_path, "rgb128").full_name == "tfds_ucf101/rgb128/1.0.0"


@pytest.mark.parametrize("name", ["rgb256", "rgb/2.0.0", "rgb/1.0.0/x", "other/rgb"])
def test_a_missing_data_set_says_what_is_there(data_dir, name):
    with pytest.raises(UserError, match=r"there is rgb/1\.0\.0\); build it: tfds build tfds_ucf101 --config"):
        VideoDataset.open(data_dir, name)


def test_an_empty_folder_says_how_to_build(tmp_path):
    with pytest.raises(UserError, match="there is nothing.*--config motion --data_dir") as error:
        VideoDataset.open(tmp_path / "no", "tfds_ucf101/motion")
    assert "\n" not in str(error.value)


def test_subset_follows_the_split_and_the_names(data_dir, tmp_path):
    dataset = VideoDataset.open(data_dir)
    train, test = dataset.subset("1", "train"), dataset.subset("1", "test")
    assert not set(train) & set(test)
    assert all(dataset.videos[p].splits["1"] == "test" for p in test)
    names = [dataset.videos[p].name for p in train]
    assert names == sorted(names)
    fake_data.write(tmp_path, vary=True, shards=5)  # the same videos in other files
    other = VideoDataset.open(tmp_path)
    assert [other.videos[p].name for p in other.subset("1", "train")] == names


def test_subset_of_a_split_that_is_not_there(data_dir, damaged):
    with pytest.raises(UserError, match="split=4: .* has these splits: 1, 2, 3"):
        VideoDataset.open(data_dir).subset("4", "train")
    edit(damaged, lambda index: [v["splits"].update({"2": "neither"}) for v in index["videos"]])
    with pytest.raises(UserError, match="split=2: no test video"):
        VideoDataset.open(damaged.parents[2]).subset("2", "test")


# Reading


@pytest.mark.parametrize("options", ["group_size:1,uncompressed", "group_size:1", "group_size:3,uncompressed"])
def test_frames_are_those_of_the_library(tmp_path, options):
    folder = fake_data.write(tmp_path, frames=60, height=96, width=120, noise=3, classes=2, options=options)
    dataset = VideoDataset.open(tmp_path)
    expected, rng = read_frames(folder), np.random.default_rng(0)
    assert sum(map(len, expected[0])) > 2 * 65536  # frames lie across the file's blocks
    for _ in range(5):
        for record in range(len(dataset.videos)):
            indices = rng.integers(0, 60, 12).tolist()
            found = dataset.shards.frames(record, indices)
            assert [bytes(data) for data in found] == [expected[record][i] for i in indices]
    direct = [bool(access) for access in dataset.shards._direct]
    assert direct == [options == "group_size:1,uncompressed"] * 2


def test_every_frame_of_an_uncompressed_shard_is_read_directly(tmp_path, monkeypatch):
    fake_data.write(tmp_path, frames=40, height=96, width=120, noise=3, classes=2)
    expected = read_frames(next(tmp_path.glob("*/*/*")))
    dataset = VideoDataset.open(tmp_path)
    for record in range(len(expected)):
        dataset.shards.frames(record, [0])
    monkeypatch.setattr(dataset.shards, "read", None)
    for record, frames in enumerate(expected):
        assert [bytes(data) for data in dataset.shards.frames(record, range(40))] == frames


def test_where_the_two_ways_differ_the_library_is_believed(tmp_path, monkeypatch):
    folder = fake_data.write(tmp_path, frames=5)
    dataset, expected = VideoDataset.open(tmp_path), read_frames(folder)
    true = shards._record_starts
    monkeypatch.setattr(shards, "_record_starts", lambda *a: [start + 1 for start in true(*a)])
    for _ in range(2):
        assert [bytes(x) for x in dataset.shards.frames(0, [1, 3])] == [expected[0][1], expected[0][3]]
    assert dataset.shards._direct[0] is False


def test_decode_small_frames_onto_the_canvas(data_dir):
    dataset = VideoDataset.open(data_dir)
    expected = read_frames(dataset.path)
    assert len({(v.height, v.width) for v in dataset.videos}) > 1
    for position, video in enumerate(dataset.videos):
        indices = [0, video.num_frames - 1, 0]
        out = np.full((3, *dataset.canvas, 3), 77, np.uint8)
        dataset.decode(position, indices, out)
        for row, index in zip(out, indices, strict=True):
            assert (row[: video.height, : video.width] == simplejpeg.decode_jpeg(expected[position][index])).all()
            assert not row[video.height :].any()
            assert not row[:, video.width :].any()


def test_flow_has_two_channels(tmp_path):
    fake_data.write(tmp_path, "flow", flow="tvl1", frames=4, vary=True)
    dataset = VideoDataset.open(tmp_path)
    assert (dataset.channels, dataset.flow, dataset.num_channels) == ("flow", "tvl1", 2)
    video = dataset.videos[0]
    out = np.empty((video.num_frames, *dataset.canvas, 2), np.uint8)
    dataset.decode(0, range(video.num_frames), out)
    number = int(np.random.default_rng(0).permutation(12)[0])
    expected = fake_data.pixels(number, video.num_frames, video.height, video.width, channels=2)
    assert (out[:, : video.height, : video.width] == expected).all()


def test_many_threads_read_the_same(data_dir):
    dataset = VideoDataset.open(data_dir)

    def read(position):
        out = np.empty((4, *dataset.canvas, 3), np.uint8)
        dataset.decode(position, [0] * 3 + [dataset.videos[position].num_frames - 1], out)
        return out

    alone = [read(position) for position in range(12)]
    fresh = VideoDataset.open(data_dir)
    dataset = fresh
    with ThreadPoolExecutor(8) as pool:
        for position, found in enumerate(pool.map(read, list(range(12)) * 10)):
            assert (found == alone[position % 12]).all()


def test_pickles_as_its_place(data_dir):
    dataset = VideoDataset.open(data_dir)
    data = pickle.dumps(dataset)
    assert len(data) < 1000
    assert pickle.loads(data).fingerprint == dataset.fingerprint


def test_tensorflow_is_never_imported(data_dir):
    code = (
        "import sys\n"
        "from r23d_jax.data import loader, records\nfrom r23d_jax.transforms import clip\n"
        f"d = records.VideoDataset.open({str(data_dir)!r})\n"
        "s = loader.train_batches(d, d.subset('1', 'train'), frames=2, batch_size=2, seed=0, num_steps=2)\n"
        "assert len(list(s)) == 2\n"
        "print([m for m in ('tensorflow', 'torch', 'cv2', 'av', 'tensorflow_datasets') if m in sys.modules])\n"
    )
    root = ROOT
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


# Damage


def edit(folder: Path, change) -> None:
    index = json.loads((folder / "videos.json").read_text())
    change(index)
    (folder / "videos.json").write_text(json.dumps(index))


def shard(folder: Path, number: int = 0) -> Path:
    return sorted(folder.glob("*array_record*"))[number]


def resize_in_index(folder: Path, path: Path) -> None:
    edit(folder, lambda index: index["shards"].update({path.name: {"bytes": path.stat().st_size}}))


def test_a_missing_shard_is_named(damaged):
    shard(damaged).unlink()
    with pytest.raises(UserError, match=r"00000-of-00002: this shard is missing"):
        VideoDataset.open(damaged.parents[2])


def test_a_truncated_shard_is_named(damaged):
    path = shard(damaged, 1)
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(UserError, match=r"00001-of-00002: \d+ bytes where videos.json says \d+"):
        VideoDataset.open(damaged.parents[2])
    resize_in_index(damaged, path)  # an index that agrees with it does not help
    with pytest.raises(UserError, match=r"00001-of-00002: not a readable ArrayRecord shard"):
        VideoDataset.open(damaged.parents[2])


def test_a_shard_of_something_else_is_named(damaged):
    path = shard(damaged)
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))
    with pytest.raises(UserError, match=r"00000-of-00002: not a readable ArrayRecord shard"):
        VideoDataset.open(damaged.parents[2])


def test_shards_of_another_format_are_told(damaged):
    name = "tfds_ucf101-videos.tfrecord-00000-of-00001"
    (damaged / name).write_bytes(b"x")
    edit(damaged, lambda index: index.update(shards={name: {"bytes": 1}}))
    with pytest.raises(UserError, match="tfrecord-00000-of-00001: not an ArrayRecord shard"):
        VideoDataset.open(damaged.parents[2])


def read_all(dataset: VideoDataset) -> None:
    for position, video in enumerate(dataset.videos):
        out = np.empty((video.num_frames, *dataset.canvas, 3), np.uint8)
        dataset.decode(position, range(video.num_frames), out)


@pytest.mark.parametrize("part", np.linspace(0, 0.999, 25))
def test_a_flipped_byte_is_noticed_or_changes_nothing(data_dir, damaged, part):
    path = shard(damaged)
    data = bytearray(path.read_bytes())
    data[int(part * len(data))] ^= 0x10
    path.write_bytes(data)
    expected = read_frames(VideoDataset.open(data_dir).path)
    try:
        dataset = VideoDataset.open(damaged.parents[2])
        found = [
            [bytes(x) for x in dataset.shards.frames(position, range(video.num_frames))]
            for position, video in enumerate(dataset.videos)
        ]
    except UserError as error:
        assert path.name in str(error)  # noqa: PT017 - either outcome is right
        assert "\n" not in str(error)
    else:
        assert found == expected


def test_a_damaged_image_is_named(damaged):
    """A record whose checksum is right and whose JPEG is not: the build went wrong."""
    path = shard(damaged)
    records = array_record_module.ArrayRecordReader(str(path)).read_all()
    example = proto.Example.FromString(records[0])
    frames = example.features.feature["frames"].bytes_list.value
    frames[0] = frames[0][: len(frames[0]) // 2]
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for data in [example.SerializeToString(), *records[1:]]:
        writer.write(data)
    writer.close()
    resize_in_index(damaged, path)
    dataset = VideoDataset.open(damaged.parents[2])
    with pytest.raises(UserError, match=rf"{path.name}: frame 0 of video {dataset.videos[0].name} is damaged"):
        read_all(dataset)


def test_frames_of_another_size_or_number_are_noticed(damaged):
    def change(index):
        index["videos"][0]["height"] += 1
        index["videos"][1]["num_frames"] += 1

    edit(damaged, change)
    dataset = VideoDataset.open(damaged.parents[2])
    out = np.empty((1, *dataset.canvas, 3), np.uint8)
    with pytest.raises(UserError, match="not of the stored size"):
        dataset.decode(0, [0], out)
    for _ in range(2):
        with pytest.raises(UserError, match=r"a record has \d+ frames, not"):
            dataset.decode(1, [dataset.videos[1].num_frames - 1], out)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda i: i.update(format=2), "format 2"),
        (lambda i: i.pop("class_names"), "no key 'class_names'"),
        (lambda i: i["videos"][3].pop("label"), "no key 'label'"),
        (lambda i: i["videos"][3].update(label=3), "label is 3 of 3 classes"),
        (lambda i: i["videos"][3].update(num_frames=0), "num_frames is 0"),
        (lambda i: i["videos"][3].update(height="12"), "height is '12'"),
        (lambda i: i["videos"][3].update(width=10**9), "width is 1000000000"),
        (lambda i: i["videos"][3].update(num_frames=10**12), "num_frames is 1000000000000"),
        (lambda i: i["videos"][3].update(name=i["videos"][4]["name"]), "two videos of one name"),
        (lambda i: i["videos"][3]["splits"].update({"1": "both"}), "splits are"),
        (lambda i: i["shards"].update({"../../etc/passwd": {"bytes": 1}}), "shard '../../etc/passwd'"),
        (lambda i: i.update(videos=[]), "no videos"),
        (lambda i: i["videos"].pop(), "12 records in the shards, 11 in videos.json"),
        (lambda i: i.update(videos=5), "not iterable"),
    ],
)
def test_a_wrong_index_is_told_in_one_line(damaged, change, message):
    edit(damaged, change)
    with pytest.raises(UserError) as error:
        VideoDataset.open(damaged.parents[2])
    assert message in str(error.value)
    assert "videos.json" in str(error.value)


def test_an_index_that_is_no_json(damaged):
    (damaged / "videos.json").write_text("{")
    with pytest.raises(UserError, match="videos.json: not readable as JSON"):
        VideoDataset.open(damaged.parents[2])


# The record's wire format


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20), st.dictionaries(st.text(), st.integers(0)))
def test_frame_spans_agree_with_protocol_buffers(frames, others):
    example = proto.Example()
    example.features.feature["frames"].bytes_list.value.extend(frames)
    for name, number in others.items():
        if name != "frames":
            example.features.feature[name].int64_list.value.append(number % 2**62)
    data = example.SerializeToString()
    assert [data[a:b] for a, b in shards.frame_spans(data)] == frames


@settings(max_examples=200)
@given(st.binary(max_size=200), st.data())
def test_frame_spans_of_anything_end_in_a_value_error(noise, draw):
    example = proto.Example()
    example.features.feature["frames"].bytes_list.value.extend([b"abc", b"defg"])
    data = bytearray(example.SerializeToString())
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    for candidate in (bytes(data), noise):
        try:
            spans = shards.frame_spans(candidate)
        except ValueError:
            continue
        assert (spans[:, 0] <= spans[:, 1]).all()
        assert spans.max() <= len(candidate)
