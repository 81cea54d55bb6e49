"""A use: small bright regions of a real image, found by a tiny convolution, with each of the segmentation objectives."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import skimage.data
from jax import lax

import jaxloss

STEPS = 60
DARK = 0.05


def image_and_mask() -> tuple[Any, Any]:
    """The camera man at a quarter of the size; the truth is where the darkest of his coat is around: few pixels."""
    image = skimage.data.camera()[::4, ::4].astype(np.float32) / 255
    mean = np.asarray(lax.reduce_window(jnp.asarray(image), 0.0, lax.add, (5, 5), (1, 1), "SAME")) / 25
    return image[None, :, :, None] - 0.5, (mean < DARK)[None, :, :, None]


def logits(parameters: Any, x: Any) -> Any:
    for i, kernel in enumerate(parameters["kernels"]):
        x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = x + parameters["biases"][i]
        x = jnp.tanh(x) if i == 0 else x
    return x


def entropy(z: Any, y: Any) -> Any:
    return jnp.mean(jaxloss.sigmoid_binary_cross_entropy(z, y))


def dice_and_entropy(z: Any, y: Any) -> Any:
    return entropy(z, y) + jnp.mean(jaxloss.dice_loss(z, y))


def lovasz(z: Any, y: Any) -> Any:
    return jnp.mean(jaxloss.lovasz_hinge_loss(z, y))


def intersection_over_union(objective: Callable[[Any, Any], Any]) -> float:
    """Of the decisions after a short training from the same start."""
    x, y = image_and_mask()
    keys = jax.random.split(jax.random.key(0))
    shapes = [(3, 3, 1, 4), (3, 3, 4, 1)]
    start = {
        "kernels": [0.3 * jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True)],
        "biases": [jnp.zeros(4), jnp.zeros(1)],
    }
    optimizer = optax.adam(0.02)

    @jax.jit
    def train(start: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            parameters, state = carry
            slope = jax.grad(lambda p: objective(logits(p, x), y))(parameters)
            updates, state = optimizer.update(slope, state)
            return (optax.apply_updates(parameters, updates), state), None

        return logits(lax.scan(step, (start, optimizer.init(start)), length=STEPS)[0][0], x) > 0

    found = train(start)
    return float(np.sum(found & y) / np.sum(found | y))


@pytest.fixture(scope="module")
def by_entropy() -> float:
    return intersection_over_union(entropy)


@pytest.mark.exhaustive
@pytest.mark.parametrize("objective", [dice_and_entropy, lovasz], ids=lambda f: f.__name__)
def test_overlap_losses_find_small_regions_sooner(objective: Any, by_entropy: float) -> None:
    assert 0.02 < np.mean(image_and_mask()[1]) < 0.04
    found = intersection_over_union(objective)
    assert found > max(by_entropy + 0.3, 0.5)  # 0.9 and 0.7, where the entropy alone finds nothing yet
