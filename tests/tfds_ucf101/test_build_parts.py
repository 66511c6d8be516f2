"""The parts of the build by themselves: config keys, records, shards, fingerprint, errors, damaged frames."""

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import apache_beam as beam
import building
import numpy as np
import pytest
import simplejpeg
from paths import ROOT
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from r23d_jax.data.videos import ROLES
from r23d_jax.errors import UserError
from tfds_ucf101 import (
    checking,
    command,
    config,
    frames,
    index,
    lists,
    media,
    pipeline,
    progress,
    records,
    sources,
    unfinished,
    writing,
)
from tfds_ucf101.layouts.archives import Zip, ZipFolder
from tfds_ucf101.stored import FrameOptions, StoredVideo


def test_records_are_what_tfds_would_write():
    source = sources.Source("A/v_A_g01_c02", media.VideoFile(""), "", 1, 1, 2, (2, 1, 0))
    picture = simplejpeg.encode_jpeg(np.zeros((3, 4, 3), np.uint8))
    video = StoredVideo([b"one", picture, b""], 29.97, 3, 4, 5, 6)
    spec = records.features("123", ["B", "A"])
    example = {
        "name": source.name,
        "frames": video.frames,
        "seconds": np.asarray([0, 1 / 29.97, 2 / 29.97], np.float32),
        "picture": io.BytesIO(picture),
        "label": 1,
        "group": 1,
        "clip": 2,
        "fps": video.fps,
        "num_frames": 3,
        "height": 3,
        "width": 4,
        "source_height": 5,
        "source_width": 6,
        "split1": "test",
        "split2": "train",
        "split3": "neither",
    }
    theirs = ExampleSerializer(spec.get_serialized_info()).serialize_example(spec.encode_example(example))
    theirs, ours = (spec.deserialize_example_np(x) for x in (theirs, records.serialize(source, video)))
    assert theirs.keys() == ours.keys()
    for key, value in theirs.items():
        np.testing.assert_array_equal(value, ours[key], key)
        assert getattr(value, "dtype", None) == getattr(ours[key], "dtype", None)


def test_times_of_frames():
    video = StoredVideo([b"a", b"b", b"c"], 10.0, 1, 1, 1, 1)
    assert records.seconds(video).tolist() == [0, 0.1, 0.2]
    source = sources.Source("A/a", media.VideoFile(""), "", 0, -1, -1, (1,), "a")
    assert "times" not in records.index_entry(source, video, ["1"])
    video = StoredVideo([b"a", b"b", b"c"], 10.0, 1, 1, 1, 1, np.asarray([0, 1.5, 1.75]))
    assert records.seconds(video).tolist() == [0, 1.5, 1.75]
    entry = records.index_entry(source, video, ["1"])
    assert entry["times"] == [0, 1.5, 1.75] and entry["origin"] == "a" and entry["splits"] == {"1": "train"}
    assert lists.ROLES == ROLES


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("3.jpg", b"\xff\xd8\xff\xe0 cut off", "holds 3.jpg, which"),
        ("3.jpg", None, "holds 3.jpg, a damaged JPEG"),
    ],
)
def test_damaged_frames(tmp_path, file, content, message):
    good = simplejpeg.encode_jpeg(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    for t in range(3):
        (tmp_path / f"{t}.jpg").write_bytes(good)
    (tmp_path / file).write_bytes(good[: len(good) // 2] if content is None else content)
    with pytest.raises(UserError, match=message):
        frames.encode(building.media(tmp_path), FrameOptions((8, 8), 90, 1, 25.0))


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"name": "x", "colour": 1}, "key 'colour' is unknown; the keys are name, size, short_side"),
        ({}, "key name is ''"),
        ({"name": "../x"}, "key name is '../x'"),
        ({"name": "x", "size": [1, 2], "short_side": 3}, "exclude each other"),
        ({"name": "x", "size": 128}, r"key size is 128; give \[height, width\]"),
        ({"name": "x", "size": [128]}, "key size"),
        ({"name": "x", "size": [0, 5]}, "key size is 0"),
        ({"name": "x", "size": [1.5, 5]}, "key size is 1.5; give a whole number"),
        ({"name": "x", "short_side": "160"}, "key short_side is '160'"),
        ({"name": "x", "quality": 101}, "key quality is 101; give a whole number from 1 to 100"),
        ({"name": "x", "quality": True}, "key quality"),
        ({"name": "x", "fps": 0}, "key fps"),
        ({"name": "x", "min_frames": 0}, "key min_frames"),
        ({"name": "x", "max_unreadable": -1}, "key max_unreadable"),
        ({"name": "x", "classes": "Run"}, "key classes is 'Run'; give a list of names"),
        ({"name": "x", "subset": 1}, "key subset is 1; give true or false"),
        ({"name": "x", "lists": "maybe"}, "key lists is 'maybe'; give one of auto, required, ignore"),
        ({"name": "x", "motion": {"speed": 1}}, "key motion has the key 'speed'"),
        ({"name": "x", "motion": {"seed": "a"}}, "key motion.seed is 'a'"),
        ({"name": "x", "motion": 3}, "key motion is 3"),
    ],
)
def test_config_keys(keys, message):
    with pytest.raises(UserError, match=message) as caught:
        config.VideoConfig(**keys)
    assert "\n" not in str(caught.value)


def test_one_process_a_core_by_default():
    options = pipeline.default_options()
    cores = len(os.sched_getaffinity(0))
    assert pipeline.local_workers(options, None) == cores
    assert options.get_all_options()["direct_running_mode"] == "multi_processing"
    flink = beam.options.pipeline_options.PipelineOptions(["--runner=FlinkRunner", "--flink_master=a:8081"])
    assert pipeline.local_workers(flink, None) is None


def make_sources(count):
    return [sources.Source(f"A/{i}", media.VideoFile(f"/{i}"), f"{i}", 0, 1, i, (1,)) for i in range(count)]


def test_the_number_of_shards():
    counts = [pipeline.shard_count(n, None) for n in (1, 7, 1600, 3000, 13320, 13400, 240000)]
    assert counts == [16, 16, 16, 32, 128, 128, 2048]
    assert [pipeline.shard_count(n, None, flow=True) for n in (7, 1600, 13320)] == [16, 128, 1024]
    assert pipeline.shard_count(10, 3) == 3


def test_a_video_changes_its_own_shard_only():
    ordered = pipeline.in_record_order(make_sources(500))
    whole = pipeline.parts(ordered, 16)
    assert [source for part in whole for source in part] == ordered and len(whole) == 16
    without = pipeline.parts([source for source in ordered if source.name != "A/77"], 16)
    assert sum(one != other for one, other in zip(whole, without, strict=True)) == 1
    assert [source for part in pipeline.parts(ordered, 7) for source in part] == ordered
    assert [len(part) for part in pipeline.parts(ordered[:2], 1 << 40)] == [1, 1]  # no empty ones


def test_videos_reach_the_workers_as_they_were_packed(tmp_path):
    videos, path = make_sources(5), tmp_path / "videos"
    shards = pipeline.pack(path, [(3, "k", videos[:2], {"A/1": "no"}), (4, "l", videos[2:], {})])
    assert [(shard.index, shard.key) for shard in shards] == [(3, "k"), (4, "l")]
    assert pipeline.unpack(path, shards[0]) == (tuple(videos[:2]), {"A/1": "no"})
    assert pipeline.unpack(path, shards[1]) == (tuple(videos[2:]), {})
    path.write_bytes(bytes(path.stat().st_size))  # by somebody else
    with pytest.raises(UserError, match="changed since it was written"):
        pipeline.unpack(path, shards[0])


def test_what_decides_a_shard_decides_its_key(tmp_path):
    options = FrameOptions((8, 8), 90, 1, 25.0)
    build = unfinished.build_key("1.1.0", options, "array_record", "123", tmp_path)
    other = dataclasses.replace(options, quality=91)
    assert build == unfinished.build_key("1.1.0", options, "array_record", "123", tmp_path / "x/..")
    assert build != unfinished.build_key("1.1.0", other, "array_record", "123", tmp_path)
    assert build != unfinished.build_key("1.1.1", options, "array_record", "123", tmp_path)
    assert build != unfinished.build_key("1.1.0", options, "tfrecord", "123", tmp_path)
    assert build != unfinished.build_key("1.1.0", options, "array_record", "1234", tmp_path)
    assert build != unfinished.build_key("1.1.0", options, "array_record", "123", tmp_path / "b")
    one, two = make_sources(2)
    key = unfinished.shard_key(build, ["1"], [one, two], [[3, 4], None])
    others = [
        unfinished.shard_key("x", ["1"], [one, two], [[3, 4], None]),
        unfinished.shard_key(build, ["2"], [one, two], [[3, 4], None]),
        unfinished.shard_key(build, ["1"], [one, two], [[3, 5], None]),
        unfinished.shard_key(build, ["1"], [one], [[3, 4]]),
        *(
            unfinished.shard_key(build, ["1"], [dataclasses.replace(one, **change), two], [[3, 4], None])
            for change in (
                {"name": "A/x"},
                {"label": 1},
                {"group": 2},
                {"clip": 9},
                {"roles": (2,)},
                {"origin": "o"},
                {"shown": "s"},
                {"media": media.FrameFiles("/0", "", ".jpg", 1, ((1, 2),))},
            )
        ),
    ]
    assert len({key, *others}) == len(others) + 1


def test_unfinished_work(tmp_path):
    work = unfinished.Unfinished(tmp_path / "a" / "b")
    facts = {"videos": [{"name": "x"}], "unreadable": [], "findings": []}

    def fail(path):
        Path(path).write_bytes(b"half")
        raise OSError("no")

    with work.at_work({}):
        with pytest.raises(OSError, match="no"):
            work.write("k", fail, dict(facts))
        assert work.facts("k") is None and work.finished() == 0 and not list(work.path.glob("k*"))
        work.write("k", lambda path: Path(path).write_bytes(b"whole"), dict(facts))
        assert work.facts("k") == facts | {"bytes": 5} and work.finished() == 1
        (work.path / "results").touch()
        work.write("none", lambda path: Path(path).touch(), {"videos": [], "unreadable": [1], "findings": []})
        assert work.facts("none")["unreadable"] == [1] and not work.shard("none").exists()
        with pytest.raises(UserError, match="another process is building the same"), work.at_work({}):
            pass
        assert [work.note_unreadable({"path": path, "reason": "r"}) for path in ("q", "p", "q")] == [1, 2, 2]
        assert [lost["path"] for lost in work.unreadable()] == ["p", "q"]
        work.stop()
        assert work.stopped()
        (work.path / "x.part").touch()  # of a worker that was killed
    with work.at_work({}):
        assert not work.stopped() and not work.unreadable() and not list(work.path.glob("*.part"))
        assert work.facts("k")["bytes"] == 5
        work.place("k", tmp_path / "placed")
        assert (tmp_path / "placed").read_bytes() == b"whole" and work.facts("k")
    work.shard("k").write_bytes(b"cut")
    assert work.facts("k") is None
    work.remove()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["placed"]


def test_time_left():
    assert progress.time_left(10, 5, 10, 100, 400) == "00:30 left"  # by frames
    assert progress.time_left(10, 5, 10, 100, 0) == "00:10 left"  # by videos
    assert progress.time_left(10, 5, 10, 400, 400) == "00:10 left"  # headers that told of too few
    assert progress.time_left(10, 10, 10, 400, 500) == progress.time_left(1, 0, 9, 0, 9) == ""


def test_looking_before_decoding(tmp_path):
    building.write_video(tmp_path / "good.avi", 0, 7)
    (tmp_path / "empty.avi").touch()
    (tmp_path / "bad.avi").write_bytes(b"no video" * 99)
    (tmp_path / "link.avi").symlink_to(tmp_path / "gone")
    names = ("good", "empty", "bad", "link", "missing")
    found = [media.VideoFile(str(tmp_path / f"{name}.avi")) for name in names]
    (tmp_path / "frames").mkdir()
    for number in (1, 2, 4):
        (tmp_path / f"frames/{number}.jpg").write_bytes(simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8)))
    found += [media.FrameFiles(str(tmp_path / "frames"), "", ".jpg", 1, runs) for runs in (((1, 2), (4, 4)), ((0, 0),))]
    videos = [sources.Source(f"A/{i}", one, "", 0, 1, 1, (1,)) for i, one in enumerate(found)]
    looked = checking.look(videos, shown=False)
    assert [one.frames for one in looked] == [7, 0, 0, 0, 0, 3, 0]
    reasons = [one.reason for one in looked]
    assert reasons[0] == reasons[5] == "" and reasons[1] == "is an empty file" and "no readable video" in reasons[2]
    assert reasons[3] == f"is a broken link to {tmp_path / 'gone'}" and "No such file" in reasons[4]
    assert reasons[6] == "cannot be opened (0.jpg: No such file or directory)"
    identities = checking.identities(videos)
    assert [identity is None for identity in identities] == [False, False, False, True, True, False, True]
    assert checking.expected_frames(looked) == 10
    assert checking.expected_frames([checking.Looked(6), checking.Looked(), checking.Looked(0, "bad")]) == 12
    small = checking.bytes_per_frame(videos, FrameOptions((8, 8), 90, 1, 25.0))
    assert 0 < small < checking.bytes_per_frame(videos, FrameOptions(None, 90, 1, 25.0))
    assert checking.bytes_per_frame(videos, FrameOptions((8, 8), 90, 1, 25.0, "dis")) == pytest.approx(1.1 * 64)


def test_looking_into_archives(tmp_path):
    """Some of the videos tell of all, so that the disk that the build takes is known before it starts."""
    building.write_video(tmp_path / "good.avi", 0, 7)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for number in range(30):
            archive.write(tmp_path / "good.avi", f"A/{number:02d}.avi")
        archive.writestr("A/bad.avi", b"no video" * 99)
        for number in range(3):
            archive.writestr(f"B/{number}.jpg", simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8)))
    folder = ZipFolder(Zip(tmp_path / "all.zip"), "all.zip").folders["A"]
    videos = [sources.Source(name, folder.video(name), "", 0, 1, 1, (1,)) for name in folder.videos]
    looked = checking.look(videos, shown=False)
    assert sorted({one.frames for one in looked}) == [0, 7] and not any(one.reason for one in looked)
    assert checking.expected_frames(looked) == 31 * 7
    assert checking.bytes_per_frame(videos, FrameOptions((8, 8), 90, 1, 25.0)) > 0
    x, y = (media.FrameFiles(str(tmp_path), f"flow_{one}_", ".jpg", 1, ((1, 4),)) for one in "xy")
    assert len(media.FlowFiles(str(tmp_path), x, y)) == 4


def test_a_build_that_surely_does_not_fit_is_refused(tmp_path, monkeypatch, capsys):
    building.write_video(tmp_path / "good.avi", 0, 7)
    videos = [sources.Source("A/1", media.VideoFile(str(tmp_path / "good.avi")), "", 0, 1, 1, (1,))]
    chosen = config.VideoConfig(**building.SMALL)
    usage = shutil._ntuple_diskusage(1, 1, 2 * 10**9)  # less than the estimate, which may be too high
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda path: usage)
    writing._say_disk(videos, 3_000_000, chosen, tmp_path / "data/work/key")
    assert f"GiB for 3.0 million frames; 1.86 GiB free in {tmp_path / 'data'}" in capsys.readouterr().err
    usage = usage._replace(free=10**8)
    with pytest.raises(
        UserError, match=r"data: about .* GiB are needed and 95.4 MiB are free; free some, give another"
    ):
        writing._say_disk(videos, 3_000_000, chosen, tmp_path / "data/work/key")


def test_fingerprint_ignores_order_and_place():
    one = {"name": "a", "label": 0, "splits": {"1": "train"}, "num_frames": 3, "sha256": "00", "fps": 1}
    two = one | {"name": "b", "label": 1}
    first = index.fingerprint(["x", "y"], [one, two])
    assert first == index.fingerprint(["x", "y"], [two, one | {"fps": 2}])
    # What version 1.0.0 of the builder wrote of the same videos.
    assert index.fingerprint(["x", "y"], [one]) == "8670692674f7cbae416db7f65f43c75ec1f34a07d664454630afed0fb364edc6"
    changes = (("label", 1), ("splits", {"1": "test"}), ("num_frames", 4), ("sha256", "01"), ("times", [0, 1, 3]))
    for key, value in changes:
        assert first != index.fingerprint(["x", "y"], [one | {key: value}, two])
    assert first != index.fingerprint(["x", "z"], [one, two])


def test_errors_under_the_tfds_command(monkeypatch, capsys):
    original = sys.excepthook
    monkeypatch.setattr(sys, "excepthook", original)
    handlers = {}
    monkeypatch.setattr(command.signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    command.tell_mistakes_in_one_line()
    assert sys.excepthook is original
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/tfds", "build"])
    monkeypatch.setenv("R23D_DEBUG", "1")
    command.tell_mistakes_in_one_line()
    assert sys.excepthook is original
    monkeypatch.delenv("R23D_DEBUG")
    command.tell_mistakes_in_one_line()
    with pytest.raises(SystemExit, match="terminated"):
        handlers[command.signal.SIGTERM](15, None)
    sys.excepthook(UserError, UserError("a\nb"), None)
    assert capsys.readouterr().err == "error: a b\n"
    try:
        json.loads('{"name": x}')
    except json.JSONDecodeError as error:
        sys.excepthook(type(error), error, None)
    assert capsys.readouterr().err.startswith("error: --config is not valid JSON: Expecting value")


def test_importing_the_package_is_light():
    code = "import sys, tfds_ucf101; assert not {'tensorflow_datasets', 'apache_beam', 'av'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    code = "import sys, r23d_jax.data.video; assert not {'jax', 'tensorflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
