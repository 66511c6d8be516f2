"""Reads files of tensors as named NumPy arrays, without executing code from the file.

The format is recognised by the first bytes, not by the name. PyTorch is imported only to read its own format; the
others need no library of theirs.
"""

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from r23d_jax.errors import UserError, one_line
from r23d_jax.weights import pickles, tensorflow_files

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "_orig_mod.")  # DataParallel and torch.compile
_TORCH_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # the pickled magic number of torch < 1.6


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
    """

    path: Path
    format: str
    tensors: dict[str, np.ndarray]
    file: str
    sha256: str
    left_out: tuple[str, ...] = ()


def read_tensors(path: str | Path) -> TensorFile:
    """Reads a `.pth/.pt/.tar`, `.safetensors`, Caffe2 `.pkl` or TensorFlow checkpoint (prefix or folder).

    Raises:
      UserError: the file is missing, damaged, of another format or not restricted to tensors, or its library is not
        installed.
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
    if start.startswith(b"PK\x03\x04") or start.startswith(_TORCH_LEGACY):
        tensors, left_out = _read_torch(path, zipped=start.startswith(b"PK"))
        return TensorFile(path, "torch", tensors, path.name, sha256(path), left_out)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 27:
        return TensorFile(path, "safetensors", _read_safetensors(path), path.name, sha256(path))
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


def _has_end(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # the end belongs to another archive
        return False


def _read_torch(path: Path, zipped: bool) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    if zipped and not _has_end(path):
        raise UserError(f"{path}: truncated: the end of the file is missing; download it again")
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path}: reading it needs PyTorch (pip install 'torch>=2.6,<2.14'); .safetensors needs nothing"
        ) from None
    import pickle

    # NumPy scalars, harmless as tensors, occur in many training checkpoints (a best accuracy, say).
    inert = [
        (getattr(np._core.multiarray, name), f"numpy.{core}.multiarray.{name}")
        for name in ("scalar", "_reconstruct")
        for core in ("core", "_core")
    ]
    inert += [np.ndarray, np.dtype, *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}]
    try:
        with torch.serialization.safe_globals(inert):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True if zipped else None)
    except pickle.UnpicklingError as error:
        text = one_line(error)
        if "Unsupported global" in text or "weights_only" in text.lower() or "GLOBAL" in text:
            raise UserError(
                f"{path}: holds Python objects besides tensors, which could run code when loaded: refused"
                f"{_named_global(text)}; save its state_dict() alone"
            ) from None
        raise UserError(f"{path}: damaged or truncated PyTorch file ({text[:160]})") from None
    except Exception as error:  # a damaged file can raise anything
        raise UserError(f"{path}: damaged or truncated PyTorch file ({one_line(error)[:160]})") from None
    state, left_out = _unwrap(path, loaded, torch.Tensor)
    return strip_prefixes({name: _torch_to_numpy(tensor) for name, tensor in state.items()}), left_out


def _named_global(text: str) -> str:
    words = text.replace("`", " ").split()
    for marker in ("GLOBAL", "global:"):
        if marker in words[:-1]:
            return f" ({words[words.index(marker) + 1]})"
    return ""


def _torch_to_numpy(tensor: Any) -> np.ndarray:
    import torch

    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _unwrap(path: Path, loaded: Any, tensor_type: type) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns the state dict inside a training checkpoint; raises if there are several candidates."""

    def is_state(value: Any) -> bool:
        return isinstance(value, Mapping) and any(isinstance(v, tensor_type) for v in value.values())

    if not isinstance(loaded, Mapping):
        raise UserError(f"{path}: holds a {type(loaded).__name__}, not a state dict")
    wrapped = [name for name in _WRAPPERS if is_state(loaded.get(name))]
    if len(wrapped) > 1 and not is_state(loaded):
        raise UserError(f"{path}: more than one state dict in it ({', '.join(wrapped)}); save one of them alone")
    chosen = loaded[wrapped[0]] if wrapped else loaded
    others = [str(key) for key in loaded if wrapped and key != wrapped[0]]
    state = {str(key): value for key, value in chosen.items() if isinstance(value, tensor_type)}
    strangers = [str(key) for key, value in chosen.items() if not isinstance(value, tensor_type)]
    if not state:
        raise UserError(f"{path}: no tensors in it, only {', '.join(map(str, list(loaded)[:6])) or 'nothing'}")
    return state, tuple(others + strangers)


def strip_prefixes(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Removes the prefix of a wrapper if every name has it."""
    for prefix in _PREFIXES * 2:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


# --- safetensors ---


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return strip_prefixes({name: file.get_tensor(name) for name in file.keys()})
    except (SafetensorError, ValueError, TypeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: damaged or truncated safetensors file ({one_line(error)[:160]})") from None


# --- TensorFlow ---


def _tensorflow_prefix(path: Path) -> Path | None:
    """Returns the checkpoint prefix for a path: the prefix itself, its `.index`, or a folder with exactly one."""
    if path.suffix == ".index" and path.is_file():
        return path.with_suffix("")
    if path.with_name(path.name + ".index").is_file():
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
