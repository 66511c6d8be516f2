"""Files that are not what they should be: one clear line each, nothing run, nothing left behind."""

import os
import pickle
import struct
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torch_sources as sources

from r23d_jax import convert
from r23d_jax.errors import UserError
from r23d_jax.weights import exporting, pickles, readers


class Evil:
    """Runs a command when it is unpickled by anything that runs what a pickle says."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def small(tmp_path):
    """A small R(2+3)D and its state dict."""
    network = sources.randomise(sources.narrow(sources.video_resnet("22233", classes=4)))
    return network.state_dict()


def refused(tmp_path, source, message, *arguments):
    """The command fails with one line that matches, and leaves nothing."""
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(UserError, match=message) as caught:
        convert.main([str(source), str(tmp_path / "ours"), *arguments])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1500
    assert sorted(os.listdir(tmp_path)) == before
    return str(caught.value)


def test_one_line_and_exit_status_from_the_shell(tmp_path):
    (tmp_path / "a.pth").write_text("<!DOCTYPE html><html>404</html>")
    command = [sys.executable, "-m", "r23d_jax.convert", str(tmp_path / "a.pth"), str(tmp_path / "ours")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("error: ") and "Traceback" not in result.stderr
    assert not (tmp_path / "ours").exists()


def test_web_page_lfs_pointer_empty_file_text(tmp_path):
    for text, message in [
        ("\n <!doctype HTML>\n<html>404", "a web page, not weights"),
        ("version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        ("", "empty file"),
        ("hello, world, this is no file of weights", "neither a PyTorch, safetensors"),
    ]:
        (tmp_path / "a.pth").write_text(text)
        refused(tmp_path, tmp_path / "a.pth", message)
    refused(tmp_path, tmp_path / "none.pth", "no such file")
    refused(tmp_path, "rmc4_18", "no published weights of that name.*vmz-rmc4_18")
    (tmp_path / "folder").mkdir()
    refused(tmp_path, tmp_path / "folder", "neither a TensorFlow checkpoint")


@pytest.mark.parametrize("legacy", [False, True])
def test_malicious_torch_file(tmp_path, small, legacy):
    marker = tmp_path / "ran"
    torch.save(
        {"state_dict": small, "extra": Evil(marker)}, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy
    )
    message = refused(tmp_path, tmp_path / "a.pth", "besides tensors.*refused")
    assert "system" in message and not marker.exists()


def test_malicious_pickle(tmp_path):
    marker = tmp_path / "ran"
    for index, content in enumerate([Evil(marker), {"blobs": {"conv1_w": Evil(marker)}}]):
        for protocol in (0, 2, 4):
            path = tmp_path / f"{index}{protocol}.pkl"
            path.write_bytes(pickle.dumps(content, protocol=protocol))
            assert "system" in refused(tmp_path, path, "besides arrays.*refused")
    for text in (
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy.core.multiarray\n_fromnested\n.",
    ):
        (tmp_path / "b.pkl").write_bytes(text)
        refused(tmp_path, tmp_path / "b.pkl", "refused")
    # bytes of Python 3 in an old protocol come through `codecs.encode`, and only that one way
    (tmp_path / "c.pkl").write_bytes(b"c_codecs\nencode\n(S'x'\nS'zlib'\ntR.")
    refused(tmp_path, tmp_path / "c.pkl", "refused")
    assert not marker.exists()


def test_python_2_pickles_are_read(tmp_path):
    """As Python 2 wrote them: latin-1 strings for bytes, `numpy.core`."""
    array = np.arange(6, dtype="<f4").reshape(2, 3)
    text = array.tobytes().decode("latin1")
    items = b"".join(
        [
            b"\x80\x02}U\x05blobs}U\x07conv1_w",
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R",
            b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            b"T" + len(text).to_bytes(4, "little") + text.encode("latin1") + b"tbss.",
        ]
    )
    (tmp_path / "py2.pkl").write_bytes(items)
    blobs, _ = pickles.read_caffe2(tmp_path / "py2.pkl")
    np.testing.assert_array_equal(blobs["conv1_w"], array)


def test_pickles_of_other_things(tmp_path):
    for content, message in [
        ([1, 2], "a pickle of a list"),
        ({"blobs": {}}, "no Caffe2 blobs"),
        ({"blobs": {"conv1_w": "text"}}, "not arrays of numbers: conv1_w"),
        ({"blobs": {"a": np.array([{}], object)}}, "not arrays of numbers: a"),
    ]:
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=2))
        refused(tmp_path, tmp_path / "a.pkl", message)


def test_truncated_files(tmp_path, small):
    from safetensors.torch import save_file

    torch.save(small, tmp_path / "a.pth")
    torch.save(small, tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    save_file(small, tmp_path / "c.safetensors")
    blobs = sources.blobs(small, (2, 2, 2, 2))
    (tmp_path / "d.pkl").write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    for name in ("a.pth", "b.pth", "c.safetensors", "d.pkl"):
        whole = (tmp_path / name).read_bytes()
        for share in (0.3, 0.9, 0.999):
            (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
            refused(tmp_path, tmp_path / name, "truncated")


def test_truncated_tensorflow_checkpoint(tmp_path):
    import tensorflow as tf

    values = np.ones((1000, 10), np.float32)
    tf.raw_ops.SaveV2(prefix=str(tmp_path / "m.ckpt"), tensor_names=["a"], shape_and_slices=[""], tensors=[values])
    data, index = tmp_path / "m.ckpt.data-00000-of-00001", tmp_path / "m.ckpt.index"
    refused(tmp_path, tmp_path / "m.ckpt", "not weights of a family")
    whole = data.read_bytes()
    data.write_bytes(whole[:1000])
    refused(tmp_path, tmp_path / "m.ckpt", "damaged or truncated")
    data.unlink()
    refused(tmp_path, tmp_path / "m.ckpt", "incomplete TensorFlow checkpoint: m.ckpt.data")
    data.write_bytes(whole)
    good = index.read_bytes()
    huge = b"\x00" + b"\xff" * 8 + b"\x3f"  # a block of 2**62 bytes: memory runs out before its checksum is looked at
    index.write_bytes(good[:-48] + 2 * huge + good[-48 + 2 * len(huge) :])
    refused(tmp_path, tmp_path, "damaged or truncated")
    index.write_bytes(good[:20])
    refused(tmp_path, tmp_path, "damaged or truncated")


def test_several_tensorflow_checkpoints_in_a_folder(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.ckpt.index").write_bytes(b"x")
    refused(tmp_path, tmp_path, "several TensorFlow checkpoints in it")


def test_half_a_state_dict(tmp_path, small):
    half = dict(list(small.items())[: len(small) // 2])
    torch.save(half, tmp_path / "a.pth")
    refused(tmp_path, tmp_path / "a.pth", "incomplete: layer4 is missing")
    without = {k: v for k, v in small.items() if not k.startswith(("layer2.1.conv2", "fc.bias"))}
    torch.save(without, tmp_path / "b.pth")
    message = refused(tmp_path, tmp_path / "b.pth", "not whole weights of rmc4_18", "--arch", "rmc4_18")
    for name in ("fc.bias", "layer2.1.conv2.0.kernel", "layer2.1.conv2.1.var"):
        assert f"{name} is missing" in message


def test_every_error_at_once(tmp_path, small):
    wrong = dict(small)
    wrong["layer1.0.conv1.0.weight"] = torch.zeros(8, 8, 1, 3)
    wrong["layer3.0.conv2.1.running_var"] = torch.zeros(9)
    wrong["layer4.1.conv2.1.bias"] = torch.zeros(64, dtype=torch.float64)
    wrong["attention.weight"] = torch.zeros(3)
    del wrong["layer2.0.downsample.1.bias"]
    torch.save(wrong, tmp_path / "a.pth")
    message = refused(tmp_path, tmp_path / "a.pth", "not whole weights of", "--arch", "r2plus3d_18")
    assert "attention.weight: not a tensor of this family" in message
    assert "layer1.0.conv1.0.weight: shape [8, 8, 1, 3], but 5 axes were expected" in message
    assert "layer3.0.conv2.1.var has shape [9], the network's is [32]" in message
    assert "layer4.1.conv2.1.bias is of type float64" in message
    assert "layer2.0.downsample.1.bias is missing" in message


def test_wrong_architecture(tmp_path, small):
    torch.save(small, tmp_path / "a.pth")
    refused(tmp_path, tmp_path / "a.pth", "no known network: .*width 8; --arch")
    refused(tmp_path, tmp_path / "a.pth", "no network is called 'resnet'", "--arch", "resnet")
    refused(tmp_path, tmp_path / "a.pth", "no known network", "--arch", "mc3_18")


def test_ambiguity_is_an_error(tmp_path, small):
    both = {"state_dict": small, "model": {"other": torch.zeros(3)}}
    torch.save(both, tmp_path / "a.pth")
    refused(tmp_path, tmp_path / "a.pth", r"say which, in `convert`: --key state_dict \| --key model$")
    torch.save({"bn.weight": torch.zeros(3), "bn.running_mean": torch.zeros(3)}, tmp_path / "b.pth")
    refused(tmp_path, tmp_path / "b.pth", "not weights of a family this converter knows")


def test_inert_objects_beside_the_tensors(tmp_path, small):
    """What training scripts save besides: read past, and named."""
    beside = {
        "epoch": 3,
        "best_acc": np.float64(0.5),
        "history": np.arange(3),
        "optimizer": {"state": {0: torch.ones(2)}},
    }
    torch.save({"state_dict": OrderedDict(small), **beside}, tmp_path / "a.pth")
    source = readers.read_tensors(tmp_path / "a.pth")
    assert source.left_out == ("epoch", "best_acc", "history", "optimizer") and len(source.tensors) == len(small)
    torch.save({"state_dict": small, "args": types.SimpleNamespace(lr=1)}, tmp_path / "b.pth")
    refused(tmp_path, tmp_path / "b.pth", "besides tensors.*refused.*SimpleNamespace.*save its state_dict")


# What real checkpoints look like: (what is saved for a state dict of torchvision's names, what was taken off).
STYLES = {
    "plain": (lambda state: state, ()),
    "study": (lambda state: {"epoch": 1, "state_dict": state, "acc": np.float64(1)}, ("the wrapper state_dict",)),
    "parallel": (lambda state: {"state_dict": prefixed("module.", state)}, ("the wrapper state_dict", "module.")),
    "compiled inside": (
        lambda state: {"model": {name.replace("layer1.", "layer1._orig_mod."): v for name, v in state.items()}},
        ("the wrapper model", "_orig_mod."),
    ),
    "any nesting": (
        lambda state: {"model": prefixed("_orig_mod.module.model.net.", state)},
        ("the wrapper model", "module.", "_orig_mod.", "model.", "net."),
    ),
    "state in state": (
        lambda state: {"checkpoint": {"model_state": state, "lr": 1.0}, "epoch": 2},
        ("the wrapper checkpoint.model_state",),
    ),
    "beside a tensor": (
        lambda state: {"epoch": torch.tensor(3), "checkpoint": {"state_dict": state}},
        ("the wrapper checkpoint.state_dict",),
    ),
    "PyTorchVideo": (
        lambda state: {"model_state": state, "optimizer_state": {"state": {0: {"exp_avg": torch.ones(2)}}}},
        ("the wrapper model_state",),
    ),
    "backbone": (
        lambda state: {"model_state_dict": prefixed("backbone.", state), "optimizer_state_dict": {"state": {}}},
        ("the wrapper model_state_dict", "backbone."),
    ),
    "mmaction2": (
        lambda state: {"meta": {"epoch": 1}, "state_dict": with_head("backbone.", "cls_head.fc_cls.", state)},
        ("the wrapper state_dict", "backbone.", "cls_head.fc_cls. (now fc.)"),
    ),
    "another head": (
        lambda state: prefixed("module.", with_head("backbone._orig_mod.", "head.", state)),
        ("module.", "_orig_mod.", "backbone.", "head. (now fc.)"),
    ),
    "Lightning": (
        lambda state: {
            "pytorch-lightning_version": "2.5.0",
            "state_dict": prefixed("model.", state)
            | {"criterion.weight": torch.ones(5), "train_acc.tp": torch.ones(5)},
            "optimizer_states": [{"state": {0: {"momentum_buffer": torch.ones(3)}}}],
            "lr_schedulers": [{"last_epoch": 3, "_last_lr": [np.float32(0.1)]}],
            "callbacks": {"EarlyStopping": {"best_score": torch.tensor(0.5)}},
        },
        ("the wrapper state_dict", "model."),
    ),
    "numpy scalars": (
        lambda state: {"net": state, "best": np.float32(0.5), "epoch": np.int64(3), "scheduler": {"lr": np.array(1.0)}},
        ("the wrapper net",),
    ),
}


def prefixed(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


def with_head(backbone, head, state):
    return {
        (head + name.removeprefix("fc.") if name.startswith("fc.") else backbone + name): value
        for name, value in state.items()
    }


@pytest.mark.parametrize("style", STYLES)
def test_what_real_checkpoints_look_like(tmp_path, small, style):
    make, stripped = STYLES[style]
    torch.save(make(small), tmp_path / "a.pth")
    read = readers.read_tensors(tmp_path / "a.pth")
    assert read.tensors.keys() == small.keys() and read.stripped == stripped
    assert all(np.array_equal(read.tensors[name], small[name].numpy()) for name in small)
    if style == "Lightning":
        assert read.left_out[-2:] == ("criterion.weight", "train_acc.tp") and "optimizer_states" in read.left_out


def test_several_holders_of_state_dicts_are_told_and_chosen_by_key(tmp_path, small):
    torch.save({"model": {"state_dict": small}, "model_ema": {"state_dict": small}}, tmp_path / "a.pth")
    refused(tmp_path, tmp_path / "a.pth", r"say which, in `convert`: --key model \| --key model_ema$")
    read = readers.read_tensors(tmp_path / "a.pth", "model_ema")
    assert read.tensors.keys() == small.keys() and read.stripped == ("the wrapper model_ema.state_dict",)


def test_layers_that_are_no_classifier_are_not_taken_for_one(tmp_path, small):
    """A projector beside a backbone, and matrices under a name like a metric's."""
    state = with_head("backbone.", "projector.", small)
    torch.save(state, tmp_path / "a.pth")
    read = readers.read_tensors(tmp_path / "a.pth")
    assert "projector.weight" in read.tensors and "fc.weight" not in read.tensors
    state = prefixed("model.", small) | {"val_head.weight": torch.ones(5, 3)}
    torch.save(state, tmp_path / "b.pth")
    assert "val_head.weight" in readers.read_tensors(tmp_path / "b.pth").tensors


def test_a_name_never_takes_anothers_place(tmp_path, small):
    both = {**small, "module.fc.bias": torch.zeros(3)}
    torch.save(both, tmp_path / "a.pth")
    assert readers.read_tensors(tmp_path / "a.pth").tensors.keys() == both.keys()


def test_the_parts_of_dpc_keep_their_prefix(tmp_path):
    state = {"backbone.conv1.weight": torch.zeros(2, 3, 1, 7, 7), "agg.cell_list.0.bias": torch.zeros(2)}
    torch.save({"state_dict": prefixed("module.", state)}, tmp_path / "a.pth")
    assert readers.read_tensors(tmp_path / "a.pth").tensors.keys() == state.keys()


def test_a_zip_that_is_no_torch_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(tmp_path, tmp_path / "a.pth", "damaged or truncated PyTorch file")
    whole = (tmp_path / "a.pth").read_bytes()
    end = whole.rindex(b"PK\5\6")
    of_two = struct.pack("<4sLQL", b"PK\6\7", 0, 0, 2)  # "this is one file of two"
    (tmp_path / "a.pth").write_bytes(whole[:end] + of_two + whole[end:])
    refused(tmp_path, tmp_path / "a.pth", "truncated")


def test_nothing_is_overwritten(tmp_path, small):
    torch.save(small, tmp_path / "a.pth")
    arch = ["--arch", "rmc4_18"]
    assert convert.main([str(tmp_path / "a.pth"), str(tmp_path / "ours"), *arch]) == 0
    for source, dest, message in [
        ("a.pth", "ours", "exists already"),
        ("a.pth", "a.pth", "is not a checkpoint of ours"),
        ("ours", "a.pth", "exists already"),
        ("ours", "other", "is a checkpoint of ours already"),
    ]:
        before = sorted(os.listdir(tmp_path))
        with pytest.raises(UserError, match=message):
            convert.main([str(tmp_path / source), str(tmp_path / dest)])
        assert sorted(os.listdir(tmp_path)) == before


def test_a_failed_write_leaves_nothing(tmp_path, small, monkeypatch):
    torch.save(small, tmp_path / "a.pth")
    convert.main([str(tmp_path / "a.pth"), str(tmp_path / "ours"), "--arch", "rmc4_18"])

    def half(path, state):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(exporting.torch_files, "write", half)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(OSError):
        convert.main([str(tmp_path / "ours"), str(tmp_path / "back.pth")])
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("counter", [torch.ones(2), torch.ones(0), torch.tensor(1 + 1j), torch.tensor(True)])
def test_a_counter_that_is_no_number(tmp_path, small, counter):
    name = "layer1.0.conv1.1.num_batches_tracked"
    assert name in small
    torch.save({**small, name: counter}, tmp_path / "a.pth")
    message = f"{name} is .*, but a count of updates is one whole number"
    refused(tmp_path, tmp_path / "a.pth", message, "--arch", "rmc4_18")
