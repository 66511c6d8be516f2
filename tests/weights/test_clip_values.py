"""Weights bring their preprocessing: what a config leaves open is as their card says, what it sets is named."""

import dataclasses

import pytest

from r23d_jax import config as configs
from r23d_jax import models
from r23d_jax.errors import UserError
from r23d_jax.transforms import spec as specs
from r23d_jax.transforms.spec import FARNEBACK, KINETICS, Preprocessing
from r23d_jax.weights import clip_values, registry

CARD = Preprocessing(resize=256, crop=224, frames=32, stride=2, fps=12.5, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))


def load(*overrides):
    return configs.load("common", overrides)


def test_what_the_config_leaves_open_is_as_the_weights_say():
    config, lines = clip_values.resolve(load(), "rgb", None, CARD)
    assert specs.from_config(config) == CARD and config.eval.views == "dense"
    assert lines == [
        "clip as the weights say: 32 frames of stride 2 at 12.5 frames/s; frames of short side 256, crop 224x224; "
        "mean 0.1 0.2 0.3, std 0.4 0.5 0.6"
    ]
    assert clip_values.resolve(config, "rgb", None, CARD)[0] == config


@pytest.mark.parametrize(
    "override, said",
    [
        ("clip.frames=8", "clip.frames=8 by the config; the weights say 32"),
        ("clip.stride=1", "clip.stride=1 by the config; the weights say 2"),
        ("clip.fps=25", "clip.fps=25.0 by the config; the weights say 12.5"),
        ("clip.fps=0", "clip.fps=the video's own rate by the config; the weights say 12.5"),
        ("clip.size=112", "clip.size=112 by the config; the weights say 224"),
        ("clip.resize=(224,300)", "clip.resize=224x300 by the config; the weights say short side 256"),
        ("clip.sampling=linspace", "clip.sampling=linspace by the config; the weights say dense"),
        ("clip.mean=(0.5,0.5,0.5)", "clip.mean=0.5 0.5 0.5 by the config; the weights say 0.1 0.2 0.3"),
        ("clip.std=(1,1,1)", "clip.std=1 1 1 by the config; the weights say 0.4 0.5 0.6"),
    ],
)
def test_what_the_config_sets_wins_and_is_named(override, said):
    config, lines = clip_values.resolve(load(override), "rgb", None, CARD)
    assert lines[1:] == [said]
    key = override.partition("=")[0].removeprefix("clip.")
    found = specs.from_config(config)
    differ = [
        field.name for field in dataclasses.fields(CARD) if getattr(found, field.name) != getattr(CARD, field.name)
    ]
    assert differ == ["crop" if key == "size" else key]


def test_a_value_that_is_the_weights_own_is_not_named():
    assert len(clip_values.resolve(load("clip.size=224", "clip.resize=256,"), "rgb", None, CARD)[1]) == 1


@pytest.mark.parametrize("name", models.NAMES)
def test_from_nothing_it_is_the_networks_own(name):
    for channels, count in (("rgb", 3), ("flow", 2)):
        config, lines = clip_values.resolve(load(f"arch={name}"), channels, None)
        assert lines == [] and len(config.clip.mean) == len(config.clip.std) == count
        assert all(config.clip[key] is not None for key in config.clip) and config.clip.fps == 0
        spec = specs.from_config(config, channels)
        assert spec == dataclasses.replace(models.get(name).preprocessing[channels], flow=None)


def test_networks_own_values():
    def own(arch, channels="rgb"):
        return models.get(arch).preprocessing[channels]

    assert own("r2plus3d_18") == Preprocessing((128, 171), 112, 16, **KINETICS)
    assert own("r2plus1d_34").frames == 32
    assert own("i3d") == Preprocessing(256, 224, 64) and own("i3d", "flow").mean == (0.5, 0.5)
    assert own("resnet18_2d3d_full") == Preprocessing(136, 112, 16)
    assert own("hara_r3d_50").mean == (0.4345, 0.4051, 0.3775) and own("hara_r3d_50").resize == 112
    flow = own("r2plus1d_34", "flow")
    assert (flow.mean, flow.std) == (FARNEBACK["mean"], FARNEBACK["std"])
    assert flow.mean == pytest.approx((0.50011659, 0.50011565)) and flow.std == pytest.approx((0.02430868, 0.01887865))


def test_weights_for_whole_videos_train_on_clips_of_the_networks_length_and_are_evaluated_whole():
    whole = dataclasses.replace(CARD, frames=0)
    config, lines = clip_values.resolve(load("arch=i3d"), "rgb", None, whole)
    assert config.clip.frames == 64 and config.eval.views == "dense"
    assert lines[-1] == "clips of 64 frames, the network's own: these weights were trained for whole videos"
    spec, views, lines = clip_values.evaluated(load("arch=i3d"), whole)
    assert views == "whole" and lines == [] and spec == dataclasses.replace(whole, frames=64)
    spec, views, lines = clip_values.evaluated(load("arch=i3d", "clip.frames=16"), whole)
    assert (views, spec.frames) == ("dense", 16)
    assert lines == ["clip.frames=16 by the config; the weights say whole videos"]
    assert clip_values.evaluated(load("arch=i3d", "clip.sampling=linspace"), whole)[1] == "linspace"


def test_weights_for_fitted_videos_train_on_dense_clips_and_are_evaluated_fitted():
    fitted = dataclasses.replace(CARD, frames=0, max_frames=96, sampling="fitted")
    config, lines = clip_values.resolve(load("arch=i3d"), "rgb", None, fitted)
    assert (config.clip.frames, config.clip.sampling, config.eval.views) == (64, "dense", "dense")
    assert lines[-2:] == [
        "clips of 64 frames, the network's own: these weights were trained for whole videos",
        "clip.sampling=dense: these weights say fitted, which is for evaluation",
    ]
    for trained_here in (False, True):
        spec, views, lines = clip_values.evaluated(load("arch=i3d"), fitted, trained_here)
        assert views == "fitted" and lines == []
        assert spec == dataclasses.replace(fitted, frames=64, sampling="dense")
    assert clip_values.evaluated(load("arch=i3d", "eval.views=whole"), fitted)[1] == "whole"
    spec, views, lines = clip_values.evaluated(load("arch=i3d", "clip.frames=16"), fitted)
    assert (views, spec.frames, spec.sampling) == ("dense", 16, "dense")
    assert clip_values.evaluated(load("arch=i3d", "clip.sampling=linspace"), fitted)[1] == "linspace"


def test_of_a_checkpoint_that_was_trained_here_the_card_decides():
    spec, views, lines = clip_values.evaluated(load("clip.frames=8", "clip.stride=2", "clip.fps=0"), CARD, True)
    assert spec == CARD and views == "dense"
    assert lines == [
        "clip.frames=8 has no effect; the checkpoint was trained with 32",
        "clip.fps=the video's own rate has no effect; the checkpoint was trained with 12.5",
    ]


def test_views_follow_the_sampling():
    spread = dataclasses.replace(CARD, sampling="linspace")
    assert clip_values.evaluated(load(), spread)[1] == "linspace"
    assert clip_values.evaluated(load("eval.views=10"), spread)[1] == 10
    assert clip_values.resolve(load("clip.sampling=segments"))[0].eval.views == "segments"


def test_statistics_of_another_input_are_the_networks():
    config, lines = clip_values.resolve(load("arch=i3d"), "flow", "tvl1", CARD)
    assert lines[1] == "mean 0.5 0.5, std 0.5 0.5: the network's own for flow"
    assert config.clip.mean == (0.5, 0.5) and config.clip.size == 224 and config.clip.fps == 12.5


def test_a_crop_larger_than_the_frames_is_told_with_both():
    with pytest.raises(UserError, match=r"config.clip.resize=\(128, 171\): .*none below clip.size=224"):
        clip_values.resolve(load("clip.size=224"))


def test_published_weights_need_not_be_there(monkeypatch):
    monkeypatch.setattr(clip_values.loading, "load_flat", None)
    name = "vmz-r2plus1d_34-32-flow-sports1m-kinetics400"
    config = clip_values.of_config(configs.load("vmz:flow"))
    assert config.init_from == name
    found = specs.from_config(config, "flow", "farneback")
    assert found == registry.get(name).preprocessing and found.frames == 32


@pytest.mark.parametrize(
    "name, channels", [("tfds_ucf101/flow256", "flow"), ("flow", "flow"), ("tfds_ucf101/rgb", "rgb")]
)
def test_the_input_is_known_by_the_data_sets_name(name, channels):
    assert clip_values.stream(load(f"dataset.name={name}")) == channels
