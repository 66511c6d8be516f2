"""Data parallelism: one mesh axis over every device of every host."""

import collections
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from r23d_jax.errors import UserError
from r23d_jax.runtime import accelerators

Batch = dict[str, jax.Array]
AHEAD = 2  # batches that are transferred before they are needed


def create_mesh() -> Mesh:
    """Returns all devices of all hosts along one axis, "data"; a host's devices, and so its rows, are contiguous."""
    accelerators.warn_if_unused()
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.asarray(devices), ("data",))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding with a copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that divides the first axis over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Copies a tree of arrays, equal in every process, to every device."""
    sharding = replicated(mesh)
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    # `device_put` would compare every array between the hosts by a collective; their digests are compared already.
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x), np.shape(x)), tree)


def check_batch(batch_size: int, mesh: Mesh, parts: int = 1) -> None:
    """Raises a `UserError` unless each of a batch's parts can be divided evenly over the devices."""
    unit = mesh.size * parts
    if batch_size % unit:
        below, above = batch_size // unit * unit, -(-batch_size // unit) * unit
        mend = f"{below} or {above}" if below else f"{above}"
        times = f" times accumulate={parts}" if parts > 1 else ""
        raise UserError(f"config.batch_size={batch_size} does not divide over {mesh.size} devices{times}: use {mend}")


def to_device(batches: Iterable[dict[str, np.ndarray]], mesh: Mesh, ahead: int = AHEAD) -> Iterator[Batch]:
    """Yields batches on the devices, with `ahead` transfers in flight.

    Args:
      batches: this host's rows of each global batch.
      mesh: from `create_mesh`.
      ahead: transfers in flight; each costs a batch of device memory.
    """
    sharding = by_row(mesh)
    queue = collections.deque()
    for batch in batches:
        queue.append({k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()})
        if len(queue) > ahead:
            yield queue.popleft()
    yield from queue
