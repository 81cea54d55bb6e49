"""Divergences in float32 against mpmath at 60 digits; what others get wrong; and what each promises beside."""

import functools
from collections.abc import Callable
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import optax
import pytest
from hypothesis import strategies
from hypothesis.extra import numpy as arrays

import jaxloss

mp.mp.dps = 60
TINY = mp.mpf(2) ** -126
ULP = 2.0**-23


def unit(x: Any) -> mp.mpf:
    """The unit in the last place of a float32."""
    return mp.mpf(2) ** (mp.floor(mp.log(max(abs(x), TINY), 2)) - 23)


def value_error(got: Any, want: mp.mpf) -> float:
    """In units of the last place, beyond what flushing to 0 explains."""
    return float(max(abs(mp.mpf(float(got)) - want) - 128 * TINY, 0) / unit(want))


def gradient_error(got: Any, want: list[mp.mpf]) -> float:
    """In units of the last place of the largest component."""
    error = max(abs(mp.mpf(float(g)) - w) for g, w in zip(got, want, strict=True))
    return float(max(error - 128 * TINY, 0) / unit(max(map(abs, want))))


def exact(row: np.ndarray) -> list[mp.mpf]:
    return [mp.mpf(float(x)) for x in row]


def with_gradients(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The losses of rows, and their gradients by both arguments."""

    def total(*args: Any) -> Any:
        losses = loss(*args)
        return jnp.sum(losses), losses

    def both(*args: Any) -> Any:
        (_, losses), gradients = jax.value_and_grad(total, (0, 1), has_aux=True)(*args)
        return np.asarray(losses), *map(np.asarray, gradients)

    return both


def assert_within(loss: Any, rows: Any, truth: Any, value_ulps: float, gradient_ulps: float) -> None:
    """Eager and compiled, at each pair of rows."""
    a, b = (jnp.asarray(x, jnp.float32) for x in rows)
    true = [truth(exact(x), exact(y)) for x, y in zip(np.asarray(a), np.asarray(b), strict=True)]
    for f in (loss, jax.jit(loss)):
        for row, (value, *slopes), got, *gradients in zip(np.stack([a, b], 1), true, *with_gradients(f)(a, b), strict=True):
            assert value_error(got, value) <= value_ulps, (row, got, value)
            for gradient, slope in zip(gradients, slopes, strict=True):
                assert gradient_error(gradient, slope) <= gradient_ulps, (row, gradient, slope)


# --- From logits ----------------------------------------------------------------------------------------------------


def softmax_kl(z: list[mp.mpf], t: list[mp.mpf]) -> tuple[mp.mpf, list[mp.mpf], list[mp.mpf]]:
    def log_softmax(s: list[mp.mpf]) -> list[mp.mpf]:
        total = max(s) + mp.log(mp.fsum(mp.exp(x - max(s)) for x in s))
        return [x - total for x in s]

    log_q, log_p = log_softmax(z), log_softmax(t)
    p, q = [mp.exp(x) for x in log_p], [mp.exp(x) for x in log_q]
    ratio = [a - b for a, b in zip(log_p, log_q, strict=True)]
    value = mp.fsum(a * r for a, r in zip(p, ratio, strict=True))
    by_z = [b - a for a, b in zip(p, q, strict=True)]
    return value, by_z, [a * (r - value) for a, r in zip(p, ratio, strict=True)]


def pairs_of_logits(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """From nearly equal to far apart, of little and of large logits, and with an offset that changes nothing."""
    rng = np.random.default_rng(classes)
    pairs = []
    for spread in (0.1, 1, 5, 20, 100):
        for apart in (1e-6, 1e-4, 1e-2, 0.3, 1, 5, 30, 100):
            t = spread * rng.normal(size=(2, classes))
            pairs.append((t + apart * rng.normal(size=t.shape), t + np.array([[0], [1000]])))
    z, t = zip(*pairs, strict=True)
    return np.concatenate(z), np.concatenate(t)


@pytest.mark.sweep("5")
@pytest.mark.parametrize("classes", [2, 5, 40])
def test_softmax_kl_within_8_ulp(classes: int) -> None:
    assert_within(jaxloss.softmax_kl_divergence, pairs_of_logits(classes), softmax_kl, 8, 8)


def test_softmax_kl_with_a_temperature_within_8_ulp() -> None:
    z, t = pairs_of_logits(5)

    def truth(z: list[mp.mpf], t: list[mp.mpf]) -> Any:
        value, by_z, by_t = softmax_kl([x / 4 for x in z], [x / 4 for x in t])
        return value, [x / 4 for x in by_z], [x / 4 for x in by_t]

    assert_within(lambda z, t: jaxloss.softmax_kl_divergence(z, t, temperature=4.0), (z, t), truth, 8, 8)


def test_softmax_kl_by_the_temperature() -> None:
    z, t = np.array([1.0, -0.5, 2.0], np.float32), np.array([0.5, 1.0, 0.25], np.float32)
    got = jax.grad(lambda T: jaxloss.softmax_kl_divergence(z, t, temperature=T))(1.5)
    step = mp.mpf("1e-20")
    at = [softmax_kl([x / T for x in exact(z)], [x / T for x in exact(t)])[0] for T in (1.5 + step, 1.5 - step)]
    np.testing.assert_allclose(got, float((at[0] - at[1]) / (2 * step)), rtol=1e-5)


finite_logits = strategies.floats(-1e4, 1e4, width=32)
rows_of_logits = arrays.arrays(np.float32, 4, elements=strategies.one_of(finite_logits, strategies.just(-np.inf)))


@hypothesis.settings(deadline=None, max_examples=200)
@hypothesis.given(rows_of_logits, rows_of_logits, strategies.sampled_from([0.0, 1e-7, 1e-4, 1.0]))
def test_softmax_kl_is_never_negative(t: np.ndarray, other: np.ndarray, apart: float) -> None:
    hypothesis.assume(np.max(t) > -np.inf)
    z = np.where(np.isinf(t), t, t * np.float32(1 + apart)) if apart < 1 else other
    hypothesis.assume(np.max(z) > -np.inf)
    loss, by_z, by_t = _softmax_kl_compiled(z, t)
    assert loss >= 0
    assert np.all(np.isfinite(by_z))
    assert np.all(np.isfinite(by_t))
    assert np.isinf(loss) == np.any(np.isinf(z) & ~np.isinf(t))
    if np.array_equal(z, t):
        assert loss == 0
        assert not np.any(by_z)
        assert not np.any(by_t)


_softmax_kl_compiled = jax.jit(
    lambda z, t: (
        jaxloss.softmax_kl_divergence(z, t),
        *jax.grad(jaxloss.softmax_kl_divergence, (0, 1))(z, t),
    )
)


def test_softmax_kl_where_a_target_cannot_occur() -> None:
    z, t = jnp.array([-jnp.inf, 0.0, 0.0]), jnp.array([0.0, 0.0, -jnp.inf])
    loss, by_z, by_t = _softmax_kl_compiled(z, t)
    assert loss == jnp.inf
    np.testing.assert_allclose(by_z, [-0.5, 0.0, 0.5], atol=1e-7)  # q − p
    assert not np.any(by_t)


def test_distillation_keeps_its_gradient_as_the_temperature_grows() -> None:
    """With Hinton's T², the gradient tends to that of half the mean squared difference of centred logits."""
    z, t = jnp.array([1.0, -0.5, 2.0]), jnp.array([0.5, 1.0, 0.25])
    gradient = jax.grad(lambda z: 1e4 * jaxloss.softmax_kl_divergence(z, t, temperature=100.0))(z)
    centred = (z - jnp.mean(z)) - (t - jnp.mean(t))
    np.testing.assert_allclose(gradient, centred / 3, rtol=0.03)


# --- From probabilities ---------------------------------------------------------------------------------------------


def pairs_of_distributions(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """From nearly equal to far apart, with probabilities down to 1e-30."""
    rng = np.random.default_rng(classes)
    pairs = []
    for sharp in (0.5, 5, 20):
        for apart in (1e-6, 1e-4, 1e-2, 0.3, 1, 5, 30):
            s = sharp * rng.normal(size=(3, classes))
            z = np.stack([s, s + apart * rng.normal(size=s.shape)])
            e = np.exp(z - np.max(z, axis=-1, keepdims=True))
            pairs.append(np.maximum(e / np.sum(e, axis=-1, keepdims=True), 1e-30))
    p, y = zip(*pairs, strict=True)
    return np.concatenate(p), np.concatenate(y)


def js(p: list[mp.mpf], y: list[mp.mpf]) -> Any:
    def slope(a: mp.mpf, b: mp.mpf) -> mp.mpf:
        return mp.log(2 * a / (a + b)) / 2

    terms = [a * slope(a, b) + b * slope(b, a) for a, b in zip(p, y, strict=True)]
    by_p = [slope(a, b) for a, b in zip(p, y, strict=True)]
    return mp.fsum(terms), by_p, [slope(b, a) for a, b in zip(p, y, strict=True)]


def hellinger(p: list[mp.mpf], y: list[mp.mpf]) -> Any:
    value = mp.sqrt(mp.fsum((mp.sqrt(a) - mp.sqrt(b)) ** 2 for a, b in zip(p, y, strict=True)) / 2)

    def slope(a: mp.mpf, b: mp.mpf) -> mp.mpf:
        return (mp.sqrt(a) - mp.sqrt(b)) / (4 * value * mp.sqrt(a)) if value else mp.mpf(0)

    by_p = [slope(a, b) for a, b in zip(p, y, strict=True)]
    return value, by_p, [slope(b, a) for a, b in zip(p, y, strict=True)]


def alpha_divergence(alpha: float) -> Any:
    a = mp.mpf(float(np.float32(alpha)))

    def power_excess(rate: mp.mpf, x: mp.mpf) -> mp.mpf:
        return -x if rate == 0 else (1 - mp.exp(rate * x)) / rate

    def term(p: mp.mpf, y: mp.mpf) -> mp.mpf:
        if a in (0, 1):
            p, y = (y, p) if a == 0 else (p, y)
            return y * mp.log(y / p) - y + p
        return (a * y + (1 - a) * p - y**a * p ** (1 - a)) / (a * (1 - a))

    def truth(p: list[mp.mpf], y: list[mp.mpf]) -> Any:
        both = list(zip(p, y, strict=True))
        by_p = [power_excess(a, mp.log(v / u)) for u, v in both]
        return mp.fsum(term(u, v) for u, v in both), by_p, [power_excess(1 - a, mp.log(u / v)) for u, v in both]

    return truth


@pytest.mark.parametrize("classes", [2, 5])
def test_js_within_8_ulp(classes: int) -> None:
    assert_within(jaxloss.js_divergence, pairs_of_distributions(classes), js, 8, 8)


@pytest.mark.parametrize("classes", [2, 5])
def test_hellinger_within_8_ulp(classes: int) -> None:
    assert_within(jaxloss.hellinger_distance, pairs_of_distributions(classes), hellinger, 8, 8)


@pytest.mark.sweep("0.7")
@pytest.mark.parametrize("alpha", [0.0, 1e-6, 0.1, 0.5, 0.7, 1 - 2.0**-20, 1.0])
def test_alpha_divergence_within_8_ulp(alpha: float) -> None:
    rows = pairs_of_distributions(5)
    assert_within(lambda p, y: jaxloss.alpha_divergence(p, y, alpha=alpha), rows, alpha_divergence(alpha), 8, 8)


probabilities = arrays.arrays(np.float32, (2, 5), elements=strategies.floats(0, 1, width=32, allow_subnormal=False))


@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(probabilities)
def test_symmetric_divergences_are_so_to_the_bit(rows: np.ndarray) -> None:
    p, y = rows
    for loss in (jaxloss.js_divergence, jaxloss.hellinger_distance, jaxloss.wasserstein_distance_1d):
        forth, back, same = loss(np.stack([p, y, p]), np.stack([y, p, p]))
        assert forth == back
        assert forth >= 0
        assert same == 0


def test_js_is_at_most_log_2() -> None:
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.full(50, 0.02), size=(2, 200)).astype(np.float32)
    assert np.all(jaxloss.js_divergence(p, y) <= np.log(2) * (1 + 4 * ULP))


def test_alpha_divergence_at_one_half_is_four_squared_hellinger_distances() -> None:
    p, y = pairs_of_distributions(5)
    distance = jaxloss.hellinger_distance(p, y)
    np.testing.assert_allclose(jaxloss.alpha_divergence(p, y), 4 * distance**2, rtol=2e-6)


def test_alpha_divergence_by_alpha() -> None:
    p, y = np.array([0.2, 0.8], np.float32), np.array([0.6, 0.4], np.float32)
    for alpha in (0.0, 0.25, 0.5, 1.0):
        got = jax.grad(lambda a: jaxloss.alpha_divergence(p, y, alpha=a))(alpha)
        step = mp.mpf("1e-10")

        def at(a: mp.mpf) -> mp.mpf:
            both = zip(exact(p), exact(y), strict=True)
            return mp.fsum(a * v + (1 - a) * u - v**a * u ** (1 - a) for u, v in both) / (a * (1 - a))

        np.testing.assert_allclose(got, float((at(alpha + step) - at(alpha - step)) / (2 * step)), rtol=1e-5)


def test_slopes_by_a_probability_of_0_are_0() -> None:
    p, y = jnp.array([0.0, 1.0, 0.0]), jnp.array([0.5, 0.5, 0.0])
    for loss in (jaxloss.js_divergence, jaxloss.hellinger_distance, jaxloss.alpha_divergence):
        by_p, by_y = jax.grad(loss, (0, 1))(p, y)
        assert by_p[0] == 0
        assert by_p[1] > 0
        assert by_p[2] == by_y[2] == 0
        assert np.all(np.isfinite(by_y))


# --- From log-probabilities -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 5, 40])
def test_kl_within_4_ulp_of_its_terms(classes: int) -> None:
    p, y = pairs_of_distributions(classes)
    log_p, y = np.log(p).astype(np.float32), y.astype(np.float32)
    log_y = np.log(y).astype(np.float32)
    plain = jax.jit(jaxloss.kl_divergence)(log_p, y)
    of_logs = jax.jit(jaxloss.kl_divergence_with_log_targets)(log_p, log_y)
    general = jax.jit(jaxloss.generalized_kl_divergence)(log_p, y)
    assert np.all(general >= 0)
    for i in range(len(p)):
        a, b, c = exact(log_p[i]), exact(y[i]), exact(log_y[i])
        logs = [mp.log(v) for v in b]
        size = mp.fsum(v * (abs(log_v) + abs(u)) for u, v, log_v in zip(a, b, logs, strict=True))
        true = mp.fsum(v * (log_v - u) for u, v, log_v in zip(a, b, logs, strict=True))
        assert abs(mp.mpf(float(plain[i])) - true) <= 4 * ULP * size
        beyond = mp.fsum(mp.exp(u) - v for u, v in zip(a, b, strict=True))
        # The error of d = log y − log p times e^−d − 1, and 8 ulp.
        of_d = mp.fsum(abs(mp.exp(u) - v) * (abs(lv) + abs(u)) for u, v, lv in zip(a, b, logs, strict=True))
        assert abs(mp.mpf(float(general[i])) - (true + beyond)) <= 4 * ULP * of_d + 8 * ULP * (true + beyond) + TINY
        size = mp.fsum(mp.exp(v) * abs(v - u) for u, v in zip(a, c, strict=True))
        true = mp.fsum(mp.exp(v) * (v - u) for u, v in zip(a, c, strict=True))
        assert abs(mp.mpf(float(of_logs[i])) - true) <= 4 * ULP * size + TINY


def test_kl_gradients_at_zeros_of_either_side() -> None:
    log_p, y = jnp.array([-jnp.inf, -0.5, -0.5, -jnp.inf]), jnp.array([0.25, 0.75, 0.0, 0.0])
    log_y = jnp.log(y)
    slope = float(np.log(0.75) + 0.5)

    def gradients(loss: Any, *at: Any) -> Any:
        return jax.grad(loss, (0, 1))(*at)

    by_p, by_y = gradients(jaxloss.kl_divergence, log_p, y)
    np.testing.assert_array_equal(by_p, [-0.25, -0.75, 0.0, 0.0])
    np.testing.assert_allclose(by_y, [0, slope + 1, 0, 0], rtol=1e-6)
    by_p, by_y = gradients(jaxloss.kl_divergence_with_log_targets, log_p, log_y)
    np.testing.assert_allclose(by_p, [-0.25, -0.75, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(by_y, [0, 0.75 * (slope + 1), 0, 0], rtol=1e-6)
    by_p, by_y = gradients(jaxloss.generalized_kl_divergence, log_p, y)
    np.testing.assert_allclose(by_p, [-0.25, np.exp(-0.5) - 0.75, np.exp(-0.5), 0], rtol=1e-6)
    np.testing.assert_allclose(by_y, [0, slope, 0, 0], rtol=1e-6)


# --- What optax gets wrong ------------------------------------------------------------------------------------------


def test_equal_distributions_have_none() -> None:
    """From logits optax's route gives −2e-8, by the rounding errors of the softmax."""
    z = jnp.asarray(np.random.default_rng(0).normal(size=(1000, 10)), jnp.float32)
    theirs = optax.losses.kl_divergence(jax.nn.log_softmax(z), jax.nn.softmax(z))
    assert np.min(theirs) < -1e-8
    assert not np.any(jaxloss.softmax_kl_divergence(z, z))
    assert not np.any(jaxloss.kl_divergence_with_log_targets(jax.nn.log_softmax(z), jax.nn.log_softmax(z)))


def test_nearly_equal_distributions_have_more_than_none() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1000, 10)).astype(np.float32)
    t = (z + 1e-4 * rng.normal(size=z.shape)).astype(np.float32)
    theirs = optax.losses.kl_divergence(jax.nn.log_softmax(z), jax.nn.softmax(t))
    assert 0.25 < np.mean(theirs < 0) < 0.5
    ours = jaxloss.softmax_kl_divergence(z, t)
    with jax.enable_x64(True):
        p = jax.nn.softmax(jnp.asarray(t, float))
        c = jnp.asarray(t, float) - z
        c = c - jnp.sum(p * c, axis=-1, keepdims=True)
        np.testing.assert_allclose(ours, jnp.sum(p * (c**2 / 2 - c**3 / 6), axis=-1), rtol=1e-5)


def test_zeros_make_no_nan() -> None:
    log_p, log_y = jnp.array([0.0, -jnp.inf]), jnp.array([0.0, -jnp.inf])
    y = jnp.array([1.0, 0.0])
    assert np.isnan(optax.losses.kl_divergence(log_p, y))
    assert np.isnan(optax.losses.kl_divergence_with_log_targets(log_p, log_y))
    assert jaxloss.kl_divergence(log_p, y) == 0
    assert jaxloss.kl_divergence_with_log_targets(log_p, log_y) == 0
    assert jaxloss.generalized_kl_divergence(log_p, y) == 0


@pytest.mark.parametrize("name", ["kl_divergence", "kl_divergence_with_log_targets", "generalized_kl_divergence"])
def test_as_optax_on_ordinary_distributions(name: str) -> None:
    rng = np.random.default_rng(1)
    p, y = (np.asarray(x, np.float32) for x in rng.dirichlet(np.ones(7), size=(2, 20)))
    arguments = (np.log(p), np.log(y) if "log" in name else y)

    def both(library: Any) -> Any:
        loss = getattr(library, name)
        return loss(*arguments), jax.grad(lambda *args: jnp.sum(loss(*args)), (0, 1))(*arguments)

    theirs, ours = both(optax.losses), both(jaxloss)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, theirs)


# --- Gaussians and the evidence lower bound -------------------------------------------------------------------------


def test_gaussian_kl_within_8_ulp() -> None:
    log_variances = np.concatenate([s * np.logspace(-18, 1.9, 200) for s in (-1, 1)]).astype(np.float32)
    log_variances = np.append(log_variances, np.float32([0.0, -69.0, -1.0, 2.0]))
    means = np.random.default_rng(0).normal(size=log_variances.shape).astype(np.float32)
    means[::2] = 0
    for f in (jaxloss.gaussian_kl_divergence, jax.jit(jaxloss.gaussian_kl_divergence)):
        losses, by_mean, by_variance = with_gradients(f)(means, log_variances)
        for mu, nu, loss, slope, by_nu in zip(means, log_variances, losses, by_mean, by_variance, strict=True):
            m, v = mp.mpf(float(mu)), mp.mpf(float(nu))
            assert value_error(loss, (mp.expm1(v) - v + m * m) / 2) <= 8, (mu, nu)
            assert slope == mu
            assert value_error(by_nu, mp.expm1(v) / 2) <= 8, (mu, nu)


def test_gaussian_kl_of_two_gaussians_within_8_ulp() -> None:
    rng = np.random.default_rng(0)
    mu, nu, m, log_s = (scale * rng.normal(size=200) for scale in (1, 10, 1, 10))
    nu[::2] = log_s[::2] + 1e-3 * nu[::2]
    mu, nu, m, log_s = (x.astype(np.float32) for x in (mu, nu, m, log_s))
    losses = jax.jit(lambda mu, nu, m, s: jaxloss.gaussian_kl_divergence(mu, nu, target_means=m, target_log_variances=s))(
        mu, nu, m, log_s
    )
    for *row, loss in zip(mu, nu, m, log_s, losses, strict=True):
        a, v, b, s = exact(np.asarray(row))
        # of ν and of μ − m, which are differences of arguments, to half a unit
        loose = abs(mp.expm1(v - s)) * max(abs(v), abs(s)) / 2 + abs(a - b) * max(abs(a), abs(b)) * mp.exp(-s)
        true = (mp.expm1(v - s) - (v - s) + (a - b) ** 2 * mp.exp(-s)) / 2
        assert abs(mp.mpf(float(loss)) - true) <= ULP * (8 * true + loose), row


def test_free_bits_are_free() -> None:
    kl = jnp.array([[0.1, 0.5, 0.75]])
    gradient = jax.grad(lambda kl: jaxloss.negative_elbo(jnp.array([1.0]), kl, beta=2.0, free_bits=0.5)[0])(kl)
    np.testing.assert_array_equal(gradient, [[0.0, 0.0, 2.0]])
    assert jaxloss.negative_elbo(jnp.array([1.0]), kl, beta=2.0, free_bits=0.5) == 4.5
    all_charged = jax.grad(lambda kl: jaxloss.negative_elbo(jnp.array([1.0]), kl)[0])(jnp.zeros((1, 3)))
    np.testing.assert_array_equal(all_charged, np.ones((1, 3)))


def test_negative_elbo_names_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"kl_divergences must have the shape of reconstruction_losses, \(3,\), and one"):
        jaxloss.negative_elbo(jnp.ones(3), jnp.ones(3))


# --- Transport and samples ------------------------------------------------------------------------------------------


def test_wasserstein_by_mass_and_by_sample() -> None:
    p, y = jnp.array([0.5, 0.5, 0.0]), jnp.array([0.0, 0.5, 0.5])
    np.testing.assert_array_equal(jax.grad(jaxloss.wasserstein_distance_1d)(p, y), [2.0, 1.0, 0.0])
    np.testing.assert_array_equal(jax.grad(jaxloss.wasserstein_distance_1d)(p, p), np.zeros(3))

    def of_samples(p: Any, y: Any) -> Any:
        return jaxloss.wasserstein_distance_1d(p, y, from_samples=True)

    gradient = jax.grad(of_samples)(jnp.array([3.0, 1.0, 2.0, 9.0]), jnp.array([1.0, 2.5, 2.0, 8.0]))
    np.testing.assert_array_equal(gradient, [0.25, 0.0, 0.0, 0.25])


def test_positions_are_those_of_bins() -> None:
    with pytest.raises(ValueError, match="positions must be None with from_samples=True"):
        jaxloss.wasserstein_distance_1d(jnp.ones(3), jnp.ones(3), positions=jnp.arange(3.0), from_samples=True)


@pytest.mark.parametrize("loss", [jaxloss.maximum_mean_discrepancy, jaxloss.energy_distance])
def test_equal_samples_have_no_discrepancy(loss: Any) -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(20, 3)), jnp.float32)
    value, gradient = jax.value_and_grad(loss)(x, x)
    assert abs(value) <= 8 * ULP
    assert np.all(np.abs(gradient) <= 8 * ULP)
    assert loss(x, x + 1) > 0.1


@pytest.mark.parametrize("loss", [jaxloss.maximum_mean_discrepancy, jaxloss.energy_distance])
def test_unbiased_estimates_are_so(loss: Any) -> None:
    """Over many small samples of one distribution they average to 0; the biased ones do not."""
    x, y = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4000, 4, 2)), jnp.float32)
    unbiased = loss(x, y, unbiased=True)
    assert abs(np.mean(unbiased)) < 4 * np.std(unbiased) / np.sqrt(len(unbiased))
    assert np.mean(loss(x, y)) > 0.2


@pytest.mark.parametrize("loss", [jaxloss.maximum_mean_discrepancy, jaxloss.energy_distance])
def test_one_sample_needs_two(loss: Any) -> None:
    x, y = jnp.zeros((2, 1)), jnp.ones((2, 1))
    assert loss(x, y, unbiased=True, where=jnp.array([True, False])) == 0
    with pytest.raises(ValueError, match="predictions must have a sample axis"):
        loss(x[:, 0], y[:, 0])


def dense(kernel: Callable[[np.ndarray], np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return np.mean(kernel(a[:, None] - b[None]))

    return mean(x, x) + mean(y, y) - 2 * mean(x, y)


@pytest.mark.exhaustive
def test_many_samples_go_block_by_block() -> None:
    """As all at once in float64; 30 MB at most where the differences alone are 1074 MB."""
    x, y = np.random.default_rng(0).normal(size=(2, 203, 40))
    y = y + 0.3
    discrepancy = functools.partial(jaxloss.maximum_mean_discrepancy, bandwidth=5.0)
    for loss, kernel in (
        (discrepancy, lambda d: np.exp(-np.sum(d**2, axis=-1) / 50)),
        (jaxloss.energy_distance, lambda d: -np.sqrt(np.sum(d**2, axis=-1))),
    ):
        at = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
        np.testing.assert_allclose(loss(*at), dense(kernel, x, y), rtol=1e-5)
        gradient, far = jax.grad(loss)(*at), np.zeros_like(x)
        far[7, 3] = 1e-4
        slope = (dense(kernel, x + far, y) - dense(kernel, x - far, y)) / 2e-4
        np.testing.assert_allclose(gradient[7, 3], slope, rtol=2e-3)
        many = jax.ShapeDtypeStruct((2048, 64), jnp.float32)
        compiled = jax.jit(jax.grad(loss, (0, 1))).lower(many, many).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < 30 * 2**20


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("loss", [jaxloss.maximum_mean_discrepancy, jaxloss.energy_distance])
def test_equal_samples_are_at_no_distance(loss: Any, compiled: bool) -> None:
    """Exactly: the root of what rounding takes below 0 is NaN."""
    both = jax.value_and_grad(loss, (0, 1))
    both = jax.jit(both) if compiled else both
    draw = np.random.default_rng(0)
    for _ in range(40):
        x = jnp.asarray(draw.normal(size=(16, 4)), jnp.float32)
        value, gradients = both(x, x)
        assert value == 0
        assert all(np.all(np.asarray(g) == 0) for g in gradients)
        value, _ = both(x, x + 1e-4 * jnp.asarray(draw.normal(size=(16, 4)), jnp.float32))
        assert value >= 0
