"""The report of a probe: what was chosen and tried, with cross-validated figures told from test figures."""

import json

import fake_run
import pytest
from html_page import read

from r23d_jax import report
from r23d_jax.errors import UserError
from r23d_jax.report import page

CLASSES = ["Clap", "Run", "Wave"]
HEADS = [("lda", 0.3), ("logistic", 10.0), ("svm", 0.1), ("means", 0.0), ("neighbours", 5)]
TUNED = {
    "held_out_videos": 12,
    "top1": 0.75,
    "cross_entropy": 0.8125,
    "probe_top1": 0.5,
    "probe_cross_entropy": 1.25,
    "steps": 1234,
}


def candidate(number):
    head, value = HEADS[number % len(HEADS)]
    stages = ["layer3", "layer4"][: 1 + number % 2]
    return {"stages": stages, "bins": 1 + 2 * (number % 2), "mirrored": number < 10, "head": head, "value": value}


def probe(**fields):
    """The content of a probe.json with 13 candidates, of which the second and the last are in the mean."""
    tried = [
        {**candidate(n), "cv_top1": 0.9375 - n / 64, "cv_spread": 0.0625, "cv_loss": 0.4 + n / 8} for n in range(13)
    ]
    return {
        "chosen": "the mean of the 2 best linear heads",
        "features": {"stages": ["layer3", "layer4"], "bins": 3, "mirrored": True},
        "members": [candidate(1), candidate(12)],
        "cross_validation": {"top1": 0.953125, "spread": 0.03125, "folds": 5, "repeats": 2},
        "tried": tried,
        "weights_sha256": "0" * 64,
        "training_videos": 45,
        "groups": 15,
        "test_videos": 60,
        "videos_computed": 5,
        "feature_seconds": 75.2,
        "seconds": 130.0,
        **fields,
    }


def write(workdir, fields, **results):
    fake_run.write(workdir, fake_run.predictions(CLASSES), part="test", **results)
    (workdir / "probe.json").write_text(json.dumps(fields))
    return read(report.write(workdir))


def test_what_was_chosen_and_tried(tmp_path):
    shown = write(tmp_path, probe(), top1=0.8)
    assert (
        "The mean of the 2 best linear heads . It sees the stages layer3 + layer4 of the frozen network" in shown.text
    )
    assert "over 3 parts of time, which are kept in their order; and the same of the mirror image" in shown.text
    for text in (
        "What was chosen, and how often it is right",
        "by which it was chosen 95.31 ± 3.12 45 training videos in 5 folds, drawn twice",
        "Test videos 80.00 60 test videos, each once",
        "No test video was looked at for the choice",
        "among 13 candidates",
        "(15 groups) were held out together",
        "5 videos computed in 1 min 15 s, the others kept from before",
        "Features, choice and scores 2 min 10 s",
    ):
        assert text in shown.text
    assert 0.953125 in shown.data and 0.8 in shown.data
    assert "No two videos are known" not in shown.text
    # Nothing was trained: there are no curves, and the config is said to be for later.
    assert "Learning curves" not in shown.text and "they are for fine-tuning from it" in shown.text


def test_the_table_of_candidates(tmp_path):
    shown = write(tmp_path, probe())
    first, rest = shown.text.split("The other 3 candidates, 1 of them chosen")
    first = first.partition("The candidates")[2]
    assert "1 layer3 1 yes linear discriminant analysis shrinkage 0.3 93.75 ± 6.25 0.400 2" in first
    assert "2 layer3 + layer4 3 yes logistic regression C 10 92.19 ± 6.25 0.525 yes" in first
    assert "3 layer3 1 yes linear SVM C 0.1" in first and "4 layer3 + layer4 3 yes nearest class mean none" in first
    assert "5 layer3 1 yes nearest neighbours 5 neighbours" in first and "10 layer3 + layer4" in first
    assert "13 layer3 1 no linear SVM C 0.1 75.00 ± 6.25 1.900 yes" in rest
    assert shown.tags.count("caption") >= 3
    regions = [name for tag, name, value in shown.attributes if (tag, value) == ("div", "region")]
    assert len(regions) == 2 and ("div", "tabindex", "0") in shown.attributes


def test_few_candidates_are_not_folded(tmp_path):
    fields = probe()
    shown = write(tmp_path, {**fields, "tried": fields["tried"][:10]})
    assert "The candidates" in shown.text and "The other" not in shown.text


def test_without_a_test_side_the_figures_are_cross_validated(tmp_path):
    fields = probe(test_videos=0, groups=45, videos_computed=45)
    crossed = {"part": "train", "cross_validation": fields["cross_validation"]}
    fake_run.write(tmp_path, fake_run.predictions(CLASSES), top1=0.7, **crossed)
    (tmp_path / "probe.json").write_text(json.dumps(fields))
    shown = read(report.write(tmp_path))
    assert "= 42 of 60 training videos, by cross-validation: each scored by a probe that was chosen and" in shown.text
    assert (
        "Videos, by cross-validation 60 evaluated of 60 expected" in shown.text and "· cross-validated ·" in shown.text
    )
    assert "Cross-validation of the choice as well 70.00 60 training videos" in shown.text
    assert "no test side, so the second figure takes its place" in shown.text
    assert "test videos" not in shown.text.replace(fake_run.PROTOCOL, "") and "Train videos" not in shown.text
    assert "No two videos are known to be of one recording" in shown.text
    assert "45 videos computed in 1 min 15 s" in shown.text and "kept from before" not in shown.text


def test_training_videos_scored_otherwise_are_not_called_cross_validated(tmp_path):
    fake_run.write(tmp_path, fake_run.predictions(CLASSES), part="train")
    (tmp_path / "probe.json").write_text(json.dumps(probe(test_videos=0)))
    shown = read(report.write(tmp_path))
    assert "of 60 train videos" in shown.text and "each scored by a probe" not in shown.text


def test_too_few_videos_to_compare_anything(tmp_path):
    few = {"cross_validation": None, "tried": [], "test_videos": 0, "videos_computed": 0}
    chosen = "the nearest class mean: there are too few videos to choose by cross-validation"
    fields = probe(**few, chosen=chosen, features={"stages": ["layer4"], "bins": 1, "mirrored": False})
    write(tmp_path, fields)
    for name in ("results.json", "predictions.npz"):
        (tmp_path / name).unlink()
    shown = read(report.write(tmp_path))
    assert "It sees the stage layer4 of the frozen network, averaged over space and time." in shown.text
    assert "Nothing was evaluated: there is no test side" in shown.text and "nothing was compared" in shown.text
    assert "all kept from before" in shown.text and "The candidates" not in shown.text
    assert "What was chosen, and how often it is right" not in shown.text


def test_an_attentive_head_averages_nothing(tmp_path):
    seen = {"stages": ["layer3"], "bins": 1, "mirrored": False}
    one = {**seen, "head": "attention", "value": 0.0, "cv_top1": 0.99, "cv_spread": 0.01, "cv_loss": 0.1}
    fields = probe(chosen="an attentive head", features=seen, members=[one], tried=[one, *probe()["tried"]])
    shown = write(tmp_path, fields)
    assert "It sees the stage layer3 of the frozen network, at places in space and time that it weighs" in shown.text
    assert "1 layer3 1 no attentive head its own 99.00 ± 1.00 0.100 yes" in shown.text


@pytest.mark.parametrize("kept", [False, True])
def test_fine_tuning_shows_both_networks_and_which_was_kept(tmp_path, kept):
    shown = write(tmp_path, probe(), fine_tuning={**TUNED, "kept": kept})
    probes, tuned = ("", " kept") if kept else (" kept", "")
    assert f"The probe 50.00 1.250{probes} Fine-tuned for 1,234 steps 75.00 0.812{tuned}" in shown.text
    assert "On 12 training videos that both were fitted without" in shown.text
    assert ("Test videos, by the fine-tuned network" in shown.text) == kept
    assert ("other sections are of it. It was trained without these 12 videos" in shown.text) == kept


def test_without_a_test_side_the_figures_stay_the_probes(tmp_path):
    crossed = {"part": "train", "cross_validation": probe()["cross_validation"]}
    fake_run.write(tmp_path, fake_run.predictions(CLASSES), **crossed, fine_tuning={**TUNED, "kept": True})
    (tmp_path / "probe.json").write_text(json.dumps(probe(test_videos=0)))
    shown = read(report.write(tmp_path))
    assert "other sections are of the probe, by cross-validation" in shown.text
    assert "by the fine-tuned network" not in shown.text
    found = page.build(report.read_run(tmp_path), {"wrong": [], "right": []}, "")
    assert "scored by the probes that did not see them" in found


def test_names_in_probe_json_are_text(tmp_path):
    fields = probe(chosen="<script>alert(1)</script>")
    fields["tried"][0]["head"] = "<b>new"
    shown = write(tmp_path, fields)
    assert "script" not in shown.tags and "<script>alert(1)</script>" in shown.text and "<b>new 0.3" in shown.text


@pytest.mark.parametrize(
    "content, said",
    [
        (b"{", "not readable as JSON"),
        (b"[]", "a list instead of an object"),
        (b"{}", "no key features"),
        (json.dumps(probe(groups="many")).encode(), "not what a probe writes"),
        (json.dumps(probe(tried=[{"stages": ["layer4"]}])).encode(), "no key bins"),
        (json.dumps(probe(features=3)).encode(), "not what a probe writes"),
    ],
)
def test_a_damaged_probe_json_is_one_line(tmp_path, content, said):
    write(tmp_path, probe())
    (tmp_path / "probe.json").write_bytes(content)
    with pytest.raises(UserError) as error:
        report.write(tmp_path)
    line = str(error.value)
    assert "probe.json: " in line and said in line and "fit the probe again" in line and "\n" not in line


def test_damaged_fine_tuning_names_results_json(tmp_path):
    with pytest.raises(UserError, match=r"results.json: no key cross_entropy"):
        write(tmp_path, probe(), fine_tuning={"kept": True, "top1": 0.5})
