"""Ranking: values that others publish, ties, masks, long lists, and lists in which there is nothing to rank."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax.losses
import pytest

import jaxloss

LISTWISE = [
    jaxloss.ranking_softmax_loss,
    jaxloss.pairwise_logistic_loss,
    jaxloss.pairwise_hinge_loss,
    jaxloss.list_mle_loss,
    jaxloss.approx_ndcg_loss,
]
EVERY = pytest.mark.parametrize("loss", LISTWISE, ids=lambda loss: loss.__name__)

SCORES = jnp.array([[2.0, 1.0, 0.0], [1.0, 0.5, 1.5]])
LABELS = jnp.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
WHERE = jnp.array([[True, True, False], [True, True, True]])


@pytest.mark.exhaustive
def test_ranking_softmax_is_that_of_optax() -> None:
    for options in ({}, {"weights": jnp.array([0.5, 1.0, 2.0])}):
        for where in (None, WHERE):
            ours = jaxloss.ranking_softmax_loss(SCORES, LABELS, where=where, **options)
            theirs = optax.losses.ranking_softmax_loss(SCORES, LABELS, where=where, reduce_fn=None, **options)
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    np.testing.assert_allclose(jnp.mean(jaxloss.ranking_softmax_loss(SCORES, LABELS, where=WHERE)), 0.497, atol=5e-4)


def value_and_slope(loss: Any, scores: Any, labels: Any, **options: Any) -> Any:
    return jax.value_and_grad(lambda s: jnp.sum(loss(s, labels, **options)))(scores)


@pytest.mark.exhaustive
@EVERY
def test_nothing_to_rank(loss: Any) -> None:
    """An empty list, one that is masked altogether, and one of one item."""
    nan = jnp.full((2, 3), jnp.nan)
    for got in (
        value_and_slope(loss, nan, nan, where=jnp.zeros((2, 3), bool)),
        value_and_slope(loss, jnp.array([[3.0, jnp.nan]]), jnp.array([[0.0, jnp.nan]]), where=jnp.array([True, False])),
        value_and_slope(loss, jnp.array([[3.0]]), jnp.array([[0.0]])),
    ):
        assert all(np.all(np.asarray(x) == 0) for x in got), got


@pytest.mark.sweep
@EVERY
def test_no_relevant_item(loss: Any) -> None:
    value, slope = value_and_slope(loss, SCORES, jnp.zeros((2, 3)))
    if loss is jaxloss.list_mle_loss:  # the order of the list counts
        assert np.all(np.isfinite(slope))
        assert value > 0
    else:
        assert value == 0
        assert np.all(np.asarray(slope) == 0)


@EVERY
def test_another_axis_and_integers(loss: Any) -> None:
    labels = jnp.array([[2, 0, 1], [0, 3, 1]])
    want = loss(SCORES, labels.astype(float), where=WHERE)
    np.testing.assert_allclose(loss(SCORES.T, labels.T, axis=0, where=WHERE.T), want, rtol=1e-6)
    options = {"weights": jnp.array([0.5, 1.0, 2.0])} if loss is jaxloss.ranking_softmax_loss else {}
    turned = {k: v[:, None] for k, v in options.items()}
    np.testing.assert_allclose(
        loss(SCORES.T, labels.T, axis=0, where=WHERE.T, **turned), loss(SCORES, labels, where=WHERE, **options), rtol=1e-6
    )


@pytest.mark.sweep
@EVERY
def test_order_of_the_list_does_not_count(loss: Any) -> None:
    rng = np.random.default_rng(0)
    scores, labels = jnp.asarray(rng.normal(size=8), jnp.float32), jnp.arange(8.0)
    shuffled = rng.permutation(8)
    value, slope = value_and_slope(loss, scores, labels)
    other, moved = value_and_slope(loss, scores[shuffled], labels[shuffled])
    np.testing.assert_allclose(other, value, rtol=1e-5)
    np.testing.assert_allclose(moved, slope[shuffled], rtol=1e-4, atol=1e-6)


@pytest.mark.exhaustive
def test_list_mle_of_a_long_list() -> None:
    """5000 items against float64; what is nearly certain keeps its digits."""
    rng = np.random.default_rng(0)
    s = (10 * rng.normal(size=5000)).astype(np.float32)
    y = rng.permutation(5000).astype(np.float32)
    value, slope = jax.jit(jax.value_and_grad(jaxloss.list_mle_loss))(s, y)
    ordered = s.astype(np.float64)[np.argsort(-y, kind="stable")]
    rest = np.logaddexp.accumulate(ordered[::-1])[::-1]
    np.testing.assert_allclose(value, np.sum(rest - ordered), rtol=1e-5)
    want = np.exp(ordered + np.logaddexp.accumulate(-rest)) - 1
    np.testing.assert_allclose(np.asarray(slope)[np.argsort(-y, kind="stable")], want, atol=1e-5 * np.max(np.abs(want)))
    sure, gradient = jax.value_and_grad(jaxloss.list_mle_loss)(jnp.array([60.0, 30.0, 0.0]), jnp.array([2, 1, 0]))
    np.testing.assert_allclose(sure, 2 * math.exp(-30), rtol=1e-6)
    np.testing.assert_allclose(gradient, [-math.exp(-30), math.exp(-60), math.exp(-30)], rtol=1e-6, atol=1e-19)


def test_list_mle_sorts_large_integers() -> None:
    """Those above 2²⁴, which float32 would take for ties, and the least of all, which has no negative."""
    scores, ranks = jnp.array([0.0, 3.0, 1.0, 2.0]), jnp.array([2, 0, 3, 1])
    want = jaxloss.list_mle_loss(scores, ranks)
    np.testing.assert_array_equal(jaxloss.list_mle_loss(scores, 2**24 + ranks), want)
    np.testing.assert_array_equal(jaxloss.list_mle_loss(scores, -(2**31) + ranks), want)


def test_approx_ndcg_tends_to_ndcg() -> None:
    got = jaxloss.approx_ndcg_loss(jnp.array([0.0, 3.0, 1.0, 2.0]), jnp.array([0, 0, 1, 2]), temperature=1e-3)
    np.testing.assert_allclose(got, -(3 / math.log2(3) + 1 / 2) / (3 + 1 / math.log2(3)), rtol=1e-6)


def test_pairs_do_not_meet_infinities_that_they_do_not_hold() -> None:
    """Two items at −inf are no pair of different relevance: their difference, NaN, is not looked at."""
    scores, labels = jnp.array([1.0, -jnp.inf, -jnp.inf]), jnp.array([1, 0, 0])
    for loss in (jaxloss.pairwise_logistic_loss, jaxloss.pairwise_hinge_loss):
        value, slope = value_and_slope(loss, scores, labels)
        assert value == 0
        assert np.all(np.asarray(slope) == 0)


@pytest.mark.exhaustive
def test_learns_an_order() -> None:
    """Each loss, by gradient descent on the scores alone, finds the order of the relevance."""
    labels = jnp.array([2, 0, 3, 1])
    for loss in LISTWISE[1:]:
        step = jax.jit(jax.grad(lambda s, loss=loss: loss(s, labels)))
        scores = jnp.array([0.1, 0.2, -0.1, 0.0])
        for _ in range(200):
            scores = scores - 0.3 * step(scores)
        np.testing.assert_array_equal(jnp.argsort(scores), jnp.argsort(labels))


def test_list_mle_of_a_long_order_keeps_its_digits() -> None:
    scores = np.arange(1000.0, dtype=np.float32)
    loss, gradient = jax.jit(jax.value_and_grad(jaxloss.list_mle_loss))(scores, scores)
    np.testing.assert_allclose(loss, 457.990817, rtol=5e-7)
    with jax.enable_x64(True):

        def naive(s: Any) -> Any:
            return jnp.sum(jax.lax.cumlogsumexp(s) - s)  # the highest score has the highest relevance

        np.testing.assert_allclose(gradient, jax.grad(naive)(jnp.asarray(scores, jnp.float64)), atol=2e-7)


@pytest.mark.parametrize("offset", [60, 64, 65, 127, 128, 1000])
def test_approx_ndcg_of_ranks_as_relevance(offset: int) -> None:
    """2^y − 1 is out of range above 127; the loss is a ratio of two sums of gains, which is not."""
    draw = np.random.default_rng(0)
    scores, relevance = draw.normal(size=20), np.float64(draw.integers(0, 4, 20) + offset)

    def naive(s: Any) -> Any:
        gain = 2.0 ** (relevance - offset) - 2.0**-offset
        rank = 0.5 + jnp.sum(jax.nn.sigmoid(s[None, :] - s[:, None]), axis=1)
        return -jnp.sum(gain / jnp.log2(1 + rank)) / np.sum(np.sort(gain)[::-1] / np.log2(np.arange(2, 22)))

    both = jax.jit(jax.value_and_grad(jaxloss.approx_ndcg_loss, (0, 1)))
    value, (slope, by_relevance) = both(jnp.asarray(scores, jnp.float32), jnp.asarray(relevance, jnp.float32))
    with jax.enable_x64(True):
        want, want_slope = jax.value_and_grad(naive)(jnp.asarray(scores))
    np.testing.assert_allclose(value, want, rtol=2e-6)
    np.testing.assert_allclose(slope, want_slope, atol=1e-6)
    assert np.all(np.isfinite(by_relevance))
