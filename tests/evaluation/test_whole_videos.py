"""Evaluation of whole videos: every one seen once, as `predict` sees it, in one program a length."""

import dataclasses
import json

import fake_data
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_videos import write_checkpoint

from r23d_jax import config as configs
from r23d_jax.data import records, sampling
from r23d_jax.errors import UserError
from r23d_jax.evaluation import metrics
from r23d_jax.evaluation.evaluate import evaluate
from r23d_jax.evaluation.evaluator import evaluate_checkpoint
from r23d_jax.inference import classifier
from r23d_jax.inference import clips as video_clips
from r23d_jax.runtime.mesh import create_mesh
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights import checkpoint

SPEC = Preprocessing(resize=None, crop=24, frames=0, max_frames=36)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    fake_data.write(folder, vary=True, classes=3, groups=9, frames=45, height=32, width=40, seed=2)
    return records.VideoDataset.open(folder)


def test_every_video_is_seen_once_whatever_its_length(dataset):
    """By a network whose answer is the mean of the first, and the length of what it sees."""
    traced = []

    @jax.jit
    def step(weights, batch):
        frames = batch["frames"]
        traced.append(frames.shape)
        mean = jnp.mean(frames.astype(jnp.float32), (1, 2, 3)) / 64
        return mean.at[:, 1].set(frames.shape[1] / 8), batch["index"]

    positions = dataset.subset("1", "test")
    options = {"spec": dataclasses.replace(SPEC, frames=16), "crops": 1, "mesh": create_mesh()}
    for batch_size in (1, 6):
        traced.clear()
        found = evaluate(step, {}, dataset, positions, views="whole", batch_size=batch_size, progress=False, **options)
        assert sorted(shape[1] for shape in traced) == [16, 32, 36]  # one program a length
        assert max(shape[0] * shape[1] for shape in traced) <= max(16 * batch_size, 36)  # longer ones, fewer at once
        assert found.names.tolist() == [dataset.videos[position].name for position in positions]
        for row, position in enumerate(positions):
            count = dataset.videos[position].num_frames
            plan = [sampling.whole(count, 1, 36, 16)][0]
            assert found.clips[row] == len(plan) == (2 if count > 36 else 1)
            pixels = np.zeros((*plan.shape, *dataset.canvas, 3), np.uint8)
            for view, indices in enumerate(plan):
                dataset.decode(int(position), indices.tolist(), pixels[view])
            logits = pixels.astype(np.float32).mean((1, 2, 3)) / 64
            logits[:, 1] = plan.shape[1] / 8
            np.testing.assert_allclose(found.logits[row], logits.mean(0), rtol=1e-5)
            np.testing.assert_allclose(found.scores[row], metrics.softmax(logits).mean(0), rtol=1e-4)


@pytest.fixture(scope="module")
def even(tmp_path_factory):
    """A data set of videos of 16 frames, and an untrained checkpoint of its classes that asks for whole videos."""
    folder = tmp_path_factory.mktemp("even")
    fake_data.write(folder / "data", classes=3, groups=3, frames=16, height=24, width=32)
    dataset = records.VideoDataset.open(folder / "data")
    spec = dataclasses.replace(SPEC, crop=16)
    return dataset, folder, write_checkpoint(folder / "whole", spec, labels=tuple(dataset.class_names))


def load(folder, source, *overrides):
    small = ("dataset.name=tfds_ucf101", f"dataset.data_dir={folder / 'data'}", f"init_from={source}")
    return configs.load("common", [*small, "batch_size=8", "workers=1", *overrides])


def test_the_answer_is_that_of_predict(even, tmp_path, capsys):
    dataset, folder, source = even
    results = evaluate_checkpoint(load(folder, source), tmp_path / "w", which="init").results
    assert "own protocol" not in capsys.readouterr().err
    assert json.loads((tmp_path / "w" / "results.json").read_text()) == results
    assert results["videos_evaluated"] == results["videos_expected"] == 3
    assert (
        "mean of softmax over the whole video as one clip (of more than 36 frames: the clips of 36 that cover it), "
        "lengths rounded up to a multiple of 16 by looping the video; centre crop 16x16"
    ) in results["protocol"]
    with np.load(tmp_path / "w" / "predictions.npz") as saved:
        found = {name: saved[name] for name in ("logits", "clips")}
    assert found["clips"].tolist() == [1, 1, 1]

    network = classifier.Classifier(*checkpoint.load_weights(source))
    scanned = video_clips.Scanned("x", 16, 25.0, (24, 32), None)
    (indices,) = video_clips.plan(scanned, network.card.preprocessing, "dense").indices
    positions = dataset.subset("1", "test")
    pixels = np.zeros((3, 16, *dataset.canvas, 3), np.uint8)
    for row, position in enumerate(positions):
        dataset.decode(int(position), indices.tolist(), pixels[row])
    logits = network(network.prepare(pixels, np.tile([24, 32], (3, 1))))
    np.testing.assert_allclose(found["logits"], logits, rtol=1e-4, atol=1e-5)


def test_fitted_videos_are_those_of_predict(dataset, tmp_path, capsys):
    """Of 1 to 45 frames, so one clip of 8 to 32, or two of 32 that cover a video of more than 36."""
    spec = dataclasses.replace(SPEC, crop=16, sampling="fitted")
    source = write_checkpoint(tmp_path / "weights", spec, labels=tuple(dataset.class_names))
    config = load(dataset.path.parents[2], source)
    results = evaluate_checkpoint(config, tmp_path / "w", which="init", dataset=dataset).results
    assert "own protocol" not in capsys.readouterr().err
    assert results["preprocessing"] == spec.to_dict()
    assert (
        "mean of softmax over the whole video as one clip of 8 to 32 frames, whichever of few lengths is nearest to "
        "its own, spaced evenly from the first to the last (of more than 36 frames: the clips of 32 that cover it); "
    ) in results["protocol"]
    with np.load(tmp_path / "w" / "predictions.npz") as saved:
        found = {name: saved[name] for name in ("logits", "clips")}

    network = classifier.Classifier(*checkpoint.load_weights(source))
    lengths = set()
    for row, position in enumerate(dataset.subset("1", "test")):
        video = dataset.videos[position]
        scanned = video_clips.Scanned("x", video.num_frames, video.fps, (video.height, video.width), None)
        indices = video_clips.plan(scanned, spec).indices
        lengths.add(indices.shape)
        pixels = np.zeros((*indices.shape, *dataset.canvas, 3), np.uint8)
        for clip, frames in zip(pixels, indices, strict=True):
            dataset.decode(int(position), frames.tolist(), clip)
        size = np.tile(np.int32([video.height, video.width]), (len(pixels), 1))
        logits = np.asarray(network(network.prepare(pixels, size)))
        assert found["clips"][row] == len(indices)
        np.testing.assert_allclose(found["logits"][row], logits.mean(axis=0), rtol=1e-4, atol=1e-5)
    assert len(lengths) > 2 and (2, 32) in lengths


def test_other_views_of_such_weights_are_announced(even, tmp_path, capsys):
    _, folder, source = even
    results = evaluate_checkpoint(load(folder, source, "clip.frames=4"), tmp_path / "w", which="init").results
    said = capsys.readouterr().err
    assert "clip.frames=4 by the config; the weights say whole videos" in said
    assert "4-frame clips, eval.views=dense; these weights' own protocol is whole videos" in said
    assert "every non-overlapping 4-frame clip" in results["protocol"] and results["preprocessing"]["frames"] == 4


def test_a_network_bound_to_its_length_is_refused(even, tmp_path):
    dataset, folder, _ = even
    spec = Preprocessing(resize=None, crop=16, frames=8)
    bound = write_checkpoint(tmp_path / "r2d", spec, "r2d_18", tuple(dataset.class_names))
    with pytest.raises(UserError, match="r2d_18 takes clips of exactly 8 frames; use 'dense'"):
        config = load(folder, bound, "eval.views=whole", "arch=r2d_18")
        evaluate_checkpoint(config, tmp_path / "w", which="init")


def test_the_bound_of_the_config_wins(even, tmp_path):
    _, folder, source = even
    config = load(folder, source, "eval.views=whole", "eval.max_frames=12")
    results = evaluate_checkpoint(config, tmp_path / "w", which="init").results
    assert "of more than 12 frames" in results["protocol"]
    with np.load(tmp_path / "w" / "predictions.npz") as saved:
        assert saved["clips"].tolist() == [2, 2, 2]
