"""Images [..., height, width, channels]."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxloss
from cases.case import Case


def one(rng: np.random.Generator) -> tuple[np.ndarray]:
    return (rng.normal(size=(3, 4, 5, 2)),)


def two(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(3, 4, 5, 2)), rng.normal(size=(3, 4, 5, 2))


def two_of_size(size: int) -> Any:
    """Images with a trend, as photographs have, and noise."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        ramp = np.linspace(0, 0.5, size)[:, None, None]
        noise = rng.uniform(0, 0.5, size=(2, 3, size, size, 1))
        return ramp + noise[0], np.swapaxes(ramp, 0, 1) + 0.7 * noise[0] + 0.3 * noise[1]

    return draw


def steps(x: Any) -> list[Any]:
    return [x[..., 1:, :, :] - x[..., :-1, :, :], x[..., :, 1:, :] - x[..., :, :-1, :]]


def size(d: Any) -> Any:
    """|d| with derivative 0 at 0."""
    return jnp.where(d > 0, d, jnp.where(d < 0, -d, 0))


def total_variation(x: Any, norm: int = 2) -> Any:
    return sum(jnp.sum(size(d) ** norm, axis=(-3, -2, -1)) for d in steps(x))


def gradient_difference(p: Any, y: Any, alpha: Any = 1.0) -> Any:
    alpha = jnp.asarray(alpha)[..., None, None, None]
    terms = [size(size(d) - size(e)) ** alpha for d, e in zip(steps(p), steps(y), strict=True)]
    return sum(jnp.sum(x, axis=(-3, -2, -1)) for x in terms)


def gram(x: Any) -> Any:
    return jnp.einsum("...hwk,...hwl->...kl", x, x)


def style(p: Any, y: Any) -> Any:
    *_, h, w, c = p.shape
    return jnp.sum((gram(p) - gram(y)) ** 2, axis=(-2, -1)) / (4 * (h * w * c) ** 2)


def blur(x: Any, sigma: Any, size: int) -> Any:
    """A Gaussian window of all images and channels, at the positions inside: one slice an offset."""
    weights = jnp.exp(-((jnp.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    weights = weights / jnp.sum(weights)
    for axis in (-3, -2):
        n = x.shape[axis] - size + 1
        x = sum(weights[i] * jax.lax.slice_in_dim(x, i, i + n, axis=axis % x.ndim) for i in range(size))
    return x


def similarity(
    p: Any, y: Any, data_range: Any = 1.0, sigma: Any = 1.5, window_size: int = 11, k1: Any = 0.01, k2: Any = 0.03
) -> tuple[Any, Any]:
    """The similarity, and its contrast and structure term, at each position."""

    def windowed(x: Any) -> Any:
        return blur(x, sigma, window_size)

    c1, c2 = ((jnp.asarray(k * data_range) ** 2)[..., None, None, None] for k in (k1, k2))
    mp, my = windowed(p), windowed(y)
    vp, vy, cov = windowed(p * p) - mp**2, windowed(y * y) - my**2, windowed(p * y) - mp * my
    contrast = (2 * cov + c2) / (vp + vy + c2)
    return contrast * (2 * mp * my + c1) / (mp**2 + my**2 + c1), contrast


def ssim(p: Any, y: Any, **options: Any) -> Any:
    return 1 - jnp.mean(similarity(p, y, **options)[0], axis=(-3, -2, -1))


WANG = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ms_ssim(p: Any, y: Any, weights: Any = WANG, **options: Any) -> Any:
    product = 1.0
    for j in range(len(weights)):
        whole, contrast = similarity(p, y, **options)
        term = jnp.mean(whole if j == len(weights) - 1 else contrast, axis=(-3, -2))
        product = product * jnp.maximum(term, 0) ** weights[j]
        p, y = (sum(x[..., i::2, j::2, :] for i in (0, 1) for j in (0, 1)) / 4 for x in (p, y))
    return 1 - jnp.mean(product, axis=-1)


RAMP = np.linspace(0, 1, 121).reshape(11, 11, 1)
FLAT = np.full((11, 11, 1), 0.5)
BLACK = np.zeros((11, 11, 1))

CASES = [
    Case(
        jaxloss.total_variation_loss,
        total_variation,
        one,
        [{}, {"norm": 1}, {"norm": 2}],
        event=3,
        batched=1,
        hard=[
            ((np.zeros((2, 3, 3, 1)),), {"norm": 1}, [0.0, 0.0]),
            ((np.zeros((2, 3, 3, 1)),), {}, [0.0, 0.0]),
            (([[[[0.0], [1e-19], [1e19]]]],), {}, [1e38]),
            (([[[[0.0]], [[-3.0]], [[1.0]]]],), {"norm": 1}, [7.0]),
            ((np.ones((2, 1, 1, 3)),), {}, [0.0, 0.0]),
            ((np.ones((1, 0, 4, 3)),), {}, [0.0]),
            ((np.ones((0, 2, 2, 3)),), {}, np.zeros(0)),
        ],
    ),
    Case(
        jaxloss.gradient_difference_loss,
        gradient_difference,
        two,
        [{"alpha": 2.0}, {}, {"alpha": np.array([1.0, 1.5, 3.0])}],
        event=3,
        hard=[
            (([[[[0.0], [1.0]]]], [[[[1.0], [0.0]]]]), {}, [0.0]),
            (([[[[0.5], [0.5]]]], [[[[1.0], [0.0]]]]), {}, [1.0]),
            (([[[[0.5], [0.5]]]], [[[[1.0], [-1.0]]]]), {"alpha": 2.0}, [4.0]),
            (([[[[0.0], [0.0]]]], [[[[0.0], [0.0]]]]), {"alpha": 1.5}, [0.0]),
            (([[[[0.0], [1e19]]]], [[[[0.0], [0.0]]]]), {"alpha": 2.0}, [1e38]),
            ((np.ones((1, 1, 1, 3)), np.zeros((1, 1, 1, 3))), {}, [0.0]),
        ],
        arguments=(0, 1),
    ),
    Case(
        jaxloss.style_loss,
        style,
        two,
        event=3,
        hard=[
            (([[[1.0, 0.0], [0.0, 2.0]]], [[[1.0, 0.0], [0.0, 2.0]]]), {}, 0.0),
            (([[[0.0, 0.0], [0.0, 0.0]]], [[[1.0, 0.0], [0.0, 2.0]]]), {}, 17 / 64),
            (([[[1.0 + 2.0**-23]]], [[[1.0]]]), {}, ((2.0**-22 + 2.0**-46) ** 2) / 4),
            ((np.zeros((2, 3, 3, 2)), np.zeros((2, 3, 3, 2))), {}, [0.0, 0.0]),
            ((np.zeros((1, 0, 3, 2)), np.zeros((1, 0, 3, 2))), {}, [0.0]),
        ],
        arguments=(0, 1),
    ),
    Case(
        jaxloss.ssim_loss,
        ssim,
        two_of_size(12),
        [
            {"window_size": 5},
            {"window_size": 3, "data_range": np.array([0.5, 1.0, 2.0]), "sigma": 1, "k1": 0.02, "k2": 0.05},
        ],
        event=3,
        hard=[
            ((RAMP, RAMP), {}, 0.0),
            ((FLAT, FLAT), {}, 0.0),
            ((BLACK, BLACK), {}, 0.0),
            ((FLAT, BLACK), {}, 0.25 / (0.25 + 1e-4)),
            ((255 * FLAT, 255 * BLACK), {"data_range": 255.0}, 0.25 / (0.25 + 1e-4)),
            (([[[1.0]]], [[[3.0]]]), {"window_size": 1}, 4 / (10 + 1e-4)),
            ((np.zeros((0, 11, 11, 1)), np.zeros((0, 11, 11, 1))), {}, np.zeros(0)),
        ],
        arguments=(0, 1),
    ),
    Case(
        jaxloss.ms_ssim_loss,
        ms_ssim,
        two_of_size(176),
        [
            {"window_size": 3, "weights": np.array([0.3, 0.7])},
            {"window_size": 3, "weights": np.array([0.2, 0.8]), "data_range": 2.0, "sigma": 1, "k1": 0.02, "k2": 0.05},
        ],
        event=3,
        hard=[
            ((RAMP, RAMP), {"window_size": 5, "weights": (0.5, 0.5)}, 0.0),
            ((BLACK, BLACK), {"window_size": 5, "weights": (0.5, 0.5)}, 0.0),
            # the opposite pattern: a term below 0, whose power is 0
            ((RAMP, 1 - RAMP), {"window_size": 5, "weights": (0.5, 0.5)}, 1.0),
            # no weight, no say
            ((RAMP, 1 - RAMP), {"window_size": 5, "weights": (0.0, 0.0)}, 0.0),
            ((FLAT, BLACK), {"window_size": 11, "weights": (1.0,)}, 0.25 / (0.25 + 1e-4)),
        ],
        arguments=(0, 1),
    ),
]
