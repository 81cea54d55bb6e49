"""Reads strings of handwritten digits with CTC: nobody says where in the columns of pixels a digit stands.

Run it as `python examples/read_digits.py`: it trains a small recurrent network with optax, prints the share of strings
that it reads wrong, and saves a picture of the alignment in out/.
"""

from pathlib import Path
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


def train(key: jax.Array, rng: np.random.Generator, images: Any, names: Any) -> tuple[Any, Any, jax.Array]:
    """The parameters before and after training, and the loss at each step."""
    batches = jax.tree.map(lambda *x: jnp.stack(x), *[strings(rng, images, names, BATCH) for _ in range(STEPS)])
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(1e-2, STEPS)))

    def objective(parameters: Any, columns: Any, labels: Any, paddings: Any) -> Any:
        losses = jaxloss.ctc_loss(network(parameters, columns), frames_of(paddings), labels, paddings, blank_id=BLANK)
        return jaxloss.mean(losses)

    def step(carry: Any, batch: Any) -> Any:
        parameters, state = carry
        loss, slope = jax.value_and_grad(objective)(parameters, *batch)
        updates, state = optimizer.update(slope, state)
        return (optax.apply_updates(parameters, updates), state), loss

    start = initial(key)
    (parameters, _), losses = jax.jit(lambda c, b: jax.lax.scan(step, c, b))((start, optimizer.init(start)), batches)
    return start, parameters, losses


def frames_of(paddings: Any) -> Any:
    """The padding of the columns, eight a digit."""
    return jnp.repeat(jnp.asarray(paddings), 8, axis=1)


def error_rate(logits: jax.Array, labels: Any, paddings: Any) -> float:
    """The share of strings that greedy decoding does not read right, as a whole."""
    said, silent = jaxloss.ctc_greedy_decode(logits, frames_of(paddings), blank_id=BLANK)
    wanted = np.where(paddings, -1, labels)
    right = np.all(np.where(silent, -1, said)[:, :DIGITS] == wanted, axis=1) & (np.sum(~silent, axis=1) <= DIGITS)
    return float(1 - np.mean(right))


def data(rng: np.random.Generator) -> tuple[tuple[Any, Any], ...]:
    """Digits to learn from, and digits to judge by."""
    digits = load_digits()
    order = rng.permutation(len(digits.target))
    return tuple((digits.images[i] / 16, digits.target[i]) for i in (order[:1400], order[1400:]))


def main() -> None:
    import plots

    out = Path("out")
    out.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    seen, unseen = data(rng)
    start, parameters, losses = train(jax.random.key(0), rng, *seen)
    columns, labels, paddings = strings(rng, *unseen, 400)
    logits = jax.jit(network)(parameters, columns)
    print(f"CTC loss: {losses[0]:.1f} at the first step, {losses[-1]:.3f} at the last")
    for name, of in (("untrained", network(start, columns)), ("trained", logits)):
        print(f"strings read wrong, {name}: {error_rate(of, labels, paddings):.1%}")
    alignment = jaxloss.ctc_forced_alignment(logits, frames_of(paddings), labels, paddings, blank_id=BLANK)
    longest = np.flatnonzero(~paddings[:, -1])[:2]
    path = plots.alignments(out / "alignment.png", columns[longest], logits[longest], labels[longest], alignment[longest])
    print("Picture:", path)


if __name__ == "__main__":
    main()
