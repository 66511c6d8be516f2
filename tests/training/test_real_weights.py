"""Fine-tuning from real weights with nothing but `init_from` and the data set: the card's preprocessing is used."""

import fake_data
import pytest
from paths import needs_real

from r23d_jax import config as configs
from r23d_jax.training import loop
from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights import checkpoint


@pytest.mark.slow
def test_i3d_from_the_file_itself(tmp_path, capsys):
    weights = needs_real("weights/i3d_rgb_kinetics400_scratch.pt")
    fake_data.write(tmp_path / "data", "rgb256", classes=3, groups=3, frames=70, height=256, width=342)
    small = ["batch_size=2", "accumulate=2", "steps=1"]  # what this machine can do; they say nothing of a clip
    config = configs.load("i3d", [f"init_from={weights}", f"dataset.data_dir={tmp_path / 'data'}", *small])
    results = loop.train_and_evaluate(config, tmp_path / "w")
    brought = Preprocessing(resize=256, crop=224, frames=64, fps=25.0)
    assert Preprocessing.from_dict(results["preprocessing"]) == brought
    assert (
        "64-frame clip at 25 frames/s; centre crop 224x224 of frames resized to short side 256" in results["protocol"]
    )
    said = capsys.readouterr().err
    assert "clip as the weights say: all frames of stride 1 at 25 frames/s" in said and "by the config" not in said
    assert "clips of 64 frames, the network's own" in said
    assert checkpoint.load_weights(checkpoint.find(tmp_path / "w"))[1].preprocessing == brought
