"""Attentive heads: what they find that a mean does not show, and that a network computes the same."""

import numpy as np
import pytest
from scipy.special import softmax

from r23d_jax.models.attention import attend
from r23d_jax.probing.attention import QUERIES, Attention, fit
from r23d_jax.probing.heads import HEADS, Space

CLASSES, PLACES, WIDTH = 3, 16, 24
DIRECTIONS = np.linalg.qr(np.random.default_rng(9).normal(size=(WIDTH, CLASSES + 1)))[0].T


def in_one_token(rows, seed):
    """The class is in one token at any position, which a direction of its own marks; the others are noise."""
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % CLASSES
    tokens = random.normal(size=(rows, PLACES, WIDTH))
    tokens[np.arange(rows), random.integers(PLACES, size=rows)] += 5 * (DIRECTIONS[labels] + DIRECTIONS[CLASSES])
    return tokens.astype(np.float32), labels


def at_one_position(rows, seed):
    """The class is at position 5; every other position shows some class as clearly."""
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % CLASSES
    shown = random.integers(CLASSES, size=(rows, PLACES))
    shown[:, 5] = labels
    return (random.normal(size=(rows, PLACES, WIDTH)) + 6 * DIRECTIONS[shown]).astype(np.float32), labels


@pytest.mark.parametrize("task", [in_one_token, at_one_position])
def test_finds_what_the_mean_over_positions_does_not_show(task):
    tokens, labels = task(240, 0)
    held_out, expected = task(240, 1)
    space = Space.of(tokens.mean(1))
    linear = space.fold(HEADS["lda"].fit(space.project(tokens.mean(1)), labels, CLASSES, None, 0.3))
    assert np.mean(linear(held_out.mean(1)).argmax(1) == expected) < 0.75
    head = fit(tokens, labels, CLASSES, epochs=80)
    assert np.mean(head(held_out).argmax(1) == expected) > 0.95


def test_logits_are_those_of_the_formula_and_of_the_network():
    random = np.random.default_rng(0)
    shapes = {"mean": (5,), "scale": (5,), "query": (2, 5), "position": (2, 7), "kernel": (10, 3), "bias": (3,)}
    head = Attention(**{name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()})
    tokens = random.normal(size=(70, 7, 5)).astype(np.float32)
    x = (tokens - head.mean) * head.scale
    shares = softmax(np.einsum("npd,hd->nhp", x, head.query) / np.sqrt(5) + head.position, axis=2)
    logits = np.einsum("nhp,npd->nhd", shares, x).reshape(70, -1) @ head.kernel + head.bias
    np.testing.assert_allclose(head(tokens), logits, rtol=1e-4, atol=1e-4)
    pooled = attend(tokens, head.mean, head.scale, head.query, head.position)
    np.testing.assert_allclose(np.asarray(pooled) @ head.kernel + head.bias, logits, rtol=1e-4, atol=1e-4)


def test_without_queries_and_positions_it_is_the_mean():
    tokens = np.random.default_rng(0).normal(size=(3, 7, 5)).astype(np.float32)
    pooled = attend(tokens, np.ones(5), np.full(5, 2.0), np.zeros((4, 5)), np.zeros((4, 7)))
    np.testing.assert_allclose(pooled, np.tile(2 * (tokens.mean(1) - 1), 4), rtol=1e-5, atol=1e-5)


def test_same_arguments_same_head_and_another_seed_another():
    tokens, labels = in_one_token(100, 0)  # whose last batch of an epoch is short
    first, second, other = (fit(tokens, labels, CLASSES, seed=seed, epochs=3) for seed in (0, 0, 1))
    for name, value in vars(first).items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, getattr(second, name))
    assert not np.array_equal(first.kernel, other.kernel)
    assert first.query.shape == (QUERIES, WIDTH) and len({tuple(row) for row in first.query}) == QUERIES
    assert first.position.shape == (QUERIES, PLACES) and first.kernel.shape == (QUERIES * WIDTH, CLASSES)


def test_weights_say_which_rows_count():
    tokens, labels = in_one_token(120, 0)
    tokens = tokens.mean(1, keepdims=True)  # easy enough for a few steps
    wrong = (labels + 1) % CLASSES
    weights = np.repeat([1.0, 1e-3], 120)
    head = fit(np.concatenate([tokens] * 2), np.concatenate([labels, wrong]), CLASSES, weights, epochs=30)
    found = head(tokens).argmax(1)
    assert np.mean(found == labels) > np.mean(found == wrong) + 0.5


def test_standardised_over_rows_and_positions():
    tokens, labels = in_one_token(60, 0)
    unit = np.linspace(0.5, 100, WIDTH, dtype=np.float32)
    tokens[..., 3] = 0.1  # says nothing
    head = fit(tokens * unit + 3, labels, CLASSES, epochs=2)
    assert head.scale[3] == 0
    values = (tokens * unit + 3 - head.mean) * head.scale
    np.testing.assert_allclose(values.mean((0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(np.delete(values.std((0, 1)), 3), 1, rtol=1e-4)


def test_tokens_in_half_precision_and_a_class_without_rows():
    tokens, labels = in_one_token(60, 0)
    head = fit(tokens.astype(np.float16), labels, CLASSES + 1, epochs=20)
    logits = head(tokens.astype(np.float16))
    assert logits.shape == (60, CLASSES + 1) and np.isfinite(logits).all()
    assert (logits.argmax(1) < CLASSES).all()
