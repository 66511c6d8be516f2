"""Config files: loads them by path or name, applies `--config.key=value`, and checks and locks them."""

import ast
import difflib
import functools
import importlib.util
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from r23d_jax.errors import UserError

# The configs are beside the package in a checkout, and inside it after `pip install`.
_HERE = Path(__file__).resolve().parent
CONFIG_DIR = _HERE / "configs" if (_HERE / "configs").is_dir() else _HERE.parent / "configs"

# Inputs of a two-stream run, in the order of `config.streams`.
STREAMS = ("rgb", "flow")
_OF_ONE_STREAM = tuple(f"{stream}." for stream in STREAMS)

# Keys that accept other types than that of their default.
_ALTERNATIVES = {
    "clip.frames": (int, type(None)),
    "clip.stride": (int, type(None)),
    "clip.fps": (float, type(None)),
    "clip.size": (int, type(None)),
    "clip.resize": (int, tuple, type(None)),
    "clip.sampling": (str, type(None)),
    "clip.mean": (tuple, type(None)),
    "clip.std": (tuple, type(None)),
    "eval.views": (int, str, type(None)),
}
_CHOICES = {
    "dtype": ("float32", "bfloat16", "float16"),
    "clip.sampling": (None, "dense", "segments", "linspace"),
    "augment.crop": ("multi_scale", "random_resized", "random", "center"),
    "eval.crops": (1, 3),
    "eval.part": ("test", "val", "train"),
}
_AT_LEAST_ONE = (
    "model.width clip.frames clip.stride clip.size batch_size accumulate log_every prefetch checkpoint.keep"
).split()
_AT_LEAST_ZERO = (
    "model.bn_epsilon augment.brightness augment.contrast augment.saturation augment.hue augment.mixup augment.cutmix "
    "clip.fps epochs steps budget_minutes seed lr lr_batch schedule.warmup_epochs schedule.gamma "
    "optimizer.weight_decay optimizer.clip_norm eval.batch_size eval.max_frames eval.every_epochs "
    "checkpoint.every_steps workers processes"
).split()
_BELOW_ONE = "model.dropout label_smoothing ema optimizer.momentum".split()
_SHARE = "augment.flip optimizer.layer_decay".split()

# Arguments of the network, the augmentation, the optimizer and the schedule, checked when those are created.
_FREE_FORM = ("model.arguments.", "augment.extra.", "optimizer.arguments.", "schedule.arguments.")
_FREE_KINDS = (bool, int, float, str, tuple, type(None))


def load(source: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Loads a config, applies the overrides in order, checks every value and locks it.

    Args:
      source: path of a config file, or the name of one in configs/ (`r23d`); the part after a colon is passed to the
        file's `get_config` (`configs/rows.py:5`).
      overrides: `key=value`, with dots for nested keys.

    Raises:
      UserError: there is no such file or key, or a value is of the wrong type or out of range.
    """
    name, _, argument = source.partition(":")
    return changed(_get_config(_find(name), argument), overrides)


def changed(config: ConfigDict, overrides: Sequence[str] = ()) -> ConfigDict:
    """Returns a copy of a config with overrides applied, checked and locked; see `load`."""
    config = config.copy_and_resolve_references().unlock()
    for override in overrides:
        if config.streams and override.startswith(_OF_ONE_STREAM):
            continue  # for `load_streams`
        key, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"--config.{key}: no value; write --config.{key}=VALUE")
        set_key(config, key, text)
    _as_their_kinds(config)
    validate(config)
    return config.lock()


def jobs(config: ConfigDict, overrides: Sequence[str] = ()) -> dict[str, ConfigDict]:
    """Returns the configs of the networks to train: those of the streams, or `{"one": config}`."""
    return load_streams(config, overrides) if config.streams else {"one": config}


def load_streams(config: ConfigDict, overrides: Sequence[str] = ()) -> dict[str, ConfigDict]:
    """Loads the configs that `config.streams` names, as `{"rgb": ..., "flow": ...}`.

    Args:
      config: from `load`, with streams.
      overrides: apply to both streams, or to one with the prefix `rgb.` or `flow.`.

    Raises:
      UserError: as `load`; also if an override sets one data set for both streams.
    """
    found = {}
    for stream, source in zip(STREAMS, config.streams, strict=True):
        theirs = []
        for override in overrides:
            key = override.partition("=")[0]
            if key == "dataset.name":
                raise UserError(
                    "--config.dataset.name: each stream has its own data set; set --config.rgb.dataset.name or "
                    "--config.flow.dataset.name"
                )
            if key.startswith(f"{stream}."):
                theirs.append(override.removeprefix(f"{stream}."))
            elif not key.startswith(_OF_ONE_STREAM) and key != "streams":
                theirs.append(override)
        found[stream] = load(source, theirs)
        if found[stream].streams:
            raise UserError(f"config.streams={config.streams!r}: {source} has streams itself")
    if {stream.dataset.split for stream in found.values()} != {config.dataset.split}:
        raise UserError("config.dataset.split: must be the same for both streams; set --config.dataset.split")
    return found


def from_flat(flat: Mapping[str, Any]) -> ConfigDict:
    """Returns the config of a run's `config.json`; missing keys have their defaults, unknown keys are ignored.

    Raises:
      UserError: a value is invalid.
    """
    config = _get_config(CONFIG_DIR / "common.py", "")
    free = [key for key in flat if isinstance(key, str) and key.startswith(_FREE_FORM)]
    for key in (*flatten(config), *free):
        if key in flat:
            _set(config, key, tuple(flat[key]) if isinstance(flat[key], list) else flat[key])
    validate(config)
    return config


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits a command line into other arguments and the `key=value` of every `--config.key=value`."""
    others, overrides = [], []
    rest = iter(arguments)
    for argument in rest:
        if argument.startswith("--config."):
            key = argument.removeprefix("--config.")
            overrides.append(key if "=" in key else f"{key}={next(rest, '')}")
        else:
            others.append(argument)
    return others, overrides


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Returns `{"clip.frames": 16, ...}`, with dots for nested keys."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def set_key(config: ConfigDict, key: str, text: str) -> None:
    """Sets a dotted key from text, converted to the key's type."""
    flat = flatten(config)
    if key.startswith(_FREE_FORM):
        _set(config, key, _parse_free(text))
        return
    if key not in flat:
        close = difflib.get_close_matches(key, flat, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else "configs/common.py lists every key"
        raise UserError(f"--config.{key}: there is no such key; {hint}")
    _set(config, key, _parse(key, flat[key], text))


def _set(config: ConfigDict, key: str, value: Any) -> None:
    free = next((prefix for prefix in _FREE_FORM if key.startswith(prefix)), None)
    parents, leaf = (free[:-1], key.removeprefix(free)) if free else key.rpartition(".")[::2]
    _require(leaf.isidentifier(), key, value, "must be the name of one argument")
    for parent in filter(None, parents.split(".")):
        config = config[parent]
    config[leaf] = value


def _as_their_kinds(config: ConfigDict) -> None:
    """Makes floats of whole numbers and tuples of lists, where a config file has them for a key that takes those."""
    flat = flatten(config)
    for key, default in flatten(_get_config(CONFIG_DIR / "common.py", "")).items():
        value, kinds = flat.get(key), _kinds(key, default)
        if type(value) is int and float in kinds and int not in kinds:
            _set(config, key, float(value))
        elif type(value) is list and tuple in kinds:
            *parents, leaf = key.split(".")
            parent = functools.reduce(lambda inner, name: inner[name], parents, config)
            del parent[leaf]  # a ConfigDict makes lists of tuples where a list was
            parent[leaf] = tuple(value)


def validate(config: ConfigDict) -> None:
    """Raises a `UserError` that names the first key with an invalid value."""
    flat, defaults = flatten(config), flatten(_get_config(CONFIG_DIR / "common.py", ""))
    for key, value in flat.items():
        free = key.startswith(_FREE_FORM)
        _require(free or key in defaults, key, value, "there is no such key; configs/common.py lists every key")
        if free:
            _require(key.count(".") == 2, key, value, "must be the name of one argument")
        kinds = _FREE_KINDS if free else _kinds(key, defaults[key])
        _require(type(value) in kinds, key, value, f"must be of type {_names(kinds)}")
        _require(type(value) is not int or value < 2**31, key, value, "must be below 2**31")
    fitted = flat["clip.sampling"] == "fitted"  # of several lengths, which no batch of training can have
    _require(not fitted, "clip.sampling", "fitted", "is for evaluation (eval.views); train with dense or linspace")
    for key, choices in _CHOICES.items():
        _require(flat[key] in choices, key, flat[key], f"must be one of {', '.join(map(str, choices))}")
    for key in _AT_LEAST_ONE:
        _require(flat[key] is None or flat[key] >= 1, key, flat[key], "must be at least 1")
    for key in _AT_LEAST_ZERO:
        _require(flat[key] is None or 0 <= flat[key] < float("inf"), key, flat[key], "must be a number of at least 0")
    for key in _BELOW_ONE:
        _require(0 <= flat[key] < 1, key, flat[key], "must be from 0 to less than 1")
    for key in _SHARE:
        _require(0 <= flat[key] <= 1, key, flat[key], "must be from 0 to 1")
    views = flat["eval.views"]
    words = ("dense", "segments", "linspace", "whole", "fitted")
    ok = views in (None, *words) if views is None or isinstance(views, str) else views >= 1
    known = ", ".join(f'"{word}"' for word in words)
    _require(ok, "eval.views", views, f"must be {known} or a number of at least 1")
    for key, value in flat.items():
        if isinstance(value, tuple) and key not in ("augment.flip_sensitive", "streams"):
            numbers = all(type(x) in (int, float) and math.isfinite(x) for x in value)
            _require(numbers, key, value, "must hold numbers only")
    streams = flat["streams"]
    ok = len(streams) in (0, 2) and all(isinstance(name, str) and name for name in streams)
    _require(ok, "streams", streams, "must be () or two configs, the RGB network's and the flow network's")
    layers, betas, drops = flat["model.layers"], flat["optimizer.betas"], flat["schedule.milestones"]
    ok = len(layers) in (0, 4) and all(type(x) is int and x >= 1 for x in layers)
    _require(ok, "model.layers", layers, "must be () or four whole numbers of at least 1")
    _require(len(betas) == 2 and all(0 <= x < 1 for x in betas), "optimizer.betas", betas, "must be two, from 0 to 1")
    ok = all(0 < x < 1 for x in drops) and len(set(drops)) == len(drops)
    _require(ok, "schedule.milestones", drops, "must be different shares of the run, between 0 and 1")
    _require(flat["augment.hue"] <= 0.5, "augment.hue", flat["augment.hue"], "must be from 0 to 0.5")
    resize, size, mean, std = (flat[f"clip.{key}"] for key in ("resize", "size", "mean", "std"))
    if resize is not None:
        sides = resize if isinstance(resize, tuple) else (resize,)
        ok = sides and len(sides) <= 2 and all(isinstance(side, int) and side >= (size or 1) for side in sides)
        below = "" if size is None else f", none below clip.size={size}"
        _require(ok, "clip.resize", resize, f"must be (height, width) or a short side{below}")
    if mean is not None and std is not None:
        _require(len(std) == len(mean), "clip.std", std, "needs one number a channel, like clip.mean")
    _require(std is None or all(x > 0 for x in std), "clip.std", std, "must be above 0")
    _require(flat["epochs"] <= 10**6, "epochs", flat["epochs"], "must be at most 10**6")
    _require(flat["epochs"] > 0 or flat["steps"] > 0, "epochs", flat["epochs"], "must be above 0")
    batch, parts = flat["batch_size"], flat["accumulate"]
    _require(
        batch % parts == 0,
        "batch_size",
        batch,
        f"must be a multiple of accumulate={parts}, for example {-(-batch // parts) * parts}",
    )


def _require(ok: bool, key: str, value: Any, rule: str) -> None:
    if not ok:
        raise UserError(f"config.{key}={value!r}: {rule}")


def _find(name: str) -> Path:
    path = Path(name)
    if path.suffix == ".py" and path.is_file():
        return path.resolve()
    if (CONFIG_DIR / f"{name}.py").is_file():
        return CONFIG_DIR / f"{name}.py"
    known = ", ".join(sorted(p.stem for p in CONFIG_DIR.glob("*.py") if p.stem != "common"))
    raise UserError(f"--config {name}: neither a config file nor one of {known}")


def _get_config(path: Path, argument: str) -> ConfigDict:
    """Runs a config file. `from . import NAME` in it finds the files beside it, then the project's configs."""
    places = [str(path.parent), str(CONFIG_DIR)]
    spec = importlib.util.spec_from_file_location("r23d_jax_config", path, submodule_search_locations=places)
    module = importlib.util.module_from_spec(spec)
    for name in [n for n in sys.modules if n.startswith(f"{spec.name}.")]:  # those beside another file
        del sys.modules[name]
    sys.modules[spec.name] = module  # where its relative imports look for it
    try:
        spec.loader.exec_module(module)
        get_config = module.get_config
    except (SyntaxError, ImportError, AttributeError, NameError, KeyError) as error:
        raise UserError(f"{path}: not a config file ({error})") from error
    if argument and get_config.__code__.co_argcount == 0:
        raise UserError(f"--config {path.stem}:{argument}: this config takes no argument")
    try:
        return get_config(argument) if argument else get_config()
    except (KeyError, ValueError):
        raise UserError(f"--config {path.stem}:{argument}: no such argument; the head of {path} lists them") from None


def _parse(key: str, default: Any, text: str) -> Any:
    """Converts text to the type of the key's default."""
    kinds = _kinds(key, default)
    if kinds == (str,):
        return text
    if kinds == (bool,):
        if text.lower() in ("true", "false", "1", "0"):
            return text.lower() in ("true", "1")
        raise UserError(f"--config.{key}={text}: must be true or false")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = text
    if isinstance(value, list):
        value = tuple(value)
    if tuple in kinds and int not in kinds and value is not None and not isinstance(value, tuple):
        value = (value,)
    if float in kinds and value is not None and not isinstance(value, (bool, tuple)):
        try:
            value = float(value)
        except (ValueError, OverflowError):
            value = text
    if type(value) not in kinds:
        raise UserError(f"--config.{key}={text}: must be of type {_names(kinds)}")
    return value


def _parse_free(text: str) -> Any:
    """Converts text to a number, tuple, bool or None if it is a literal of one, else returns it."""
    try:
        value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    value = tuple(value) if isinstance(value, list) else value
    return value if type(value) in _FREE_KINDS else text


def _kinds(key: str, default: Any) -> tuple[type, ...]:
    return _ALTERNATIVES.get(key, (type(default),))


def _names(kinds: tuple[type, ...]) -> str:
    return " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
