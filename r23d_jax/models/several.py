"""Several networks side by side on the same clip, as one: their stages are its stages.

It is what a probe on several weights is made of. Each member gets the clip at its own size and normalisation, and the
classifier sees the stages of all through a `head.Head`, without which this network cannot classify.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from r23d_jax.errors import UserError
from r23d_jax.models import registry
from r23d_jax.models.layers import Linear
from r23d_jax.models.registry import Architecture, Option, Shapes, register


class Several(nnx.Module):
    """Networks side by side.

    Args:
      num_classes: classes of the linear head.
      members: JSON values of each network: "arch", "arguments" of its `create`, "size", the side of its input in
        pixels, and "mean" and "std" of its normalisation. The clip comes in the first one's normalisation.
      in_channels: of all members.
      dtype: of all members.
      dropout: must be 0; the members have their own.
      bn_epsilon: not used; the members have their own.
      rngs: stream `params` for the initial weights.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        rngs: nnx.Rngs,
        members: Sequence[Mapping[str, Any]],
        in_channels: int = 3,
        dropout: float = 0.0,
        dtype: jnp.dtype = jnp.float32,
        bn_epsilon: float = 1e-5,
    ):
        del bn_epsilon
        if dropout:
            raise UserError(f"several: dropout={dropout}: it has none of its own; set it to 0")
        self.in_channels, self.dtype, self.dropout = in_channels, dtype, dropout
        self.deterministic = False
        # Side, mean and standard deviation; tuples, because NNX hashes a network's attributes.
        self.inputs = tuple((one["size"], tuple(one["mean"]), tuple(one["std"])) for one in members)
        networks = []
        for member in members:
            create = registry.get(member["arch"]).create
            arguments = {key: value for key, value in member["arguments"].items() if value is not None}
            network = create(1, rngs=rngs, in_channels=in_channels, dtype=dtype, **arguments)
            del network.fc  # the classifier is this network's
            networks.append(network)
        self.nets = nnx.List(networks)
        self.head = None
        self.fc = Linear(sum(self.channels().values()), num_classes, rngs=rngs)
        self.dropout_rngs = nnx.data(None)

    def __call__(self, video: jax.Array, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Computes logits, float32 `[B, num_classes]`, of a normalised float clip `[B, T, H, W, C]`."""
        with jax.named_scope("fc"):
            return self.fc(self.features(video, rngs)["pool"])

    def features(self, video: jax.Array, rngs: nnx.Rngs | None = None) -> dict[str, jax.Array]:
        """Returns the members' stages, "0.layer1" and so on, as `[B, T', H', W', C']`, and `pool`, float32 `[B, D]`."""
        del rngs
        if self.head is not None:
            return self.head(self._stages, video)
        outputs = self._stages(video)
        deepest = [jnp.mean(outputs[name].astype(jnp.float32), axis=(1, 2, 3)) for name in self.channels()]
        return {**outputs, "pool": jnp.concatenate(deepest, axis=-1)}

    def channels(self) -> dict[str, int]:
        """Returns the channels of the members' stages, by name."""
        return {f"{place}.{name}": size for place, net in enumerate(self.nets) for name, size in net.channels().items()}

    def offset_of(self, stage: str) -> tuple[float, float, float]:
        """Returns `map_offset` of a stage; in pixels of the member's own input."""
        place, _, name = stage.partition(".")
        return self.nets[int(place)].offset_of(name)

    def _stages(self, video: jax.Array) -> dict[str, jax.Array]:
        outputs, (_, mean, std) = {}, self.inputs[0]
        for place, ((side, own_mean, own_std), network) in enumerate(zip(self.inputs, self.nets, strict=True)):
            x = video
            if (own_mean, own_std) != (mean, std):
                pixels = x.astype(jnp.float32) * jnp.asarray(std) + jnp.asarray(mean)
                x = ((pixels - jnp.asarray(own_mean)) / jnp.asarray(own_std)).astype(video.dtype)
            if side != x.shape[2]:
                shape = (*x.shape[:2], side, side, x.shape[4])
                x = jax.image.resize(x, shape, "linear")  # antialiased where it shrinks
            found = network.features(x)
            outputs |= {f"{place}.{name}": value for name, value in found.items() if value.ndim == 5}
        return outputs


def _are_members(value: Any) -> bool:
    """Returns whether a JSON value is what `members` takes."""
    if not isinstance(value, list | tuple) or not 1 < len(value) <= 8:
        return False
    keys = {"arch", "arguments", "size", "mean", "std"}
    return all(
        isinstance(one, Mapping)
        and one.keys() == keys
        and one["arch"] in registry.names()
        and one["arch"] != "several"
        and isinstance(one["arguments"], Mapping)
        and registry.is_size(one["size"])
        for one in value
    )


def _no_size(shapes: Shapes) -> None:
    return None  # it is never recognised by its tensors


register(
    Architecture(
        name="several",
        create=Several,
        title="Several networks",
        first_kernel="nets",
        size=_no_size,
        options={"members": Option(_are_members, "two to eight networks: arch, arguments, size, mean and std of each")},
        listed=False,
    )
)
