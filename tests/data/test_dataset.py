"""The protocol: a user's own clips train and evaluate, and parts of splits are whatever the data set has."""

import dataclasses

import fake_data
import numpy as np
import pytest

import r23d_jax
from r23d_jax import config as configs
from r23d_jax.data import dataset as protocol
from r23d_jax.data.dataset import VideoRecord
from r23d_jax.errors import UserError
from r23d_jax.evaluation.evaluator import evaluate_checkpoint
from r23d_jax.evaluation.predictions import Predictions
from r23d_jax.runtime.workdir import recorded
from r23d_jax.training.loop import train_and_evaluate

SMALL = (*fake_data.TINY, "steps=2", "dataset.split=folds")


@dataclasses.dataclass
class ArrayDataset:
    """Clips in memory: all that a data set of one's own needs."""

    clips: list[np.ndarray]
    videos: list[VideoRecord]
    class_names: tuple[str, ...] = ("dark", "bright")
    full_name: str = "mine"
    fingerprint: str = "1"
    splits: tuple[str, ...] = ("folds",)
    channels: str = "rgb"
    flow: None = None
    canvas: tuple[int, int] = (24, 28)
    num_channels: int = 3
    stored_as: None = None
    stored_size: str = "24x28"

    def subset(self, split, part):
        return protocol.positions(self, split, part)

    def decode(self, position, indices, out):
        out[:] = 0
        clip = self.clips[position]
        out[:, : clip.shape[1], : clip.shape[2]] = clip[list(indices)]


def make(parts=("train", "train", "train", "test", "val")):
    rng, clips, videos = np.random.default_rng(0), [], []
    for number in range(20):
        part, label = parts[number % len(parts)], number % 2
        height, width = (24, 28) if number % 3 else (22, 26)
        clips.append(rng.integers(100 * label, 100 * label + 99, (5 + number % 4, height, width, 3), np.uint8))
        videos.append(VideoRecord(f"clip{number:02d}", label, len(clips[-1]), height, width, {"folds": part}))
    return ArrayDataset(clips, videos)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A data set, config and workdir of a run that was evaluated on the validation videos."""
    dataset, workdir = make(), tmp_path_factory.mktemp("run")
    config = configs.load("demo", [*SMALL, "eval.part=val", "eval.every_epochs=0.5"])
    return dataset, config, workdir, r23d_jax.train(config, workdir, dataset=dataset)


def test_clips_in_memory_train_and_are_all_evaluated(run):
    dataset, _, workdir, results = run
    assert results["dataset"] == "mine" and results["dataset_fingerprint"] == "1" and results["step"] == 2
    assert results["videos_evaluated"] == results["videos_expected"] == 4
    wanted = [video.name for video in dataset.videos if video.splits["folds"] == "val"]
    assert Predictions.load(workdir / "predictions.npz").names.tolist() == wanted
    assert results["split"] == "folds" and results["part"] == "val"
    assert "val videos of split folds" in results["protocol"] and "leak" not in results["protocol"]
    assert recorded(workdir)[1] == "1"
    assert "clip04" in (workdir / "report.html").read_text()  # with the frames of the data set that was given
    assert "No frames and activation maps" not in (workdir / "report.html").read_text()


def test_the_best_by_validation_is_tested(run, tmp_path):
    dataset, _, workdir, _ = run
    config = configs.load("demo", SMALL)
    results = evaluate_checkpoint(config, tmp_path, "best", source=workdir, dataset=dataset).results
    names = Predictions.load(tmp_path / "predictions.npz").names.tolist()
    assert names == [video.name for video in dataset.videos if video.splits["folds"] == "test"]
    assert results["part"] == "test"
    assert "test videos of split folds; best checkpoint by top1 on the val videos" in results["protocol"]


def test_a_result_says_that_the_leak_check_was_off(run, tmp_path):
    dataset, config, workdir, _ = run
    open_set = dataclasses.replace(dataset)
    open_set.leak_check = False
    results = evaluate_checkpoint(config, tmp_path, source=workdir, dataset=open_set).results
    assert results["protocol"].endswith("; leak check off")


def test_another_content_is_not_resumed(run):
    dataset, config, workdir, _ = run
    with pytest.raises(UserError, match="another build of the data set"):
        train_and_evaluate(config, workdir, dataclasses.replace(dataset, fingerprint="2"))


def test_a_part_or_split_that_is_not_there_is_named(tmp_path):
    dataset = make(["train", "test"])
    with pytest.raises(UserError, match="split=folds: no val video in mine; its videos are test, train"):
        dataset.subset("folds", "val")
    with pytest.raises(UserError, match="split=1: mine has these splits: folds"):
        train_and_evaluate(configs.load("demo", [*SMALL, "dataset.split=1"]), tmp_path / "w", dataset)
    assert not (tmp_path / "w").exists()


def test_a_video_that_no_split_mentions_is_in_neither_part():
    dataset = make()
    dataset.videos.append(VideoRecord("a clip", 0, 1, 8, 8, {}))
    assert dataset.subset("folds", "neither").tolist() == [20]
