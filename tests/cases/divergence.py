"""Divergences of distributions, of Gaussians, and of samples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxloss
from cases.case import Case, inf


def distributions(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.dirichlet(np.full(5, 2.0), size=3), rng.dirichlet(np.full(5, 2.0), size=3)


def log_predictions(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    p, y = distributions(rng)
    return np.log(p), y


def measures(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return np.log(rng.uniform(0.1, 4, size=(3, 5))), rng.uniform(0.1, 4, size=(3, 5))


def log_distributions(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    p, y = distributions(rng)
    return np.log(p), np.log(y)


def two_logits(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return 2 * rng.normal(size=(3, 5)), 2 * rng.normal(size=(3, 5))


def gaussians(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(3, 4)), rng.normal(size=(3, 4))


def losses_and_divergences(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(1, 5, size=(3, 4)), rng.uniform(0.1, 2, size=(3, 4, 5))


def two_samples(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(3, 5, 2)), 1 + rng.normal(size=(3, 5, 2))


def kl(p: Any, y: Any) -> Any:
    return jnp.sum(y * (jnp.log(y) - jnp.log(p)), axis=-1)


def softmax_kl(z: Any, t: Any, temperature: Any = 1.0) -> Any:
    T = jnp.asarray(temperature)[..., None]
    return kl(jax.nn.softmax(z / T, axis=-1), jax.nn.softmax(t / T, axis=-1))


def alpha(p: Any, y: Any, alpha: Any = 0.5) -> Any:
    a = jnp.asarray(alpha)[..., None]
    return jnp.sum(a * y + (1 - a) * p - y**a * p ** (1 - a), axis=-1) / (alpha * (1 - alpha))


def gaussian_kl(mu: Any, log_var: Any, target_means: Any = 0.0, target_log_variances: Any = 0.0) -> Any:
    """log(s/σ) + (σ² + (μ − m)²)/(2s²) − ½."""
    var, target = jnp.exp(log_var), jnp.exp(target_log_variances)
    return (target_log_variances - log_var + (var + (mu - target_means) ** 2) / target - 1) / 2


def elbo(r: Any, kl: Any, beta: Any = 1.0, free_bits: Any = 0.0) -> Any:
    return r + beta * jnp.sum(jnp.maximum(kl, free_bits), axis=-1)


def wasserstein(p: Any, y: Any, positions: Any = None, from_samples: bool = False) -> Any:
    if from_samples:
        return jnp.mean(jnp.abs(jnp.sort(p) - jnp.sort(y)), axis=-1)
    gaps = 1 if positions is None else jnp.diff(positions)
    return jnp.sum((jnp.abs(jnp.cumsum(p, -1) - jnp.cumsum(y, -1)))[..., :-1] * gaps, axis=-1)


def of_pairs(kernel: Any) -> Any:
    """mean k(x, x') + mean k(y, y') − 2 mean k(x, y), the first two over different samples if unbiased."""

    def naive(x: Any, y: Any, unbiased: bool = False, **options: Any) -> Any:
        n = x.shape[-2]
        off = 1 - jnp.eye(n) if unbiased else jnp.ones((n, n))

        def mean(a: Any, b: Any, weight: Any) -> Any:
            # The diagonal is shifted, where it does not count, so that the distance is not 0.
            difference = a[..., :, None, :] - b[..., None, :, :] + (1 - weight)[..., None]
            return jnp.sum(weight * kernel(difference, **options), axis=(-2, -1)) / jnp.sum(weight)

        return mean(x, x, off) + mean(y, y, off) - 2 * mean(x, y, jnp.ones((n, n)))

    return naive


def gaussian_kernel(d: Any, bandwidth: Any = 1.0) -> Any:
    return jnp.exp(-jnp.sum(d**2, axis=-1) / (2 * jnp.asarray(bandwidth)[..., None, None] ** 2))


def negative_length(d: Any) -> Any:
    square = jnp.sum(d**2, axis=-1)
    return -jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))


LOG2 = np.log(2.0)
NEARLY = np.float32(0.5) + np.float32(2.0**-13)  # 0.5 + 1.2e-4
FAR_SQUARE = float(NEARLY - 0.5) ** 2

CASES = [
    Case(
        jaxloss.kl_divergence,
        lambda log_p, y: kl(jnp.exp(log_p), y),
        log_predictions,
        event=1,
        hard=[
            (([[0.0, -inf]], [[1.0, 0.0]]), {}, [0.0]),
            (([[-LOG2, -LOG2]], [[1.0, 0.0]]), {}, [LOG2]),
            (([[-inf, 0.0]], [[0.5, 0.5]]), {}, [inf]),
            (([[-100.0, 0.0]], [[0.5, 0.5]]), {}, [50 - LOG2]),
            (([[-1e4, 0.0]], [[0.0, 1.0]]), {}, [0.0]),
            (([[0.0]], [[1.0]]), {}, [0.0]),
            ((np.zeros((0, 3)), np.zeros((0, 3))), {}, np.zeros(0)),
        ],
        arguments=(0, 1),
    ),
    Case(
        jaxloss.kl_divergence_with_log_targets,
        lambda log_p, log_y: kl(jnp.exp(log_p), jnp.exp(log_y)),
        log_distributions,
        event=1,
        hard=[
            (([[0.0, -inf]], [[0.0, -inf]]), {}, [0.0]),
            (([[-LOG2, -LOG2]], [[0.0, -inf]]), {}, [LOG2]),
            (([[-inf, 0.0]], [[-LOG2, -LOG2]]), {}, [inf]),
            (([[-inf, 0.0]], [[-200.0, 0.0]]), {}, [inf]),
            (([[-0.3, -1.7, -3.0]], [[-0.3, -1.7, -3.0]]), {}, [0.0]),
        ],
        arguments=(0, 1),
    ),
    Case(
        jaxloss.generalized_kl_divergence,
        lambda log_p, y: kl(jnp.exp(log_p), y) + jnp.sum(jnp.exp(log_p) - y, axis=-1),
        measures,
        event=1,
        hard=[
            (([[0.0, -inf]], [[1.0, 0.0]]), {}, [0.0]),
            (([[0.0, 0.0]], [[0.0, 2.0]]), {}, [2 * LOG2]),
            (([[-inf, 0.0]], [[0.5, 0.5]]), {}, [inf]),
            (([[80.0]], [[1.0]]), {}, [np.exp(80.0) - 81]),
            (([[2.0**-13]], [[1.0]]), {}, [2.0**-27 * (1 + 2.0**-13 / 3)]),
        ],
        arguments=(0, 1),
    ),
    Case(
        jaxloss.softmax_kl_divergence,
        softmax_kl,
        two_logits,
        [{}, {"temperature": 2.5}, {"temperature": np.array([0.5, 1.5, 3.0])}],
        event=1,
        hard=[
            (([[0.3, -1.7, 20.0]], [[0.3, -1.7, 20.0]]), {}, [0.0]),
            (([[3.0, -inf, 1.0]], [[3.0, -inf, 1.0]]), {}, [0.0]),
            (([[1003.0, 1001.0]], [[3.0, 1.0]]), {}, [0.0]),
            (([[-inf, 0.0]], [[0.0, 0.0]]), {}, [inf]),
            (([[-inf, 0.0]], [[-200.0, 0.0]]), {}, [inf]),
            (([[0.0, 0.0]], [[0.0, -inf]]), {}, [LOG2]),
            (([[0.0, 0.0]], [[0.0, -120.0]]), {}, [LOG2]),
            (([[0.0, 50.0]], [[50.0, 0.0]]), {}, [50 - 100 / (1 + np.exp(50.0))]),
            (([[0.0, 1e4]], [[1e4, 0.0]]), {}, [1e4]),
            (([[-3e38, 0.0]], [[3e38, 0.0]]), {}, [3e38]),
            (([[3e38, -3e38]], [[3e38, -3e38]]), {}, [0.0]),
            (([[inf, 0.0]], [[inf, 0.0]]), {}, [0.0]),
            (([[0.0, 0.0]], [[2.0**-12, 0.0]]), {}, [2.0**-27]),
            (([[0.0, 0.0]], [[1.0, 0.0]]), {"temperature": 0.001}, [LOG2]),
            (([[0.0, 0.0]], [[0.02, 0.0]]), {"temperature": 0.01}, [LOG2 - 0.3653338550640876]),
            (([[5.0]], [[1.0]]), {}, [0.0]),
            ((np.zeros((0, 3)), np.zeros((0, 3))), {}, np.zeros(0)),
        ],
        arguments=(0, 1),
    ),
    Case(
        jaxloss.js_divergence,
        lambda p, y: (kl((p + y) / 2, p) + kl((p + y) / 2, y)) / 2,
        distributions,
        event=1,
        hard=[
            (([[0.25, 0.75]], [[0.25, 0.75]]), {}, [0.0]),
            (([[1.0, 0.0]], [[0.0, 1.0]]), {}, [LOG2]),
            (([[1.0, 0.0, 0.0]], [[0.5, 0.5, 0.0]]), {}, [0.5 * np.log(4 / 3) - 0.25 * np.log(0.75)]),
            (([[0.5, 0.5]], [[NEARLY, 1 - NEARLY]]), {}, [FAR_SQUARE / 2]),
            (([[2.0**-40, 1.0]], [[0.0, 1.0]]), {}, [2.0**-41 * LOG2]),
        ],
        arguments=(0, 1),
    ),
    Case(
        jaxloss.hellinger_distance,
        lambda p, y: jnp.sqrt(jnp.sum((jnp.sqrt(p) - jnp.sqrt(y)) ** 2, axis=-1) / 2),
        distributions,
        event=1,
        hard=[
            (([[0.25, 0.75]], [[0.25, 0.75]]), {}, [0.0]),
            (([[1.0, 0.0]], [[0.0, 1.0]]), {}, [1.0]),
            (([[1.0, 0.0, 0.0]], [[0.25, 0.75, 0.0]]), {}, [np.sqrt(0.5)]),
            (([[2.0**-40, 1.0]], [[0.0, 1.0]]), {}, [2.0**-20.5]),
        ],
        arguments=(0, 1),
    ),
    Case(
        jaxloss.alpha_divergence,
        alpha,
        distributions,
        [{}, {"alpha": 0.25}, {"alpha": np.array([0.1, 0.75, 0.9])}],
        event=1,
        hard=[
            (([[0.25, 0.75]], [[0.25, 0.75]]), {}, [0.0]),
            (([[1.0, 0.0, 0.0]], [[0.25, 0.75, 0.0]]), {}, [2.0]),
            (([[0.5, 0.5]], [[1.0, 0.0]]), {"alpha": 1.0}, [LOG2]),
            (([[1.0, 0.0]], [[0.5, 0.5]]), {"alpha": 0.0}, [LOG2]),
            (([[1.0, 0.0]], [[0.5, 0.5]]), {"alpha": 1.0}, [inf]),
            (([[0.5, 0.5]], [[1.0, 0.0]]), {"alpha": 0.0}, [inf]),
            (([[0.5, 0.5]], [[0.25, 0.75]]), {"alpha": 1.0}, [0.25 * np.log(0.5) + 0.75 * np.log(1.5)]),
            (([[0.5, 0.5]], [[0.25, 0.75]]), {"alpha": 0.0}, [0.5 * LOG2 - 0.5 * np.log(1.5)]),
            (([[2.0**-40, 1.0]], [[1.0, 2.0**-40]]), {"alpha": 0.5}, [4 * (1 - 2.0**-20) ** 2]),
        ],
        arguments=(0, 1),
    ),
    Case(
        jaxloss.gaussian_kl_divergence,
        gaussian_kl,
        gaussians,
        [{}, {"target_means": 0.5}, {"target_means": np.linspace(-1, 1, 4), "target_log_variances": 0.7}],
        hard=[
            (([0.0, 0.0], [0.0, 2.0**-13]), {}, [0.0, 2.0**-28 * (1 + 2.0**-13 / 3)]),
            (([1e-19, 1e-8, 2e19], [0.0] * 3), {}, [5e-39, 5e-17, 2e38]),
            (([0.0], [np.log(1e-30)]), {}, [(float(np.float32(-np.log(1e-30))) - 1) / 2]),
            (([0.0, 0.0], [-inf, inf]), {}, [inf, inf]),
            (([1e-15], [-69.0]), {"target_log_variances": -69.0}, [float(np.float32(1e-15)) ** 2 * np.exp(69.0) / 2]),
            ((np.zeros(0), np.zeros(0)), {}, np.zeros(0)),
        ],
        free=("target_means", "target_log_variances"),
        arguments=(0,),
    ),
    Case(
        jaxloss.negative_elbo,
        elbo,
        losses_and_divergences,
        [{}, {"beta": 0.5}, {"beta": np.linspace(0.5, 2, 4), "free_bits": np.array([0.1, 0.5, 0.5, 1.0, 2.0])}],
        hard=[
            (([1.0], [[2.0, 0.0]]), {}, [3.0]),
            (([1.0], [[0.25, 0.5]]), {"free_bits": 0.5}, [2.0]),
            (([1.0], [[inf, 0.5]]), {"beta": 0.0}, [1.0]),
            (([1.0], np.zeros((1, 0))), {}, [1.0]),
        ],
        second=False,
        arguments=(0, 1),
    ),
    Case(
        jaxloss.wasserstein_distance_1d,
        wasserstein,
        distributions,
        [{}, {"positions": np.array([0.0, 0.5, 2.0, 3.0, 7.0])}, {"from_samples": True}],
        event=1,
        hard=[
            (([[0.5, 0.5]], [[0.5, 0.5]]), {}, [0.0]),
            (([[1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]]), {}, [2.0]),
            (([[1.0]], [[1.0]]), {}, [0.0]),
            (([[1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]]), {"positions": np.array([-1.0, 0.0, 10.0])}, [11.0]),
            (([[3.0, 1.0, 1.0]], [[1.0, 3.0, 2.0]]), {"from_samples": True}, [1 / 3]),
        ],
        second=False,
        free=("positions",),
        arguments=(0, 1),
    ),
    Case(
        jaxloss.maximum_mean_discrepancy,
        of_pairs(gaussian_kernel),
        two_samples,
        [{}, {"bandwidth": 0.7}, {"bandwidth": np.array([0.5, 1.0, 2.0]), "unbiased": True}],
        event=1,
        among=1,
        hard=[
            (([[0.0]], [[1e20]]), {}, 2.0),
            (([[0.0]], [[1.0]]), {"unbiased": True}, 0.0),
            (([[0.0]], [[1.0]]), {"bandwidth": 0.01}, 2.0),
        ],
        arguments=(0, 1),
    ),
    Case(
        jaxloss.energy_distance,
        of_pairs(negative_length),
        two_samples,
        [{}, {"unbiased": True}],
        event=1,
        among=1,
        hard=[
            (([[0.0, 0.0]], [[3e20, 4e20]]), {}, 1e21),
            (([[0.0, 0.0]], [[3e-25, 4e-25]]), {}, 1e-24),
            (([[1.0], [1.0]], [[1.0], [1.0]]), {"unbiased": True}, 0.0),
        ],
        arguments=(0, 1),
    ),
]
