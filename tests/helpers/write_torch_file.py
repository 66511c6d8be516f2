"""Writes the files in tests/weights/files: `python write_torch_file.py FOLDER`, with any Python and PyTorch.

Every value follows from its place, so that test_torch_files.py knows it without PyTorch. What a version of PyTorch
cannot do is left out. This runs on Python 2.7 and PyTorch 1.0 too.
"""

import argparse
import collections
import functools
import io
import os
import sys

import numpy as np
import torch

DTYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
DTYPES += ["complex128", "complex64", "uint16", "uint32", "uint64"]
DTYPES += ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"]


def of_dtype(name):
    """0 to 5; with an imaginary part one larger where there is one; odd or not; powers of two."""
    if name.startswith("complex"):
        values = [complex(i, i + 1) for i in range(6)]
    elif name == "float8_e8m0fnu":
        values = [2.0**i for i in range(6)]
    else:
        values = [i % 2 for i in range(6)] if name == "bool" else list(range(6))
    try:
        return torch.tensor(values, dtype=getattr(torch, name)).reshape(2, 3)
    except (RuntimeError, TypeError):  # has the type, and cannot make it from numbers
        return torch.tensor(values).to(getattr(torch, name)).reshape(2, 3)


def conjugate():
    value, file = of_dtype("complex64").conj(), io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    if not torch.equal(torch.load(file), value):
        raise ValueError("forgets it on saving")  # PyTorch 1.10 to 1.13
    return value


def tensors():
    """Pairs of a name and a function."""
    base = torch.arange(24).float().reshape(2, 3, 4)
    pairs = [("dtype " + name, lambda name=name: of_dtype(name)) for name in DTYPES]
    pairs += [
        ("shared", lambda: base),
        ("transposed", lambda: base.transpose(0, 2)),
        ("part", lambda: base[1, :, 1:3]),
        ("expanded", lambda: torch.tensor([7.0]).expand(5, 2)),
        ("scalar", lambda: torch.tensor(3)),
        ("empty", lambda: torch.zeros(0, 3)),
        ("parameter", lambda: torch.nn.Parameter(of_dtype("float32"))),
        ("conjugate", conjugate),
        ("channels last", lambda: base.reshape(1, 2, 3, 4).to(memory_format=torch.channels_last)),
    ]
    return pairs


def beside():
    """The same of what stands beside the weights."""
    weight = torch.nn.Parameter(of_dtype("float32"))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    return [
        ("epoch", lambda: 3),
        ("args", lambda: argparse.Namespace(lr=0.1, layers=[2, 2])),
        ("best", lambda: np.float64(0.5)),
        ("history", lambda: np.arange(3, dtype=np.float32)),
        ("size", lambda: torch.Size([2, 3])),
        ("device", lambda: torch.device("cpu")),
        ("dtype", lambda: torch.float32),
        ("optimizer", optimizer.state_dict),
    ]


def possible(pairs, save):
    found = collections.OrderedDict()
    for name, make in pairs:
        try:
            value = make()
            save(value, io.BytesIO())
            found[name] = value
        except Exception as error:
            sys.stderr.write("torch %s: no %s: %s\n" % (torch.__version__, name, str(error).split("\n")[0]))
    return found


def main():
    version = torch.__version__.split("+")[0]
    for form, options in (("legacy", {"_use_new_zipfile_serialization": False}), ("zip", {})):
        if tuple(map(int, version.split(".")[:2])) < (1, 6):  # where the zip format was the one to be asked for
            options = {} if form == "legacy" else {"_use_new_zipfile_serialization": True}
        save = functools.partial(torch.save, **options)
        state = possible(tensors(), save)
        if not state:
            continue
        state._metadata = collections.OrderedDict([("", {"version": 1})])  # as a module's state dict has it
        content = dict(possible(beside(), save), state_dict=state)
        save(content, os.path.join(sys.argv[1], "torch-%s-py%d-%s.pth" % (version, sys.version_info[0], form)))


if __name__ == "__main__":
    main()
