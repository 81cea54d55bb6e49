"""The likelihoods beside torch's losses and torch.distributions: where they agree, and where they differ, and why."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import distributions
from torch.nn import functional

import jaxloss


class Row(NamedTuple):
    """Both functions take the same arrays: predictions, targets and parameters."""

    what: str
    positive: bool
    parameters: int
    ours: Callable[..., jax.Array]
    theirs: Callable[..., torch.Tensor]
    constant: tuple[int, ...] = ()  # the arguments by which torch has no gradient


def of_density(density: Callable[..., Any]) -> Callable[..., torch.Tensor]:
    """−log p(targets) of a distribution made of predictions and parameters."""
    return lambda p, y, *parameters: -density(p, *parameters).log_prob(y)


ROWS = [
    Row(
        "gaussian_nll",
        False,
        1,
        jaxloss.gaussian_nll,
        lambda p, y, v: functional.gaussian_nll_loss(p, y, v, full=True, reduction="none"),
    ),
    Row("laplace_nll", False, 1, jaxloss.laplace_nll, of_density(distributions.Laplace)),
    Row(
        "student_t_nll",
        False,
        2,
        jaxloss.student_t_nll,
        of_density(lambda p, s, df: distributions.StudentT(df, p, s)),
    ),
    Row("von_mises_nll", False, 1, jaxloss.von_mises_nll, of_density(distributions.VonMises), (2,)),
    Row("poisson_nll", False, 0, jaxloss.poisson_nll, of_density(lambda p: distributions.Poisson(p.exp(), False))),
    Row(
        "poisson_nll of a rate",
        True,
        0,
        lambda p, y: jaxloss.poisson_nll(p, y, log_rate=False),
        of_density(lambda p: distributions.Poisson(p, False)),
    ),
    Row(
        "poisson_nll without log y!",
        False,
        0,
        lambda p, y: jaxloss.poisson_nll(p, y, full=False),
        lambda p, y: functional.poisson_nll_loss(p, y, reduction="none"),
    ),
    # torch's eps, which it adds to the rate, is 0 here.
    Row(
        "poisson_nll of a rate without log y!",
        True,
        0,
        lambda p, y: jaxloss.poisson_nll(p, y, log_rate=False, full=False),
        lambda p, y: functional.poisson_nll_loss(p, y, log_input=False, eps=0.0, reduction="none"),
    ),
    # torch counts the successes of probability m/(s + m).
    Row(
        "negative_binomial_nll",
        True,
        1,
        jaxloss.negative_binomial_nll,
        of_density(lambda m, s: distributions.NegativeBinomial(s, logits=torch.log(m / s), validate_args=False)),
    ),
    # torch has the rate where we have the mean.
    Row("gamma_nll", True, 1, jaxloss.gamma_nll, of_density(lambda m, k: distributions.Gamma(k, k / m))),
    Row(
        "beta_nll",
        True,
        1,
        lambda m, y, phi: jaxloss.beta_nll(m / 5, y / 5, phi),
        lambda m, y, phi: -distributions.Beta(m / 5 * phi, (1 - m / 5) * phi).log_prob(y / 5),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_agrees_with_torch(row: Row) -> None:
    rng = np.random.default_rng(0)
    data = [rng.uniform(0.3, 4, size=(5, 6)) if row.positive else rng.normal(size=(5, 6)) for _ in range(2)]
    if row.what.startswith("poisson"):
        data[1] = np.ceil(np.abs(data[1]))
    arrays = [*data, *(rng.uniform(0.4, 5, size=(5, 6)) for _ in range(row.parameters))]
    with jax.enable_x64(True):
        loss, pullback = jax.vjp(row.ours, *map(jnp.asarray, arrays))
        gradients = pullback(jnp.ones_like(loss))
    tensors = [torch.tensor(x, requires_grad=i not in row.constant) for i, x in enumerate(arrays)]
    theirs = row.theirs(*tensors)
    # torch's Bessel functions are single precision approximations.
    tolerance = 1e-5 if row.what == "von_mises_nll" else 1e-9
    np.testing.assert_allclose(loss, theirs.detach(), rtol=tolerance, atol=tolerance)
    theirs.sum().backward()
    for gradient, tensor in zip(gradients, tensors, strict=True):
        if tensor.requires_grad:
            expected = np.zeros_like(gradient) if tensor.grad is None else tensor.grad
            np.testing.assert_allclose(gradient, expected, rtol=tolerance, atol=tolerance)


# --- Where they differ ----------------------------------------------------------------------------------------------


def test_torch_clamps_the_variance() -> None:
    """torch takes 1e-30 for its eps of 1e-6, and so loses the loss and its gradient."""
    r, v = np.float32(1e-15), np.float32(1e-30)
    ours = jaxloss.gaussian_nll(jnp.asarray([r]), jnp.zeros(1), jnp.asarray([v]))
    theirs = functional.gaussian_nll_loss(*(torch.tensor([x]) for x in (r, 0.0, v)), full=True, reduction="none")
    np.testing.assert_allclose(ours, 0.5 * (1 + np.log(2 * np.pi) - 30 * np.log(10)), rtol=1e-6)
    assert theirs.item() > -7


def test_torch_takes_stirlings_formula_for_log_y_factorial() -> None:
    """And none at all for y ≤ 1; ours is exact."""
    x, y = np.zeros(3, np.float32), np.array([0.5, 2.0, 3.0], np.float32)
    theirs = functional.poisson_nll_loss(torch.tensor(x), torch.tensor(y), full=True, reduction="none").numpy()
    exact = -distributions.Poisson(torch.ones(3), False).log_prob(torch.tensor(y)).numpy()
    np.testing.assert_allclose(jaxloss.poisson_nll(jnp.asarray(x), jnp.asarray(y)), exact, rtol=1e-6)
    assert np.all(np.abs(theirs - exact) > 0.02)


def test_torch_invents_a_rate_of_eps() -> None:
    """A rate of 0 makes a count of 2 impossible; torch's eps of 1e-8 makes it cost 37."""
    ours = jaxloss.poisson_nll(jnp.zeros(1), jnp.full(1, 2.0), log_rate=False)
    theirs = functional.poisson_nll_loss(torch.zeros(1), torch.full((1,), 2.0), log_input=False, reduction="none")
    assert np.isinf(ours[0])
    assert theirs.item() < 40


def test_large_counts_cancel_in_torch() -> None:
    """λ = y = 1e7: torch's float32 is off by more than 1; ours has all digits."""
    many = np.full(1, 1e7, np.float32)
    exact = 0.5 * np.log(2 * np.pi * 1e7) + 1 / 12e7
    np.testing.assert_allclose(jaxloss.poisson_nll(jnp.asarray(many), jnp.asarray(many), log_rate=False), exact, rtol=1e-6)
    theirs = -distributions.Poisson(torch.tensor(many)).log_prob(torch.tensor(many))
    assert abs(theirs.item() - exact) > 0.1
