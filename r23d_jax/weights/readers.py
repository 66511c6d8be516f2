"""Reads files of tensors as named NumPy arrays, without executing code from the file.

The format is recognised by the first bytes, not by the name. None needs the library that wrote it.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from r23d_jax.errors import UserError, one_line, printable
from r23d_jax.weights import pickles, tensorflow_files, torch_files

# Under these names training checkpoints hold a network's weights, and averages of them.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net")
_WRAPPERS += ("state_dict_ema", "ema_state_dict", "model_ema_state_dict", "model_ema", "ema", "swa_model")
_HOLDERS = (*_WRAPPERS, "checkpoint", "ckpt", "state", "weights")  # of state dicts, one in another
_WITHIN = ("module", "_orig_mod")  # parts of names, anywhere in them: DataParallel's and torch.compile's
_PREFIXES = ("model.", "net.", "network.")  # of modules that hold the network: Lightning's, say
_HEADS = ("fc", "head", "head.fc", "classifier", "linear", "fc_cls", "cls_head", "cls_head.fc_cls")
# What such a module holds beside the network: losses with weights, and metrics.
_BESIDE = re.compile(r"(criterion|loss|loss_fn|loss_func(tion)?|metrics?|(train|val|valid|validation|test)_\w+)\..*")
_TOP = "."  # as a key: the tensors beside the state dicts
_AVERAGED = "n_averaged"  # torch.optim.swa_utils.AveragedModel's counter


@dataclasses.dataclass
class TensorFile:
    """The content of a file of tensors.

    Attributes:
      path: the given file, folder or prefix.
      format: "torch", "safetensors", "caffe2" or "tensorflow".
      tensors: name -> array, names without prefixes of wrappers; large ones may be memory-mapped.
      file: base name of the file with the tensors; the index of a TensorFlow checkpoint of several shards.
      sha256: of that file's bytes.
      left_out: names of other values in the file (`optimizer`, `epoch`).
      stripped: what was taken off the names: wrappers, prefixes, renamed heads.
    """

    path: Path
    format: str
    tensors: dict[str, np.ndarray]
    file: str
    sha256: str
    left_out: tuple[str, ...] = ()
    stripped: tuple[str, ...] = ()


def read_tensors(path: str | Path, key: str | None = None) -> TensorFile:
    """Reads a `.pth/.pt/.tar/.pyth`, `.safetensors`, Caffe2 `.pkl` or TensorFlow checkpoint (prefix or folder).

    Args:
      path: of the file, folder or prefix.
      key: which state dict of a PyTorch file with several; "." for the tensors beside them.

    Raises:
      UserError: the file is missing, damaged, of another format or not restricted to tensors.
    """
    path = Path(path)
    prefix = _tensorflow_prefix(path)
    if prefix is not None:
        return _read_tensorflow(path, prefix)
    if path.is_dir():
        raise UserError(f"{path}: a folder with neither a TensorFlow checkpoint (*.index) nor a card.json in it")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with path.open("rb") as file:
        start = file.read(512)
        file.seek(max(0, path.stat().st_size - 8))
        end = file.read(8)
    _refuse_text(path, start)
    if torch_files.is_torch(start):
        return _read_torch(path, key)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 27:
        names = strip_prefixes(_read_safetensors(path))
        return TensorFile(path, "safetensors", names.tensors, path.name, sha256(path), names.beside, names.stripped)
    if end == tensorflow_files.MAGIC:  # of version 1
        return _read_tensorflow(path, path)
    if start[:1] == b"\x80" or path.suffix == ".pkl":
        tensors, left_out = pickles.read_caffe2(path)
        return TensorFile(path, "caffe2", tensors, path.name, sha256(path), left_out)
    raise UserError(f"{path}: neither a PyTorch, safetensors, Caffe2 nor TensorFlow file (starts with {start[:8]!r})")


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_text(path: Path, start: bytes) -> None:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        raise UserError(f"{path}: empty file")
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise UserError(f"{path}: a web page, not weights (an error page saved under this name?); download it again")
    if text.startswith(b"version https://git-lfs"):
        raise UserError(f"{path}: a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")


# --- PyTorch ---


def _read_torch(path: Path, key: str | None) -> TensorFile:
    state, left_out, wrapper = _unwrap(path, torch_files.read(path), key)
    try:
        names = strip_prefixes({name: np.asarray(tensor) for name, tensor in state.items()})
    except Exception as error:  # the values of a damaged file
        raise torch_files.damaged(path, error) from None
    stripped = (*([f"the wrapper {wrapper}"] if wrapper else []), *names.stripped)
    return TensorFile(path, "torch", names.tensors, path.name, sha256(path), (*left_out, *names.beside), stripped)


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(v, torch_files.Tensor) for v in value.values())


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch_files.Tensor)


def _holds_state(value: Any, depth: int = 4) -> bool:
    """Returns whether there is a state dict in a mapping, or deeper in those that hold such."""
    if not isinstance(value, Mapping) or not depth:
        return False
    return _is_state(value) or any(
        _is_state(inner) or _holds_state(inner, depth - 1) for name, inner in value.items() if name in _HOLDERS
    )


def _unwrap(path: Path, loaded: Any, key: str | None) -> tuple[dict[str, torch_files.Tensor], tuple[str, ...], str]:
    """Returns the state dict inside a training checkpoint, the names of what is beside it, and its own name.

    Raises:
      UserError: there is none, or several and no key says which.
    """
    if not isinstance(loaded, Mapping):
        raise UserError(f"{path}: holds a {type(loaded).__name__}, not a state dict")
    beside, holders = [], []
    while not any(_is_state(value) or _is_tensor(value) and value.shape for value in loaded.values()):
        inner = [name for name in _HOLDERS if _holds_state(loaded.get(name))]
        if not inner:
            break
        if len(inner) > 1 and key not in inner:
            choices = " | ".join(f"--key {_name(name)}" for name in inner)
            raise UserError(f"{path}: state dicts in it that could be meant: say which, in `convert`: {choices}")
        chosen, key = (key, None) if key in inner else (inner[0], key)
        beside += [_name(name) for name in loaded if name != chosen]
        holders, loaded = [*holders, chosen], loaded[chosen]
    found = {name: value for name, value in loaded.items() if isinstance(name, str) and _is_state(value)}
    tensors = [name for name, value in loaded.items() if isinstance(value, torch_files.Tensor)]
    likely = [name for name in _WRAPPERS if name in found]
    if likely and len(tensors) >= len(found[likely[0]]):  # weights at the top, and others below
        likely.insert(0, _TOP)
    if key is None and (len(likely) > 1 or found and not likely and not tensors):
        choices = " | ".join(f"--key {_name(name)}" for name in likely or found)
        raise UserError(f"{path}: state dicts in it that could be meant: say which, in `convert`: {choices}")
    if key not in (None, _TOP, *found):
        raise UserError(f"{path}: no state dict {key!r} in it; there are: {', '.join(map(_name, found)) or 'none'}")
    chosen = key or (likely[0] if likely else _TOP)
    content = loaded if chosen == _TOP else found[chosen]
    left_out = [*beside, *(_name(name) for name in loaded if content is not loaded and name != chosen)]
    holders += [_name(chosen)] if content is not loaded else []
    state = {}
    for name, value in content.items():
        if isinstance(value, torch_files.Tensor) and name != _AVERAGED:
            state[_name(name)] = value
        else:
            left_out.append(_name(name))
    if not state:
        raise UserError(f"{path}: no tensors in it, only {', '.join(left_out[:6]) or 'nothing'}")
    return state, tuple(left_out), ".".join(holders)


def _name(key: Any) -> str:
    """Returns a name of a file as it may be printed; networks' own names are such."""
    return printable(str(key)[:200])


class Names(NamedTuple):
    """Tensors under the network's own names, names of tensors beside the network, and what was taken off."""

    tensors: dict[str, np.ndarray]
    beside: tuple[str, ...]
    stripped: tuple[str, ...]


def strip_prefixes(tensors: dict[str, np.ndarray]) -> Names:
    """Removes what wrappers put before or into names, in any nesting; a name never takes another's place."""
    beside, stripped = [], []

    def rename(new: Callable[[str], str], what: str) -> None:
        nonlocal tensors
        renamed = {new(name): value for name, value in tensors.items()}
        if len(renamed) == len(tensors) and renamed.keys() != tensors.keys():
            tensors = renamed
            stripped.append(what)

    for part in _WITHIN:
        rename(lambda name, part=part: ".".join(p for p in name.split(".") if p != part), f"{part}.")
    while True:
        before = len(stripped)
        # A layer that is called so is one: what is beside the network has no matrices.
        network = [name for name, value in tensors.items() if value.ndim > 1 or not _BESIDE.fullmatch(name)]
        for prefix in _PREFIXES:
            if network and all(name.startswith(prefix) for name in network):
                others = [name for name in tensors if name not in set(network)]
                beside += others
                tensors = {name: value for name, value in tensors.items() if name not in others}
                rename(lambda name, prefix=prefix: name.removeprefix(prefix), prefix)
                break
        if len(stripped) == before and _has_backbone(tensors):
            head = _head(tensors)
            rename(lambda name: name.removeprefix("backbone."), "backbone.")
            if head and head != "fc":
                rename(lambda name, head=head: re.sub(rf"^{re.escape(head)}\.", "fc.", name), f"{head}. (now fc.)")
        if len(stripped) == before:
            return Names(tensors, tuple(beside), tuple(stripped))


def _has_backbone(tensors: Mapping[str, np.ndarray]) -> bool:
    """Returns whether `backbone.` is a wrapper's; the networks of DPC have parts of their own beside it."""
    names = [name for name in tensors if name.startswith("backbone.")]
    inside = any(name.startswith(("backbone.stem.", "backbone.fc.", "backbone.model.")) for name in names)
    return bool(names) and (inside or _head(tensors) is not None)


def _head(tensors: Mapping[str, np.ndarray]) -> str | None:
    """Returns the name of a classifier if it is all there is beside `backbone.`: mmaction2's `cls_head.fc_cls`."""
    others = {name for name in tensors if not name.startswith("backbone.")}
    head = next(iter(others)).rpartition(".")[0] if others else ""
    fits = others == {f"{head}.weight", f"{head}.bias"} and tensors[f"{head}.weight"].ndim == 2
    return head if fits and head in _HEADS else None


# --- safetensors ---


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, ValueError, TypeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: damaged or truncated safetensors file ({one_line(error)[:160]})") from None


# --- TensorFlow ---


def _tensorflow_prefix(path: Path) -> Path | None:
    """Returns the checkpoint prefix for a path: the prefix itself, its `.index`, or a folder with exactly one."""
    if path.suffix == ".index" and path.is_file():
        return path.with_suffix("")
    if path.name and path.with_name(path.name + ".index").is_file():
        return path
    if path.is_dir():
        found = sorted(path.glob("*.index"))
        if len(found) > 1:
            names = ", ".join(p.stem for p in found)
            raise UserError(f"{path}: several TensorFlow checkpoints in it ({names}); name one, without .index")
        return found[0].with_suffix("") if found else None
    return None


def _read_tensorflow(path: Path, prefix: Path) -> TensorFile:
    tensors, left_out, file = tensorflow_files.read_tensorflow(path, prefix)
    return TensorFile(path, "tensorflow", tensors, file.name, sha256(file), left_out)
