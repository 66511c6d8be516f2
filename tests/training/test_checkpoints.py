"""Checkpoints: whole or not there, checked when read; resume and init_from are different acts."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from r23d_jax.errors import UserError
from r23d_jax.training.checkpoints import Checkpoints
from r23d_jax.training.initial import init_from
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights import checkpoint
from r23d_jax.weights.card import Card

CARD = Card("r3d_18", {"num_classes": 2}, ("a", "b"), Preprocessing((128, 171), 112, 16))


def weights(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "layer1.0.conv1.0.kernel": rng.normal(size=(3, 3, 3, 2, 4)).astype(np.float32),
        "layer1.0.conv1.1.mean": rng.normal(size=4).astype(np.float32),
        "fc.kernel": rng.normal(size=(4, 2)).astype(np.float32),
    }


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def test_weights_and_card_there_and_back(tmp_path):
    checkpoint.save_weights(tmp_path / "w", weights(), CARD)
    read, card = checkpoint.load_weights(tmp_path / "w")
    assert same(read, weights())
    assert card.preprocessing == CARD.preprocessing and card.labels == CARD.labels and len(card.tensors_sha256) == 64


def test_an_existing_folder_is_never_overwritten(tmp_path):
    checkpoint.save_weights(tmp_path / "w", weights(), CARD)
    with pytest.raises(UserError, match="exists already"):
        checkpoint.save_weights(tmp_path / "w", weights(1), CARD)
    assert same(checkpoint.load_weights(tmp_path / "w")[0], weights())


def run_with(tmp_path, steps, keep=1):
    checkpoints = Checkpoints(tmp_path, keep)
    for step in steps:
        checkpoints.save(step, weights(step), {"opt": np.float32(step), "step": np.int32(step)}, CARD, {"epoch": 1.5})
    checkpoints.wait()
    return checkpoints


def test_resume_gives_back_the_last_state_in_its_bits(tmp_path):
    run_with(tmp_path, [1, 2, 3]).close()
    read, rest, card, progress = Checkpoints(tmp_path).resume()
    assert card.labels == CARD.labels
    assert same(read, weights(3)) and rest["opt"] == 3 and rest["step"].dtype == np.int32
    assert progress == {"step": 3, "epoch": 1.5, "scores": {}}


def test_newest_and_best_are_kept(tmp_path):
    checkpoints = run_with(tmp_path, [1])
    checkpoints.score(1, 0.9)
    for step, score in ((2, 0.5), (3, 0.7), (4, 0.6)):
        checkpoints.save(step, weights(step), {}, CARD, {})
        checkpoints.score(step, score)
    kept = sorted(p.name for p in (tmp_path / "checkpoints").iterdir() if p.is_dir())
    assert kept == ["00000001", "00000004"]
    assert checkpoint.find(tmp_path).name == "00000001" and checkpoint.find(tmp_path, "last").name == "00000004"


def files_of(folder: Path):
    return sorted(p for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "add"])
def test_any_damaged_file_is_named_and_the_one_before_used(tmp_path, damage, capsys):
    original = run_with(tmp_path / "original", [1, 2], keep=2).root
    for index in range(len(files_of(original / "00000002"))):
        root = tmp_path / f"r{index}" / "checkpoints"
        shutil.copytree(original, root)
        victim = files_of(root / "00000002")[index]
        data = victim.read_bytes()
        if damage == "flip":
            victim.write_bytes(data[:-1] + bytes(byte ^ 1 for byte in data[-1:]))
        elif damage == "truncate":
            victim.write_bytes(data[: len(data) // 2])
        elif damage == "remove":
            victim.unlink()
        else:
            (victim.parent / f"extra{index}").write_text("x")
        if victim.exists() and victim.read_bytes() == data and damage != "add":
            continue  # an empty file has nothing to lose
        if damage == "flip" and victim.name == "checksums.json":
            continue  # its last byte is the newline, which carries nothing
        read, _, _, progress = Checkpoints(tmp_path / f"r{index}", keep=2).resume()
        assert progress["step"] == 1 and same(read, weights(1)), victim
        assert "00000002" in capsys.readouterr().err


def test_what_is_saved_after_a_damaged_one_is_the_newest(tmp_path):
    checkpoints = run_with(tmp_path, [5])
    checkpoints.score(5, 0.9)
    checkpoints.save(10, weights(10), {}, CARD, {})
    checkpoints.wait()
    (checkpoints.root / "00000010" / "card.json").write_text("{")
    again = Checkpoints(tmp_path)
    assert again.resume()[3]["step"] == 5
    again.save(6, weights(6), {}, CARD, {})
    again.wait()
    assert checkpoint.find(tmp_path, "last").name == "00000006"
    assert Checkpoints(tmp_path).resume()[3]["step"] == 6


def test_only_damaged_checkpoints_are_an_error_not_a_fresh_start(tmp_path):
    root = run_with(tmp_path, [1]).root
    (root / "00000001" / "checksums.json").write_text("{")
    with pytest.raises(UserError, match="every checkpoint in it is damaged"):
        Checkpoints(tmp_path).resume()


@pytest.mark.parametrize(
    "damage",
    [lambda s: s.replace(b"0.25", b"0.95"), lambda s: s[:5], lambda _: b"[]", lambda _: b"\xff", lambda _: b'{"a": 1}'],
)
def test_damaged_scores_are_named_and_written_anew(tmp_path, damage, capsys):
    checkpoints = run_with(tmp_path, [1, 2], keep=9)
    for step, top1 in ((1, 0.5), (2, 0.25)):
        checkpoints.score(step, top1)
    checkpoints.save(3, weights(3), {}, CARD, {})
    checkpoints.close()
    path = tmp_path / "checkpoints" / "scores.json"
    good = path.read_bytes()
    path.write_bytes(damage(good))
    with pytest.raises(UserError, match="scores.json: damaged"):
        checkpoint.find(tmp_path)
    assert checkpoint.find(tmp_path, "last").name == "00000003"
    assert Checkpoints(tmp_path).resume()[3]["step"] == 3
    assert "scores.json: damaged" in capsys.readouterr().err
    assert path.read_bytes() == good and checkpoint.find(tmp_path).name == "00000001"


def test_a_swapped_card_is_noticed(tmp_path):
    checkpoint.save_weights(tmp_path / "a", weights(0), CARD)
    checkpoint.save_weights(tmp_path / "b", weights(1), CARD)
    for name in ("card.json", "checksums.json"):
        (tmp_path / "a" / name).write_bytes((tmp_path / "b" / name).read_bytes())
    with pytest.raises(UserError, match="does not match"):
        checkpoint.load_weights(tmp_path / "a")


def test_what_a_killed_save_left_is_swept_away(tmp_path):
    leftover = tmp_path / "checkpoints" / ".writing-00000009"
    leftover.mkdir(parents=True)
    assert Checkpoints(tmp_path).resume() is None and not leftover.exists()


def test_a_full_disk_is_one_line_and_harms_nothing(tmp_path, monkeypatch):
    checkpoints = run_with(tmp_path, [1])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    checkpoints.save(2, weights(2), {}, CARD, {})
    with pytest.raises(UserError, match="No space left on device"):
        checkpoints.wait()
    monkeypatch.undo()
    assert Checkpoints(tmp_path).resume()[3]["step"] == 1


@pytest.mark.parametrize(
    "make", [lambda p: None, lambda p: p.mkdir(), lambda p: (p / "checkpoints").mkdir(parents=True)]
)
def test_what_is_no_checkpoint_is_said(tmp_path, make):
    make(tmp_path / "x")
    with pytest.raises(UserError, match="x: no"):
        checkpoint.find(tmp_path / "x")


def test_a_card_of_another_format_is_said(tmp_path):
    folder = checkpoint.save_weights(tmp_path / "w", weights(), CARD)
    fields = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**fields, "format": 99}))
    with pytest.raises(UserError, match="format 99"):
        checkpoint.load_weights(folder)


def test_init_from_takes_all_but_the_head():
    target, source = weights(1), weights(2)
    result, report = init_from(target, source, "fc", keep_head=False, origin="there")
    assert same(result, {**source, "fc.kernel": target["fc.kernel"]})
    assert "2 tensors loaded; re-initialised: fc.kernel; unused: fc.kernel" in report


def test_init_from_keeps_a_head_of_the_same_labels():
    result, _ = init_from(weights(1), weights(2), "fc", keep_head=True, origin="there")
    assert same(result, weights(2))


def test_init_from_another_network_names_everything_that_does_not_fit():
    target, source = weights(1), weights(2)
    source["layer1.0.conv1.1.mean"] = np.zeros(7, np.float32)
    del source["layer1.0.conv1.0.kernel"]
    source["layer9.kernel"] = np.zeros(1, np.float32)
    with pytest.raises(UserError) as error:
        init_from(target, source, "fc", keep_head=False, origin="there")
    for words in ("layer1.0.conv1.0.kernel is not in it", "mean is [7], here [4]", "layer9.kernel has no place here"):
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("preprocessing", "resize", "large"),
        ("preprocessing", "resize", [128, 0]),
        ("preprocessing", "resize", [20]),
        ("preprocessing", "crop", -1),
        ("preprocessing", "frames", 1.5),
        ("preprocessing", "stride", 0),
        ("preprocessing", "fps", "fast"),
        ("source", "stored", [20, 30, 40]),
        ("preprocessing", "mean", [0.5, None, 0.5]),
        ("preprocessing", "std", [0.5, 0.0, 0.5]),
        ("preprocessing", "channels", "bgr"),
        ("preprocessing", "flow", 3),
        ("model", "num_classes", 10**30),
        ("model", "width", True),
        ("model", "depth", 3),
        ("model", "layers", [1, -1]),
        ("model", "head", {"stages": "layer4"}),
        ("model", "head", {"stages": ["layer4"], "bins": 0}),
        ("model", "head", {"stages": ["layer4"], "bins": 10**30}),
        ("model", "head", {"stages": ["layer4"], "kind": "neighbours", "points": 10**9, "neighbours": 1}),
        ("model", "head", {"stages": ["layer4"], "kind": "attention", "grid": [4096, 4096, 4096]}),
        ("model", "head", {"stages": ["layer4"], "size": 3}),
        ("model", "head", [1]),
        ("source", "stored", "0x0"),
        (None, "labels", ["a", 7]),
        (None, "labels", ["a"]),
        (None, "bn_epsilon", 0),
        (None, "model", []),
        (None, "published", [1]),
        (None, "arch", None),
    ],
)
def test_a_card_that_was_edited_wrongly_is_refused(tmp_path, part, key, value):
    """With its checksum made to fit: a card can come from anywhere."""
    folder = checkpoint.save_weights(tmp_path / "w", {"a": np.zeros(3)}, CARD)
    fields = json.loads((folder / "card.json").read_text())
    (fields[part] if part else fields)[key] = value
    (folder / "card.json").write_text(json.dumps(fields))
    with pytest.raises(UserError, match=rf"card.json: not a readable weights card \(.*{key}"):
        checkpoint.load_weights(folder)


def test_a_card_without_its_number_of_classes_is_refused(tmp_path):
    folder = checkpoint.save_weights(tmp_path / "w", {"a": np.zeros(3)}, CARD)
    fields = json.loads((folder / "card.json").read_text())
    del fields["model"]["num_classes"]
    (folder / "card.json").write_text(json.dumps(fields))
    with pytest.raises(UserError, match="model.num_classes"):
        checkpoint.load_weights(folder)
