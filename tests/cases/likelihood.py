"""Likelihoods, and the Tweedie deviance."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, gammaln, i0e, xlogy
from scipy import special

import jaxloss
from cases.case import Case, inf

HALF_LOG_2PI = np.log(2 * np.pi) / 2

# Parameters of a distribution are one a column, which also tests that they broadcast.


def line_and(*parameters: tuple[float, float]) -> Callable[[np.random.Generator], tuple[np.ndarray, ...]]:
    """Predictions and targets on the line, and parameters in their ranges."""
    return lambda rng: (rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), *_columns(rng, parameters))


def positive_and(*parameters: tuple[float, float]) -> Callable[[np.random.Generator], tuple[np.ndarray, ...]]:
    """Positive predictions and targets, and parameters in their ranges."""
    return lambda rng: (*(rng.uniform(0.3, 4, size=(3, 4)) for _ in range(2)), *_columns(rng, parameters))


def proportions(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return *(rng.uniform(0.1, 0.9, size=(3, 4)) for _ in range(2)), rng.uniform(1, 8, size=4)


def _columns(rng: np.random.Generator, parameters: tuple[tuple[float, float], ...]) -> list[np.ndarray]:
    return [rng.uniform(low, high, size=4) for low, high in parameters]


def gaussian(p: Any, y: Any, v: Any) -> Any:
    return (p - y) ** 2 / (2 * v) + jnp.log(2 * jnp.pi * v) / 2


def student_t(p: Any, y: Any, s: Any, df: Any) -> Any:
    tail = (df + 1) / 2 * jnp.log(1 + ((p - y) / s) ** 2 / df)
    return tail + jnp.log(s) + jnp.log(df * jnp.pi) / 2 + gammaln(df / 2) - gammaln((df + 1) / 2)


def von_mises(p: Any, y: Any, kappa: Any) -> Any:
    return kappa - kappa * jnp.cos(p - y) + jnp.log(2 * jnp.pi * i0e(kappa))


def crps(p: Any, y: Any, s: Any) -> Any:
    z = (p - y) / s
    cumulative = (1 + erf(z / jnp.sqrt(2))) / 2
    density = jnp.exp(-(z**2) / 2) / jnp.sqrt(2 * jnp.pi)
    return s * (z * (2 * cumulative - 1) + 2 * density - 1 / jnp.sqrt(jnp.pi))


def poisson(p: Any, y: Any, log_rate: bool = True, full: bool = True) -> Any:
    rate = jnp.exp(p) if log_rate else p
    return rate - xlogy(y, rate) + (gammaln(y + 1) if full else 0)


def negative_binomial(m: Any, y: Any, s: Any) -> Any:
    p = s / (s + m)
    return gammaln(s) + gammaln(y + 1) - gammaln(y + s) - s * jnp.log(p) - xlogy(y, 1 - p)


def gamma(m: Any, y: Any, k: Any) -> Any:
    return gammaln(k) - k * jnp.log(k / m) - (k - 1) * jnp.log(y) + k * y / m


def beta(m: Any, y: Any, phi: Any) -> Any:
    a, b = m * phi, (1 - m) * phi
    return gammaln(a) + gammaln(b) - gammaln(phi) - (a - 1) * jnp.log(y) - (b - 1) * jnp.log(1 - y)


def tweedie(m: Any, y: Any, power: Any = 1.5) -> Any:
    p = power
    return 2 * (y ** (2 - p) / ((1 - p) * (2 - p)) - y * m ** (1 - p) / (1 - p) + m ** (2 - p) / (2 - p))


def stirling(y: float) -> float:
    """log y! − y log y + y for a large y."""
    return 0.5 * np.log(2 * np.pi * y) + 1 / (12 * y)


CRPS_AT_1 = special.erf(np.sqrt(0.5)) + np.sqrt(2 / np.pi) * np.exp(-0.5) - 1 / np.sqrt(np.pi)
LOG_RATE = np.float32(np.log(1e6))
RATE = np.exp(np.float64(LOG_RATE))

CASES = [
    Case(
        jaxloss.gaussian_nll,
        gaussian,
        line_and((0.3, 3)),
        hard=[
            (
                ([2.0**-50, 0.0, 2.0**-48], [0.0] * 3, [2.0**-100] * 3),
                {},
                0.5 * np.array([1.0, 0.0, 16.0]) - 50 * np.log(2) + HALF_LOG_2PI,
            ),
            (([1e19, 1.0], [0.0] * 2, [1e38, 1e38]), {}, np.array([0.5, 0]) + 19 * np.log(10) + HALF_LOG_2PI),
            (([1e19, inf], [0.0] * 2, 1.0), {}, [5e37, inf]),
            ((np.zeros(0), np.zeros(0), 1.0), {}, np.zeros(0)),
        ],
    ),
    Case(
        jaxloss.laplace_nll,
        lambda p, y, b: jnp.abs(p - y) / b + jnp.log(2 * b),
        line_and((0.3, 3)),
        hard=[
            (([0.0, 2.0**-60, inf], [0.0] * 3, 2.0**-60), {}, [-59 * np.log(2), 1 - 59 * np.log(2), inf]),
            (([1e30, 0.0], [0.0] * 2, 1.0), {}, [1e30, np.log(2)]),
        ],
        second=False,
    ),
    Case(
        jaxloss.student_t_nll,
        student_t,
        line_and((0.3, 3), (0.5, 8)),
        hard=[
            (([0.0, 1e25, inf], [0.0] * 3, 1.0, 1.0), {}, [np.log(np.pi), 50 * np.log(10) + np.log(np.pi), inf]),
            (([0.0, 3.0], [0.0] * 2, 1.0, 1e10), {}, [HALF_LOG_2PI, 4.5 + HALF_LOG_2PI]),
            (([2.0**-50], [0.0], 2.0**-50, 1.0), {}, [np.log(2 * np.pi) - 50 * np.log(2)]),
        ],
        arguments=(0, 3),
    ),
    Case(
        jaxloss.von_mises_nll,
        von_mises,
        line_and((0.3, 3)),
        hard=[
            (([0.0, 1.0, 3.0], [0.0] * 3, 0.0), {}, [2 * HALF_LOG_2PI] * 3),
            (([0.0], [0.0], 1e30), {}, [HALF_LOG_2PI - 15 * np.log(10)]),
            (([1e-15], [0.0], 1e30), {}, [0.5 + HALF_LOG_2PI - 15 * np.log(10)]),
            (([2.5], [0.0], 1e4), {}, [1e4 * (1 - np.cos(2.5)) + np.log(2 * np.pi * special.i0e(1e4))]),
        ],
        arguments=(0, 2),
    ),
    Case(
        jaxloss.gaussian_crps,
        crps,
        line_and((0.3, 3)),
        hard=[
            (([0.0, 2.0, -3.0], [0.0] * 3, 0.0), {}, [0.0, 2.0, 3.0]),
            (([0.0, 1e10, 3e38, inf], [0.0] * 4, 1.0), {}, [(np.sqrt(2) - 1) / np.sqrt(np.pi), 1e10, 3e38, inf]),
            (([1e-18, 1.0], [0.0] * 2, 1e-18), {}, [CRPS_AT_1 * 1e-18, 1.0]),
        ],
    ),
    Case(
        jaxloss.poisson_nll,
        poisson,
        positive_and(),
        [{}, {"full": False}, {"log_rate": False}, {"log_rate": False, "full": False}],
        hard=[
            (([0.0, 2.0], [0.0, 0.0]), {"log_rate": False}, [0.0, 2.0]),
            (([0.0, 2.0], [0.0, 0.0]), {"log_rate": False, "full": False}, [0.0, 2.0]),
            (([-inf, -inf, -200.0, 0.0], [0.0, 3.0, 3.0, 0.0]), {}, [0.0, inf, 600 + np.log(6), 1.0]),
            (([-inf, -inf, 0.0], [0.0, 3.0, 0.0]), {"full": False}, [0.0, inf, 1.0]),
            (([1e6, 1e30], [1e6, 1e30]), {"log_rate": False}, [stirling(1e6), stirling(1e30)]),
            (([LOG_RATE], [1e6]), {}, [stirling(1e6) + (RATE - 1e6) ** 2 / 2e6]),
        ],
    ),
    Case(
        jaxloss.negative_binomial_nll,
        negative_binomial,
        positive_and((0.5, 4)),
        hard=[
            (([0.0, 2.0], [0.0, 0.0], 1.0), {}, [0.0, np.log(3.0)]),
            (([3.0], [2.0], 1e8), {}, [3 - 2 * np.log(3) + np.log(2)]),
            (([1e6], [1e6], 1e12), {}, [stirling(1e6)]),
        ],
        arguments=(0, 2),
    ),
    Case(
        jaxloss.gamma_nll,
        gamma,
        positive_and((0.5, 4)),
        hard=[
            (([2.0, 2.0], [0.0, 1.0], 1.0), {}, [np.log(2.0), 0.5 + np.log(2.0)]),
            (([1.0], [1.0], 1e8), {}, [HALF_LOG_2PI - 4 * np.log(10)]),
            (([2.0**-50], [2.0**-50], 1.0), {}, [1 - 50 * np.log(2)]),
        ],
    ),
    Case(
        jaxloss.beta_nll,
        beta,
        proportions,
        hard=[
            (([0.5, 0.5], [0.5, 1e-15], 4.0), {}, [-np.log(1.5), 15 * np.log(10) - np.log(6)]),
            (([0.5], [0.5], 1e8), {}, [HALF_LOG_2PI - 4 * np.log(10) - np.log(2)]),
        ],
    ),
    Case(
        jaxloss.tweedie_deviance,
        tweedie,
        positive_and(),
        [{}, {"power": 0.5}, {"power": 2.5}, {"power": np.array([1.2, 1.8, 2.7, 3.0])}],
        hard=[
            (([1.0, 4.0, 2.0], [0.0, 0.0, 2.0]), {}, [4.0, 8.0, 0.0]),
            (([-1.0, 2.0, 0.0], [1.0, -1.0, 3.0]), {"power": 0.0}, [4.0, 9.0, 9.0]),
            (([2.0, 2.0, 2.0], [0.0, 4.0, 2.0]), {"power": 1.0}, [4.0, 2 * (4 * np.log(2) - 2), 0.0]),
            (([2.0, 2.0], [4.0, 2.0]), {"power": 2.0}, [2 * (1 - np.log(2)), 0.0]),
            (([2.0, 2.0], [4.0, 2.0]), {"power": 3.0}, [0.25, 0.0]),
        ],
    ),
]
