"""Adversarial losses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxloss
from cases.case import Case, inf


def fakes(rng: np.random.Generator) -> tuple[np.ndarray]:
    return (2 * rng.normal(size=(3, 4)),)


def pairs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return 2 * rng.normal(size=(3, 4)), 2 * rng.normal(size=(3, 4))


def log_d(z: Any) -> Any:
    return jnp.log(jax.nn.sigmoid(z))


# Scores and log(1 + e^z) of them: e^−104 is below what float32 holds.
SCORES = [0.0, 17.0, -17.0, 50.0, -50.0, 104.0, -104.0, 3e38, -3e38, inf, -inf]
SOFTPLUS = np.logaddexp(0, SCORES)

CASES = [
    Case(
        jaxloss.gan_minimax_discriminator_loss,
        lambda r, f: -log_d(r) - jnp.log(1 - jax.nn.sigmoid(f)),
        pairs,
        hard=[
            ((np.negative(SCORES), [-inf] * len(SCORES)), {}, SOFTPLUS),
            (([inf] * len(SCORES), SCORES), {}, SOFTPLUS),
            (([0.0, 20.0], [0.0, -20.0]), {}, [2 * np.log(2), 2 * np.log1p(np.exp(-20.0))]),
            ((np.zeros(0), np.zeros(0)), {}, np.zeros(0)),
        ],
        arguments=(0, 1),
    ),
    Case(
        jaxloss.gan_minimax_generator_loss,
        lambda f: jnp.log(1 - jax.nn.sigmoid(f)),
        fakes,
        hard=[((SCORES,), {}, -SOFTPLUS)],
        batched=1,
    ),
    Case(
        jaxloss.gan_non_saturating_generator_loss,
        lambda f: -log_d(f),
        fakes,
        hard=[((np.negative(SCORES),), {}, SOFTPLUS)],
        batched=1,
    ),
    Case(
        jaxloss.gan_least_squares_discriminator_loss,
        lambda r, f, real_label=1.0, fake_label=0.0: (r - real_label) ** 2 / 2 + (f - fake_label) ** 2 / 2,
        pairs,
        [{}, {"real_label": 0.9}, {"fake_label": -1.0}, {"real_label": np.linspace(0.5, 1, 4), "fake_label": -0.5}],
        hard=[
            (([1.0, 1.0, 1 + 2.0**-23, 1.0], [0.0, 1e-15, 0.0, 2e19]), {}, [0.0, 5e-31, 2.0**-47, 2e38]),
            ((np.zeros(0), np.zeros(0)), {}, np.zeros(0)),
        ],
        arguments=(0, 1),
        free=("real_label", "fake_label"),
    ),
    Case(
        jaxloss.gan_least_squares_generator_loss,
        lambda f, real_label=1.0: (f - real_label) ** 2 / 2,
        fakes,
        [{}, {"real_label": 0.0}, {"real_label": np.linspace(0.5, 1, 4)}],
        hard=[(([1.0, 1 + 2.0**-23, -2e19, inf],), {}, [0.0, 2.0**-47, 2e38, inf])],
        batched=1,
        free=("real_label",),
    ),
    Case(
        jaxloss.gan_wasserstein_critic_loss,
        lambda r, f: f - r,
        pairs,
        hard=[(([0.0, 3e38, 1.0], [0.0, 0.0, inf]), {}, [0.0, -3e38, inf])],
        arguments=(0, 1),
        second=False,
    ),
    Case(
        jaxloss.gan_wasserstein_generator_loss,
        lambda f: -f,
        fakes,
        hard=[(([0.0, 3e38, -inf],), {}, [0.0, -3e38, inf])],
        batched=1,
        second=False,
    ),
    Case(
        jaxloss.gan_hinge_discriminator_loss,
        lambda r, f: jnp.maximum(0, 1 - r) + jnp.maximum(0, 1 + f),
        pairs,
        hard=[(([1.0, inf, 1.0, 0.5, -inf], [-1.0, -inf, 3e38, -0.5, 0.0]), {}, [0.0, 0.0, 3e38, 1.0, inf])],
        arguments=(0, 1),
        second=False,
    ),
    Case(
        jaxloss.gan_hinge_generator_loss,
        lambda f: -f,
        fakes,
        hard=[(([0.0, 3e38, -inf],), {}, [0.0, -3e38, inf])],
        batched=1,
        second=False,
    ),
    Case(
        jaxloss.gan_relativistic_discriminator_loss,
        lambda r, f: -log_d(r - f),
        pairs,
        hard=[
            ((np.negative(SCORES), [0.0] * len(SCORES)), {}, SOFTPLUS),
            (([0.0] * len(SCORES), SCORES), {}, SOFTPLUS),
            (([3e38, -3e38], [-3e38, 3e38]), {}, [0.0, inf]),
        ],
        arguments=(0, 1),
    ),
    Case(
        jaxloss.gan_relativistic_generator_loss,
        lambda r, f: -log_d(f - r),
        pairs,
        hard=[
            ((SCORES, [0.0] * len(SCORES)), {}, SOFTPLUS),
            (([0.0] * len(SCORES), np.negative(SCORES)), {}, SOFTPLUS),
        ],
        arguments=(0, 1),
    ),
]
