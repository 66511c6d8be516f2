"""UCF101 as TFDS prepares it: written here by TFDS's own builder, of made-up videos."""

import io
import json
import pickle
import shutil

import numpy as np
import pytest
from PIL import Image
from tensorflow_datasets.video import ucf101

from r23d_jax.data.video import VideoError
from r23d_jax.errors import UserError
from tfds_ucf101 import frames, lists, records
from tfds_ucf101.layouts import prepared
from tfds_ucf101.layouts import ucf101 as layout
from tfds_ucf101.stored import FrameOptions

FORMATS = ("tfrecord", "array_record")
COUNTS = {"train": 5, "test": 3}
LABELS = {"train": (3, 0, 36, 0, 100), "test": (0, 3, 36)}
SIZE = (24, 32)


def jpegs(split, number):
    """A few smooth pictures, which JPEG keeps well."""
    generator = np.random.default_rng([number, len(split)])
    found = []
    for _ in range(3 + number):
        data = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (3, 4, 3), np.uint8)).resize(SIZE[::-1]).save(data, "JPEG")
        found.append(data.getvalue())
    return found


def prepare(data_dir, file_format, config="ucf101_2"):
    """Runs TFDS's builder on encoded pictures instead of its download."""

    def examples(split):
        for number in range(COUNTS[split]):
            yield number, {"video": [io.BytesIO(j) for j in jpegs(split, number)], "label": LABELS[split][number]}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ucf101.Ucf101, "_split_generators", lambda self, manager: {s: examples(s) for s in COUNTS})
        builder = ucf101.Ucf101(data_dir=data_dir, config=config, file_format=file_format)
        builder.download_and_prepare()
    return builder


@pytest.fixture(scope="module", params=FORMATS)
def written(request, tmp_path_factory):
    return prepare(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def copied(written, tmp_path):
    """The folder of the version, to be damaged."""
    folder = tmp_path / "2.0.0"
    shutil.copytree(written.data_path, folder)
    return folder


def train_shard(folder):
    return next(folder.glob("ucf101-train*"))


@pytest.mark.parametrize("above", range(4))
def test_found_from_the_version_s_folder_to_tfds_s_data_folder(written, above):
    root = [written.data_path, *written.data_path.parents][above]
    found = prepared.read(prepared.Path(root))
    assert found.layout == "ucf101 ucf101_2 2.0.0 as TFDS prepared it"
    assert found.class_names == layout.CLASSES
    assert set(found.sides) == {"2"}, "the number in the config's name is the split's"
    by_side = {role: sorted(k for k, v in found.sides["2"].items() if v == role) for role in (lists.TRAIN, lists.TEST)}
    assert {role: len(keys) for role, keys in by_side.items()} == {lists.TRAIN: 5, lists.TEST: 3}
    assert set(found.media) == set(found.sides["2"]) == set(found.shown)
    assert all(lists.group_and_clip(key) == (-1, -1) for key in found.media)
    assert "cannot be checked" in found.notes[0]
    some = found.shown[by_side[lists.TRAIN][0]]
    assert (root / some.split(" record ")[0]).is_file()


def test_pictures_and_labels_are_those_that_tfds_wrote(written):
    found = prepared.read(prepared.Path(written.data_path))
    wanted = {}
    for split in COUNTS:
        for number, label in enumerate(LABELS[split]):
            wanted[tuple(jpegs(split, number))] = (split, layout.CLASSES[label])
    for key, media in found.media.items():
        media = pickle.loads(pickle.dumps(media))  # as a worker gets it
        assert media.still and media.missing_numbers() == 0
        split, name = wanted.pop(tuple(data for _, data in media.pictures()))
        assert key.startswith(f"{name}/{split}_00000_")
    assert not wanted


def test_pictures_of_the_stored_size_are_kept_byte_for_byte(written):
    media = next(iter(prepared.read(prepared.Path(written.data_path)).media.values()))
    stored = frames.encode(media, FrameOptions(SIZE, 90, 1, 25.0))
    assert stored.frames == [data for _, data in media.pictures()] and stored.frames[0].startswith(b"\xff\xd8")


def test_keys_and_identity_stay_and_a_change_is_seen(copied):
    first, again = prepared.read(copied), prepared.read(copied)
    before = {key: media.identity() for key, media in first.media.items()}
    assert before == {key: media.identity() for key, media in again.media.items()}
    with open(train_shard(copied), "ab") as file:
        file.write(b"\0")
    changed = {key for key, media in first.media.items() if media.identity() != before[key]}
    assert changed == {key for key in before if "/train_" in key}


@pytest.mark.parametrize("written", ["tfrecord"], indirect=True)
def test_a_damaged_picture_is_found_when_it_is_read(copied):
    path = train_shard(copied)
    data = bytearray(path.read_bytes())
    media = list(prepared.read(copied).media.values())[0]
    at = media.start + media.length - 40  # in the last picture
    data[at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"train.tfrecord-\S+: record 0 is damaged \(its checksum is another\); prep"):
        list(media.pictures())
    others = list(prepared.read(copied).media.values())[1:]  # its label is still to be read
    assert all(list(other.pictures()) for other in others)


@pytest.mark.parametrize("written", ["array_record"], indirect=True)
def test_a_damaged_array_record_is_one_line(copied):
    path = train_shard(copied)
    media = list(prepared.read(copied).media.values())[0]
    data = bytearray(path.read_bytes())
    data[200:400] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(VideoError, match="array_record-00000-of-00001: (record 0 is damaged|not a readable)"):
        list(media.pictures())
    with pytest.raises(UserError, match="array_record"):
        prepared.read(copied)


@pytest.mark.parametrize("written", ["tfrecord"], indirect=True)
@pytest.mark.parametrize("at, value", [(0, 0x7F), (7, 0x7F), (9, 1)])
def test_a_damaged_length_is_found_at_once(copied, at, value):
    path = train_shard(copied)
    data = bytearray(path.read_bytes())
    data[at] ^= value
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"record 0 cannot be read \(its length is damaged\)"):
        prepared.read(copied)


@pytest.mark.parametrize("written", ["tfrecord"], indirect=True)
@pytest.mark.parametrize("kept", [0, 5, 11, 500, -1, -5])
def test_a_shard_that_is_cut_off_is_found_at_once(copied, kept):
    path = train_shard(copied)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        UserError, match=r"train.tfrecord-\S+(: record \d cannot be read \(the file ends| has 0 records)"
    ):
        prepared.read(copied)


def test_fewer_records_than_said(copied):
    info = json.loads((copied / "dataset_info.json").read_text())
    info["splits"][0]["shardLengths"] = ["6"]
    (copied / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match="has 5 records, dataset_info.json says 6"):
        prepared.read(copied)


def test_a_missing_shard_is_named(copied):
    train_shard(copied).unlink()
    with pytest.raises(UserError, match="ucf101-train.*00000-of-00001 is missing"):
        prepared.read(copied)


@pytest.mark.parametrize("splits", [{}, [1], [{"name": "train", "shardLengths": ["x"]}], None])
def test_splits_that_are_not_tfds_s(copied, splits):
    info = json.loads((copied / "dataset_info.json").read_text())
    (copied / "dataset_info.json").write_text(json.dumps({**info, "splits": splits}))
    with pytest.raises(UserError, match="dataset_info.json (does not say its splits|names no records)"):
        prepared.read(copied)


def test_two_configs_in_one_folder(written, tmp_path):
    for name in ("ucf101_1", "ucf101_2"):
        shutil.copytree(written.data_path, tmp_path / name / "2.0.0")
    with pytest.raises(UserError, match="holds ucf101_1/2.0.0 and ucf101_2/2.0.0: give one of them"):
        prepared.read(tmp_path)


def test_label_names_are_needed_but_for_ucf101(copied):
    (copied / "label.labels.txt").unlink()
    assert prepared.read(copied).class_names == layout.CLASSES
    info = json.loads((copied / "dataset_info.json").read_text())
    (copied / "dataset_info.json").write_text(json.dumps({**info, "name": "own"}))
    for path in copied.glob("ucf101-*"):
        path.rename(copied / path.name.replace("ucf101", "own"))
    with pytest.raises(UserError, match="label.labels.txt is missing"):
        prepared.read(copied)


def test_other_folders_are_left_to_others(tmp_path):
    assert prepared.read(tmp_path) is None
    (tmp_path / "dataset_info.json").write_text("{}")
    assert prepared.read(tmp_path) is None
    records.features(["1"]).save_config(tmp_path)
    assert prepared.read(tmp_path) is None, "a data set of our own has no Video feature"


@pytest.mark.parametrize("features", [{"featuresDict": []}, {"featuresDict": {"features": {"video": 1}}}])
def test_files_of_others_by_tfds_s_names_are_left_to_others(tmp_path, features):
    (tmp_path / prepared.INFO_FILE).write_text("{}")
    (tmp_path / prepared.FEATURES_FILE).write_text(json.dumps(features))
    assert prepared.read(tmp_path) is None


def test_shards_lie_in_the_data_set_s_folder(copied):
    path = copied / prepared.INFO_FILE
    info = json.loads(path.read_text())
    for split in info["splits"]:
        split["filepathTemplate"] = "../{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    path.write_text(json.dumps(info))
    with pytest.raises(UserError, match="does not say its splits as TFDS does"):
        prepared.read(copied)
