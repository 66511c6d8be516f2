"""Reads and writes PyTorch's files, without PyTorch and without executing code from the file.

Two formats, as `torch/serialization.py` has them: a zip archive of the pickle `data.pkl` and one entry a storage (since
PyTorch 1.6), and before it a stream of five pickles followed by the storages. Their pickles name functions of
`torch._utils` that put tensors together from storages. Here such a name stands for a function of this module, and a
name that is not known is refused. Storages are memory-mapped: a tensor's values are read when they are asked for.
"""

import dataclasses
import functools
import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from r23d_jax.errors import UserError, one_line
from r23d_jax.weights import pickles
from r23d_jax.weights.pickles import Call, Refused, whole

_ZIP_START = b"PK\x03\x04"
_LEGACY_MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # pickled: the first thing in files of PyTorch before 1.6
_LEGACY_VERSION = 1001
_ALIGNMENT = 64  # of storages in an archive

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
}
_UNTYPED = {"UntypedStorage": "uint8", "_UntypedStorage": "uint8"}
_DTYPES = [*_STORAGES.values(), "uint16", "uint32", "uint64"]
_DTYPES += ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"]


def _dtype(name: Any) -> np.dtype:
    if not isinstance(name, str) or name not in _DTYPES:
        raise ValueError("numbers of an unknown type")
    return np.dtype(getattr(ml_dtypes, name, name))


@dataclasses.dataclass(eq=False)
class _Storage:
    """Numbers that one or more tensors look at; `read` returns their bytes, as uint8."""

    dtype: np.dtype
    count: int
    read: Callable[[], np.ndarray] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of a file: a view of a storage, whose values `np.asarray` reads.

    Attributes:
      shape: sizes of its axes.
      dtype: of its numbers; bfloat16 and the eight-bit floats are those of `ml_dtypes`.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    _storage: _Storage
    _offset: int  # this and the strides count numbers
    _strides: tuple[int, ...]
    _conjugate: bool

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Returns the values, read-only and not copied unless that is asked for.

        Raises:
          ValueError: the tensor reaches beyond its storage, or the storage's checksum is wrong.
        """
        if 0 in self.shape:
            values = np.zeros(self.shape, self.dtype)
        else:
            data, item = self._storage.read(), self.dtype.itemsize
            last = sum((size - 1) * stride for size, stride in zip(self.shape, self._strides, strict=True))
            if (self._offset + last + 1) * item > data.size:
                raise ValueError(f"a tensor of shape {list(self.shape)} reaches beyond its storage")
            strides = [stride * item for stride in self._strides]
            values = np.ndarray(self.shape, self.dtype, data, self._offset * item, strides)
        values = np.conjugate(values) if self._conjugate else values
        return values if dtype is None and not copy else np.array(values, dtype)


def is_torch(start: bytes) -> bool:
    """Returns whether a file that starts with these 32 bytes or more is PyTorch's, or an archive."""
    return start.startswith(_ZIP_START) or start[:1] == b"\x80" and _LEGACY_MAGIC in start[:32]


def read(path: Path) -> Any:
    """Reads what `torch.save` wrote: containers, numbers and text, with a `Tensor` for every tensor and parameter.

    Raises:
      UserError: the file is damaged, truncated or TorchScript, or names anything else.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(len(_ZIP_START)) == _ZIP_START
            file.seek(0)
            return _read_zip(path, file) if zipped else _read_legacy(path, file)
    except Refused as error:
        raise UserError(
            f"{path}: holds Python objects besides tensors, which could run code when loaded: refused ({error}); "
            "save its state_dict() alone"
        ) from None
    except UserError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> UserError:
    """Returns the error for a file that cannot be read, or whose tensors' values cannot."""
    return UserError(f"{path}: damaged or truncated PyTorch file ({one_line(error)[:160]})")


def _read_zip(path: Path, file: BinaryIO) -> Any:
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        raise UserError(f"{path}: truncated: the end of the file is missing; download it again") from None
    entries = {info.filename.partition("/")[2]: info for info in archive.infolist()}
    if "constants.pkl" in entries:
        raise UserError(f"{path}: a TorchScript program, not weights alone; save its state_dict()")
    if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
        raise UserError(f"{path}: written on a big-endian machine, which is not supported")
    if any(info.compress_type != zipfile.ZIP_STORED for info in entries.values()):
        raise UserError(f"{path}: packed again, with compression, which PyTorch does not do: unpack it, zip -0 -r it")
    mapped = np.memmap(path, np.uint8, "r")

    @functools.cache
    def content(key: str) -> np.ndarray:
        info = entries[f"data/{key}"]
        name, extra = struct.unpack("<HH", mapped[info.header_offset + 26 :][:4])
        start = info.header_offset + 30 + name + extra
        data = np.asarray(mapped[start : start + info.file_size])
        if data.size != info.file_size or zlib.crc32(data) != info.CRC:
            raise ValueError(f"wrong checksum of {info.filename}")
        return data

    def storage(dtype: np.dtype, key: str, count: int) -> _Storage:
        if f"data/{key}" not in entries:
            raise ValueError(f"data/{key} is missing")
        return _Storage(dtype, count, lambda: content(key))

    return _unpickle(io.BytesIO(archive.read(entries["data.pkl"])), storage)


def _read_legacy(path: Path, file: BinaryIO) -> Any:
    storages: dict[str, _Storage] = {}

    def storage(dtype: np.dtype, key: str, count: int, view: Any = None) -> _Storage:
        root = storages.setdefault(key, _Storage(dtype, count))
        if view is None:
            return root
        _, first, size = view  # PyTorch 0.x: a part of a storage
        part = slice(whole(first) * dtype.itemsize, (whole(first) + whole(size)) * dtype.itemsize)
        return _Storage(dtype, size, lambda: root.read()[part])

    _, version, _ = (pickles.load(file) for _ in range(3))
    if version != _LEGACY_VERSION:
        raise ValueError("another version of the format")
    loaded = _unpickle(file, storage)
    keys = pickles.load(file)
    mapped = np.memmap(path, np.uint8, "r")
    position = file.tell()
    for key in keys:
        if not isinstance(key, str | int):
            raise ValueError("a storage without a name")
        found = storages[str(key)]
        (count,) = struct.unpack("<q", mapped[position : position + 8])
        start, position = position + 8, position + 8 + count * found.dtype.itemsize
        if count != found.count or position > mapped.size:
            raise ValueError(f"storage {key} is not whole")
        found.read = functools.partial(np.asarray, mapped[start:position])
    return loaded


def _unpickle(file: BinaryIO, storage: Callable[..., _Storage]) -> Any:
    """Reads a pickle of tensors, whose persistent ids are storages: `storage(dtype, key, count, *view)`."""

    def persistent(pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise Refused("a persistent id of another kind, a whole module perhaps")
        _, kind, key, _, count, *view = pid
        if not isinstance(kind, str) or not isinstance(key, str | int):
            raise ValueError("a storage without a type or a name")
        return storage(_dtype((_STORAGES | _UNTYPED).get(kind)), str(key), whole(count), *view)

    build = {
        "_rebuild_tensor": Call(lambda source, *place: _tensor(source, source.dtype, *place)),
        "_rebuild_tensor_v2": Call(
            lambda source, offset, shape, strides, grad, hooks, bits=None: _tensor(
                source, source.dtype, offset, shape, strides, bits
            )
        ),
        "_rebuild_tensor_v3": Call(
            lambda source, offset, shape, strides, grad, hooks, dtype, bits=None: _tensor(
                source, _dtype(dtype), offset, shape, strides, bits
            )
        ),
        "_rebuild_parameter": Call(lambda tensor, *_: tensor),
        "_rebuild_parameter_with_state": Call(lambda tensor, *_: tensor),
    }

    def of_type(called: Any, kind: Any, arguments: Any, state: Any) -> Tensor:
        """A tensor with attributes of its own, which are left out."""
        if called not in build.values():
            raise Refused("a tensor of another class")
        return called.function(*arguments)

    names = {f"torch._utils.{name}": call for name, call in build.items()}
    names |= {f"torch._tensor.{name}": Call(of_type) for name in ("_rebuild_from_type", "_rebuild_from_type_v2")}
    names |= {f"torch.{name}": name for name in (*_STORAGES, *_DTYPES)}
    names |= {f"torch.storage.{name}": name for name in _UNTYPED}
    return pickles.load(file, names | _NEIGHBOURS, persistent)


# What training checkpoints hold beside the weights: read past, as plain containers and text.
_NEIGHBOURS = {
    "torch.Size": Call(lambda sizes=(): tuple(sizes)),
    "torch.device": Call(lambda *names: names),
    "torch.Tensor": "torch.Tensor",
    "torch.nn.parameter.Parameter": "torch.nn.Parameter",
    "torch.serialization._get_layout": Call(lambda name: name),
    "builtins.dict": "dict",
    "builtins.list": "list",
    "collections.defaultdict": Call(lambda *_: {}),
    "collections.Counter": Call(lambda counts: counts),
    **{
        name: Call(lambda *_: pickles.Attributes())
        for name in (
            "argparse.Namespace",
            "lightning.fabric.utilities.data.AttributeDict",
            "lightning_fabric.utilities.data.AttributeDict",
            "pytorch_lightning.utilities.parsing.AttributeDict",
        )
    },
    **{
        f"{module}.{system}Path": Call(lambda *parts: "/".join(parts).replace("//", "/"))
        for module in ("pathlib", "pathlib._local")
        for system in ("Posix", "Windows", "PurePosix", "PureWindows")
    },
}


def _tensor(source: Any, dtype: np.dtype, offset: Any, shape: Any, strides: Any, bits: Any = None) -> Tensor:
    if not isinstance(source, _Storage) or len(shape) != len(strides):
        raise ValueError("a tensor without a storage or a shape")
    bits = bits or {}
    if bits.get("neg"):
        raise ValueError("a tensor whose sign is still to be changed: save a copy of it")
    sizes, steps = tuple(map(whole, shape)), tuple(map(whole, strides))
    return Tensor(sizes, dtype, source, whole(offset), steps, bool(bits.get("conj")))


def write(path: Path, state: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict as `torch.save` does: `torch.load(weights_only=True)` reads it, memory-mapped too.

    Args:
      path: of a file that is overwritten.
      state: name -> array of a type that PyTorch has a storage for.

    Raises:
      KeyError: an array of another type.
    """
    storages = {dtype: name for name, dtype in _STORAGES.items()}
    items = []
    with zipfile.ZipFile(path, "w") as archive:

        def add(name: str, data: Any) -> None:
            info = zipfile.ZipInfo(f"archive/{name}")
            filling = -(archive.fp.tell() + 30 + len(info.filename) + 4) % _ALIGNMENT  # behind the entry's header
            info.extra, info.file_size = struct.pack("<HH", 0x4246, filling) + b"Z" * filling, len(data)
            with archive.open(info, "w") as entry:
                entry.write(data)

        for index, (name, value) in enumerate(state.items()):
            strides = [stride // value.itemsize for stride in np.empty(value.shape, value.dtype).strides]
            items.append(
                _fragment(name)
                + b"ctorch._utils\n_rebuild_tensor_v2\n(("
                + _fragment("storage")
                + f"ctorch\n{storages[value.dtype.name]}\n".encode()
                + b"".join(map(_fragment, (str(index), "cpu", value.size)))
                + b"tQ"
                + b"".join(map(_fragment, (0, value.shape, tuple(strides), False)))
                + b"ccollections\nOrderedDict\n)RtR"
            )
        add("data.pkl", b"\x80\x02}(" + b"".join(items) + b"u.")
        add("byteorder", b"little")
        for index, value in enumerate(state.values()):
            values = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
            add(f"data/{index}", values.reshape(-1).view(np.uint8).data)
        add("version", b"3\n")


def _fragment(value: Any) -> bytes:
    """Returns the opcodes that put a value on the stack: a pickle without its first and last."""
    return pickle.dumps(value, protocol=2)[2:-1]
