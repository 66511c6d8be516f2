"""The tables of names work in both directions and say no to what they do not know; labels files; cards."""

import dataclasses
import json

import numpy as np
import pytest

from r23d_jax import convert, models
from r23d_jax.errors import UserError
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights import adapt, architecture, exporting, families, importing, loading, mapping
from r23d_jax.weights.card import Card
from r23d_jax.weights.mapping import TORCH, Rule, Table

SMALL = {"num_classes": 3, "in_channels": 3, "frames": 8, "dropout": 0.0, "width": 8}


def card(arch, **fields):
    return Card(
        arch=arch,
        model=dict(SMALL),
        labels=("a", "b", "c"),
        preprocessing=Preprocessing(None, None, 8),
        **fields,
    )


def values_of(arch):
    rng = np.random.default_rng(0)
    shapes = models.flatten(architecture.abstract(arch, SMALL))
    return {path: rng.normal(size=leaf.shape).astype(np.float32) for path, leaf in shapes.items()}


@pytest.mark.parametrize("arch", [name for name in models.NAMES if name not in models.ALIASES])
def test_every_network_goes_out_and_comes_back(tmp_path, arch):
    """Every leaf of every network has exactly one PyTorch name, and that name leads back to it."""
    values = values_of(arch)
    state, _ = exporting.to_state_dict(values, card(arch))
    family, table = families.recognise(state, arch)
    back, unused, errors = table.convert(state)
    assert not errors and list(unused) == ["BatchNorm counters"] and back.keys() == values.keys()
    assert all(np.array_equal(back[path], values[path]) for path in values)
    assert models.canonical(arch) in family.archs


@pytest.mark.parametrize("arch", [name for name in models.NAMES if name not in models.ALIASES])
def test_every_network_is_read_off_its_shapes(arch):
    entry = models.get(arch)
    shapes = {path: value.shape for path, value in values_of(arch).items()}
    assert entry.fits(shapes, any_size=True) and not entry.fits(shapes, any_size=False)
    fixed = {"frames": 8} if entry.fixed_frames else {}
    assert architecture.options(arch, shapes) == {"num_classes": 3, "in_channels": 3, "width": 8, **fixed}


def test_rules_are_exact():
    table = Table(
        [Rule("a.{i}.conv", "b.{i}", "conv"), Rule("a.{i}.{name:[a-z]+}", "c.{name:[a-z]+}", "conv")],
        TORCH,
        {r"x\..*": "of no use"},
    )
    assert table.to_ours("a.3.other.weight") == ("c.other.kernel", "conv")
    assert table.to_source("b.12.kernel") == ("a.12.conv.weight", "conv")
    with pytest.raises(KeyError, match="ambiguous, could be b.1.kernel or c.conv.kernel"):
        table.to_ours("a.1.conv.weight")
    with pytest.raises(KeyError, match="not a tensor of this family"):
        table.to_ours("a.1.conv.bias")
    _, unused, errors = table.convert(
        {"x.y": np.zeros(1), "a.1.p.weight": np.zeros((1,) * 5), "a.2.p.weight": np.zeros((1,) * 5), "q": np.zeros(1)}
    )
    assert unused == {"of no use": ["x.y"]}
    assert errors == ["a.2.p.weight and a.1.p.weight are both c.p.kernel", "q: not a tensor of this family"]


def test_layouts_are_inverses():
    rng = np.random.default_rng(0)
    shapes = {
        "conv": (2, 3, 4, 5, 6),
        "conv2d": (2, 3, 4, 5),
        "linear": (2, 3),
        "pointwise": (2, 3, 1, 1, 1),
        "pointwise2d": (2, 3, 1, 1),
    }
    for scheme in (mapping.TORCH, mapping.SONNET):
        for kind, shape in shapes.items():
            shape = shape if scheme.out_first else (*shape[2:], *shape[:2])
            table = Table([Rule("s", "o", kind)], scheme)
            name = "s" + scheme.leaves(kind)["kernel"]
            value = rng.normal(size=shape).astype(np.float32)
            ours, _, errors = table.convert({name: value})
            assert not errors and ours["o.kernel"].shape[-2:] == ((3, 2) if scheme.out_first else shape[-2:])
            theirs, errors = table.export(ours)
            assert not errors and np.array_equal(theirs[name], value)


def test_export_says_what_has_no_name():
    values = {**values_of("mc3_18"), "extra.kernel": np.zeros((1, 1), np.float32)}
    with pytest.raises(UserError, match="cannot be written with the names of torchvision: extra.kernel"):
        exporting.to_state_dict(values, card("mc3_18"))


def test_a_head_has_no_place_in_another_projects_network():
    """Not even a linear one, which has no tensors of its own."""
    head = {"stages": ["layer3", "layer4"], "bins": 2}
    with pytest.raises(UserError, match="mc3_18: cannot be .* of torchvision, .* a linear head on layer3, layer4;"):
        exporting.to_state_dict(values_of("mc3_18"), dataclasses.replace(card("mc3_18"), model={**SMALL, "head": head}))


def test_epsilon_is_told_on_the_way_out():
    _, notes = exporting.to_state_dict(values_of("mc3_18"), card("mc3_18", bn_epsilon=1e-3))
    assert any("epsilon 0.001 in every BatchNorm" in note for note in notes)
    assert len(exporting.to_state_dict(values_of("mc3_18"), card("mc3_18"))[1]) == 1


def test_a_network_with_dropout_is_loaded_with_a_stream_for_it():
    values = values_of("mc3_18")
    model = loading.build(dataclasses.replace(card("mc3_18"), model={**SMALL, "dropout": 0.5}), values)
    assert all(np.array_equal(value, values[name]) for name, value in models.flatten(model).items())
    assert model.dropout == 0.5 and model.deterministic and model.dropout_rngs() != model.dropout_rngs()


def test_labels_files(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("playing cricket\r\n\r\n 2 guitars\r\n")
    assert importing.read_labels(path) == ("playing cricket", "2 guitars")
    path.write_text("1 ApplyEyeMakeup\r\n2 ApplyLipstick\r\n")
    assert importing.read_labels(path) == ("ApplyEyeMakeup", "ApplyLipstick")
    path.write_text("3 steps\n4 steps\n")
    assert importing.read_labels(path) == ("3 steps", "4 steps")
    for text, message in [("", "no names"), ("a\nb\na\n", "more than once in it: a")]:
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            importing.read_labels(path)
    with pytest.raises(UserError, match="not a readable text file"):
        importing.read_labels(tmp_path / "none")


def test_labels_must_fit_and_the_card_keeps_them(tmp_path):
    from safetensors.numpy import save_file

    state, _ = exporting.to_state_dict(values_of("mc3_18"), card("mc3_18"))
    save_file(state, tmp_path / "a.safetensors")
    (tmp_path / "two.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match="--labels: 2 names for 3 classes"):
        convert.load(tmp_path / "a.safetensors", "mc3_18", tmp_path / "two.txt")
    (tmp_path / "three.txt").write_text("jump\nrun\nswim\n")
    arguments = [str(tmp_path / "a.safetensors"), str(tmp_path / "ours"), "--arch", "mc3_18"]
    assert convert.main([*arguments, "--labels", str(tmp_path / "three.txt")]) == 0
    model, again = convert.load(tmp_path / "ours")
    assert again.labels == ("jump", "run", "swim") and not again.published and again.tensors_sha256
    assert again.source["file"] == "a.safetensors" and len(again.source["sha256"]) == 64
    assert json.loads((tmp_path / "ours" / "card.json").read_text())["bn_epsilon"] == 1e-5
    assert not model.stem.__dict__.get("training", False) and model.deterministic
    for other, message in [("r3d_18", "a checkpoint of mc3_18, not of r3d_18")]:
        with pytest.raises(UserError, match=message):
            convert.load(tmp_path / "ours", other)
    with pytest.raises(UserError, match="its own 3 labels"):
        convert.load(tmp_path / "ours", labels=["x", "y", "z"])


def test_a_known_hash_brings_its_card(tmp_path, monkeypatch):
    """A file that is a published one, by its hash: scores, protocol, licence, labels."""
    from safetensors.numpy import save_file

    from r23d_jax.weights import registry

    state, _ = exporting.to_state_dict(values_of("mc3_18"), card("mc3_18"))
    save_file(state, tmp_path / "a.safetensors")
    published = registry.get("torchvision-mc3_18-kinetics400")
    monkeypatch.setattr(registry, "identify", lambda sha256, blob: published)
    loaded = loading.load_flat(tmp_path / "a.safetensors", "mc3_18")[1]
    assert loaded.published == published.scores and loaded.licence == "BSD-3-Clause"
    assert loaded.source["published"] == published.name
    assert "Kinetics-400" in loaded.init


def test_fit_reports_everything():
    report = adapt.Report()
    target = {
        "fc.kernel": np.zeros((2, 3)),
        "a.scale": np.zeros(3),
        "stem.0.kernel": np.zeros((1, 7, 7, 2, 4)),
    }
    source = {"stem.0.kernel": np.ones((3, 7, 7, 3, 4), np.float32)}
    values, errors = adapt.fit(
        source,
        target,
        first_kernel="stem.0.kernel",
        image=False,
        transplant=True,
        fresh=("fc.kernel",),
        implied={"scale": 1.0},
        report=report,
    )
    assert not errors and (values["stem.0.kernel"] == 3).all() and values["a.scale"].tolist() == [1, 1, 1]
    assert report.summed == report.channels == ["stem.0.kernel"] and report.fresh == ["fc.kernel"]
    said = " ".join(report.lines())
    assert "initialised anew: fc.kernel" in said and "averaged over its input channels" in said
