"""What a family of published weights is: names, preprocessing, licence, and its publications.

Hashes are those that the publishers give: torchvision and ig65m-pytorch put the first 8 hex digits of the SHA-256
into the file name, GitHub names a file's contents by its Git blob hash. VMZ, kenshohara, DPC and TensorFlow publish
none.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping

from r23d_jax.transforms.spec import Preprocessing
from r23d_jax.weights.mapping import Table


@dataclasses.dataclass(frozen=True)
class File:
    """One file of a publication.

    Attributes:
      name: what it is called in the cache.
      url: where it is; a page to fetch it from by hand where `direct` is False.
      sha256: leading hex digits of its SHA-256, "" where none is published.
      git_blob: its Git blob hash (SHA-1 over a header and the contents), "" where it is not in a repository.
      megabytes: its size as published (2**20 bytes), None where unknown; exact sizes come from the server.
      member: for an archive, the file in it that is wanted.
      direct: False where no program may fetch it (Google Drive).
    """

    name: str
    url: str
    sha256: str = ""
    git_blob: str = ""
    megabytes: float | None = None
    member: str = ""
    direct: bool = True


@dataclasses.dataclass(frozen=True)
class Published:
    """One set of weights.

    Attributes:
      name: as in `init_from` and `convert`.
      arch: a name of `models.NAMES`; for a 2D network the usual target, another can be asked for.
      files: the first is the one to read.
      preprocessing: what it was trained on.
      classes: number of logits, 0 where it has no classifier.
      labels: "kinetics400" where the class names come with it, "" where they do not.
      licence: SPDX name as stated by its publisher, "" where nothing is stated.
      scores: `{"metric", "value", "protocol"}`, values in percent.
      pretrained: what it was trained on, in words.
    """

    name: str
    arch: str
    files: tuple[File, ...]
    preprocessing: Preprocessing
    classes: int
    labels: str = ""
    licence: str = ""
    scores: tuple[dict, ...] = ()
    pretrained: str = "Kinetics-400"


def scores(protocol: str, **values: float) -> tuple[dict, ...]:
    """Scores under one protocol, in percent: `scores(protocol, top1_at_video=65.6)`."""
    return tuple({"metric": m.replace("_at_", "@"), "value": v, "protocol": protocol} for m, v in values.items())


@dataclasses.dataclass(frozen=True)
class Naming:
    """The PyTorch classes whose names a family's table writes.

    Attributes:
      project: whose classes they are, for the user.
      epsilon: of their batch normalisations; weights that need another want it set after loading.
    """

    project: str
    epsilon: float = 1e-5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """One source of weights.

    Attributes:
      name: on the card and in messages.
      table: names of tensors, the source's or ours -> the table for them (VMZ's depends on the depth).
      archs: names of the networks such a file may hold; for 2D networks, those it may be inflated to.
      preprocessing: (arch, input channels, frames or None where any) -> what the weights were trained on.
      licence: of the code and weights as their publisher states it, "" where that is another's word.
      image: a 2D network, to be inflated.
      fresh: endings of our paths that such a file need not have; they are initialised anew.
      implied: our leaf -> the value it has where the source has no such tensor.
      epsilon: of batch normalisation, where it is not the network's own.
      kinetics: whether a head of 400 classes is Kinetics-400's.
      clip_lengths: whether such weights were published for clips of several lengths, which a file does not tell.
      naming: the names under which its networks go back out to PyTorch; None where they go out under another's.
      published: its weights that can be had by name.
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
