"""What a name of weights stands for: a path, an address, a published name."""

import sys
import types
from pathlib import Path

import pytest

from r23d_jax import weights
from r23d_jax.errors import UserError
from r23d_jax.weights import download, registry
from r23d_jax.weights.sources import Located, locate


def test_what_exists_is_taken_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "weights.pth").touch()
    (tmp_path / "model.ckpt.index").touch()
    for name in ("weights.pth", "model.ckpt", "."):
        path = tmp_path / name
        assert locate(path) == locate(str(path)) == Located(path, None, str(path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torchvision-r3d_18-kinetics400").mkdir()
    assert locate("torchvision-r3d_18-kinetics400").published is None


def test_published_names(monkeypatch):
    monkeypatch.setattr(download, "fetch", lambda name: Path("/cache") / name)
    name = "torchvision-r3d_18-kinetics400"
    assert locate(name) == Located(Path("/cache") / name, registry.get(name), name)


@pytest.mark.parametrize("write", [str, Path])
def test_addresses_of_the_hub(monkeypatch, write):
    """Path objects collapse their slashes."""
    hub = types.ModuleType("r23d_jax.weights.hub")
    hub.fetch = lambda source: Path("/hub") / source.removeprefix("hf://")
    monkeypatch.setitem(sys.modules, "r23d_jax.weights.hub", hub)
    monkeypatch.setattr(weights, "hub", hub, raising=False)
    address = "hf://owner/repo/file.safetensors@v1"
    found = locate(write(address))
    assert found == Located(Path("/hub/owner/repo/file.safetensors@v1"), None, address)


@pytest.mark.parametrize("write", [str, Path])
@pytest.mark.parametrize("address", ["https://me:pass@example.org/a/w.pth?token=x", "HTTP://example.org/w.pth"])
def test_addresses(monkeypatch, write, address):
    asked = []
    monkeypatch.setattr(download, "fetch_url", lambda address: asked.append(address) or Path("/w.pth"))
    found = locate(write(address))
    scheme, _, rest = address.partition("://")
    assert asked == [f"{scheme.lower()}://{rest}"] and found.path == Path("/w.pth") and found.published is None
    assert found.name in ("https://example.org/a/w.pth", "http://example.org/w.pth")


def test_a_long_query_is_no_file_name(monkeypatch):
    monkeypatch.setattr(download, "fetch_url", lambda address: Path("/w.pth"))
    assert locate(f"https://example.org/w.pth?signature={'x' * 5000}").name == "https://example.org/w.pth"


@pytest.mark.parametrize(
    "source, message",
    [
        ("missing.pth", "missing.pth: no such file or folder"),
        ("folder/missing", "folder/missing: no such file or folder"),
        (Path("folder/missing"), "folder/missing: no such file or folder"),
        ("torchvision-r3d_18-kinetics", "did you mean .*torchvision-r3d_18-kinetics400"),
        ("s3://bucket/key?secret", "^s3://...: not an address that can be fetched; hf://, https:// and http:// can$"),
    ],
)
def test_what_is_not_there(source, message):
    with pytest.raises(UserError, match=message):
        locate(source)
