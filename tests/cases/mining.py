"""Metric learning from a batch, and by classification."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxloss
from cases.case import Case, inf


def labelled(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two classes, and one vector that is alone in its class; the mask of the contract leaves two of each class."""
    return rng.normal(size=(8, 4)), np.array([0, 1, 1, 0, 1, 1, 2, 0])


def partners(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(5, 4)), rng.normal(size=(5, 4))


def cosines_and_classes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(-0.8, 0.9, size=(3, 5)), rng.integers(0, 5, size=3)


def sides(labels: Any) -> tuple[Any, Any]:
    same = labels[:, None] == labels
    return same & ~jnp.eye(len(labels), dtype=bool), ~same


def units(x: Any) -> Any:
    return x / jnp.sqrt(jnp.sum(x * x, axis=-1, keepdims=True))


def batch_hard(x: Any, labels: Any, squared: bool = False, margin: Any = 1.0) -> Any:
    same, other = sides(labels)
    squares = jnp.sum((x[:, None] - x) ** 2, axis=-1)
    d = squares if squared else jnp.sqrt(jnp.where(jnp.eye(len(x), dtype=bool), 1, squares))
    found = jnp.any(same, axis=-1) & jnp.any(other, axis=-1)
    behind = jnp.max(jnp.where(same, d, -1e9), axis=-1) - jnp.min(jnp.where(other, d, 1e9), axis=-1)
    loss = jnp.log(1 + jnp.exp(jnp.where(found, behind, 0))) if margin is None else jnp.maximum(0, behind + margin)
    return jnp.where(found, loss, 0)


def n_pairs(a: Any, p: Any) -> Any:
    s = a @ p.T
    return jax.nn.logsumexp(s, axis=-1) - jnp.diagonal(s)


def multi_similarity(x: Any, labels: Any, alpha: Any = 2.0, beta: Any = 50.0, base: Any = 0.5, epsilon: Any = 0.1) -> Any:
    s = units(x) @ units(x).T
    same, other = sides(labels)
    if epsilon is not None:
        nearest = jnp.max(jnp.where(other, s, -inf), axis=-1, keepdims=True)
        farthest = jnp.min(jnp.where(same, s, inf), axis=-1, keepdims=True)
        same, other = same & (s - epsilon < nearest), other & (s + epsilon > farthest)
    pull = jnp.log(1 + jnp.sum(jnp.where(same, jnp.exp(-alpha * (s - base)), 0), axis=-1))
    push = jnp.log(1 + jnp.sum(jnp.where(other, jnp.exp(beta * (s - base)), 0), axis=-1))
    return pull / alpha + push / beta


def circle(x: Any, labels: Any, margin: Any = 0.4, gamma: Any = 80.0) -> Any:
    s = units(x) @ units(x).T
    same, other = sides(labels)
    of_same = jax.lax.stop_gradient(jnp.maximum(0, 1 + margin - s)) * (s - 1 + margin)
    of_other = jax.lax.stop_gradient(jnp.maximum(0, s + margin)) * (s - margin)
    pull = jnp.sum(jnp.where(same, jnp.exp(-gamma * of_same), 0), axis=-1)
    push = jnp.sum(jnp.where(other, jnp.exp(gamma * of_other), 0), axis=-1)
    return jnp.log(1 + pull * push)


def arcface(cosines: Any, labels: Any, margin: Any = 0.5, scale: Any = 64.0, easy_margin: bool = False) -> Any:
    own = jnp.take_along_axis(cosines, labels[:, None], axis=-1)[:, 0]
    theta = jnp.arccos(own)
    turned, otherwise = jnp.cos(theta + margin), own if easy_margin else own - margin * jnp.sin(margin)
    own = jnp.where(theta < np.pi / 2 if easy_margin else theta < np.pi - margin, turned, otherwise)
    scale = jnp.asarray(scale)[..., None]
    logits = scale * jnp.where(jnp.arange(cosines.shape[-1]) == labels[:, None], own[:, None], cosines)
    return jax.nn.logsumexp(logits, axis=-1) - scale[..., 0] * own


POINTS = [[0.0, 0.0], [3.0, 4.0], [6.0, 8.0], [1.0, 0.0]]
SAME = [[1.0, 2.0]] * 4

CASES = [
    Case(
        jaxloss.batch_hard_triplet_loss,
        batch_hard,
        labelled,
        [
            {},
            {"squared": True},
            {"margin": None},
            {"margin": 3.0, "squared": True},
        ],
        event=1,
        among=0,
        hard=[
            ((POINTS, [0, 0, 0, 1]), {}, [10.0, 6 - 20**0.5, 11 - 89**0.5, 0.0]),
            (
                (POINTS, [0, 0, 0, 1]),
                {"margin": None},
                [9 + math.log1p(math.exp(-9))]
                + [math.log1p(math.exp(p - n)) for p, n in ((5, 20**0.5), (10, 89**0.5))]
                + [0.0],
            ),
            ((POINTS, [0, 0, 0, 0]), {}, [0.0] * 4),
            ((POINTS, [0, 1, 2, 3]), {}, [0.0] * 4),
            ((SAME, [0, 0, 1, 1]), {}, [1.0] * 4),
            ((SAME, [0, 0, 1, 1]), {"squared": True}, [1.0] * 4),
            (([[1.0, 2.0]], [5]), {}, [0.0]),
            (([[1e20, 0.0], [4e20, 4e20], [0.0, 0.0]], [0, 0, 1]), {}, [4e20, 0.0, 0.0]),
            (([[1.0, 1e3], [1.0 + 2.0**-20, 1e3], [1.0, 1e3]], [0, 0, 1]), {"margin": 0.0}, [2.0**-20, 0.0, 0.0]),
        ],
        lean=False,
    ),
    Case(
        jaxloss.n_pairs_loss,
        n_pairs,
        partners,
        event=1,
        among=0,
        hard=[
            (([[1.0, 2.0]], [[3.0, 4.0]]), {}, [0.0]),
            (([[0.0, 0.0]] * 3, [[0.0, 0.0]] * 3), {}, [math.log(3)] * 3),
            (([[20.0, 0.0], [0.0, 20.0]], [[1.0, 0.0], [0.0, 1.0]]), {}, [math.log1p(math.exp(-20))] * 2),
            (([[1e4, 0.0], [0.0, 1e4]], [[-1.0, 0.0], [0.0, 1.0]]), {}, [1e4, 0.0]),
        ],
        arguments=(0, 1),
        lean=False,
    ),
    Case(
        jaxloss.multi_similarity_loss,
        multi_similarity,
        labelled,
        [{}, {"epsilon": None}, {"alpha": 3.0, "beta": 10.0, "base": 0.7, "epsilon": 0.5}],
        event=1,
        among=0,
        hard=[
            (
                ([[1.0, 0.0], [0.0, 3.0], [0.0, 2.0]], [0, 0, 1]),
                {},
                [
                    math.log1p(math.e) / 2 + math.log1p(math.exp(-25)) / 50,
                    math.log1p(math.e) / 2 + 0.5 + math.log1p(math.exp(-25)) / 50,
                    0.0,
                ],
            ),
            (([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], [0, 0, 1]), {}, [0.0, 0.0, 0.0]),
            ((SAME, [0, 1, 2, 3]), {}, [0.0] * 4),
            ((SAME, [0, 0, 0, 0]), {}, [0.0] * 4),
            (
                ([[0.0, 0.0]] * 3, [0, 0, 1]),
                {"epsilon": None},
                [math.log1p(math.e) / 2 + math.log1p(math.exp(-25)) / 50] * 2 + [math.log1p(2 * math.exp(-25)) / 50],
            ),
            (([[0.0, 1e20], [1e20, 0.0], [1e20, 1e20]], [0, 0, 0]), {}, [0.0] * 3),
        ],
        free=("base",),
        lean=False,
    ),
    Case(
        jaxloss.circle_loss,
        circle,
        labelled,
        [{"gamma": 4.0}, {}, {"margin": 0.25, "gamma": 8.0}],
        event=1,
        among=0,
        hard=[
            (
                ([[1.0, 0.0], [0.0, 3.0], [0.0, 2.0]], [0, 0, 1]),
                {"margin": 0.25, "gamma": 16.0},
                [
                    16 * (1.25 * 0.75 - 0.0625) + math.log1p(math.exp(-16 * (1.25 * 0.75 - 0.0625))),
                    16 * 1.25 * 1.5,
                    0.0,
                ],
            ),
            ((SAME, [0, 1, 2, 3]), {}, [0.0] * 4),
            ((SAME, [0, 0, 0, 0]), {}, [0.0] * 4),
            (
                ([[1.0, 0.0], [2.0, 0.0], [-3.0, 0.0]], [0, 0, 1]),
                {"margin": 0.25, "gamma": 16.0},
                [math.log1p(math.exp(-16 * 0.0625))] * 2 + [0.0],
            ),
            (([[0.0, 0.0]] * 3, [0, 0, 1]), {"margin": 0.5, "gamma": 4.0}, [math.log1p(math.exp(3 - 1))] * 2 + [0.0]),
        ],
        lean=False,
    ),
    Case(
        jaxloss.arcface_loss,
        arcface,
        cosines_and_classes,
        [{}, {"easy_margin": True}, {"margin": np.array([0.3, 0.4, 0.5]), "scale": np.array([4.0, 8.0, 6.0])}],
        event=1,
        hard=[
            (([[1.0, -1.0]], [0]), {"scale": 4.0}, [math.log1p(math.exp(-4 - 4 * math.cos(np.float32(0.5))))]),
            (([[1.0, -1.0]], [1]), {"scale": 4.0}, [8 + 2 * math.sin(0.5) + math.log1p(math.exp(-8 - 2 * math.sin(0.5)))]),
            (([[0.0, 1.0]], [1]), {"margin": 0.0}, [math.log1p(math.exp(-64.0))]),
            (([[1.0000001, 0.0]], [0]), {"margin": 0.0, "scale": 1.0}, [math.log1p(math.exp(-1 - 2.0**-23))]),
            (([[0.5]], [0]), {}, [0.0]),
        ],
    ),
]
