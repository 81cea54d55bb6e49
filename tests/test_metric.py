"""Metric learning: digits against mpmath, invariants, zero distances, and blocks of a large batch."""

from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from cases import mining
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxloss

mp.mp.dps = 60
ANGLES = (1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
DEGREES = (1, 1.5, 2, 3, 7, np.inf)


def exact(x: Any) -> list[mp.mpf]:
    return [mp.mpf(float(v)) for v in np.asarray(x)]


def unit_in_last_place(x: Any) -> mp.mpf:
    return mp.mpf(2) ** (mp.floor(mp.log(max(abs(x), mp.mpf(2) ** -126), 2)) - 23)


def ulps(got: Any, want: Any, scale: Any = 0) -> float:
    """The largest error, in units in the last place of the largest component of `want`, or of `scale` if that is more."""
    got, want = np.ravel(np.asarray(got, np.float64)), want if isinstance(want, list) else [want]
    unit = unit_in_last_place(max(*map(abs, want), abs(scale)) if want else scale)
    return max(float(abs(mp.mpf(float(g)) - w) / unit) for g, w in zip(got, want, strict=True))


def length(x: list[mp.mpf]) -> mp.mpf:
    return mp.sqrt(mp.fdot(x, x))


def difference(a: list[mp.mpf], b: list[mp.mpf]) -> list[mp.mpf]:
    return [x - y for x, y in zip(a, b, strict=True)]


def vectors_at(angle: float, rng: np.random.Generator, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Two vectors of any length, about `angle` apart."""
    a = rng.normal(size=dim)
    b = a * rng.uniform(0.3, 3) + angle * np.linalg.norm(a) / np.sqrt(dim) * rng.normal(size=dim)
    lengths = 10.0 ** rng.uniform(-18, 18, size=2)
    return (lengths[0] * a).astype(np.float32), (lengths[1] * b).astype(np.float32)


def value_and_slopes(loss: Any, count: int = 2) -> Any:
    return jax.jit(jax.value_and_grad(loss, tuple(range(count))))


DISTANCE, SIMILARITY = value_and_slopes(jaxloss.cosine_distance), value_and_slopes(jaxloss.cosine_similarity)


@pytest.mark.sweep
@pytest.mark.parametrize("dim", [3, 100])
@pytest.mark.parametrize("angle", ANGLES)
def test_cosines_keep_their_digits_at_every_angle(angle: float, dim: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        a, b = vectors_at(angle, rng, dim)
        x, y = exact(a), exact(b)
        cos = mp.fdot(x, y) / (length(x) * length(y))
        slope = [(v / length(y) - cos * u / length(x)) / length(x) for u, v in zip(x, y, strict=True)]
        terms = max(abs(u * v) for u, v in zip(x, y, strict=True)) / (length(x) * length(y))
        similarity, slopes = SIMILARITY(a, b)
        assert ulps(similarity, cos, terms) <= 8
        assert ulps(slopes[0], slope) <= 8
        distance, opposite = DISTANCE(a, b)
        assert ulps(distance, 1 - cos) <= 8
        assert ulps(-opposite[0], slope) <= 8
        # A change of length does not turn a vector.
        g, a = np.asarray(slopes[0], np.float64), np.asarray(a, np.float64)
        assert abs(g @ a) <= 1e-6 * np.linalg.norm(g) * np.linalg.norm(a)


@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1.0, 1e12, 1e20])
@pytest.mark.parametrize("other", [1e-25, 1.0, 1e20])
def test_cosines_of_vectors_of_any_length(scale: float, other: float) -> None:
    a, b = np.float32([3 * scale, 4 * scale]), np.float32([other, 0])
    for loss, want, sign in ((SIMILARITY, 0.6, 1), (DISTANCE, 0.4, -1)):
        value, (by_a, by_b) = loss(a, b)
        np.testing.assert_allclose(value, want, rtol=5e-7)
        np.testing.assert_allclose(by_a, sign * np.array([0.128, -0.096]) / scale, rtol=1e-6)
        np.testing.assert_allclose(by_b, sign * np.array([0, 0.8]) / other, rtol=1e-6, atol=1e-7 / other)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-100, 100, width=32), min_size=6, max_size=6), st.integers(-60, 60))
def test_cosines_do_not_depend_on_length_or_order(numbers: list[float], power: int) -> None:
    a, b = np.float32(numbers[:3]), np.float32(numbers[3:])
    a, b = (np.where(np.abs(x) < 1e-20, 0, x).astype(np.float32) for x in (a, b))
    value = SIMILARITY(a, b)[0]
    assert -1 <= value <= 1
    assert SIMILARITY(np.ldexp(a, power), b)[0] == value
    assert SIMILARITY(b, a)[0] == value
    assert 0 <= DISTANCE(a, b)[0] <= 2
    if np.any(a):
        assert DISTANCE(a, a)[0] <= 1e-14


def lengths_and_slopes(r: list[mp.mpf], degree: float) -> tuple[mp.mpf, list[mp.mpf]]:
    if degree == np.inf:
        largest = max(map(abs, r))
        return largest, [mp.sign(v) if abs(v) == largest else mp.mpf(0) for v in r]
    total = mp.fsum(abs(v) ** mp.mpf(degree) for v in r) ** (1 / mp.mpf(degree))
    return total, [mp.sign(v) * (abs(v) / total) ** (mp.mpf(degree) - 1) for v in r]


@pytest.mark.parametrize("degree", DEGREES)
def test_triplets_keep_their_digits(degree: float) -> None:
    rng, bound = np.random.default_rng(1), 2 * degree if 4 < degree < np.inf else 8
    loss = value_and_slopes(lambda a, p, n: jaxloss.triplet_margin_loss(a, p, n, norm_degree=degree), 3)
    for scale in (1e-18, 1e-3, 1.0, 1e3, 1e18):
        for _ in range(8):
            a, p, n = (scale * rng.normal(size=(3, 20))).astype(np.float32)
            p = (a + 10.0 ** rng.uniform(-6, 0) * (p - a)).astype(np.float32)
            to_p, slope_p = lengths_and_slopes(difference(exact(a), exact(p)), degree)
            to_n, slope_n = lengths_and_slopes(difference(exact(a), exact(n)), degree)
            want = to_p - to_n + 1
            value, slopes = loss(a, p, n)
            assert ulps(value, max(want, mp.mpf(0)), max(to_p, to_n, 1)) <= 4
            if want > 0:
                assert ulps(slopes[1], [-v for v in slope_p]) <= bound
                assert ulps(slopes[2], slope_n) <= bound
                assert ulps(slopes[0], difference(slope_p, slope_n), 1) <= bound


def test_contrastive_within_8_ulp() -> None:
    rng = np.random.default_rng(2)
    loss = jax.jit(jax.value_and_grad(jaxloss.contrastive_loss, (0, 1)))
    for label in (0, 1):
        for apart in 10.0 ** np.linspace(-15, 0, 31):
            a = rng.normal(size=30).astype(np.float32) * np.float32(min(1, 1e6 * apart))
            b = (a + apart * rng.normal(size=30) / 10).astype(np.float32)
            r = difference(exact(a), exact(b))
            d = length(r)
            missing = max(1 - d, mp.mpf(0))
            want = d**2 if label else missing**2
            slope = [2 * (d if label else -missing) * v / d if d else mp.mpf(0) for v in r]
            value, slopes = loss(a, b, jnp.asarray(label))
            assert ulps(value, want) <= 8
            assert ulps(slopes[0], slope) <= 8
            np.testing.assert_array_equal(slopes[1], -slopes[0])


def test_n_pairs_keeps_tiny_losses() -> None:
    """Relative to the largest product, and where it is exact to the loss itself."""
    loss = jax.jit(jax.value_and_grad(lambda a, p: jaxloss.n_pairs_loss(a, p)[0], (0, 1)))
    for lead in (0.0, 1.0, 17.0, 20.0, 50.0, 80.0):
        a, p = np.float32([[lead, 0.0], [0.0, lead]]), np.float32([[1.0, 0.0], [0.0, 1.0]])
        value, (by_a, by_p) = loss(a, p)
        share = 1 / (1 + mp.exp(mp.mpf(lead)))
        assert ulps(value, mp.log1p(mp.exp(-mp.mpf(lead)))) <= 4
        assert ulps(by_a[0], [-share, share]) <= 8
        if lead:
            assert ulps(by_p[1], [lead * share, mp.mpf(0)]) <= 8


@pytest.mark.sweep
@pytest.mark.parametrize("degree", [1, 1.5, 2, 3, np.inf])
@pytest.mark.parametrize("squared", [False, True])
def test_a_triplet_of_one_point_has_no_gradient(degree: float, squared: bool) -> None:
    def loss(*x: Any) -> Any:
        return jaxloss.triplet_margin_loss(*x, norm_degree=degree, squared=squared)

    point = jnp.array([1.0, 2.0, 3.0])
    value, slopes = jax.value_and_grad(loss, (0, 1, 2))(point, point, point)
    assert value == 1
    np.testing.assert_array_equal(slopes, np.zeros((3, 3)))


def test_a_kink_beyond_the_start_has_no_gradient() -> None:
    zero, one = jnp.zeros(2), jnp.array([1.0, 0.0])
    losses = [
        lambda x: jaxloss.triplet_margin_loss(zero, x, 2 * one),  # 1 − 2 + 1
        lambda x: jaxloss.cosine_embedding_loss(x, one, jnp.array(-1), margin=1.0),
        lambda x: jaxloss.batch_hard_triplet_loss(jnp.stack([zero, x, 2 * one]), jnp.array([0, 0, 1]))[0],
    ]
    for loss in losses:
        value, pullback = jax.vjp(loss, one)
        np.testing.assert_array_equal(value, np.zeros_like(value))
        np.testing.assert_array_equal(pullback(jnp.ones_like(value))[0], [0, 0])


def test_degree_1_and_inf_are_sums_and_maxima() -> None:
    a, p, n = jnp.zeros(3), jnp.array([1.0, -2.0, 2.0]), jnp.zeros(3)

    def loss(degree: float) -> Any:
        return jax.value_and_grad(lambda p: jaxloss.triplet_margin_loss(a, p, n, norm_degree=degree))(p)

    value, slope = loss(1)
    assert value == 6
    np.testing.assert_array_equal(slope, [1, -1, 1])
    value, slope = loss(np.inf)
    assert value == 3
    np.testing.assert_array_equal(slope, [0, -0.5, 0.5])  # shared evenly


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"norm_degree": 0.5}, ValueError, "norm_degree must be at least 1, got 0.5"),
        ({"norm_degree": np.nan}, ValueError, "norm_degree must be at least 1, got nan"),
        ({"norm_degree": jnp.ones(())}, TypeError, "norm_degree must be a plain number"),
        ({"norm_degree": np.inf, "eps": 1e-6}, ValueError, "eps must be 0 for norm_degree=inf"),
        ({"margin": -1.0}, ValueError, "margin must be at least 0"),
        ({"axis": 1}, ValueError, "axis must be from -1 to 0"),
    ],
)
def test_options_of_the_triplet_loss_are_checked(options: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        jaxloss.triplet_margin_loss(jnp.ones(3), jnp.ones(3), jnp.ones(3), **options)


def test_the_degree_may_be_a_number_of_numpy() -> None:
    a, p, n = jnp.eye(3)
    for degree in (np.float32(3), np.int64(3)):
        got = jaxloss.triplet_margin_loss(a, p, n, norm_degree=degree)
        np.testing.assert_array_equal(got, jaxloss.triplet_margin_loss(a, p, n, norm_degree=3))


def test_several_axes_make_one_vector() -> None:
    a, b = np.random.default_rng(3).normal(size=(2, 4, 3, 5)).astype(np.float32)
    want = jaxloss.cosine_distance(a.transpose(1, 0, 2).reshape(3, 20), b.transpose(1, 0, 2).reshape(3, 20))
    np.testing.assert_array_equal(jaxloss.cosine_distance(a, b, axis=(0, 2)), want)
    whole = jaxloss.cosine_similarity(a, b, axis=None)
    np.testing.assert_allclose(whole, jaxloss.cosine_similarity(a.ravel(), b.ravel()), rtol=1e-6)


# --- Batches --------------------------------------------------------------------------------------------------------

LARGE = 700  # more anchors than are compared at a time, and no multiple of it


def large_batch() -> tuple[Any, Any]:
    rng = np.random.default_rng(4)
    return jnp.asarray(rng.normal(size=(LARGE, 8)), jnp.float32), jnp.asarray(rng.integers(0, 40, LARGE))


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("loss", "naive", "options"),
    [
        (jaxloss.batch_hard_triplet_loss, mining.batch_hard, {}),
        (jaxloss.multi_similarity_loss, mining.multi_similarity, {"beta": 10.0}),
        (jaxloss.circle_loss, mining.circle, {"gamma": 8.0}),
        (lambda x, labels: jaxloss.n_pairs_loss(x, x[::-1]), lambda x, labels: mining.n_pairs(x, x[::-1]), {}),
    ],
    ids=["batch_hard", "multi_similarity", "circle", "n_pairs"],
)
def test_blocks_change_nothing(loss: Any, naive: Any, options: Any) -> None:
    x, labels = large_batch()

    def both(f: Any) -> Any:
        def total(x: Any) -> Any:
            losses = f(x, labels, **options)
            return jnp.sum(losses * jnp.linspace(0.5, 2, LARGE)), losses

        return jax.jit(jax.value_and_grad(total, has_aux=True))

    (_, losses), slope = both(loss)(x)
    with jax.enable_x64(True):
        (_, want), want_slope = both(naive)(jnp.asarray(np.asarray(x), jnp.float64))
    np.testing.assert_allclose(losses, want, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(slope, want_slope, rtol=1e-4, atol=2e-6 * np.max(np.abs(want_slope)))


def test_batch_hard_of_a_large_batch_takes_a_few_vectors_of_memory() -> None:
    shapes = jax.ShapeDtypeStruct((4096, 128), jnp.float32), jax.ShapeDtypeStruct((4096,), jnp.int32)
    mean = jax.jit(jax.value_and_grad(lambda x, y: jnp.mean(jaxloss.batch_hard_triplet_loss(x, y))))
    assert mean.lower(*shapes).compile().memory_analysis().temp_size_in_bytes < 14e6  # the dense form takes 487e6


@pytest.mark.exhaustive
def test_multi_similarity_and_circle_of_a_large_batch_do_not_hold_its_square() -> None:
    shapes = jax.ShapeDtypeStruct((4096, 128), jnp.float32), jax.ShapeDtypeStruct((4096,), jnp.int32)
    for loss in (jaxloss.multi_similarity_loss, jaxloss.circle_loss):
        mean = jax.jit(jax.value_and_grad(lambda x, y, loss=loss: jnp.mean(loss(x, y))))
        assert mean.lower(*shapes).compile().memory_analysis().temp_size_in_bytes < 16e6  # one square alone is 67e6


def test_batch_hard_far_from_the_origin() -> None:
    """Squares of the vectors are 1e6 times those of the distances."""
    rng = np.random.default_rng(5)
    x = (1000 + rng.normal(size=(60, 8))).astype(np.float32)
    labels = jnp.arange(60) % 6
    with jax.enable_x64(True):
        want = mining.batch_hard(jnp.asarray(x, jnp.float64), labels)
    np.testing.assert_allclose(jaxloss.batch_hard_triplet_loss(x, labels), want, rtol=1e-6, atol=1e-6)


def test_arcface_has_a_gradient_at_both_ends_of_the_cosine() -> None:
    """The derivative of cos(θ + m) by cos θ grows like sin m / θ; where θ is 0 the angle has no direction."""

    def loss(c: Any) -> Any:
        return jaxloss.arcface_loss(jnp.stack([c, jnp.zeros(())]), jnp.array(0), scale=1.0)

    slope, curvature = jax.jit(jax.grad(loss)), jax.jit(jax.hessian(loss))
    for c in (1.0, -1.0, 1.0000001, -1.0000001):
        assert np.isfinite(slope(c))
        assert np.isfinite(curvature(c))
    before = np.float32(1 - 2.0**-24)
    theta = mp.acos(mp.mpf(float(before)))
    p = 1 / (1 + mp.exp(-mp.cos(theta + 0.5)))
    assert ulps(slope(before), -(1 - p) * mp.sin(theta + 0.5) / mp.sin(theta)) <= 16


def test_arcface_with_a_label_out_of_range_is_nan() -> None:
    cosines = jnp.full((2, 3), 0.25)
    losses, pullback = jax.vjp(lambda c: jaxloss.arcface_loss(c, jnp.array([0, 3])), cosines)
    np.testing.assert_array_equal(np.isnan(losses), [False, True])
    np.testing.assert_array_equal(np.isnan(pullback(jnp.ones(2))[0]), [[False] * 3, [True] * 3])


@pytest.mark.parametrize("loss", [jaxloss.cosine_similarity, jaxloss.cosine_distance])
def test_an_array_of_zeros_for_epsilon_is_none(loss: Any) -> None:
    x, y = jnp.array([[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]]), jnp.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    plain = jax.jit(jax.value_and_grad(lambda *at: jnp.sum(loss(*at)), (0, 1)))(x, y)
    total = jax.jit(jax.value_and_grad(lambda x, y, e: jnp.sum(loss(x, y, epsilon=e)), (0, 1, 2)))
    for epsilon in (jnp.zeros(()), jnp.zeros(3)):
        value, (*slopes, by_epsilon) = total(x, y, epsilon)
        for got, want in zip((value, *slopes), (plain[0], *plain[1]), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(by_epsilon, jnp.zeros_like(epsilon))


@pytest.mark.sweep
@pytest.mark.parametrize("degree", [1, 2, 3.0])
@pytest.mark.parametrize("squared", [False, True])
def test_an_array_of_zeros_for_eps_has_a_slope(degree: float, squared: bool) -> None:
    a, p, n = jnp.array([[1.0, 2.0], [1.0, 2.0]]), jnp.array([[0.5, 3.0], [1.0, 2.0]]), jnp.array([[2.0, 2.5], [2.0, 2.0]])

    def loss(*at: Any, **options: Any) -> Any:
        return jnp.sum(jaxloss.triplet_margin_loss(*at, norm_degree=degree, squared=squared, margin=4.0, **options))

    plain = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(a, p, n)
    both = jax.jit(jax.value_and_grad(lambda *at: loss(*at[:3], eps=at[3]), (0, 1, 2, 3)))
    value, (*slopes, by_eps) = both(a, p, n, jnp.zeros(2))
    for got, want in zip((value, *slopes), (plain[0], *plain[1]), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)

    def by_hand(x: Any, y: Any) -> Any:  # of (Σ |x − y|^k + ε)^(1/k) or its square, and 0 at a distance of 0
        total = np.sum(np.abs(np.asarray(x - y, np.float64)) ** degree, axis=-1)
        power = (2 if squared else 1) / degree
        return np.where(total == 0, 1.0 if power == 1 else 0.0, power * np.where(total == 0, 1, total) ** (power - 1))

    np.testing.assert_allclose(by_eps, by_hand(a, p) - by_hand(a, n), rtol=1e-6, atol=1e-7)
