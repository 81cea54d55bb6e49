"""Second derivatives where a formula has a branch: where arguments are equal, at targets of 0, and of outliers.

A maximum or an absolute value in a formula has a derivative of its own choice at a tie, which may be none of the loss's:
JAX differentiates the formula itself under `autodiff`, and in the value that comes with a gradient.
"""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss

TWO, NONE = np.array([[1, 2]]), np.zeros((1, 2))
WEIGHT = np.random.default_rng(0).normal(size=(3, 5))
LABELS = np.array([1, 4])


def linear(hidden: Any, weight: Any = WEIGHT) -> Any:
    options = {"label_smoothing": 0.1, "z_loss": 0.1, "soft_cap": 2.0}
    return jaxloss.linear_softmax_cross_entropy(hidden, weight, LABELS, **options)


CASES: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "ctc_loss": (lambda z: jaxloss.ctc_loss(z, np.zeros((1, 4)), TWO, NONE), (1, 4, 3)),
    "transducer_loss": (lambda z: jaxloss.transducer_loss(z, np.array([2]), TWO, np.array([2])), (1, 2, 3, 3)),
    "soft_dtw_loss": (lambda x: jaxloss.soft_dtw_loss(x, np.ones((3, 2)), gamma=0.7), (4, 2)),
    "linear_softmax_cross_entropy, no hidden states": (linear, (2, 3)),
    "linear_softmax_cross_entropy, no weight": (lambda w: linear(np.ones((2, 3)), w), (3, 5)),
    "mean_linear_softmax_cross_entropy": (
        lambda x: jaxloss.mean_linear_softmax_cross_entropy(x, WEIGHT, LABELS, soft_cap=2.0),
        (2, 3),
    ),
    "token_log_probs": (lambda x: jnp.stack(jaxloss.token_log_probs(x, WEIGHT, LABELS)[:2]), (2, 3)),
    "token_entropy": (lambda x: jaxloss.token_entropy(x, WEIGHT), (2, 3)),
    "squared_log_error by predictions": (lambda p: jaxloss.squared_log_error(p, jnp.zeros(3)), (3,)),
    "squared_log_error by targets": (lambda y: jaxloss.squared_log_error(jnp.zeros(3), y), (3,)),
    "softmax_kl_divergence": (lambda z: jaxloss.softmax_kl_divergence(z, np.zeros((2, 3))), (2, 3)),
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", CASES)
def test_second_derivatives_at_ties(name: str) -> None:
    """Against differences of the gradient, which is itself that of `autodiff`."""
    loss, shape = CASES[name]
    with jax.enable_x64(True):

        def total(x: Any) -> Any:
            return jnp.sum(jnp.sin(loss(x)))

        tangent = jnp.cos(jnp.arange(np.prod(shape), dtype=float)).reshape(shape)
        gradient = jax.jit(jax.grad(total))
        zeros, step = jnp.zeros(shape), 1e-5 * tangent
        plain = jax.jit(jax.grad(jaxloss.autodiff(total)))(zeros)
        np.testing.assert_allclose(plain, gradient(zeros), rtol=1e-9, atol=1e-12)
        want = (gradient(zeros + step) - gradient(zeros - step)) / 2e-5
        size = np.max(np.abs(want))
        assert size > 1e-3

        def forward_over_reverse(f: Any) -> Any:
            return jax.jit(lambda x: jax.jvp(jax.grad(f), (x,), (tangent,))[1])(zeros)

        def reverse_over_reverse(f: Any) -> Any:
            return jax.jit(jax.grad(lambda x: jnp.vdot(jax.grad(f)(x), tangent)))(zeros)

        for got in (forward_over_reverse(total), reverse_over_reverse(total), forward_over_reverse(jaxloss.autodiff(total))):
            np.testing.assert_allclose(got, want, atol=1e-6 * size)


@pytest.mark.parametrize("alpha", [1.0, 0.5, 2.0, -2.0, 0.0, -np.inf])
def test_second_derivatives_of_outliers(alpha: float) -> None:
    """Reverse over reverse too, where what overflows is in a branch that is not taken."""
    r = jnp.array([1.5, 14.0, 300.0, 1e4])

    def total(r: Any) -> Any:
        return jnp.sum(jaxloss.robust_loss(r, jnp.zeros_like(r), alpha=alpha))

    got = jax.grad(lambda r: jnp.sum(jax.grad(total)(r)))(r)
    want = jax.jvp(jax.grad(total), (r,), (jnp.ones_like(r),))[1]
    assert np.all(np.isfinite(got))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-9)


AT_ZERO: dict[str, tuple[Callable[..., Any], tuple[float, ...]]] = {
    "poisson_nll": (jaxloss.poisson_nll, (0.7,)),
    "poisson_nll, kernel": (functools.partial(jaxloss.poisson_nll, full=False), (0.7,)),
    "poisson_nll of rates": (functools.partial(jaxloss.poisson_nll, log_rate=False), (1.3,)),
    "poisson_nll of rates, kernel": (functools.partial(jaxloss.poisson_nll, log_rate=False, full=False), (1.3,)),
    "negative_binomial_nll": (jaxloss.negative_binomial_nll, (1.3, 0.6)),
    "binary_cross_entropy": (jaxloss.binary_cross_entropy, (0.3,)),
    "binary_cross_entropy at 1": (lambda p, no: jaxloss.binary_cross_entropy(p, 1 - no), (0.3,)),
    "categorical_cross_entropy": (lambda p, y: jaxloss.categorical_cross_entropy(jnp.stack([p]), jnp.stack([y])), (0.3,)),
}


@pytest.mark.sweep
@pytest.mark.parametrize("name", AT_ZERO)
def test_derivatives_at_a_target_of_zero(name: str) -> None:
    """They are the limits of those for a target that goes to 0, though terms of the loss have none there."""
    loss, (prediction, *others) = AT_ZERO[name]
    with jax.enable_x64(True):
        at, near = (tuple(jnp.array(x) for x in (prediction, y, *others)) for y in (0.0, 1e-9))
        for rule, second in ((loss, jax.jacfwd), (jaxloss.autodiff(loss), jax.jacrev)):
            derivatives = jax.jit(first_and_second(rule, second, tuple(range(len(at)))))
            chex.assert_trees_all_close(derivatives(*at), derivatives(*near), rtol=1e-6, atol=1e-7)


def first_and_second(loss: Any, second: Any, by: tuple[int, ...]) -> Callable[..., Any]:
    gradient = jax.grad(loss, by)
    return lambda *args: (gradient(*args), second(gradient, by)(*args))


RATES: dict[str, Callable[[Any, Any], Any]] = {
    "poisson_nll": functools.partial(jaxloss.poisson_nll, log_rate=False),
    "negative_binomial_nll": lambda m, y: jaxloss.negative_binomial_nll(m, y, jnp.array(2.0)),
    "tweedie_deviance": functools.partial(jaxloss.tweedie_deviance, power=0.5),
}


@pytest.mark.parametrize("name", RATES)
def test_forward_mode_where_nothing_is_counted_or_expected(name: str) -> None:
    """The slope by the target is out of range there, and no part of what the mean alone does."""
    mean, target = jnp.array(1e-30), jnp.array(0.0)
    loss = RATES[name]
    _, slope = jax.jvp(jaxloss.autodiff(lambda m: loss(m, target)), (mean,), (jnp.ones(()),))
    np.testing.assert_allclose(slope, jax.grad(loss)(mean, target), rtol=1e-6)
    assert slope > 0


@pytest.mark.sweep
@pytest.mark.parametrize(
    "loss",
    [
        jaxloss.binary_cross_entropy,
        lambda p, y: jaxloss.categorical_cross_entropy(jnp.stack([p, 1 - p]), jnp.stack([y, 1 - y])),
        RATES["poisson_nll"],
        RATES["negative_binomial_nll"],
    ],
    ids=["binary_cross_entropy", "categorical_cross_entropy", "poisson_nll", "negative_binomial_nll"],
)
def test_second_derivatives_at_a_tiny_prediction(loss: Callable[[Any, Any], Any]) -> None:
    """Where its square is out of range, and nothing of the kind is observed."""
    small, none = jnp.array(1e-20), jnp.array(0.0)
    with jax.enable_x64(True):
        want = jax.hessian(loss)(jnp.array(1e-20, jnp.float64), jnp.array(0.0, jnp.float64))
    for rule in (loss, jaxloss.autodiff(loss)):
        np.testing.assert_allclose(jax.hessian(rule)(small, none), want, rtol=1e-5, atol=1e-6)


def test_forward_mode_of_a_certain_prediction() -> None:
    for at, slope in ((0.0, 1.0), (1.0, -1.0)):
        loss = jaxloss.autodiff(functools.partial(jaxloss.binary_cross_entropy, targets=jnp.array(at)))
        _, tangent = jax.jvp(loss, (jnp.array(at),), (jnp.array(1.0),))
        assert tangent == slope
