"""Every family in, checked stage by stage against PyTorch; and out again, bit for bit."""

import pickle

import numpy as np
import pytest
import torch
import torch_sources as sources
from converting import assert_identical, assert_same, clip, ours, to_torch

from r23d_jax import convert
from r23d_jax.weights import architecture, families, loading

GROUPS = {
    "r2d_18": "f2222",
    "f_r2d_18": "22222",
    "r3d_18": "33333",
    "vmz_r2plus1d_18": "ppppp",
    "mc2_18": "32222",
    "mc3_18": "33222",
    "mc4_18": "33322",
    "mc5_18": "33332",
    "rmc2_18": "23333",
    "rmc3_18": "22333",
    "rmc4_18": "22233",
    "rmc5_18": "22223",
}


def there_and_back(source, folder, out, state, arch=None):
    """Through both commands; what comes out has the source's names and bits."""
    arguments = [str(source), str(folder)] + (["--arch", arch] if arch else [])
    assert convert.main(arguments) == 0
    assert convert.main([str(folder), str(out)]) == 0
    back = torch.load(out, weights_only=True)
    assert_identical(back, state)


# --- torchvision -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mc3_18", "r2plus1d_18", pytest.param("r3d_18", marks=pytest.mark.slow)])
def test_torchvision(tmp_path, name):
    torchvision = sources.import_torchvision()
    network = sources.randomise(getattr(torchvision.models.video, name)(num_classes=7))
    path = tmp_path / "weights.pth"
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, path)
    model, card = convert.load(path)
    assert card.arch == name and card.bn_epsilon == 1e-5 and card.labels == ()
    assert card.preprocessing.resize == (128, 171) and card.preprocessing.fps == 15
    video = clip()
    with torch.no_grad():
        assert_same(ours(model, video), sources.stages(network, to_torch(video)))
    there_and_back(path, tmp_path / "ours", tmp_path / "back.pth", network.state_dict())
    fresh = getattr(torchvision.models.video, name)(num_classes=7)
    fresh.load_state_dict(torch.load(tmp_path / "back.pth", weights_only=True))  # torchvision takes it, strictly


@pytest.mark.parametrize("by, layers", [(8, (1, 2, 1, 1)), pytest.param(1, (3, 4, 6, 3), marks=pytest.mark.slow)])
def test_ig65m(tmp_path, by, layers):
    """IG-65M's files: torchvision's names, inner widths per convolution, epsilon 1e-3."""
    network = sources.narrow(sources.video_resnet("ppppp", layers, classes=359), by)
    torch.save(sources.randomise(network).state_dict(), tmp_path / "ig.pth")
    model, card = convert.load(tmp_path / "ig.pth", "r2plus1d_34" if by > 1 else None)
    assert card.arch == "r2plus1d_34" and card.bn_epsilon == 1e-3 and card.preprocessing.frames == 32
    video = clip(4)
    with torch.no_grad():
        assert_same(ours(model, video), sources.stages(network, to_torch(video)))


def test_safetensors_needs_no_torch(tmp_path):
    """In and out through `.safetensors` without PyTorch or TensorFlow being imported."""
    import subprocess
    import sys

    from safetensors.torch import load_file, save_file

    network = sources.randomise(sources.narrow(sources.video_resnet("33222", classes=3, epsilon=1e-5)))
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    code = (
        "import sys\n"
        "for name in ('torch', 'tensorflow'): sys.modules[name] = None\n"
        "from r23d_jax import convert\n"
        f"convert.main([{str(tmp_path / 'a.safetensors')!r}, {str(tmp_path / 'ours')!r}, '--arch', 'mc3_18'])\n"
        f"convert.main([{str(tmp_path / 'ours')!r}, {str(tmp_path / 'b.safetensors')!r}])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert_identical(load_file(tmp_path / "b.safetensors"), network.state_dict())


def test_half_precision_comes_back_as_it_was(tmp_path):
    network = sources.randomise(sources.narrow(sources.video_resnet("22222", classes=3, epsilon=1e-5)))
    for dtype in (torch.float16, torch.bfloat16):
        state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in network.state_dict().items()}
        path = tmp_path / f"{dtype}.pth"
        torch.save(state, path)
        there_and_back(path, tmp_path / f"ours{dtype}", tmp_path / f"back{dtype}.pth", state, "f_r2d_18")


# --- VMZ ---------------------------------------------------------------------------------------------------


def save_pkl(path, network, layers=(2, 2, 2, 2)):
    blobs = sources.blobs(network.state_dict(), layers)
    path.write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    return blobs


@pytest.mark.parametrize("name", ["rmc4_18", "r2d_18", pytest.param("vmz_r2plus1d_18", marks=pytest.mark.slow)])
def test_vmz(tmp_path, name):
    network = sources.narrow(sources.video_resnet(GROUPS[name], frames=8, classes=400))
    save_pkl(tmp_path / "vmz.pkl", sources.randomise(network))
    model, card = convert.load(tmp_path / "vmz.pkl", name)
    assert card.arch == name and card.bn_epsilon == 1e-3 and card.labels[227] == "playing cricket"
    assert card.preprocessing.fps is None and card.preprocessing.mean[0] == 0.43216
    video = clip()
    with torch.no_grad():
        assert_same(ours(model, video), sources.stages(network, to_torch(video)))


@pytest.mark.parametrize("name", GROUPS)
def test_vmz_ladder(tmp_path, name):
    """The whole ladder is recognised by its shapes, and every blob arrives where torchvision's name puts it."""
    with torch.device("meta"):
        full = sources.video_resnet(GROUPS[name], classes=400)
    shapes = {
        key: torch.empty(0) if value.ndim == 0 else torch.zeros(()).expand(value.shape)
        for key, value in full.state_dict().items()
    }
    assert recognised(sources.blobs(shapes, (2, 2, 2, 2))) == name

    network = sources.randomise(sources.narrow(sources.video_resnet(GROUPS[name], classes=400)))
    blobs = save_pkl(tmp_path / "vmz.pkl", network)
    values, card = loading.load_flat(tmp_path / "vmz.pkl", name)
    assert card.arch == name and card.model["num_classes"] == 400
    torch.save(network.state_dict(), tmp_path / "tv.pth")
    expected, other = loading.load_flat(tmp_path / "tv.pth", name)
    assert other.arch == card.arch and values.keys() == expected.keys() and len(values) == len(blobs)
    assert all(np.array_equal(values[path], expected[path]) for path in values)


@pytest.mark.parametrize("depth", [18, 34])
def test_vmz_flow_and_sports1m(tmp_path, depth):
    with torch.device("meta"):
        full = sources.video_resnet("ppppp", sources.LAYERS[depth], classes=487, channels=2)
    shapes = {k: torch.zeros(()).expand(v.shape) for k, v in full.state_dict().items()}
    expected = "vmz_r2plus1d_18" if depth == 18 else "r2plus1d_34"
    assert recognised(sources.blobs(shapes, sources.LAYERS[depth])) == expected

    network = sources.narrow(sources.video_resnet("ppppp", sources.LAYERS[depth], classes=487, channels=2))
    save_pkl(tmp_path / "flow.pkl", network, sources.LAYERS[depth])
    _, card = loading.load_flat(tmp_path / "flow.pkl", expected)
    assert card.model["in_channels"] == 2 and card.labels == ()
    assert card.preprocessing.channels == "flow" and card.preprocessing.flow == "farneback"
    # VMZ standardises pixels; ours stand on 0..255 for -20..20.
    pixels, stored = 3.0, (3.0 + 20) / 40
    mean, std = card.preprocessing.mean[0], card.preprocessing.std[0]
    assert (stored - mean) / std == pytest.approx((pixels - 0.0046635) / 0.972347, rel=1e-6)


def recognised(blobs):
    """The network that tensors of these names and shapes are taken for."""
    family, table = families.recognise(blobs, "blobs")
    tensors, _, errors = table.convert(blobs)
    assert not errors and len(tensors) == len(blobs)
    return architecture.recognise({k: v.shape for k, v in tensors.items()}, family.archs, "blobs")


def test_by_its_published_name(tmp_path, monkeypatch):
    """A file fetched by hand into the cache; one that is another network's is refused."""
    monkeypatch.setenv("R23D_CACHE", str(tmp_path))
    small = sources.narrow(sources.video_resnet(GROUPS["rmc4_18"], classes=400))
    save_pkl(tmp_path / "rmc4_d18_l16.pkl", small)
    _, card = loading.load_flat("vmz-rmc4_18-16-kinetics400", "r2plus3d_18")
    assert card.published[1]["value"] == 65.6 and "10 clips" in card.published[1]["protocol"]
    assert card.licence == "Apache-2.0" and card.labels[399] == "zumba" and card.preprocessing.frames == 16
    assert card.source["published"] == "vmz-rmc4_18-16-kinetics400" and "Kinetics-400" in card.init
    save_pkl(tmp_path / "mc4_d18_l16.pkl", small)
    with pytest.raises(convert.UserError, match="holds rmc4_18, not mc4_18: remove it"):
        loading.load_flat("vmz-mc4_18-16-kinetics400", "rmc4_18")


def test_r2d_of_three_frames_is_named(tmp_path):
    """A stem of 3 frames is MC2's unless R2D is asked for: the shapes are the same."""
    save_pkl(tmp_path / "vmz.pkl", sources.video_resnet("f2222", frames=3))
    assert loading.load_flat(tmp_path / "vmz.pkl")[1].arch == "mc2_18"
    card = loading.load_flat(tmp_path / "vmz.pkl", "r2d_18")[1]
    assert card.arch == "r2d_18" and card.model["frames"] == 3


# --- kenshohara, DPC, the study ----------------------------------------------------------------------------

KENSHOHARA = [
    ("hara_r3d_18", 18, "3d", False),
    ("hara_r2plus1d_18", 18, "2+1d", False),
    ("resnet18_2d3d_full", 18, "3d", True),
    ("hara_r3d_34", 34, "3d", False),
    ("hara_r3d_50", 50, "3d", False),
    ("hara_r2plus1d_34", 34, "2+1d", False),
    ("hara_r2plus1d_50", 50, "2+1d", False),
    ("resnet34_2d3d_full", 34, "3d", True),
    ("resnet50_2d3d_full", 50, "3d", True),
]


def deep_is_slow(cases):
    return [case if case[1] == 18 else pytest.param(*case, marks=pytest.mark.slow) for case in cases]


@pytest.mark.parametrize("name, depth, kind, full", KENSHOHARA)
def test_kenshohara_shapes_are_recognised(name, depth, kind, full):
    with torch.device("meta"):
        network = sources.ResNet(depth, kind, full)
    shapes = {k: np.broadcast_to(np.float32(0), v.shape) for k, v in network.state_dict().items() if v.ndim}
    assert recognised(shapes) == name


@pytest.mark.parametrize("name, depth, kind, full", deep_is_slow(KENSHOHARA))
def test_kenshohara_and_the_study(tmp_path, name, depth, kind, full):
    network = sources.randomise(sources.ResNet(depth, kind, full, classes=6, width=16))
    torch.save({"arch": "resnet-18", "state_dict": network.state_dict(), "optimizer": {}}, tmp_path / "a.pth")
    model, card = convert.load(tmp_path / "a.pth", name)
    assert card.arch == name and card.bn_epsilon == 1e-5 and card.model["width"] == 16
    video = clip(16)
    with torch.no_grad():
        assert_same(ours(model, video), network(to_torch(video)))
    there_and_back(tmp_path / "a.pth", tmp_path / "ours", tmp_path / "b.pth", network.state_dict(), name)


def dpc_state(network, statistics=True):
    state = {
        f"module.backbone.{k}": v
        for k, v in network.state_dict().items()
        if statistics or not k.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }
    rest = {"agg.cell_list.0.reset_gate.weight": (4, 8, 1, 1), "network_pred.0.bias": (4,), "mb": (8, 4)}
    return state | {f"module.{name}": torch.zeros(shape) for name, shape in rest.items()}


def test_dpc_backbone(tmp_path, capsys):
    network = sources.randomise(sources.ResNet(18, full=True, head=False, width=8))
    checkpoint = {
        "epoch": 3,
        "net": "resnet18",
        "best_acc": np.float64(0.5),
        "state_dict": dpc_state(network),
    }
    torch.save(checkpoint, tmp_path / "dpc.pth.tar")
    name = "resnet18_2d3d_full"
    model, card = convert.load(tmp_path / "dpc.pth.tar", name, ["a", "b", "c"])
    assert card.arch == "resnet18_2d3d_full" and "initialised anew: fc.bias, fc.kernel" in card.init
    assert model.fc.kernel.shape == (32, 3) and card.preprocessing.stride == 3
    video = clip(8)
    with torch.no_grad():
        assert_same(ours(model, video), network(to_torch(video)))
    assert convert.main([str(tmp_path / "dpc.pth.tar"), str(tmp_path / "ours"), "--arch", name]) == 0
    printed = capsys.readouterr().out
    assert "MemDPC's memory bank" in printed and "recurrent aggregation" in printed


def test_dpc_without_statistics_says_so(tmp_path):
    """DPC's first 34-layer file kept no running statistics; they are named as initialised anew."""
    network = sources.ResNet(18, full=True, head=False)
    torch.save({"state_dict": dpc_state(network, statistics=False)}, tmp_path / "dpc.pth.tar")
    values, card = loading.load_flat(tmp_path / "dpc.pth.tar")
    assert "initialised anew: " in card.init and " and 40 more" in card.init
    assert not values["stem.1.mean"].any() and (values["layer4.1.conv2.1.var"] == 1).all()


# --- transplants and 2D networks ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def r3d(tmp_path_factory):
    network = sources.randomise(sources.video_resnet("33333", classes=400, epsilon=1e-5))
    path = tmp_path_factory.mktemp("r3d") / "r3d_18.pth"
    torch.save(network.state_dict(), path)
    return path, network


def test_transplant(r3d):
    """Kinetics' R3D-18 in R(2+3)D: kernels summed over time in the 2D stages, the rest untouched."""
    path, network = r3d
    model, card = convert.load(path, "r2plus3d_18")
    assert card.arch == "r2plus3d_18" and card.published == () and card.source["arch"] == "r3d_18"
    assert card.init.startswith("transplant of r3d_18 into rmc4_18: 9 kernels summed over time")
    reference = sources.video_resnet("22233", classes=400, epsilon=1e-5).eval()
    state = network.state_dict()
    for name in state:
        if state[name].ndim == 5 and (name.startswith("stem") or name[5] in "12") and state[name].shape[2] == 3:
            state[name] = state[name].sum(2, keepdim=True)
    reference.load_state_dict(state)
    video = clip()
    with torch.no_grad():
        assert_same(ours(model, video), sources.stages(reference, to_torch(video)))


@pytest.mark.parametrize(
    "name, summed",
    [
        ("r3plus2d_18", 8),
        ("mc2_18", 16),
        ("mc3_18", 12),
        ("mc5_18", 4),
        ("rmc2_18", 1),
        ("rmc5_18", 13),
        ("f_r2d_18", 17),
    ],
)
def test_every_transplant_of_the_ladder(r3d, name, summed):
    values, card = loading.load_flat(r3d[0], name)
    assert f"{summed} kernels summed over time" in card.init
    assert np.array_equal(values["layer1.0.conv1.1.var"], r3d[1].layer1[0].conv1[1].running_var.numpy())


@pytest.mark.parametrize("name", ["r2plus1d_18", "hara_r3d_18", "resnet18_2d3d_full", "r2d_18", "r3d_34", "i3d"])
def test_no_transplant_into_another_kind(r3d, name):
    with pytest.raises(convert.UserError, match="weights of r3d_18"):
        convert.load(r3d[0], name)


def test_a_2d_network_has_no_time_to_give(tmp_path):
    """The other way round is refused: a video network's 2D kernels are not inflated by mistake."""
    torch.save(sources.video_resnet("33222", classes=3).state_dict(), tmp_path / "mc3.pth")
    with pytest.raises(
        convert.UserError, match=r"weights of mc3_18, not of r3d_18 \(set arch to mc3_18\): layer2.0.conv1"
    ):
        convert.load(tmp_path / "mc3.pth", "r3d_18")


def test_imagenet_resnet_inflated(tmp_path):
    """The same tensors as R3D's own file with kernels repeated over time: hence the same outputs."""
    torchvision = sources.import_torchvision()
    image = sources.randomise(sources.narrow(torchvision.models.resnet18(num_classes=10)))
    torch.save(image.state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(convert.UserError, match="say with --arch what to inflate it to: .*hara_r3d_18"):
        convert.load(tmp_path / "resnet18.pth")
    values, card = loading.load_flat(tmp_path / "resnet18.pth", "hara_r3d_18")
    assert card.init.startswith("2D imagenet-resnet weights resnet18.pth, inflated to hara_r3d_18: 17 kernels")
    reference = sources.ResNet(18, classes=10, width=8).eval()
    state, two_d = reference.state_dict(), image.state_dict()
    for name, tensor in two_d.items():
        length = state[name].shape[2] if tensor.ndim == 4 else 0
        state[name] = tensor[:, :, None].repeat(1, 1, length, 1, 1) / length if length else tensor
    reference.load_state_dict(state)
    torch.save(reference.state_dict(), tmp_path / "r3d.pth")
    expected, _ = loading.load_flat(tmp_path / "r3d.pth", "hara_r3d_18")
    assert all(np.array_equal(values[name], expected[name]) for name in expected | values)


def test_inflated_frame_by_frame_is_the_2d_network(tmp_path):
    """f-R2D has the 2D kernels themselves: a still clip's stem is the 2D network's, frame by frame."""
    torchvision = sources.import_torchvision()
    image = sources.randomise(torchvision.models.resnet18(num_classes=10))
    torch.save(image.state_dict(), tmp_path / "resnet18.pth")
    model, _ = convert.load(tmp_path / "resnet18.pth", "f_r2d_18")
    still = np.repeat(clip(1), 3, axis=1)
    with torch.no_grad():
        expected = image.relu(image.bn1(image.conv1(to_torch(still)[:, :, 0])))
    found = ours(model, still)["stem"]
    for frame in range(3):
        np.testing.assert_allclose(found[0, frame], expected[0].permute(1, 2, 0).numpy(), atol=1e-4)


def test_flow_channels_from_rgb(r3d):
    values, card = loading.load_flat(r3d[0], in_channels=2)
    rgb = loading.load_flat(r3d[0])[0]["stem.0.kernel"]
    expected = np.repeat(rgb.mean(axis=3, keepdims=True), 2, axis=3)
    np.testing.assert_allclose(values["stem.0.kernel"], expected, rtol=1e-6)
    assert card.model["in_channels"] == 2 and "averaged over its input channels" in card.init
    assert len(card.preprocessing.mean) == 2 and card.preprocessing.channels == "flow"
