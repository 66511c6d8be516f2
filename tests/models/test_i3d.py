"""I3D against an independent PyTorch reference, and against DeepMind's weights where they are at hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch_i3d
from converting import assert_identical, assert_same, clip, ours, to_torch
from flax import nnx
from paths import needs_real
from torch_sources import import_torchvision, randomise

from r23d_jax import convert, models
from r23d_jax.models import i3d
from r23d_jax.weights import loading

GOLDEN = "clips/ucf101/v_CricketShot_g04_c01_rgb.i3d_rgb_kinetics400_scratch.logits.npy"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """An I3D of the published size with random weights, under piergiaj's names."""
    network = randomise(torch_i3d.I3D(classes=400))
    path = tmp_path_factory.mktemp("i3d") / "i3d.pt"
    torch.save(network.state_dict(), path)
    return path, network


def as_tensorflow(state, scope="RGB/inception_i3d/", vectors=False):
    """A state dict under DeepMind's names and layouts."""
    places = {
        "b0": "Branch_0/Conv3d_0a_1x1",
        "b1a": "Branch_1/Conv3d_0a_1x1",
        "b1b": "Branch_1/Conv3d_0b_3x3",
        "b2a": "Branch_2/Conv3d_0a_1x1",
        "b2b": "Branch_2/Conv3d_0b_3x3",
        "b3b": "Branch_3/Conv3d_0b_1x1",
    }
    leaves = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    renamed = {}
    for key, tensor in state.items():
        if key.endswith(("bn.weight", "num_batches_tracked")):
            continue
        path, layer, leaf = key.rsplit(".", 2)
        path = path.replace("logits", "Logits/Conv3d_0c_1x1")
        if path.startswith("Mixed"):
            mixed, branch = path.split(".")
            path = f"{mixed}/{places[branch]}"
            if path == "Mixed_5b/Branch_2/Conv3d_0b_3x3":
                path = "Mixed_5b/Branch_2/Conv3d_0a_3x3"
        if layer == "bn":
            value = tensor.numpy().reshape((1, 1, 1, 1, -1) if vectors else -1)
            renamed[f"{scope}{path}/batch_norm/{leaves[leaf]}"] = value
        elif leaf == "weight":
            renamed[f"{scope}{path}/conv_3d/w"] = tensor.permute(2, 3, 4, 1, 0).numpy()
        else:
            renamed[f"{scope}{path}/conv_3d/b"] = tensor.numpy()
    return renamed


def save_tensorflow(prefix, tensors):
    """A TensorFlow checkpoint of these variables, without a graph."""
    import tensorflow as tf

    names = sorted(tensors)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(tensors[name]) for name in names],
    )


# --- the network -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames, size", [(33, 40), pytest.param(2, 33, marks=pytest.mark.slow)])
def test_every_endpoint_and_the_logits(published, frames, size):
    """Odd and even sizes: SAME pads them differently.

    33 frames leave five steps before the head, so that the ends weigh less than the middle; two leave one.
    """
    path, network = published
    model, card = convert.load(path)
    assert card.arch == "i3d" and card.bn_epsilon == 1e-3 and card.preprocessing.frames == 0
    assert card.labels[227] == "playing cricket"
    video = clip(frames, size)
    with torch.no_grad():
        assert_same(ours(model, video), network(to_torch(video)))


def test_same_padding_is_tensorflows():
    import tensorflow as tf

    x = np.random.default_rng(0).normal(size=(1, 5, 8, 7, 2)).astype(np.float32)
    for window, strides in [
        ((3, 3, 3), (2, 2, 2)),
        ((1, 3, 3), (1, 2, 2)),
        ((2, 2, 2), (2, 2, 2)),
        ((3, 3, 3), (1, 1, 1)),
    ]:
        expected = tf.nn.max_pool3d(x, (1, *window, 1), (1, *strides, 1), "SAME").numpy()
        np.testing.assert_array_equal(i3d.same_max_pool(jnp.asarray(x), window, strides), expected)
        kernel = np.ones((*window, 2, 1), np.float32)
        expected = tf.nn.conv3d(x, kernel, (1, *strides, 1), "SAME").numpy()
        padding = i3d.same_padding(x.shape[1:4], window, strides)
        found = jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_gradients_of_a_module():
    """Through branches, SAME pools and convolutions: PyTorch's gradients of the input and of every weight."""
    widths = (8, 6, 8, 4, 6, 5)
    reference = randomise(torch_i3d.Mixed(7, *widths))
    module = i3d.Mixed(7, widths, epsilon=1e-3, dtype=jnp.float32, rngs=nnx.Rngs(0))
    for name, branch in reference.named_children():
        unit = getattr(module, name)
        unit.conv3d.kernel[...] = branch.conv3d.weight.detach().numpy().transpose(2, 3, 4, 1, 0)
        for leaf, theirs in (
            ("scale", "weight"),
            ("bias", "bias"),
            ("mean", "running_mean"),
            ("var", "running_var"),
        ):
            getattr(unit.bn, leaf)[...] = getattr(branch.bn, theirs).detach().numpy()
    module.eval()
    video = np.abs(clip(4, 6, 7))
    graph, params, rest = nnx.split(module, nnx.Param, ...)

    @jax.jit
    def gradients(params, video):
        return jax.grad(lambda p, v: (nnx.merge(graph, p, rest)(v) ** 2).sum(), (0, 1))(params, video)

    found, of_input = gradients(params, video)
    x = to_torch(video).requires_grad_()
    (reference(x) ** 2).sum().backward()
    assert_same({"input": np.asarray(of_input)}, {"input": x.grad})
    for name, branch in reference.named_children():
        kernel = np.asarray(found[name]["conv3d"]["kernel"][...]).transpose(4, 3, 0, 1, 2)
        expected = branch.conv3d.weight.grad.numpy()
        assert np.abs(kernel - expected).max() < 1e-4 * np.abs(expected).max(), name


@pytest.mark.slow
@pytest.mark.parametrize("channels, dtype", [(2, jnp.bfloat16), (3, jnp.float32)])
def test_it_trains(channels, dtype):
    """Steps lower the loss, dropout follows its key, and the statistics move."""
    model = models.create("i3d", 3, rngs=nnx.Rngs(0), in_channels=channels, width=8, dropout=0.5, dtype=dtype)
    video, labels = clip(8, 32, channels, batch=4), np.array([0, 1, 2, 0])
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def step(params, rest, seed):
        def loss(params):
            model = nnx.merge(graph, params, rest, copy=True)
            logits = model(video, rngs=nnx.Rngs(dropout=jax.random.key(seed)))
            chosen = jax.nn.log_softmax(logits)[jnp.arange(4), labels]
            return -chosen.mean(), (logits, nnx.state(model, nnx.Not(nnx.Param)))

        (value, (logits, rest)), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return value, logits, jax.tree.map(lambda p, g: p - 0.02 * g, params, gradient), rest

    before = np.asarray(model.Mixed_3b.b0.bn.mean[...])
    first, logits, trained, moved = step(params, rest, 1)
    assert logits.dtype == jnp.float32
    assert not np.array_equal(step(params, rest, 2)[1], logits)
    np.testing.assert_array_equal(step(params, rest, 1)[1], logits)
    for _ in range(5):
        last, _, trained, moved = step(trained, moved, 1)
    assert last < first
    assert not np.array_equal(nnx.merge(graph, trained, moved).Mixed_3b.b0.bn.mean[...], before)


def test_inputs_it_cannot_take_are_refused():
    model = models.create("i3d", 3, rngs=nnx.Rngs(0), width=8)
    with pytest.raises(models.UserError, match=r"\[batch, frames, height, width, 3\]"):
        model(clip(8, 32, channels=2))
    with pytest.raises(models.UserError, match="normalise"):
        model(np.zeros((1, 8, 32, 32, 3), np.uint8))
    with pytest.raises(models.UserError, match="layers=.*it has: width"):
        models.create("i3d", rngs=nnx.Rngs(0), layers=(1, 1, 1, 1))


# --- its weights -------------------------------------------------------------------------------------------


def test_piergiaj_there_and_back(tmp_path, published):
    path, network = published
    assert convert.main([str(path), str(tmp_path / "ours")]) == 0
    assert convert.main([str(tmp_path / "ours"), str(tmp_path / "back.pt")]) == 0
    assert_identical(torch.load(tmp_path / "back.pt", weights_only=True), network.state_dict())


@pytest.mark.parametrize("scope, channels", [("RGB/inception_i3d/", 3), ("Flow/inception_i3d/", 2), ("", 3)])
def test_deepmind_checkpoints(tmp_path, scope, channels):
    """Variables of the published names: under either scope, and bare with the optimizer's (Kinetics-600)."""
    network = randomise(torch_i3d.I3D(classes=600 if not scope else 400, channels=channels))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.ones_(module.weight)  # DeepMind's has none
    tensors = as_tensorflow(network.state_dict(), scope, vectors=not scope)
    if scope:
        listed = needs_facts(scope)
        assert listed is None or {name: list(value.shape) for name, value in tensors.items()} == listed
    else:
        tensors |= {f"{name}/Momentum": value for name, value in tensors.items() if "moving" not in name}
    save_tensorflow(tmp_path / "model.ckpt", tensors)
    values, card = loading.load_flat(tmp_path if scope else tmp_path / "model.ckpt")
    assert card.arch == "i3d" and card.model["in_channels"] == channels and card.licence == "Apache-2.0"
    assert card.preprocessing.channels == ("flow" if channels == 2 else "rgb")
    assert len(card.labels) == (400 if scope else 0)
    torch.save(network.state_dict(), tmp_path / "same.pt")
    expected, _ = loading.load_flat(tmp_path / "same.pt")
    assert all(np.array_equal(values[name], expected[name]) for name in expected | values)


def needs_facts(scope):
    """DeepMind's own list of variables, where it is at hand."""
    from paths import REAL

    path = REAL.parent / "facts" / f"deepmind_i3d_{scope.split('/')[0].lower()}_imagenet.variables.txt"
    if not path.exists():
        return None
    lines = [line.split(" ", 1) for line in path.read_text().splitlines() if line.startswith(scope)]
    return {name: [int(n) for n in rest[1 : rest.index("]")].split(",")] for name, rest in lines}


def inflate(state, expected):
    return {
        name: tensor[:, :, None].repeat(1, 1, expected[name].shape[2], 1, 1) / expected[name].shape[2]
        if tensor.ndim == 4 and expected[name].ndim == 5
        else tensor
        for name, tensor in state.items()
    }


def test_googlenet_inflated(tmp_path):
    """The same tensors as I3D's own file with kernels repeated over time: hence the same outputs."""
    torchvision = import_torchvision()
    image = randomise(torchvision.models.googlenet(num_classes=10, init_weights=False, aux_logits=True))
    torch.save(image.state_dict(), tmp_path / "googlenet.pth")
    values, card = loading.load_flat(tmp_path / "googlenet.pth")
    assert "inflated to i3d" in card.init and card.model["num_classes"] == 10
    reference = torch_i3d.I3D(classes=10).eval()
    letters = dict(zip("3a 3b 4a 4b 4c 4d 4e 5a 5b".split(), torch_i3d.MIXED, strict=True))
    branches = {
        "branch1": "b0",
        "branch2.0": "b1a",
        "branch2.1": "b1b",
        "branch3.0": "b2a",
        "branch3.1": "b2b",
        "branch4.1": "b3b",
    }
    renamed = {}
    for key, tensor in image.state_dict().items():
        if key.startswith("aux"):
            continue
        key = (
            key.replace("conv1.", "Conv3d_1a_7x7.")
            .replace("conv2.", "Conv3d_2b_1x1.")
            .replace("conv3.", "Conv3d_2c_3x3.")
        )
        for theirs, mixed in letters.items():
            for old, new in branches.items():
                key = key.replace(f"inception{theirs}.{old}.", f"Mixed_{mixed}.{new}.")
        key = key.replace(".conv.", ".conv3d.").replace("fc.", "logits.conv3d.")
        renamed[key] = tensor[..., None, None, None] if key == "logits.conv3d.weight" else tensor
    reference.load_state_dict(inflate(renamed, reference.state_dict()))
    torch.save(reference.state_dict(), tmp_path / "i3d.pt")
    expected, _ = loading.load_flat(tmp_path / "i3d.pt")
    assert all(np.array_equal(values[name], expected[name]) for name in expected | values)


@pytest.mark.parametrize("version", [1, 2])
def test_slim_inception_inflated(tmp_path, version):
    """TF-Slim's Inception-v1, in both of TensorFlow's checkpoint formats (it was published in the first)."""
    import tensorflow as tf

    network = randomise(torch_i3d.I3D(classes=1001))
    tensors = {}
    for name, value in as_tensorflow(network.state_dict(), "InceptionV1/").items():
        name = name.replace("Conv3d", "Conv2d").replace("batch_norm", "BatchNorm").replace("conv_3d/w", "weights")
        tensors[name.replace("conv_3d/b", "biases")] = value.mean(0) if value.ndim == 5 else value
    tensors["global_step"] = np.int64(5)
    if version == 2:
        save_tensorflow(tmp_path / "inception_v1.ckpt", tensors)
    else:
        names = sorted(tensors)
        tf.raw_ops.Save(
            filename=str(tmp_path / "inception_v1.ckpt"),
            tensor_names=names,
            data=[tf.constant(tensors[name]) for name in names],
        )
    values, card = loading.load_flat(tmp_path / "inception_v1.ckpt")
    assert card.model["num_classes"] == 1001 and "2D slim-inception" in card.init
    kernel = values["Conv3d_1a_7x7.conv3d.kernel"]
    flat = tensors["InceptionV1/Conv2d_1a_7x7/weights"]
    np.testing.assert_allclose(kernel, np.stack([flat / 7] * 7), rtol=1e-6)
    np.testing.assert_allclose(
        values["Mixed_5b.b2b.conv3d.kernel"].sum(0),
        tensors["InceptionV1/Mixed_5b/Branch_2/Conv2d_0a_3x3/weights"],
        rtol=1e-5,
    )
    assert (values["Mixed_3b.b0.bn.scale"] == 1).all()


# --- DeepMind's weights and clip ---------------------------------------------------------------------------


def real_clip():
    from PIL import Image, ImageSequence

    path = needs_real("clips/ucf101/v_CricketShot_g04_c01_rgb.gif")
    with Image.open(path) as clip:
        frames = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(clip)]
    return np.stack(frames)[None].astype(np.float32) / 255 * 2 - 1


def test_deepminds_weights_on_deepminds_clip(tmp_path):
    """79 frames at their own 224x224: the 400 logits, read from PyTorch's and from TensorFlow's format."""
    path = needs_real("weights/i3d_rgb_kinetics400_scratch.pt")
    golden = np.load(needs_real(GOLDEN)).reshape(-1)
    model, card = convert.load(path)
    graph, state = nnx.split(model)
    logits = np.asarray(jax.jit(lambda state, video: nnx.merge(graph, state)(video))(state, real_clip()))[0]
    assert np.abs(logits - golden).max() < 1e-3
    scores = np.exp(logits) / np.exp(logits).sum()
    assert card.labels[scores.argmax()] == "playing cricket" and scores.max() > 0.98

    save_tensorflow(tmp_path / "model.ckpt", as_tensorflow(torch.load(path, weights_only=True)))
    values, same = loading.load_flat(tmp_path / "model.ckpt")
    expected = models.flatten(model)
    assert values.keys() == expected.keys() and same.labels == card.labels
    assert all(np.array_equal(values[name], expected[name]) for name in expected)  # hence the same logits
