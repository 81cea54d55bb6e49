"""Variational inference: the evidence lower bound, and the divergence of Gaussians that it charges for."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxloss import _check, _numerics, _rules, _softmax
from jaxloss._rules import partials


def gaussian_kl_divergence(
    means: Float[ArrayLike, "*shape"],
    log_variances: Float[ArrayLike, "*shape"],
    *,
    target_means: Float[ArrayLike, "..."] = 0.0,
    target_log_variances: Float[ArrayLike, "..."] = 0.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The Kullback-Leibler divergence of Gaussians from the standard one, or from another, dimension by dimension.

    Formula: ½ (e^ν − 1 − ν + (μ − m)²/s²) with ν = log σ² − log s², for N(μ, σ²) from N(m, s²); no term is negative, and
    none cancels for σ ≈ s. Derivative: by μ: (μ − m)/s²; by log σ²: ½ (e^ν − 1). The divergence of Gaussians of diagonal
    covariance is the sum over their dimensions, `jnp.sum(..., axis=-1)`; `negative_elbo` takes them one by one.

    Args:
        means: μ, any shape.
        log_variances: log σ², of the shape of `means`; a variance of 1e-30 is as good as any.
        target_means: m, of the prior; broadcasts, differentiable.
        target_log_variances: log s²; broadcasts, differentiable.
        where: which dimensions count; broadcasts to `means`.

    Returns:
        One loss an element, in nats.

    Raises:
        TypeError: `means`, `log_variances` or an option is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or an option or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.gaussian_kl_divergence(jnp.array([0.0, 1.0]), jnp.array([0.0, -2.0])))
        [0.       1.067668]

    References:
        Kingma and Welling, Auto-Encoding Variational Bayes, 2014, appendix B
    """
    means, log_variances = _check.pair("means", means, "log_variances", log_variances)
    where = _check.mask(where, means.shape, "means")
    target_means = _check.optional("target_means", target_means, means, unused=0)
    target_log_variances = _check.optional("target_log_variances", target_log_variances, means, unused=0)
    return _gaussian_kl(means, log_variances, target_means, target_log_variances, where=where)


def _difference(x: Array, other: Any) -> Array:
    return x if other is None else x - other


def _precise(x: Array, log_variance: Any) -> Array:
    """x/s."""
    return x if log_variance is None else x * jnp.exp(-0.5 * log_variance)


def _by_mean(mu: Array, log_var: Array, m: Any, log_s: Any) -> Array:
    return _precise(_precise(_difference(mu, m), log_s), log_s)


def _by_target_log_variance(mu: Array, log_var: Array, m: Any, log_s: Any) -> Array:
    a = _precise(_difference(mu, m), log_s)
    return -0.5 * jnp.expm1(_difference(log_var, log_s)) - (0.5 * a) * a


# The rule keeps the inputs as they came, and is 0 · inf nowhere.
@partials(
    _by_mean,
    lambda mu, log_var, m, log_s: 0.5 * jnp.expm1(_difference(log_var, log_s)),
    lambda *args: -_by_mean(*args),
    _by_target_log_variance,
)
def _gaussian_kl(mu: Array, log_var: Array, m: Any, log_s: Any) -> Array:
    a = _precise(_difference(mu, m), log_s)
    return 0.5 * _numerics.excess(_difference(log_var, log_s)) + (0.5 * a) * a


def negative_elbo(
    reconstruction_losses: Float[ArrayLike, "*batch"],
    kl_divergences: Float[ArrayLike, "*batch latents"],
    *,
    beta: Float[ArrayLike, "..."] = 1.0,
    free_bits: Float[ArrayLike, "..."] = 0.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The negative evidence lower bound: what a variational autoencoder minimises, an upper bound of −log p(x).

    Formula: R + β Σᵢ max(KLᵢ, λ) over the latent dimensions i, with the reconstruction loss R = −log p(x|z). Derivative:
    by R: 1; by KLᵢ: β where KLᵢ > λ, else 0: the first λ nats of a dimension are free, so that it is not given up
    early; by λ: β for each dimension within. λ = 0 charges for all; β ≠ 1 is the β-VAE, and no bound any more for β < 1.
    Kingma's free bits take the mean of each KLᵢ over the minibatch first: the caller's `jnp.mean`, if wanted.

    Args:
        reconstruction_losses: R, one number an example, in nats: summed over its pixels, not averaged.
        kl_divergences: KLᵢ, one number an example and latent dimension (or group), of the shape of
            `reconstruction_losses` and one axis more.
        beta: β ≥ 0, the weight of the divergence; broadcasts to the examples, differentiable.
        free_bits: λ ≥ 0, in nats a dimension; broadcasts to `kl_divergences`, differentiable.
        where: which examples count.

    Returns:
        One loss an example, in nats.

    Raises:
        TypeError: an argument or option is not floating point, or `where` is not boolean.
        ValueError: the shapes do not belong together, an option or `where` does not broadcast, or an option is
            negative.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.negative_elbo(jnp.array([90.0]), jnp.array([[2.0, 0.125]]), free_bits=0.25))
        [92.25]

    References:
        Kingma and Welling, Auto-Encoding Variational Bayes, 2014
        Kingma et al., Improved Variational Inference with Inverse Autoregressive Flow, 2016
        Higgins et al., beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework, 2017
    """
    losses = _check.floating("reconstruction_losses", reconstruction_losses)
    divergences = _check.floating("kl_divergences", kl_divergences)
    _check.one_axis_more("reconstruction_losses", losses, "kl_divergences", divergences)
    where = _check.mask(where, losses.shape, "reconstruction_losses")
    beta = _check.option("beta", beta, losses, minimum=0, where=where)
    free_bits = _check.optional(
        "free_bits",
        free_bits,
        divergences,
        unused=0,
        minimum=0,
        of="kl_divergences",
        where=None if where is None else where[..., None],
    )
    return _rules.call(_negative_elbo, losses, divergences, beta, free_bits, where)


# Recomputed: the backward pass keeps the inputs as they came.
@_rules.recomputed
def _negative_elbo(losses: Array, divergences: Array, beta: Array, free_bits: Any, where: Any) -> Array:
    inputs = (losses, divergences, beta, free_bits)
    loss, kl, beta, free = (_rules.wide(x, *inputs) for x in inputs)
    loss, kl = _rules.masked(where, loss), _rules.masked(where, kl, 1)
    beta, free = _rules.harmless(where, beta), _rules.harmless(where, free, 1)
    if free is not None:
        kl = jnp.where(kl <= free, free, kl)
    loss = loss + jnp.sum(_softmax.times(beta[..., None], kl), axis=-1)
    return _rules.masked(where, loss)
