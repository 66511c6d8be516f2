"""Types that describe a family of published weights: names, preprocessing, licence and publications.

Hashes are the published ones: torchvision, ig65m-pytorch and XDC put the first 8 hex digits of the SHA-256 into the
file name, GitHub shows the Git blob hash. VMZ, kenshohara, DPC and TensorFlow publish none.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping

from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights.mapping import Table


@dataclasses.dataclass(frozen=True)
class File:
    """One file of a publication.

    Attributes:
      name: in the cache.
      url: of the file, or of a page to fetch it from by hand if not `direct`.
      sha256: leading hex digits of its SHA-256, "" if none is published.
      git_blob: its Git blob hash (SHA-1 over a header and the content), "" if it is not in a repository.
      megabytes: published size in 2**20 bytes, None if unknown; the server gives the exact size.
      member: for an archive, the wanted file in it.
      direct: whether a program may download it from `url` (not from Google Drive).
      mirrors: further addresses of the same file, from which a program may download it.
      pages: further pages to fetch it from by hand.
      sha1: leading hex digits of its SHA-1, "" if none is published.
    """

    name: str
    url: str
    sha256: str = ""
    git_blob: str = ""
    megabytes: float | None = None
    member: str = ""
    direct: bool = True
    mirrors: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    sha1: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses to download it from, in order of preference; empty if no program may."""
        return (*((self.url,) if self.direct else ()), *self.mirrors)

    @property
    def has_hash(self) -> bool:
        """Whether a hash decides if some content is this file."""
        return bool(self.sha256 or self.sha1 or self.git_blob)


@dataclasses.dataclass(frozen=True)
class Published:
    """One set of weights.

    Attributes:
      name: as in `init_from` and `convert`.
      arch: a name of `models.NAMES`; for a 2D network the default target of inflation.
      files: the first one is read.
      preprocessing: as in training.
      classes: number of logits, 0 without a classifier.
      labels: its classes, see `registry.labels`: "kinetics400"; "ucf101-sorted", in the order of Python's `sorted`; a
        text file with one class name a line in the order of the logits; "" if class names are unknown.
      licence: SPDX expression as stated by its publisher, "" if none is stated.
      scores: `{"metric", "value", "protocol"}`, values in percent.
      pretrained: data set it was trained on, as text.
    """

    name: str
    arch: str
    files: tuple[File, ...]
    preprocessing: Preprocessing
    classes: int
    labels: str | File = ""
    licence: str = ""
    scores: tuple[dict, ...] = ()
    pretrained: str = "Kinetics-400"


def scores(protocol: str, **values: float) -> tuple[dict, ...]:
    """Returns scores under one protocol, given in percent: `scores(protocol, top1_at_video=65.6)`."""
    return tuple({"metric": m.replace("_at_", "@"), "value": v, "protocol": protocol} for m, v in values.items())


@dataclasses.dataclass(frozen=True)
class Naming:
    """The PyTorch classes that can load a family's exported weights.

    Attributes:
      project: that defines the classes, as text.
      epsilon: of their batch normalisations; weights with another one need it set after loading.
    """

    project: str
    epsilon: float = 1e-5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """One source of weights.

    Attributes:
      name: on the card and in messages.
      table: names of tensors, the source's or ours -> the table for them (VMZ's depends on the depth).
      archs: names of networks that a file may contain; for 2D networks, those it may be inflated to.
      preprocessing: (arch, input channels, frames or None for any) -> preprocessing of the training.
      licence: of code and weights as stated by their publisher, "" if the publisher states none.
      image: whether it is a 2D network, to be inflated.
      fresh: endings of our paths that a file may lack; they are newly initialised.
      implied: our leaf -> its value if the source has no such tensor.
      epsilon: of batch normalisation, if it differs from the network's default.
      kinetics: whether a head of 400 classes is Kinetics-400's.
      clip_lengths: whether weights were published for several clip lengths, which a file does not contain.
      naming: PyTorch classes for export; None if another family's are used.
      published: weights that are available by name.
    """

    name: str
    table: Callable[[Collection[str]], Table]
    archs: tuple[str, ...]
    preprocessing: Callable[[str, int, int | None], Preprocessing]
    licence: str = ""
    image: bool = False
    fresh: tuple[str, ...] = ()
    implied: Mapping[str, float] = dataclasses.field(default_factory=dict)
    epsilon: float | None = None
    kinetics: bool = True
    clip_lengths: bool = False
    naming: Naming | None = None
    published: tuple[Published, ...] = ()
