"""Sequences: CTC, the transducer, soft-DTW."""

from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxloss
from cases.case import Case, inf


def frames_and_labels(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Three sequences of five frames: a repetition, padding at the end, and padding between."""
    paddings = np.zeros((3, 5), bool)
    paddings[1, 4] = paddings[2, 2] = True
    labels = np.array([[1, 1], [2, 1], [3, 0]])
    return rng.normal(size=(3, 5, 4)), paddings, labels, np.array([[False, False], [False, False], [False, True]])


def ctc(logits: Any, logit_paddings: Any, labels: Any, label_paddings: Any) -> Any:
    """Graves's recursion over blanks and labels in turn, on probabilities, by the matrix of the moves allowed."""
    batch, frames, _ = logits.shape
    blanks = jnp.zeros_like(labels)
    states = jnp.concatenate([jnp.stack([blanks, labels], axis=-1).reshape(batch, -1), blanks[:, :1]], axis=1)
    i, j = jnp.arange(states.shape[1])[:, None], jnp.arange(states.shape[1])
    differs = states[:, :, None] != states[:, None, :]
    moves = (i == j) | (i == j + 1) | ((i == j + 2) & (i % 2 == 1) & differs)  # to i from j
    p = jnp.exp(logits) / jnp.sum(jnp.exp(logits), axis=-1, keepdims=True)
    p = jnp.take_along_axis(p, states[:, None, :], axis=2)
    mass = jnp.where(j < 2, 1.0, 0.0) * jnp.ones((batch, 1))
    started = jnp.zeros((batch, 1), bool)
    for t in range(frames):
        arrived = jnp.where(started, jnp.einsum("bij,bj->bi", moves, mass), mass)
        live = ~logit_paddings[:, t, None]
        mass, started = jnp.where(live, arrived * p[:, t], mass), started | live
    last = 2 * jnp.sum(~label_paddings, axis=1)[:, None]
    ends = jnp.where((j == last) | (j == last - 1), mass, 0)
    return -jnp.log(jnp.sum(ends, axis=1))


def one(logits: Any, labels: Any) -> Any:
    """The arguments for one sequence without padding."""
    logits, labels = np.asarray([logits], float), np.asarray([labels], int)
    return logits, np.zeros(logits.shape[:2], bool), labels, np.zeros(labels.shape, bool)


def nodes_and_labels(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return rng.normal(size=(3, 4, 3, 4)), np.array([4, 3, 1]), np.array([[1, 2], [3, 3], [1, 1]]), np.array([2, 1, 0])


def transducer(logits: Any, logit_lengths: Any, labels: Any, label_lengths: Any) -> Any:
    """The recursion over nodes on probabilities, one node at a time."""
    batch, frames, nodes, _ = logits.shape
    p = jnp.exp(logits) / jnp.sum(jnp.exp(logits), axis=-1, keepdims=True)
    rows = jnp.arange(batch)
    mass = {(0, 0): jnp.ones(batch)}
    for t in range(frames):
        for u in range(nodes):
            if t > 0:
                mass[t, u] = mass.get((t, u), 0) + mass[t - 1, u] * p[:, t - 1, u, 0]
            if u > 0:
                mass[t, u] = mass.get((t, u), 0) + mass[t, u - 1] * p[rows, t, u - 1, labels[:, u - 1]]
    ended = jnp.stack([jnp.stack([mass[t, u] * p[:, t, u, 0] for u in range(nodes)]) for t in range(frames)])
    return -jnp.log(ended[logit_lengths - 1, label_lengths, rows])


def two_series(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return rng.normal(size=(3, 4, 2)), rng.normal(size=(3, 3, 2))


def soft_dtw(x: Any, y: Any, gamma: Any = 1.0) -> Any:
    """The recursion of soft minima, one pair at a time."""
    costs = jnp.sum((x[:, :, None] - y[:, None]) ** 2, axis=-1)
    far = jnp.full(len(x), jnp.inf)
    r = {(-1, -1): jnp.zeros(len(x))}
    for i in range(x.shape[1]):
        for j in range(y.shape[1]):
            steps = [r[k] for k in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if k in r] or [far]
            r[i, j] = costs[:, i, j] - gamma * jnp.log(sum(jnp.exp(-step / gamma) for step in steps))
    return r[x.shape[1] - 1, y.shape[1] - 1]


def soft_dtw_divergence(x: Any, y: Any, gamma: Any = 1.0) -> Any:
    return soft_dtw(x, y, gamma) - (soft_dtw(x, x, gamma) + soft_dtw(y, y, gamma)) / 2


CASES = [
    Case(
        jaxloss.ctc_loss,
        ctc,
        frames_and_labels,
        event=2,
        batched=4,
        lean=False,
        ulps=8,
        hard=[
            (one([[0.0, 0.0]], [1]), {}, [np.log(2.0)]),
            (one([[0.0, 0.0]], [1, 1]), {}, [inf]),  # too few frames
            (one([[0.0, 0.0]] * 2, [1, 1]), {}, [inf]),  # a blank must stand between
            (one([[0.0, -inf]] * 2, [1]), {}, [inf]),
            (one([[0.0, -inf], [-inf, 0.0]], [1]), {}, [0.0]),
            (one([[0.0, 0.0, 0.0]] * 3, []), {}, [3 * np.log(3.0)]),
            (one(np.zeros((0, 2)), []), {}, [0.0]),
            (one(np.zeros((0, 2)), [1]), {}, [inf]),
            (one([[1e4, 0.0]] * 3, [1]), {}, [1e4 - np.log(3.0)]),
            ((np.zeros((0, 3, 2)), np.zeros((0, 3), bool), np.zeros((0, 1), int), np.zeros((0, 1), bool)), {}, []),
        ],
    ),
    Case(
        jaxloss.transducer_loss,
        transducer,
        nodes_and_labels,
        event=3,
        batched=4,
        lean=False,
        ulps=8,
        hard=[
            ((np.zeros((1, 2, 2, 4)), [2], [[1]], [1]), {}, [-np.log(2 / 64)]),
            ((np.zeros((1, 1, 1, 3)), [1], np.zeros((1, 0), int), [0]), {}, [np.log(3.0)]),
            (([[[[0.0, -inf], [0.0, 0.0]]]], [1], [[1]], [1]), {}, [inf]),
            (([[[[-inf, 0.0], [0.0, -inf]]]], [1], [[1]], [1]), {}, [0.0]),
            ((np.zeros((2, 0, 2, 3)), [0, 0], [[1], [1]], [0, 1]), {}, [0.0, inf]),
            ((np.zeros((0, 2, 2, 3)), np.zeros(0, int), np.zeros((0, 1), int), np.zeros(0, int)), {}, []),
        ],
    ),
    Case(
        jaxloss.soft_dtw_loss,
        soft_dtw,
        two_series,
        [{}, {"gamma": 0.3}],
        event=2,
        lean=False,
        ulps=8,
        arguments=(0, 1),
        hard=[
            (([[[0.0], [0.0], [1.0], [2.0]]], [[[0.0], [1.0], [2.0]]]), {"gamma": 1e-3}, [0.0]),
            (([[[0.0], [3.0]]], [[[1.0], [3.0]]]), {"gamma": 1e-3}, [1.0]),
            (([[[5.0]]], [[[2.0]]]), {}, [9.0]),
            (([[[0.0], [0.0]]], [[[0.0], [0.0]]]), {}, [-np.log(3.0)]),
            (([[[1e4], [0.0]]], [[[0.0], [0.0]]]), {}, [1e8 - np.log(2.0)]),
            ((np.zeros((0, 3, 2)), np.zeros((0, 2, 2))), {}, []),
        ],
    ),
    Case(
        jaxloss.soft_dtw_divergence,
        soft_dtw_divergence,
        two_series,
        [{}, {"gamma": 2.0}],
        event=2,
        lean=False,
        ulps=8,
        arguments=(0, 1),
        hard=[
            (([[[0.0], [1.0], [4.0]]], [[[0.0], [1.0], [4.0]]]), {}, [0.0]),
            (([[[5.0]]], [[[2.0]]]), {}, [9.0]),
        ],
    ),
]
