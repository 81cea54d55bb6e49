"""A real use: generative adversarial networks learn a mixture of Gaussians in the plane."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxloss

CENTRES = 2 * jnp.stack([jnp.cos(jnp.arange(6) * jnp.pi / 3), jnp.sin(jnp.arange(6) * jnp.pi / 3)], axis=-1)
SPREAD, BATCH, WIDTH, NOISE = 0.2, 128, 48, 4


def data(key: Any, n: int) -> Any:
    """n points of the mixture: six clouds on a circle."""
    which, jitter = jax.random.split(key)
    return CENTRES[jax.random.randint(which, (n,), 0, len(CENTRES))] + SPREAD * jax.random.normal(jitter, (n, 2))


def layers(key: Any, *sizes: int) -> Any:
    shapes = list(itertools.pairwise(sizes))
    keys = jax.random.split(key, len(shapes))
    return [(jax.random.normal(k, s) * np.sqrt(2 / s[0]), jnp.zeros(s[1])) for k, s in zip(keys, shapes, strict=True)]


def network(parameters: Any, x: Any) -> Any:
    for w, b in parameters[:-1]:
        x = jax.nn.leaky_relu(x @ w + b, 0.2)
    w, b = parameters[-1]
    return x @ w + b


def score(critic: Any, x: Any) -> Any:
    return network(critic, x)[..., 0]


def least_squares_critic(critic: Any, real: Any, fake: Any, key: Any) -> Any:
    del key
    fit = jaxloss.gan_least_squares_discriminator_loss(score(critic, real), score(critic, fake))
    return jaxloss.mean(fit) + jaxloss.mean(jaxloss.r1_penalty(lambda x: score(critic, x), real, gamma=0.1))


def wasserstein_critic(critic: Any, real: Any, fake: Any, key: Any) -> Any:
    u = jax.random.uniform(key, (len(real), 1))
    penalty = jaxloss.gradient_penalty(lambda x: score(critic, x), u * real + (1 - u) * fake)
    return jaxloss.mean(jaxloss.gan_wasserstein_critic_loss(score(critic, real), score(critic, fake)) + penalty)


def train(
    of_critic: Callable[..., Any], of_generator: Callable[..., Any], critic_steps: int, steps: int, rate: float
) -> tuple[Any, Any]:
    """The points of the generator before and after training."""
    key = jax.random.key(0)
    start = {"generator": layers(key, NOISE, WIDTH, WIDTH, 2), "critic": layers(jax.random.key(1), 2, WIDTH, WIDTH, 1)}
    optimizer = optax.adam(rate, b1=0.5, b2=0.9)

    def generated(parameters: Any, key: Any, n: int = BATCH) -> Any:
        return network(parameters, jax.random.normal(key, (n, NOISE)))

    def step(state: Any, key: Any) -> Any:
        parameters, states = state

        def critic_step(critic_state: Any, key: Any) -> Any:
            critic, memory = critic_state
            a, b, c = jax.random.split(key, 3)
            slope = jax.grad(of_critic)(critic, data(a, BATCH), generated(parameters["generator"], b), c)
            updates, memory = optimizer.update(slope, memory)
            return (optax.apply_updates(critic, updates), memory), None

        key, last = jax.random.split(key)
        (critic, memory), _ = jax.lax.scan(
            critic_step, (parameters["critic"], states["critic"]), jax.random.split(key, critic_steps)
        )

        def fooled(generator: Any) -> Any:
            return jaxloss.mean(of_generator(score(critic, generated(generator, last))))

        slope = jax.grad(fooled)(parameters["generator"])
        updates, own = optimizer.update(slope, states["generator"])
        generator = optax.apply_updates(parameters["generator"], updates)
        return ({"generator": generator, "critic": critic}, {"generator": own, "critic": memory}), None

    @jax.jit
    def run(parameters: Any) -> Any:
        states = {k: optimizer.init(v) for k, v in parameters.items()}
        (parameters, _), _ = jax.lax.scan(step, (parameters, states), jax.random.split(jax.random.key(2), steps))
        return parameters

    at = jax.random.key(3)
    return generated(start["generator"], at, 1000), generated(run(start)["generator"], at, 1000)


def energy_distance(x: Any, y: Any) -> float:
    """2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖, by the pairs."""

    def mean_distance(a: Any, b: Any) -> Any:
        return jnp.mean(jnp.linalg.norm(a[:, None] - b[None], axis=-1))

    return float(2 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y))


def covered(x: Any) -> int:
    """How many clouds have a third of their share of the points within four of their spreads."""
    near = jnp.linalg.norm(x[:, None] - CENTRES, axis=-1) < 4 * SPREAD
    return int(jnp.sum(jnp.mean(near, axis=0) > 1 / 3 / len(CENTRES)))


# The losses, critic's steps a step of the generator, steps, rate of learning; and the clouds and the energy distance to
# reach. Least squares leaves out one cloud for some seeds, and which ones is a matter of rounding; a sign the wrong way
# round ends with none. Without its penalty the Wasserstein critic ends at 0.08 with four clouds, and a sign the wrong way
# round above 4 with none.
GAMES = {
    "least squares": ((least_squares_critic, jaxloss.gan_least_squares_generator_loss, 1, 1500, 2e-3), 5, 0.15),
    "Wasserstein": ((wasserstein_critic, jaxloss.gan_wasserstein_generator_loss, 5, 1000, 1e-3), 6, 0.05),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("game", GAMES)
def test_a_generator_learns_a_mixture(game: str) -> None:
    rules, clouds, distance = GAMES[game]
    before, after = train(*rules)
    truth = data(jax.random.key(4), 1000)
    assert covered(before) <= 3
    assert energy_distance(before, truth) > 0.5
    assert covered(after) >= clouds
    assert energy_distance(after, truth) < distance
