"""Reads pickles without executing code: a small machine for numbers, text, containers and NumPy's arrays.

Python's own unpickler calls whatever a file names, with whatever the file gives it. Here a name is looked up in a
table, and what it stands for there is a function that knows what it may be given. Instructions are those of
`pickletools`, protocols 0 to 5, but for the ones that make objects in other ways.
"""

import dataclasses
import math
import operator
import pickletools
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from r23d_jax.errors import UserError, one_line

_MOST_INSTRUCTIONS = 5_000_000  # each makes a small object at most, so this bounds memory
_SIMPLE = (str, bytes, int, float, bool, type(None))


class Refused(Exception):
    """Something that is not allowed in a file; the message names it."""


@dataclasses.dataclass(frozen=True)
class Call:
    """What a name in a pickle stands for if it can be called, or made an object of."""

    function: Callable[..., Any]


class Attributes(dict):
    """An object that is nothing but its attributes."""

    def set_state(self, state: Any) -> None:
        self.update(_expect(dict, state))


@dataclasses.dataclass
class _Dtype:
    numpy: np.dtype | None  # None: of Python objects

    def set_state(self, state: Any) -> None:
        if self.numpy is not None and state[1] in ("<", ">"):
            self.numpy = self.numpy.newbyteorder(state[1])


@dataclasses.dataclass
class Array:
    """A NumPy array of a file.

    Attributes:
      values: read-only; None for arrays of Python objects.
    """

    values: np.ndarray | None = None

    def set_state(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.values = _values(data, dtype, shape, "F" if fortran else "C")


def load(file: BinaryIO, names: Mapping[str, Any] | None = None, persistent: Callable[[Any], Any] | None = None) -> Any:
    """Reads one pickle.

    Args:
      file: positioned at the pickle, and afterwards behind it.
      names: what a file may name besides, by `module.name`: a `Call`, or a constant.
      persistent: returns what a persistent id stands for; without it none is allowed.

    Raises:
      Refused: the file names anything else.
      Exception: of any kind, where the file is damaged.
    """
    names = _NAMES | (names or {})
    stack: list[Any] = []
    outer: list[list[Any]] = []  # the stacks below each mark
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        nonlocal stack
        items, stack = stack, outer.pop()
        return items

    def named(module: Any, name: Any) -> Any:
        module = "builtins" if module == "__builtin__" else module  # its name in Python 2 and in protocol 2
        full = f"{_expect(str, module)}.{_expect(str, name)}"
        if full not in names:
            raise Refused(full[:80])
        return names[full]

    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count > _MOST_INSTRUCTIONS:
            raise ValueError("too many instructions")
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case name if name in _LITERALS:
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
            case "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_SET" | "EMPTY_TUPLE":
                stack.append({"LIST": list, "DICT": dict, "SET": set, "TUPLE": tuple}[opcode.name[6:]]())
            case "MARK":
                outer.append(stack)
                stack = []
            case "POP_MARK":
                since_mark()
            case "POP":
                stack.pop()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [stack.pop() for _ in range(int(opcode.name[-1]))]
                stack.append(tuple(reversed(items)))
            case "TUPLE" | "LIST" | "DICT" | "FROZENSET":
                items = since_mark()
                stack.append({"TUPLE": tuple, "LIST": list, "DICT": _pairs, "FROZENSET": _set}[opcode.name](items))
            case "APPEND":
                item = stack.pop()
                _expect(list, stack[-1]).append(item)
            case "APPENDS":
                items = since_mark()
                _expect(list, stack[-1]).extend(items)
            case "SETITEM":
                items = [stack.pop(), stack.pop()]
                _expect(dict, stack[-1]).update(_pairs(items[::-1]))
            case "SETITEMS":
                items = since_mark()
                _expect(dict, stack[-1]).update(_pairs(items))
            case "ADDITEMS":
                items = since_mark()
                _expect(set, stack[-1]).update(_set(items))
            case "GLOBAL":
                stack.append(named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(named(module, name))
            case "REDUCE" | "NEWOBJ":
                arguments, called = stack.pop(), stack.pop()
                stack.append(_expect(Call, called).function(*_expect(tuple, arguments)))
            case "BUILD":  # the state of anything else is left out
                state = stack.pop()
                if isinstance(stack[-1], Attributes | Array | _Dtype):
                    stack[-1].set_state(state)
            case "PERSID" | "BINPERSID":
                if persistent is None:
                    raise Refused("a persistent id")
                stack.append(persistent(argument if opcode.name == "PERSID" else stack.pop()))
            case "STOP":
                return stack.pop()
            case other:
                raise Refused(f"the instruction {other}")
    raise ValueError("no end")


_LITERALS = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE "
    "SHORT_BINUNICODE BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)


def _expect(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} in place of a {kind.__name__}")
    return value


def _key(value: Any) -> Any:
    """Returns a key of a dict or set; others could take for ever to hash."""
    if not all(type(part) in _SIMPLE for part in (value if type(value) is tuple else [value])):
        raise TypeError(f"a {type(value).__name__} as a key")
    return value


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return {_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)}


def _set(items: Iterable[Any]) -> set[Any]:
    return {_key(item) for item in items}


def whole(number: Any) -> int:
    """Returns a size, offset or stride; a file may claim anything.

    Raises:
      ValueError: it is below 0, or no computer could have so much.
    """
    if not 0 <= operator.index(number) < 1 << 62:
        raise ValueError("a size out of range")
    return operator.index(number)


def _dtype(code: Any, *_: Any) -> _Dtype:
    if re.fullmatch(r"[<>|=]?O[48]?", _expect(str, code)):
        return _Dtype(None)
    if not re.fullmatch(r"[<>|=]?([biufcSU]\d{1,9}|\?)", code):
        raise Refused(f"numpy.dtype of {code[:20]!r}")
    return _Dtype(np.dtype(code))


def _values(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray | None:
    dtype, shape = _expect(_Dtype, dtype).numpy, tuple(map(whole, shape))
    if dtype is None:
        return None
    data = _latin1(data)
    if len(shape) > 32 or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError("an array is not as large as its shape")
    return np.ndarray(shape, dtype, data, order="F" if order == "F" else "C")


def _scalar(dtype: Any, data: Any = None) -> Any:
    values = _values(data, dtype, (), "C")
    return None if values is None else values.item()


def _latin1(text: Any, encoding: Any = "latin1") -> bytes:
    """Returns bytes; Python 2 wrote them as text, and so does Python 3 in protocol 2, through `codecs.encode`."""
    if encoding not in ("latin1", "latin-1"):
        raise Refused("_codecs.encode to another encoding")
    return text.encode("latin1") if isinstance(text, str) else bytes(memoryview(text))


_NAMES = {
    "collections.OrderedDict": Call(lambda items=(): _pairs([part for pair in items for part in pair])),
    "builtins.set": Call(_set),
    "builtins.frozenset": Call(_set),
    "builtins.complex": Call(lambda *parts: complex(*(_expect(float, part) for part in parts))),
    "builtins.bytearray": Call(lambda data=b"", encoding="latin1": _latin1(data, encoding)),
    "_codecs.encode": Call(_latin1),
    "numpy.ndarray": "numpy.ndarray",
    "numpy.dtype": Call(_dtype),
}
for _core in ("numpy.core", "numpy._core"):
    _NAMES[f"{_core}.multiarray._reconstruct"] = Call(lambda *_: Array())
    _NAMES[f"{_core}.multiarray.scalar"] = Call(_scalar)
    _NAMES[f"{_core}.numeric._frombuffer"] = Call(
        lambda data, dtype, shape, order: Array(_values(data, dtype, shape, order))
    )


def read_caffe2(path: Path) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Reads `{"blobs": {name: array}}` or `{name: array}`, as published by VMZ.

    Returns:
      The arrays, their names without a `gpu_0/` scope, and the names of other values in the file.

    Raises:
      UserError: the file is truncated, or has anything but arrays and containers.
    """
    try:
        with path.open("rb") as file:
            loaded = load(file)
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
    return {str(name).rpartition("/")[2]: blob.values for name, blob in blobs.items()}, left_out


def _is_numeric(blob: Any) -> bool:
    return isinstance(blob, Array) and blob.values is not None and blob.values.dtype.kind in "fiub"
