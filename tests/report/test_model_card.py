"""The model card of published weights."""

import dataclasses
import json
import re
import shlex

import fake_run
import fake_videos
import pytest
import yaml

from r23d_jax import config as configs
from r23d_jax.report import model_card
from r23d_jax.weights import checkpoint

DATASET = "tfds_ucf101/motion/1.0.0"
NASTY = 'a|b <img src=x> `c` "d": [e](f) \n# g\x1b[1m\\ {h} 💃 $i$'


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return checkpoint.load_weights(fake_videos.write_checkpoint(tmp_path_factory.mktemp("card") / "weights"))


def results(**more):
    scores = {"top1": 0.8125, "top5": 1.0, "mean_class": 0.79, "clip_top1": 0.7135}
    about = {"dataset": DATASET, "split": "1", "protocol": fake_run.PROTOCOL, "step": 100}
    return {**scores, **about, "videos_expected": 16, "videos_evaluated": 16, **more}


def page(weights, run=None, **changes):
    values, card = weights
    run = run or model_card.TrainingRun({}, "No results.", {})
    return model_card.build("hf://me/net", dataclasses.replace(card, **changes), values, run)


def front(text):
    """The YAML in front, read as the Hub does."""
    return yaml.safe_load(re.match(r"---\n(.*?)\n---\n", text, re.S)[1])


def test_all_that_is_known_is_on_it(weights):
    text = page(
        weights, model_card.TrainingRun(results(), "", {}), licence="Apache-2.0", init="torchvision weights r.pth"
    )
    assert front(text) == {
        "license": "apache-2.0",
        "library_name": "r23d_jax",
        "pipeline_tag": "video-classification",
        "tags": ["video-classification", "action-recognition", "jax", "flax", "r2plus3d_18"],
        "model-index": [
            {
                "name": "net",
                "results": [
                    {
                        "task": {"type": "video-classification", "name": "Video classification"},
                        "dataset": {"type": DATASET, "name": f"{DATASET}, test videos of split 1"},
                        "metrics": [
                            {"type": "accuracy", "name": f"{name} (%)", "value": value}
                            for name, value in (
                                ("Top-1", 81.25),
                                ("Top-3", 100.0),
                                ("Mean class", 79.0),
                                ("Clip top-1", 71.35),
                            )
                        ],
                    }
                ],
            }
        ],
    }
    assert "16 videos evaluated of 16 expected, at step 100." in text and f"{fake_run.PROTOCOL}." in text
    assert "| Top-1 | 81.25 |" in text and "| Top-3 | 100.00 |" in text
    assert "r23d predict --checkpoint hf://me/net VIDEO" in text
    assert "From torchvision weights r.pth." in text and "Apache-2.0." in text
    assert "| `resize` | 32, 44 |" in text and "| `crop` | 28 |" in text and "| `mean` | 0.5, 0.5, 0.5 |" in text
    assert "| 0 | waving |" in text and "<details>" not in text
    fields = [field.name for field in dataclasses.fields(weights[1].preprocessing)]
    assert all(f"| `{name}` |" in text for name in fields)
    count = sum(value.size for name, value in weights[0].items() if not name.endswith((".mean", ".var")))
    assert f"| Parameters | {count:,} |" in text and "| Width | 4 |" in text


def test_the_hub_s_client_reads_it(weights):
    import huggingface_hub as client

    read = client.ModelCard(page(weights, model_card.TrainingRun(results(), "", {}), licence="MIT"))
    assert (read.data.license, read.data.library_name, read.data.model_name) == ("mit", "r23d_jax", "net")
    assert [(found.metric_name, found.metric_value) for found in read.data.eval_results][0] == ("Top-1 (%)", 81.25)
    assert read.text.strip().startswith("# net")


def test_what_is_unknown_is_said_or_left_out(weights):
    text = page(weights, labels=())
    assert front(text).keys() == {"library_name", "pipeline_tag", "tags"}
    for line in ("No results.", "From scratch.", "Not stated.", "The names of the classes are not known."):
        assert f"\n{line}\n" in text
    assert "None |\n" not in page(weights, source={"published": "", "stored": None})


def test_an_incomplete_evaluation_is_no_result_of_the_index(weights):
    text = page(weights, model_card.TrainingRun(results(videos_evaluated=15), "", {}))
    assert "val videos of split 1: 16" in page(weights, model_card.TrainingRun(results(part="val"), "", {}))
    assert "model-index" not in front(text) and "**Not all videos of the split were evaluated" in text


@pytest.mark.parametrize(
    "licence, said",
    [
        ("MIT", {"license": "mit"}),
        ("cc-by-nc-4.0", {"license": "cc-by-nc-4.0"}),
        ('ask me: "first"', {"license": "other", "license_name": 'ask me: "first"'}),
        ("", {}),
    ],
)
def test_a_licence_has_the_name_that_the_hub_knows(weights, licence, said):
    found = front(page(weights, licence=licence))
    assert {key: value for key, value in found.items() if "license" in key} == said


def test_names_can_hold_anything(weights):
    run = model_card.TrainingRun(
        results(dataset=NASTY, split=NASTY, protocol=NASTY), "", {"dtype": NASTY, "seed": NASTY}
    )
    published = ({"metric": NASTY, "value": 57.5, "protocol": NASTY},)
    text = page(
        weights, run, labels=(NASTY, "- b", "```"), init=NASTY, licence=NASTY, published=published, source={"a": NASTY}
    )
    assert front(text)["license_name"] == NASTY.replace("\n", "\\n").replace("\x1b", "\\x1b")
    assert front(text)["model-index"][0]["results"][0]["dataset"]["type"].startswith('a|b <img src=x> `c` "d"')
    body = re.sub(r"```\n.*?\n```\n", "", text.split("\n---\n", 1)[1], flags=re.S)
    assert "\x1b" not in text and not re.search(r"(?<!\\)<(?!details|summary|/)", body)
    assert [line for line in body.splitlines() if line.startswith("# ")] == ["# net"]
    for line in body.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line.replace("\\\\", ""))) in (3, 4), line


def test_many_labels_are_folded(weights):
    values, card = weights
    labels = tuple(f"class {i}" for i in range(30))
    model = {**card.model, "num_classes": 30}
    text = model_card.build("hf://me/net", dataclasses.replace(card, labels=labels, model=model), values, _nothing())
    assert "<details><summary>30 classes</summary>\n\n| Index | Label |" in text and "| 29 | class 29 |" in text


def _nothing():
    return model_card.TrainingRun({}, "", {})


def test_the_command_trains_the_same_config(weights):
    config = configs.load(
        "demo", ["dataset.data_dir=/home/me/data", "init_from=/home/me/runs/a", "seed=3", "workers=7"]
    )
    flat = json.loads(json.dumps(configs.flatten(config)))
    text = page(weights, model_card.TrainingRun({}, "", flat))
    assert "/home/me" not in text
    command = shlex.split(re.search(r"^r23d train .*", text, re.M)[0])
    others, overrides = configs.split_overrides(command[2:])
    assert others == ["--config", "common", "--workdir", "RUN"]
    again = configs.flatten(configs.load("common", overrides))
    differ = {key for key, value in configs.flatten(config).items() if again[key] != value}
    assert differ <= {"dataset.data_dir", "init_from", "workers", "log_every", "processes", "prefetch", *CHECKPOINT}
    assert (again["init_from"], again["seed"]) == ("a", 3)


CHECKPOINT = [key for key in configs.flatten(configs.load("common")) if key.startswith("checkpoint.")]


def test_results_are_only_those_of_these_weights(tmp_path):
    found = fake_run.predictions(fake_videos.LABELS, per_class=4)
    workdir = fake_run.write(tmp_path / "run", found, step=200)
    for step in ("00000100", "00000200"):
        fake_videos.write_checkpoint(workdir / "checkpoints" / step)
    run = model_card.read_run(workdir / "checkpoints" / "00000200")
    assert run.results["top1"] == found.results()["top1"] and run.config["arch"] == "r2plus3d_18"
    run = model_card.read_run(workdir / "checkpoints" / "00000100")
    assert run.results == {} and "are of step 200, these weights of step 100: they are left out." in run.why_none
    (workdir / "results.json").unlink()
    (workdir / "config.json").write_text("[]")
    run = model_card.read_run(workdir / "checkpoints" / "00000100")
    assert (run.results, run.config) == ({}, {}) and "it was not evaluated" in run.why_none
    assert model_card.read_run(fake_videos.write_checkpoint(tmp_path / "converted")).results == {}
