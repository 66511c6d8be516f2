"""The networks by name.

    model = models.create("r2plus3d_18", num_classes=101, rngs=nnx.Rngs(0))

`NAMES` lists every name, `ALIASES` the names that are another one's.
"""

import difflib
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from r23d_jax.errors import UserError
from r23d_jax.models.resnet import ResNetSpec, VideoResNet

if TYPE_CHECKING:
    from r23d_jax.weights.card import Card

_LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def _kinds(early: str, late: str, first_late: int) -> tuple[str, ...]:
    """Kinds of the five groups (stem, layer1 to layer4): `late` from group `first_late` on."""
    return tuple(late if group >= first_late else early for group in range(1, 6))


def _spec(groups: tuple[str, ...], depth: int, **differences: Any) -> ResNetSpec:
    return ResNetSpec(stem=groups[0], stages=groups[1:], layers=_LAYERS[depth], bottleneck=depth >= 50, **differences)


def _specs() -> dict[str, ResNetSpec]:
    specs = {}
    for depth in (18, 34):
        # Tran et al.'s R2D folds the frames into the first convolution's channels and has no time after it;
        # as a kernel over the whole clip that is the same sum, and the layout of VMZ's weights.
        specs[f"r2d_{depth}"] = _spec(("frames", "2d", "2d", "2d", "2d"), depth)
        specs[f"f_r2d_{depth}"] = _spec(("2d",) * 5, depth)
    # VMZ's own 18-layer R(2+1)D: not torchvision's, see `mid_planes`.
    specs["vmz_r2plus1d_18"] = _spec(("2+1d",) * 5, 18, stem_mid=45, mid_planes="conv", epsilon=1e-3)
    for group in (2, 3, 4, 5):
        specs[f"mc{group}_18"] = _spec(_kinds("3d", "2d", group), 18)
        specs[f"rmc{group}_18"] = _spec(_kinds("2d", "3d", group), 18)
    for depth in (18, 34, 50):
        specs[f"r3d_{depth}"] = _spec(("3d",) * 5, depth)
        # torchvision's 18-layer network; VMZ's and IG-65M's 34-layer one, and VMZ's way for 50 layers.
        ours = {"mid_planes": "block"} if depth == 18 else {"mid_planes": "conv", "epsilon": 1e-3}
        specs[f"r2plus1d_{depth}"] = _spec(("2+1d",) * 5, depth, stem_mid=45, **ours)
        if depth > 18:
            specs[f"r2plus3d_{depth}"] = _spec(_kinds("2d", "3d", 4), depth)
            specs[f"r3plus2d_{depth}"] = _spec(_kinds("3d", "2d", 4), depth)
        specs[f"resnet{depth}_2d3d_full"] = _spec(
            _kinds("2d", "3d", 4),
            depth,
            stem_pool=((1, 3, 3), (1, 2, 2)),
            last_width=4,
            last_relu=False,
            head_dropout=True,
        )
        hara = {"stem_frames": 7, "stem_pool": ((3, 3, 3), (2, 2, 2))}
        specs[f"hara_r3d_{depth}"] = _spec(("3d",) * 5, depth, **hara)
        specs[f"hara_r2plus1d_{depth}"] = _spec(("2+1d",) * 5, depth, **hara)
    return specs


SPECS: dict[str, ResNetSpec] = _specs()
# Networks of other families: name -> module with a `create` of the same signature, imported when asked for.
_MODULES: dict[str, str] = {"i3d": "r23d_jax.models.i3d"}
ALIASES: dict[str, str] = {"r2plus3d_18": "rmc4_18", "r3plus2d_18": "mc4_18"}
NAMES: tuple[str, ...] = tuple(sorted([*SPECS, *_MODULES, *ALIASES]))


def canonical(name: str) -> str:
    """The name that an alias stands for; any other name of `NAMES` is its own.

    Raises:
      UserError: not a network's name; the message has the closest ones.
    """
    if name not in NAMES:
        close = difflib.get_close_matches(name, NAMES, n=4, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "see `python -m r23d_jax.models`"
        raise UserError(f"no network is called {name!r}: {hint}")
    return ALIASES.get(name, name)


def create(
    name: str,
    num_classes: int = 400,
    *,
    rngs: nnx.Rngs,
    frames: int = 16,
    in_channels: int = 3,
    dropout: float = 0.0,
    dtype: jnp.dtype = jnp.float32,
    width: int = 64,
    layers: tuple[int, int, int, int] | None = None,
    bn_epsilon: float | None = None,
) -> nnx.Module:
    """A network by name, newly initialised, in training mode.

    Args:
      name: one of `NAMES`.
      num_classes: classes of the head.
      rngs: `nnx.Rngs(seed)`.
      frames: clip length, which R2D is built for; the others take any.
      in_channels: 3 for RGB, 2 for optical flow.
      dropout: probability of dropping an element in training, where the network has dropout.
      dtype: to compute in; parameters and batch statistics stay float32.
      width: channels of layer1, 64 in every published network; all others scale with it.
      layers: blocks in each stage, instead of the network's own (small networks for tests).
      bn_epsilon: instead of the network's own: VMZ's weights need 1e-3.

    Raises:
      UserError: unknown name, or arguments no network can have.
    """
    name = canonical(name)
    if min(num_classes, frames, in_channels, width) < 1:
        raise UserError(
            f"{name}: num_classes={num_classes}, frames={frames}, in_channels={in_channels}, width={width}: "
            "each must be at least 1"
        )
    if not 0 <= dropout < 1:
        raise UserError(f"{name}: dropout={dropout} must be at least 0 and below 1")
    options = {
        "rngs": rngs,
        "frames": frames,
        "in_channels": in_channels,
        "dropout": dropout,
        "dtype": dtype,
        "width": width,
    }
    if name in _MODULES:
        if layers is not None:
            raise UserError(f"{name}: layers={tuple(layers)}: its depth is fixed")
        return importlib.import_module(_MODULES[name]).create(num_classes, bn_epsilon=bn_epsilon, **options)
    return VideoResNet(SPECS[name], num_classes, layers=layers, bn_epsilon=bn_epsilon, **options)


def create_from_arguments(arch: str, arguments: Mapping[str, Any], dtype: str = "float32", seed: int = 0) -> nnx.Module:
    """A network with fresh weights from `model_arguments` or a card's `model`."""
    arguments = dict(arguments)
    if arguments.get("layers"):
        arguments["layers"] = tuple(arguments["layers"])
    return create(arch, rngs=nnx.Rngs(seed), dtype=jnp.dtype(dtype), **arguments)


def from_card(card: "Card", *, dtype: str = "float32", seed: int = 0) -> nnx.Module:
    """Builds the network that a weights card describes, newly initialised, in training mode.

    Every command goes this way, so that what the card says of the network (its epsilon above all) holds everywhere.
    Under `nnx.eval_shape` only shapes are made.

    Args:
      card: of the weights that will be put in.
      dtype: "float32" or "bfloat16", to compute in.
      seed: of the initial weights.

    Raises:
      UserError: the card names no network, or arguments that it does not take.
    """
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in card.model.items()}
    arguments["bn_epsilon"] = card.bn_epsilon
    try:
        return create(card.arch, rngs=nnx.Rngs(seed), dtype=jnp.dtype(dtype), **arguments)
    except TypeError as error:
        raise UserError(f"card of {card.arch}: {error}") from None


def flatten(model: nnx.Module) -> dict[str, jax.Array]:
    """Parameters and batch statistics by path: `layer1.0.conv1.0.kernel`, `...scale/bias/mean/var`.

    Of an abstract model (`nnx.eval_shape`) their shapes and dtypes.
    """
    state = nnx.to_flat_state(nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat)))
    return {".".join(map(str, path)): variable.get_value() for path, variable in state}


def assign(model: nnx.Module, values: Mapping[str, Any]) -> None:
    """Sets every parameter and statistic of the model from `values`, keyed as `flatten` keys them.

    Raises:
      UserError: names every missing and unknown key and every wrong shape, at once; nothing is set then.
    """
    state = dict(
        (".".join(map(str, path)), variable)
        for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat)))
    )
    faults = [f"{key} is missing" for key in state.keys() - values.keys()]
    faults += [f"{key} is unknown" for key in values.keys() - state.keys()]
    faults += [
        f"{key} has shape {tuple(values[key].shape)}, not {tuple(state[key].shape)}"
        for key in state.keys() & values.keys()
        if tuple(values[key].shape) != tuple(state[key].shape)
    ]
    if faults:
        raise UserError(f"values do not fit the network: {'; '.join(sorted(faults))}")
    for key, variable in state.items():
        variable.set_value(jnp.asarray(values[key], variable.dtype))
