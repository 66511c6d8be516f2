"""The benchmarks of layers, scaling and the whole loop: what they count and reckon. Speed is never asserted."""

import collections
import json
import sys

import jax
import pytest
from flax import nnx
from paths import ROOT

from r23d_jax import models
from r23d_jax.errors import UserError
from r23d_jax.models import summary
from r23d_jax.models.ops import formulations, hardware

sys.path.insert(0, str(ROOT / "benchmarks"))

import layers  # noqa: E402
import scaling  # noqa: E402
import training  # noqa: E402


def test_the_layers_of_a_network_are_counted_and_the_choice_is_left_as_it_was():
    before = hardware.policy()

    def create():
        return models.create("r3d_18", 5, rngs=nnx.Rngs(0), width=8)

    found = layers.layers_of(create, (2, 8, 32, 32, 3), "float32")
    assert hardware.policy() is before and found.total() == 1 + 4 * 4 + 3  # stem, blocks, shortcuts
    stem = next(layer for layer in found if layer.kernel[3] == 3)
    assert stem == ((2, 8, 32, 32, 3), (3, 7, 7, 3, 8), (1, 2, 2), ((1, 1), (3, 3), (3, 3)))
    assert stem.output() == (2, 8, 16, 16, 8)
    assert stem.operations() == 2 * 2 * 8 * 16 * 16 * 8 * 3 * 7 * 7 * 3
    gmacs = sum(layer.operations() * count for layer, count in found.items()) / 2 / 2
    whole = summary.cost(create, (8, 32, 32, 3)).nominal_macs
    assert gmacs == pytest.approx(whole - 8 * 8 * 5, rel=1e-6)  # all but the classifier


def test_every_formulation_of_a_layer_is_timed(run, monkeypatch, tmp_path):
    path = tmp_path / "out.json"
    one = layers.Layer((1, 4, 6, 6, 4), (1, 3, 3, 4, 8), (1, 1, 1), ((0, 0), (1, 1), (1, 1)))
    monkeypatch.setattr(layers, "layers_of", lambda *_: collections.Counter([one, one]))

    def broken(*_):
        raise ValueError("not for\nthis")

    monkeypatch.setitem(layers.FORMULATIONS, "broken", broken)
    status, out, _ = run(layers.main, "--arch", "r3d_18", "--rounds", "1", "--seconds", "0.0001", "--json", path)
    (record,) = json.loads(path.read_text())["layers"]
    assert status == 0 and record["times"] == 2 and record["chosen"] == "folded"
    fitting = {"native", "folded", "shifted", "stacked_inputs", "stacked_outputs", "winograd.spatial"}
    assert set(record["seconds"]) == fitting and "| folded * |" in out
    assert all(record["seconds"][name][act] > 0 for name in fitting for act in layers.ACTS)
    assert record["left_out"] == ["broken: not for this"] and "left out: broken: not for this" in out


def test_a_gradient_is_that_of_the_layer():
    layer = layers.Layer((1, 4, 6, 6, 4), (3, 3, 3, 4, 8), (1, 2, 2), ((1, 1),) * 3)
    assert (
        layer.output()
        == jax.eval_shape(
            lambda x, k: formulations.native(x, k, layer.strides, layer.padding),
            jax.ShapeDtypeStruct(layer.shape, "float32"),
            jax.ShapeDtypeStruct(layer.kernel, "float32"),
        ).shape
    )
    made = layers.programs(formulations.shifted, layer, "float32")
    program, *_ = made["kernel gradient"].args
    assert program.out_info.shape == layer.kernel
    assert made["input gradient"].args[0].out_info.shape == layer.shape


def test_cost_in_proportion_is_one(run, monkeypatch, tmp_path):
    def measure(config, parts, rounds, seconds):
        rate = 4096 / (config.clip.frames * config.clip.size**2)
        return {"inference_clips_per_s": 3 * rate, "train_clips_per_s": rate / (2 if config.clip.size == 64 else 1)}

    monkeypatch.setattr(scaling, "measure", measure)
    path = tmp_path / "out.json"
    arguments = ("--only", "batch,frames,size", "--clip", "8x32x32", "--sizes", "64", "--json", path)
    assert run(scaling.main, *arguments)[0] == 0
    found = json.loads(path.read_text())
    assert [row["batch"] for row in found["batch"]] == [1, 2, 4, 8]
    for part in ("batch", "frames", "size"):
        assert all(row["inference of linear"] == pytest.approx(1) for row in found[part])
    assert [row["train of linear"] for row in found["size"]] == pytest.approx([1, 0.5])
    status, _, err = run(scaling.main, "--only", "batch,colour")
    assert status != 0 and "batch,frames,size,devices,cache,memory" in err


def test_the_hours_are_of_all_lines_but_the_first():
    lines = [
        {"seconds": 100.0, "clips_per_second": 0.1, "data_wait": 0.9},
        {"seconds": 104.0, "clips_per_second": 10.0, "data_wait": 0.0},
        {"seconds": 105.0, "clips_per_second": 20.0, "data_wait": 0.5},
    ]
    found = training.figures(lines)
    assert found["clips_per_s"] == pytest.approx(60 / 5) and (found["least"], found["largest"]) == (10, 20)
    assert found["hours_for_300_epochs_of_ucf101"] == pytest.approx(300 * 9537 / 12 / 3600)
    with pytest.raises(UserError, match="more --steps"):
        training.figures(lines[:1])
