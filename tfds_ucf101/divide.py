"""Sides by chance: always the same, class by class, and with all clips of a source video on one side.

A source video's place in the order of its class follows from the seed and its name alone, and the order is cut where
the shares say. So a video more or less moves few others, at most one at each cut.
"""

import hashlib
from bisect import bisect
from collections.abc import Mapping, Sequence
from itertools import accumulate

from tfds_ucf101.lists import TEST, TRAIN, VAL, Sides


def by_chance(origins: Mapping[str, str], shares: Sequence[float], seed: int) -> Sides:
    """Returns one split, "1", with about these shares of every class's videos on its sides.

    Args:
      origins: key -> source video, "" for one of its own. Clips of a source video stay together, across classes, too.
      shares: of train, val and test, adding up to 1.
      seed: of the draw.

    A class with one source video is train, one with two has no val.
    """
    order = [(TRAIN, shares[0]), (TEST, shares[2]), (VAL, shares[1])]
    return {"1": _assign(origins, [(role, share) for role, share in order if share], seed)}


def in_folds(origins: Mapping[str, str], folds: int, seed: int) -> Sides:
    """Returns `folds` splits "1", "2", ...; every video is test in one of them and train in the others.

    Args:
      origins: key -> source video, "" for one of its own.
      folds: 2 or more.
      seed: of the draw.

    Classes with fewer source videos than folds are not tested in all of them.
    """
    fold = _assign(origins, [(number, 1 / folds) for number in range(folds)], seed, turned=True)
    return {
        str(number + 1): {key: TEST if its == number else TRAIN for key, its in fold.items()} for number in range(folds)
    }


def with_validation(sides: Sides, origins: Mapping[str, str], share: float, seed: int) -> Sides:
    """Returns the splits with about this share of each class's train videos as val, by whole source videos.

    A class with one train source video keeps it; what is val already stays val.
    """
    divided = {}
    for split, one in sides.items():
        train = {key: origins[key] for key, role in one.items() if role == TRAIN}
        cut = _assign(train, [(TRAIN, 1 - share), (VAL, share)], seed)
        divided[split] = {key: cut.get(key, role) for key, role in one.items()}
    return divided


def _assign(
    origins: Mapping[str, str], shares: Sequence[tuple[int, float]], seed: int, turned: bool = False
) -> dict[str, int]:
    """Cuts each class's source videos, in the order of their draw, into sides; `turned`: which is first is drawn, too.

    A source video with clips in several classes goes with the first of them.
    """
    classes: dict[str, dict[str, int]] = {}
    for key, origin in origins.items():
        counts = classes.setdefault(key.split("/")[0], {})
        counts[origin or key] = counts.get(origin or key, 0) + 1
    side_of: dict[str, int] = {}
    for name in sorted(classes):
        order = sorted((origin for origin in classes[name] if origin not in side_of), key=lambda o: _draw(seed, o))
        first = _draw(seed, name) % len(shares) if turned else 0
        cuts = _cut([classes[name][origin] for origin in order], [*shares[first:], *shares[:first]])
        side_of |= zip(order, cuts, strict=True)
    return {key: side_of[origin or key] for key, origin in origins.items()}


def _cut(counts: Sequence[int], shares: Sequence[tuple[int, float]]) -> list[int]:
    """The side of each source video by where the middle of its clips lies; no side is empty while there are enough."""
    shares = shares[: len(counts)]
    ends = list(accumulate(counts))
    middles = [(end - count / 2) / ends[-1] for end, count in zip(ends, counts, strict=True)]
    sides: list[int] = []
    for place, (side, _) in enumerate(shares, 1):
        due = bisect(middles, sum(share for _, share in shares[:place]) + 1e-9)  # whatever the rounding errors
        last = len(counts) - (len(shares) - place)
        sides += [side] * (min(max(due, len(sides) + 1), last) - len(sides))
    return sides + [shares[-1][0]] * (len(counts) - len(sides)) if shares else []


def _draw(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big")
