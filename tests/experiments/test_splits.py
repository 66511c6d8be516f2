"""`dataset.split=all`: the splits are the data set's, and their mean."""

import json
import statistics

import fake_data
import pytest

from r23d_jax import config as configs
from r23d_jax.errors import UserError
from r23d_jax.experiments import run, single, splits


def part(split, top1):
    protocol = f"one clip; val videos of split {split}; last checkpoint"
    scores = {"top1": top1, "aggregates": {"mean_softmax": {"top1": top1}}}
    return {"split": split, "part": "val", "videos_expected": 2, "videos_evaluated": 2, "protocol": protocol} | scores


def test_mean_spread_and_protocol_of_any_splits(tmp_path):
    found = splits.write(tmp_path, [part("a", 0.5), part("b", 0.75), part("c", 0.25)])
    assert found["top1"] == 0.5 and found["spread"] == {"top1": statistics.stdev([0.5, 0.75, 0.25])}
    assert found["aggregates"] == {"mean_softmax": {"top1": 0.5}} and found["videos_evaluated"] == 6
    assert [one["split"] for one in found["splits"]] == ["a", "b", "c"]
    assert found["protocol"] == "mean of splits a, b and c; each: one clip; val videos of the split; last checkpoint"
    assert json.loads((tmp_path / "results.json").read_text()) == found


def test_a_new_metric_is_averaged_like_the_others(tmp_path):
    found = splits.write(tmp_path, [part("a", 0.5) | {"top3": 0.25}, part("b", 0.75) | {"top3": 0.75}])
    assert found["top3"] == 0.5 and found["spread"]["top3"] == statistics.stdev([0.25, 0.75])
    assert [one["top3"] for one in found["splits"]] == [0.25, 0.75]


def test_one_split_has_no_spread(tmp_path):
    found = splits.write(tmp_path, [part("default", 0.5)])
    assert "spread" not in found and found["protocol"].startswith("mean of split default; each: ")


def rename(folder, names, parts):
    """Gives a built data set other splits, and other parts in them."""

    def change(index):
        index["splits"] = list(names.values())
        for video in index["videos"]:
            video["splits"] = {names[old]: parts.get(its, its) for old, its in video["splits"].items() if old in names}

    fake_data.change(folder, change)


def test_all_is_every_split_that_the_data_set_has(tmp_path, monkeypatch):
    folder = fake_data.write(tmp_path / "data")
    rename(folder, {"1": "north", "2": "south"}, {"test": "val"})
    seen = []

    def train(config, workdir, dataset):
        workdir.mkdir(parents=True)
        seen.append((config.dataset.split, workdir.name))
        return part(config.dataset.split, 0.5)

    monkeypatch.setattr(single, "train", train)
    options = ["dataset.name=tfds_ucf101", f"dataset.data_dir={tmp_path / 'data'}", "dataset.split=all"]
    found = run.run({"one": configs.load("demo", [*options, "eval.part=val"])}, tmp_path / "w")
    assert seen == [("north", "splitnorth"), ("south", "splitsouth")]
    assert found["split"] == "all" and "splits north and south" in found["protocol"]
    with pytest.raises(UserError, match="split=north: no test video .*; its videos are train, val"):
        run.run({"one": configs.load("demo", options)}, tmp_path / "w2")


@pytest.mark.parametrize("name", ["all", "../up"])
def test_split_names_that_no_folder_or_key_can_have_are_refused(tmp_path, name):
    from r23d_jax.data.records import VideoDataset

    rename(fake_data.write(tmp_path), {"1": name}, {})
    with pytest.raises(UserError, match="videos.json: .*splits are named"):
        VideoDataset.open(tmp_path)
