"""`convert --preprocessing`: by name or from a file, for weights that do not say theirs."""

import json

import pytest
import torch
import torch_sources as sources

from r23d_jax import convert
from r23d_jax.errors import UserError
from r23d_jax.weights import card as cards
from r23d_jax.weights import presets
from r23d_jax.weights.families import datasets


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of the study's script: torchvision's names, 101 classes, epoch and score beside."""
    network = sources.narrow(sources.video_resnet("33333", classes=101, epsilon=1e-5))
    path = tmp_path_factory.mktemp("weights") / "study.pth"
    torch.save({"epoch": 7, "state_dict": network.state_dict(), "acc": 0.5}, path)
    return path


def converted(weights, folder, given):
    convert.main([str(weights), str(folder), "--arch", "r3d_18", "--preprocessing", given])
    return cards.read_card(folder)


def test_the_studys_own_checkpoints(weights, tmp_path, capsys):
    card = converted(weights, tmp_path / "w", "study")
    assert card.preprocessing.mean == card.preprocessing.std == (0.5 / 255,) * 3
    assert (card.preprocessing.resize, card.preprocessing.crop, card.preprocessing.frames) == (136, 112, 16)
    assert card.labels == datasets.ucf101() and card.labels[34:36] == ("Hammering", "HammerThrow")
    said = capsys.readouterr().out
    assert "preprocessing by --preprocessing study" in said
    assert "taken off the names: the wrapper state_dict" in said and "not looked at: epoch, acc" in said


def test_one_clip_over_the_whole_video(weights, tmp_path):
    card = converted(weights, tmp_path / "w", "ucf101-linspace")
    assert card.preprocessing.sampling == "linspace" and card.preprocessing.fps is None
    assert card.labels == tuple(sorted(datasets.ucf101())) and card.labels.index("HammerThrow") == 34


def test_some_fields_from_a_file_and_the_others_as_the_family_says(weights, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"mean": [0.1, 0.2, 0.3], "resize": [128, 128], "fps": 12}))
    card = converted(weights, tmp_path / "w", str(path))
    assert card.preprocessing.mean == (0.1, 0.2, 0.3) and card.preprocessing.resize == (128, 128)
    assert card.preprocessing.fps == 12 and card.preprocessing.crop == 112 and card.labels == ()


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "mine.json: not readable as preprocessing .*No such file"),
        ("[", "not readable as preprocessing"),
        ("[1]", "not an object"),
        ('{"means": 1}', "no field is called 'means'; there are channels, crop"),
        ('{"mean": [1]}', "mine.json: std cannot be what it says for r3d_18 of 3 channels"),
        ('{"resize": "big"}', "resize cannot be what it says"),
        ('{"sampling": "sparse"}', "sampling cannot be what it says"),
        ('{"std": 3}', "mine.json: .*std=3: must be a list, one number a channel"),
        ('{"crop": 224, "resize": 128}', "crop and resize cannot be what it says"),
        ('{"frames": 0, "sampling": "linspace"}', "sampling cannot be what it says"),
        ('{"sampling": "fitted"}', "sampling cannot be what it says"),
    ],
)
def test_a_bad_file_is_one_line_and_nothing_is_written(weights, tmp_path, content, message):
    path = tmp_path / "mine.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        converted(weights, tmp_path / "w", str(path))
    assert "\n" not in str(error.value) and not (tmp_path / "w").exists()


def test_an_unknown_name_lists_those_there_are(weights, tmp_path):
    with pytest.raises(UserError, match="--preprocessing torch: neither a .json file nor one of torchvision, vmz"):
        converted(weights, tmp_path / "w", "torch")


def test_every_preset_is_whole():
    for preset in presets.PRESETS.values():
        channels = 2 if preset.fields["channels"] == "flow" else 3
        assert len(preset.fields["mean"]) == len(preset.fields["std"]) == channels
        assert preset.labels is None or len(set(preset.labels())) == 101
