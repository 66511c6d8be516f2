"""Every row of published weights, the facts they were corrected by, and the command that lists and fetches them."""

import functools
import http.server
import json
import math
import re
import threading

import numpy as np
import pytest
import torch
import torch_sources

from r23d_jax import convert, models
from r23d_jax.errors import UserError
from r23d_jax.weights import __main__ as command
from r23d_jax.weights import architecture, download, families, registry
from r23d_jax.weights.families import datasets, inception, torchvision
from r23d_jax.weights.family import Family, File, Published
from tfds_ucf101.layouts import ucf101

PUBLISHED = registry.published()
SCHEMES = ("https://", "http://")


def zeros(shape):
    """An array of any shape that takes four bytes."""
    return np.broadcast_to(np.float32(0), shape)


# --- the files as they are published, without their values ---


@functools.cache
def network(name):
    """Our paths -> zeros, of the network in a row's file."""
    entry = PUBLISHED[name]
    image = registry.family_of(entry).image
    arguments = {"num_classes": entry.classes or 1, "in_channels": 3 if image else len(entry.preprocessing.mean)}
    if models.get(entry.arch).fixed_frames:
        arguments["frames"] = entry.preprocessing.frames
    values = {}
    for path, leaf in models.flatten(architecture.abstract(entry.arch, arguments)).items():
        shape = (1, *leaf.shape[1:]) if image and len(leaf.shape) == 5 else leaf.shape
        if entry.classes or not path.startswith("fc."):
            values[path] = zeros(shape)
    return values


def torch_names(name, table):
    tensors, errors = table.export(network(name))
    assert not errors
    counters = {key.replace("running_mean", "num_batches_tracked") for key in tensors if key.endswith("running_mean")}
    return tensors | {counter: np.asarray(7, np.int64) for counter in counters}


def caffe2_names(name):
    """As VMZ's conversion script pairs them with torchvision's names."""
    tensors, _ = torchvision.VIDEO.export(network(name))
    state = {key: torch.zeros(()).expand(value.shape) for key, value in tensors.items()}
    return torch_sources.blobs(state, torch_sources.LAYERS[34 if "_34" in PUBLISHED[name].arch else 18])


def without_scales(name):
    """Sonnet and Slim leave out the scale of batch normalisations."""
    return {path: value for path, value in network(name).items() if not path.endswith(".scale")}


def deepmind_names(name):
    if not name.endswith("kinetics600"):
        scope = "Flow" if "flow" in name else "RGB"
        return inception.deepmind([f"{scope}/inception_i3d/x"]).export(without_scales(name))[0]
    # No scope, an optimizer, and vectors of five axes.
    tensors, _ = inception.deepmind(()).export(without_scales(name))
    tensors = {k: zeros((1, 1, 1, 1, *v.shape)) if "batch_norm" in k else v for k, v in tensors.items()}
    return tensors | {f"{key}/Momentum": value for key, value in tensors.items()}


def file_of(name):
    """Names and shapes in a row's file, as the readers return them."""
    family = registry.family_of(PUBLISHED[name])
    if family.name == "vmz":
        return caffe2_names(name)
    if family.name == "deepmind":
        return deepmind_names(name)
    if family.name == "slim-inception":
        return inception.SLIM.export(without_scales(name))[0]
    if family.name == "kenshohara-r2p1d":
        return torch_names(name, family.table(["x.conv3."] if "_50" in PUBLISHED[name].arch else ()))
    tensors = torch_names(name, family.table(()))
    if family.name == "dpc":
        tensors |= {"agg.cell_list.0.reset_gate.weight": zeros((256, 512, 1, 1)), "network_pred.0.bias": zeros((256,))}
    return tensors


@pytest.mark.parametrize("name", PUBLISHED)
def test_row(name):
    entry = PUBLISHED[name]
    family = registry.family_of(entry)
    assert name == entry.name and entry.pretrained and re.fullmatch(r"([\w.-]+( AND [\w.-]+)*)?", entry.licence)

    for file in entry.files:
        assert file.url.startswith(SCHEMES) and all(url.startswith(SCHEMES) for url in (*file.mirrors, *file.pages))
        assert file.direct or "drive.google.com" in file.url
        for digest, digits in ((file.sha256, (0, 8, 64)), (file.sha1, (0, 40)), (file.git_blob, (0, 40))):
            assert len(digest) in digits and re.fullmatch("[0-9a-f]*", digest)
        assert file.has_hash or not file.mirrors, "who knows whether it is the same file"
    assert 10 < registry.mebibytes(entry) < 400

    spec = entry.preprocessing
    assert len(spec.mean) == len(spec.std) == (2 if spec.channels == "flow" else 3)
    assert (spec.flow is None) == (spec.channels == "rgb") and min(np.atleast_1d(spec.resize)) >= spec.crop
    assert all(score["protocol"] and score["metric"] and 40 < score["value"] < 100 for score in entry.scores)
    if not isinstance(entry.labels, File):
        assert len(registry.labels(entry)) == (entry.classes if entry.labels else 0)

    tensors = file_of(name)
    found, table = families.recognise(tensors, name)
    assert found.name == family.name
    ours, _, errors = table.convert(tensors)
    assert not errors and ours.keys() == (without_scales if family.implied else network)(name).keys()
    shapes = {path: value.shape for path, value in ours.items()}
    if not family.image:
        assert architecture.recognise(shapes, family.archs, name) == models.canonical(entry.arch)
    options = architecture.options(entry.arch, shapes)
    assert options["num_classes"] == entry.classes
    assert options["in_channels"] == (3 if family.image else len(spec.mean))


def test_no_two_files_share_a_place_in_the_cache():
    names = [file.name for entry in PUBLISHED.values() for file in entry.files]
    names += {entry.labels.name for entry in PUBLISHED.values() if isinstance(entry.labels, File)}
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", ["torchvision-r3d_18-kinetics400", "torchvision-r2plus1d_18-kinetics400"])
def test_estimates_are_close_to_the_published_size(name, monkeypatch):
    published = registry.mebibytes(PUBLISHED[name])
    monkeypatch.setattr(registry, "has_size", lambda entry: False)
    assert registry.mebibytes(PUBLISHED[name]) == pytest.approx(published, rel=0.001)


@pytest.mark.parametrize("name", ["vmz-r2plus1d_34-32-flow-sports1m-kinetics400", "torchvision-resnet50-imagenet"])
def test_estimates_count_every_value(name, monkeypatch):
    monkeypatch.setattr(registry, "has_size", lambda entry: False)
    values = sum(math.prod(value.shape) for value in network(name).values())
    assert registry.mebibytes(PUBLISHED[name]) == values * 4 / 2**20


# --- names ---


def test_names_are_found_or_suggested():
    assert registry.get("vmz-rmc4_18-16-kinetics400").scores[1]["value"] == 65.6
    with pytest.raises(UserError, match="did you mean .*torchvision-r3d_18-kinetics400"):
        registry.get("torchvision-r3d_18-kinetics")


def test_identified_by_hash():
    digest = "b3b3357ead25631ec9c57362ff2128a92d0427e01e2cd184951a44380c3f2e9d"
    assert registry.identify(digest).name == "torchvision-r3d_18-kinetics400"
    assert registry.identify("ade133f1" + "0" * 56).name == "ig65m-r2plus1d_34-32-kinetics400"
    assert registry.identify("b3b3357e" + "0" * 56) is None and registry.identify("0" * 64) is None


def test_kinetics_names():
    names = datasets.kinetics400()
    assert len(names) == len(set(names)) == 400 and names == tuple(sorted(names, key=str))
    assert names[0] == "abseiling" and names[227] == "playing cricket" and names[399] == "zumba"


def test_ucf101_names():
    assert datasets.ucf101() == ucf101.CLASSES
    ordered = registry.labels(PUBLISHED["dronefreak-mc3_18-ucf101"])
    assert ordered == tuple(sorted(ucf101.CLASSES))
    differ = {name for name, other in zip(ordered, ucf101.CLASSES, strict=True) if name != other}
    assert differ == {"HammerThrow", "Hammering", "JumpRope", "JumpingJack"}


# --- facts ---


def preprocessing(family, arch):
    return next(f for f in families.FAMILIES if f.name == family).preprocessing(arch, 3, None)


def test_the_study_scales_the_short_side_to_136():
    spec = preprocessing("kenshohara", "resnet18_2d3d_full")
    assert (spec.resize, spec.crop) == (136, 112)


@pytest.mark.parametrize("arch, resize, crop", [("resnet18_2d3d_full", 137, 128), ("resnet34_2d3d_full", 240, 224)])
def test_dpc_crops_224_of_240(arch, resize, crop):
    spec = preprocessing("dpc", arch)
    assert (spec.resize, spec.crop) == (resize, crop) and resize == round(240 * crop / 224)


def test_kinetics600_has_names():
    file = PUBLISHED["deepmind-i3d_rgb-kinetics600"].labels
    assert file.git_blob == "639e9c91fa8a941ea57942872fae55628d590b42" and file.url.endswith("/label_map_600.txt")


def test_labels_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("R23D_CACHE", str(tmp_path))
    file = File("labels.txt", "https://example.org/labels.txt")
    entry = Published("x", "i3d", (), torchvision.preprocessing(), 3, file)
    (tmp_path / "labels.txt").write_text("a b\nc\nd\n\n")
    assert registry.labels(entry) == ("a b", "c", "d")
    (tmp_path / "labels.txt").write_text("a\n")
    with pytest.raises(UserError, match="labels.txt: 1 class names for the 3 of x; remove it"):
        registry.labels(entry)


def test_kenshohara_r2p1d():
    rows = {k: (v.arch, v.classes, v.files[0].name) for k, v in PUBLISHED.items() if k.startswith("hara-r2plus1d")}
    assert rows == {
        "hara-r2plus1d_18-k": ("hara_r2plus1d_18", 700, "r2p1d18_K_200ep.pth"),
        "hara-r2plus1d_34-k": ("hara_r2plus1d_34", 700, "r2p1d34_K_200ep.pth"),
        "hara-r2plus1d_50-k": ("hara_r2plus1d_50", 700, "r2p1d50_K_200ep.pth"),
        "hara-r2plus1d_50-km": ("hara_r2plus1d_50", 1039, "r2p1d50_KM_200ep.pth"),
    }


def test_kenshohara_2018_subtracts_a_mean_of_bytes():
    entry = PUBLISHED["hara-r3d_50-kinetics400-2018"]
    spec, pixels = entry.preprocessing, np.array([0, 128, 255.0])
    assert (pixels / 255 - spec.mean) / spec.std == pytest.approx(pixels - (114.7748, 107.7354, 99.4750))
    assert entry.classes == 400 and entry.labels == ""


def test_mirrors():
    kms = PUBLISHED["hara-r3d_50-kms"].files[0]
    assert not kms.direct and len(kms.addresses) == 1 and kms.sha1 == "39ea626355308d8f75307cab047a8d75862c3261"
    for stream in ("rgb", "flow"):
        for name in (f"piergiaj-i3d_{stream}-imagenet-kinetics400", f"piergiaj-i3d_{stream}-charades"):
            file = PUBLISHED[name].files[0]
            assert len(file.addresses) == 2 and "obvious-research/phenaki-cvivit/resolve/67d652f" in file.mirrors[0]
    assert PUBLISHED["piergiaj-i3d_rgb-charades"].files[0].git_blob == "ae56da9f0d1cdefd9643d1ca6c1b5b944f9e7467"
    assert PUBLISHED["piergiaj-i3d_flow-charades"].files[0].git_blob == "e609545f2ae2d992ca715b819ed6b53b8f5c8b95"
    assert PUBLISHED["vmz-r3d_18-16-kinetics400"].files[0].pages[0].endswith("141ZmpOfFo_Bfb6gFXh30SvVGnAgapA-l")


def test_licences():
    assert PUBLISHED["ig65m-r2plus1d_34-32"].licence == "MIT AND Apache-2.0"
    assert {v.licence for k, v in PUBLISHED.items() if k.startswith("xdc-")} == {"MIT"}


def test_whole_hashes_of_torchvision():
    for arch, start in (("r3d_18", "b3b3357ead25"), ("mc3_18", "a90a0ba35ca1"), ("r2plus1d_18", "91a641e6c2ab")):
        file = PUBLISHED[f"torchvision-{arch}-kinetics400"].files[0]
        assert len(file.sha256) == 64 and file.sha256.startswith(start) and file.name == f"{arch}-{start[:8]}.pth"
    assert PUBLISHED["torchvision-r3d_18-kinetics400"].files[0].megabytes == pytest.approx(
        133_546_016 / 2**20, abs=1e-3
    )


@pytest.mark.parametrize("arch, claimed, measured", [("mc3_18", 87.05, 86.83), ("r3d_18", 83.43, 82.95)])
def test_ucf101_scores_say_how_the_epoch_was_chosen(arch, claimed, measured):
    entry = PUBLISHED[f"dronefreak-{arch}-ucf101"]
    assert [score["value"] for score in entry.scores] == [claimed, measured]
    assert all("best epoch chosen on the test split" in score["protocol"] for score in entry.scores)
    assert "claimed by its author" in entry.scores[0]["protocol"] and "3,782 videos" in entry.scores[1]["protocol"]
    spec = entry.preprocessing
    assert (spec.resize, spec.crop, spec.frames, spec.sampling) == ((128, 171), 112, 16, "linspace")


# --- the command ---


def test_the_list(run):
    status, out, _ = run(command.main)
    lines = out.splitlines()
    assert status == 0 and max(map(len, lines)) <= 120
    for name, entry in PUBLISHED.items():
        row = next(line for line in lines if line.split()[:1] == [name])
        assert entry.arch in row and entry.licence in row
    assert sum("10 clips uniformly spaced" in line for line in lines) == 2, "a protocol is said once for its rows"
    assert " torchvision-r3d_18-kinetics400               r3d_18              127 400 named " in out
    assert "~127 400 named    Apache-2.0         52.9 / 64.7 / 85" in out
    assert run(lambda: convert.main(["--list"]))[1] == out


def test_the_list_of_a_network(run):
    def names(network):
        lines = run(command.main, "--network", network)[1].splitlines()
        return [line.split()[0] for line in lines if line.startswith(" ") and not line.startswith("  ")]

    summed = [f"vmz-{arch}_18-{frames}-kinetics400" for frames in (8, 16) for arch in ("r3d", "rmc2", "rmc3", "rmc4")]
    start = ["torchvision-r3d_18-kinetics400", "dronefreak-r3d_18-ucf101", "torchvision-resnet18-imagenet"]
    assert names("r2plus3d_18") == [*start, *summed]
    assert names("r3d_50") == ["torchvision-resnet50-imagenet"]
    assert names("resnet34_2d3d_full") == [name for name in PUBLISHED if "resnet34_2d3d" in name]
    assert names("r2d_18") == ["vmz-r2d_18-8-kinetics400", "vmz-r2d_18-16-kinetics400"]
    status, _, err = run(command.main, "--network", "r3d_19")
    assert status == 1 and "did you mean" in err
    assert "give one of them" in run(command.main, "x", "--network", "r3d_18")[2]


def test_the_list_as_json(run, tmp_path):
    entries = json.loads(run(command.main, "--json", "-")[1])
    assert [entry["name"] for entry in entries] == list(PUBLISHED)
    first = entries[0]
    assert first["family"] == "torchvision" and first["mebibytes"] == 127.359 and first["size_is_published"]
    assert first["files"][0]["url"].startswith("https://") and first["preprocessing"]["fps"] == 15
    assert first["scores"][0]["protocol"] and first["labels"] == "kinetics400"
    out = run(command.main, "--json", tmp_path / "list.json")[1]
    assert json.loads((tmp_path / "list.json").read_text()) == entries and "scores in %" in out


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def row(tmp_path, monkeypatch):
    """A row whose weights and class names a server of our own has; returns the cache folder."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "w.pth").write_bytes(b"weights")
    (tmp_path / "files" / "names.txt").write_text("run\nwalk\n")
    monkeypatch.setenv("R23D_CACHE", str(tmp_path / "cache"))
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path / "files")
    ) as at:
        threading.Thread(target=at.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{at.server_address[1]}/"
        entry = Published(
            "walks",
            "r3d_18",
            (File("w.pth", url + "w.pth"),),
            torchvision.preprocessing(),
            2,
            File("names.txt", url + "names.txt"),
            "",
            ({"metric": "top1", "value": 50.0, "protocol": "two walks"},),
        )
        family = Family(name="walkers", table=dict, archs=("r3d_18",), preprocessing=dict, published=(entry,))
        monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, family))
        yield tmp_path / "cache"
        at.shutdown()


def test_one_is_fetched_and_described(run, row):
    status, out, _ = run(command.main, "walks")
    assert status == 0 and (row / "w.pth").read_bytes() == b"weights"
    assert f"file: {row / 'w.pth'}" in out and "classes: 2, 'run' to 'walk'" in out
    assert "licence: not stated by its publisher" in out and "top1 50: two walks" in out
    assert "resize=(128, 171), crop=112" in out and out.endswith("use: r23d predict --checkpoint walks VIDEO\n")
    entry = json.loads(run(command.main, "walks", "--json", "-")[1])
    assert entry["labels"] == ["run", "walk"] and entry["paths"] == [str(row / "w.pth")]


def test_one_without_classifier(run, monkeypatch, tmp_path):
    monkeypatch.setattr(download, "fetch_file", lambda file: tmp_path / file.name)
    out = run(command.main, "xdc-r2plus1d_18-audioset")[1]
    assert "classes: no classifier" in out
    assert "use: r23d train" in out and "--config.init_from=xdc-r2plus1d_18-audioset" in out


def test_an_unknown_name(run):
    status, _, err = run(command.main, "torchvision-r3d-kinetics400")
    assert status == 1 and "did you mean torchvision-r3d_18-kinetics400" in err and err.count("\n") == 1
