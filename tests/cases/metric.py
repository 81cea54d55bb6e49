"""Metric learning from pairs and triplets of vectors."""

from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxloss
from cases.case import Case, inf


def two_vectors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(4, 6)), rng.normal(size=(4, 6))


def three_vectors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rng.normal(size=(4, 6)), rng.normal(size=(4, 6)), rng.normal(size=(4, 6))


def soft_pairs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return *two_vectors(rng), rng.uniform(0.1, 0.9, size=4)


def signed_pairs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return *two_vectors(rng), np.array([1.0, -1.0, 0.5, -0.5])


def scores_and_signs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), rng.choice([-1.0, 1.0], size=(3, 4))


def cosine(a: Any, b: Any, epsilon: Any = 0.0) -> Any:
    squares = (jnp.maximum(jnp.sum(x * x, axis=-1), epsilon) for x in (a, b))
    return jnp.sum(a * b, axis=-1) / jnp.sqrt(next(squares) * next(squares))


def contrastive(a: Any, b: Any, y: Any, margin: Any = 1.0) -> Any:
    d = jnp.sqrt(jnp.sum((a - b) ** 2, axis=-1))
    return y * d**2 + (1 - y) * jnp.maximum(0, margin - d) ** 2


def cosine_embedding(a: Any, b: Any, y: Any, margin: Any = 0.0) -> Any:
    return (1 + y) / 2 * (1 - cosine(a, b)) + (1 - y) / 2 * jnp.maximum(0, cosine(a, b) - margin)


def triplet(a: Any, p: Any, n: Any, norm_degree: float = 2, squared: bool = False, margin: Any = 1.0, eps: Any = 0.0) -> Any:
    def distance(x: Any) -> Any:
        if norm_degree == inf:
            length = jnp.max(jnp.abs(a - x), axis=-1)
        else:
            length = (jnp.sum(jnp.abs(a - x) ** norm_degree, axis=-1) + eps) ** (1 / norm_degree)
        return length**2 if squared else length

    return jnp.maximum(0, distance(p) - distance(n) + margin)


ZERO, ONE = [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]

# (p, y, cosine, 1 − cosine). Second derivatives go with 1/‖p‖²: tiny vectors are in test_metric.py.
COSINES = [
    (ZERO, ONE, 0.0, 1.0),
    (ONE, ZERO, 0.0, 1.0),
    (ZERO, ZERO, 0.0, 1.0),
    (ONE, ONE, 1.0, 0.0),
    (ONE, [-3.0, 0.0, 0.0], -1.0, 2.0),
    (ONE, [0.0, 2.0, 0.0], 0.0, 1.0),
    ([3e20, 4e20, 0.0], [1e20, 0.0, 0.0], 0.6, 0.4),
    ([3.0, 4.0, 0.0], [3e38, 3e38, 0.0], 1.4 / 2**0.5, 1 - 1.4 / 2**0.5),
    ([1.0, 0.0, 0.0], [1.0, 2.0**-10, 0.0], 1 / (1 + 2.0**-20) ** 0.5, -np.expm1(-0.5 * np.log1p(2.0**-20))),
    ([1.0, 2.0**-20, 0.0], ONE, 1.0, -np.expm1(-0.5 * np.log1p(2.0**-40))),
]

CASES = [
    Case(
        jaxloss.cosine_similarity,
        cosine,
        two_vectors,
        [{}, {"epsilon": 5.0}],
        event=1,
        hard=[((p, y), {}, value) for p, y, value, _ in COSINES]
        + [((ZERO, ONE), {"epsilon": 0.25}, 0.0), (([0.25, 0.0, 0.0], ONE), {"epsilon": 0.25}, 0.5)],
        arguments=(0, 1),
    ),
    Case(
        jaxloss.cosine_distance,
        lambda a, b, epsilon=0.0: 1 - cosine(a, b, epsilon),
        two_vectors,
        [{}, {"epsilon": 5.0}],
        event=1,
        hard=[((p, y), {}, value) for p, y, _, value in COSINES],
        arguments=(0, 1),
        ulps=8,
    ),
    Case(
        jaxloss.cosine_embedding_loss,
        cosine_embedding,
        signed_pairs,
        [{}, {"margin": -0.3}],
        event=1,
        batched=3,
        hard=[
            (([ZERO, ZERO, ONE, ONE], [ONE, ONE, ONE, [-1.0, 0.0, 0.0]], [1, -1, 1, -1]), {}, [1.0, 0.0, 0.0, 0.0]),
            (([ONE], [[0.5, 0.0, 0.0]], [-1]), {"margin": 0.25}, [0.75]),
        ],
        arguments=(0, 1),
        free=("margin",),
    ),
    Case(
        jaxloss.contrastive_loss,
        contrastive,
        soft_pairs,
        [{}, {"margin": np.array([2.0, 3.0, 4.0, 5.0])}],
        event=1,
        batched=3,
        hard=[
            (([ONE, ONE], [ONE, ONE], [1.0, 0.0]), {}, [0.0, 1.0]),
            (([ONE, ZERO], [[1 + 2.0**-20, 0.0, 0.0], [1e-12, 0.0, 0.0]], [1, 1]), {}, [2.0**-40, 1e-24]),
            (([[1e20, 0.0, 0.0]], [ZERO], [0]), {}, [0.0]),
            (([ZERO], [[1e-30, 0.0, 0.0]], [0]), {}, [1.0]),
            (([ZERO], [ONE], [0]), {}, [0.0]),
        ],
        arguments=(0, 1),
    ),
    Case(
        jaxloss.triplet_margin_loss,
        triplet,
        three_vectors,
        [
            {},
            {"norm_degree": 1},
            {"norm_degree": 3},
            {"squared": True},
            {"eps": 0.5},
            {"norm_degree": 3, "squared": True, "margin": 2.0},
            {"norm_degree": 3, "margin": np.array([2.0, 3.0, 4.0, 5.0]), "eps": 0.5},
        ],
        event=1,
        batched=3,
        hard=[
            ((ZERO, ZERO, ZERO), {}, 1.0),
            ((ZERO, ZERO, ZERO), {"squared": True}, 1.0),
            ((ZERO, ZERO, ZERO), {"norm_degree": 1}, 1.0),
            ((ZERO, ZERO, ZERO), {"norm_degree": 1.5}, 1.0),
            ((ZERO, ZERO, ZERO), {"norm_degree": inf}, 1.0),
            ((ZERO, ZERO, ONE), {"margin": 1.0}, 0.0),
            ((ZERO, [3e20, 4e20, 0.0], [0.0, 0.0, 1e20]), {}, 4e20),
            ((ZERO, [3e20, 4e20, 0.0], [0.0, 0.0, 1e20]), {"norm_degree": 3}, 91 ** (1 / 3) * 1e20 - 1e20),
            ((ZERO, [3e20, 4e20, 0.0], [0.0, 0.0, 1e20]), {"norm_degree": inf}, 3e20),
            ((ONE, [1.0, 3e-12, 4e-12], ONE), {"margin": 0.0}, 5e-12),
            ((ONE, [1.0, 3e-12, 4e-12], ONE), {"margin": 0.0, "norm_degree": 1}, 7e-12),
        ],
        arguments=(0, 1, 2),
    ),
    Case(
        jaxloss.margin_ranking_loss,
        lambda s, t, y, margin=0.0: jnp.maximum(0, margin - y * (s - t)),
        scores_and_signs,
        [{}, {"margin": 0.7}],
        batched=3,
        hard=[
            (([1.0, 1.0, inf, 3.0], [1.0, 0.0, 0.0, inf], [1, -1, 1, -1]), {}, [0.0, 1.0, 0.0, 0.0]),
            (([1.0], [0.5], [1]), {"margin": 0.5}, [0.0]),
        ],
        arguments=(0, 1),
        second=False,
        free=("margin",),
    ),
]
