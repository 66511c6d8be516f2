"""Reads pickles without executing code: only what is on a list can be named in them.

Format: the `pickle` module's protocols 0 to 5. What a file names is looked up in a table and never imported.
"""

import collections
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from r23d_jax.errors import UserError, one_line


class Refused(Exception):
    """A global or a persistent object that is not allowed; the message names it."""


class Unpickler(pickle.Unpickler):
    """An unpickler that knows numbers, text, plain containers and NumPy arrays, and what it is given besides.

    Everything in its table is either immutable or made for this one object: a pickle may set attributes of what it
    names, and must not change the process by it.
    """

    def __init__(
        self,
        file: BinaryIO,
        more: Mapping[str, Any] | None = None,
        persistent: Callable[[Any], Any] | None = None,
    ):
        """Args:
        file: positioned at the pickle, and after `load` behind it.
        more: allowed besides, by `module.name`.
        persistent: returns the object of a persistent id; without it none is allowed.
        """
        super().__init__(file, encoding="latin1")  # any text of Python 2, and the bytes of its arrays
        self._allowed, self._persistent = {**_plain(), **(more or {})}, persistent

    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module  # its name in Python 2 and in protocol 2
        try:
            return self._allowed[f"{module}.{name}"]
        except KeyError:
            raise Refused(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent is None:
            raise Refused("a persistent id")
        return self._persistent(pid)


def _plain() -> dict[str, Any]:
    allowed = {
        "collections.OrderedDict": collections.OrderedDict,
        "builtins.set": set,
        "builtins.complex": complex,
        "builtins.bytearray": lambda data=b"", encoding="latin1": _latin1(data, encoding),
        "_codecs.encode": lambda text, encoding: _latin1(text, encoding),
        "numpy.dtype": lambda code, *_: _dtype(code),
        "numpy.ndarray": "an array's type, which `_reconstruct` takes",
    }
    for core in ("numpy.core", "numpy._core"):
        allowed[f"{core}.multiarray._reconstruct"] = lambda *_: np.ndarray(0)  # its content follows as state
        allowed[f"{core}.multiarray.scalar"] = np._core.multiarray.scalar
        allowed[f"{core}.numeric._frombuffer"] = lambda data, dtype, shape, order: np.frombuffer(data, dtype).reshape(
            shape, order=order
        )
    return allowed


def _dtype(code: Any) -> np.dtype:
    dtype = np.dtype(code, copy=True)  # the pickle sets its state next: not that of NumPy's own
    if dtype.fields is not None:
        raise Refused("numpy.dtype of a record")
    return dtype


def _latin1(text: str | bytes, encoding: str) -> bytes:
    """Replaces `codecs.encode`, as which Python 3 pickles bytes in protocol 2; supports no other use of it."""
    if encoding not in ("latin1", "latin-1"):
        raise Refused(f"_codecs.encode to {encoding}")
    return text if isinstance(text, bytes) else text.encode("latin1")


def read_caffe2(path: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Reads `{"blobs": {name: array}}` or `{name: array}`, as published by VMZ.

    Returns:
      The arrays, their names without a `gpu_0/` scope, and the names of other values in the file.

    Raises:
      UserError: the file is truncated, or has anything but arrays and containers.
    """
    try:
        with path.open("rb") as file:
            loaded = Unpickler(file).load()
    except Refused as error:
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
