"""Batches over videos of several lengths and sizes: complete, in order, few, and not in the way of decoding."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from r23d_jax.errors import UserError
from r23d_jax.inference import clips, runner, sources
from r23d_jax.transforms.spec import Preprocessing

SPEC = Preprocessing(resize=None, crop=8, frames=0, max_frames=48, sampling="fitted")


class Network:
    """Crops at the top left. Its answer is the mean of every clip and its first pixels; it notes the batches."""

    def __init__(self, spec=SPEC):
        self.card = SimpleNamespace(source={}, preprocessing=spec)
        self.batches, self.real, self.applied = [], [], 0

    def prepare(self, frames, sizes):
        self.batches.append(frames.shape)
        self.real.append(len({clip.tobytes() for clip in frames}))  # padding repeats a clip
        assert (sizes <= frames.shape[2:4]).all()
        return jnp.asarray(frames[:, :, :8, :8], jnp.float32)

    def apply(self, video):
        self.applied += 1
        return {"mean": video.mean((1, 2, 3)), "first": video[:, 0, 0, 0]}


def videos(count, lengths=(5, 12, 30, 44, 70, 120), sizes=((8, 8), (40, 8), (9, 70)), seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        shape = (int(rng.choice(lengths)), *sizes[int(rng.integers(len(sizes)))], 3)
        frames = rng.integers(0, 256, shape, np.uint8)
        found.append(sources.VideoSource(Path(f"v{number}"), Path(f"v{number}"), frames, 25.0))
    return found


def run(network, found, failed=None, **options):
    def plan(scanned):
        return clips.plan(scanned, network.card.preprocessing)

    return runner.run(
        network, network.apply, found, plan, failed or (lambda *_: pytest.fail("a video failed")), **options
    )


def expected(source):
    """One clip after the other, without batches."""
    plan = clips.plan(clips.Scanned("x", len(source.frames), 25.0, (8, 8), None), SPEC)
    seen = source.frames[plan.indices][:, :, :8, :8].astype(np.float32)
    return plan, {"mean": seen.mean((1, 2, 3)), "first": seen[:, 0, 0, 0]}


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_mixed_lengths_are_as_one_by_one(in_order, batch_size):
    found, network = videos(60), Network()
    results = list(run(network, found, batch_size=batch_size, in_order=in_order))
    names = [result.source.path.name for result in results]
    given = [source.path.name for source in found]
    assert (names == given) if in_order else (sorted(names) == sorted(given))
    for result in results:
        plan, outputs = expected(result.source)
        np.testing.assert_array_equal(result.plan.indices, plan.indices)
        assert result.scanned.frames is None
        for name, values in outputs.items():
            np.testing.assert_allclose(result.outputs[name], values, rtol=1e-5)
    clips_of = [expected(source)[0].indices for source in found]
    assert sum(network.real) == sum(map(len, clips_of))
    assert {shape[1] for shape in network.batches} == {indices.shape[1] for indices in clips_of} == {8, 16, 32, 48}
    assert all(shape[0] == batch_size for shape in network.batches[: -4 * 3])  # all but those of the end


def test_batches_are_full_though_shapes_change_with_every_video():
    found = videos(2, lengths=(8,), sizes=((8, 8),)) + videos(2, lengths=(16,), sizes=((8, 8),))
    found = [found[place] for place in (0, 2, 1, 3)] * 8
    network = Network()
    names = [result.source.path.name for result in run(network, found, batch_size=4)]
    assert names == [source.path.name for source in found]
    assert sorted(network.batches) == [(4, 8, 32, 32, 3)] * 4 + [(4, 16, 32, 32, 3)] * 4


@pytest.mark.parametrize("in_order", [True, False])
def test_a_rare_shape_holds_up_little(in_order):
    """One video of a rare shape first: those behind it are not kept to the end, and many rare ones are not either."""
    common = videos(200, lengths=(8,), sizes=((8, 8),))
    rare = [
        dataclasses.replace(source, frames=np.zeros((12, 8, 40 + 32 * number, 3), np.uint8))
        for number, source in enumerate(videos(150))
    ]
    read, most, network = 0, 0, Network()

    def reading(found):
        nonlocal read
        for source in found:
            read += 1
            yield source

    for found in (rare[:1] + common, rare):
        read = 0
        for yielded, result in enumerate(run(network, reading(found), batch_size=4, in_order=in_order)):
            most = max(most, read - yielded)
            assert not in_order or result.source is found[yielded]
        assert yielded == len(found) - 1
    assert most <= 64 + 3 * 4


def test_a_rare_shape_compiles_the_full_batch_if_more_may_come():
    common, rare = videos(80, lengths=(8,), sizes=((8, 8),)), videos(1, lengths=(16,), sizes=((8, 8),))
    network = Network()
    assert len(list(run(network, rare + common + rare, batch_size=4))) == 82
    assert [shape for shape in network.batches if shape[1] == 16] == [(4, 16, 32, 32, 3)] * 2
    network = Network()
    assert len(list(run(network, rare, batch_size=4))) == 1
    assert network.batches == [(1, 16, 32, 32, 3)]  # nothing else comes


def test_the_next_batch_is_at_work_before_results_are_waited_for():
    found, network = videos(12, lengths=(8,), sizes=((8, 8),)), Network()
    applied = [network.applied for _ in run(network, found, batch_size=4)]
    assert applied == [2] * 4 + [3] * 8


def test_videos_that_fail_are_told_and_the_others_go_on():
    found = videos(8, lengths=(8, 16), sizes=((8, 8),))
    scanned = [clips.scan_array(source.frames, 25.0, None) for source in found]
    given = [(f"name {number}", video) for number, video in enumerate(scanned)]
    given[0] = ("name 0", UserError("not a video"))
    given[3] = ("name 3", ValueError("a thread's own"))
    broken = clips.scan_array(videos(1, lengths=(120,), sizes=((8, 8),))[0].frames, 25.0, None)
    given[5] = ("name 5", dataclasses.replace(broken, frames=broken.frames[:60]))  # ends in its second clip
    told, network = [], Network()
    results = runner.run_scanned(
        network,
        network.apply,
        iter(given),
        lambda video: clips.plan(video, SPEC),
        lambda key, error: told.append((key, str(error))),
        batch_size=2,
    )
    results = list(results)
    assert [result.source for result in results] == [f"name {number}" for number in (1, 2, 4, 6, 7)]
    for result in results:
        number = int(result.source.split()[1])
        np.testing.assert_allclose(result.outputs["mean"], expected(found[number])[1]["mean"], rtol=1e-5)
    assert told == [
        ("name 0", "not a video"),
        ("name 3", "a thread's own"),
        ("name 5", "array: has changed while it was read"),
    ]


def test_what_is_not_finite_fails():
    found, network, told = videos(4, lengths=(8, 16), sizes=((8, 8),)), Network(), []
    dark = dataclasses.replace(found[1], frames=np.zeros((8, 8, 8, 3), np.uint8))
    found[1] = dark

    def failed(source, error):
        told.append((source, str(error)))

    network.apply = lambda video: 1 / video.mean((1, 2, 3))
    assert [result.source for result in run(network, found, failed)] == [found[0], *found[2:]]
    assert told == [(dark, "array: the network's output is not finite")]
