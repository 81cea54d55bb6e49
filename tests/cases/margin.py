"""Margins."""

from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxloss
from cases.case import Case, inf
from cases.cross_entropy import classes


def signs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return 2 * rng.normal(size=(3, 4)), rng.choice([-1.0, 1.0], size=(3, 4))


def hard_binary(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return 3 * rng.normal(size=(3, 4)), rng.integers(0, 2, size=(3, 4))


def best_other(z: Any, y: Any) -> Any:
    is_label = jnp.arange(z.shape[-1]) == y[..., None]
    return jnp.max(jnp.where(is_label, -inf, z), axis=-1) - jnp.sum(jnp.where(is_label, z, 0), axis=-1)


def sparsemax(z: Any, y: Any) -> Any:
    """⟨p, z⟩ − ‖p‖²/2 + 1/2 − z_y with the support found by sorting."""
    ordered = -jnp.sort(-z, axis=-1)
    k = jnp.arange(1, z.shape[-1] + 1)
    total = jnp.cumsum(ordered, axis=-1)
    size = jnp.sum(1 + k * ordered > total, axis=-1, keepdims=True)
    threshold = (jnp.take_along_axis(total, size - 1, axis=-1) - 1) / size
    p = jnp.maximum(z - threshold, 0)
    own = jnp.take_along_axis(z, y[..., None], axis=-1)[..., 0]
    return jnp.sum(p * z - p * p / 2, axis=-1) + 0.5 - own


CASES = [
    Case(
        jaxloss.hinge_loss,
        lambda f, y: jnp.maximum(0, 1 - f * y),
        signs,
        hard=[(([1.0, inf, -inf], [1.0] * 3), {}, [0.0, 0.0, inf])],
        second=False,
    ),
    Case(
        jaxloss.squared_hinge_loss,
        lambda f, y: jnp.maximum(0, 1 - f * y) ** 2,
        signs,
        hard=[(([1.0, 3.0], [1.0] * 2), {}, [0.0, 0.0])],
    ),
    Case(
        jaxloss.modified_huber_loss,
        lambda f, y: jnp.where(f * y >= -1, jnp.maximum(0, 1 - f * y) ** 2, -4 * f * y),
        signs,
        hard=[(([1.0, -1.0, -inf], [1.0] * 3), {}, [0.0, 4.0, inf])],
    ),
    Case(
        jaxloss.perceptron_loss,
        lambda f, y: jnp.maximum(0, -f * y),
        signs,
        hard=[(([0.0, inf, -inf], [1.0] * 3), {}, [0.0, 0.0, inf])],
        second=False,
    ),
    Case(
        jaxloss.sparsemax_loss,
        lambda z, y: (lambda x: jnp.where(x <= -1, 0, jnp.where(x >= 1, x, (x + 1) ** 2 / 4)))((1 - 2 * y) * z),
        hard_binary,
        hard=[(([1.0, -1.0, inf], [1.0] * 3), {}, [0.0, 1.0, 0.0])],
    ),
    Case(
        jaxloss.multiclass_hinge_loss,
        lambda z, y: jnp.maximum(0, 1 + best_other(z, y)),
        classes,
        event=1,
        hard=[(([[5.0]], [0]), {}, [0.0]), (([[1.0, 0.0, 0.0]], [0]), {}, [0.0]), (([[2.0, -inf]], [0]), {}, [0.0])],
        second=False,
        lean=False,
    ),
    Case(
        jaxloss.multiclass_perceptron_loss,
        lambda z, y: jnp.maximum(0, best_other(z, y)),
        classes,
        event=1,
        hard=[(([[5.0]], [0]), {}, [0.0]), (([[1.0, 1.0]], [0]), {}, [0.0]), (([[2.0, -inf]], [0]), {}, [0.0])],
        second=False,
        lean=False,
    ),
    Case(
        jaxloss.multiclass_sparsemax_loss,
        sparsemax,
        lambda rng: (0.5 * rng.normal(size=(3, 5)), rng.integers(0, 5, size=3)),
        event=1,
        hard=[(([[5.0]], [0]), {}, [0.0]), (([[2.0, 1.0]], [0]), {}, [0.0]), (([1.0, 1.0], 0), {}, 0.25)],
    ),
]
