"""Likelihoods of counts, amounts and proportions, and the deviance that joins them.

All but the last return −log of the density with every constant, as `_likelihood` does. Their log Γ are taken apart:
Stirling's main terms join the others in an entropy ≥ 0, `half_deviance`, so that large counts and concentrations do not
cancel.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from jaxloss import _check, _numerics, _special, _values
from jaxloss._rules import partials


def poisson_nll(
    predictions: Float[ArrayLike, "*shape"],
    targets: Real[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    *,
    log_rate: bool = True,
    full: bool = True,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The negative log-likelihood of a Poisson distribution: regression of counts.

    Formula: λ − y log λ + log y!, with the rate λ = e^prediction, or the prediction itself; 0 log 0 is 0, and log y! is
    log Γ(y + 1). Derivative: by the log-rate λ − y; by λ: 1 − y/λ; by y: ψ(y + 1) − log λ, without `full` −log λ. In full,
    within 8 ulp of max(1, loss), large counts too, and for a log-rate of |λ − y|; without, λ and y log λ cancel: within 4
    ulp of the larger.

    Args:
        predictions: the log-rate, or the rate ≥ 0, any shape.
        targets: the count y ≥ 0, of the shape of `predictions`; need not be whole.
        log_rate: whether `predictions` are log λ (torch: log_input) rather than λ.
        full: whether log y! is added, which no prediction changes.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in nats; inf for a rate of 0 and a count above.

    Raises:
        TypeError: `predictions` is not floating point, `targets` are no numbers, or `where` is not boolean.
        ValueError: the shapes differ, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.poisson_nll(jnp.array([0.0, 2.0]), jnp.array([0.0, 5.0])))
        [1. 2.1765478]

    References:
        Nelder and Wedderburn, Generalized Linear Models, 1972
        Loader, Fast and Accurate Computation of Binomial Probabilities, 2000 (in full)
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    _values.at_least_zero("targets", targets, where)
    full = _check.flag("full", full)
    if not _check.flag("log_rate", log_rate):
        _values.at_least_zero("predictions", predictions, where)
        return (_poisson if full else _poisson_kernel)(predictions, targets, where=where)
    return (_poisson_of_log if full else _poisson_kernel_of_log)(predictions, targets, where=where)


@partials(lambda rate, y: _special.excess(y, rate, y - rate), lambda rate, y: _special.digamma(y + 1) - jnp.log(rate))
def _poisson(rate: Array, y: Array) -> Array:
    return _special.poisson(y, rate, y - rate)


@partials(lambda rate, y: _special.excess(y, rate, y - rate), lambda rate, y: -jnp.log(rate))
def _poisson_kernel(rate: Array, y: Array) -> Array:
    return rate - _numerics.xlogy(y, _numerics.within_range(rate))


@partials(lambda x, y: jnp.exp(x) - y, lambda x, y: _special.digamma(y + 1) - x)
def _poisson_of_log(x: Array, y: Array) -> Array:
    rate, limits = jnp.exp(x), jnp.finfo(x.dtype)
    # Where the rate leaves the range, its logarithm does not.
    usual = (rate >= limits.tiny) & (rate <= limits.max)
    inner, none = jnp.where(usual, rate, 1), y == 0
    # At y = 0, where the logarithm of y would make NaN of it, the slope of log Γ(y + 1).
    log_y = jnp.where(none, -np.euler_gamma, jnp.log(jnp.where(none, 1, y)) - 1)
    beyond = rate + y * (log_y - _below_rate(x, y)) + _special.stirling_excess(y)
    return jnp.where(usual, _special.poisson(y, inner, y - inner), beyond)


def _below_rate(x: Array, y: Array) -> Array:
    """The log-rate x, no higher than where the rate is inf anyway; finite for y = 0, since 0 · inf is 0."""
    x = jnp.minimum(x, 2 * math.log(jnp.finfo(x.dtype).max))
    return jnp.where(y == 0, _numerics.within_range(x), x)


@partials(lambda x, y: jnp.exp(x) - y, lambda x, y: -x)
def _poisson_kernel_of_log(x: Array, y: Array) -> Array:
    return jnp.exp(x) - y * _below_rate(x, y)


def negative_binomial_nll(
    predictions: Float[ArrayLike, "*shape"],
    targets: Real[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    total_counts: Float[ArrayLike, "..."],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The negative log-likelihood of a negative binomial: regression of counts that vary more than Poisson's.

    Formula: log Γ(s) + log y! − log Γ(y + s) + s log((s + m)/s) + y log((s + m)/m), with the mean m = prediction and the
    total count s, so that the variance is m + m²/s (1/s is the dispersion α of generalised linear models; s → ∞ is
    Poisson, and s = 1e8 comes near without cancellation); 0 log 0 is 0. All constants are in. Within 8 ulp of the largest
    of 1, the loss and log s. Derivative: by m: s(m − y)/(m(s + m)); by y and s through digamma functions.

    Args:
        predictions: the mean m ≥ 0, any shape.
        targets: the count y ≥ 0, of the shape of `predictions`; need not be whole.
        total_counts: s > 0, finite; broadcasts to `predictions`.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in nats; inf for a mean of 0 and a count above.

    Raises:
        TypeError: `predictions` is not floating point, `targets` or `total_counts` is no number, or `where` is not boolean.
        ValueError: the shapes differ, or `total_counts` or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.negative_binomial_nll(jnp.array([2.0, 2.0]), jnp.array([0.0, 5.0]), jnp.array(1.0)))
        [1.0986123 3.125938 ]

    References:
        Hilbe, Negative Binomial Regression, 2011
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    _values.at_least_zero("predictions", predictions, where)
    _values.at_least_zero("targets", targets, where)
    total_counts = _check.parameter("total_counts", total_counts, predictions, where)
    return _negative_binomial(predictions, targets, total_counts, where=where)


def _negative_binomial_by_total(mean: Array, y: Array, s: Array) -> Array:
    n, total = y + s, mean + s
    rest = _special.binet_slope(s) - _special.binet_slope(n) - 0.5 * (y / s) / n
    return _special.log_ratio(total, n, mean - y) - (mean - y) / total + rest


@partials(
    lambda mean, y, s: _special.excess(y, mean, y - mean) * (s / (s + mean)),
    lambda mean, y, s: _special.digamma(y + 1) - _special.digamma(y + s) + jnp.log1p(s / mean),
    _negative_binomial_by_total,
)
def _negative_binomial(mean: Array, y: Array, s: Array) -> Array:
    n, total = y + s, mean + s
    # What y and s are off their expectations, n·m/(s + m) and n·s/(s + m): one number, with two signs.
    off = (y - mean) * (s / total)
    entropy = _special.poisson(y, mean * (n / total), off) + _special.half_deviance(s, n * (s / total), -off)
    return entropy + (jnp.log1p(y / s) + (_special.stirling_excess(s) - _special.stirling_excess(n)))


def gamma_nll(
    predictions: Float[ArrayLike, "*shape"],
    targets: Real[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    concentrations: Float[ArrayLike, "..."],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The negative log-likelihood of a gamma distribution: regression of amounts, whose error grows with them.

    Formula: log Γ(k) − k log(k/m) − (k − 1) log y + ky/m, with the mean m = prediction and the concentration (shape) k:
    the rate is k/m, the variance m²/k, and k = 1 is the exponential distribution. Taken as k(y/m − 1 − log(y/m)) + log y −
    ½ log(k/2π) and a small rest, so that a large k does not cancel; all constants are in. Within 8 ulp of the largest term.
    Derivative: by m: (k/m)(1 − y/m); by y: k/m − (k − 1)/y; by k: y/m − 1 − log(y/m) + ψ(k) − log k.

    Args:
        predictions: the mean m > 0, in the target's unit, any shape.
        targets: the amount y ≥ 0, of the shape of `predictions`.
        concentrations: k > 0; broadcasts to `predictions`.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in nats. For y = 0: −inf for k < 1, log m for k = 1, inf for k > 1.

    Raises:
        TypeError: `predictions` is not floating point, `targets` or `concentrations` is no number, or `where` not boolean.
        ValueError: the shapes differ, or `concentrations` or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.gamma_nll(jnp.array([2.0, 2.0]), jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0])))
        [1.1931472 0.9397292]

    References:
        McCullagh and Nelder, Generalized Linear Models, 1989, chapter 8
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    _values.at_least_zero("targets", targets, where)
    concentrations = _check.parameter("concentrations", concentrations, predictions, where)
    return _gamma(predictions, targets, concentrations, where=where)


def _gamma_by_target(mean: Array, y: Array, k: Array) -> Array:
    none = y == 0
    some = jnp.where(none, 1, y)
    at_zero = jnp.where(k == 1, 1 / mean, jnp.where(k < 1, jnp.inf, -jnp.inf))
    return jnp.where(none, at_zero, k / jnp.minimum(some, mean) * ((some - mean) / jnp.maximum(some, mean)) + 1 / some)


@partials(
    lambda mean, y, k: (k / mean) * ((mean - y) / mean),
    _gamma_by_target,
    lambda mean, y, k: _special.half_deviance(mean, y, mean - y) / mean - 0.5 / k + _special.binet_slope(k),
)
def _gamma(mean: Array, y: Array, k: Array) -> Array:
    none = y == 0
    some = jnp.where(none, mean, y)
    constants = jnp.log(some) - 0.5 * jnp.log(k) + (_special.HALF_LOG_2PI + _special.binet(k))
    usual = k * (_special.half_deviance(mean, some, mean - some) / mean) + constants
    return jnp.where(none, jnp.log(mean) - _numerics.xlogy(k - 1, y), usual)


def beta_nll(
    predictions: Float[ArrayLike, "*shape"],
    targets: Real[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    concentrations: Float[ArrayLike, "..."],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The negative log-likelihood of a beta distribution: regression of proportions.

    (Not the β-NLL of Seitzer et al., which is gaussian_nll weighted by stop_gradient(variances)^β.)

    Formula: log Γ(a) + log Γ(b) − log Γ(φ) − (a − 1) log y − (b − 1) log(1 − y), with a = mφ and b = (1 − m)φ, the mean
    m = prediction and the concentration φ = a + b (the precision of beta regression), so that the variance is
    m(1 − m)/(1 + φ). Taken as φ KL(m ‖ y) and smaller terms, so that a large φ does not cancel; all constants are in. Within
    8 ulp of the largest term. Derivative: by m: φ(ψ(a) − ψ(b) − log(y/(1 − y))); by y: (b − 1)/(1 − y) − (a − 1)/y.

    Args:
        predictions: the mean m, between 0 and 1, any shape.
        targets: the proportion y, between 0 and 1, of the shape of `predictions`; elsewhere, at 0 and 1 too, loss and
            gradient are NaN.
        concentrations: φ > 0; broadcasts to `predictions`.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in nats; negative where the density is above 1.

    Raises:
        TypeError: `predictions` is not floating point, `targets` or `concentrations` is no number, or `where` not boolean.
        ValueError: the shapes differ, or `concentrations` or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.beta_nll(jnp.array([0.5, 0.25]), jnp.array([0.1, 0.25]), jnp.array([2.0, 4.0])))
        [ 0.        -0.5232482]

    References:
        Ferrari and Cribari-Neto, Beta Regression for Modelling Rates and Proportions, 2004
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    _values.probabilities(predictions, where)
    concentrations = _check.parameter("concentrations", concentrations, predictions, where)
    return _beta(predictions, targets, concentrations, where=where)


def _beta_entropy(mean: Array, y: Array, phi: Array) -> Array:
    """φ KL(m ‖ y)."""
    off, p, q = phi * (mean - y), mean * phi, (1 - mean) * phi
    return _special.half_deviance(p, y * phi, off) + _special.half_deviance(q, (1 - y) * phi, -off)


def _outside(mean: Array, y: Array) -> Array:
    """NaN where the mean or the target is no proportion, for the value and every derivative alike; else 0."""
    return jnp.where((mean >= 0) & (mean <= 1) & (y > 0) & (y < 1), 0, jnp.nan)


def _beta_by_concentration(mean: Array, y: Array, phi: Array) -> Array:
    a, b = mean * phi, (1 - mean) * phi
    rest = mean * _special.binet_slope(a) + (1 - mean) * _special.binet_slope(b) - _special.binet_slope(phi)
    return _beta_entropy(mean, y, phi) / phi - 0.5 / phi + rest + _outside(mean, y)


def _beta_by_mean(mean: Array, y: Array, phi: Array) -> Array:
    off, p, q = phi * (mean - y), mean * phi, (1 - mean) * phi
    logs = _special.log_ratio(p, y * phi, off) - _special.log_ratio(q, (1 - y) * phi, -off)
    rest = _special.binet_slope(p) - _special.binet_slope(q)
    return phi * (logs + rest) + 0.5 * (1 / (1 - mean) - 1 / mean) + _outside(mean, y)


def _beta_by_target(mean: Array, y: Array, phi: Array) -> Array:
    return (phi * ((y - mean) / (y * (1 - y)))) + (1 / y - 1 / (1 - y)) + _outside(mean, y)


@partials(_beta_by_mean, _beta_by_target, _beta_by_concentration)
def _beta(mean: Array, y: Array, phi: Array) -> Array:
    a, b = mean * phi, (1 - mean) * phi
    logs = (jnp.log(y) + jnp.log1p(-y)) - 0.5 * (jnp.log(mean) + jnp.log1p(-mean) + jnp.log(phi))
    rest = _special.HALF_LOG_2PI + _special.binet(a) + _special.binet(b) - _special.binet(phi)
    return _beta_entropy(mean, y, phi) + (logs + rest) + _outside(mean, y)


def tweedie_deviance(
    predictions: Float[ArrayLike, "*shape"],
    targets: Real[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    *,
    power: Float[ArrayLike, "..."] = 1.5,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The Tweedie deviance: twice what a prediction costs beyond the target itself, for an error that grows as mean^power.

    Formula: 2 ∫_m^y (y − u) u^−p du = 2(y^(2−p)/((1 − p)(2 − p)) − y m^(1−p)/(1 − p) + m^(2−p)/(2 − p)), m = prediction.
    Power 0 is the squared error, 1 Poisson's deviance, between 1 and 2 that of amounts with exact zeros, 2 the gamma's, 3
    the inverse Gaussian's; the limits and their neighbourhood are as exact as the rest, and y near m does not cancel.
    Within 16 ulp. Derivative: by m: −2(y − m)m^−p; by y: 2(y^(1−p) − m^(1−p))/(1 − p), at y = 0 −inf for p ≥ 1; by p too.

    Args:
        predictions: the mean m > 0 (for power 0 any number), in the target's unit, any shape.
        targets: y > 0, for a power below 2 also 0 (for power 0 any number), of the shape of `predictions`.
        power: p ≥ 0; broadcasts, differentiable.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, ≥ 0 and 0 for y = m, in the target's unit to the power 2 − p; inf for y = 0 and p ≥ 2.

    Raises:
        TypeError: `predictions` is not floating point, `targets` or `power` is no number, or `where` is not boolean.
        ValueError: the shapes differ, `power` or `where` does not broadcast, or `power` is negative.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.tweedie_deviance(jnp.array([1.0, 2.0]), jnp.array([0.0, 2.5]), power=1.5))
        [4. 0.07881142]

    References:
        Jørgensen, Exponential Dispersion Models, 1987
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    power = _check.option("power", power, predictions, minimum=0, where=where)
    return _tweedie(predictions, targets, power, where=where)


def _nodes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the integral over u = m + τ(y − m), τ from 0 to 1, is taken, and the weights there, 1 − τ included."""
    x, w = np.polynomial.legendre.leggauss(count)
    return 0.5 * (1 + x), 0.25 * w * (1 - x)


# For |y − m| < (y + m)/4 the error falls by 8² a node.
_FEW, _MANY = _nodes(5), _nodes(10)


def _unless_zero(power: Array, factor: Array) -> Array:
    """A power that a factor is to be multiplied with, where 0 · inf is 0."""
    return jnp.where((factor == 0) & (power == jnp.inf), 0, power)


def _power_difference(y: Array, mean: Array, c: Array, factor: Array | float = 1.0) -> Array:
    """factor · (y^c − m^c)/c, and factor · log(y/m) for c = 0, for y, m > 0.

    By the roots of the powers: the powers may be out of range where their products are not.
    """
    log_ratio, root, other = _special.log_ratio(y, mean, y - mean), y ** (0.5 * c), mean ** (0.5 * c)
    v = c * log_ratio
    near = jnp.abs(v) < 1
    of_mean = _unless_zero(other, log_ratio)
    close = (factor * of_mean) * (of_mean * log_ratio) * _numerics.expm1_ratio(jnp.where(near, v, 0))
    far = ((factor * root) * root - (factor * other) * other) / jnp.where(near, 1, c)
    return jnp.where(near, close, far)


def _cases(mean: Array, y: Array, p: Array) -> tuple[Array, Array, Array, Array]:
    """Where power 0 makes a plain square of what is not positive, where y is 0, and both numbers positive."""
    square = (p == 0) & ((mean <= 0) | (y <= 0))
    none = ~square & (y == 0)
    return square, none, jnp.where(square, 1, mean), jnp.where(square | none, 1, y)


def _tweedie_by_prediction(predictions: Array, targets: Array, p: Array) -> Array:
    square, _, mean, _ = _cases(predictions, targets, p)
    r = predictions - targets
    return 2 * jnp.where(square, r, r / mean * _unless_zero(mean ** (1 - p), r))


def _slope_at_zero(mean: Array, p: Array) -> Array:
    """The limit of (y^(1−p) − m^(1−p))/(1 − p) for y → 0."""
    below = jnp.where(p < 1, 1 - p, 1)
    return jnp.where(p < 1, -(mean**below) / below, -jnp.inf)


def _tweedie_by_target(predictions: Array, targets: Array, p: Array) -> Array:
    square, none, mean, y = _cases(predictions, targets, p)
    at_zero = _slope_at_zero(mean, p)
    return 2 * jnp.where(square, targets - predictions, jnp.where(none, at_zero, _power_difference(y, mean, 1 - p)))


@partials(_tweedie_by_prediction, _tweedie_by_target, None)
def _tweedie(predictions: Array, targets: Array, p: Array) -> Array:
    square, none, mean, y = _cases(predictions, targets, p)
    near = jnp.abs(y - mean) < 0.25 * (y + mean)
    t = jnp.where(near, y - mean, 0) / mean
    tau, weight = (_special.along_new_axis(x, t) for x in (_MANY if t.dtype == jnp.float64 else _FEW))
    integral = jnp.sum(weight * jnp.exp(-p * jnp.log1p(tau * t)), axis=0)
    close = t * t * mean ** (2 - p) * integral
    apart, other = jnp.where(near, 1, y), jnp.where(near, 2, mean)
    far = _power_difference(apart, other, 1 - p, apart) - _power_difference(apart, other, 2 - p)
    below = jnp.where(p < 2, 2 - p, 1)
    at_zero = jnp.where(p < 2, mean**below / below, jnp.inf)
    # Its derivatives by a tiny mean are out of range, though none of the loss's.
    usable = mean > 1e-18
    slope = jnp.where(usable, _slope_at_zero(jnp.where(usable, mean, 1), p), lax.stop_gradient(_slope_at_zero(mean, p)))
    at_zero = at_zero + jnp.where(none, targets, 0) * _numerics.within_range(slope)
    half = jnp.where(none, at_zero, jnp.where(near, close, far))
    return jnp.where(square, jnp.square(targets - predictions), 2 * half)
