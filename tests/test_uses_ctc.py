"""A real use: strings of handwritten digits, side by side as columns of pixels, read by a small recurrent network."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxloss

DIGITS, HIDDEN, STEPS, BATCH = 4, 48, 500, 64
BLANK = 10


def strings(rng: np.random.Generator, images: Any, names: Any, count: int) -> tuple[Any, Any, Any]:
    """Columns [count, frames, 8] with 2 to 4 digits each, the labels, and the paddings of labels: frames are 8 a digit."""
    which = rng.integers(0, len(images), size=(count, DIGITS))
    lengths = rng.integers(2, DIGITS + 1, size=count)
    there = np.arange(DIGITS) < lengths[:, None]
    pixels = np.where(there[..., None, None], images[which], 0)
    columns = np.moveaxis(pixels, 2, 3).reshape(count, 8 * DIGITS, 8)  # column by column
    return columns.astype(np.float32), names[which], ~there


def initial(key: jax.Array) -> Any:
    keys = jax.random.split(key, 5)

    def matrix(k: jax.Array, rows: int, columns: int) -> jax.Array:
        return jax.random.normal(k, (rows, columns)) / np.sqrt(rows)

    cells = [{"in": matrix(k, 8, 3 * HIDDEN), "on": matrix(j, HIDDEN, 3 * HIDDEN)} for k, j in (keys[:2], keys[2:4])]
    return {"cells": cells, "out": matrix(keys[4], 2 * HIDDEN, 11), "bias": jnp.zeros(11)}


def network(parameters: Any, columns: jax.Array) -> jax.Array:
    """A gated recurrent layer in each direction, and the logits of the ten digits and blank at each column."""

    def run(cell: Any, x: jax.Array, reverse: bool) -> jax.Array:
        def step(h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            given, kept = jnp.split(x @ cell["in"], 3, axis=-1), jnp.split(h @ cell["on"], 3, axis=-1)
            forget, reset = jax.nn.sigmoid(given[0] + kept[0]), jax.nn.sigmoid(given[1] + kept[1])
            h = forget * h + (1 - forget) * jnp.tanh(given[2] + reset * kept[2])
            return h, h

        return jax.lax.scan(step, jnp.zeros((x.shape[1], HIDDEN)), x, reverse=reverse)[1]

    x = jnp.swapaxes(columns, 0, 1)
    both = [run(cell, x, reverse) for cell, reverse in zip(parameters["cells"], (False, True), strict=True)]
    return jnp.swapaxes(jnp.concatenate(both, axis=-1) @ parameters["out"] + parameters["bias"], 0, 1)


def test_strings_of_digits_are_read() -> None:
    """Sequence error rate below 10 % on digits that were not seen in training, and alignments in the right place."""
    data = load_digits()
    images, names = data.images / 16, data.target
    rng = np.random.default_rng(0)
    order = rng.permutation(len(images))
    seen, unseen = order[:1400], order[1400:]
    batches = [strings(rng, images[seen], names[seen], BATCH) for _ in range(STEPS)]
    batches = jax.tree.map(lambda *x: jnp.stack(x), *batches)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(1e-2, STEPS)))

    def objective(parameters: Any, columns: Any, labels: Any, paddings: Any) -> Any:
        frames = jnp.repeat(paddings, 8, axis=1)
        return jaxloss.mean(jaxloss.ctc_loss(network(parameters, columns), frames, labels, paddings, blank_id=BLANK))

    def step(carry: Any, batch: Any) -> Any:
        parameters, state = carry
        loss, slope = jax.value_and_grad(objective)(parameters, *batch)
        updates, state = optimizer.update(slope, state)
        return (optax.apply_updates(parameters, updates), state), loss

    start = initial(jax.random.key(0))
    (parameters, _), losses = jax.jit(lambda c, b: jax.lax.scan(step, c, b))((start, optimizer.init(start)), batches)

    columns, labels, paddings = strings(rng, images[unseen], names[unseen], 400)
    frames = np.repeat(paddings, 8, axis=1)
    logits = jax.jit(network)(parameters, columns)

    def error_rate(logits: Any) -> float:
        said, silent = jaxloss.ctc_greedy_decode(logits, frames, blank_id=BLANK)
        said = np.where(silent, -1, said)[:, :DIGITS], np.sum(~np.asarray(silent), axis=1)
        right = np.all(said[0] == np.where(paddings, -1, labels), axis=1) & (said[1] <= DIGITS)
        return float(1 - np.mean(right))

    assert error_rate(network(start, columns)) > 0.95
    assert losses[-1] < 0.1 * losses[0]
    assert error_rate(logits) < 0.1
    alignment = np.asarray(jaxloss.ctc_forced_alignment(logits, frames, labels, paddings, blank_id=BLANK))
    column = np.broadcast_to(np.arange(frames.shape[1]), alignment.shape)
    spoken = alignment >= 0
    # Each digit is said near where it stands: within its own eight columns or those around.
    assert np.mean(np.abs(column[spoken] // 8 - alignment[spoken]) <= 1) > 0.99
