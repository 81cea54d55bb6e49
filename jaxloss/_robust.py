"""Robust regression: smooth losses of the residual with a scale of their own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxloss import _check, _numerics
from jaxloss._rules import by_residual, partials


def pseudo_huber_loss(
    predictions: Float[ArrayLike, "*shape"],
    targets: Float[ArrayLike, "*shape"],
    *,
    delta: Float[ArrayLike, "..."] = 1.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The pseudo-Huber loss: a smooth Huber loss, r²/2 near 0 and δ|r| − δ² far away.

    Formula: δ²(√(1 + (r/δ)²) − 1) with r = prediction − target. Derivative: r/√(1 + (r/δ)²); by δ: (h − δ)²/h with
    h = √(r² + δ²).

    Args:
        predictions: any shape.
        targets: the shape of `predictions`.
        delta: where the loss turns linear, in the target's unit, > 0; broadcasts, differentiable.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in the target's unit squared.

    Raises:
        TypeError: `predictions`, `targets` or `delta` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, `delta` or `where` does not broadcast, or `delta` is not positive.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.pseudo_huber_loss(jnp.array([1e-4, 2.0]), jnp.array([0.0, 0.0])))
        [4.9999995e-09 1.2360680e+00]

    References:
        Charbonnier et al., Deterministic Edge-Preserving Regularization in Computed Imaging, 1997
    """
    predictions, targets = _check.pair("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    delta = _check.option("delta", delta, predictions, above=0, where=where)
    return _pseudo_huber(predictions, targets, delta, where=where)


def _excess(r: Array, delta: Array) -> tuple[Array, Array]:
    """√(r² + δ²) and its excess over δ, r²/(h + δ): the subtraction would cancel for r << δ."""
    h, a, largest = _numerics.hypot(r, delta), jnp.abs(r), jnp.finfo(r.dtype).max
    return h, a * (jnp.minimum(a, largest) / jnp.minimum(h + delta, largest))


def _pseudo_huber_by_delta(predictions: Array, targets: Array, delta: Array) -> Array:
    """(h − δ)²/h."""
    h, excess = _excess(predictions - targets, delta)
    return excess * _numerics.direction(excess, h)


@partials(
    *by_residual(lambda r, delta: delta * _numerics.direction(r, _numerics.hypot(r, delta))),
    _pseudo_huber_by_delta,
)
def _pseudo_huber(predictions: Array, targets: Array, delta: Array) -> Array:
    return delta * _excess(predictions - targets, delta)[1]


def charbonnier_loss(
    predictions: Float[ArrayLike, "*shape"],
    targets: Float[ArrayLike, "*shape"],
    *,
    epsilon: Float[ArrayLike, "..."] = 1e-3,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The Charbonnier loss: the absolute error made smooth at 0, where it is ε. Usual in image restoration.

    Formula: √(r² + ε²) with r = prediction − target. Derivative: r/√(r² + ε²), 0 where both are 0; by ε: ε/√(r² + ε²).

    Args:
        predictions: any shape.
        targets: the shape of `predictions`.
        epsilon: the loss at r = 0, in the target's unit, ≥ 0; broadcasts, differentiable.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in the target's unit.

    Raises:
        TypeError: `predictions`, `targets` or `epsilon` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, `epsilon` or `where` does not broadcast, or `epsilon` is negative.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.charbonnier_loss(jnp.array([0.0, 2.0]), jnp.array([0.0, 0.0])))
        [1.0000000e-03 2.0000002e+00]

    References:
        Charbonnier et al., Two Deterministic Half-Quadratic Regularization Algorithms for Computed Imaging, 1994
    """
    predictions, targets = _check.pair("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    epsilon = _check.option("epsilon", epsilon, predictions, minimum=0, where=where)
    return _charbonnier(predictions, targets, epsilon, where=where)


@partials(
    *by_residual(lambda r, epsilon: _numerics.direction(r, _numerics.hypot(r, epsilon))),
    lambda predictions, targets, epsilon: _numerics.direction(epsilon, _numerics.hypot(predictions - targets, epsilon)),
)
def _charbonnier(predictions: Array, targets: Array, epsilon: Array) -> Array:
    return _numerics.hypot(predictions - targets, epsilon)


def robust_loss(
    predictions: Float[ArrayLike, "*shape"],
    targets: Float[ArrayLike, "*shape"],
    *,
    alpha: Float[ArrayLike, "..."] = 1.0,
    scale: Float[ArrayLike, "..."] = 1.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """Barron's general robust loss: one family from the squared error to losses that ignore outliers.

    Formula: (|α−2|/α)((x²/|α−2| + 1)^(α/2) − 1) with x = (prediction − target)/scale, and its limits: α = 2 is x²/2,
    α = 1 the Charbonnier form √(x² + 1) − 1, α = 0 Cauchy's log(x²/2 + 1), α = −2 Geman-McClure, α = −inf Welsch's
    1 − e^(−x²/2), α = inf e^(x²/2) − 1. Derivative: (x/scale)(x²/|α−2| + 1)^(α/2 − 1). Differentiable in α and scale, so
    that both can be learnt; at α = 2 the slope in α is infinite, and a finite one, for |α − 2| = 1e-6, stands for it.

    Args:
        predictions: any shape.
        targets: the shape of `predictions`.
        alpha: the shape α, any number, ±inf too; the smaller, the more robust; broadcasts, differentiable.
        scale: the residual at which the loss leaves its quadratic bowl, in the target's unit, > 0; broadcasts,
            differentiable.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, without a unit.

    Raises:
        TypeError: `predictions`, `targets` or an option is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, an option or `where` does not broadcast, or `scale` is not positive.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.robust_loss(jnp.array([0.0, 2.0]), jnp.array([0.0, 0.0]), alpha=0.0))
        [0.        1.0986123]

    References:
        Barron, A General and Adaptive Robust Loss Function, 2019
    """
    predictions, targets = _check.pair("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    alpha = _check.option("alpha", alpha, predictions)
    scale = _check.option("scale", scale, predictions, above=0, where=where)
    return _robust(predictions, targets, alpha, scale, where=where)


def _robust_parts(x: Array, alpha: Array) -> tuple[Array, Array, Array]:
    """α with 0 in place of ±inf, b = |α − 2| kept away from 0, and log(x²/b + 1) without overflow."""
    finite = jnp.where(jnp.isinf(alpha), 0, alpha)
    b = jnp.maximum(jnp.abs(finite - 2), 1e-6)
    far = jnp.abs(x) > _FAR
    near_log = jnp.log1p(jnp.square(jnp.where(far, 1, x)) / b)
    return finite, b, jnp.where(far, 2 * jnp.log(jnp.where(far, jnp.abs(x), 1)) - jnp.log(b), near_log)


# Where 1 is lost in x²/b + 1, and x² is still far from overflow.
_FAR = 1e9


def _robust_slope(r: Array, alpha: Array, scale: Array) -> Array:
    """The derivative by the residual."""
    largest = jnp.finfo(r.dtype).max
    x = jnp.clip(r / scale, -largest, largest)
    finite, _, growth = _robust_parts(x, alpha)
    square = jnp.where(jnp.isinf(alpha), 0.5 * x * x, 0)
    far = jnp.abs(x) > _FAR
    # For a huge x its own logarithm joins the exponent: the weight alone would underflow.
    general = (0.5 * finite - 1) * growth + jnp.log(jnp.where(far, jnp.abs(x), 1))
    weighted = jnp.exp(general) * jnp.where(far, jnp.sign(x), x)
    tails = jnp.exp(jnp.where(alpha > 0, square, -square))
    welsch = jnp.where(tails == 0, 0, tails * x)
    return jnp.where(alpha == 2, x, jnp.where(jnp.isinf(alpha), welsch, weighted)) / scale


# With L = log(x²/b + 1) the loss is (b/2) L · expm1(αL/2)/(αL/2): no power less 1, no division by α.
@partials(
    *by_residual(_robust_slope),
    None,
    lambda predictions, targets, alpha, scale: (
        -(predictions - targets) / scale * _robust_slope(predictions - targets, alpha, scale)
    ),
)
def _robust(predictions: Array, targets: Array, alpha: Array, scale: Array) -> Array:
    x = (predictions - targets) / scale
    largest = jnp.finfo(x.dtype).max
    finite, b, growth = _robust_parts(jnp.clip(x, -largest, largest), alpha)
    square = 0.5 * x * x

    def general(growth: Array) -> Array:
        return 0.5 * b * growth * _numerics.expm1_ratio(0.5 * finite * growth)

    # At α = 2 the value and the slope in the residual are those of x²/2; the general formula gives the slope in α.
    slope_only = general(jnp.minimum(jax.lax.stop_gradient(growth), 80))
    quadratic = square + (slope_only - jax.lax.stop_gradient(slope_only))
    tail = jnp.where(jnp.isinf(alpha), square, 0)
    at_infinity = jnp.where(alpha > 0, jnp.expm1(tail), -jnp.expm1(-tail))
    return jnp.where(alpha == 2, quadratic, jnp.where(jnp.isinf(alpha), at_infinity, general(growth)))
