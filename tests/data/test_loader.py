"""Streams: the same batches for every start, worker count and host count; clean ends and clear errors."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import fake_data
import jax
import numpy as np
import pytest
from paths import ROOT

from r23d_jax.data import loader, sampling
from r23d_jax.data.dataset import VideoRecord
from r23d_jax.data.records import VideoDataset
from r23d_jax.data.views import eval_views, plans, whole_views
from r23d_jax.data.workers import Buffers
from r23d_jax.errors import UserError

CLIP = {"frames": 4, "stride": 2}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> VideoDataset:
    path = tmp_path_factory.mktemp("data")
    fake_data.write(path, vary=True, groups=5)
    return VideoDataset.open(path)


@pytest.fixture(scope="module")
def training(dataset) -> np.ndarray:
    return dataset.subset("1", "train")


def take(dataset, positions, steps, **options):
    options = {**CLIP, "batch_size": 4, "seed": 5, **options}
    with loader.train_batches(dataset, positions, num_steps=steps, **options) as stream:
        return list(stream)


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
            assert one[name].dtype == other[name].dtype


def test_a_batch_holds_what_it_says(dataset, training):
    batch = take(dataset, training, 1)[0]
    assert batch["frames"].shape == (4, 4, *dataset.canvas, 3)
    assert {name: (value.shape, value.dtype) for name, value in batch.items() if name != "frames"} == {
        "size": ((4, 2), np.int32),
        "label": ((4,), np.int32),
        "video": ((4,), np.int32),
    }
    for row, position in enumerate(batch["video"]):
        video = dataset.videos[position]
        assert position in training
        assert batch["label"][row] == video.label
        assert batch["size"][row].tolist() == [video.height, video.width]
        everything = np.empty((video.num_frames, *dataset.canvas, 3), np.uint8)
        dataset.decode(position, range(video.num_frames), everything)
        for t in range(4):
            assert any((frame == batch["frames"][row, t]).all() for frame in everything)


# Purity


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("how", ["dense", "segments", "linspace"])
def test_a_later_start_gives_the_same_batches(dataset, training, balanced, how):
    options = {"balanced": balanced, "sampling": how}
    whole = take(dataset, training, 9, **options)
    for start in (1, 4, 8):
        assert_equal(take(dataset, training, 9 - start, start_step=start, **options), whole[start:])


@pytest.mark.parametrize("fps", [12.5, 10.0, 50.0])
def test_training_clips_are_of_the_resampled_video(dataset, training, fps):
    """Every clip is one that `dense` may draw from the frames shown at those moments; the videos have 25 frames/s."""
    for batch in take(dataset, training, 6, fps=fps):
        for row, position in enumerate(batch["video"]):
            video = dataset.videos[position]
            axis = sampling.resample(video.num_frames, 25.0, fps)
            everything = np.empty((video.num_frames, *dataset.canvas, 3), np.uint8)
            dataset.decode(position, range(video.num_frames), everything)
            starts = range(max(len(axis) - 3 * CLIP["stride"], 1))
            possible = [axis[sampling.at(start, len(axis), 4, CLIP["stride"])] for start in starts]
            assert any((everything[indices] == batch["frames"][row]).all() for indices in possible)


@pytest.mark.parametrize("views", ["dense", "segments", "linspace", 3])
def test_views_are_of_the_resampled_video(dataset, views):
    positions = dataset.subset("1", "test")
    plan = eval_views(dataset, positions, **CLIP, fps=12.5, views=views)
    for index, position in enumerate(positions):
        axis = sampling.axis(dataset.videos[position], 12.5)
        lengths = VideoRecord("a", 0, len(axis), 8, 8, {})
        alone = dataclasses.replace(lengths, fps=12.5)
        expected = eval_views(SimpleNamespace(videos=[alone]), np.array([0]), **CLIP, views=views).indices
        np.testing.assert_array_equal(plan.indices[plan.video == index], axis[expected])


def test_workers_and_prefetch_change_nothing(dataset, training):
    expected = take(dataset, training, 6, threads=1, prefetch=1)
    for options in ({"threads": 2}, {"threads": 7, "prefetch": 5}, {"processes": 2}):
        assert_equal(take(dataset, training, 6, **options), expected)


@pytest.mark.parametrize("hosts", [2, 4])
def test_rows_of_all_hosts_are_the_batch(dataset, training, hosts):
    whole = take(dataset, training, 5)
    parts = [take(dataset, training, 5, process_index=i, process_count=hosts) for i in range(hosts)]
    joined = [{name: np.concatenate([p[name] for p in rows]) for name in rows[0]} for rows in zip(*parts, strict=True)]
    assert_equal(joined, whole)


def test_the_layout_of_the_shards_changes_nothing(dataset, training, tmp_path):
    fake_data.write(tmp_path, vary=True, groups=5, shards=4)
    other = VideoDataset.open(tmp_path)
    found = take(other, other.subset("1", "train"), 4)
    expected = take(dataset, training, 4)
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one["frames"], two["frames"])
        assert [other.videos[p].name for p in one["video"]] == [dataset.videos[p].name for p in two["video"]]


def test_the_seed_changes_the_order_and_the_clips(dataset, training):
    one, other = take(dataset, training, 5), take(dataset, training, 5, seed=6)
    assert [b["video"].tolist() for b in one] != [b["video"].tolist() for b in other]
    assert not all((a["frames"] == b["frames"]).all() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("batch_size", [1, 3, 4, 23])  # 23: more than an epoch
def test_every_epoch_has_every_video_once(dataset, training, batch_size):
    count = len(training)
    steps = -(-4 * count // batch_size)
    found = np.concatenate([b["video"] for b in take(dataset, training, steps, batch_size=batch_size)])
    epochs = found[: 4 * count].reshape(4, count)
    assert all(sorted(epoch) == sorted(training) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_clips_of_a_video_differ_from_epoch_to_epoch(dataset):
    longest = max(range(len(dataset.videos)), key=lambda p: dataset.videos[p].num_frames)
    found = take(dataset, np.asarray([longest]), 8, frames=2, batch_size=1)
    assert len({batch["frames"].tobytes() for batch in found}) > 2


def test_balanced_gives_every_class_its_turn(dataset, training):
    uneven = np.concatenate([training[:5], [p for p in training if dataset.videos[p].label == 2]])
    uneven = np.unique(uneven).astype(np.int32)
    sizes = Counter(dataset.videos[p].label for p in uneven)
    assert len(set(sizes.values())) > 1
    turns = 12 * max(sizes.values())
    found = np.concatenate([b["video"] for b in take(dataset, uneven, turns, batch_size=len(sizes), balanced=True)])
    labels = [dataset.videos[p].label for p in found]
    classes = sorted(sizes)
    assert all(sorted(turn) == classes for turn in np.reshape(labels, (-1, len(classes))))
    for label, size in sizes.items():
        mine = [p for p in found if dataset.videos[p].label == label]
        assert all(len(set(mine[i : i + size])) == size for i in range(0, len(mine) - size + 1, size))


# Evaluation


@pytest.mark.parametrize("crops", [1, 3])
@pytest.mark.parametrize("views", ["dense", "segments", "linspace", 1, 3])
def test_every_view_comes_once(dataset, views, crops):
    positions = dataset.subset("1", "test")
    plan = eval_views(dataset, positions, **CLIP, views=views, crops=crops)
    assert (plan.position == positions[plan.video]).all()
    assert sorted(set(plan.video)) == list(range(len(positions)))
    assert len({tuple(row) for row in np.stack([plan.video, plan.view, plan.crop], 1)}) == len(plan)
    found = list(loader.eval_batches(dataset, plan, batch_size=5))
    joined = {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}
    real = joined["mask"] == 1
    assert joined["index"][real].tolist() == list(range(len(plan)))
    assert (joined["index"][~real] == -1).all()
    assert not joined["frames"][~real].any()
    assert (joined["size"] > 0).all()
    for name in ("view", "crop"):
        assert (joined[name][real] == getattr(plan, name)).all()
    for row in np.flatnonzero(real):
        out = np.empty((4, *dataset.canvas, 3), np.uint8)
        dataset.decode(int(plan.position[row]), plan.indices[row].tolist(), out)
        assert (joined["frames"][row] == out).all()


def test_eval_batches_of_hosts_and_of_a_later_start(dataset):
    plan = eval_views(dataset, dataset.subset("1", "test"), **CLIP, crops=3)
    whole = list(loader.eval_batches(dataset, plan, batch_size=8))
    parts = [list(loader.eval_batches(dataset, plan, batch_size=8, process_index=i, process_count=2)) for i in (0, 1)]
    joined = [{name: np.concatenate([p[name] for p in rows]) for name in rows[0]} for rows in zip(*parts, strict=True)]
    assert_equal(joined, whole)
    assert_equal(list(loader.eval_batches(dataset, plan, batch_size=8, start_step=2)), whole[2:])
    assert list(loader.eval_batches(dataset, plan, batch_size=8, start_step=99)) == []


def test_whole_videos_by_length(dataset):
    """`vary` makes videos of 1 to 20 frames: 16 frames, 20 as the longest allowed, or two clips of 18."""
    positions = np.concatenate([dataset.subset("1", part) for part in ("train", "test")])
    lengths = np.array([dataset.videos[position].num_frames for position in positions])
    for longest, expected in ((32, {16, 32}), (20, {16, 20}), (18, {16, 18})):
        found = whole_views(dataset, positions, max_frames=longest, crops=3)
        sizes = [plan.indices.shape[1] for plan in found]
        assert sizes == sorted(sizes) and set(sizes) == expected
        video = np.concatenate([plan.video for plan in found])
        assert (np.bincount(video) == np.where(lengths > longest, 6, 3)).all()  # clips times crops
        for plan in found:
            assert (plan.position == positions[plan.video]).all()
            for index in range(len(plan)):
                shown, length = set(plan.indices[index]), lengths[plan.video[index]]
                assert shown == set(range(length)) or length > longest
            whole = list(loader.eval_batches(dataset, plan, batch_size=4))
            options = {"batch_size": 4, "process_count": 2}
            hosts = [loader.eval_batches(dataset, plan, process_index=index, **options) for index in (0, 1)]
            parts = list(zip(*hosts, strict=True))
            joined = [{name: np.concatenate([part[name] for part in pair]) for name in pair[0]} for pair in parts]
            assert_equal(joined, whole)
            seen = np.concatenate([batch["index"] for batch in whole])
            assert seen[seen >= 0].tolist() == list(range(len(plan)))


def test_fitted_videos_by_length(dataset):
    """`vary` makes videos of 1 to 20 frames: clips of 8 to 24 frames, or of 8 that cover what is longer."""
    positions = np.concatenate([dataset.subset("1", part) for part in ("train", "test")])
    lengths = np.array([dataset.videos[position].num_frames for position in positions])
    for longest, expected in ((32, {8, 16, 24}), (12, {8})):
        options = {"frames": 4, "fps": 25.0, "max_frames": longest, "crops": 3}
        found = plans(dataset, positions, **options, views="fitted")
        sizes = [plan.indices.shape[1] for plan in found]
        assert sizes == sorted(expected)
        video = np.concatenate([plan.video for plan in found])
        assert (np.bincount(video) == np.where(lengths > longest, 3 * -(-lengths // 8), 3)).all()  # clips times crops
        for plan in found:
            assert (plan.position == positions[plan.video]).all()
            for index in set(plan.video.tolist()):
                rows = plan.indices[(plan.video == index) & (plan.crop == 0)]
                np.testing.assert_array_equal(rows, sampling.fitted(lengths[index], 1, longest))
    with pytest.raises(UserError, match="max_frames=4: must be at least 8 for fitted clips"):
        plans(dataset, positions, frames=4, max_frames=4, views="fitted")


# Memory


def test_batches_in_hand_are_never_written_again(dataset, training):
    stream = loader.train_batches(dataset, training, **CLIP, batch_size=4, seed=5, num_steps=30)
    kept, sums = [], []
    for number, batch in enumerate(stream):
        if number % 3 == 0:  # a view is enough to keep it
            kept.append(batch["frames"][1:, ..., 0])
            sums.append(int(kept[-1].sum(dtype=np.int64)))
    assert [int(view.sum(dtype=np.int64)) for view in kept] == sums


def test_memory_is_used_again_when_let_go(dataset, training):
    stream = loader.train_batches(dataset, training, **CLIP, batch_size=4, seed=5, num_steps=40)
    places = set()
    for batch in stream:
        places.add(batch["frames"].ctypes.data)
        del batch
    assert len(places) <= 4


def test_arrays_on_the_device_stay_what_they_are(dataset, training):
    stream = loader.train_batches(dataset, training, **CLIP, batch_size=4, seed=5, num_steps=30)
    sums, device = [], []
    for batch in stream:
        sums.append(int(batch["frames"].sum(dtype=np.int64)))
        device.append(jax.device_put(batch["frames"]))
        del batch
    assert [int(np.asarray(x).sum(dtype=np.int64)) for x in device] == sums


def test_buffers_are_aligned_and_bounded():
    buffers = Buffers((3, 5, 7), keep=2)
    held = [buffers.take() for _ in range(5)]
    assert len({array.ctypes.data for array in held}) == 5
    assert all(array.ctypes.data % 64 == 0 and array.flags.c_contiguous for array in held)
    assert len(buffers._owners) == 2
    place = held[0].ctypes.data
    held.clear()
    assert buffers.take().ctypes.data == place


def test_host_memory_is_stated(dataset):
    small = loader.host_bytes(dataset, frames=4, batch_size=4, threads=2, prefetch=2)
    pixels = 4 * 4 * dataset.canvas[0] * dataset.canvas[1] * 3
    assert small > 3 * pixels
    assert loader.host_bytes(dataset, frames=4, batch_size=4, threads=2, prefetch=3) == small + pixels


# Ends


def decoding_threads() -> int:
    return sum(thread.name.startswith(("decode", "grain")) for thread in threading.enumerate())


def wait_for_no_threads() -> None:
    deadline = time.monotonic() + 10
    while decoding_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert decoding_threads() == 0


@pytest.mark.parametrize("way", ["close", "drop", "end", "with"])
def test_threads_end_with_the_stream(dataset, training, way):
    steps = 3 if way == "end" else None
    stream = loader.train_batches(dataset, training, **CLIP, batch_size=4, seed=5, num_steps=steps)
    next(stream)
    assert decoding_threads() > 0
    if way == "close":
        stream.close()
        stream.close()
        with pytest.raises(StopIteration):
            next(stream)
    elif way == "end":
        assert len(list(stream)) == 2
    elif way == "with":
        with stream:
            pass
    del stream
    wait_for_no_threads()


@pytest.mark.parametrize("processes", [0, 2])
def test_a_damaged_shard_ends_the_stream_with_its_name(tmp_path, processes):
    folder = fake_data.write(tmp_path, groups=5)
    path = sorted(folder.glob("*array_record*"))[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 0xFF
    path.write_bytes(data)
    dataset = VideoDataset.open(tmp_path)
    stream = loader.train_batches(
        dataset, dataset.subset("1", "train"), **CLIP, batch_size=2, seed=0, processes=processes
    )
    with pytest.raises(UserError, match="00001-of-00002: record .* is damaged"):
        for _ in stream:
            pass
    with pytest.raises(StopIteration):
        next(stream)
    wait_for_no_threads()


def test_a_process_that_dies_is_told(dataset, training):
    stream = loader.train_batches(dataset, training, **CLIP, batch_size=4, seed=5, processes=1)
    next(stream)
    workers = stream._end.peek()[2][1]
    os.kill(next(iter(workers._pool._processes)), 9)
    with pytest.raises(UserError, match="a decoding process died"):
        for _ in stream:
            pass


def test_signals_that_reach_all_processes_are_left_to_the_parent(dataset, training):
    expected = list(loader.train_batches(dataset, training, **CLIP, batch_size=4, seed=5, num_steps=4))
    with loader.train_batches(dataset, training, **CLIP, batch_size=4, seed=5, num_steps=4, processes=2) as stream:
        found = [next(stream)]
        for process in stream._end.peek()[2][1]._pool._processes:
            for number in (signal.SIGINT, signal.SIGTERM):  # from another process, as a launcher does
                subprocess.run(["kill", f"-{number}", str(process)], check=True)
        found += list(stream)
    assert len(found) == 4
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours["frames"], theirs["frames"])


def test_nothing_is_left_when_the_parent_is_killed(dataset):
    code = (
        "import os\n"
        "from r23d_jax.data import loader, records\n"
        "if __name__ == '__main__':\n"
        f"    d = records.VideoDataset.open({str(dataset.path.parents[2])!r})\n"
        "    s = loader.train_batches(d, d.subset('1', 'train'), frames=2, batch_size=2, seed=0, processes=1)\n"
        "    next(s)\n"
        "    print(*s._end.peek()[2][1]._pool._processes, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    script = Path(dataset.path) / "killed.py"
    script.write_text(code)
    root = ROOT
    done = subprocess.run(
        [sys.executable, script],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    deadline = time.monotonic() + 20
    while Path(f"/proc/{done.stdout.strip()}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert done.stdout.strip().isdigit(), done.stderr
    assert not Path(f"/proc/{done.stdout.strip()}").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sampling": "sparse"}, "clip.sampling=sparse: must be one of dense, segments, linspace"),
        ({"batch_size": 3, "process_count": 2}, "batch_size=3 does not divide over 2 hosts"),
    ],
)
def test_wrong_options_are_told(dataset, training, options, message):
    with pytest.raises(UserError, match=message):
        take(dataset, training, 1, **options)


@pytest.mark.parametrize("options", [{"views": 0}, {"views": "all"}, {"crops": 2}])
def test_wrong_views_are_told(dataset, options):
    with pytest.raises(UserError, match=f"eval.{next(iter(options))}="):
        eval_views(dataset, dataset.subset("1", "test"), **CLIP, **options)
