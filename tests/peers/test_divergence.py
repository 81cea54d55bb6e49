"""The divergences beside torch and scipy: where they agree, and where their conventions differ."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import spatial, special, stats
from torch.nn import functional

import jaxloss


def distributions(shape: tuple[int, ...] = (8, 9)) -> tuple[np.ndarray, np.ndarray]:
    p, y = np.random.default_rng(0).dirichlet(np.ones(shape[-1]), size=(2, *shape[:-1]))
    return p.astype(np.float32), y.astype(np.float32)


def assert_same(ours: Any, theirs: Any, arguments: tuple[np.ndarray, ...], rtol: float = 2e-5) -> None:
    """Values and gradients of all arguments."""
    tensors = [torch.tensor(x, requires_grad=True) for x in arguments]
    want = theirs(*tensors)
    weights = np.linspace(0.5, 2, want.numel()).reshape(want.shape).astype(np.float32)
    want.backward(torch.tensor(weights))
    got, pullback = jax.vjp(ours, *map(jnp.asarray, arguments))
    np.testing.assert_allclose(got, want.detach().numpy(), rtol=rtol, atol=1e-6)
    for gradient, tensor in zip(pullback(jnp.asarray(weights)), tensors, strict=True):
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=rtol, atol=1e-6)


def test_kl_as_torch() -> None:
    """torch gives one number a class: the sum over classes is ours. Its input is our `log_predictions`."""
    p, y = distributions()

    def of(log_target: bool) -> Any:
        return lambda x, y: functional.kl_div(x, y, reduction="none", log_target=log_target).sum(-1)

    assert_same(jaxloss.kl_divergence, of(False), (np.log(p), y))
    assert_same(jaxloss.kl_divergence_with_log_targets, of(True), (np.log(p), np.log(y)))


def test_torch_has_nan_where_neither_can_occur() -> None:
    log_p, log_y = np.log(np.float32([1, 1e-45])), np.float32([0, -np.inf])
    log_p[1] = -np.inf
    theirs = functional.kl_div(torch.tensor(log_p), torch.tensor(log_y), reduction="none", log_target=True).sum()
    assert np.isnan(theirs.numpy())
    assert jaxloss.kl_divergence_with_log_targets(log_p, log_y) == 0


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_softmax_kl_as_torch(temperature: float) -> None:
    z, t = 2 * np.random.default_rng(0).normal(size=(2, 8, 9)).astype(np.float32)

    def theirs(z: Any, t: Any) -> Any:
        z, t = functional.log_softmax(z / temperature, -1), functional.log_softmax(t / temperature, -1)
        return functional.kl_div(z, t, reduction="none", log_target=True).sum(-1)

    assert_same(lambda z, t: jaxloss.softmax_kl_divergence(z, t, temperature=temperature), theirs, (z, t))


def test_softmax_kl_as_torch_distributions() -> None:
    """torch names the true distribution first."""
    z, t = 2 * np.random.default_rng(0).normal(size=(2, 8, 9)).astype(np.float32)
    of = torch.distributions.Categorical

    def theirs(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.distributions.kl_divergence(of(logits=t), of(logits=z))

    assert_same(jaxloss.softmax_kl_divergence, theirs, (z, t))


def test_gaussian_kl_as_torch() -> None:
    """torch takes standard deviations, ours are log-variances."""
    arguments = tuple(np.random.default_rng(0).normal(size=(4, 8, 9)).astype(np.float32))
    of = torch.distributions.Normal

    def theirs(mu: Any, log_var: Any, m: Any, log_s: Any) -> Any:
        return torch.distributions.kl_divergence(of(mu, (log_var / 2).exp()), of(m, (log_s / 2).exp()))

    def ours(mu: Any, log_var: Any, m: Any, log_s: Any) -> Any:
        return jaxloss.gaussian_kl_divergence(mu, log_var, target_means=m, target_log_variances=log_s)

    assert_same(ours, theirs, arguments, rtol=2e-4)


def test_a_standard_deviation_keeps_less_than_a_log_variance() -> None:
    """What is left of a log-variance of 1e-6 in float32 once it is a standard deviation near 1."""
    log_variance = torch.tensor(1e-6)
    of = torch.distributions.Normal
    zero, one = torch.zeros(()), torch.ones(())
    theirs = torch.distributions.kl_divergence(of(zero, (log_variance / 2).exp()), of(zero, one))
    assert abs(float(theirs) / 2.5e-13 - 1) > 0.05
    np.testing.assert_allclose(jaxloss.gaussian_kl_divergence(0.0, 1e-6), 2.5e-13, rtol=1e-6)


def test_kl_as_scipy() -> None:
    p, y = distributions()
    y[0, :3] = 0
    y[1], p[1, 0] = np.eye(9)[0], 0
    np.testing.assert_allclose(jaxloss.kl_divergence(np.log(p[2:]), y[2:]), special.rel_entr(y, p).sum(-1)[2:], rtol=2e-5)
    with np.errstate(divide="ignore"):
        log_p = np.log(p)
    np.testing.assert_allclose(jaxloss.kl_divergence(log_p, y), special.rel_entr(y, p).sum(-1), rtol=2e-5)
    np.testing.assert_allclose(
        jaxloss.generalized_kl_divergence(log_p, y), special.kl_div(y, p).sum(-1), rtol=2e-5
    )  # scipy's kl_div is the generalised one


def test_js_as_scipy() -> None:
    """scipy's is the square root, of distributions that it normalises."""
    p, y = distributions()
    y[0, :3] = p[0, 2:5] = 0
    p, y = p / p.sum(-1, keepdims=True), y / y.sum(-1, keepdims=True)
    theirs = spatial.distance.jensenshannon(p.astype(float), y.astype(float), axis=-1) ** 2
    np.testing.assert_allclose(jaxloss.js_divergence(p, y), theirs, rtol=1e-5)


def test_hellinger_from_the_bhattacharyya_coefficient() -> None:
    p, y = (x.astype(float) / x.sum(-1, keepdims=True, dtype=float) for x in distributions())
    theirs = np.sqrt(1 - np.sum(np.sqrt(p * y), axis=-1))
    np.testing.assert_allclose(jaxloss.hellinger_distance(p, y), theirs, rtol=1e-5)


def test_wasserstein_as_scipy() -> None:
    p, y = distributions()
    positions = np.sort(np.random.default_rng(1).normal(size=9)).astype(np.float32)
    for x in (np.arange(9.0), positions):
        theirs = [stats.wasserstein_distance(x, x, u, v) for u, v in zip(p, y, strict=True)]
        np.testing.assert_allclose(jaxloss.wasserstein_distance_1d(p, y, positions=x), theirs, rtol=1e-5)
    theirs = [stats.wasserstein_distance(u, v) for u, v in zip(p, y, strict=True)]
    np.testing.assert_allclose(jaxloss.wasserstein_distance_1d(p, y, from_samples=True), theirs, rtol=1e-5)


def test_energy_as_scipy() -> None:
    """scipy's is the square root, on the line."""
    x, y = np.random.default_rng(0).normal(size=(2, 30, 1))
    theirs = stats.energy_distance(x[:, 0], y[:, 0]) ** 2
    np.testing.assert_allclose(jaxloss.energy_distance(x, y), theirs, rtol=1e-4)


def test_alpha_divergence_of_a_half_as_a_renyi_divergence() -> None:
    """Rényi's is −log(1 − α(1−α) D)/(1−α) of the α-divergence D."""
    p, y = (x.astype(float) / x.sum(-1, keepdims=True, dtype=float) for x in distributions())
    alpha = 0.3
    renyi = np.log(np.sum(y**alpha * p ** (1 - alpha), axis=-1)) / (alpha - 1)
    ours = jaxloss.alpha_divergence(p, y, alpha=alpha)
    np.testing.assert_allclose(np.log1p(-alpha * (1 - alpha) * ours) / (alpha - 1), renyi, rtol=1e-4)
