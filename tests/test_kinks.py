"""The slope at a kink: that of the loss where training starts from it, and 0, that of no loss, everywhere else."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss

EAST, NORTH = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
CLASS = jnp.array(0)


def of(name: str, *truth: Any, **options: Any) -> Callable[[jax.Array], jax.Array]:
    return lambda x: jnp.sum(getattr(jaxloss, name)(x, *truth, **options))


# What a model initialised to zero gives: equal scores, scores of 0, orthogonal directions. There it must learn.
STARTS = [
    ("margin_ranking_loss", of("margin_ranking_loss", 0.0, 1), 0.0, -1.0),
    ("margin_ranking_loss", of("margin_ranking_loss", 0.0, -1), 0.0, 1.0),
    ("cosine_embedding_loss", of("cosine_embedding_loss", NORTH, -1), EAST, [0.0, 1.0]),
    ("perceptron_loss", of("perceptron_loss", 1), 0.0, -1.0),
    ("perceptron_loss", of("perceptron_loss", -1), 0.0, 1.0),
    ("multiclass_perceptron_loss", of("multiclass_perceptron_loss", CLASS), [0.0, 0.0, 0.0], [-1.0, 0.5, 0.5]),
    ("hinge_loss", of("hinge_loss", 1), 0.0, -1.0),
    ("multiclass_hinge_loss", of("multiclass_hinge_loss", CLASS), [0.0, 0.0, 0.0], [-1.0, 0.5, 0.5]),
    ("pairwise_hinge_loss", of("pairwise_hinge_loss", jnp.array([1, 0])), [0.0, 0.0], [-1.0, 1.0]),
    ("gan_hinge_discriminator_loss", of("gan_hinge_discriminator_loss", 0.0), 0.0, -1.0),
    ("lovasz_hinge_loss", of("lovasz_hinge_loss", jnp.array([[[1], [0]]])), jnp.zeros((1, 2, 1)), [[[-1.0], [0.0]]]),
]

# Where there is nothing left to learn: a perfect fit, or the end of a margin.
ENDS = [
    ("hinge_loss", of("hinge_loss", 1), 1.0),
    ("gan_hinge_discriminator_loss", of("gan_hinge_discriminator_loss", -1.0), 1.0),
    ("multiclass_hinge_loss", of("multiclass_hinge_loss", CLASS), [1.0, 0.0, 0.0]),
    ("pairwise_hinge_loss", of("pairwise_hinge_loss", jnp.array([1, 0])), [1.0, 0.0]),
    ("triplet_margin_loss", of("triplet_margin_loss", 0 * EAST, 2 * EAST), -EAST * 0),
    ("contrastive_loss", of("contrastive_loss", EAST, 0), EAST),
    ("absolute_error", of("absolute_error", 0.0), 0.0),
    ("quantile_loss", of("quantile_loss", 0.0, quantile=0.3), 0.0),
    ("epsilon_insensitive_loss", of("epsilon_insensitive_loss", 0.0, epsilon=0.5), 0.5),
    ("laplace_nll", of("laplace_nll", 0.0, 1.0), 0.0),
    ("total_variation_loss", of("total_variation_loss"), jnp.ones((1, 3, 3, 1))),
    ("wasserstein_distance_1d", of("wasserstein_distance_1d", jnp.arange(3.0)), jnp.arange(3.0)),
]


@pytest.mark.parametrize(("name", "loss", "start", "slope"), STARTS)
def test_training_leaves_where_it_starts(name: str, loss: Any, start: Any, slope: Any) -> None:
    x = jnp.asarray(start)
    np.testing.assert_array_equal(jax.grad(loss)(x), slope)
    np.testing.assert_array_equal(jax.jit(jax.grad(loss))(x), slope)


@pytest.mark.parametrize(("name", "loss", "start", "slope"), STARTS[:6])
def test_forward_mode_has_the_slope_too(name: str, loss: Any, start: Any, slope: Any) -> None:
    x = jnp.asarray(start)
    np.testing.assert_array_equal(jax.jacfwd(jaxloss.autodiff(loss))(x), slope)


@pytest.mark.parametrize(("name", "loss", "end"), ENDS)
def test_training_ends_where_nothing_is_left(name: str, loss: Any, end: Any) -> None:
    x = jnp.asarray(end)
    np.testing.assert_array_equal(jax.grad(loss)(x), jnp.zeros_like(x))
