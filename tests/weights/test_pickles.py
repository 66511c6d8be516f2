"""What a pickle could do to the process that reads it: crash it, change it, fill its memory, or never end."""

import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest

from r23d_jax.errors import UserError
from r23d_jax.weights import readers


def text(word):
    return b"X" + len(word).to_bytes(4, "little") + word.encode()


def value(content):
    return pickle.dumps(content, 2)[2:-1]


def dtype(code, *state):
    """A dtype whose state the file sets."""
    return b"cnumpy\ndtype\n" + text(code) + b"\x85R" + value(state) + b"b"


FROMBUFFER = b"cnumpy.core.numeric\n_frombuffer\n("
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n)R"
SCALAR = b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n"
FLOATS = text("storage") + b"ctorch\nFloatStorage\n"
SHIFTED = dtype("O8", 3, "|", None, None, None, -1, -1, 0)  # of objects, and says that it holds none
TWICE = b"N" + b"q\x00h\x00\x86" * 60  # a tuple of one tuple twice, and so on: 2 ** 60 steps to hash, compare or print
HOSTILE = {
    "bytes as objects": b"cbuiltins\nset\n"
    + FROMBUFFER
    + value(b"A" * 8)
    + SHIFTED
    + value((1,))
    + text("C")
    + b"tR\x85R",
    "bytes as an array's objects": RECONSTRUCT + b"(K\x01K\x01\x85" + SHIFTED + b"\x89C\x08AAAAAAAAtb",
    "NumPy's own type turned round": dtype("f4", 3, ">", None, None, None, -1, -1, 0),
    "a type of ml_dtypes spoilt": dtype("bfloat16", 3, "<", None, None, None, -2, -1, 0),
    "gigabytes of a scalar": SCALAR + text("V2000000000") + b"\x85R\x85R",
    "gigabytes of a memo": b"Nr\xff\xff\xff\x3f",
    "a key for ever": b"}" + TWICE + b"Ns",
    "a member for ever": b"cbuiltins\nset\n]" + TWICE + b"a\x85R",
    "a storage's name for ever": b"(" + FLOATS + TWICE + text("cpu") + b"K\x01tQ",
    "a storage's kind for ever": b"(" + text("storage") + TWICE + text("0") + text("cpu") + b"K\x01tQ",
    "a type for ever": b"ctorch._utils\n_rebuild_tensor_v3\n(NNNNNN" + TWICE + b"tR",
    "a key nested deeply": b"}N" + b"\x85" * 300_000 + b"Ns",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_neither_harms_the_process_nor_takes_for_ever(tmp_path, name):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04" + HOSTILE[name] + b".")
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x04" + HOSTILE[name] + b".")
        archive.writestr("archive/data/0", bytes(16))
    for file in ("a.pkl", "a.pth"):
        with pytest.raises(UserError):
            readers.read_tensors(tmp_path / file)
    assert np.dtype("f4").byteorder == "=" and np.float32(1).tobytes() == b"\x00\x00\x80\x3f"
    assert np.ones(2, ml_dtypes.bfloat16).tobytes() == b"\x80\x3f\x80\x3f"
