"""The eleven rows: configs that load at full and at reduced size, weights that are published, results that fit them."""

import importlib.util

import fake_data
import numpy as np
import pytest
from paths import ROOT

from r23d_jax import config as configs
from r23d_jax import models
from r23d_jax.data import records
from r23d_jax.errors import UserError
from r23d_jax.experiments import rows
from r23d_jax.training import setup
from r23d_jax.training.initial import initial_weights
from r23d_jax.transforms.spec import from_config
from r23d_jax.weights import architecture, clip_values, loading, registry
from tfds_ucf101 import config as builds

REDUCED = ("clip.frames=8", "clip.size=32", "clip.resize=36,48", "model.width=4", "epochs=2", "batch_size=8")
SINGLE, FUSED = (1, 2, 3, 5, 6, 8, 9, 11), (4, 7, 10)


def load_benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_rows", ROOT / "benchmarks" / "rows.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("number", SINGLE)
def test_a_row_loads_with_published_weights_and_a_named_build(number):
    config = clip_values.of_config(configs.load(f"rows:{number}"))
    frames, size = (64, 224) if number < 4 else (16, 112) if number == 11 else (32, 112)
    assert (config.clip.frames, config.clip.size) == (frames, size) and config.arch in models.NAMES
    assert config.dataset.name.removeprefix("tfds_ucf101/") in builds.NAMED
    flow = config.dataset.name.startswith("tfds_ucf101/flow")
    assert len(config.clip.mean) == len(config.clip.std) == (2 if flow else 3) == (2 if number in (3, 6, 9) else 3)
    assert (config.init_from == "") == (number in (1, 5, 6))
    if config.init_from:
        published = registry.get(config.init_from)
        assert models.canonical(published.arch) == models.canonical(config.arch)
        image = published.pretrained.endswith("2D")
        assert image or (published.preprocessing.channels == "flow") == flow
        if flow and not image:  # VMZ's own statistics
            np.testing.assert_allclose(config.clip.mean, published.preprocessing.mean, atol=1e-6)
            np.testing.assert_allclose(config.clip.std, published.preprocessing.std, atol=1e-6)
    small = configs.load(f"rows:{number}", REDUCED)
    assert (small.model.width, small.clip.size, small.clip.resize) == (4, 32, (36, 48))
    # Its rate goes with the batch.
    assert small.lr_batch == config.batch_size


@pytest.mark.parametrize("number", FUSED)
def test_a_two_stream_row_is_two_other_rows(number):
    config = configs.load(f"rows:{number}", REDUCED)
    streams = configs.load_streams(config, REDUCED)
    assert list(streams) == ["rgb", "flow"] and config.streams == (f"rows:{number - 2}", f"rows:{number - 1}")
    for stream, source in zip(streams.values(), config.streams, strict=True):
        assert stream == configs.load(source, REDUCED)


def test_a_row_that_is_not_one_is_refused():
    with pytest.raises(UserError, match="rows:12: no such argument"):
        configs.load("rows:12")
    with pytest.raises(UserError, match="i3d:depth: no such argument"):
        configs.load("i3d:depth")


def test_the_docstring_has_each_rows_start_data_and_bound():
    lines = (ROOT / "configs" / "rows.py").read_text().split('"""')[1].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    table = {int(number): rest for number, *rest in cells if number.isdigit()}
    seconds = {}
    for number in SINGLE:
        config, (_, start, data, gmac, _) = configs.load(f"rows:{number}"), table[number]
        assert config.init_from == ("" if start == "nothing" else start.split(" (")[0].split(",")[0])
        assert config.dataset.name == f"tfds_ucf101/{data}"
        seconds[number] = config.epochs * 9537 * 6e9 * float(gmac) / 790e12
    seconds |= {number: seconds[number - 2] + seconds[number - 1] for number in FUSED}
    assert table.keys() == seconds.keys() == {row.number for row in rows.STUDY}
    for number, (*_, bound) in table.items():
        assert abs(float(bound.removesuffix(" min")) - seconds[number] / 60) < 0.6


def test_results_fit_their_row_and_no_other():
    results = {}
    for number in SINGLE:
        config = configs.load(f"rows:{number}")
        kind = "flow (tvl1)" if number == 3 else "flow (farneback)" if number in (6, 9) else "rgb"
        results[number] = {"arch": config.arch, "input": kind, "init": config.init_from or "scratch"}
    for number in FUSED:
        results[number] = {"arch": "x", "streams": [results[number - 2], results[number - 1]]}
    for number, result in results.items():
        assert rows.row_of(result) == number
    assert rows.row_of({**results[8], "init": "/downloads/r2.5d_d34_l32_ft_sports1m.pkl"}) == 8
    assert rows.row_of({**results[8], "init": "scratch"}) == 5
    assert rows.row_of({**results[8], "init": "weights/mine"}) is None
    assert rows.row_of({"arch": "x", "streams": [results[2], results[6]]}) is None


# --- synthetic weights, at a width the published ones do not have -------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    same = {"classes": 3, "groups": 6, "height": 24, "width": 28}
    fake_data.write(folder, "rgb", frames=9, **same)
    fake_data.write(folder, "flow", frames=8, flow="tvl1", **same)
    fake_data.write(folder, "farneback", frames=8, flow="farneback", **same)
    return folder


@pytest.mark.parametrize("number", [3, pytest.param(8, marks=pytest.mark.slow), 9, 11])
def test_synthetic_weights_start_a_reduced_row(number, data, tmp_path):
    """From a file of the published kind to the network's initial weights, for the network and input of the row."""
    config = clip_values.of_config(configs.load(f"rows:{number}", REDUCED))
    name = {3: "flow", 9: "farneback"}.get(number, "rgb")
    channels = 2 if number == 9 else 3
    path = load_benchmark().initial_weights(tmp_path, config.init_from, config.arch, 4, channels, 32)
    source, origin = loading.load_flat(path, config.arch)
    dataset = records.VideoDataset.open(data, name)
    arguments = setup.model_arguments(config, 3, dataset.num_channels, origin)
    leaves = models.flatten(architecture.abstract(config.arch, arguments))
    target = {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in leaves.items()}
    spec = from_config(config, dataset.channels, dataset.flow)
    weights, lines = initial_weights(config, target, "fc", dataset.class_names, spec, source, origin)
    assert weights.keys() == target.keys() and all(weights[key].shape == target[key].shape for key in target)
    stem = weights.get("Conv3d_1a_7x7.conv3d.kernel", weights.get("stem.0.kernel"))
    own = source.get("Conv3d_1a_7x7.conv3d.kernel", source.get("stem.0.kernel"))
    if number == 3:  # ImageNet into flow: over time repeated, over channels averaged
        np.testing.assert_array_equal(stem, own.mean(3, keepdims=True).repeat(2, 3))
        np.testing.assert_array_equal(stem[0], stem[6])
        assert any("averaged over its 3 input channels" in line for line in lines)
    else:
        np.testing.assert_array_equal(stem, own)
    wide = configs.load(f"rows:{number}", [*REDUCED, "model.width=8"])
    with pytest.raises(UserError, match="a network of width 4, here config.model.width is 8: set it to 4"):
        initial_weights(wide, target, "fc", dataset.class_names, spec, source, origin)
