"""The likelihoods in float32 against mpmath at 60 digits, over their domains, and against scipy and scikit-learn.

A log-density is a sum of terms of either sign, so that the bounds are in units of the last place of the largest term.
"""

import functools
import itertools
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from jax.experimental import checkify
from scipy import stats
from sklearn import metrics

import jaxloss

UNIT = mp.mpf(2) ** -23
TINY = mp.mpf(2) ** -126
LARGEST = mp.mpf(float(np.finfo(np.float32).max))
HALF_LOG_2PI = mp.log(2 * mp.pi) / 2


@pytest.fixture(autouse=True)
def _digits() -> Any:
    with mp.workdps(60):
        yield


# A truth returns the terms of the loss and those of each derivative: they sum to it, and the largest is the scale.
Truth = Callable[..., tuple[list[Any], list[list[Any]]]]


class Row(NamedTuple):
    """A loss, where it is tested, its truth, and its bounds in ulp of the largest term: value, gradient."""

    loss: Any
    points: Callable[[np.random.Generator], tuple[np.ndarray, ...]]
    truth: Truth
    value: float = 8
    gradient: float = 8
    options: Mapping[str, Any] = types.MappingProxyType({})
    name: str = ""


def log_uniform(rng: np.random.Generator, low: float, high: float, size: int) -> np.ndarray:
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def near_and_far(rng: np.random.Generator, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Two positive arrays that are close to each other, the same, a few times apart or anywhere."""
    x = log_uniform(rng, low, high, 80)
    ratio = np.concatenate([1 + 1e-4 * rng.normal(size=20), np.ones(5), np.exp(rng.normal(size=35))])
    return x, np.concatenate([x[:60] * ratio, log_uniform(rng, low, high, 20)])


def residual_and_scale(low: float, high: float) -> Callable[[np.random.Generator], tuple[np.ndarray, ...]]:
    """Targets 0, so that the residual is exact, in units of the scale from 1e-6 to 1e6 and 0."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        scale = log_uniform(rng, low, high, 80)
        z = log_uniform(rng, 1e-6, 1e6, 80) * rng.choice([-1, 1], 80)
        z[:40] = rng.normal(size=40)
        z[40] = 0
        return z * scale, np.zeros(80), scale

    return draw


def gaussian_points(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    r, y, scale = residual_and_scale(1e-15, 1e12)(rng)
    return r, y, scale**2


def gaussian(p: Any, y: Any, v: Any) -> Any:
    r = p - y
    return [r * r / v / 2, mp.log(v) / 2, HALF_LOG_2PI], [[r / v], [-r / v], [1 / v / 2, -r * r / v / v / 2]]


def laplace(p: Any, y: Any, b: Any) -> Any:
    r = p - y
    return [abs(r) / b, mp.log(b), mp.log(2)], [[mp.sign(r) / b], [-mp.sign(r) / b], [1 / b, -abs(r) / b / b]]


def student_points(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return *residual_and_scale(1e-28, 1e28)(rng), log_uniform(rng, 1e-3, 1e8, 80)


def student_t(p: Any, y: Any, s: Any, df: Any) -> Any:
    z, a = (p - y) / s, df / 2
    tail = mp.log1p(z * z / df)
    slope = (df + 1) * z / (s * (df + z * z))
    constants = mp.loggamma(a) - mp.loggamma(a + mp.mpf(1) / 2) + mp.log(df * mp.pi) / 2
    by_df = (mp.digamma(a) - mp.digamma(a + mp.mpf(1) / 2) + 1 / df) / 2
    return [(a + mp.mpf(1) / 2) * tail, mp.log(s), constants], [
        [slope],
        [-slope],
        [1 / s, -(df + 1) * z * z / (df + z * z) / s],
        [by_df - 1 / df, 1 / df, tail / 2, -(df + 1) * z * z / (df * (df + z * z)) / 2],
    ]


def angles(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    kappa = np.concatenate([log_uniform(rng, 1e-6, 1e3, 60), rng.uniform(8, 12, 20)])
    r = np.concatenate([rng.uniform(-6, 6, 40), rng.normal(size=40) / np.sqrt(kappa[40:])])
    return r, np.zeros(80), kappa


def von_mises(p: Any, y: Any, kappa: Any) -> Any:
    r = p - y
    ratio = mp.besseli(1, kappa) / mp.besseli(0, kappa)
    far = 2 * mp.sin(r / 2) ** 2
    log_i0e = mp.log(mp.besseli(0, kappa)) - kappa
    slope = kappa * mp.sin(r)
    return [kappa * far, mp.log(2 * mp.pi), log_i0e], [[slope], [-slope], [far, ratio - 1]]


def crps(p: Any, y: Any, s: Any) -> Any:
    r = p - y
    z = r / s
    density = mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi)
    slope = mp.erf(z / mp.sqrt(2))
    by_scale = 2 * density - 1 / mp.sqrt(mp.pi)
    return [r * slope + s * by_scale], [[slope], [-slope], [2 * density, -1 / mp.sqrt(mp.pi)]]


def counts(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    rate, y = near_and_far(rng, 1e-3, 1e7)
    return rate, np.where(np.arange(80) % 7 == 0, 0, np.ceil(y))


def log_rates(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    rate, y = counts(rng)
    return np.log(rate), y


def y_log(y: Any, rate: Any) -> Any:
    return y * mp.log(rate) if y else mp.mpf(0)


def poisson(rate: Any, y: Any) -> Any:
    loss = rate - y_log(y, rate) + mp.loggamma(y + 1)
    return [loss - 1, 1], [[(rate - y) / rate], [mp.digamma(y + 1), -mp.log(rate)]]


def poisson_kernel(rate: Any, y: Any) -> Any:
    return [rate, -y_log(y, rate)], [[(rate - y) / rate], [-mp.log(rate)]]


def poisson_of_log(x: Any, y: Any) -> Any:
    loss, off = mp.exp(x) - y * x + mp.loggamma(y + 1), mp.exp(x) - y
    return [loss - 1, 1, off, -off], [[mp.exp(x), -y], [mp.digamma(y + 1), -x]]


def poisson_kernel_of_log(x: Any, y: Any) -> Any:
    return [mp.exp(x), -y * x], [[mp.exp(x), -y], [-x]]


def over_dispersed(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return *counts(rng), log_uniform(rng, 1e-3, 1e8, 80)


def negative_binomial(m: Any, y: Any, s: Any) -> Any:
    n = y + s
    loss = mp.loggamma(s) + mp.loggamma(y + 1) - mp.loggamma(n) + s * mp.log1p(m / s) + (y_log(y, 1 + s / m))
    by_total = mp.digamma(s) - mp.digamma(n) + mp.log1p(m / s) + (y - m) / (s + m)
    return [loss - 1 - mp.log(s), 1, mp.log(s)], [
        [s * (m - y) / (m * (s + m))],
        [mp.digamma(y + 1), -mp.digamma(n), mp.log1p(s / m)],
        [by_total - 1 / s - mp.log1p((m - y) / n), 1 / s, mp.log1p((m - y) / n)],
    ]


def amounts(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return *near_and_far(rng, 1e-25, 1e25), log_uniform(rng, 1e-3, 1e8, 80)


def gamma(m: Any, y: Any, k: Any) -> Any:
    entropy = y / m - 1 - mp.log(y / m)
    constants = mp.loggamma(k) - k * mp.log(k) + k
    return [k * entropy, mp.log(y), constants - 1, 1], [
        [k * (m - y) / m / m],
        [k * (y - m) / m / y, 1 / y],
        [entropy, mp.digamma(k) - mp.log(k)],
    ]


def proportions(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    m = rng.uniform(0.01, 0.99, 80)
    y = np.concatenate([rng.uniform(0.001, 0.999, 40), m[40:] + 0.001 * rng.normal(size=40) * m[40:] * (1 - m[40:])])
    return m, y, log_uniform(rng, 1e-3, 1e7, 80)


def beta(m: Any, y: Any, phi: Any) -> Any:
    a, b = m * phi, (1 - m) * phi
    kl = phi * (m * mp.log(m / y) + (1 - m) * mp.log((1 - m) / (1 - y)))
    rest = mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(phi) - a * mp.log(m) - b * mp.log(1 - m)
    by_mean = phi * (mp.digamma(a) - mp.digamma(b) - mp.log(m / (1 - m)))
    by_phi = m * mp.digamma(a) + (1 - m) * mp.digamma(b) - mp.digamma(phi) - m * mp.log(m) - (1 - m) * mp.log(1 - m)
    return [kl, rest - mp.log(phi), mp.log(phi), mp.log(y), mp.log1p(-y)], [
        [phi * mp.log(m / y), -phi * mp.log((1 - m) / (1 - y)), by_mean - 1 / m + 1 / (1 - m), 1 / m, -1 / (1 - m)],
        [phi * (y - m) / y / (1 - y), 1 / y, -1 / (1 - y)],
        [kl / phi, by_phi - 1 / phi, 1 / phi],
    ]


def tweedie(p: float) -> Truth:
    def truth(m: Any, y: Any) -> Any:
        def difference(c: Any) -> Any:
            return mp.log(y / m) if c == 0 else (y**c - m**c) / c

        if y == 0:
            return [2 * m ** (2 - p) / (2 - p)], [[2 * m ** (1 - p)], [-mp.inf]]
        value = 2 * (y * difference(1 - p) - difference(2 - p))
        return [value], [[-2 * (y - m) / m**p], [2 * difference(1 - p)]]

    return truth


def tweedie_points(low: float, high: float) -> Callable[[np.random.Generator], tuple[np.ndarray, ...]]:
    return lambda rng: near_and_far(rng, low, high)


ROWS = [
    Row(jaxloss.gaussian_nll, gaussian_points, gaussian, 4, 4),
    Row(jaxloss.laplace_nll, residual_and_scale(1e-30, 1e30), laplace, 4, 4),
    Row(jaxloss.student_t_nll, student_points, student_t),
    Row(jaxloss.von_mises_nll, angles, von_mises),
    Row(jaxloss.gaussian_crps, residual_and_scale(1e-30, 1e30), crps),
    Row(jaxloss.poisson_nll, counts, poisson, options={"log_rate": False}, name="rate"),
    Row(jaxloss.poisson_nll, counts, poisson_kernel, 4, options={"log_rate": False, "full": False}, name="rate-kernel"),
    Row(jaxloss.poisson_nll, log_rates, poisson_of_log, name="log-rate"),
    Row(jaxloss.poisson_nll, log_rates, poisson_kernel_of_log, 4, options={"full": False}, name="log-rate-kernel"),
    Row(jaxloss.negative_binomial_nll, over_dispersed, negative_binomial),
    Row(jaxloss.gamma_nll, amounts, gamma),
    Row(jaxloss.beta_nll, proportions, beta),
    *(
        Row(jaxloss.tweedie_deviance, tweedie_points(1e-4, 1e4), tweedie(p), 16, 16, {"power": p}, f"{p}")
        for p in (0.0, 0.5, 1.0, 1.0001, 1.5, 1.9999, 2.0, 2.5, 3.0)
    ),
]


def error(got: Any, terms: list[Any]) -> float:
    """In ulp of the largest term, beyond what flushing to 0 explains."""
    want, scale = mp.fsum(terms), max(abs(mp.mpf(x)) for x in terms)
    if abs(want) > LARGEST:
        return 0.0 if np.isinf(got) and np.sign(got) == mp.sign(want) else np.inf
    return float(max(abs(mp.mpf(float(got)) - want) - 128 * TINY, 0) / max(scale * UNIT, TINY))


@pytest.mark.sweep("gaussian_nll", "poisson_nll-log-rate")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.loss.__name__}-{row.name}".rstrip("-"))
def test_within_its_bound(row: Row) -> None:
    points = [np.asarray(x, np.float32) for x in row.points(np.random.default_rng(0))]

    def both(*args: Any) -> Any:
        loss, pullback = jax.vjp(lambda *args: row.loss(*args, **row.options), *args)
        return loss, pullback(jnp.ones_like(loss))

    losses, gradients = jax.jit(both)(*points)
    truths = [row.truth(*(mp.mpf(float(x)) for x in at)) for at in zip(*points, strict=True)]

    def check(got: Any, terms: list[list[Any]], bound: float, what: str) -> None:
        errors = [error(g, t) for g, t in zip(np.asarray(got), terms, strict=True)]
        i = int(np.argmax(errors))
        assert errors[i] <= bound, (what, errors[i], [x[i] for x in points], got[i], terms[i])

    check(losses, [terms for terms, _ in truths], row.value, "value")
    for i, gradient in enumerate(gradients):
        check(gradient, [slopes[i] for _, slopes in truths], row.gradient, f"gradient {i}")


# --- scipy and scikit-learn -----------------------------------------------------------------------------------------

A = np.array([0.2, 1.0, 2.5, 4.0, 9.0])
B = np.array([0.7, 1.0, 2.0, 0.5, 30.0])
K = np.array([1.0, 3.0, 0.5, 7.0, 2.0])

SCIPY: list[tuple[str, Callable[[], Any], Any]] = [
    ("gaussian", lambda: jaxloss.gaussian_nll(A, B, K), stats.norm.logpdf(B, A, np.sqrt(K))),
    ("laplace", lambda: jaxloss.laplace_nll(A, B, K), stats.laplace.logpdf(B, A, K)),
    ("student_t", lambda: jaxloss.student_t_nll(A, B, K, A), stats.t.logpdf(B, A, A, K)),
    ("von_mises", lambda: jaxloss.von_mises_nll(A, B, K), stats.vonmises.logpdf(B, K, A)),
    ("poisson", lambda: jaxloss.poisson_nll(A, np.ceil(B), log_rate=False), stats.poisson.logpmf(np.ceil(B), A)),
    ("poisson of log", lambda: jaxloss.poisson_nll(np.log(A), np.ceil(B)), stats.poisson.logpmf(np.ceil(B), A)),
    (
        "negative_binomial",
        lambda: jaxloss.negative_binomial_nll(A, np.ceil(B), K),
        stats.nbinom.logpmf(np.ceil(B), K, K / (K + A)),
    ),
    ("gamma", lambda: jaxloss.gamma_nll(A, B, K), stats.gamma.logpdf(B, K, scale=A / K)),
    ("exponential", lambda: jaxloss.gamma_nll(A, 0 * B, np.ones(5)), stats.expon.logpdf(0 * B, scale=A)),
    ("beta", lambda: jaxloss.beta_nll(A / 10, B / 40, K), stats.beta.logpdf(B / 40, A / 10 * K, (1 - A / 10) * K)),
]


@pytest.mark.sweep
@pytest.mark.parametrize(("ours", "log_density"), [row[1:] for row in SCIPY], ids=[row[0] for row in SCIPY])
def test_is_the_density_of_scipy(ours: Any, log_density: Any) -> None:
    with jax.enable_x64(True):
        np.testing.assert_allclose(ours(), -log_density, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5, 2.0, 3.0])
def test_is_the_deviance_of_scikit_learn(power: float) -> None:
    with jax.enable_x64(True):
        losses = jaxloss.tweedie_deviance(A, B, power=power)
    want = [metrics.mean_tweedie_deviance([y], [m], power=power) for m, y in zip(A, B, strict=True)]
    np.testing.assert_allclose(losses, want, rtol=1e-9)


def test_poisson_is_half_the_deviance_beyond_the_best_rate() -> None:
    y = np.ceil(B)
    with jax.enable_x64(True):
        best = jaxloss.poisson_nll(y, y, log_rate=False)
        half = jnp.mean(jaxloss.poisson_nll(A, y, log_rate=False) - best)
    np.testing.assert_allclose(2 * float(half), metrics.mean_poisson_deviance(y, A), rtol=1e-12)


# --- Limits, edges and masks ----------------------------------------------------------------------------------------


def test_limits() -> None:
    m, y = jnp.array([0.5, 3.0, 8.0]), jnp.array([1.0, 0.0, 9.0])
    np.testing.assert_allclose(
        jaxloss.negative_binomial_nll(m, y, 1e9), jaxloss.poisson_nll(m, y, log_rate=False), rtol=1e-6
    )
    np.testing.assert_allclose(jaxloss.student_t_nll(m, y, 2.0, 1e12), jaxloss.gaussian_nll(m, y, 4.0), rtol=1e-6)
    r = jnp.array([0.0, 1e-6, -2e-6])
    np.testing.assert_allclose(jaxloss.von_mises_nll(r, 0 * r, 1e12), jaxloss.gaussian_nll(r, 0 * r, 1e-12), rtol=1e-6)
    np.testing.assert_allclose(jaxloss.gaussian_crps(m, y, 1e-30), jnp.abs(m - y), rtol=1e-6)


def test_impossible_counts_cost_inf() -> None:
    none, some = jnp.zeros(2), jnp.array([2.0, 0.5])
    for full in (True, False):
        assert np.all(np.isinf(jaxloss.poisson_nll(none, some, log_rate=False, full=full)))
    assert np.all(np.isinf(jaxloss.negative_binomial_nll(none, some, 3.0)))
    assert np.all(np.isinf(jaxloss.tweedie_deviance(some, none, power=2.0)))
    np.testing.assert_array_equal(jaxloss.gamma_nll(some, none, jnp.array([2.0, 0.5])), [np.inf, -np.inf])


PARAMETERS = [
    (jaxloss.gaussian_nll, 1),
    (jaxloss.laplace_nll, 1),
    (jaxloss.student_t_nll, 2),
    (jaxloss.von_mises_nll, 1),
    (jaxloss.gaussian_crps, 1),
    (jaxloss.negative_binomial_nll, 1),
    (jaxloss.gamma_nll, 1),
    (jaxloss.beta_nll, 1),
]


@pytest.mark.parametrize(("loss", "parameters"), PARAMETERS)
def test_an_integer_of_python_is_a_number(loss: Any, parameters: int) -> None:
    data = jnp.array([0.25, 0.5]), jnp.array([0.5, 0.75])
    got = loss(*data, *[2] * parameters)
    np.testing.assert_array_equal(got, loss(*data, *[2.0] * parameters))
    assert got.dtype == jnp.float32
    with pytest.raises(TypeError, match="must be floating point, got bool"):
        loss(*data, *[True] * parameters)


def test_parameter_out_of_its_domain() -> None:
    assert np.all(np.isnan(jaxloss.gaussian_nll(jnp.array([1.0, 0.0]), jnp.zeros(2), 0.0)))
    with pytest.raises(ValueError, match=r"variances must broadcast to the shape of predictions, \(3, 1\), got \(3,\)"):
        jaxloss.gaussian_nll(jnp.zeros((3, 1)), jnp.zeros((3, 1)), jnp.ones(3))
    with pytest.raises(TypeError, match="df must be floating point"):
        jaxloss.student_t_nll(jnp.zeros(3), jnp.zeros(3), 1.0, jnp.ones(3, bool))
    checked = checkify.checkify(jax.jit(jaxloss.laplace_nll))
    with jaxloss.debug_checks("checkify"):
        problem, _ = checked(jnp.zeros(3), jnp.zeros(3), jnp.array([1.0, -1.0, 1.0]))
    assert "scales must be above 0" in str(problem.get())


@pytest.mark.sweep
@pytest.mark.parametrize(("loss", "parameters"), PARAMETERS)
def test_masked_parameters(loss: Any, parameters: int) -> None:
    """Parameters that are one an element, NaN under the mask."""
    where = jnp.array([True, False, True])
    args = [jnp.where(where, x, jnp.nan) for x in jnp.linspace(0.2, 0.8, 3 * (2 + parameters)).reshape(-1, 3)]
    both = jax.jit(jax.value_and_grad(lambda *args: jnp.sum(loss(*args, where=where)), tuple(range(len(args)))))
    value, gradients = both(*args)
    kept = jax.jit(jax.value_and_grad(lambda *args: jnp.sum(loss(*args)), tuple(range(len(args)))))
    want, slopes = kept(*(x[::2] for x in args))
    np.testing.assert_allclose(value, want, rtol=1e-6)
    for gradient, slope in zip(gradients, slopes, strict=True):
        np.testing.assert_allclose(gradient[::2], slope, rtol=1e-6)
        assert gradient[1] == 0


def test_a_whole_distribution_sums_to_one() -> None:
    counts = jnp.arange(400.0)
    for losses in (
        jaxloss.poisson_nll(jnp.full(400, jnp.log(20.0)), counts),
        jaxloss.negative_binomial_nll(jnp.full(400, 5.0), counts, 2.0),
    ):
        np.testing.assert_allclose(jnp.sum(jnp.exp(-losses)), 1, rtol=1e-5)


@pytest.mark.sweep
@pytest.mark.parametrize("loss", [jaxloss.gaussian_nll, jaxloss.laplace_nll, jaxloss.gaussian_crps])
def test_second_derivatives_at_any_scale(loss: Any) -> None:
    """Finite wherever they and the first ones are: JAX's own of a quotient take the square of the divisor."""
    points = list(
        itertools.product([0, 1, -3, 1e10, 1e-20], [0, 1, 1e10, 1e-20], [1e-37, 1e-30, 1e-19, 1e-10, 1, 1e19, 1e30])
    )
    at = [np.float32(x) for x in zip(*points, strict=True)]

    def derivatives(*at: Any) -> Any:
        each = jax.vmap(lambda *x: (jax.grad(loss, (0, 1, 2))(*x), jax.hessian(loss, (0, 1, 2))(*x)))
        return jax.tree.map(np.asarray, jax.jit(each)(*at))

    _, got = derivatives(*at)
    with jax.enable_x64(True):
        slopes, want = derivatives(*(jnp.asarray(x, jnp.float64) for x in at))
    inside = np.all([np.abs(x) < 1e38 for x in slopes], axis=0)
    for ours, true in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        there = inside & (np.abs(true) < 1e37)
        assert np.sum(there) > 50
        np.testing.assert_allclose(ours[there], true[there], rtol=1e-5, atol=1e-30)


def test_poisson_at_the_ends_of_the_range() -> None:
    large = jnp.array([3e38], jnp.float32)
    np.testing.assert_allclose(jaxloss.poisson_nll(large, large, log_rate=False), 0.5 * np.log(2 * np.pi * 3e38), rtol=1e-6)
    for full in (True, False):
        of_rates = functools.partial(jaxloss.poisson_nll, log_rate=False, full=full)
        for y in (0.0, 3.0):
            value, slope = jax.value_and_grad(of_rates)(jnp.inf, y)
            assert (value, slope) == (jnp.inf, 1)
            for x in (100.0, 3e38, jnp.inf):
                assert jaxloss.poisson_nll(x, y, full=full) == jnp.inf


@pytest.mark.exhaustive
def test_tweedie_where_a_power_is_out_of_range() -> None:
    """At p = 3 the deviance is (y − m)²/(m² y)."""
    mean, y = jnp.array([1.0, 1e-30, 1e-30, 1e-30, 1e30]), jnp.array([1e-30, 2e-30, 1e-30, 1.1e-30, 1e-5])
    deviances, pullback = jax.vjp(lambda *at: jaxloss.tweedie_deviance(*at, power=3.0), mean, y)
    np.testing.assert_allclose(deviances, [1e30, 5e29, 0, 1e28 / 1.1, 1e5], rtol=2e-6)
    by_mean, by_target = pullback(jnp.ones(5))
    np.testing.assert_array_equal(by_mean[1:4], [-jnp.inf, 0, -jnp.inf])
    np.testing.assert_allclose(np.asarray(by_target)[[0, 2, 4]], [-jnp.inf, 0, -1e10], rtol=1e-6)
    of_mean = jax.grad(lambda m: jax.grad(jaxloss.tweedie_deviance, 1)(m, 1e-10, power=3.0))
    np.testing.assert_allclose(of_mean(1.0), -2, rtol=1e-6)


@pytest.mark.exhaustive
@pytest.mark.parametrize("power", [0.5, 1.0, 1.5, 2.0, 3.0])
def test_tweedie_is_curved_at_its_minimum(power: float) -> None:
    """Near y = m the deviance is (y − m)²/m^p."""
    curvature = jax.hessian(lambda at: jaxloss.tweedie_deviance(*at, power=power))(jnp.array([2.0, 2.0]))
    np.testing.assert_allclose(curvature, 2 * np.array([[1, -1], [-1, 1]]) / 2.0**power, rtol=1e-5)


@pytest.mark.parametrize(("mean", "y"), [(0.5, 1.5), (0.5, -0.2), (1.5, 0.5), (-0.5, 0.5), (0.5, 0.0), (0.5, 1.0)])
def test_beta_of_what_is_no_proportion_is_nan_throughout(mean: float, y: float) -> None:
    for loss in (jaxloss.beta_nll, jaxloss.autodiff(jaxloss.beta_nll)):
        both = jax.value_and_grad(lambda *args, loss=loss: jnp.sum(loss(*args)), (0, 1, 2))
        value, gradients = both(jnp.array([mean, 0.5]), jnp.array([y, 0.25]), jnp.array([2.0, 2.0]))
        assert np.isnan(value)
        if loss is jaxloss.beta_nll:
            assert all(np.isnan(x[0]) for x in gradients)
        assert all(np.isfinite(x[1]) for x in gradients)
