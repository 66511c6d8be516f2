"""Linear heads, nearest neighbours and temperature: what they compute, and that nothing is lost on the way."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from r23d_jax.models.neighbours import neighbour_weights
from r23d_jax.probing.heads import HEADS, NEIGHBOURS, Linear, Neighbours, Space, neighbour_votes, temperature
from r23d_jax.probing.space import moments

EACH = pytest.mark.parametrize("name", HEADS)
CASES = [(name, value) for name, head in HEADS.items() for value in head.values]


def clusters(rows, features, classes, seed=0):
    """Rows around class means that overlap, with features of very different mean and spread."""
    random = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    x = random.normal(size=(classes, features))[y] + 2 * random.normal(size=(rows, features))
    unit = 10 ** random.uniform(-2, 2, features)
    return (x * unit + 3 * unit * random.normal(size=features)).astype(np.float32), y


@pytest.mark.parametrize("shape", [(30, 100), (100, 30)])
def test_space_keeps_inner_products_of_standardised_rows(shape):
    x, _ = clusters(*shape, 3)
    x[:, 4] = 12.3  # says nothing
    space = Space.of(x)
    standard = np.delete((x - x.mean(0, dtype=np.float64)) / x.std(0, dtype=np.float64).clip(1e-3), 4, axis=1)
    z = space.project(x)
    assert z.shape[1] == min(shape) - 1 and space.scale[4] == 0
    np.testing.assert_allclose(z @ z.T, standard @ standard.T / standard.shape[1], atol=1e-6)
    np.testing.assert_allclose(space.rotation.T @ space.rotation, np.eye(z.shape[1]), atol=1e-6)


def test_a_feature_that_never_changes_does_not_matter_whatever_it_is_later():
    x, y = clusters(30, 100, 3)
    x[:, 4] = 12.3
    space = Space.of(x)
    head = space.fold(HEADS["lda"].fit(space.project(x), y, 3, None, 0.3))
    other = x.copy()
    other[:, 4] = -1e6
    np.testing.assert_array_equal(head(x), head(other))


def test_rows_that_are_all_the_same_give_a_finite_head():
    x, y = np.ones((6, 5), np.float32), np.arange(6) % 2
    space = Space.of(x)
    for head in HEADS.values():
        assert np.isfinite(space.fold(head.fit(space.project(x), y, 2, None, head.values[0]))(2 * x)).all()


def test_moments_are_weighted_over_rows_and_positions():
    x = np.random.default_rng(0).normal(3, 2, (150, 4, 2))
    weights = np.arange(150) % 3
    mean, scale = moments(x, weights)
    repeated = np.repeat(x, weights, axis=0).reshape(-1, 2)
    np.testing.assert_allclose(mean, repeated.mean(0))
    np.testing.assert_allclose(scale, 1 / repeated.std(0))


@pytest.mark.parametrize("shape", [(40, 120), (120, 40)])
@pytest.mark.parametrize("name, value", CASES)
def test_folded_head_gives_the_same_logits_from_raw_features(name, value, shape):
    x, y = clusters(*shape, 3)
    held_out, _ = clusters(*shape, 3, seed=1)
    space = Space.of(x)
    head = HEADS[name].fit(space.project(x), y, 3, None, value)
    folded = space.fold(head)
    assert folded.kernel.dtype == folded.bias.dtype == np.float32 and folded.kernel.shape == (shape[1], 3)
    expected = head(space.project(held_out))
    np.testing.assert_allclose(folded(held_out), expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["logistic", "svm", "means"])
def test_nothing_is_lost_by_the_small_space(name):
    x, y = clusters(40, 120, 3)
    held_out, _ = clusters(40, 120, 3, seed=1)
    space = Space.of(x)
    whole = Space(space.mean, space.scale, np.eye(120))
    logits = [s.fold(HEADS[name].fit(s.project(x), y, 3, None, 1.0))(held_out) for s in (space, whole)]
    np.testing.assert_allclose(*logits, atol=5e-3 * np.abs(logits[0]).max())  # what the solvers stop at


@EACH
def test_regularisation_means_the_same_for_any_number_of_features(name):
    x, y = clusters(40, 15, 3)
    value = HEADS[name].values[-1]
    logits = []
    for features in (x, np.hstack([x, x, x])):
        space = Space.of(features)
        logits.append(space.fold(HEADS[name].fit(space.project(features), y, 3, None, value))(features))
    np.testing.assert_allclose(*logits, atol=5e-3 * np.abs(logits[0]).max())


@pytest.mark.parametrize("value", HEADS["lda"].values)
def test_discriminant_with_equal_weights_is_that_of_scikit_learn(value):
    x, y = clusters(50, 80, 3)
    y[:10] = 0  # the classes' shares differ
    z = Space.of(x).project(x)
    head = HEADS["lda"].fit(z, y, 3, np.full(50, 0.4), value)
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=value).fit(z, y)
    np.testing.assert_allclose(head(z), reference.decision_function(z), rtol=1e-6, atol=1e-6)


@EACH
def test_a_weight_counts_like_as_many_rows(name):
    x, y = clusters(40, 20, 3)
    weights = 1.0 + np.arange(40) // 5 % 3
    z = Space.of(x).project(x)
    value = HEADS[name].values[0]
    weighted = HEADS[name].fit(z, y, 3, weights, value)
    repeated = HEADS[name].fit(np.repeat(z, weights.astype(int), 0), np.repeat(y, weights.astype(int)), 3, None, value)
    equal = HEADS[name].fit(z, y, 3, None, value)
    size = np.abs(repeated(z)).max()
    np.testing.assert_allclose(weighted(z), repeated(z), atol=5e-3 * size)
    assert np.abs(weighted(z) - equal(z)).max() > 0.02 * size


@EACH
def test_a_row_of_weight_zero_does_not_count(name):
    x, y = clusters(40, 20, 4)
    z = Space.of(x).project(x)
    value = HEADS[name].values[0]
    head = HEADS[name].fit(z, y, 4, (y < 3).astype(float), value)
    without = HEADS[name].fit(z[y < 3], y[y < 3], 4, None, value)
    np.testing.assert_array_equal(head(z), without(z))


@pytest.mark.parametrize("name, model", [("logistic", LogisticRegression), ("svm", LinearSVC)])
def test_two_classes_have_two_logits(name, model):
    x, y = clusters(40, 20, 2)
    z = Space.of(x).project(x)
    logits = HEADS[name].fit(z, y, 2, None, 1.0)(z)
    decision = model(C=1.0, max_iter=5000).fit(z, y).decision_function(z)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], decision, atol=2e-3)


@EACH
def test_every_method_learns_two_and_many_classes(name):
    for classes in (2, 12):
        half = 20 * classes
        x, y = clusters(2 * half, 60, classes)
        space = Space.of(x[:half])
        rows = (space.project(x[:half]), y[:half], classes, None)
        for value in HEADS[name].values:
            logits = space.fold(HEADS[name].fit(*rows, value))(x[half:])
            assert logits.shape == (half, classes)
            assert np.mean(logits.argmax(1) == y[half:]) > 0.75


@EACH
def test_a_class_without_rows_is_far_below_the_others(name):
    x, y = clusters(40, 60, 4)
    z, kept = Space.of(x).project(x), y != 2
    for value in HEADS[name].values:
        logits = HEADS[name].fit(z[kept], y[kept], 4, None, value)(z[kept])
        others = np.delete(logits, 2, axis=1)
        assert np.isfinite(logits).all()
        assert (logits[:, 2] <= others.min() - (others.max() - others.min())).all()
        assert np.mean(logits.argmax(1) == y[kept]) > 0.6


@EACH
def test_one_class_alone_wins(name):
    x, _ = clusters(10, 6, 2)
    z = Space.of(x).project(x)
    logits = HEADS[name].fit(z, np.full(10, 1), 3, None, HEADS[name].values[0])(z)
    assert logits.shape == (10, 3) and (logits.argmax(1) == 1).all()


@EACH
def test_one_row_a_class_is_enough(name):
    x, y = clusters(5, 40, 5)
    space = Space.of(x)
    for value in HEADS[name].values:
        head = space.fold(HEADS[name].fit(space.project(x), y, 5, None, value))
        np.testing.assert_array_equal(head(x).argmax(1), y)


@EACH
def test_same_arguments_same_head_in_any_thread(name):
    x, y = clusters(100, 60, 4)

    def kernel(_):
        return HEADS[name].fit(Space.of(x).project(x), y, 4, None, HEADS[name].values[-1]).kernel

    with threadpool_limits(1), ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(kernel, range(9))
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_nearest_mean_is_the_nearest():
    z = np.random.default_rng(0).normal(size=(30, 5))
    y = np.arange(30) % 3
    means = np.array([z[y == label].mean(0) for label in range(3)])
    distances = np.linalg.norm(z[:, None] - means, axis=2)
    head = HEADS["means"].fit(z, y, 3, None, 0.0)
    np.testing.assert_array_equal(head(z).argmax(1), distances.argmin(1))


def test_votes_of_the_nearest():
    points = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], np.float32)
    votes = neighbour_votes(points[:1], points, 2, tau=0.1)
    np.testing.assert_allclose(votes, [[*softmax([10, 8]), 0, 0]], rtol=1e-5)
    np.testing.assert_array_equal(neighbour_votes(points, points, 1), np.eye(4))
    np.testing.assert_allclose(neighbour_votes(points, points, 9).sum(1), 1, rtol=1e-6)  # fewer points than may vote
    twice = np.repeat(points, 2, axis=0)
    np.testing.assert_array_equal(neighbour_votes(points[:1], twice, 1), [[1, 0, 0, 0, 0, 0, 0, 0]])


@pytest.mark.parametrize("k", [*NEIGHBOURS, 99])
def test_votes_in_a_network_are_the_same(k):
    x, y = clusters(40, 30, 3)
    held_out, _ = clusters(20, 30, 3, seed=1)
    held_out[0] = x.mean(0)  # in no direction
    head = Neighbours.of(x, y, 3, k)
    weights = np.asarray(neighbour_weights(held_out, head.mean, head.scale, head.points, k))
    assert weights.shape == (20, 40) and ((weights > 0).sum(1) <= k).all()
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(head.sharpness * weights[1:] @ head.labels, head(held_out)[1:], atol=1e-4)


def test_neighbours_know_their_own_rows_and_learn():
    x, y = clusters(200, 60, 4)
    np.testing.assert_array_equal(Neighbours.of(x, y, 4, 1)(x), 10 * np.eye(4)[y])
    logits = Neighbours.of(x[:100], y[:100], 4, 15)(x[100:])
    assert np.mean(logits.argmax(1) == y[100:]) > 0.75


def cross_entropy(logits, labels):
    return -np.mean(log_softmax(logits, axis=1)[np.arange(len(labels)), labels])


@pytest.mark.parametrize("size", [1e-4, 1.0, 300.0])
def test_temperature_minimises_cross_entropy(size):
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=(500, 5))
    labels = np.array([random.choice(5, p=row) for row in softmax(logits, axis=1)])
    factor = temperature(size * logits, labels)
    assert factor * size == pytest.approx(1, rel=0.15)  # by the choice of the labels
    best = cross_entropy(factor * size * logits, labels)
    assert best < min(cross_entropy(share * factor * size * logits, labels) for share in (0.99, 1.01))


def test_confidence_stays_finite_when_all_are_right():
    labels = np.arange(20) % 4
    logits = np.eye(4)[labels]
    chance = softmax(temperature(logits, labels) * logits, axis=1)[np.arange(20), labels]
    np.testing.assert_allclose(chance, 20.5 / 21)
    longer = np.arange(200) % 4
    assert temperature(np.eye(4)[longer], longer) > temperature(logits, labels)
    logits[0] = np.eye(4)[1]  # now one of them is wrong
    assert temperature(logits, labels) < temperature(np.eye(4)[labels], labels)


def test_temperature_of_logits_that_say_nothing_or_the_opposite():
    labels = np.arange(20) % 4
    assert temperature(np.full((20, 4), 3.0), labels) == 1
    wrong = -np.eye(4)[labels]
    factor = temperature(wrong, labels)
    assert factor > 0 and np.ptp(softmax(factor * wrong, axis=1)) < 0.01


def test_linear_head_is_a_product():
    head = Linear(np.array([[1, 2], [3, 4]], np.float32), np.array([1, -1], np.float32))
    np.testing.assert_array_equal(head(np.array([[1, 1]], np.float16)), [[5, 5]])
