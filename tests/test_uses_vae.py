"""A real use: a variational autoencoder of the digits, judged by its bound on images that it has not seen."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

import jaxloss

LATENTS, HIDDEN, EPOCHS, BATCH = 8, 128, 40, 100


@functools.cache
def digits() -> tuple[jax.Array, jax.Array]:
    """Black and white images of 8 × 8 pixels, in random order: 1,400 to learn from and 397 to judge by."""
    images = np.random.default_rng(0).permutation(load_digits().data >= 8).astype(np.float32)
    return jnp.asarray(images[:1400]), jnp.asarray(images[1400:])


def initial(key: jax.Array) -> Any:
    sizes = {"encode": (64, HIDDEN), "latents": (HIDDEN, 2 * LATENTS), "decode": (LATENTS, HIDDEN), "pixels": (HIDDEN, 64)}
    keys = jax.random.split(key, len(sizes))
    layers = zip(keys, sizes.items(), strict=True)
    return {name: (jax.random.normal(k, size) / np.sqrt(size[0]), jnp.zeros(size[1])) for k, (name, size) in layers}


def network(parameters: Any, images: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Means and log-variances of the latents, and the logits of the pixels for one sample of them."""

    def layer(name: str, x: jax.Array) -> jax.Array:
        weight, bias = parameters[name]
        return x @ weight + bias

    means, log_variances = jnp.split(layer("latents", jax.nn.relu(layer("encode", images))), 2, axis=-1)
    latents = means + jnp.exp(log_variances / 2) * jax.random.normal(key, means.shape)
    return means, log_variances, layer("pixels", jax.nn.relu(layer("decode", latents)))


def losses(parameters: Any, images: jax.Array, key: jax.Array, **options: Any) -> jax.Array:
    means, log_variances, logits = network(parameters, images, key)
    reconstruction = jnp.sum(jaxloss.sigmoid_binary_cross_entropy(logits, images), axis=-1)
    return jaxloss.negative_elbo(reconstruction, jaxloss.gaussian_kl_divergence(means, log_variances), **options)


def textbook_bound(parameters: Any, images: jax.Array, key: jax.Array) -> jax.Array:
    """The mean negative ELBO without jaxloss: the loss is not its own judge."""
    means, log_variances, logits = network(parameters, images, key)
    shown = jax.nn.sigmoid(jnp.where(images > 0, logits, -logits))
    divergence = 0.5 * jnp.sum(means**2 + jnp.exp(log_variances) - 1 - log_variances, axis=-1)
    return jnp.mean(divergence - jnp.sum(jnp.log(jnp.maximum(shown, 1e-30)), axis=-1))


@functools.cache
def held_out(beta: float, free_bits: float) -> float:
    """The mean negative ELBO of unseen images, in nats, of a model trained with the given options."""
    train, test = digits()
    optimizer = optax.adam(2e-3)

    def step(state: Any, batch: Any) -> Any:
        parameters, moments = state
        images, key = batch
        gradient = jax.grad(lambda p: jaxloss.mean(losses(p, images, key, beta=beta, free_bits=free_bits)))(parameters)
        updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(parameters, updates), moments), None

    def epoch(state: Any, key: jax.Array) -> Any:
        order, noise = jax.random.split(key)
        batches = jax.random.permutation(order, train).reshape(-1, BATCH, 64)
        return jax.lax.scan(step, state, (batches, jax.random.split(noise, len(batches))))

    start, run, judge = jax.random.split(jax.random.key(0), 3)
    parameters = initial(start)
    state = (parameters, optimizer.init(parameters))
    (parameters, _), _ = jax.jit(lambda state: jax.lax.scan(epoch, state, jax.random.split(run, EPOCHS)))(state)
    samples = jax.vmap(lambda key: textbook_bound(parameters, test, key))(jax.random.split(judge, 20))
    return float(jnp.mean(samples))


def mean_image() -> float:
    """The same of the best decoder that looks at no latents."""
    train, test = (np.asarray(x, np.float64) for x in digits())
    share = np.clip(np.mean(train, axis=0), 1e-3, 1 - 1e-3)
    return float(-np.mean(np.sum(np.log(np.where(test > 0, share, 1 - share)), axis=-1)))


@pytest.mark.exhaustive
def test_it_learns() -> None:
    assert held_out(1.0, 0.0) < mean_image() - 5


def test_the_divergence_is_needed() -> None:
    """Trained to reconstruct alone, the model pays for latents far from the prior."""
    assert held_out(1.0, 0.0) < held_out(0.0, 0.0) - 10


def test_free_bits_cost_little() -> None:
    assert held_out(1.0, 0.25) < mean_image() - 5
