"""Likelihoods on the line and on the circle: negative log-densities of a target given what a model predicts of it."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxloss import _check, _numerics, _special
from jaxloss._rules import by_residual, partials

# Every function here and in `_counts` returns one loss an element, with all constants of the density, so that
# e^−loss integrates to 1 over the targets. A log-density is a sum of terms of either sign: the bounds are relative to
# the largest of them. Parameters (variances, scales, ...) broadcast to the predictions and are differentiable.


def gaussian_nll(
    predictions: Float[ArrayLike, "*shape"],
    targets: Float[ArrayLike, "*shape"],
    variances: Float[ArrayLike, "..."],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The negative log-likelihood of a Gaussian: a squared error that learns how far to trust each prediction.

    Formula: r²/(2v) + ½ log v + ½ log 2π with r = prediction − target and the variance v; all constants are in. Within 4
    ulp of the largest term. Derivative: by the prediction r/v; by v: (1 − r²/v)/(2v). A variance of 1e-30 is as good as
    any: nothing is clamped.

    Args:
        predictions: the mean, any shape.
        targets: the shape of `predictions`.
        variances: v > 0, in the target's unit squared; broadcasts to `predictions`; 0 gives NaN.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in nats; negative where the density is above 1.

    Raises:
        TypeError: `predictions`, `targets` or `variances` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or `variances` or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.gaussian_nll(jnp.array([1.0, 2.0]), jnp.array([1.5, 0.0]), jnp.array([1.0, 4.0])))
        [1.0439385 2.1120858]

    References:
        Nix and Weigend, Estimating the Mean and Variance of the Target Probability Distribution, 1994
    """
    predictions, targets = _check.pair("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    variances = _check.parameter("variances", variances, predictions, where)
    return _gaussian(predictions, targets, variances, where=where)


def _standardized(r: Array, variance: Array) -> tuple[Array, Array, Array]:
    """r and the variance in units near the deviation, and the factor to them: r²/v then overflows only where it must."""
    inverse = _special.inverse_scale(variance)
    # Multiplied: XLA gathers quotients of quotients in one, which would leave the range.
    return r * inverse, variance * inverse * inverse, inverse


def _gaussian_slope(r: Array, variance: Array) -> Array:
    z, v, inverse = _standardized(_numerics.within_range(r), variance)
    return z / v * inverse


def _gaussian_by_variance(predictions: Array, targets: Array, variance: Array) -> Array:
    z, v, _ = _standardized(predictions - targets, variance)
    return _numerics.ratio(0.5 * ((v - z * z) / v), variance)


@partials(*by_residual(_gaussian_slope), _gaussian_by_variance)
def _gaussian(predictions: Array, targets: Array, variance: Array) -> Array:
    z, v, _ = _standardized(predictions - targets, variance)
    return 0.5 * (z * z / v) + (0.5 * jnp.log(variance) + _special.HALF_LOG_2PI)


def laplace_nll(
    predictions: Float[ArrayLike, "*shape"],
    targets: Float[ArrayLike, "*shape"],
    scales: Float[ArrayLike, "..."],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The negative log-likelihood of a Laplace distribution: an absolute error that learns how far to trust itself.

    Formula: |r|/b + log 2b with r = prediction − target; all constants are in. Within 4 ulp of the largest term.
    Derivative: by the prediction sign(r)/b, which is 0 at the kink r = 0; by b: (b − |r|)/b².

    Args:
        predictions: the median, any shape.
        targets: the shape of `predictions`.
        scales: b > 0, the mean of |r|, in the target's unit; broadcasts to `predictions`; 0 gives NaN.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in nats; negative where the density is above 1.

    Raises:
        TypeError: `predictions`, `targets` or `scales` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or `scales` or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.laplace_nll(jnp.array([1.0, 2.0]), jnp.array([1.5, 0.0]), jnp.array([1.0, 4.0])))
        [1.1931472 2.5794415]

    References:
        Laplace, Mémoire sur la probabilité des causes par les évènements, 1774
    """
    predictions, targets = _check.pair("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    scales = _check.parameter("scales", scales, predictions, where)
    return _laplace(predictions, targets, scales, where=where)


def _laplace_by_scale(predictions: Array, targets: Array, scale: Array) -> Array:
    # Not (b − |r|)/b/b, which XLA would divide by b².
    part = _numerics.ratio(scale - jnp.abs(predictions - targets), scale)
    return part * _numerics.ratio(jnp.ones_like(scale), scale)


@partials(
    *by_residual(lambda r, scale: _numerics.ratio(jnp.sign(r), scale)),
    _laplace_by_scale,
)
def _laplace(predictions: Array, targets: Array, scale: Array) -> Array:
    return jnp.abs(predictions - targets) / scale + (jnp.log(scale) + math.log(2))


def student_t_nll(
    predictions: Float[ArrayLike, "*shape"],
    targets: Float[ArrayLike, "*shape"],
    scales: Float[ArrayLike, "..."],
    df: Float[ArrayLike, "..."],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The negative log-likelihood of a Student t distribution: robust regression whose tails are learned.

    Formula: ½(ν + 1) log(1 + z²/ν) + log σ + ½ log νπ + log Γ(ν/2) − log Γ((ν + 1)/2), with z = (prediction − target)/σ
    and ν degrees of freedom; all constants are in. The difference of the log Γ is taken without cancellation: ν = 1e8 is a
    Gaussian to all digits. Within 8 ulp of the largest term. Derivative: by the prediction (ν + 1)z/(σ(ν + z²)); by σ:
    (1 − (ν + 1)z²/(ν + z²))/σ; by ν as well.

    Args:
        predictions: the location, any shape.
        targets: the shape of `predictions`.
        scales: σ > 0, in the target's unit; broadcasts to `predictions`. The variance is σ²ν/(ν − 2).
        df: ν > 0, finite; broadcasts to `predictions`.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in nats; negative where the density is above 1.

    Raises:
        TypeError: `predictions`, `targets` or a parameter is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or a parameter or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.student_t_nll(jnp.array([1.0, 2.0]), jnp.array([1.5, 0.0]), jnp.array(1.0), jnp.array(3.0)))
        [1.1609743 2.6954846]

    References:
        Lange, Little and Taylor, Robust Statistical Modeling Using the t Distribution, 1989
    """
    predictions, targets = _check.pair("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    scales = _check.parameter("scales", scales, predictions, where)
    df = _check.parameter("df", df, predictions, where)
    return _student_t(predictions, targets, scales, df, where=where)


def _in_scales(r: Array, scale: Array, df: Array) -> Array:
    """z/√ν, finite, for the derivatives."""
    return _numerics.within_range(_numerics.ratio(_numerics.ratio(_numerics.within_range(r), scale), jnp.sqrt(df)))


def _student_t_slope(r: Array, scale: Array, df: Array) -> Array:
    return _numerics.ratio(df + 1, scale * jnp.sqrt(df)) * _special.cauchy_slope(_in_scales(r, scale, df))


def _student_t_by_scale(predictions: Array, targets: Array, scale: Array, df: Array) -> Array:
    w = _in_scales(predictions - targets, scale, df)
    return _numerics.ratio(1 - (df + 1) * (w * _special.cauchy_slope(w)), scale)


def _student_t_by_df(predictions: Array, targets: Array, scale: Array, df: Array) -> Array:
    w, half = _in_scales(predictions - targets, scale, df), 0.5 * df
    # Of the constants, d(log(a/(a + ½)) + ...)/da with a = ν/2.
    slope = _special.log_ratio(half, half + 0.5, jnp.full_like(half, -0.5)) + 0.5 / (half + 0.5)
    slope = slope + _special.binet_slope(half) - _special.binet_slope(half + 0.5)
    return 0.5 * (slope + _special.log1p_square(w) - (1 + 1 / df) * (w * _special.cauchy_slope(w)))


@partials(*by_residual(_student_t_slope), _student_t_by_scale, _student_t_by_df)
def _student_t(predictions: Array, targets: Array, scale: Array, df: Array) -> Array:
    w, half = (predictions - targets) / scale / jnp.sqrt(df), 0.5 * df
    constants = _special.half_deviance(half, half + 0.5, jnp.full_like(half, -0.5))
    constants = constants + (_special.binet(half) - _special.binet(half + 0.5))
    return (half + 0.5) * _special.log1p_square(w) + (jnp.log(scale) + (constants + _special.HALF_LOG_2PI))


def von_mises_nll(
    predictions: Float[ArrayLike, "*shape"],
    targets: Float[ArrayLike, "*shape"],
    concentrations: Float[ArrayLike, "..."],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The negative log-likelihood of a von Mises distribution: regression of angles, where 359° is next to 1°.

    Formula: −κ cos r + log(2π I₀(κ)) with r = prediction − target, taken as 2κ sin²(r/2) + log(2π I₀(κ) e^−κ), which
    neither cancels nor overflows for any κ; all constants are in. Within 8 ulp of the largest term. Derivative: by the
    prediction κ sin r; by κ: 2 sin²(r/2) − (1 − I₁(κ)/I₀(κ)). κ = 0 is the uniform distribution; for large κ it is a
    Gaussian of variance 1/κ.

    Args:
        predictions: the mean direction, in radians, any shape.
        targets: the angle, in radians, of the shape of `predictions`. Whole turns do not matter.
        concentrations: κ ≥ 0; broadcasts to `predictions`.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in nats; negative where the density is above 1.

    Raises:
        TypeError: `predictions`, `targets` or `concentrations` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or `concentrations` or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.von_mises_nll(jnp.array([0.1, 3.0]), jnp.array([0.1, -3.0]), jnp.array([1.0, 100.0])))
        [1.07379 2.60058]

    References:
        von Mises, Über die "Ganzzahligkeit" der Atomgewichte und verwandte Fragen, 1918
        Mardia and Jupp, Directional Statistics, 2000
    """
    predictions, targets = _check.pair("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    concentrations = _check.parameter("concentrations", concentrations, predictions, where, zero=True)
    return _von_mises(predictions, targets, concentrations, where=where)


# The derivative by κ is None: that of `log_i0e` keeps its digits by itself.
@partials(*by_residual(lambda r, kappa: kappa * jnp.sin(r)), None)
def _von_mises(predictions: Array, targets: Array, kappa: Array) -> Array:
    s = jnp.sin(0.5 * (predictions - targets))
    return 2 * (kappa * s) * s + (_special.log_i0e(kappa) + math.log(2 * math.pi))


def gaussian_crps(
    predictions: Float[ArrayLike, "*shape"],
    targets: Float[ArrayLike, "*shape"],
    scales: Float[ArrayLike, "..."],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The continuous ranked probability score of a Gaussian forecast: an absolute error that knows its spread.

    Formula: ∫ (F(x) − 1[x ≥ y])² dx = σ(z(2Φ(z) − 1) + 2φ(z) − 1/√π), with F the Gaussian's distribution function and
    z = r/σ, r = prediction − target. Derivative: by the prediction 2Φ(z) − 1; by σ: 2φ(z) − 1/√π. It is |r| for σ = 0, in
    the target's unit, and unlike the likelihood grows no faster than |r| for a confident mistake.

    Args:
        predictions: the mean, any shape.
        targets: the shape of `predictions`.
        scales: the standard deviation σ ≥ 0, in the target's unit; broadcasts to `predictions`.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in the target's unit, at least (√2 − 1)σ/√π.

    Raises:
        TypeError: `predictions`, `targets` or `scales` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or `scales` or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.gaussian_crps(jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0]), jnp.array([1.0, 0.0])))
        [0.23369498 2.        ]

    References:
        Gneiting, Raftery, Westveld and Goldman, Calibrated Probabilistic Forecasting Using Ensemble Model Output
            Statistics and Minimum CRPS Estimation, 2005
    """
    predictions, targets = _check.pair("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    scales = _check.parameter("scales", scales, predictions, where, zero=True)
    return _gaussian_crps(predictions, targets, scales, where=where)


def _in_deviations(r: Array, scale: Array) -> Array:
    """r/(√2 σ), with 0/0 = 0; ±40, which is as good as infinite, at most."""
    r, deviation = _numerics.within_range(r), math.sqrt(2) * scale
    far = jnp.abs(r) > 40 * deviation
    z = _numerics.ratio(jnp.where(far, 0, r), jnp.where(far | (scale == 0), 1, deviation))
    return jnp.where(far, 40 * jnp.sign(r), z)


def _erf(z: Array) -> Array:
    """erf z for finite z. Of erf alone the partitioner does not know that it is elementwise: it would gather z."""
    return lax.erf(z) + 0 * z


@jax.custom_jvp
def _spread(z: Array) -> Array:
    """2φ(√2 z) − 1/√π: its value at 0 first, so that the two do not cancel there."""
    return (math.sqrt(2) - 1) / math.sqrt(math.pi) + math.sqrt(2 / math.pi) * jnp.expm1(-z * z)


# JAX's own derivative of expm1 adds the 1 back, and has few digits of e^(−z²) left.
_spread.defjvps(lambda dz, _, z: dz * (-2 * math.sqrt(2 / math.pi) * z * jnp.exp(-z * z)))


@partials(
    *by_residual(lambda r, scale: _erf(_in_deviations(r, scale))),
    lambda predictions, targets, scale: _spread(_in_deviations(predictions - targets, scale)),
)
def _gaussian_crps(predictions: Array, targets: Array, scale: Array) -> Array:
    r = predictions - targets
    z = _in_deviations(r, scale)
    return r * _erf(z) + scale * _spread(z)
