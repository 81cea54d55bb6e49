"""Contrastive losses."""

from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxloss
from cases.case import Case

# --- Draws ----------------------------------------------------------------------------------------------------------


def labelled(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(8, 4)), np.array([0, 0, 1, 1, 0, 2, 1, 0])


def two_views(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=(6, 4))
    return x, 0.7 * x + 0.7 * rng.normal(size=(6, 4))


NEGATIVES = np.random.default_rng(1).normal(size=(3, 4))

# --- Naive formulas -------------------------------------------------------------------------------------------------


def unit(x: Any) -> Any:
    return x / jnp.sqrt(jnp.sum(x * x, axis=-1, keepdims=True))


def by_labels(x: Any, labels: Any, temperature: Any) -> tuple[Any, Any, Any]:
    s = unit(x) @ unit(x).T / temperature
    same = labels[:, None] == labels
    return s, same & ~jnp.eye(len(labels), dtype=bool), ~same


def mean_over(x: Any, chosen: Any) -> Any:
    return jnp.sum(jnp.where(chosen, x, 0), axis=1) / jnp.maximum(jnp.sum(chosen, axis=1), 1)


def ntxent(x: Any, labels: Any, temperature: Any = 0.07, block_size: Any = None) -> Any:
    s, positive, negative = by_labels(x, labels, temperature)
    others = jnp.sum(jnp.where(negative, jnp.exp(s), 0), axis=1, keepdims=True)
    return mean_over(jnp.log(jnp.exp(s) + others) - s, positive)


def supervised(x: Any, labels: Any, temperature: Any = 0.1, block_size: Any = None) -> Any:
    s, positive, negative = by_labels(x, labels, temperature)
    every = jnp.sum(jnp.where(positive | negative, jnp.exp(s), 0), axis=1, keepdims=True)
    return mean_over(jnp.log(every) - s, positive)


def info_nce(
    a: Any, p: Any, negatives: Any = None, temperature: Any = 1.0, normalize: bool = False, block_size: Any = None
) -> Any:
    every = p if negatives is None else jnp.concatenate([p, negatives])
    if normalize:
        a, every = unit(a), unit(every)
    s = a @ every.T / temperature
    return jnp.log(jnp.sum(jnp.exp(s), axis=1)) - jnp.diagonal(s)


def clip(x: Any, y: Any, temperature: Any = 0.07, block_size: Any = None) -> Any:
    return 0.5 * (info_nce(x, y, None, temperature, True) + info_nce(y, x, None, temperature, True))


def siglip(x: Any, y: Any, logit_scale: Any = 10.0, logit_bias: Any = -10.0, block_size: Any = None) -> Any:
    score = unit(x) @ unit(y).T * logit_scale + logit_bias
    sign = 2 * jnp.eye(x.shape[0]) - 1
    return jnp.sum(jnp.log(1 + jnp.exp(-sign * score)), axis=1)


# --- Rows -----------------------------------------------------------------------------------------------------------

PAIRS = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
TWO_AND_TWO = [0, 0, 1, 1]
EYE = [[1.0, 0.0], [0.0, 1.0]]
ZEROS = [[0.0, 0.0], [0.0, 0.0]]
BIG_AND_SMALL = [[1e18, 0.0], [1e-12, 0.0], [0.0, 1e-12], [0.0, 1e18]]

# log(1 + 2 e^(−1/t)) for the temperatures 0.5, 0.05 and 0.001, and for a zero vector.
FAR = {0.5: 0.2395447662218846, 0.05: 4.122307236387634e-09, 0.001: 0.0}
LOG_3 = 1.0986122886681098

BY_LABELS = [
    *(((PAIRS, TWO_AND_TWO), {"temperature": t}, [loss] * 4) for t, loss in FAR.items()),
    ((PAIRS, TWO_AND_TWO), {"temperature": 0.05, "block_size": 3}, [FAR[0.05]] * 4),
    ((PAIRS, [0, 1, 2, 3]), {}, [0.0] * 4),  # no positive
    (([[1.0, 2.0]], [0]), {}, [0.0]),
    ((BIG_AND_SMALL, TWO_AND_TWO), {"temperature": 0.5}, [FAR[0.5]] * 4),
    (([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], TWO_AND_TWO), {"temperature": 0.05}, [LOG_3] * 2 + [FAR[0.05]] * 2),
]

CASES = [
    Case(
        jaxloss.ntxent,
        ntxent,
        labelled,
        [{}, {"temperature": 0.5}, {"temperature": 0.4, "block_size": 3}],
        event=1,
        among=0,
        hard=[*BY_LABELS, ((PAIRS, [5] * 4), {}, [0.0] * 4)],  # no negative
    ),
    Case(
        jaxloss.supervised_contrastive_loss,
        supervised,
        labelled,
        [{}, {"temperature": 0.5}, {"temperature": 0.4, "block_size": 3}],
        event=1,
        among=0,
        hard=[*BY_LABELS, (([[1.0, 0.0]] * 4, [5] * 4), {}, [LOG_3] * 4)],  # no negative
    ),
    Case(
        jaxloss.info_nce_loss,
        info_nce,
        two_views,
        [{}, {"normalize": True}, {"negatives": NEGATIVES, "temperature": 0.7, "normalize": True, "block_size": 3}],
        event=1,
        among=0,
        free=("negatives",),
        arguments=(0, 1),
        # log(1 + e^−20), log(1 + e^−50) and 50
        hard=[
            (([[20.0, 0.0], [0.0, 50.0]], EYE), {}, [2.0611536203e-09, 1.9287498479639178e-22]),
            (([[0.0, 50.0], [50.0, 0.0]], EYE), {}, [50.0, 50.0]),
            (([[1e4, 0.0], [0.0, 1.0]], EYE), {"temperature": 0.001}, [0.0, 0.0]),
            ((ZEROS, ZEROS), {"normalize": True, "temperature": 0.001}, [0.6931471805599453] * 2),
            (([[1.0, 2.0]], [[3.0, 4.0]]), {}, [0.0]),
            ((EYE, EYE), {"negatives": np.zeros((0, 2), np.float32), "temperature": 0.05}, [2.0611536203e-09] * 2),
        ],
    ),
    Case(
        jaxloss.clip_loss,
        clip,
        two_views,
        [{}, {"temperature": 0.5}, {"temperature": 0.4, "block_size": 3}],
        event=1,
        among=0,
        arguments=(0, 1),
        hard=[
            ((EYE, EYE), {"temperature": 0.05}, [2.0611536203e-09] * 2),
            ((EYE, EYE), {"temperature": 0.001, "block_size": 1}, [0.0] * 2),
            ((EYE, EYE[::-1]), {"temperature": 0.001}, [1000.0] * 2),
            ((ZEROS, EYE), {}, [0.6931471805599453] * 2),
            (([[1e18, 0.0], [0.0, 1e-12]], EYE), {"temperature": 0.05}, [2.0611536203e-09] * 2),
            (([[1.0, 2.0]], [[3.0, 4.0]]), {}, [0.0]),
        ],
    ),
    Case(
        jaxloss.siglip_loss,
        siglip,
        two_views,
        [{}, {"logit_bias": -1.0}, {"logit_scale": 3.0, "logit_bias": -1.0, "block_size": 3}],
        event=1,
        among=0,
        arguments=(0, 1),
        free=("logit_bias",),
        hard=[
            # log(1 + e^−20) + log(1 + e^−20), 2 log 2 and 100 + 100
            ((EYE, EYE), {"logit_scale": 40.0, "logit_bias": -20.0}, [4.1223072406e-09] * 2),
            ((ZEROS, EYE), {"logit_bias": 0.0}, [1.3862943611198906] * 2),
            ((EYE, EYE[::-1]), {"logit_scale": 200.0, "logit_bias": -100.0, "block_size": 1}, [200.0] * 2),
            (([[1e18, 0.0], [0.0, 1e-12]], EYE), {"logit_scale": 40.0, "logit_bias": -20.0}, [4.1223072406e-09] * 2),
        ],
    ),
]
