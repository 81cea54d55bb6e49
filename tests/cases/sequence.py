"""Sequences: CTC."""

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
]
