"""The choice of a head: by cross-validation over groups, and the same decisions as scikit-learn's own."""

import dataclasses

import numpy as np
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from r23d_jax.models.head import VIEWS
from r23d_jax.probing import attention
from r23d_jax.probing import choose as choosing
from r23d_jax.probing.attention import Attention
from r23d_jax.probing.choose import choose, clip_logits, table
from r23d_jax.probing.heads import HEADS, Head, Linear, Neighbours, temperature
from r23d_jax.probing.samples import FeatureSet
from r23d_jax.probing.space import Space
from r23d_jax.probing.validation import folds


def top1(choice, samples):
    return np.mean(samples.of_videos(clip_logits(choice, samples)).argmax(axis=1) == samples.labels)


# --- folds ----------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.data())
def test_no_group_is_on_both_sides_and_every_video_is_held_out_once(data):
    count = data.draw(st.integers(2, 40))
    labels = np.unique(data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count)), return_inverse=True)[1]
    groups = data.draw(st.lists(st.integers(0, 12), min_size=count, max_size=count))
    made = synthetic.make(labels, [str(group) for group in groups])
    parts = list(folds(made, seed=3))
    several = any(len(set(made.groups[labels == label])) > 1 for label in labels)
    assert bool(parts) == several
    for repeat in {repeat for repeat, _, _ in parts}:
        of = [(train, held_out) for number, train, held_out in parts if number == repeat]
        assert sorted(np.concatenate([held_out for _, held_out in of]).tolist()) == list(range(count))
        for train, held_out in of:
            assert len(train) and not set(made.groups[train]) & set(made.groups[held_out])
            assert len(train) + len(held_out) == count
    again = list(folds(made, seed=3))
    assert all(map(np.array_equal, sum(map(list, parts), []), sum(map(list, again), [])))


@pytest.mark.parametrize("groups, parts", [([9, 7], 5), ([3, 3, 9], 3), ([9, 1, 4], 4), ([1, 1], 0), ([1, 2], 2)])
def test_as_many_folds_as_half_of_the_classes_have_groups(groups, parts):
    labels = np.repeat(np.arange(len(groups)), groups)
    drawn = list(folds(synthetic.make(labels)))
    assert len(drawn) == 2 * parts and {repeat for repeat, _, _ in drawn} == set(range(2 * bool(parts)))


def test_classes_are_spread_evenly_over_the_folds():
    labels = np.repeat([0, 1], [30, 10])
    for _, _, held_out in folds(synthetic.make(labels)):
        assert np.bincount(labels[held_out]).tolist() == [6, 2]


def test_near_duplicates_of_a_group_do_not_help():
    """Without any class in the features, a classifier that saw no clip of the group guesses."""
    labels, groups = np.repeat([0, 1, 2], 24), [f"g{n // 3}" for n in range(72)]
    honest = choose(synthetic.make(labels, groups, signal=0, spread=0.01, stages={"one": 4}), 3)
    assert np.mean([one.top1 for one in honest.tried]) < 0.45
    assert honest.top1 < 0.7  # of the best of many
    assert np.mean(honest.scores.argmax(axis=1) == labels) == honest.top1
    made = synthetic.make(labels, groups, signal=0, spread=0.01, stages={"one": 4})
    assert choose(dataclasses.replace(made, groups=np.arange(72).astype(str)), 3).top1 == 1.0, "as if they were none"


# --- the choice -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [VIEWS[:1], VIEWS])
@pytest.mark.parametrize("counts", [(12, 12), (20, 6, 9)])
def test_it_classifies_other_videos(counts, views):
    labels = np.repeat(np.arange(len(counts)), counts)
    train = synthetic.make(labels, clips=2, views=views, signal=0.8)
    test = synthetic.make(np.tile(np.arange(len(counts)), 30), clips=2, views=views, signal=0.8, seed=1)
    choice = choose(train, len(counts))
    assert top1(choice, test) > 0.85 and abs(choice.top1 - top1(choice, test)) < 0.12
    assert choice.scores.shape == (len(labels), len(counts))
    np.testing.assert_allclose(choice.scores.sum(axis=1), 1)
    rows = table(choice)
    assert [row["cv_top1"] for row in rows] == sorted((row["cv_top1"] for row in rows), reverse=True)
    assert {row["head"] for row in rows} == {*HEADS, "neighbours"}


def test_the_same_every_time():
    made = synthetic.make(np.repeat([0, 1], 8), views=VIEWS)
    one, other = choose(made, 2), choose(made, 2)
    assert table(one) == table(other) and one.members == other.members and isinstance(one.head, Linear)
    assert np.array_equal(one.head.kernel, other.head.kernel) and np.array_equal(one.head.bias, other.head.bias)
    assert table(choose(made, 2, seed=1)) != table(one)


def test_one_clip_a_class_is_enough_for_class_means():
    made = synthetic.make([0, 1, 2], signal=3.0)
    choice = choose(made, 3)
    assert (choice.folds, choice.tried, choice.scores) == (0, [], None) and np.isnan(choice.top1)
    assert "too few videos" in choice.chosen
    assert top1(choice, made) == 1.0
    assert top1(choice, synthetic.make(np.repeat([0, 1, 2], 20), signal=3.0, seed=1)) > 0.9


def test_a_class_of_one_group_is_learned_and_never_known_when_held_out():
    labels, groups = np.repeat([0, 1, 2], [6, 6, 3]), [*(f"g{n}" for n in range(12)), "one", "one", "one"]
    made = synthetic.make(labels, groups, signal=3.0)
    choice = choose(made, 3)
    right = choice.scores.argmax(axis=1) == labels
    assert not right[12:].any() and right[:12].mean() > 0.8
    assert choice.folds == 5
    assert top1(choice, synthetic.make(np.repeat([0, 1, 2], 20), signal=3.0, seed=1)) > 0.9


def test_neighbours_are_chosen_where_nothing_linear_does():
    """Two classes in alternate places of a line."""
    places = np.repeat(np.arange(8), 6)
    made = synthetic.make(places % 2, signal=0, spread=0.0, stages={"one": 2})
    turns = 2 * np.pi * places / 8
    rng = np.random.default_rng(0)
    circle = np.stack([np.cos(turns), np.sin(turns)], axis=1) + rng.normal(scale=0.05, size=(48, 2))
    made.averages["plain"]["one"][:] = circle[:, None]
    choice = choose(made, 2)
    assert isinstance(choice.head, Neighbours) and choice.top1 == 1.0 and top1(choice, made) == 1.0
    assert len(choice.members) == 1 and choice.members[0].head == "neighbours"


@pytest.mark.slow
def test_an_attentive_head_is_chosen_where_a_place_says_the_class(monkeypatch):
    """Averages over all places say nothing."""
    monkeypatch.setattr(attention, "FEWEST", 40)
    monkeypatch.setattr(attention, "RATE", 0.05)

    def of(seed, count):
        labels = np.repeat([0, 1], count)
        made = synthetic.make(labels, signal=0, seed=seed, stages={"one": 4})
        grid = np.random.default_rng(seed).normal(size=(len(labels), 6, 4))
        grid[:, 2, 0] += np.where(labels == 1, 4, -4)
        return dataclasses.replace(made, grids={"plain": grid.astype(np.float16)}, grid_of="one")

    choice = choose(of(0, 40), 2)  # batches of 64 in every fold
    assert isinstance(choice.head, Attention) and choice.top1 > 0.85
    assert choice.features == FeatureSet(("one",), 1, False) and choice.members[0].head == "attention"
    assert top1(choice, of(1, 50)) > 0.85


# --- the committee --------------------------------------------------------------------------------------


def fitted(made, candidate, classes):
    """A candidate's head on all videos, its clips and mirror images weighted as one a video."""
    rows = np.concatenate([made.vectors(candidate.features, view) for view in candidate.features.views])
    video = np.tile(made.video, len(candidate.features.views))
    weights = 1 / np.bincount(video)[video]
    space = Space.of(rows, weights)
    labels = made.labels[video]
    return space.fold(HEADS[candidate.head].fit(space.project(rows), labels, classes, weights, candidate.value))


@pytest.mark.parametrize("views", [VIEWS[:1], VIEWS])
def test_one_head_is_the_mean_of_the_members_calibrated_logits(views):
    made = synthetic.make(np.repeat([0, 1, 2], 9), clips=2, views=views, signal=0.6)
    other = synthetic.make(np.repeat([0, 1, 2], 5), clips=3, views=views, signal=0.6, seed=1)
    choice = choose(made, 3)
    assert isinstance(choice.head, Linear) and len(choice.members) == choosing.COMMITTEE
    assert len({member.features for member in choice.members}) == choosing.COMMITTEE
    assert len({member.features.bins for member in choice.members}) == 2, "both ways are tested"
    by_candidate = {one.candidate: one for one in choice.tried}
    factors = [by_candidate[member].temperature for member in choice.members]
    together = np.mean([f * by_candidate[m].logits for f, m in zip(factors, choice.members, strict=True)], axis=0)
    scale = temperature(together, made.labels[made.video])
    expected = 0.0
    for factor, member in zip(factors, choice.members, strict=True):
        head = fitted(made, member, 3)
        logits = np.mean([head(other.vectors(member.features, view)) for view in member.features.views], axis=0)
        expected = expected + scale * factor * logits / len(factors)
    np.testing.assert_allclose(clip_logits(choice, other), expected, atol=1e-4 * np.abs(expected).max())


# --- against scikit-learn -------------------------------------------------------------------------------


def only(monkeypatch, features, name, value):
    """Leaves a single candidate to choose."""
    monkeypatch.setattr(choosing, "HEADS", {name: Head(HEADS[name].solve, (value,))})
    monkeypatch.setattr(choosing, "NEIGHBOURS", ())
    monkeypatch.setattr(choosing, "_SCREEN", (name, value))
    monkeypatch.setattr(synthetic.Samples, "feature_sets", lambda samples: [features])


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("videos, bins", [(9, 3), (60, 1)])  # a class: fewer rows than features, and more
@pytest.mark.parametrize("name, value", [("logistic", 10.0), ("svm", 1.0), ("lda", 0.3)])
def test_the_decisions_are_those_of_scikit_learn_on_the_same_features(monkeypatch, name, value, videos, bins, classes):
    labels = np.repeat(np.arange(classes), videos)
    clips = 1 if name == "lda" else 2  # scikit-learn's LDA takes no weights
    stages = {"low": 20, "high": 30}
    made = synthetic.make(labels, signal=0.25, clips=clips, stages=stages)
    other = synthetic.make(np.tile(np.arange(classes), 100), signal=0.25, stages=stages, seed=1)
    features = FeatureSet(("low", "high"), bins, False)
    only(monkeypatch, features, name, value)
    choice = choose(made, classes)
    assert len(choice.tried) == 1 and choice.features == features

    x, held_out = made.vectors(features, "plain"), other.vectors(features, "plain")
    width = x.shape[1]
    # A row of a `Space` is as the standardised one divided by the root of the width, so that its C is `width` times as
    # large; so is the penalty of LinearSVC's intercept.
    if name == "logistic":
        model, fitting = LogisticRegression(C=value / width, max_iter=5000, tol=1e-8), {"sample_weight": None}
    elif name == "svm":
        model = LinearSVC(C=value / width, intercept_scaling=width**0.5, tol=1e-8, max_iter=1_000_000)
        fitting = {"sample_weight": None}
    else:
        # It shrinks to the mean variance over all directions, and in a `Space` over those of its rows.
        rank = min(len(x) - 1, width)
        model = LinearDiscriminantAnalysis("lsqr", shrinkage=width * value / (width * value + rank * (1 - value)))
        fitting = {}
    fitting = {f"{type(model).__name__.lower()}__{key}": np.full(len(x), 1 / clips) for key in fitting}
    pipeline = make_pipeline(StandardScaler(), model).fit(x, labels[made.video], **fitting)
    ours = choice.head(held_out)
    assert np.array_equal(ours.argmax(axis=1), pipeline.predict(held_out))
    theirs = pipeline.decision_function(held_out)
    theirs = np.stack([-theirs / 2, theirs / 2], axis=1) if theirs.ndim == 1 else theirs
    ours, theirs = (logits - logits.mean(axis=1, keepdims=True) for logits in (ours, theirs))
    scale = np.sum(ours * theirs) / np.sum(theirs * theirs)  # the temperature
    np.testing.assert_allclose(ours, scale * theirs, atol=0.01 * np.abs(ours).max())
