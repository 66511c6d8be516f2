"""Configs: every key documented and read by something, bad values told in one line."""

import dataclasses
import json
import re

import pytest
from paths import ROOT

from r23d_jax import config
from r23d_jax.errors import UserError
from r23d_jax.transforms.clip import Augmentation
from r23d_jax.weights import registry

CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem != "common")


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_loads_by_name_and_by_path(name):
    assert config.load(name) == config.load(str(ROOT / "configs" / f"{name}.py"))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_is_short_and_says_what_it_is(name):
    text = (ROOT / "configs" / f"{name}.py").read_text()
    code = text.split('"""')[2]
    assert text.startswith('"""') and len(code.strip().splitlines()) <= 30


def test_every_key_has_a_comment_or_a_sibling_with_one():
    for line in (ROOT / "configs" / "common.py").read_text().splitlines():
        if re.match(r"    config\.\S+ = (?!ConfigDict)", line):
            key = line.split("=")[0].strip()
            assert "  # " in line or key in UNCOMMENTED, f"{key} has no comment"


UNCOMMENTED = {
    "config.clip.frames",
    "config.clip.std",
    "config.augment.contrast",
    "config.augment.saturation",
    "config.label_smoothing",
}


def test_every_key_is_read_somewhere():
    sources = "".join(p.read_text() for p in (ROOT / "r23d_jax").rglob("*.py") if p.name != "config.py")
    unread = [key for key in config.flatten(config.load("r23d")) if not _is_read(key, sources)]
    assert not unread


def _is_read(key: str, sources: str) -> bool:
    parent, _, leaf = key.rpartition(".")
    if parent == "augment":  # handed over whole: its keys are the fields of that class
        return leaf in {field.name for field in dataclasses.fields(Augmentation)}
    owner = {"": "config", "eval": "options", "optimizer": "options", "schedule": "options"}.get(
        parent, f"config.{parent}"
    )
    return re.search(rf"\b({owner}|config.{parent})\.{leaf}\b", sources) is not None


def test_overrides_keep_the_type_of_the_default():
    c = config.load(
        "r23d",
        [
            "epochs=2",
            "clip.resize=128,171",
            "augment.scales=1",
            "dataset.balanced=true",
            "dataset.split=2",
            "eval.views=10",
            "seed=7",
        ],
    )
    assert c.epochs == 2.0 and isinstance(c.epochs, float)
    assert c.clip.resize == (128, 171) and c.augment.scales == (1,) and c.dataset.balanced is True
    assert c.dataset.split == "2" and c.eval.views == 10 and c.seed == 7


def test_whole_numbers_and_lists_in_a_file_are_floats_and_tuples(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from . import common\n\ndef get_config():\n    c = common.get_config()\n    c.lr = 1\n"
        "    c.clip.fps = 12\n    c.clip.mean = [0.5, 0.5, 0.5]\n    return c\n"
    )
    c = config.load(str(path))
    assert (c.lr, c.clip.fps, c.clip.mean) == (1.0, 12.0, (0.5, 0.5, 0.5)) and type(c.clip.fps) is float


def test_arguments_of_an_optimizer_are_whatever_is_written_and_come_back_from_the_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from . import common\n\ndef get_config():\n    c = common.get_config()\n"
        "    c.optimizer.arguments = {'b1': 0.95, 'name': 'x'}\n    return c\n"
    )
    overrides = ["optimizer.arguments.b1=0.9", "optimizer.arguments.nesterov=true", "schedule.arguments.s=(1,2)"]
    c = config.load(str(path), overrides)
    assert dict(c.optimizer.arguments) == {"b1": 0.9, "name": "x", "nesterov": True}
    flat = config.flatten(c)
    assert flat["optimizer.arguments.b1"] == 0.9 and flat["schedule.arguments.s"] == (1, 2)
    assert config.flatten(config.from_flat(json.loads(json.dumps(flat)))) == flat


@pytest.mark.parametrize(
    "override, words",
    [
        ("clip.framse=8", "did you mean clip.frames?"),
        ("zzz=8", "configs/common.py"),
        ("clip.frames=eight", "must be of type int"),
        ("clip.frames=0", "at least 1"),
        ("clip.frames=8.5", "must be of type int"),
        ("dataset.balanced=maybe", "true or false"),
        ("dtype=float64", "float32, bfloat16, float16"),
        ("eval.part=dev", "test, val, train"),
        ("lr=nan", "at least 0"),
        ("lr=-1", "at least 0"),
        ("clip.resize=100", "none below clip.size=112"),
        ("clip.std=(0,1,1)", "above 0"),
        ("clip.std=(1,1)", "one number a channel"),
        ("eval.views=sparse", '"dense", "segments", "linspace", "whole", "fitted" or a number of at least 1'),
        ("clip.sampling=fitted", "is for evaluation (eval.views); train with dense or linspace"),
        ("augment.scales=a", "numbers only"),
        ("augment.hue=5", "0 to 0.5"),
        ("model.layers=(1,2)", "four whole numbers"),
        ("optimizer.betas=(0.9,)", "must be two"),
        ("schedule.milestones=(2.0,-1)", "between 0 and 1"),
        ("accumulate=3", "multiple of accumulate=3, for example 66"),
        ("epochs=0", "above 0"),
        ("model.dropout=1", "less than 1"),
        ("lr", "no value"),
        ("optimizer.arguments.a.b=1", "the name of one argument"),
        ("schedule.arguments.=1", "the name of one argument"),
    ],
)
def test_a_bad_override_is_one_line_that_names_the_key(override, words):
    with pytest.raises(UserError) as error:
        config.load("r23d", [override])
    key = override.partition("=")[0]
    assert words in str(error.value) and (key in str(error.value)) and "\n" not in str(error.value)


def test_a_config_from_elsewhere_can_use_common(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from . import common\n\ndef get_config(arg='3'):\n    c = common.get_config()\n"
        "    c.seed = int(arg)\n    return c\n"
    )
    assert config.load(str(path)).seed == 3 and config.load(f"{path}:5").seed == 5


def test_a_config_uses_the_files_beside_it_first_and_those_of_no_other(tmp_path):
    for folder, lr in (("a", 0.25), ("b", 0.5)):
        (tmp_path / folder).mkdir()
        base = (
            "from . import scratch\n\ndef get_config():\n    c = scratch.get_config('mc3_18')\n"
            f"    c.lr = {lr}\n    return c\n"
        )
        (tmp_path / folder / "base.py").write_text(base)
        (tmp_path / folder / "mine.py").write_text("from . import base, common\nget_config = base.get_config\n")
    for folder, lr in (("a", 0.25), ("b", 0.5), ("a", 0.25)):
        found = config.load(str(tmp_path / folder / "mine.py"))
        assert (found.lr, found.arch) == (lr, "mc3_18")
    assert config.load("scratch:mc3_18").lr not in (0.25, 0.5)


@pytest.mark.parametrize("text", ["def get_config(:", "import nothing_of_that_name", "x = 1"])
def test_a_broken_config_is_one_line_with_its_path(tmp_path, text):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(UserError, match="broken.py"):
        config.load(str(path))


def test_an_unknown_config_lists_those_there_are():
    with pytest.raises(UserError, match="demo.*r23d"):
        config.load("nothing")


def test_the_config_is_locked():
    c = config.load("r23d")
    with pytest.raises(AttributeError):
        c.new = 1


@pytest.mark.parametrize("row", ["mc3", "r3d"])
def test_published_rows_are_of_the_registry_and_say_its_figures(row):
    c = config.load(f"published:{row}")
    entry = registry.get(c.init_from)
    assert c.arch == entry.arch and c.clip.frames is None and c.eval.views is None
    (line,) = re.findall(rf"^\| {row} .*$", (ROOT / "configs" / "published.py").read_text(), re.M)
    assert entry.name in line and all(f"{score['value']:g}" in line for score in entry.scores)
