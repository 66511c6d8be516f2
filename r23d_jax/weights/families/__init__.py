"""The families of published weights, one module each, which ends with its `FAMILIES`.

A file belongs to the family whose table knows most of its tensors, by name and shape.
"""

from collections.abc import Mapping

import numpy as np

from r23d_jax.errors import UserError
from r23d_jax.weights.families import inception, kenshohara, torchvision, vmz
from r23d_jax.weights.family import Family
from r23d_jax.weights.mapping import Table

FAMILIES: tuple[Family, ...] = ()


def register(*new: Family) -> None:
    """Adds families; raises a `ValueError` if a name is taken."""
    global FAMILIES
    for family in new:
        if family.name in {known.name for known in FAMILIES}:
            raise ValueError(f"two families called {family.name}")
        FAMILIES = (*FAMILIES, family)


for _module in (torchvision, vmz, kenshohara, inception):
    register(*_module.FAMILIES)


def recognise(tensors: Mapping[str, np.ndarray], origin: str) -> tuple[Family, Table]:
    """Returns the family of a file's tensors, and its table for them.

    Raises:
      UserError: no family knows at least half of the tensors, or two know equally many.
    """
    scores = []
    for family in FAMILIES:
        table = family.table(tensors)
        ours, unused, _ = table.convert(tensors)
        # Ignored tensors do not count for a family: every PyTorch file has the same counters.
        scores.append((len(ours), sum(map(len, unused.values())), family, table))
    scores.sort(key=lambda score: score[:2], reverse=True)
    best, runner_up = scores[0], scores[1]
    if best[0] * 2 < len(tensors) - best[1] or best[0] == 0:
        shown = ", ".join(sorted(tensors)[:4])
        raise UserError(f"{origin}: not weights of a family this converter knows (tensors like {shown})")
    if best[:2] == runner_up[:2]:
        raise UserError(
            f"{origin}: ambiguous: its {best[0]} known tensors could be {best[2].name} or {runner_up[2].name}"
        )
    return best[2], best[3]


def writer(arch: str) -> Family:
    """Returns the family whose PyTorch names are used to export a network, given its canonical name.

    Raises:
      UserError: no family has names for the network.
    """
    for family in FAMILIES:
        if family.naming is not None and arch in family.archs:
            return family
    raise UserError(f"{arch}: no family of weights says how its tensors are called in PyTorch")
