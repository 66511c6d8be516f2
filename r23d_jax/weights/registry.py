"""The published weights of all families, by name and by the hashes of their files."""

import difflib
import functools
import math
import types

import jax
from flax import nnx

from r23d_jax import models
from r23d_jax.errors import UserError, one_line
from r23d_jax.models.registry import Shapes
from r23d_jax.weights import families
from r23d_jax.weights.families import datasets
from r23d_jax.weights.family import Family, File, Published

_LABELS = {
    "": tuple,
    "kinetics400": datasets.kinetics400,
    "ucf101-sorted": lambda: tuple(sorted(datasets.ucf101())),
}


def published() -> dict[str, Published]:
    """Returns every publication by its name, ordered by family."""
    return {entry.name: entry for family in families.FAMILIES for entry in family.published}


def get(name: str) -> Published:
    """Returns the publication of a name.

    Raises:
      UserError: there is none; the message suggests the closest name.
    """
    known = published()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(close)}?" if close else "; `r23d weights` lists those there are"
        raise UserError(f"{name}: no published weights of that name, and no such file or folder{hint}")
    return known[name]


def identify(sha256: str, git_blob: str = "") -> Published | None:
    """Returns the publication of a file with these hashes, if any."""
    for entry in published().values():
        for file in entry.files:
            known = (file.sha256 and sha256.startswith(file.sha256)) or (file.git_blob and file.git_blob == git_blob)
            if known:
                return entry
    return None


def family_of(entry: Published) -> Family:
    """Returns the family of a publication."""
    return next(family for family in families.FAMILIES if entry in family.published)


def has_size(entry: Published) -> bool:
    """Returns whether the size of all files is published."""
    return all(file.megabytes for file in entry.files)


def mebibytes(entry: Published) -> float:
    """Returns the size of a publication in 2**20 bytes: as published, or that of its network's float32 values."""
    if has_size(entry):
        return sum(file.megabytes for file in entry.files)
    image = family_of(entry).image
    fixed = models.get(entry.arch).fixed_frames
    others, features, first = _values(entry.arch, entry.preprocessing.frames if fixed else 0, image)
    channels = 3 if image else len(entry.preprocessing.mean)
    return 4 * (others + (features + 1) * entry.classes + first * channels) / (1 << 20)


@functools.cache
def _values(arch: str, frames: int, image: bool) -> tuple[int, int, int]:
    """Returns the number of values beside head and first kernel, of features, and of that kernel per input channel."""
    shapes = dict(_shapes(arch, frames))
    if image:  # the 2D network's kernels
        shapes = {path: shape[1:] if len(shape) == 5 else shape for path, shape in shapes.items()}
    features, _ = shapes.pop("fc.kernel")
    del shapes["fc.bias"]
    first = shapes.pop(models.get(arch).first_kernel)
    return sum(map(math.prod, shapes.values())), features, math.prod(first) // first[-2]


def labels(entry: Published) -> tuple[str, ...]:
    """Returns class names in the order of the logits, downloading their file if it must; () if they are unknown.

    Raises:
      UserError: there is no network, or the file does not have as many names as there are classes.
    """
    if not isinstance(entry.labels, File):
        return _LABELS[entry.labels]()
    from r23d_jax.weights import download  # which imports this module

    path = download.fetch_file(entry.labels)
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no class names of {entry.name} in it ({one_line(error)}); remove it") from None
    if len(names) != entry.classes:
        raise UserError(f"{path}: {len(names)} class names for the {entry.classes} of {entry.name}; remove it")
    return names


def networks(entry: Published) -> tuple[str, ...]:
    """Returns the networks that can have these weights, as they are, inflated, or with kernels summed over time."""
    family = family_of(entry)
    theirs = _shapes(entry.arch)
    return tuple(arch for arch in family.archs if _can_start(_shapes(arch), theirs, family.image))


def _can_start(target: Shapes, source: Shapes, image: bool) -> bool:
    """Returns whether kernels differ at most in their length in time, and there as `adapt.fit` can make them."""

    def fits(here: tuple[int, ...], there: tuple[int, ...]) -> bool:
        return here == there or len(here) == 5 and here[1:] == there[1:] and (image or here[0] == 1)

    return target.keys() == source.keys() and all(fits(shape, source[path]) for path, shape in target.items())


@functools.cache
def _shapes(arch: str, frames: int = 0) -> Shapes:
    """Returns the shapes of a network's tensors, with one class; `frames` for a network that is built for them."""
    options = {"num_classes": 1, **({"frames": frames} if frames else {})}

    def create(key: jax.Array) -> nnx.Module:  # one key for all values: random streams take most of the time
        return models.create(arch, rngs=types.SimpleNamespace(params=lambda: key), **options)

    network = nnx.eval_shape(create, jax.random.key(0))
    return {path: tuple(leaf.shape) for path, leaf in models.flatten(network).items()}
