"""Real use: an embedding of the digits in three dimensions, learned with ntxent and judged by nearest neighbours."""

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

import jaxloss


def embed(weights, images):
    hidden = jnp.tanh(images @ weights[0])
    return hidden @ weights[1]


def neighbours(weights, images, labels):
    """How many of the last digits have the class of the nearest of the first, by cosine."""
    vectors = embed(weights, images)
    vectors = vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)
    judge = KNeighborsClassifier(n_neighbors=1).fit(vectors[:1000], labels[:1000])
    return judge.score(vectors[1000:], labels[1000:])


def test_ntxent_learns_the_digits():
    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.asarray(images, jnp.float32) / 8 - 1, jnp.asarray(labels)
    first, second = jax.random.split(jax.random.key(0))
    weights = [0.1 * jax.random.normal(first, (64, 64)), 0.1 * jax.random.normal(second, (64, 3))]
    before = neighbours(weights, images, labels)

    def loss(weights, images, labels):
        return jnp.mean(jaxloss.ntxent(embed(weights, images), labels, temperature=0.2))

    optimizer = optax.adam(0.01)
    state = optimizer.init(weights)

    @jax.jit
    def step(carry, images, labels):
        weights, state = carry
        updates, state = optimizer.update(jax.grad(loss)(weights, images, labels), state)
        return optax.apply_updates(weights, updates), state

    for i in range(100):
        some = jax.random.randint(jax.random.key(i), (300,), 0, 1000)
        weights, state = step((weights, state), images[some], labels[some])
    after = neighbours(weights, images, labels)
    assert before < 0.5
    assert after > 0.85  # 0.91; a loss of the wrong sign or of other labels stays below 0.4
