"""Trains a language model twice, with full logits and without, to the same losses in a fraction of the memory.

The text is Python's own manual, as `help()` shows it; its words, spaces and signs are the vocabulary. The model is a gated
recurrent network whose head is its table of embeddings. Run it as `python examples/language_model.py`: it prints both
losses and the memory that a training step takes, and saves a picture in out/.
"""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxloss

DIM, LENGTH, BATCH, STEPS = 64, 64, 128, 60

Loss = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def text() -> tuple[np.ndarray, list[str]]:
    """The manual as numbers, and the words that they stand for, the most frequent first."""
    words = re.findall(r"\w+|\s+|[^\w\s]", "\n".join(topics[key] for key in sorted(topics)))
    vocabulary = [word for word, _ in Counter(words).most_common()]
    number = {word: i for i, word in enumerate(vocabulary)}
    return np.asarray([number[word] for word in words], np.int32), vocabulary


def batches(rng: np.random.Generator, numbers: np.ndarray, steps: int) -> np.ndarray:
    """[steps, BATCH, LENGTH + 1]: pieces of the text from anywhere in it."""
    starts = rng.integers(0, len(numbers) - LENGTH - 1, size=(steps, BATCH, 1))
    return numbers[starts + np.arange(LENGTH + 1)]


def initial(key: jax.Array, classes: int) -> Any:
    keys = jax.random.split(key, 3)
    shapes = {"embedding": (classes, DIM), "in": (DIM, 3 * DIM), "on": (DIM, 3 * DIM)}
    return {name: jax.random.normal(k, shape) / DIM**0.5 for k, (name, shape) in zip(keys, shapes.items(), strict=True)}


def hidden_states(parameters: Any, words: jax.Array) -> jax.Array:
    """[BATCH, LENGTH, DIM]: what the model has in mind after each word."""

    def step(h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        given, kept = jnp.split(x @ parameters["in"], 3, axis=-1), jnp.split(h @ parameters["on"], 3, axis=-1)
        forget, reset = jax.nn.sigmoid(given[0] + kept[0]), jax.nn.sigmoid(given[1] + kept[1])
        h = forget * h + (1 - forget) * jnp.tanh(given[2] + reset * kept[2])
        return h, h

    x = jnp.swapaxes(parameters["embedding"][words], 0, 1)
    return jnp.swapaxes(jax.lax.scan(step, jnp.zeros(x.shape[1:]), x)[1], 0, 1)


def full_logits(hidden: jax.Array, embedding: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(hidden @ embedding.T, labels))


def fused(hidden: jax.Array, embedding: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.mean(jaxloss.linear_softmax_cross_entropy(hidden, embedding, labels, vocab_first=True))


def train(loss: Loss, classes: int, data: np.ndarray) -> tuple[np.ndarray, int]:
    """The loss at each step, and the bytes that a step takes beside parameters and state."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))

    def objective(parameters: Any, words: jax.Array) -> jax.Array:
        return loss(hidden_states(parameters, words[:, :-1]), parameters["embedding"], words[:, 1:])

    def step(parameters: Any, state: Any, words: jax.Array) -> tuple[Any, Any, jax.Array]:
        value, slope = jax.value_and_grad(objective)(parameters, words)
        updates, state = optimizer.update(slope, state)
        return optax.apply_updates(parameters, updates), state, value

    parameters = initial(jax.random.key(0), classes)
    state = optimizer.init(parameters)
    compiled = jax.jit(step).lower(parameters, state, data[0]).compile()
    losses = []
    for words in data:
        parameters, state, value = compiled(parameters, state, words)
        losses.append(float(value))
    return np.asarray(losses), compiled.memory_analysis().temp_size_in_bytes


def main() -> None:
    import plots

    out = Path("out")
    out.mkdir(exist_ok=True)
    numbers, vocabulary = text()
    data = batches(np.random.default_rng(0), numbers, STEPS)
    print(f"{len(numbers):,} words, {len(vocabulary):,} of them different")
    runs = {"full logits, optax": full_logits, "linear_softmax_cross_entropy": fused}
    results = {name: train(loss, len(vocabulary), data) for name, loss in runs.items()}
    for name, (losses, memory) in results.items():
        print(f"{name}: {losses[0]:.4f} nats a word at the first step, {losses[-1]:.4f} at the last; {memory / 1e6:.1f} MB")
    print("Picture:", plots.losses_and_memory(out / "language_model.png", results))


if __name__ == "__main__":
    main()
