"""The networks by name, and what the rest of the package has to know of each.

A family of networks is one module beside this one. It ends with `register(Architecture(...))` for each of its
networks, and is named once, in `models/__init__.py`.
"""

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

from r23d_jax.errors import UserError

Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Option:
    """An argument of `create` that not every network takes.

    Attributes:
      check: tells whether a value, with JSON's types, is allowed.
      values: the allowed values in words.
    """

    check: Callable[[Any], bool]
    values: str


def is_size(value: Any) -> bool:
    """Whether `value` is a whole number from 1 to 16383: beyond that an edited card would exhaust the memory."""
    return type(value) is int and 1 <= value < 1 << 14


WIDTH = Option(is_size, "a whole number of at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network.

    The module that `create` makes has `features(video, rngs=None)`, the outputs of its stages in order of depth and
    the pooled `pool`, and a linear head `fc` on that, its last module.

    Attributes:
      name: as in `models.create`, configs and cards.
      create: `(num_classes, *, rngs, in_channels, dropout, dtype, bn_epsilon, **options)` -> the module, in training
        mode; with `fixed_frames` also `frames`.
      title: the papers' name.
      first_kernel: path of the first convolution's kernel [T, H, W, in, out]. Weights for other input channels
        are adapted there.
      size: from the shapes of tensors, by path, to the options by which this network has them: `{}` for the
        published network, with `frames` where those are fixed; None where no options make it fit.
      matches: whether tensors of these shapes are this network's, in any size; by default wherever `size` fits.
      describe: what network these shapes are, in words, for the message that they are none known.
      kind: group in the plot of the study.
      options: arguments of `create` beyond those that every network takes.
      fixed_frames: takes clips of exactly `frames` frames, to which it is built.
      epsilon: of every batch normalisation, where nothing else is asked for.
      aliases: other names of the same network -> their titles.
    """

    name: str
    create: Callable[..., nnx.Module]
    title: str
    first_kernel: str
    size: Callable[[Shapes], dict[str, Any] | None]
    matches: Callable[[Shapes], bool] | None = None
    describe: Callable[[Shapes], str] = lambda shapes: f"{len(shapes)} tensors"
    kind: str = "other"
    options: Mapping[str, Option] = dataclasses.field(default_factory=dict)
    fixed_frames: bool = False
    epsilon: float = 1e-5
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def fits(self, shapes: Shapes, any_size: bool) -> bool:
        """Whether tensors of these shapes are this network's, of the published size or of any."""
        if self.first_kernel not in shapes:
            return False
        size = self.size(shapes)
        if size is None or not (self.matches is None or self.matches(shapes)):
            return False
        return any_size or not size.keys() & self.options.keys()


_architectures: dict[str, Architecture] = {}


def register(*architectures: Architecture) -> None:
    """Adds networks; a name that is taken is a `ValueError`."""
    for architecture in architectures:
        for name in (architecture.name, *architecture.aliases):
            if name in names():
                raise ValueError(f"two networks called {name}")
        _architectures[architecture.name] = architecture


def names() -> tuple[str, ...]:
    """Every name, aliases included, sorted."""
    return tuple(sorted([*_architectures, *aliases()]))


def aliases() -> dict[str, str]:
    """The names that are another one's -> that one."""
    return {alias: architecture.name for architecture in _architectures.values() for alias in architecture.aliases}


def get(name: str) -> Architecture:
    """The network of that name.

    Raises:
      UserError: there is none; the message has the closest names.
    """
    found = _architectures.get(aliases().get(name, name))
    if found is None:
        close = difflib.get_close_matches(name, names(), n=4, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "see `python -m r23d_jax.models`"
        raise UserError(f"no network is called {name!r}: {hint}")
    return found


def canonical(name: str) -> str:
    """The name that an alias stands for; any other network's name is its own. Errors as `get`."""
    return get(name).name
