"""Ranking: losses of lists, whose items `where` selects."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxloss
from cases.case import Case, inf


def lists(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and grades of which several are the same."""
    return 2 * rng.normal(size=(3, 6)), rng.permuted(np.tile([0.0, 0.0, 1.0, 1.0, 2.0, 3.0], (3, 1)), axis=-1)


def untied_lists(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return 2 * rng.normal(size=(3, 6)), rng.permuted(np.tile(np.arange(6) / 2 + 0.5, (3, 1)), axis=-1)


def score_pairs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return 3 * rng.normal(size=(3, 4)), 3 * rng.normal(size=(3, 4))


def softmax(s: Any, y: Any, weights: Any = 1.0) -> Any:
    return -jnp.sum(weights * y * jax.nn.log_softmax(s, axis=-1), axis=-1)


def pairwise(of_lead: Any) -> Any:
    """The pairs of each list in a loop."""

    def naive(s: Any, y: Any) -> Any:
        total, count = 0.0, 0.0
        for i in range(s.shape[-1]):
            for j in range(s.shape[-1]):
                counts = y[..., i] > y[..., j]
                total = total + jnp.where(counts, of_lead(s[..., i] - s[..., j]), 0)
                count = count + counts
        return total / count

    return naive


def list_mle(s: Any, y: Any) -> Any:
    s = jnp.take_along_axis(s, jnp.argsort(-y, axis=-1, stable=True), axis=-1)
    return sum(jax.nn.logsumexp(s[..., i:], axis=-1) - s[..., i] for i in range(s.shape[-1]))


def approx_ndcg(s: Any, y: Any, temperature: Any = 1.0) -> Any:
    t = jnp.asarray(temperature)[..., None, None]
    rank = 0.5 + jnp.sum(jax.nn.sigmoid((s[..., None, :] - s[..., :, None]) / t), axis=-1)
    gain = 2**y - 1
    ideal = -jnp.sort(-gain, axis=-1) / jnp.log2(2.0 + jnp.arange(s.shape[-1]))
    return -jnp.sum(gain / jnp.log2(1 + rank), axis=-1) / jnp.sum(ideal, axis=-1)


CASES = [
    Case(
        jaxloss.ranking_softmax_loss,
        softmax,
        lists,
        [{}, {"weights": np.array([[0.5], [1.0], [2.0]])}],
        among=1,
        hard=[
            (([[20.0, 0.0, 0.0]], [[1.0, 0.0, 0.0]]), {}, [np.log1p(2 * np.exp(-20.0))]),
            (([[3.0, 1.0]], [[0.0, 0.0]]), {}, [0.0]),
            (([[5.0]], [[2.0]]), {}, [0.0]),
            (([[3.0, 3.0, 3.0]], [[0, 1, 2]]), {}, [3 * np.log(3.0)]),
            (([[1e4, 0.0]], [[0.0, 1.0]]), {}, [1e4]),
        ],
    ),
    Case(
        jaxloss.pairwise_logistic_loss,
        pairwise(lambda lead: jnp.log1p(jnp.exp(-lead))),
        lists,
        among=1,
        hard=[
            (([[20.0, 0.0, 0.0]], [[1.0, 0.0, 0.0]]), {}, [np.log1p(np.exp(-20.0))]),
            (([[0.0, 1e4], [0.0, 3e38]], [[1, 0], [2, 0]]), {}, [1e4, 3e38]),
            (([[3.0, 1.0], [2.0, 2.0]], [[1.0, 1.0], [0.0, 0.0]]), {}, [0.0, 0.0]),
            (([[5.0]], [[2.0]]), {}, [0.0]),
        ],
    ),
    Case(
        jaxloss.pairwise_hinge_loss,
        pairwise(lambda lead: jnp.maximum(0, 1 - lead)),
        lists,
        among=1,
        hard=[
            (([[1.0, 0.0], [0.0, 3e38]], [[1.0, 0.0], [1.0, 0.0]]), {}, [0.0, 3e38]),
            (([[3.0, 1.0], [2.0, 2.0]], [[1.0, 1.0], [0.0, 0.0]]), {}, [0.0, 0.0]),
            (([[5.0]], [[2.0]]), {}, [0.0]),
        ],
        second=False,
    ),
    Case(
        jaxloss.list_mle_loss,
        list_mle,
        lists,
        among=1,
        hard=[
            (([[40.0, 20.0, 0.0]], [[2, 1, 0]]), {}, [2 * np.log1p(np.exp(-20.0))]),
            (([[0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]), {}, [np.log(6.0)]),
            (([[0.0, 1e4]], [[1.0, 0.0]]), {}, [1e4]),
            (([[5.0]], [[2.0]]), {}, [0.0]),
        ],
    ),
    Case(
        jaxloss.approx_ndcg_loss,
        approx_ndcg,
        untied_lists,
        [{}, {"temperature": 0.5}, {"temperature": np.array([0.3, 0.7, 2.0])}],
        among=1,
        hard=[
            (([[1e4, 0.0, -1e4]], [[2, 1, 0]]), {}, [-1.0]),
            (([[0.0, 1.0]], [[1.0, 0.0]]), {"temperature": 1e-3}, [-1 / np.log2(3.0)]),
            (([[3.0, 1.0]], [[0.0, 0.0]]), {}, [0.0]),
            (([[5.0]], [[2.0]]), {}, [-1.0]),
        ],
    ),
    Case(
        jaxloss.bpr_loss,
        lambda p, n: -jnp.log(jax.nn.sigmoid(p - n)),
        score_pairs,
        hard=[
            (([0.0, 20.0, 104.0, -104.0], [0.0] * 4), {}, [np.log(2), np.log1p(np.exp(-20.0)), np.exp(-104.0), 104.0]),
            (([inf, -inf, 1e4], [0.0, 0.0, 2e4]), {}, [0.0, inf, 1e4]),
        ],
    ),
]
