"""Division by chance: the same every time, class by class, by whole source videos, and moving little."""

from collections import Counter

import pytest

from tfds_ucf101 import divide
from tfds_ucf101.lists import TEST, TRAIN, VAL

SHARES = (0.7, 0.15, 0.15)


def videos(classes=("A", "B"), sources=20, clips=1) -> dict[str, str]:
    """Keys and their source videos; without several clips, each is its own."""
    return {
        f"{name}/{name}{source}_{clip}": f"{name}{source}" if clips > 1 else ""
        for name in classes
        for source in range(sources)
        for clip in range(clips)
    }


def counts(sides, name="A") -> list[int]:
    """Of one class: train, val and test videos."""
    found = Counter(role for key, role in sides.items() if key.startswith(f"{name}/"))
    return [found[role] for role in (TRAIN, VAL, TEST)]


def test_every_class_has_its_shares_and_the_seed_decides():
    origins = videos()
    sides = divide.by_chance(origins, SHARES, 0)
    assert sides == divide.by_chance(dict(reversed(origins.items())), SHARES, 0)
    assert counts(sides["1"], "A") == counts(sides["1"], "B") == [14, 3, 3]
    assert sides != divide.by_chance(origins, SHARES, 1)


@pytest.mark.parametrize(
    "sources, expected", [(1, [1, 0, 0]), (2, [1, 0, 1]), (3, [1, 1, 1]), (4, [2, 1, 1]), (7, [5, 1, 1])]
)
def test_few_videos(sources, expected):
    assert counts(divide.by_chance(videos(sources=sources), SHARES, 0)["1"]) == expected


def test_no_val_where_none_is_asked_for():
    assert counts(divide.by_chance(videos(sources=10), (0.8, 0.0, 0.2), 0)["1"]) == [8, 0, 2]


@pytest.mark.parametrize("seed", range(5))
def test_clips_of_one_source_stay_together(seed):
    origins = videos(clips=5)
    sides = divide.by_chance(origins, SHARES, seed)["1"]
    assert len({(origins[key], role) for key, role in sides.items()}) == 40
    assert counts(sides) == [70, 15, 15]


def test_a_source_in_several_classes_is_on_one_side():
    origins = {f"{name}/s{n}_{name}": f"s{n}" for name in "ABC" for n in range(10)}
    sides = divide.by_chance(origins, SHARES, 0)["1"]
    assert len({(origins[key], role) for key, role in sides.items()}) == 10
    assert counts(sides, "C") == counts(sides, "A")


@pytest.mark.parametrize("seed", range(10))
def test_another_video_moves_few(seed):
    before = videos(sources=100)
    after = before | {"A/another": ""}
    for one, other in (
        (divide.by_chance(before, SHARES, seed), divide.by_chance(after, SHARES, seed)),
        (divide.in_folds(before, 5, seed), divide.in_folds(after, 5, seed)),
    ):
        for split in one:
            assert sum(one[split][key] != other[split][key] for key in before) <= 2
            assert all(one[split][key] == other[split][key] for key in before if key.startswith("B/"))


def test_folds_test_every_video_once():
    origins = videos(sources=13, clips=2)
    sides = divide.in_folds(origins, 5, 0)
    assert list(sides) == ["1", "2", "3", "4", "5"]
    for key in origins:
        assert Counter(one[key] for one in sides.values()) == {TEST: 1, TRAIN: 4}
    assert all(counts(one)[2] in (4, 6) for one in sides.values())
    assert all(len({(origins[key], role) for key, role in one.items()}) == 26 for one in sides.values())


def test_folds_of_small_classes_are_not_all_the_first():
    origins = videos(classes=[chr(65 + n) for n in range(20)], sources=2)
    tested = [sum(role == TEST for role in one.values()) for one in divide.in_folds(origins, 5, 0).values()]
    assert sum(tested) == 40 and min(tested) > 0


def test_validation_comes_out_of_train_by_sources():
    origins = videos(sources=10, clips=3)
    sides = {
        "1": {key: TEST if origins[key][1:] in "89" else TRAIN for key in origins},
        "2": {key: VAL if origins[key][1:] in "89" else TRAIN for key in origins},
    }
    divided = divide.with_validation(sides, origins, 0.25, 0)
    assert counts(divided["1"]) == [18, 6, 6]
    assert counts(divided["2"]) == [18, 12, 0]
    assert all(divided[split][key] == role for split in sides for key, role in sides[split].items() if role != TRAIN)
    assert len({(origins[key], role) for key, role in divided["1"].items()}) == 20
    assert counts(divide.with_validation({"1": {"A/a": TRAIN}}, {"A/a": ""}, 0.9, 0)["1"]) == [1, 0, 0]
