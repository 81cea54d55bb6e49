"""A real use: an embedding of scikit-learn's digits, judged by whether the nearest neighbour is of the same digit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn import datasets, neighbors

import jaxloss

DIM = 4  # so few that an untrained network mixes the digits
STEPS, BATCH = 300, 100

# Functions of a batch of embeddings and its labels.
LOSSES = {
    "batch_hard_triplet": jaxloss.batch_hard_triplet_loss,
    "triplet_margin": lambda x, labels: jaxloss.triplet_margin_loss(*triplets(x, labels)),
}


def triplets(x: Any, labels: Any) -> tuple[Any, Any, Any]:
    """Each example with the next one of its digit, and with the next of another: in a shuffled batch, any of them."""
    later = (jnp.arange(len(x)) - jnp.arange(len(x))[:, None]) % len(x)
    same = labels[:, None] == labels
    positive = jnp.argmin(jnp.where(same & (later > 0), later, len(x)), axis=-1)
    negative = jnp.argmin(jnp.where(same, len(x), later), axis=-1)
    return x, x[positive], x[negative]


def digits() -> tuple[np.ndarray, ...]:
    pixels, labels = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    pixels, labels = (pixels[order] / 16).astype(np.float32), labels[order]
    return pixels[:1200], labels[:1200], pixels[1200:], labels[1200:]


def initial(key: Any) -> list[Any]:
    sizes = (64, 128, DIM)
    keys = jax.random.split(key, len(sizes) - 1)
    return [jax.random.normal(k, (m, n)) / np.sqrt(m) for k, m, n in zip(keys, sizes, sizes[1:], strict=False)]


def embed(weights: list[Any], pixels: Any) -> Any:
    return jax.nn.relu(pixels @ weights[0]) @ weights[1]


def neighbours_agree(train: Any, train_labels: Any, test: Any, test_labels: Any) -> float:
    return neighbors.KNeighborsClassifier(5).fit(train, train_labels).score(test, test_labels)


def trained(loss: Any, weights: list[Any], pixels: Any, labels: Any) -> list[Any]:
    optimizer = optax.adam(3e-3)

    def step(carry: Any, key: Any) -> Any:
        weights, state = carry
        batch = jax.random.choice(key, len(pixels), (BATCH,), replace=False)

        def mean(weights: list[Any]) -> Any:
            return jnp.mean(loss(embed(weights, pixels[batch]), labels[batch]))

        updates, state = optimizer.update(jax.grad(mean)(weights), state)
        return (optax.apply_updates(weights, updates), state), None

    @jax.jit
    def run(weights: list[Any], keys: Any) -> Any:
        return jax.lax.scan(step, (weights, optimizer.init(weights)), keys)[0][0]

    return run(weights, jax.random.split(jax.random.key(1), STEPS))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", LOSSES)
def test_neighbours_are_of_the_same_digit(name: str) -> None:
    pixels, labels, test_pixels, test_labels = map(np.asarray, digits())
    weights = initial(jax.random.key(0))
    before = neighbours_agree(embed(weights, pixels), labels, embed(weights, test_pixels), test_labels)
    weights = trained(LOSSES[name], weights, jnp.asarray(pixels), jnp.asarray(labels))
    after = neighbours_agree(embed(weights, pixels), labels, embed(weights, test_pixels), test_labels)
    assert before < 0.65  # 0.54; 0.98 of the pixels themselves
    assert after > 0.95  # 0.98
