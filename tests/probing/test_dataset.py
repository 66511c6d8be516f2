"""Video files as a data set: decoded when asked for, with what evaluation and training expect of one."""

import dataclasses
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fake_videos import write_video

from r23d_jax.data.video import VideoError
from r23d_jax.errors import UserError
from r23d_jax.inference import clips
from r23d_jax.probing import dataset as files
from r23d_jax.probing.data import open_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(("train/a/1", "train/b/2", "test/a/3", "test/b/4")):
        write_video(folder / f"{name}.mkv", count=6, size=(48, 64 if number % 2 else 40), seed=number)
    return open_data(folder)


def of(data, resize=24, flow=None):
    scanned = [data.scan(index, resize, flow) for index in range(len(data.videos))]
    records = [files.record_of(data, index, one) for index, one in enumerate(scanned)]
    return files.VideoFiles(data, records, resize, flow), scanned


def decode(dataset, position, indices):
    out = np.full((len(indices), *dataset.canvas, dataset.num_channels), 77, np.uint8)
    dataset.decode(position, indices, out)
    return out


def test_it_says_what_a_data_set_says(data):
    dataset, scanned = of(data)
    assert (dataset.full_name, dataset.fingerprint) == (data.full_name, data.fingerprint)
    assert (dataset.class_names, dataset.splits, dataset.leak_check) == (("a", "b"), ("1",), True)
    assert (dataset.channels, dataset.flow, dataset.num_channels, dataset.stored_as) == ("rgb", None, 3, None)
    assert dataset.canvas == (28, 32) and dataset.stored_size == "24..28x24..32"
    assert [video.name for video in dataset.videos] == [video.name for video in data.videos]
    assert dataset.subset("1", "train").tolist() == [0, 2] and dataset.subset("1", "test").tolist() == [1, 3]
    with pytest.raises(UserError, match="no val video"):
        dataset.subset("1", "val")
    record = dataset.videos[1]
    assert (record.splits, record.num_frames, record.fps, record.times) == ({"1": "test"}, 6, 10.0, None)


def test_frames_are_those_of_the_scan_with_zeros_around(data):
    dataset, scanned = of(data)
    for position, one in enumerate(scanned):
        height, width = one.size
        found = decode(dataset, position, [5, 0, 0, 3])
        assert np.array_equal(found[:, :height, :width], np.stack(one.frames)[[5, 0, 0, 3]])
        assert not found[:, height:].any() and not found[:, :, width:].any()


def test_flow_is_computed_for_the_pictures_asked_for(data):
    dataset, scanned = of(data, flow="farneback")
    assert (dataset.channels, dataset.flow, dataset.num_channels) == ("flow", "farneback", 2)
    assert dataset.videos[0].num_frames == 5
    ((_, expected),) = clips.read_clips(scanned[1], np.asarray([[4, 1, 2]]))
    height, width = scanned[1].size
    assert np.array_equal(decode(dataset, 1, [4, 1, 2])[:, :height, :width], expected)


def test_threads_that_want_one_video_decode_it_once(data, monkeypatch):
    dataset, scanned = of(data)
    decoded = []
    scan = type(data.reader).scan
    monkeypatch.setattr(type(data.reader), "scan", lambda reader, *a: decoded.append(a[0]) or scan(reader, *a))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: decode(dataset, n % 2, [n % 6])[0], range(40)))
    assert sorted(decoded) == [0, 1]
    for number, frame in enumerate(found):
        height, width = scanned[number % 2].size
        assert np.array_equal(frame[:height, :width], scanned[number % 2].frames[number % 6])


def test_no_more_is_kept_than_the_limit(data, monkeypatch):
    size = sum(frame.nbytes for frame in data.scan(3, 24).frames)
    monkeypatch.setattr(files, "_KEPT_BYTES", 2 * size)
    dataset, _ = of(data)
    for position in (0, 1, 2, 3, 2):
        decode(dataset, position, [0])
    assert list(dataset._decoded._kept) == [3, 2]
    monkeypatch.setattr(files, "_KEPT_BYTES", 1)
    dataset, _ = of(data)
    decode(dataset, 0, [0]), decode(dataset, 1, [0])
    assert list(dataset._decoded._kept) == [1]


def test_it_is_pickled(data):
    dataset, _ = of(data)
    again = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(decode(again, 3, [1, 2]), decode(dataset, 3, [1, 2])) and again.videos == dataset.videos


def test_a_file_that_has_changed_is_refused(data):
    dataset, _ = of(data)
    records = [dataclasses.replace(dataset.videos[0], num_frames=7), *dataset.videos[1:]]
    with pytest.raises(VideoError, match="1.mkv: has changed since it was first read"):
        decode(files.VideoFiles(data, records, 24), 0, [0])
