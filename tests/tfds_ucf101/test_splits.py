"""What stays on one side where chance divides, and how two divisions are compared."""

from list_files import scan, sides_of, touch

from tfds_ucf101 import lists, splits


def test_folders_within_a_class_stay_together():
    origins = {f"a/{person}/{n}": "" for person in ("anna", "ben", "cleo", "dora", "emil") for n in range(2)}
    origins |= {"a/4": "", "a/anna/v_a_g01_c01": "v_a_g01", "b/one/1": "", "b/two/1": "", "c/1": ""}
    assert splits.together(origins) == {
        "a/anna/0": "a/anna",
        "a/anna/1": "a/anna",
        "a/ben/0": "a/ben",
        "a/ben/1": "a/ben",
        "a/cleo/0": "a/cleo",
        "a/cleo/1": "a/cleo",
        "a/dora/0": "a/dora",
        "a/dora/1": "a/dora",
        "a/emil/0": "a/emil",
        "a/emil/1": "a/emil",
        "a/4": "",
        "a/anna/v_a_g01_c01": "v_a_g01",
        "b/one/1": "",  # two folders could not be divided by the shares
        "b/two/1": "",
        "c/1": "",
    }


def test_persons_have_folders(tmp_path):
    touch(tmp_path, *(f"{name}/person{p}/{n}.avi" for name in ("run", "jump") for p in range(10) for n in range(4)))
    sides = sides_of(scan(tmp_path))
    assert len({(key.rpartition("/")[0], side) for key, side in sides.items()}) == 20
    assert [list(sides.values()).count(side) for side in ("train", "val", "test")] == [56, 8, 16]
    sides = sides_of(scan(tmp_path, folds=2, validation=0.25))
    assert len({(key.rpartition("/")[0], side) for key, side in sides.items()}) == 20


def test_differing():
    own = {"a": lists.TRAIN, "b": lists.TEST, "c": lists.VAL, "d": lists.TEST}
    assert splits.differing(own, {"d": lists.TRAIN, "c": lists.TRAIN, "b": lists.TEST, "a": lists.TEST, "e": 1}) == [
        "a",
        "d",
    ]
