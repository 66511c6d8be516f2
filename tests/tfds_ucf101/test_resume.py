"""A build that ended early, however it did: what was finished stays, is used by the next, and nothing else is left."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from building import SMALL, build, read_index, write_folder, write_video
from paths import ROOT

from r23d_jax.data.video import VideoError
from r23d_jax.errors import UserError
from tfds_ucf101 import frames, pipeline, unfinished

GROUPS = (1, 2, 3, 8, 9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("input"), GROUPS)


@pytest.fixture(scope="module")
def built(folder, tmp_path_factory):
    """What a build that nothing stopped gives, with a video a shard."""
    return build(folder, tmp_path_factory.mktemp("built"), SMALL, num_shards=1 << 40)


@pytest.fixture
def encoded(monkeypatch):
    """The names of the videos that are decoded from here on."""
    seen, original = [], frames.encode

    def encode(media, options):
        seen.append(Path(media.path).stem)
        return original(media, options)

    monkeypatch.setattr(frames, "encode", encode)
    return seen


def kept(out: Path) -> list[Path]:
    return sorted(out.glob(f"{unfinished.FOLDER}/*/*.records"))


def assert_same(one: Path, other: Path) -> None:
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    for name in names:
        if "array_record" in name or name in ("videos.json", "videos.npz"):
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


def refuse_from(number: int, error: Exception, monkeypatch) -> None:
    """Lets the decoding of the video with this number, and of all after it, fail."""
    count, original = [0], frames.encode

    def encode(media, options):
        count[0] += 1
        if count[0] > number:
            raise error
        return original(media, options)

    monkeypatch.setattr(frames, "encode", encode)


def test_after_an_error(folder, built, encoded, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        refuse_from(4, RuntimeError("a bug"), patch)
        with pytest.raises(RuntimeError, match="a bug"):
            build(folder, tmp_path, SMALL, num_shards=1 << 40)
    there = kept(tmp_path)
    assert len(there) == 4 and not list(tmp_path.glob(f"{unfinished.FOLDER}/*/*.part"))
    assert f"finished shards: 4 stay in {there[0].parent} for the next build" in capsys.readouterr().err
    about = json.loads((there[0].parent / "about.json").read_text())
    assert about["input"] == str(folder) and about["config"]["size"] == [24, 33]
    assert not (tmp_path / "tfds_ucf101").exists()
    encoded.clear()
    result = build(folder, tmp_path, SMALL, num_shards=1 << 40)
    assert len(encoded) == 6
    assert "goes on: 4 of 10 shards are there already" in capsys.readouterr().err
    assert_same(result, built)
    report = json.loads((result / "build_report.json").read_text())
    assert report["shards_reused"] == 4 and report["frames_encoded"] < report["frames"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tfds_ucf101"]


def test_a_full_disk(folder, built, tmp_path, monkeypatch, capsys):
    original, count = pipeline.ArrayRecordWriter, [0]

    class Full:
        """Fails as the library does: on closing, with another kind of error."""

        def __init__(self, path, options):
            self._writer = original(path, options)
            self.write = self._writer.write

        def close(self):
            self._writer.close()
            count[0] += 1
            if count[0] > 3:
                raise RuntimeError(f"write() failed: {os.strerror(28)}; writing x; at byte 307200")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "ArrayRecordWriter", Full)
        with pytest.raises(UserError, match="cannot be written to: No space left on device"):
            build(folder, tmp_path, SMALL, num_shards=1 << 40)
    assert count[0] == 4  # the others did not start
    assert len(kept(tmp_path)) == 3
    assert_same(build(folder, tmp_path, SMALL, num_shards=1 << 40), built)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tfds_ucf101"]


def test_too_many_unreadable_videos_end_it_early(folder, built, encoded, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        refuse_from(3, VideoError("x", "cannot be decoded after frame 7"), patch)
        with pytest.raises(
            UserError, match=r"unreadable videos: 3 \(.*cannot be decoded after frame 7.*accept so many"
        ):
            build(folder, tmp_path, SMALL | {"max_unreadable": 2}, num_shards=1 << 40)
    assert len(encoded) == 3 and len(kept(tmp_path)) == 3
    # Under another name, as the message says, with more allowed: the same shards, and what is known of the rest.
    encoded.clear()
    accepting = SMALL | {"name": "small_accepting", "max_unreadable": 3}
    result = build(folder, tmp_path, accepting, num_shards=1 << 40)
    assert len(encoded) == 4 and len(read_index(result)["videos"]) == 7
    assert [lost["reason"] for lost in read_index(result)["unreadable"]] == ["cannot be decoded after frame 7"] * 3


def test_videos_that_could_not_be_read_are_tried_again(folder, built, encoded, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        refuse_from(3, VideoError("x", "cannot be decoded (Input/output error)"), patch)
        with pytest.raises(UserError, match=r"unreadable videos: 1 \("):
            build(folder, tmp_path, SMALL, num_shards=1 << 40)
    encoded.clear()
    assert_same(build(folder, tmp_path, SMALL, num_shards=1 << 40), built)
    assert len(encoded) == 7


def test_a_file_that_may_not_be_read_is_an_unreadable_video(folder, tmp_path, monkeypatch):
    refuse_from(9, PermissionError(13, "Permission denied"), monkeypatch)
    with pytest.raises(UserError, match=r"unreadable videos: 1 .*: cannot be read \(Permission denied\)"):
        build(folder, tmp_path, SMALL)


def test_a_mended_video_changes_its_own_shard_only(encoded, tmp_path, monkeypatch):
    root, out, original = write_folder(tmp_path / "in", GROUPS), tmp_path / "out", frames.encode

    def encode(media, options):
        if "v_Run_g03" in media.path:
            raise VideoError(media.path, "cannot be decoded after frame 3")
        return original(media, options)

    with monkeypatch.context() as patch:
        patch.setattr(frames, "encode", encode)
        patch.setattr(unfinished.Unfinished, "stop", lambda work: None)  # the others go on
        with pytest.raises(
            UserError, match="unreadable videos: 1 .*v_Run_g03_c01.avi: cannot be decoded after frame 3"
        ):
            build(root, out, SMALL, num_shards=4)
    assert len(encoded) == 9
    write_video(root / "videos/Run/v_Run_g03_c01.avi", 7)
    encoded.clear()
    result = build(root, out, SMALL, num_shards=4)
    of_shard = next(part for part in shards_of(result) if "Run/v_Run_g03_c01" in part)
    assert sorted(encoded) == sorted(name.split("/")[1] for name in of_shard) and len(encoded) < 9
    assert_same(result, build(root, tmp_path / "anew", SMALL, num_shards=4))


def shards_of(folder: Path) -> list[list[str]]:
    index, found, at = read_index(folder), [], 0
    for name in sorted(index["shards"]):
        count = index["shards"][name]["records"]
        found.append([video["name"] for video in index["videos"][at : at + count]])
        at += count
    return found


def test_other_options_share_nothing(folder, tmp_path, monkeypatch, encoded):
    with monkeypatch.context() as patch:
        refuse_from(4, RuntimeError("a bug"), patch)
        with pytest.raises(RuntimeError):
            build(folder, tmp_path, SMALL, num_shards=1 << 40)
    encoded.clear()
    build(folder, tmp_path, SMALL | {"name": "other", "quality": 70}, num_shards=1 << 40)
    assert len(encoded) == 10 and len(kept(tmp_path)) == 4  # those of the first are still there for it


def test_two_builds_of_the_same_at_once(folder, built, tmp_path, monkeypatch):
    original = pipeline.run

    def run(*arguments):
        monkeypatch.setattr(pipeline, "run", original)
        with pytest.raises(UserError, match="another process is building the same; wait for it"):
            build(folder, tmp_path, SMALL, num_shards=1 << 40)
        return original(*arguments)

    monkeypatch.setattr(pipeline, "run", run)
    assert_same(build(folder, tmp_path, SMALL, num_shards=1 << 40), built)


def test_two_builds_under_one_name_at_once(folder, built, tmp_path, monkeypatch):
    """Of two inputs: the first to end has the name, and what the other has done stays for another name."""
    original, other = pipeline.run, write_folder(tmp_path / "other", (1, 8))

    def run(*arguments):
        monkeypatch.setattr(pipeline, "run", original)
        build(other, tmp_path / "out", SMALL)
        return original(*arguments)

    monkeypatch.setattr(pipeline, "run", run)
    with pytest.raises(UserError, match="another process has built a data set of the same name meanwhile"):
        build(folder, tmp_path / "out", SMALL, num_shards=1 << 40)
    assert len(kept(tmp_path / "out")) == 10
    assert not list((tmp_path / "out").glob("*/*/incomplete*"))


def test_a_worker_whose_build_is_over_does_not_stop_the_next(folder, built, tmp_path, monkeypatch):
    """On a cluster workers may live on when their build is killed, and the next build clears what they have begun."""
    original = pipeline._write_records

    def write(path, file_format, keyed):
        original(path, file_format, keyed)
        Path(path).unlink()

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_write_records", write)
        with pytest.raises(UserError, match="the build was stopped; start it again"):
            build(folder, tmp_path, SMALL, num_shards=1 << 40)
        stopped = []
        patch.setattr(unfinished.Unfinished, "stop", lambda work: stopped.append(work))
        with pytest.raises(UserError, match="the build was stopped; start it again"):
            build(folder, tmp_path, SMALL, num_shards=1 << 40)
        assert not stopped
    assert_same(build(folder, tmp_path, SMALL, num_shards=1 << 40), built)


def test_a_shard_that_goes_missing_is_told(folder, tmp_path, monkeypatch):
    original = pipeline.run

    def run(shards, write, results, options, runner):
        done = original(shards, write, results, options, runner)
        write._work.shard(shards[0].key).unlink()
        return done

    monkeypatch.setattr(pipeline, "run", run)
    with pytest.raises(UserError, match="this shard is gone; start the build again"):
        build(folder, tmp_path, SMALL)


def test_a_build_where_everything_is_there(folder, built, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "full")

    with monkeypatch.context() as patch:
        patch.setattr(tfds.core.DatasetInfo, "write_to_directory", full)
        with pytest.raises(OSError, match="full"):  # after the last shard, before the data set stands
            build(folder, tmp_path, SMALL, num_shards=1 << 40)
    assert len(kept(tmp_path)) == 10
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "run", None)
        assert_same(build(folder, tmp_path, SMALL, num_shards=1 << 40), built)


FLOW = {"name": "slow", "size": [64, 86], "flow": "tvl1"}


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_killed_build_goes_on(tmp_path, number):
    """The command itself, with two processes; its optical flow takes long enough to kill it in the middle."""
    root, out = write_folder(tmp_path / "in", GROUPS), tmp_path / "out"
    line = [str(Path(sys.executable).with_name("tfds")), "build", "tfds_ucf101", f"--config={json.dumps(FLOW)}"]
    line += [f"--manual_dir={root}", f"--data_dir={out}"]
    line += ["--beam_pipeline_options=direct_num_workers=2,direct_running_mode=multi_processing"]
    options = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen(line, **options)
    deadline = time.monotonic() + 120
    while len(kept(out)) < 2 and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert first.poll() is None, first.communicate()[1]
    first.send_signal(number)
    stderr = first.communicate(timeout=60)[1]
    there = len(kept(out))
    assert there >= 2 and not list(out.glob("tfds_ucf101/*/*/videos.json"))
    if number == signal.SIGTERM:
        assert first.returncode == 1 and stderr.splitlines()[-1] == "error: terminated"
        assert f"stay in {kept(out)[0].parent} for the next build" in stderr
    second = subprocess.run(line, timeout=240, **options)
    assert second.returncode == 0, second.stderr
    told = next(text for text in second.stderr.splitlines() if text.startswith("goes on: "))
    assert int(told.split()[2]) >= 2
    result = out / "tfds_ucf101/slow/1.1.0"
    assert sorted(path.name for path in out.iterdir()) == ["tfds_ucf101"]
    assert sorted(path.name for path in (out / "tfds_ucf101/slow").iterdir()) == ["1.1.0"]
    if number == signal.SIGKILL:
        assert_same(result, build(root, tmp_path / "anew", FLOW))
