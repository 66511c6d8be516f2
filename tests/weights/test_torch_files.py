"""PyTorch's files without PyTorch, compared with PyTorch itself, tensor by tensor."""

import argparse
import collections
import io
import pathlib
import pickle
import subprocess
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest
import torch
import torch_sources as sources

from r23d_jax.errors import UserError
from r23d_jax.weights import importing, readers, torch_files

FORMATS = {"zip": {}, "legacy": {"_use_new_zipfile_serialization": False}}
DTYPES = [getattr(torch, name) for name in torch_files._DTYPES]


def same(found, expected: torch.Tensor) -> bool:
    """Whether shape, type and every bit are PyTorch's."""
    found, expected = np.asarray(found), expected.detach().resolve_conj().contiguous()
    if found.shape != expected.shape or found.dtype.name != str(expected.dtype).removeprefix("torch."):
        return False
    return found.tobytes() == expected.reshape(-1).view(torch.uint8).numpy().tobytes()


def every_kind():
    """Tensors of every type and of every way to look at a storage."""
    torch.manual_seed(0)
    state = {str(dtype): (torch.rand(3, 4) * 100).to(dtype) for dtype in DTYPES}
    base = torch.arange(24.0).reshape(2, 3, 4)
    noted, noted_parameter = base.clone(), torch.nn.Parameter(base.clone())
    noted.note = noted_parameter.note = "an attribute"
    return state | {
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 3),
        "shared": base,
        "transposed": base.transpose(0, 2),
        "part": base[1, :, 1:3],
        "expanded": torch.ones(1).expand(5, 2),
        "parameter": torch.nn.Parameter(base.clone()),
        "with attributes": noted,
        "parameter with attributes": noted_parameter,
        "conjugate": torch.rand(3, dtype=torch.complex64).conj(),
        "channels last": torch.rand(2, 3, 4, 5, 6).to(memory_format=torch.channels_last_3d),
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("form", FORMATS)
def test_every_tensor_is_pytorchs(tmp_path, form, protocol):
    state, path = every_kind(), tmp_path / "a.pth"
    torch.save({"state_dict": state}, path, pickle_protocol=protocol, **FORMATS[form])
    found = torch_files.read(path)["state_dict"]
    assert list(found) == list(state)
    assert not [name for name in state if not same(found[name], state[name])]
    shared = np.asarray(found["shared"])
    assert not shared.flags.writeable and np.shares_memory(shared, np.asarray(found["transposed"]))


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("form", FORMATS)
def test_what_stands_beside_the_weights_is_read_past(tmp_path, form, protocol):
    beside = {
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, folder=pathlib.Path("/a/b")),
        "best": np.float64(0.5),
        "history": np.arange(3, dtype="<f4"),
        "ordered": collections.OrderedDict(a=1),
        "default": collections.defaultdict(dict, a={}),
        "counter": collections.Counter("abc"),
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
        "others": [{1, 2}, 1j, b"abc", bytearray(b"abc"), None, True, 1 << 100, ("a", 0.5)],
        "random": (torch.get_rng_state(), np.random.get_state()),
    }
    torch.save(
        {"state_dict": {"a": torch.ones(2)}, **beside}, tmp_path / "a.pth", pickle_protocol=protocol, **FORMATS[form]
    )
    found = torch_files.read(tmp_path / "a.pth")
    assert found["others"] == [{1, 2}, 1j, b"abc", b"abc", None, True, 1 << 100, ("a", 0.5)]
    assert found["best"] == 0.5 and found["history"].values.tolist() == [0, 1, 2]
    assert found["counter"] == {"a": 1, "b": 1, "c": 1} and found["args"] == {"lr": 0.1, "folder": "/a/b"}
    assert readers.read_tensors(tmp_path / "a.pth").left_out == tuple(beside)


def test_storages_that_nobody_asks_for_are_not_read(tmp_path):
    """An optimizer's state is three times the weights: damaged, it does no harm, and it costs no memory."""
    torch.save({"state_dict": {"a": torch.ones(4)}, "optimizer": {"m": torch.zeros(999)}}, tmp_path / "a.pth")
    whole = (tmp_path / "a.pth").read_bytes()
    middle = whole.index(bytes(999 * 4)) + 2000
    (tmp_path / "a.pth").write_bytes(whole[:middle] + b"\x01" + whole[middle + 1 :])
    assert readers.read_tensors(tmp_path / "a.pth").tensors["a"].tolist() == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="wrong checksum"):
        np.asarray(torch_files.read(tmp_path / "a.pth")["optimizer"]["m"])


def test_an_archive_that_was_packed_again(tmp_path):
    torch.save({"a": torch.arange(1000.0)}, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as old,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    with pytest.raises(UserError, match="packed again, with compression"):  # it could be of any size
        torch_files.read(tmp_path / "b.pth")


# --- files of other versions of PyTorch ---------------------------------------------------------------------

FILES = sorted(pathlib.Path(__file__).with_name("files").glob("*.pth"))
BESIDE = {
    "epoch": 3,
    "args": {"lr": 0.1, "layers": [2, 2]},
    "best": 0.5,
    "history": [0, 1, 2],
    "size": (2, 3),
    "device": ("cpu",),
    "dtype": "float32",
}


def by_rule(name):
    """What write_torch_file.py wrote under a name."""
    if name.startswith("dtype "):
        dtype = np.dtype(getattr(ml_dtypes, name[6:], name[6:]))
        values = np.arange(6).reshape(2, 3)
        values = 2.0**values if name.endswith("e8m0fnu") else values % 2 if name.endswith("bool") else values
        return (values + 1j * (values + 1) if dtype.kind == "c" else values).astype(dtype)
    base = np.arange(24, dtype="f4").reshape(2, 3, 4)
    return {
        "shared": base,
        "transposed": base.transpose(2, 1, 0),
        "part": base[1, :, 1:3],
        "expanded": np.full((5, 2), 7, "f4"),
        "scalar": np.int64(3),
        "empty": np.zeros((0, 3), "f4"),
        "parameter": np.arange(6, dtype="f4").reshape(2, 3),
        "conjugate": (np.arange(6) - 1j * np.arange(1, 7)).astype("c8").reshape(2, 3),
        "channels last": base[None],
    }[name]


def test_files_of_the_oldest_and_the_newest_version_are_there():
    names = [path.name for path in FILES]
    assert {"torch-1.0.0-py2-legacy.pth", "torch-1.6.0-py3-zip.pth", "torch-2.14.1-py3-zip.pth"} <= set(names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_of_other_versions_of_pytorch(path):
    loaded = torch_files.read(path)
    state = loaded.pop("state_dict")
    always = {f"dtype {name}" for name in ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8")}
    assert always | {"shared", "transposed", "part", "expanded", "scalar", "empty", "parameter"} <= state.keys()
    for name, tensor in state.items():
        found, expected = np.asarray(tensor), by_rule(name)
        assert (tensor.shape, tensor.dtype) == (found.shape, found.dtype) == (expected.shape, expected.dtype), name
        assert found.tobytes() == expected.tobytes(), name
    shared = np.asarray(state["shared"])
    assert all(np.shares_memory(shared, np.asarray(state[name])) for name in ("transposed", "part"))
    (moments,) = loaded.pop("optimizer")["state"].values()
    assert np.asarray(moments["exp_avg"]).shape == (2, 3) and int(np.asarray(moments["step"])) == 1
    loaded["history"] = loaded["history"].values.tolist()
    assert loaded == {name: value for name, value in BESIDE.items() if name in loaded or name != "dtype"}  # 1.0's, py2

    content = readers.read_tensors(path)
    assert set(content.left_out) == {"optimizer", *loaded}
    assert content.tensors.keys() == state.keys()
    assert all(content.tensors[name].tobytes() == by_rule(name).tobytes() for name in state)


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value[1:] if isinstance(value, tuple) and value[:1] == ("id",) else None


def write_legacy(path, content, keys, storages):
    with path.open("wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(value, file, protocol=2)
        Pickler(file, protocol=2).dump(content)
        pickle.dump(keys, file, protocol=2)
        file.write(storages)


class Rebuilt:
    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return torch._utils._rebuild_tensor, self.arguments


def test_views_of_storages_as_pytorch_0_wrote_them(tmp_path):
    """There a storage that is a part of another says so: `(its key, first element, size)`."""
    root = np.arange(6, dtype="<f4")
    whole = ("id", "storage", torch.FloatStorage, "1", "cpu", 6, None)
    part = ("id", "storage", torch.FloatStorage, "1", "cpu", 6, ("2", 2, 3))
    content = {"whole": Rebuilt(whole, 0, (2, 3), (3, 1)), "part": Rebuilt(part, 1, (2,), (1,))}
    data = (6).to_bytes(8, "little") + root.tobytes()
    write_legacy(tmp_path / "a.pth", content, ["1"], data)
    found = torch_files.read(tmp_path / "a.pth")
    assert np.asarray(found["whole"]).tolist() == [[0, 1, 2], [3, 4, 5]] and np.asarray(found["part"]).tolist() == [
        3,
        4,
    ]
    write_legacy(tmp_path / "a.pth", {"beyond": Rebuilt(part, 2, (2,), (1,))}, ["1"], data)
    with pytest.raises(ValueError, match="beyond its storage"):
        np.asarray(torch_files.read(tmp_path / "a.pth")["beyond"])


# --- wrappers ----------------------------------------------------------------------------------------------

WEIGHTS = {"conv.weight": torch.ones(2, 3), "fc.bias": torch.zeros(2)}


def prefixed(prefix, **more):
    return {f"{prefix}{name}": value for name, value in WEIGHTS.items()} | more


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"state_dict": prefixed("module.")},  # DataParallel
        {"model": prefixed("_orig_mod.module.")},  # torch.compile
        {"model_state": WEIGHTS, "cfg": "text"},  # PyTorchVideo's .pyth
        {
            "epoch": 1,
            "pytorch-lightning_version": "2.6",
            "state_dict": prefixed("model."),
            "hyper_parameters": {"lr": 1},
        },
        {"state_dict": prefixed("net.")},
        prefixed("module.", n_averaged=torch.tensor(3)),  # AveragedModel
        {"model_ema": prefixed("module.", n_averaged=torch.tensor(3))},
        {"state_dict_ema": WEIGHTS},
    ],
)
def test_wrappers_are_taken_off(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    found = readers.read_tensors(tmp_path / "a.pth").tensors
    assert list(found) == list(WEIGHTS) and all(same(found[name], WEIGHTS[name]) for name in WEIGHTS)


def test_weights_and_their_average_in_one_file(tmp_path):
    average = {name: value + 1 for name, value in WEIGHTS.items()}
    torch.save(
        {"model": WEIGHTS, "model_ema": prefixed("module.") | {"module.fc.bias": torch.ones(2)}}, tmp_path / "a.pth"
    )
    with pytest.raises(UserError, match=r"say which, in `convert`: --key model \| --key model_ema$"):
        readers.read_tensors(tmp_path / "a.pth")
    for key, bias in (("model", 0), ("model_ema", 1)):
        assert readers.read_tensors(tmp_path / "a.pth", key).tensors["fc.bias"].tolist() == [bias, bias]
    with pytest.raises(UserError, match="no state dict 'ema' in it; there are: model, model_ema"):
        readers.read_tensors(tmp_path / "a.pth", "ema")
    torch.save({**WEIGHTS, "ema": average}, tmp_path / "b.pth")
    with pytest.raises(UserError, match=r"--key \. \| --key ema$"):
        readers.read_tensors(tmp_path / "b.pth")
    for key, bias in ((".", 0), ("ema", 1)):
        assert readers.read_tensors(tmp_path / "b.pth", key).tensors["fc.bias"].tolist() == [bias, bias]
    torch.save({"generator": WEIGHTS, "critic": average}, tmp_path / "b.pth")
    with pytest.raises(UserError, match=r"--key generator \| --key critic$"):
        readers.read_tensors(tmp_path / "b.pth")
    assert readers.read_tensors(tmp_path / "b.pth", "critic").tensors["fc.bias"].tolist() == [1, 1]
    (tmp_path / "c.pkl").write_bytes(pickle.dumps({"a": np.ones(2)}))
    with pytest.raises(UserError, match="no PyTorch file.*leave out --key model"):
        importing.convert(tmp_path / "c.pkl", key="model")


# --- what may not happen -----------------------------------------------------------------------------------


class Calls:
    def __init__(self, function, *arguments, state=None):
        self.value = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.value


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("wrap", [lambda evil: evil, lambda evil: {"state_dict": {"a": torch.ones(1)}, "x": [evil]}])
def test_nothing_is_run(tmp_path, form, wrap):
    marker = tmp_path / "ran"
    for evil, name in (
        (Calls(eval, f"open({str(marker)!r}, 'w')"), "builtins.eval"),
        (Calls(getattr, torch.Size, "__class__"), "builtins.getattr"),
        (Calls(torch._tensor._rebuild_from_type_v2, exec, torch.Tensor, ("0",), {}), "builtins.exec"),
        (Calls(torch._tensor._rebuild_from_type_v2, set, torch.Tensor, ([1],), {}), "a tensor of another class"),
        (Calls(torch.load, str(marker)), "torch.serialization.load"),
    ):
        torch.save(wrap(evil), tmp_path / "a.pth", **FORMATS[form])
        with pytest.raises(UserError, match=rf"could run code when loaded: refused \({name}\)"):
            readers.read_tensors(tmp_path / "a.pth")
    assert not marker.exists()


def test_names_of_a_file_do_not_reach_the_terminal_as_they_are(tmp_path):
    torch.save({"state_dict": WEIGHTS, "a\nb\x1b[31m": 1, "c" * 999: 2}, tmp_path / "a.pth")
    left_out = readers.read_tensors(tmp_path / "a.pth").left_out
    assert left_out == ("a\\nb\\x1b[31m", "c" * 200)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # PyTorch's files hold such programs all the same
def test_programs_and_other_classes_of_tensors_are_named(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "a.pt")
    with pytest.raises(UserError, match="a TorchScript program, not weights alone"):
        readers.read_tensors(tmp_path / "a.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "b.pt")
    with pytest.raises(UserError, match=r"refused \(torch.nn.modules.linear.Linear\); save its state_dict"):
        readers.read_tensors(tmp_path / "b.pt")
    torch.save({"a": torch.ones(2, 2).to_sparse()}, tmp_path / "c.pt")
    with pytest.raises(UserError, match="_rebuild_sparse_tensor"):
        readers.read_tensors(tmp_path / "c.pt")


@pytest.mark.parametrize("form", FORMATS)
def test_every_byte_damaged_once(tmp_path, form):
    """Refused, or the same numbers where the archive has checksums; the first format has none for its numbers."""
    state = {"a": torch.arange(5.0), "b": torch.ones(2, 3).half()}
    file = io.BytesIO()
    torch.save(state, file, **FORMATS[form])
    whole, path = file.getvalue(), tmp_path / "a.pth"
    refusals = 0
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            found = readers.read_tensors(path).tensors
        except UserError as error:
            assert "\n" not in str(error)
            refusals += 1
        else:
            if form == "zip" and found.keys() == state.keys():
                assert all(same(found[name], state[name]) for name in state)
    assert refusals > len(whole) // 4


@pytest.mark.parametrize("form", FORMATS)
def test_every_length_cut(tmp_path, form):
    file = io.BytesIO()
    torch.save({"a": torch.arange(5.0), "b": torch.ones(2, 3)}, file, **FORMATS[form])
    for length in range(1, len(file.getvalue())):
        (tmp_path / "a.pth").write_bytes(file.getvalue()[:length])
        with pytest.raises(UserError):
            readers.read_tensors(tmp_path / "a.pth")


# --- writing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapped", [False, True])
def test_pytorch_reads_what_is_written(tmp_path, mapped):
    kinds = {str(dtype) for dtype in DTYPES} - {f"torch.{name}" for name in torch_files._STORAGES.values()}
    state = {name: value for name, value in every_kind().items() if name not in kinds}
    torch.save(state, tmp_path / "theirs.pth")
    ours = {name: np.asarray(value) for name, value in torch_files.read(tmp_path / "theirs.pth").items()}
    torch_files.write(tmp_path / "ours.pth", ours)
    back = torch.load(tmp_path / "ours.pth", weights_only=True, mmap=mapped)
    assert list(back) == list(state) and all(same(ours[name], back[name]) for name in state)
    assert all(value.is_contiguous() and value.data_ptr() % 64 == 0 for value in back.values() if value.numel())
    again = torch_files.read(tmp_path / "ours.pth")
    assert all(same(again[name], state[name]) for name in state)
    with pytest.raises(KeyError):
        torch_files.write(tmp_path / "no.pth", {"a": np.array(["text"])})


def test_without_pytorch(tmp_path):
    """There and back in a process that cannot import it."""
    network = sources.randomise(sources.narrow(sources.video_resnet("22233", classes=4)))
    torch.save(network.state_dict(), tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from r23d_jax import convert\n"
        f"convert.main([{str(tmp_path / 'a.pth')!r}, {str(tmp_path / 'ours')!r}, '--arch', 'rmc4_18'])\n"
        f"convert.main([{str(tmp_path / 'ours')!r}, {str(tmp_path / 'b.pth')!r}])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    fresh = sources.narrow(sources.video_resnet("22233", classes=4))
    fresh.load_state_dict(torch.load(tmp_path / "b.pth", weights_only=True), strict=True)
    assert all(
        torch.equal(a, b) for a, b in zip(fresh.state_dict().values(), network.state_dict().values(), strict=True)
    )
