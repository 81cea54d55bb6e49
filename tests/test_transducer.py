"""The transducer and soft-DTW against the enumeration of all paths and against recursions in float64."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import jaxloss


def transducer_paths(frames: int, labels: int) -> list[list[tuple[int, int, bool]]]:
    """All paths, each as the nodes it leaves and whether by a label."""

    def onward(t: int, u: int) -> list[Any]:
        if t == frames:
            return [[]] if u == labels else []
        by_blank = [[(t, u, False), *rest] for rest in onward(t + 1, u)]
        by_label = [[(t, u, True), *rest] for rest in onward(t, u + 1)] if u < labels else []
        return by_blank + by_label

    return onward(0, 0)


@pytest.mark.parametrize("blank", [0, 2])
def test_transducer_over_every_alignment(blank: int) -> None:
    """Value, and gradient from the occupancies, by enumeration; lengths by a batch of all of them."""
    rng = np.random.default_rng(0)
    sizes = [(t, u) for t in range(1, 5) for u in range(4)]
    z = rng.normal(size=(len(sizes), 4, 4, 3)).astype(np.float32)
    speech = [k for k in range(3) if k != blank]
    labels = rng.choice(speech, size=(len(sizes), 3))
    lengths = np.array(sizes)

    def total(z: Any) -> Any:
        losses = jaxloss.transducer_loss(z, lengths[:, 0], labels, lengths[:, 1], blank_id=blank)
        return jnp.sum(losses), losses

    (_, losses), gradients = jax.jit(jax.value_and_grad(total, has_aux=True))(z)
    for row, y, (frames, count), loss, gradient in zip(z, labels, sizes, losses, gradients, strict=True):
        log_p = row - np.log(np.sum(np.exp(row.astype(float)), axis=-1, keepdims=True))
        paths = transducer_paths(frames, count)
        scores = np.array([sum(log_p[t, u, y[u] if said else blank] for t, u, said in path) for path in paths])
        probability = np.sum(np.exp(scores))
        np.testing.assert_allclose(loss, -np.log(probability), rtol=1e-6)
        want = np.zeros_like(log_p)
        for path, score in zip(paths, scores, strict=True):
            for t, u, said in path:
                want[t, u] += np.exp(score) / probability * np.exp(log_p[t, u])
                want[t, u, y[u] if said else blank] -= np.exp(score) / probability
        np.testing.assert_allclose(gradient, want, atol=2e-6)


def test_transducer_over_many_steps() -> None:
    rng = np.random.default_rng(1)
    z = (2 * rng.normal(size=(2, 200, 41, 8))).astype(np.float32)
    labels, frames, lengths = rng.integers(1, 8, size=(2, 40)), np.array([200, 150]), np.array([40, 25])

    def gradient(z: Any) -> Any:
        return jax.jit(jax.value_and_grad(lambda z: jnp.sum(jaxloss.transducer_loss(z, frames, labels, lengths))))(z)

    got, slope = gradient(z)
    with jax.enable_x64(True):
        want, true_slope = map(np.asarray, jaxloss.autodiff(gradient)(jnp.asarray(z, jnp.float64)))
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert np.linalg.norm(slope - true_slope) <= 1e-5 * np.linalg.norm(true_slope)


def test_transducer_marks_bad_labels() -> None:
    z = jnp.zeros((2, 2, 2, 3))
    losses = jaxloss.transducer_loss(z, jnp.array([2, 2]), jnp.array([[3], [3]]), jnp.array([1, 0]))
    assert np.isnan(losses[0])
    assert np.isfinite(losses[1])


def warping_paths(rows: int, columns: int) -> list[list[tuple[int, int]]]:
    def onward(i: int, j: int) -> list[Any]:
        if (i, j) == (rows - 1, columns - 1):
            return [[(i, j)]]
        steps = [(i + 1, j), (i, j + 1), (i + 1, j + 1)]
        return [[(i, j), *rest] for k, l in steps if k < rows and l < columns for rest in onward(k, l)]

    return onward(0, 0)


@pytest.mark.parametrize("gamma", [1e-3, 0.1, 1.0, 10.0])
def test_soft_dtw_over_every_alignment(gamma: float) -> None:
    """Value and gradients by both sequences and γ, by enumeration; lengths by a batch of all of them."""
    rng = np.random.default_rng(2)
    sizes = [(n, m) for n in range(1, 5) for m in range(1, 4)]
    x, y = rng.normal(size=(len(sizes), 4, 2)), rng.normal(size=(len(sizes), 3, 2))
    x, y = x.astype(np.float32), y.astype(np.float32)
    rows, columns = np.array(sizes).T

    def total(x: Any, y: Any, gamma: Any) -> Any:
        losses = jaxloss.soft_dtw_loss(x, y, gamma=gamma, prediction_lengths=rows, target_lengths=columns)
        return jnp.sum(losses), losses

    gammas = jnp.full(len(sizes), gamma)
    (_, losses), slopes = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True))(x, y, gammas)
    softness = float(np.float32(gamma))
    for b, (n, m) in enumerate(sizes):
        p, q = x[b].astype(float), y[b].astype(float)
        costs = np.sum((p[:, None] - q[None]) ** 2, axis=-1)
        paths = warping_paths(n, m)
        sums = np.array([sum(costs[pair] for pair in path) for path in paths])
        weights = np.exp(-(sums - sums.min()) / softness)
        value = sums.min() - softness * np.log(np.sum(weights))
        weights /= np.sum(weights)
        through = np.zeros((4, 3))
        for path, weight in zip(paths, weights, strict=True):
            for pair in path:
                through[pair] += weight
        np.testing.assert_allclose(losses[b], value, rtol=2e-6, atol=2e-6)
        by_x = 2 * np.einsum("ij,ijk->ik", through, p[:, None] - q[None])
        by_y = -2 * np.einsum("ij,ijk->jk", through, p[:, None] - q[None])
        # the costs of two alignments are right to some 1e-7 of themselves, which γ divides
        error = 2e-5 * max(1, 0.01 / gamma)
        np.testing.assert_allclose(slopes[0][b], by_x, atol=error)
        np.testing.assert_allclose(slopes[1][b], by_y, atol=error)
        entropy = -np.sum(np.where(weights > 0, weights * np.log(np.maximum(weights, 1e-300)), 0))
        np.testing.assert_allclose(slopes[2][b], -entropy, atol=error)


@functools.partial(jax.jit, static_argnums=2)
def warping(x: Any, y: Any, loss: Any) -> Any:
    return jax.value_and_grad(lambda x: jnp.sum(loss(x, y, gamma=1e-3)))(x)


def test_soft_dtw_of_long_series_at_little_softness() -> None:
    """γ = 1e-3 over 300 steps: the recursion in log space in float32 loses its weights to rounding."""
    t = np.linspace(0, 6, 300, dtype=np.float32)
    x, y = np.stack([np.sin(t), np.cos(t)], axis=-1)[None], np.stack([np.sin(t**1.05), np.cos(t**1.05)], axis=-1)[None]
    value, slope = warping(x, y, jaxloss.soft_dtw_loss)
    with jax.enable_x64(True):
        wide = (jnp.asarray(a, jnp.float64) for a in (x, y))
        want, true_slope = map(np.asarray, warping(*wide, jaxloss.autodiff(jaxloss.soft_dtw_loss)))
    np.testing.assert_allclose(value, want, rtol=1e-5)
    assert np.linalg.norm(slope - true_slope) <= 1e-3 * np.linalg.norm(true_slope)


def test_soft_dtw_divergence_is_positive_and_0_for_equal_series() -> None:
    x = jnp.asarray(np.random.default_rng(3).normal(size=(20, 6, 2)), jnp.float32)
    assert np.all(jaxloss.soft_dtw_divergence(x, x) == 0)
    assert np.all(jaxloss.soft_dtw_divergence(x, x[::-1]) > 0)
    slope = jax.grad(lambda y: jnp.sum(jaxloss.soft_dtw_divergence(y, x)))(x)
    np.testing.assert_allclose(slope, 0, atol=2e-6)


@pytest.mark.parametrize("loss", [jaxloss.soft_dtw_loss, jaxloss.soft_dtw_divergence])
def test_no_series_is_kept_in_float32(loss: Any) -> None:
    x, y = jnp.ones((2, 3, 50), jnp.bfloat16), jnp.ones((2, 4, 50), jnp.bfloat16)
    kept = jax.tree.leaves(jax.eval_shape(lambda *at: jax.vjp(loss, *at)[1], x, y))
    assert max(a.size for a in kept if a.dtype == jnp.float32) < x.size


def test_nan_is_loud_and_a_node_without_classes_has_no_path() -> None:
    z = jnp.zeros((3, 2, 2, 3)).at[0, 1, 0, 0].set(jnp.nan).at[1, 1, 0].set(-jnp.inf)
    frames, labels, lengths = jnp.array([2] * 3), jnp.array([[1]] * 3), jnp.array([1] * 3, jnp.int8)
    losses, pullback = jax.vjp(lambda z: jaxloss.transducer_loss(z, frames, labels, lengths), z)
    gradient = np.asarray(pullback(jnp.ones(3))[0])
    assert np.isnan(losses[0])
    np.testing.assert_allclose(losses[1], 3 * np.log(3.0), rtol=1e-6)
    assert np.all(np.isfinite(gradient[1:]))
    assert np.isnan(jaxloss.soft_dtw_loss(jnp.array([[0.0], [jnp.nan]]), jnp.zeros((1, 1))))


def test_a_cost_beyond_the_range_has_no_gradient() -> None:
    x = jnp.array([[500.0], [0.0]])
    loss, slope = jax.value_and_grad(lambda x: jaxloss.soft_dtw_loss(x, jnp.zeros((2, 1)), gamma=1e-3))(x)
    assert loss == np.inf
    assert np.all(slope == 0)


def exactly(z: np.ndarray, y: list[int]) -> tuple[float, np.ndarray]:
    """The transducer's loss and gradient by enumeration, in numbers of 100 digits."""
    with mpmath.workdps(100):
        p = np.vectorize(lambda x: mpmath.exp(float(x)), otypes=[object])(z)
        p /= np.sum(p, axis=-1, keepdims=True)
        slope, total = np.full(z.shape, mpmath.mpf(0)), mpmath.mpf(0)
        for path in transducer_paths(len(z), len(y)):
            mass = mpmath.fprod(p[t, u, y[u] if said else 0] for t, u, said in path)
            total += mass
            for t, u, said in path:
                slope[t, u] += mass * p[t, u]
                slope[t, u, y[u] if said else 0] -= mass
        return float(-mpmath.log(total)), (slope / total).astype(float)


@pytest.mark.parametrize("gap", [2, 4, 8, 12, 30, 80])
def test_transducer_of_labels_that_are_nearly_sure(gap: float) -> None:
    """In one batch: one sure path, two that are as sure, a sequence that is not sure, and lengths."""
    y, lengths = np.array([[1, 2]] * 4), np.array([[3, 2], [3, 2], [3, 2], [2, 1]])
    for noise in (0.0, 1.0):
        z = (noise * np.random.default_rng(0).normal(size=(4, 3, 3, 4))).astype(np.float32)
        for t, u, k in [(0, 0, 1), (0, 1, 0), (1, 1, 2), (1, 2, 0), (2, 2, 0), (1, 0, 1), (2, 1, 2)]:
            z[[0, 1, 3], t, u, k] += gap
        z[1, 0, 0, 0] = z[1, 0, 0, 1]
        z[3, 1, 1] = [2 * gap, 0, 0, 0]  # the end, where the second label would lead out of the lengths
        losses, gradient = transducer(z, lengths[:, 0], y, lengths[:, 1])
        for b, (frames, count) in enumerate(lengths):
            want, slope = exactly(z[b, :frames, : count + 1], list(y[b, :count]))
            np.testing.assert_allclose(losses[b], want, rtol=2e-6, atol=1e-36)
            error = gradient[b, :frames, : count + 1].astype(float) - slope
            assert np.linalg.norm(error) <= 1e-5 * np.linalg.norm(slope) + 1e-36


def test_a_label_that_is_the_blank() -> None:
    """Two steps of one class: where it leads is not known from it, and the paths are added up as elsewhere."""
    z = np.zeros((1, 2, 2, 2), np.float32)
    z[..., 0] = np.log(7 / 3)
    losses, gradient = transducer(z, np.array([2]), np.array([[0]]), np.array([1]))
    np.testing.assert_allclose(losses, -np.log(2 * 0.7**3), rtol=1e-6)
    assert np.all(np.isfinite(gradient))


@jax.jit
def transducer(z: Any, frames: Any, labels: Any, lengths: Any) -> Any:
    losses, pullback = jax.vjp(lambda z: jaxloss.transducer_loss(z, frames, labels, lengths), z)
    return losses, pullback(jnp.ones_like(losses))[0]
