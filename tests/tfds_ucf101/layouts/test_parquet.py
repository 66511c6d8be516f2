"""Frames in Parquet files, as Hugging Face's datasets writes them."""

import io
import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from r23d_jax.data.video import VideoError
from r23d_jax.errors import UserError
from tfds_ucf101 import frames, lists
from tfds_ucf101.layouts import parquet
from tfds_ucf101.stored import FrameOptions

NAMES = ["Archery", "HandstandPushups", "Biking"]
SIZE = (24, 32)
OPTIONS = FrameOptions(SIZE, 90, 1, 25.0)


def jpeg(seed, number):
    data = io.BytesIO()
    pixels = np.random.default_rng([seed, number]).integers(0, 256, (3, 4, 3), np.uint8)
    Image.fromarray(pixels).resize(SIZE[::-1]).save(data, "JPEG")
    return data.getvalue()


def row(name="Archery", group=1, clip=1, frame=0, **other):
    stem = f"v_{name}_g{group:02d}".replace("Handstand", "HandStand")  # as UCF101's files do
    picture = {"bytes": jpeg(100 * group + clip, frame), "path": f"{stem}_c{clip:02d}_{frame}.jpg"}
    return {
        "image": picture,
        "video_id": stem,
        "clip_id": f"{stem}_c{clip:02d}",
        "frame": frame,
        "label": NAMES.index(name),
        **other,
    }


def rows(*clips, count=6, **other):
    """Rows of clips given as (class, group, clip)."""
    return [row(*clip, frame=frame, **other) for clip in clips for frame in range(count)]


def write(path, content, names=NAMES, group=4, types=None):
    """A file as `datasets` writes it; `types` replaces columns' types."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {
        "image": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        "video_id": pa.string(),
        "clip_id": pa.string(),
        "frame": pa.int64(),
        "label": pa.int64(),
        **(types or {}),
    }
    features = {"label": {"names": names, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if names else None
    schema = pa.schema([(name, kind) for name, kind in kinds.items() if kind is not None], metadata=metadata)
    pq.write_table(pa.Table.from_pylist(content, schema=schema), path, row_group_size=group)
    return path


def pictures(media):
    return [data for _, data in pickle.loads(pickle.dumps(media)).pictures()]


@pytest.fixture
def folder(tmp_path):
    """Four videos on two sides; one goes on from file to file."""
    train = rows(("Archery", 8, 1), ("HandstandPushups", 9, 2), ("Biking", 25, 7), count=7)
    write(tmp_path / "data/train-00000-of-00002.parquet", train[:9])
    write(tmp_path / "data/train-00001-of-00002.parquet", train[9:])
    write(tmp_path / "data/test-00000-of-00001.parquet", rows(("Biking", 1, 1), count=5))
    return tmp_path


@pytest.mark.parametrize("below", ["", "data"])
def test_videos_sides_and_pictures(folder, below):
    found = parquet.read(folder / below)
    assert found.class_names == tuple(NAMES), "in label order"
    assert found.sides == {
        "1": {
            "Archery/v_Archery_g08_c01": lists.TRAIN,
            "HandstandPushups/v_HandStandPushups_g09_c02": lists.TRAIN,
            "Biking/v_Biking_g25_c07": lists.TRAIN,
            "Biking/v_Biking_g01_c01": lists.TEST,
        }
    }
    assert found.notes == () and set(found.media) == set(found.sides["1"]) == set(found.shown)
    assert found.shown["Biking/v_Biking_g01_c01"].endswith("test-00000-of-00001.parquet row 0")
    for key, media in found.media.items():
        group, clip = lists.group_and_clip(key)
        assert pictures(media) == [jpeg(100 * group + clip, n) for n in range(5 if group == 1 else 7)]
        assert media.still and media.missing_numbers() == 0
    media = found.media["HandstandPushups/v_HandStandPushups_g09_c02"]
    assert [(path[-22:], first, count) for path, first, count in media.runs] == [
        ("00000-of-00002.parquet", 7, 2),
        ("00001-of-00002.parquet", 0, 5),
    ]
    assert [name for name, _ in media.pictures()][1:3] == ["row 8", "row 0 of train-00001-of-00002.parquet"]
    assert frames.encode(media, OPTIONS).frames == pictures(media), "kept byte for byte"


def test_frames_in_any_order_and_numbers_left_out(tmp_path):
    content = [row(frame=n) for n in (1, 2, 3, 7, 8, 12)] + rows(("Biking", 2, 1))
    order = np.random.default_rng(0).permutation(len(content))
    write(tmp_path / "train.parquet", [content[i] for i in order])
    media = parquet.read(tmp_path).media["Archery/v_Archery_g01_c01"]
    assert pictures(media) == [jpeg(101, n) for n in (1, 2, 3, 7, 8, 12)]
    assert media.missing_numbers() == 6
    assert frames.encode(media, OPTIONS).findings["missing_numbers"] == 6


@pytest.mark.parametrize(
    "video, clip, stem",
    [
        ("v_Archery_g03", "v_Archery_g03_c02", "v_Archery_g03_c02"),
        ("g03", "c02", "v_Archery_g03_c02"),
        ("v_Archery_g03", "c02", "v_Archery_g03_c02"),
        ("3", "2", "v_Archery_g03_c02"),
        ("Archery/v_Archery_g03_c02.avi", "0", "v_Archery_g03_c02"),
        ("abc", "start", "abc_start"),
        ("abc", "abc-2", "abc-2"),
    ],
)
def test_names_by_the_ids(tmp_path, video, clip, stem):
    write(tmp_path / "train.parquet", rows((), video_id=video, clip_id=clip))
    assert list(parquet.read(tmp_path).media) == [f"Archery/{stem}"]


@pytest.mark.parametrize(
    "path, side",
    [
        ("data/validation-00000-of-00001.parquet", lists.VAL),
        ("default/test/0000.parquet", lists.TEST),
        ("val/part.parquet", lists.VAL),
        ("train_0.parquet", lists.TRAIN),
        ("snapshots/0a1b/data/train-00000-of-00001-1a2b3c.parquet", lists.TRAIN),
        ("pretrained.parquet", None),
    ],
)
def test_sides_by_the_files_names(tmp_path, path, side):
    write(tmp_path / path, rows(()))
    assert parquet.read(tmp_path).sides == ({} if side is None else {"1": {"Archery/v_Archery_g01_c01": side}})


def test_labels_as_text_plain_bytes_and_no_clips(tmp_path):
    content = [
        {"image": jpeg(1, n), "video_id": f"run {v}", "frame": n, "label": name}
        for v, name in enumerate(("up", "down"))
        for n in range(3)
    ]
    types = {"image": pa.large_binary(), "label": pa.dictionary(pa.int8(), pa.string()), "clip_id": None}
    write(tmp_path / "train.parquet", content, names=None, types={**types, "frame": pa.int32()})
    found = parquet.read(tmp_path)
    assert list(found.media) == ["up/run 0", "down/run 1"] and found.class_names is None
    assert pictures(found.media["up/run 0"]) == [jpeg(1, n) for n in range(3)]


def test_pictures_are_not_read_to_find_the_videos(folder):
    """What overwrites the pictures is noticed by the worker only."""
    path = folder / "data/test-00000-of-00001.parquet"
    about = pq.ParquetFile(path).metadata
    data = bytearray(path.read_bytes())
    for group in range(about.num_row_groups):
        chunk = about.row_group(group).column(0)
        assert chunk.path_in_schema == "image.bytes"
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(data)
    found = parquet.read(folder)
    assert len(found.media) == 4
    with pytest.raises(VideoError, match="test-00000-of-00001.parquet: is damaged, or not a Parquet file"):
        list(found.media["Biking/v_Biking_g01_c01"].pictures())
    assert pictures(found.media["Archery/v_Archery_g08_c01"])


def test_only_the_row_groups_of_the_video_are_read(folder, monkeypatch):
    media = parquet.read(folder).media["Biking/v_Biking_g25_c07"]
    seen, whole = [], pq.ParquetFile.iter_batches

    def spy(self, size, groups, columns, **options):
        seen.append((groups, columns))
        return whole(self, size, groups, columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    assert len(list(media.pictures())) == 7
    assert seen == [([1], ["image.bytes"]), ([2], ["image.bytes"])], "rows 5 to 11 in groups of 4"


def test_identity_changes_with_the_files_of_the_video(folder):
    found = parquet.read(folder)
    before = {key: media.identity() for key, media in found.media.items()}
    assert json.loads(json.dumps(before)) == before
    path = folder / "data/train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes() + b" ")
    changed = {key for key, media in found.media.items() if media.identity() != before[key]}
    assert changed == {"Biking/v_Biking_g25_c07", "HandstandPushups/v_HandStandPushups_g09_c02"}


@pytest.mark.parametrize("missing, left", [("00001", ["Archery"]), ("00000", ["Biking"])])
def test_videos_that_a_missing_file_cuts_are_left_out(folder, missing, left):
    (folder / f"data/train-{missing}-of-00002.parquet").unlink()
    found = parquet.read(folder)
    train = [key.split("/")[0] for key, side in found.sides["1"].items() if side == lists.TRAIN]
    assert train == left
    assert found.notes == (
        f"1 Parquet files are missing, first train-{missing}-of-00002.parquet; 1 videos that may go on in them are "
        "left out",
    )


def test_a_file_that_is_cut_off(folder):
    path = folder / "data/train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="train-00001-of-00002.parquet is damaged, or not a Parquet file .*again"):
        parquet.read(folder)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="train-00001-of-00002.parquet is damaged, or not a Parquet file .*again"):
        parquet.read(folder)


def test_a_row_without_a_picture(tmp_path):
    content = rows(())
    content[2]["image"] = {"bytes": None, "path": "a.jpg"}
    write(tmp_path / "train.parquet", content)
    with pytest.raises(VideoError, match="train.parquet: has no picture in row 2"):
        list(parquet.read(tmp_path).media["Archery/v_Archery_g01_c01"].pictures())


def test_a_damaged_picture_is_named_by_its_row(tmp_path):
    content = rows(())
    content[3]["image"]["bytes"] = b"no picture"
    write(tmp_path / "train.parquet", content)
    with pytest.raises(VideoError, match="train.parquet: holds row 3, which"):
        frames.encode(parquet.read(tmp_path).media["Archery/v_Archery_g01_c01"], OPTIONS)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"label": 3}, "the label 3 of v_Archery_g01 is none of the 3"),
        ({"label": None}, "row 6 has no label"),
        ({"frame": None}, "row 6 has no frame"),
        ({"frame": 2, "label": 0, "clip_id": "v_Archery_g01_c01", "video_id": "v_Archery_g01"}, "which another row is"),
        ({"video_id": "other"}, "would both be the video Archery/v_Archery_g01_c01"),
    ],
)
def test_faulty_rows(tmp_path, change, message):
    write(tmp_path / "train.parquet", [*rows(()), row(frame=6) | change])
    with pytest.raises(UserError, match=message):
        parquet.read(tmp_path)


def test_a_video_on_two_sides(tmp_path):
    for name in ("train", "test"):
        write(tmp_path / f"{name}.parquet", [row(frame=7 * (name == "test"))])
    with pytest.raises(UserError, match="train.parquet: Archery/v_Archery_g01_c01 is on another side in test.parquet"):
        parquet.read(tmp_path)


@pytest.mark.parametrize(
    "names, types, message",
    [
        (None, {}, "labels are numbers without names"),
        ("Archery", {}, "no list of texts"),
        (["a/b", "c", "d"], {}, "cannot be the name of a class folder"),
        (NAMES, {"image": pa.string()}, "its column image is string"),
        (NAMES, {"label": pa.float64()}, "its column label is double"),
    ],
)
def test_faulty_columns(tmp_path, names, types, message):
    content = rows(())
    if "image" in types:
        content = [one | {"image": "a.jpg"} for one in content]
    write(tmp_path / "train.parquet", content, names=names, types=types)
    with pytest.raises(UserError, match=f"train.parquet.*{message}"):
        parquet.read(tmp_path)


def test_two_data_sets_in_one_folder(folder):
    write(folder / "data/other.parquet", rows(()), names=[*NAMES, "Bowling"])
    with pytest.raises(UserError, match="has other columns or classes than"):
        parquet.read(folder)


def test_other_folders_are_left_to_others(tmp_path):
    assert parquet.read(tmp_path) is None
    pq.write_table(pa.table({"a": [1]}), tmp_path / "table.parquet")
    assert parquet.read(tmp_path) is None


def test_no_rows(tmp_path):
    write(tmp_path / "train.parquet", [])
    with pytest.raises(UserError, match="have no rows"):
        parquet.read(tmp_path)
