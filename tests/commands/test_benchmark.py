"""`benchmark`: what it writes, and that its figures are of the config it was given. Speed is never asserted."""

import json

import fake_data
import pytest

from r23d_jax import benchmark
from r23d_jax.errors import UserError
from r23d_jax.training import speed

SMALL = ("--arch", "f_r2d_18", "--batch", "2", "--clip", "4x16x16", "--rounds", "2", "--seconds", "0.05")
SMALL += ("--config.model.width=4", "--config.model.layers=1,1,1,1", "--config.clip.resize=20,24")
CONTRACT = (
    "arch batch clip dtype device inference_clips_per_s train_clips_per_s compile_s peak_bytes tflops mfu"
).split()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    fake_data.write(root)
    return root


@pytest.fixture
def shell(run, monkeypatch):
    monkeypatch.setitem(speed._MATMUL, "cpu", 64)
    return lambda *arguments: run(benchmark.main, *arguments)


def test_every_part_is_measured(shell, data_dir, tmp_path):
    path = tmp_path / "new" / "out.json"
    status, out, _ = shell(*SMALL, f"--config.dataset.data_dir={data_dir}", "--json", path)
    result = json.loads(path.read_text())
    assert status == 0 and set(CONTRACT) <= set(result)
    assert (result["arch"], result["batch"], result["clip"], result["dtype"]) == ("f_r2d_18", 2, "4x16x16", "float32")
    for name in (*CONTRACT[5:], "loader_clips_per_s", "transfer_clips_per_s", "matmul_tflops"):
        assert result[name] > 0, name
    assert result["tflops"] == pytest.approx(6 * result["gmacs_per_clip"] * result["train_clips_per_s"] / 1e3)
    assert result["mfu"] == pytest.approx(result["tflops"] / result["matmul_tflops"])
    assert result["transfer_bytes_per_s"] == pytest.approx(result["transfer_clips_per_s"] * 4 * 20 * 24 * 3)
    slowest = min(
        ("training step", "train"),
        ("loader", "loader"),
        ("transfer", "transfer"),
        key=lambda name: result[f"{name[1]}_clips_per_s"],
    )
    assert f"the slowest is the {slowest[0]}" in out
    for name, (low, high) in result["spread"].items():
        assert 0 < low <= high, name


def test_without_a_data_set_the_rest_is_measured(shell, tmp_path):
    status, out, _ = shell(*SMALL, f"--config.dataset.data_dir={tmp_path}", "--json", "-")
    result = json.loads(out)
    assert status == 0 and result["loader_clips_per_s"] is None and result["train_clips_per_s"] > 0
    status, _, err = shell(*SMALL, f"--config.dataset.data_dir={tmp_path}", "--only", "loader")
    assert status == 1 and "no such data set" in err and err.count("\n") == 1


def test_one_part_alone(shell, data_dir):
    status, out, _ = shell(*SMALL, f"--config.dataset.data_dir={data_dir}", "--only", "loader", "--json", "-")
    result = json.loads(out)
    assert status == 0 and result["loader_clips_per_s"] > 0 and result["train_clips_per_s"] is None
    assert result["dataset"] == "tfds_ucf101/rgb/1.1.0"


@pytest.mark.parametrize(
    "clip", ["16x112", "16x112x96", "0x8x8", "axbxc", "16x112x112x3", "²x112x112", "1" * 5000 + "x8x8"]
)
def test_clips_it_cannot_be(clip):
    with pytest.raises(UserError, match=f"--clip {clip}: write frames, height and width"):
        benchmark.parse(["--clip", clip])


def test_the_frames_grow_with_the_clip():
    _, overrides = benchmark.parse(["--clip", "64x224x224"])
    assert overrides == ["clip.frames=64", "clip.size=224", "clip.resize=256,342"]
    _, overrides = benchmark.parse(["--clip", "64x224x224", "--config.clip.resize=256"])
    assert overrides == ["clip.resize=256", "clip.frames=64", "clip.size=224"]
