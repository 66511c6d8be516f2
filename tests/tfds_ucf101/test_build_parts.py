"""The parts of the build by themselves: config keys, records, shards, fingerprint, errors, damaged frames."""

import json
import os
import subprocess
import sys

import apache_beam as beam
import numpy as np
import pytest
import simplejpeg
from paths import ROOT
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from r23d_jax.errors import UserError
from tfds_ucf101 import command, config, frames, index, pipeline, records, sources
from tfds_ucf101.stored import FrameOptions, StoredVideo


def test_records_are_what_tfds_would_write():
    source = sources.Source("A/v_A_g01_c02", "", "", 1, 1, 2, (2, 1, 0))
    video = StoredVideo([b"one", b"\x00two", b""], 29.97, 3, 4, 5, 6)
    spec = records.features(["B", "A"])
    example = {
        "name": source.name,
        "frames": video.frames,
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


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("3.jpg", b"\xff\xd8\xff\xe0 cut off", "holds 3.jpg, which"),
        ("3.jpg", None, "holds 3.jpg, a damaged JPEG"),
        ("2.png", b"", "holds both"),
        ("3.png", b"", "holds 3.png, which is an empty file"),
    ],
)
def test_damaged_frames(tmp_path, file, content, message):
    good = simplejpeg.encode_jpeg(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    for t in range(3):
        (tmp_path / f"{t}.jpg").write_bytes(good)
    (tmp_path / file).write_bytes(good[: len(good) // 2] if content is None else content)
    with pytest.raises(UserError, match=message):
        frames.encode(str(tmp_path), FrameOptions((8, 8), 90, 1, 25.0))


def test_no_frames(tmp_path):
    with pytest.raises(UserError, match="holds no images"):
        frames.encode(str(tmp_path), FrameOptions(None, 90, 1, 25.0))


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


def test_shards():
    assert [pipeline.shard_count(n, None) for n in (1, 7, 27, 1600, 1601, 13320)] == [1, 7, 16, 16, 17, 134]
    assert pipeline.shard_count(10, 3) == 3
    assert [len(part) for part in pipeline.parts([None] * 27, 4)] == [6, 7, 7, 7]


def test_fingerprint_ignores_order_and_place():
    one = {"name": "a", "label": 0, "splits": {"1": "train"}, "num_frames": 3, "sha256": "00", "fps": 1}
    two = one | {"name": "b", "label": 1}
    first = index.fingerprint(["x", "y"], [one, two])
    assert first == index.fingerprint(["x", "y"], [two, one | {"fps": 2}])
    for key, value in (("label", 1), ("splits", {"1": "test"}), ("num_frames", 4), ("sha256", "01")):
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
