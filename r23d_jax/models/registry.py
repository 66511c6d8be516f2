"""The registry of networks, with all that the rest of the package needs to know of each.

A family of networks is a module in this folder that calls `register(Architecture(...))` for each of its networks. It
is imported in `models/__init__.py`.
"""

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

from r23d_jax.errors import UserError
from r23d_jax.transforms.spec import FARNEBACK, KINETICS, Preprocessing

Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Option:
    """An argument of `create` that not every network takes.

    Attributes:
      check: returns whether a JSON value is allowed.
      values: describes the allowed values, for messages.
    """

    check: Callable[[Any], bool]
    values: str


def is_size(value: Any) -> bool:
    """Returns whether `value` is an int from 1 to 16383; larger ones in an edited card would exhaust the memory."""
    return type(value) is int and 1 <= value < 1 << 14


WIDTH = Option(is_size, "a whole number of at least 1")


def preprocessing(resize: tuple[int, int] | int, crop: int, frames: int, **rgb: Any) -> dict[str, Preprocessing]:
    """Returns the preprocessing by input of a network trained from nothing.

    Args:
      resize, crop, frames: see `Preprocessing`.
      **rgb: mean and std of RGB; those of flow are Farneback's.
    """
    size = {"resize": resize, "crop": crop, "frames": frames}
    return {
        "rgb": Preprocessing(**size, **rgb),
        "flow": Preprocessing(**size, channels="flow", flow="farneback", **FARNEBACK),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network.

    The module that `create` returns has a method `features(video, rngs=None)`, which returns the outputs of its stages
    in order of depth and their average `pool`, and as its last module a linear head `fc` on `pool`. To take a
    `head.Head` it also has an attribute `head` before `fc`, None without one, and methods `channels()`, the channels of
    its stages by name in order of depth, and `offset_of(stage)`, the input position of a stage's first output.

    Attributes:
      name: as in `models.create`, configs and cards.
      create: `(num_classes, *, rngs, in_channels, dropout, dtype, bn_epsilon, **options)` -> the module, in training
        mode; with `fixed_frames` also takes `frames`.
      title: name in the papers.
      first_kernel: path of the first convolution's kernel [T, H, W, in, out], which is adapted when weights have
        another number of input channels.
      size: maps shapes of tensors by path to the options with which this network has them: `{}` for the published
        network, `frames` if they are fixed; None if no options fit.
      matches: returns whether tensors of these shapes are of this network in any size; by default if `size` fits.
      describe: describes the network of these shapes, for the error that it is not known.
      kind: group in the plot of the study.
      options: arguments of `create` that not every network takes.
      fixed_frames: whether the network is built for clips of exactly `frames` frames.
      epsilon: default of every batch normalisation.
      aliases: other names of the same network -> their titles.
      listed: whether `names` has it: not what is made of other networks and cannot be created by its name alone.
      preprocessing: "rgb" or "flow" -> the preprocessing with which a network is trained from nothing, as in its paper;
        weights bring their own.
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
    listed: bool = True
    preprocessing: Mapping[str, Preprocessing] = dataclasses.field(
        default_factory=lambda: preprocessing((128, 171), 112, 16, **KINETICS)
    )

    def fits(self, shapes: Shapes, any_size: bool) -> bool:
        """Returns whether tensors of these shapes are of this network, in its published size or in any."""
        if self.first_kernel not in shapes:
            return False
        size = self.size(shapes)
        if size is None or not (self.matches is None or self.matches(shapes)):
            return False
        return any_size or not size.keys() & self.options.keys()


_architectures: dict[str, Architecture] = {}


def register(*architectures: Architecture) -> None:
    """Adds networks; raises a `ValueError` if a name is taken."""
    for architecture in architectures:
        for name in (architecture.name, *architecture.aliases):
            if name in names() or name in _architectures:
                raise ValueError(f"two networks called {name}")
        _architectures[architecture.name] = architecture


def names() -> tuple[str, ...]:
    """Returns all names, sorted and including aliases."""
    return tuple(sorted([*(name for name, found in _architectures.items() if found.listed), *aliases()]))


def aliases() -> dict[str, str]:
    """Returns a dict from aliases to names."""
    return {alias: architecture.name for architecture in _architectures.values() for alias in architecture.aliases}


def get(name: str) -> Architecture:
    """Returns the network of a name.

    Raises:
      UserError: there is none; the message suggests the closest names.
    """
    found = _architectures.get(aliases().get(name, name))
    if found is None:
        close = difflib.get_close_matches(name, names(), n=4, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "see `python -m r23d_jax.models`"
        raise UserError(f"no network is called {name!r}: {hint}")
    return found


def canonical(name: str) -> str:
    """Resolves an alias; returns any other name unchanged. Raises as `get`."""
    return get(name).name
