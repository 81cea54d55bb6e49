"""Regression."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxloss
from cases.case import Case, inf


def residuals(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(3, 4)), rng.normal(size=(3, 4))


def positive(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(0.1, 4, size=(3, 4)), rng.uniform(0.1, 4, size=(3, 4))


def of_residual(formula: Callable[..., Any]) -> Callable[..., Any]:
    return lambda p, y, **options: formula(p - y, **options)


def robust(r: Any, alpha: Any = 1.0, scale: Any = 1.0) -> Any:
    x = r / scale
    b = jnp.abs(alpha - 2)
    return b / alpha * ((x**2 / b + 1) ** (alpha / 2) - 1)


CASES = [
    Case(
        jaxloss.squared_error,
        of_residual(lambda r: r**2),
        residuals,
        hard=[(([1e-19, 1e19, 0.0], [0.0] * 3), {}, [0.0, 1e38, 0.0])],
    ),
    Case(jaxloss.l2_loss, of_residual(lambda r: r**2 / 2), residuals, hard=[(([2e19, 0.0], [0.0] * 2), {}, [2e38, 0.0])]),
    Case(
        jaxloss.absolute_error,
        of_residual(jnp.abs),
        residuals,
        hard=[(([0.0, inf, -inf], [0.0] * 3), {}, [0.0, inf, inf])],
        second=False,
    ),
    Case(
        jaxloss.huber_loss,
        of_residual(lambda r, delta=1.0: jnp.where(jnp.abs(r) <= delta, r**2 / 2, delta * (jnp.abs(r) - delta / 2))),
        residuals,
        [{}, {"delta": 0.7}, {"delta": np.array([0.3, 0.7, 1.1, 2.0])}],
        hard=[
            (([1e-8, 1.0, 3e38, inf, -inf], [0.0] * 5), {}, [5e-17, 0.5, 3e38, inf, inf]),
            (([0.0, 2.0], [0.0] * 2), {"delta": 0.0}, [0.0, 0.0]),
        ],
    ),
    Case(
        jaxloss.smooth_l1_loss,
        of_residual(lambda r, beta=1.0: jnp.where(jnp.abs(r) < beta, r**2 / (2 * beta), jnp.abs(r) - beta / 2)),
        residuals,
        [{}, {"beta": 0.7}],
        hard=[
            (([1e-8, 1.0, 3e38, inf], [0.0] * 4), {}, [5e-17, 0.5, 3e38, inf]),
            (([0.0, -2.0], [0.0] * 2), {"beta": 0.0}, [0.0, 2.0]),
        ],
    ),
    Case(
        jaxloss.log_cosh,
        of_residual(lambda r: jnp.log(jnp.cosh(r))),
        residuals,
        hard=[
            (
                ([0.0, 1e-8, -1e-4, 1.0, 88.0, 1e4, 3e38, inf, -inf], [0.0] * 9),
                {},
                [0.0, 5e-17, 5e-9, np.log(np.cosh(1)), 88 - np.log(2), 1e4 - np.log(2), 3e38, inf, inf],
            )
        ],
    ),
    Case(
        jaxloss.quantile_loss,
        of_residual(lambda r, quantile=0.5: jnp.maximum(-quantile * r, (1 - quantile) * r)),
        residuals,
        [{}, {"quantile": 0.9}, {"quantile": np.array([0.1, 0.5, 0.7, 0.9])}],
        hard=[(([0.0, 1e-8, inf], [0.0] * 3), {"quantile": 0.9}, [0.0, 1e-9, inf])],
        second=False,
    ),
    Case(
        jaxloss.expectile_loss,
        of_residual(lambda r, tau=0.5: jnp.abs(tau - (r > 0)) * r**2),
        residuals,
        [{}, {"tau": 0.9}],
        hard=[(([0.0, 1e-8], [0.0] * 2), {"tau": 0.75}, [0.0, 2.5e-17])],
    ),
    Case(
        jaxloss.epsilon_insensitive_loss,
        of_residual(lambda r, epsilon=0.1: jnp.maximum(jnp.abs(r) - epsilon, 0)),
        residuals,
        [{}, {"epsilon": 0.5}],
        hard=[(([0.0, 0.25, inf], [0.0] * 3), {"epsilon": 0.25}, [0.0, 0.0, inf])],
        second=False,
    ),
    Case(
        jaxloss.squared_log_error,
        lambda p, y: (jnp.log(1 + p) - jnp.log(1 + y)) ** 2,
        positive,
        hard=[(([0.0, 2.0, 0.0], [0.0, 2.0, 1e10]), {}, [0.0, 0.0, np.log1p(1e10) ** 2])],
    ),
    Case(
        jaxloss.absolute_percentage_error,
        lambda p, y: jnp.abs((p - y) / y),
        positive,
        hard=[(([0.0, 2.0], [0.0, 2.0]), {}, [0.0, 0.0])],
    ),
    Case(
        jaxloss.pseudo_huber_loss,
        of_residual(lambda r, delta=1.0: delta**2 * (jnp.sqrt(1 + (r / delta) ** 2) - 1)),
        residuals,
        [{}, {"delta": 0.7}],
        hard=[(([0.0, 1e-8, 3e38, inf, -inf], [0.0] * 5), {}, [0.0, 5e-17, 3e38, inf, inf])],
    ),
    Case(
        jaxloss.charbonnier_loss,
        of_residual(lambda r, epsilon=1e-3: jnp.sqrt(r**2 + epsilon**2)),
        residuals,
        [{}, {"epsilon": 0.7}],
        hard=[
            (([0.0, 3e38, inf], [0.0] * 3), {}, [1e-3, 3e38, inf]),
            (([0.0, -2.0], [0.0] * 2), {"epsilon": 0.0}, [0.0, 2.0]),
        ],
    ),
    Case(
        jaxloss.robust_loss,
        of_residual(robust),
        residuals,
        [
            {},
            {"alpha": 0.5, "scale": 0.7},
            {"alpha": -2.0, "scale": 1.5},
            {"alpha": 1e-3},
            {"alpha": 1.99},
            {"alpha": 3.0},
        ],
        hard=[
            (([0.0, 2.0], [0.0] * 2), {"alpha": 2.0}, [0.0, 2.0]),
            (([0.0, 2.0], [0.0] * 2), {"alpha": 0.0}, [0.0, np.log(3.0)]),
            (([0.0, 2.0, 1e19], [0.0] * 3), {"alpha": -inf}, [0.0, 1 - np.exp(-2.0), 1.0]),
            (([0.0, 2.0], [0.0] * 2), {"alpha": inf}, [0.0, np.expm1(2.0)]),
            (([1e-8, 1.0], [0.0] * 2), {"alpha": 1.0}, [5e-17, np.sqrt(2) - 1]),
        ],
        free=("alpha",),
    ),
]
