"""The families of published weights: what a file of each looks like, and what it says of itself.

A family is recognised by its tensors' names and shapes: it is the one whose table knows the most of them.
Each module here ends with its `FAMILIES`.
"""

from collections.abc import Mapping

import numpy as np

from r23d_jax.errors import UserError
from r23d_jax.weights.families import inception, kenshohara, torchvision, vmz
from r23d_jax.weights.family import Family
from r23d_jax.weights.mapping import Table

FAMILIES: tuple[Family, ...] = ()


def register(*new: Family) -> None:
    """Adds families; a name that is taken is a `ValueError`."""
    global FAMILIES
    for family in new:
        if family.name in {known.name for known in FAMILIES}:
            raise ValueError(f"two families called {family.name}")
        FAMILIES = (*FAMILIES, family)


for _module in (torchvision, vmz, kenshohara, inception):
    register(*_module.FAMILIES)


def recognise(tensors: Mapping[str, np.ndarray], origin: str) -> tuple[Family, Table]:
    """The family that a file's tensors are of, and its table for them.

    Raises:
      UserError: no family knows even half of them, or two know equally many.
    """
    scores = []
    for family in FAMILIES:
        table = family.table(tensors)
        ours, unused, _ = table.convert(tensors)
        # What is merely left out speaks for no family: every PyTorch file has the same counters.
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
    """The family under whose PyTorch names a network, by its canonical name, goes back out.

    Raises:
      UserError: no family names that network's tensors.
    """
    for family in FAMILIES:
        if family.naming is not None and arch in family.archs:
            return family
    raise UserError(f"{arch}: no family of weights says how its tensors are called in PyTorch")
