"""The ranking losses beside rax: lists with ties, masks and lists in which there is nothing to rank.

rax returns the mean over all lists, or over the pairs of all lists together; ours are one number a list, so that each
list goes to rax by itself.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rax
from rax._src import utils

import jaxloss


def approx_ndcg(scores: Any, labels: Any, temperature: float = 1.0, where: Any = None) -> Any:
    """rax.approx_t12n(rax.ndcg_metric), which needs a function that JAX has removed."""

    def step(x: Any) -> Any:
        return jax.nn.sigmoid(x / temperature)

    ranks = functools.partial(utils.approx_ranks, step_fn=step)
    return -rax.ndcg_metric(scores, labels, rank_fn=ranks, where=where)


ROWS: list[tuple[str, Callable[..., Any], Callable[..., Any], dict[str, Any]]] = [
    ("ranking_softmax_loss", jaxloss.ranking_softmax_loss, rax.softmax_loss, {}),
    ("weighted", jaxloss.ranking_softmax_loss, rax.softmax_loss, {"weights": np.linspace(0.5, 2, 7)}),
    ("pairwise_logistic_loss", jaxloss.pairwise_logistic_loss, rax.pairwise_logistic_loss, {}),
    ("pairwise_hinge_loss", jaxloss.pairwise_hinge_loss, rax.pairwise_hinge_loss, {}),
    ("list_mle_loss", jaxloss.list_mle_loss, rax.listmle_loss, {}),
    ("approx_ndcg_loss", jaxloss.approx_ndcg_loss, approx_ndcg, {}),
    ("sharp", jaxloss.approx_ndcg_loss, approx_ndcg, {"temperature": 0.3}),
]


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize(("name", "ours", "theirs", "options"), ROWS, ids=lambda x: x if isinstance(x, str) else "")
def test_agrees_with_rax(name: str, ours: Any, theirs: Any, options: Any, masked: bool) -> None:
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        scores = jnp.asarray(2 * rng.normal(size=(6, 7)))
        labels = jnp.asarray(rng.integers(0, 4, size=(6, 7)).astype(float)).at[4].set(0)  # the fifth has no relevant item
        where = jnp.asarray(rng.uniform(size=(6, 7)) < 0.7).at[5].set(False) if masked else jnp.ones((6, 7), bool)
        losses, gradient = jax.jit(
            lambda s: (
                ours(s, labels, where=where, **options),
                jax.grad(lambda s: jnp.sum(ours(s, labels, where=where, **options)))(s),
            )
        )(scores)
        one = jax.value_and_grad(lambda s, y, w: theirs(s, y, where=w, **options))
        for i in range(6):
            value, slope = one(scores[i], labels[i], where[i])
            np.testing.assert_allclose(losses[i], value, rtol=1e-9, atol=1e-12)
            if np.any(where[i]):  # rax's gradient of an empty list may be NaN
                np.testing.assert_allclose(gradient[i], slope, rtol=1e-9, atol=1e-12)
            else:
                assert np.all(np.asarray(gradient[i]) == 0)
