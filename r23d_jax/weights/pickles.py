"""Reads Caffe2's pickles without executing code: only arrays and plain containers are allowed."""

import collections
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from r23d_jax.errors import UserError, one_line


def read_caffe2(path: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Reads `{"blobs": {name: array}}` or `{name: array}`, as published by VMZ.

    Returns:
      The arrays, their names without a `gpu_0/` scope, and the names of other values in the file.

    Raises:
      UserError: the file is truncated, or has anything but arrays and containers.
    """
    try:
        with path.open("rb") as file:
            loaded = _Unpickler(file, encoding="latin1").load()
    except _Refused as error:
        raise UserError(
            f"{path}: holds Python objects besides arrays, which could run code when loaded: refused ({error})"
        ) from None
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f"{path}: damaged or truncated pickle ({one_line(error)[:160]})") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path}: a pickle of a {type(loaded).__name__}, not of Caffe2 blobs")
    blobs = loaded.get("blobs", loaded)
    left_out = tuple(str(name) for name in loaded if blobs is not loaded and name != "blobs")
    if not isinstance(blobs, dict) or not blobs:
        raise UserError(f"{path}: no Caffe2 blobs in it")
    wrong = [str(name) for name, blob in blobs.items() if not _is_numeric(blob)]
    if wrong:
        raise UserError(f"{path}: not arrays of numbers: {', '.join(wrong[:6])}")
    return {str(name).rpartition("/")[2]: blob for name, blob in blobs.items()}, left_out


def _is_numeric(blob: Any) -> bool:
    return isinstance(blob, np.ndarray) and blob.dtype.kind in "fiub"


class _Refused(Exception):
    """A global that is not allowed."""


def _latin1(text: str, encoding: str) -> bytes:
    """Replaces `codecs.encode`, as which Python 3 pickles bytes in protocol 2; supports no other use of it."""
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"_codecs.encode to {encoding}")
    return text.encode("latin1")


_RECONSTRUCT = np._core.multiarray._reconstruct
_SCALAR = np._core.multiarray.scalar
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _latin1,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _RECONSTRUCT for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _SCALAR for core in ("core", "_core")},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a persistent id")
