"""The build, end to end on tiny videos: once through `tfds build` with two processes, else in this process."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
import tensorflow_datasets as tfds
from building import GROUPS, SMALL, build, picture, read, read_index, write_folder, write_video
from paths import ROOT

from r23d_jax.errors import UserError
from tfds_ucf101 import config, download, pipeline
from tfds_ucf101.tfds_ucf101_dataset_builder import Builder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("input"))


@pytest.fixture(scope="module")
def built(folder, tmp_path_factory):
    return build(folder, tmp_path_factory.mktemp("built"), SMALL)


@pytest.fixture(scope="module")
def commands(folder, tmp_path_factory):
    """`tfds build`, once as it should be and once with a wrong key: (status, stderr, data_dir) of each."""
    running = []
    for keys in (SMALL, {"name": "small", "colour": 1}):
        out = tmp_path_factory.mktemp("commands") / "data"
        line = [
            str(Path(sys.executable).with_name("tfds")),
            "build",
            "tfds_ucf101",
            f"--config={json.dumps(keys)}",
        ]
        line += [f"--manual_dir={folder}", f"--data_dir={out}"]
        if "colour" not in keys:
            workers = "direct_num_workers=2,direct_running_mode=multi_processing"
            line += [f"--beam_pipeline_options={workers}"]
        process = subprocess.Popen(
            line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        running.append((process, out))
    return [(process.communicate(timeout=240)[1], process.returncode, out) for process, out in running]


def test_the_command_builds_with_two_processes(commands, built):
    stderr, status, out = commands[0]
    assert status == 0, stderr
    folder = out / "tfds_ucf101" / "small" / "1.1.0"
    assert read_index(folder)["fingerprint"] == read_index(built)["fingerprint"]
    shards = sorted(path.name for path in folder.glob("*array_record*"))
    assert shards == sorted(read_index(folder)["shards"])
    for name in shards:
        assert (folder / name).read_bytes() == (built / name).read_bytes()
    assert "8/8" in stderr  # the progress bar, fed by other processes
    assert "8 videos, 72 frames in 2 classes" in stderr
    report = json.loads((folder / "build_report.json").read_text())
    assert report["workers"] == 2 and report["frames"] == 72
    assert sorted(path.name for path in out.iterdir()) == ["tfds_ucf101"]


def test_the_command_tells_mistakes_in_one_line(commands):
    stderr, status, out = commands[1]
    assert status == 1
    assert stderr.splitlines()[-1].startswith("error: config key 'colour' is unknown; the keys are name, size")
    assert "Traceback" not in stderr
    assert not out.exists()


def test_index_follows_the_records(built):
    content, examples = read_index(built), read(built)
    assert content["format"] == 2 and content["builder"] == "tfds_ucf101"
    assert content["config"]["size"] == [24, 33] and set(content["config"]) == set(config.KEYS)
    assert content["class_names"] == ["Jump", "Run"] and content["splits"] == ["1", "2"]
    assert content["unreadable"] == []
    sizes = {name: facts["bytes"] for name, facts in content["shards"].items()}
    assert sizes == {p.name: p.stat().st_size for p in built.glob("*array_record*")}
    assert sum(facts["records"] for facts in content["shards"].values()) == 8 and content["leak_check"] is True
    assert "videos" not in json.loads((built / "videos.json").read_text())
    assert len(examples) == len(content["videos"]) == 8
    assert len({video["name"] for video in content["videos"]}) == 8
    for example, entry in zip(examples, content["videos"], strict=True):
        assert example["name"].decode() == entry["name"]
        for key in ("label", "group", "clip", "num_frames", "height", "width"):
            assert example[key] == entry[key], key
        assert entry["fps"] == example["fps"] == 25
        assert entry["num_frames"] == len(example["frames"]) == 4 + entry["group"]
        assert (entry["height"], entry["width"]) == (24, 33)
        assert (example["source_height"], example["source_width"]) == (48, 64)
        np.testing.assert_allclose(example["seconds"], np.arange(len(example["frames"])) / 25, atol=1e-6)
        assert entry["times"] is None
        middle = simplejpeg.decode_jpeg(example["frames"][len(example["frames"]) // 2])
        assert np.abs(example["picture"].astype(int) - middle).max() <= 2  # two decoders
        assert content["class_names"][entry["label"]] == entry["name"].split("/")[0]
        roles = ["neither", "train", "test"]
        assert entry["splits"] == {split: roles[example[f"split{split}"]] for split in content["splits"]}
        assert example["split3"] == 0
        expected = ("test", "train") if entry["group"] < 8 else ("train", "test")
        assert (entry["splits"]["1"], entry["splits"]["2"]) == expected
        total = hashlib.sha256()
        for frame in example["frames"]:
            total.update(len(frame).to_bytes(8, "little") + frame)
        assert total.hexdigest() == entry["sha256"]


def test_frames_show_the_video(built):
    for example in read(built):
        seed = 100 * int(example["label"]) + int(example["group"])
        for t, frame in enumerate(example["frames"]):
            pixels = simplejpeg.decode_jpeg(frame)
            assert pixels.shape == (24, 33, 3)
            wide = picture(seed, t)[:1, 4::8].astype(int)
            assert np.abs(pixels[12, [2, 6, 10, 14, 18, 23, 27, 31]] - wide[0]).mean() < 25


def test_tfds_knows_the_data_set(built):
    builder = tfds.builder_from_directory(built)
    assert builder.info.features["label"].names == ["Jump", "Run"]
    assert builder.info.file_format.value == "array_record"
    assert dict(builder.info.metadata)["losses"] == {"unreadable": 0}
    assert dict(builder.info.metadata)["fingerprint"] == read_index(built)["fingerprint"]
    assert "split1" in builder.info.description
    with pytest.raises(ValueError, match=r"Unknown split 'train'. Should be one of \['videos'\]"):
        builder.as_data_source("train")
    reopened = Builder(data_dir=built.parents[2], config=config.VideoConfig(**SMALL))
    assert len(reopened.as_data_source("videos")) == 8


def test_only_ucf101s_classes_are_cited_as_ucf101(built, tmp_path):
    assert not tfds.builder_from_directory(built).info.citation
    folder = build(write_folder(tmp_path / "in", classes=("Archery", "YoYo")), tmp_path / "out", SMALL)
    info = tfds.builder_from_directory(folder).info
    assert "soomro2012ucf101" in info.citation and "UCF101" in info.homepage


def test_shards_do_not_change_the_fingerprint(folder, built, tmp_path):
    again = build(folder, tmp_path / "one", SMALL, num_shards=1)
    assert len(list(again.glob("*array_record*"))) == 1
    assert read_index(again)["fingerprint"] == read_index(built)["fingerprint"]
    other = build(folder, tmp_path / "two", SMALL | {"quality": 81})
    assert read_index(other)["fingerprint"] != read_index(built)["fingerprint"]


def test_unreadable_videos_fail_the_build_and_leave_nothing(folder, tmp_path, monkeypatch):
    root = tmp_path / "input"
    write_folder(root, GROUPS[:3])
    monkeypatch.setattr(pipeline, "run", None)  # it is known before the first is decoded
    (root / "videos/Run/v_Run_g03_c01.avi").write_bytes(b"no video" * 99)
    (root / "videos/Jump/v_Jump_g03_c01.mp4").touch()
    with pytest.raises(UserError, match="unreadable videos: 2 .*v_Jump_g03_c01.mp4: is an empty file; .*v_Run_g03"):
        build(root, tmp_path / "out", SMALL | {"max_unreadable": 1})
    assert not (tmp_path / "out").exists()

    # One video a shard: the shards of the two are left out.
    monkeypatch.undo()
    done = build(root, tmp_path / "out", SMALL | {"max_unreadable": 2}, num_shards=1 << 40)
    content = read_index(done)
    assert [lost["path"] for lost in content["unreadable"]] == [
        "videos/Jump/v_Jump_g03_c01.mp4",
        "videos/Run/v_Run_g03_c01.avi",
    ]
    assert content["unreadable"][0]["reason"] == "is an empty file"
    assert sorted(p.name[-5:] for p in done.glob("*array_record*")) == ["00006"] * 6
    assert [example["name"].decode() for example in read(done)] == [v["name"] for v in content["videos"]]
    assert len(content["videos"]) == 6
    assert json.loads((done / "metadata.json").read_text())["losses"] == {"unreadable": 2}
    assert json.loads((done / "build_report.json").read_text())["unreadable"] == content["unreadable"]


def test_short_videos(folder, tmp_path):
    with pytest.raises(UserError, match="is too short: 5 frames, the config asks for 6"):
        build(folder, tmp_path / "a", SMALL | {"min_frames": 6})
    done = build(folder, tmp_path / "b", SMALL | {"min_frames": 6, "max_unreadable": 2})
    assert {video["group"] for video in read_index(done)["videos"]} == {2, 8, 9}


def test_nothing_readable(tmp_path):
    for group in (1, 8):
        path = tmp_path / f"in/videos/A/v_A_g{group:02d}_c01.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="not one video is readable"):
        build(tmp_path / "in", tmp_path / "out", SMALL | {"max_unreadable": 9})


def test_a_video_cut_off_is_refused_before_the_first_is_decoded(folder, tmp_path, monkeypatch):
    root = write_folder(tmp_path / "input", (1, 8), ("Run",))
    path = root / "videos/Run/v_Run_g08_c01.avi"
    with av.open(str(path)) as container:
        end = [packet for packet in container.demux(video=0) if packet.size][3].pos
    path.write_bytes(path.read_bytes()[:end])
    monkeypatch.setattr(pipeline, "run", None)  # nothing is decoded
    with pytest.raises(UserError, match=r"unreadable videos: 1 \(.*g08_c01.avi: is cut off: \d+ bytes of"):
        build(root, tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()


def test_frames_instead_of_videos(tmp_path):
    exact = {}
    for group in (1, 8):
        for t in range(12):
            suffix = "jpg" if group == 1 else "png"
            path = tmp_path / f"in/frames/Run/v_Run_g{group:02d}_c01/frame{t}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = picture(group, t, 24, 32)
            if suffix == "png":
                with av.open(str(path), "w", format="image2") as container:
                    stream = container.add_stream("png")
                    stream.height, stream.width, stream.pix_fmt = 24, 32, "rgb24"
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
                    container.mux(stream.encode())
            else:
                path.write_bytes(simplejpeg.encode_jpeg(pixels, 95))
                exact[group, t] = path.read_bytes()
    (tmp_path / "in/frames/Run/v_Run_g01_c01/notes.txt").write_text("not a frame")
    done = build(tmp_path / "in", tmp_path / "out", {"name": "x", "size": [24, 32], "fps": 12.5})
    for example in read(done):
        assert example["num_frames"] == 12 and example["fps"] == 12.5
        group = int(example["group"])
        for t, frame in enumerate(example["frames"]):
            wide = picture(group, t, 24, 32)[12, 2::4].astype(int)
            assert np.abs(simplejpeg.decode_jpeg(frame)[12, 2::4] - wide).mean() < 25
            if (group, t) in exact:  # already as it would be stored: no second loss
                assert frame == exact[group, t]
    small = build(tmp_path / "in", tmp_path / "out", {"name": "y", "short_side": 12})
    assert {(video["height"], video["width"]) for video in read_index(small)["videos"]} == {(12, 16)}


def test_motion_goes_the_same_way(tmp_path):
    groups = {"groups": 8, "clips": 1, "frames": 4, "size": 32}
    done = build(None, tmp_path, {"name": "tiny_motion", "motion": groups})
    content = read_index(done)
    assert content["config"]["motion"] == groups and content["splits"] == ["1", "2"]
    assert len(content["class_names"]) == 8 and len(content["videos"]) == 64
    sets = {}
    for example in read(done):
        assert example["frames"] and (example["height"], example["width"]) == (32, 32)
        key = frozenset(example["frames"])
        sets.setdefault(key, []).append(example)
    # Twins: the same frames byte for byte, in the opposite order, in the same group.
    assert len(sets) == 32
    for one, other in sets.values():
        assert one["frames"] == other["frames"][::-1]
        assert one["label"] != other["label"] and one["group"] == other["group"]


def test_built_with_other_options(folder, built, monkeypatch):
    out = built.parents[2]
    before = sorted(out.rglob("*"))
    monkeypatch.setattr(pipeline, "run", None)
    build(folder, out, SMALL)  # as it is there: nothing happens
    with pytest.raises(UserError, match="was built with quality = 80, not 70: give another name .* --overwrite"):
        build(folder, out, SMALL | {"quality": 70})
    assert sorted(out.rglob("*")) == before


def test_built_by_other_lists(tmp_path):
    root = write_folder(tmp_path / "input", (1, 8))
    rows = [f"videos/{name}/v_{name}_g{group:02d}_c01.avi,{name}," for name in ("Jump", "Run") for group in (1, 8)]

    def write_table(*sides):
        lines = [row + side for row, side in zip(rows, sides, strict=True)]
        (root / "videos.csv").write_text("\n".join(["path,label,split", *lines]))

    write_table("train", "test", "train", "test")
    built = build(root, tmp_path / "out", SMALL)
    sides = {video["name"]: video["splits"] for video in read_index(built)["videos"]}
    assert sides["Run/v_Run_g01_c01"] == {"1": "train"} and sides["Run/v_Run_g08_c01"] == {"1": "test"}
    assert build(root, tmp_path / "out", SMALL) == built
    write_table("train", "test", "train", "")
    with pytest.raises(UserError, match="was built by other lists than .*, see Run/v_Run_g08_c01.*--overwrite"):
        build(root, tmp_path / "out", SMALL)


@pytest.mark.parametrize("where", ["", "data", "more/data"])
@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_built_into_the_input_folder(tmp_path, where, file_format, monkeypatch):
    """What is built is no video of the next build, and no list."""
    root = tmp_path / "input"
    for number in range(8):
        write_video(root / ("Jump", "Run")[number % 2] / f"{number}.avi", number)
    with monkeypatch.context() as patch:
        # Of the first build nothing but shards is there.
        patch.setattr(Builder, "_finish", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build(root, root / where, SMALL, file_format)
    assert list((root / where).glob("tfds_ucf101_unfinished/*/*.records"))
    built = build(root, root / where, SMALL, file_format)
    assert build(root, root / where, SMALL, file_format) == built
    other = build(root, root / where, SMALL | {"name": "other", "folds": 2}, file_format)
    for path, splits in ((built, ["1"]), (other, ["1", "2"])):
        index = read_index(path)
        assert (len(index["videos"]), index["splits"]) == (8, splits)
        assert "by chance" in index["layout"] or "from chance" in index["layout"]


def test_built_before_the_videos_changed(tmp_path, capsys):
    root = write_folder(tmp_path / "input", (1, 8))
    built = build(root, tmp_path / "out", SMALL)
    then = (built / "videos.json").stat().st_mtime
    for path in root.rglob("*.avi"):
        os.utime(path, (then - 60, then - 60))
    capsys.readouterr()
    assert build(root, tmp_path / "out", SMALL) == built
    assert "newer" not in capsys.readouterr().err
    changed = root / "videos" / "Run" / "v_Run_g08_c01.avi"
    write_video(changed, 7)
    os.utime(changed, (then + 60, then + 60))
    assert build(root, tmp_path / "out", SMALL) == built
    told = capsys.readouterr().err
    assert "1 videos are newer than" in told and "first videos/Run/v_Run_g08_c01.avi; if they" in told
    assert "--overwrite to build it again" in told


def test_a_part_for_a_first_look(folder, tmp_path):
    done = build(folder, tmp_path, SMALL, max_examples_per_split=3)
    assert len(read(done)) == len(read_index(done)["videos"]) == 3
    with pytest.raises(UserError, match="leaves nothing to build"):
        build(folder, tmp_path / "a", SMALL, max_examples_per_split=0)
    with pytest.raises(UserError, match="give --num_shards"):
        build(folder, tmp_path / "b", SMALL, max_shard_size=1 << 20)


def test_config_names(tmp_path):
    with pytest.raises(UserError, match="no config 'nosuch'; there are rgb, rgb128, rgb256, "):
        Builder(data_dir=tmp_path, config="nosuch")
    with pytest.raises(UserError, match="'rgb128', which is a named config"):
        Builder(data_dir=tmp_path, config=config.VideoConfig(name="rgb128", quality=50))
    # `tfds build` without --config builds each of these.
    assert [each.name for each in Builder.BUILDER_CONFIGS] == ["rgb"]
    assert Builder(data_dir=tmp_path).builder_config.frame_options().resize == (128, 171)
    sizes = {"rgb128": (128, 128), "rgb256": 256, "motion": None}
    for name, resize in sizes.items():
        assert Builder(data_dir=tmp_path, config=name).builder_config.frame_options().resize == resize
        given = config.NAMED[name].to_dict()
        assert config.VideoConfig(**json.loads(json.dumps(given))).to_dict() == given


def test_missing_input(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="is no folder: give --manual_dir=DIR"):
        build(tmp_path / "missing", tmp_path / "out", SMALL)
    dead = download.File("videos.zip", 7, "0" * 64, ("http://127.0.0.1:9/videos.zip",))
    monkeypatch.setattr(download, "FILES", (dead,))
    with pytest.raises(UserError, match="videos.zip could not be downloaded .*127.0.0.1:9.*as --manual_dir"):
        build(None, tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()


def test_a_split_that_damage_leaves_without_a_side_is_refused(tmp_path):
    root = write_folder(tmp_path / "input", (1, 8), ("Run",))
    path = root / "videos/Run/v_Run_g01_c01.avi"
    path.write_bytes(b"no video at all")
    with pytest.raises(UserError, match="split 1 has no test video that can be read"):
        build(root, tmp_path / "out", {**SMALL, "max_unreadable": 1})
    assert not list((tmp_path / "out").glob("tfds_ucf101/*"))
