"""What the names of videos say, and the check that clips of one source video stay on one side."""

import pytest

from r23d_jax.errors import UserError
from tfds_ucf101 import lists


@pytest.mark.parametrize(
    "stem, expected",
    [
        ("v_Biking_g05_c02", (5, 2)),
        ("v_Smash_g067_c104", (67, 104)),
        ("v_HandStandPushups_g25_c07", (25, 7)),
        ("v_Biking_g5_c2", (-1, -1)),
        ("v_Biking_g05_c02_copy", (-1, -1)),
        ("run", (-1, -1)),
    ],
)
def test_group_and_clip(stem, expected):
    assert lists.group_and_clip(stem) == expected


@pytest.mark.parametrize(
    "key, origin",
    [
        ("Biking/v_Biking_g05_c02", "v_biking_g05"),
        ("sport/v_Biking_g05_c07", "v_biking_g05"),
        ("HandstandPushups/v_HandStandPushups_g05_c02", "v_handstandpushups_g05"),
        ("abseiling/-3B32lodo2M_000059_000069", "-3B32lodo2M"),
        ("wave/anna_000001_000002", ""),  # no name of YouTube's
        ("wave/anna", ""),
    ],
)
def test_origin(key, origin):
    assert lists.origin_of(key) == origin


@pytest.mark.parametrize(
    "name, stem",
    [("a.avi", "a"), ("a.b.mp4", "a.b"), ("a.3gp", "a"), ("clip.01", "clip.01"), ("a", "a"), ("a.webm", "a")],
)
def test_stem(name, stem):
    assert lists.stem_of(name) == stem


@pytest.mark.parametrize(
    "name, looks",
    [
        ("train.csv", True),
        ("UCF101_ValList01.TXT", True),
        ("something-something-v2-labels.json", True),
        ("readme.txt", False),
        ("train.py", False),
        ("label.labels.txt", False),
        ("val", False),
    ],
)
def test_what_looks_like_a_list(name, looks):
    assert lists.looks_like_list(name) == looks


def test_clips_of_one_source_on_two_sides_are_refused():
    sides = {"1": {"A/a": lists.TRAIN, "B/b": lists.NEITHER}, "2": {"A/a": lists.TRAIN, "B/b": lists.VAL}}
    lists.check_no_leak({"1": sides["1"]}, {"A/a": "x", "B/b": "x"})
    lists.check_no_leak(sides, {"A/a": "x", "B/b": "y"})
    lists.check_no_leak(sides, {"A/a": "", "B/b": ""})
    with pytest.raises(UserError, match="split 2 has clips of one source .*: A/a is train, B/b is val; .*leak_check"):
        lists.check_no_leak(sides, {"A/a": "x", "B/b": "x"})


def test_usable_splits_have_train_and_test():
    both = {"a": lists.TRAIN, "b": lists.TEST}
    sides = {"1": both, "2": {"a": lists.TRAIN, "b": lists.VAL}, "3": {}}
    assert lists.usable(sides) == {"1": both}
    assert list(lists.usable(sides, tested=False)) == ["1", "2"]
    assert lists.two_are_train_and_test(sides) == sides | {"2": {"a": lists.TRAIN, "b": lists.TEST}}
