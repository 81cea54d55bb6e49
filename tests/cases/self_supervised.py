"""Self-supervision without negatives."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxloss
from cases.case import Case, inf
from cases.contrastive import unit
from cases.regression import residuals


def batch_of_two_views(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=(8, 3)) @ rng.normal(size=(3, 3))
    return 0.5 * x + 0.3, 0.5 * x + 0.4 * rng.normal(size=(8, 3))


def logits(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(3, 5)), 0.2 * rng.normal(size=(3, 5))


# --- Naive formulas -------------------------------------------------------------------------------------------------


def barlow_twins(x: Any, y: Any, redundancy_weight: Any = 0.005) -> Any:
    n = x.shape[0]
    a, b = ((z - jnp.mean(z, 0)) / jnp.std(z, 0) for z in (x, y))
    c = a.T @ b / n
    diagonal = jnp.diagonal(c)
    return jnp.sum((1 - diagonal) ** 2) + redundancy_weight * (jnp.sum(c**2) - jnp.sum(diagonal**2))


def vicreg(x: Any, y: Any, invariance_weight: Any = 25.0, variance_weight: Any = 25.0, covariance_weight: Any = 1.0) -> Any:
    n, d = x.shape

    def variance(z: Any) -> Any:
        return jnp.mean(jnp.maximum(0, 1 - jnp.sqrt(jnp.var(z, 0, ddof=1) + 1e-4)))

    def covariance(z: Any) -> Any:
        c = sum(jnp.outer(v, v) for v in z - jnp.mean(z, 0)) / (n - 1)
        return (jnp.sum(c**2) - jnp.sum(jnp.diagonal(c) ** 2)) / d

    s = jnp.mean(jnp.sum((x - y) ** 2, 1))
    return (
        invariance_weight * s
        + variance_weight * (variance(x) + variance(y))
        + covariance_weight * (covariance(x) + covariance(y))
    )


def byol(p: Any, z: Any) -> Any:
    return 2 - 2 * jnp.sum(unit(p) * unit(z), axis=-1)


def dino(
    s: Any, z: Any, student_temperature: Any = 0.1, teacher_temperature: Any = 0.04, center: Any = 0.0, axis: int = -1
) -> Any:
    t = lax.stop_gradient(jax.nn.softmax((z - center) / teacher_temperature))
    return -jnp.sum(t * jnp.log(jax.nn.softmax(s / student_temperature)), axis=-1)


# --- Rows -----------------------------------------------------------------------------------------------------------

# The second feature does not vary, and the mean of its values is not exactly itself.
ONE_CONSTANT = [[1.0, 0.1], [1.0, 0.1], [-1.0, 0.1], [-1.0, 0.1], [1.0, 0.1], [-1.0, 0.1]]
CORNERS = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]
ONE = [[1.0, 2.0, 3.0]]

CASES = [
    Case(
        jaxloss.barlow_twins_loss,
        barlow_twins,
        batch_of_two_views,
        [{}, {"redundancy_weight": 0.5}],
        event=1,
        among=0,
        arguments=(0, 1),
        hard=[
            ((ONE_CONSTANT, ONE_CONSTANT), {}, 1.0),
            ((CORNERS, CORNERS), {}, 0.0),
            ((np.multiply(CORNERS, 1e15), np.multiply(CORNERS, -1e-12)), {}, 8.0),
            ((ONE, ONE), {}, 3.0),
        ],
    ),
    Case(
        jaxloss.vicreg_loss,
        vicreg,
        batch_of_two_views,
        [{}, {"invariance_weight": 0.5}, {"invariance_weight": 0.5, "variance_weight": 2.0, "covariance_weight": 3.0}],
        event=1,
        among=0,
        arguments=(0, 1),
        hard=[
            (([[0.1, 3.0]] * 3, [[0.1, 3.0]] * 3), {}, 49.5),  # 25 · 2 · 0.99: no variance
            ((ONE, [[1.0, 2.0, 5.0]]), {}, 149.5),
            ((np.multiply(CORNERS, 2), np.multiply(CORNERS, 2)), {}, 0.0),
            ((np.multiply(CORNERS, 2.0**27), np.multiply(CORNERS, -(2.0**27))), {}, 50 * 2.0**56),
        ],
    ),
    Case(
        jaxloss.byol_loss,
        byol,
        residuals,
        event=1,
        arguments=(0, 1),
        hard=[
            (([[3.0, 0.0], [1.0, 1.0], [2.0, 0.0]], [[1.0, 0.0], [-2.0, 2.0], [-1.0, 0.0]]), {}, [0.0, 2.0, 4.0]),
            (([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), {}, [2.0] * 3),
            (([[1e18, 0.0], [1e-15, 0.0]], [[1e-15, 0.0], [0.0, -1e18]]), {}, [0.0, 2.0]),
        ],
    ),
    Case(
        jaxloss.dino_loss,
        dino,
        logits,
        [{}, {"student_temperature": 0.3}, {"teacher_temperature": 0.2, "center": np.linspace(-0.2, 0.2, 5)}],
        event=1,
        free=("center",),
        # log 2, log(1 + e^−20) + 20/(1 + e^25), 20/(1 + e^−25), and classes that cannot occur
        hard=[
            (([[0.0, 0.0]], [[7.0, 0.0]]), {}, [0.6931471805599453]),
            (([[2.0, 0.0], [-2.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]), {}, [2.3389120099e-09, 20.0 + 1.783269e-09]),
            (([[0.0, -inf]], [[0.0, -inf]]), {}, [0.0]),
            (([[1.0]], [[2.0]]), {}, [0.0]),
            (([[0.0, 20.0]], [[1e4, 0.0]]), {"student_temperature": 0.001}, [20000.0]),
        ],
    ),
]
