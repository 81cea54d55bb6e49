"""Regression: elementwise losses of the residual r = prediction − target."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from jaxloss import _check, _numerics, _special, _values
from jaxloss._rules import by_residual, partials

# Every function here returns one loss an element, in float32 or wider, and takes `where`, a boolean array that
# broadcasts to the predictions: what it leaves out is 0 in value and gradient, whatever it holds.


def squared_error(
    predictions: Float[ArrayLike, "*shape"],
    targets: Real[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The squared error: the negative log-likelihood of a Gaussian, up to its constants; outliers dominate it.

    Formula: r² with r = prediction − target. Derivative: 2r. Its mean is the MSE.

    Args:
        predictions: any shape.
        targets: the shape of `predictions`.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in the target's unit squared.

    Raises:
        TypeError: `predictions` is not floating point, `targets` are no numbers, or `where` is not boolean.
        ValueError: the shapes differ, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.squared_error(jnp.array([1.0, 2.0]), jnp.array([1.5, 0.0])))
        [0.25 4.  ]

    References:
        Gauss, Theoria combinationis observationum erroribus minimis obnoxiae, 1821
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    return _squared_error(predictions, targets, where=_check.mask(where, predictions.shape, "predictions"))


@partials(*by_residual(lambda r: 2 * r))
def _squared_error(predictions: Array, targets: Array) -> Array:
    r = predictions - targets
    return r * r


def l2_loss(
    predictions: Float[ArrayLike, "*shape"],
    targets: Real[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """Half the squared error, so that its derivative is the residual itself.

    Formula: r²/2 with r = prediction − target. Derivative: r.

    Args:
        predictions: any shape.
        targets: the shape of `predictions`.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in the target's unit squared.

    Raises:
        TypeError: `predictions` is not floating point, `targets` are no numbers, or `where` is not boolean.
        ValueError: the shapes differ, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.l2_loss(jnp.array([1.0, 2.0]), jnp.array([1.5, 0.0])))
        [0.125 2.   ]

    References:
        Bishop, Pattern Recognition and Machine Learning, 2006, section 1.1
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    return _l2(predictions, targets, where=_check.mask(where, predictions.shape, "predictions"))


@partials(*by_residual(lambda r: r))
def _l2(predictions: Array, targets: Array) -> Array:
    r = predictions - targets
    return (0.5 * r) * r  # this order overflows only where the loss does


def absolute_error(
    predictions: Float[ArrayLike, "*shape"],
    targets: Real[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The absolute error: its minimum is the median, so that outliers count no more than others.

    Formula: |r| with r = prediction − target. Derivative: sign r, which is 0 at the kink r = 0. Its mean is the MAE.

    Args:
        predictions: any shape.
        targets: the shape of `predictions`.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in the target's unit.

    Raises:
        TypeError: `predictions` is not floating point, `targets` are no numbers, or `where` is not boolean.
        ValueError: the shapes differ, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.absolute_error(jnp.array([1.0, 2.0]), jnp.array([1.5, 0.0])))
        [0.5 2. ]

    References:
        Boscovich, De litteraria expeditione per pontificiam ditionem, 1757
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    return _absolute_error(predictions, targets, where=_check.mask(where, predictions.shape, "predictions"))


@partials(*by_residual(jnp.sign))
def _absolute_error(predictions: Array, targets: Array) -> Array:
    return jnp.abs(predictions - targets)


def huber_loss(
    predictions: Float[ArrayLike, "*shape"],
    targets: Real[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    *,
    delta: Float[ArrayLike, "..."] = 1.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The Huber loss: squared near 0, absolute far away, so that it is smooth and still robust to outliers.

    Formula: r²/2 for |r| ≤ δ, else δ(|r| − δ/2), with r = prediction − target. Derivative: r clipped to [−δ, δ]; by δ:
    max(|r| − δ, 0).

    Args:
        predictions: any shape.
        targets: the shape of `predictions`.
        delta: the residual at which the loss turns linear, in the target's unit, ≥ 0; broadcasts, differentiable.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in the target's unit squared.

    Raises:
        TypeError: `predictions` is not floating point, `targets` or `delta` is no number, or `where` is not boolean.
        ValueError: the shapes differ, `delta` or `where` does not broadcast, or `delta` is negative.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.huber_loss(jnp.array([1.0, 2.0]), jnp.array([1.5, 0.0])))
        [0.125 1.5  ]

    References:
        Huber, Robust Estimation of a Location Parameter, 1964
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    delta = _check.option("delta", delta, predictions, minimum=0, where=where)
    return _huber(predictions, targets, delta, where=where)


@partials(
    *by_residual(lambda r, delta: jnp.clip(r, -delta, delta)),
    lambda predictions, targets, delta: jnp.maximum(jnp.abs(predictions - targets) - delta, 0),
)
def _huber(predictions: Array, targets: Array, delta: Array) -> Array:
    a = jnp.abs(predictions - targets)
    b = jnp.minimum(a, delta)
    return b * (a - 0.5 * b)  # both branches at once


def smooth_l1_loss(
    predictions: Float[ArrayLike, "*shape"],
    targets: Real[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    *,
    beta: Float[ArrayLike, "..."] = 1.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The smooth L1 loss: the absolute error with its kink rounded off. huber_loss(δ) = δ · smooth_l1_loss(β = δ).

    Formula: r²/(2β) for |r| < β, else |r| − β/2, with r = prediction − target; β = 0 is |r|. Derivative: r/β clipped to
    [−1, 1]; by β: −min(|r|/β, 1)²/2.

    Args:
        predictions: any shape.
        targets: the shape of `predictions`.
        beta: the residual at which the loss turns linear, in the target's unit, ≥ 0; broadcasts, differentiable.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in the target's unit.

    Raises:
        TypeError: `predictions` is not floating point, `targets` or `beta` is no number, or `where` is not boolean.
        ValueError: the shapes differ, `beta` or `where` does not broadcast, or `beta` is negative.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.smooth_l1_loss(jnp.array([1.0, 2.0]), jnp.array([1.5, 0.0])))
        [0.125 1.5  ]

    References:
        Girshick, Fast R-CNN, 2015
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    beta = _check.option("beta", beta, predictions, minimum=0, where=where)
    return _smooth_l1(predictions, targets, beta, where=where)


def _clipped_ratio(r: Array, beta: Array) -> Array:
    """r / β clipped to [−1, 1]; sign r for β = 0."""
    zero = beta == 0
    return jnp.where(zero, jnp.sign(r), jnp.clip(r, -beta, beta) / jnp.where(zero, 1, beta))


@partials(
    *by_residual(_clipped_ratio),
    lambda predictions, targets, beta: -0.5 * jnp.square(_clipped_ratio(predictions - targets, beta)),
)
def _smooth_l1(predictions: Array, targets: Array, beta: Array) -> Array:
    a = jnp.abs(predictions - targets)
    ratio = jnp.minimum(a / jnp.maximum(beta, jnp.finfo(a.dtype).tiny), 1)
    return ratio * (a - 0.5 * jnp.minimum(a, beta))


def log_cosh(
    predictions: Float[ArrayLike, "*shape"],
    targets: Real[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The log-cosh loss: r²/2 near 0, |r| − log 2 far away, and smooth to every order in between.

    Formula: log cosh r with r = prediction − target. Derivative: tanh r; second: 1/cosh² r.

    Args:
        predictions: any shape.
        targets: the shape of `predictions`.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element.

    Raises:
        TypeError: `predictions` is not floating point, `targets` are no numbers, or `where` is not boolean.
        ValueError: the shapes differ, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.log_cosh(jnp.array([1e-4, 2.0]), jnp.array([0.0, 0.0])))
        [4.9999991e-09 1.3250028e+00]

    References:
        Saleh and Saleh, Statistical Properties of the log-cosh Loss Function Used in Machine Learning, 2022
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    return _log_cosh(predictions, targets, where=_check.mask(where, predictions.shape, "predictions"))


# The rule keeps the two inputs as they came; autodiff keeps a float32 array or more.
@partials(*by_residual(_numerics.tanh))
def _log_cosh(predictions: Array, targets: Array) -> Array:
    return _numerics.log_cosh(predictions - targets)


def quantile_loss(
    predictions: Float[ArrayLike, "*shape"],
    targets: Real[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    *,
    quantile: Float[ArrayLike, "..."] = 0.5,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The pinball loss: its minimum is the given quantile of the targets.

    Formula: max(q(y − p), (q − 1)(y − p)). Derivative: −q for p < y, 1 − q for p > y, and 0 at the kink p = y; by q:
    y − p. Several quantiles at once: predictions of shape [..., Q], targets broadcast to it by the caller, and an array
    of Q quantiles.

    Args:
        predictions: any shape.
        targets: the shape of `predictions`.
        quantile: q, from 0 to 1; broadcasts, differentiable.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in the target's unit; at q = ½ half the absolute error.

    Raises:
        TypeError: `predictions` is not floating point, `targets` or `quantile` is no number, or `where` is not boolean.
        ValueError: the shapes differ, `quantile` or `where` does not broadcast, or `quantile` is out of [0, 1].

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.quantile_loss(jnp.array([1.0, 2.0]), jnp.array([1.5, 0.0]), quantile=0.9))
        [0.45       0.20000005]

    References:
        Koenker and Bassett, Regression Quantiles, 1978
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    quantile = _check.option("quantile", quantile, predictions, minimum=0, maximum=1, where=where)
    return _quantile(predictions, targets, quantile, where=where)


@partials(
    *by_residual(lambda r, q: jnp.where(r > 0, 1 - q, jnp.where(r < 0, -q, jnp.zeros_like(r)))),
    lambda predictions, targets, q: targets - predictions,
)
def _quantile(predictions: Array, targets: Array, q: Array) -> Array:
    r = predictions - targets
    return jnp.maximum((1 - q) * r, -q * r)


def expectile_loss(
    predictions: Float[ArrayLike, "*shape"],
    targets: Real[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    *,
    tau: Float[ArrayLike, "..."] = 0.5,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The expectile loss: an asymmetric squared error, whose minimum is the τ-expectile of the targets.

    Formula: |τ − 1[r > 0]| r² with r = prediction − target. Derivative: 2|τ − 1[r > 0]| r; by τ: r² for r ≤ 0, else −r².

    Args:
        predictions: any shape.
        targets: the shape of `predictions`.
        tau: τ, from 0 to 1; above ½ it is the lower predictions that cost more; broadcasts, differentiable.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in the target's unit squared.

    Raises:
        TypeError: `predictions` is not floating point, `targets` or `tau` is no number, or `where` is not boolean.
        ValueError: the shapes differ, `tau` or `where` does not broadcast, or `tau` is out of [0, 1].

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.expectile_loss(jnp.array([1.0, 2.0]), jnp.array([1.5, 0.0]), tau=0.75))
        [0.1875 1.    ]

    References:
        Newey and Powell, Asymmetric Least Squares Estimation and Testing, 1987
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    tau = _check.option("tau", tau, predictions, minimum=0, maximum=1, where=where)
    return _expectile(predictions, targets, tau, where=where)


@partials(
    *by_residual(lambda r, tau: 2 * jnp.where(r > 0, 1 - tau, tau) * r),
    lambda predictions, targets, tau: -jnp.sign(predictions - targets) * jnp.square(predictions - targets),
)
def _expectile(predictions: Array, targets: Array, tau: Array) -> Array:
    r = predictions - targets
    above, below = jnp.maximum(r, 0), jnp.minimum(r, 0)
    return ((1 - tau) * above) * above + (tau * below) * below


def epsilon_insensitive_loss(
    predictions: Float[ArrayLike, "*shape"],
    targets: Real[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    *,
    epsilon: Float[ArrayLike, "..."] = 0.1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The ε-insensitive loss of support vector regression: errors up to ε cost nothing.

    Formula: max(0, |r| − ε) with r = prediction − target. Derivative: sign r for |r| > ε, else 0, also at the kink; by ε:
    −1 for |r| > ε, else 0.

    Args:
        predictions: any shape.
        targets: the shape of `predictions`.
        epsilon: the error that is free, in the target's unit, ≥ 0; broadcasts, differentiable.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, in the target's unit.

    Raises:
        TypeError: `predictions` is not floating point, `targets` or `epsilon` is no number, or `where` is not boolean.
        ValueError: the shapes differ, `epsilon` or `where` does not broadcast, or `epsilon` is negative.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.epsilon_insensitive_loss(jnp.array([1.0, 2.0]), jnp.array([1.5, 2.1]), epsilon=0.25))
        [0.25 0.  ]

    References:
        Vapnik, The Nature of Statistical Learning Theory, 1995
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    epsilon = _check.option("epsilon", epsilon, predictions, minimum=0, where=where)
    return _epsilon_insensitive(predictions, targets, epsilon, where=where)


@partials(
    *by_residual(lambda r, epsilon: jnp.where(jnp.abs(r) > epsilon, jnp.sign(r), 0)),
    lambda predictions, targets, epsilon: jnp.where(jnp.abs(predictions - targets) > epsilon, -1, 0.0 * epsilon),
)
def _epsilon_insensitive(predictions: Array, targets: Array, epsilon: Array) -> Array:
    return jnp.maximum(jnp.abs(predictions - targets) - epsilon, 0)


def squared_log_error(
    predictions: Float[ArrayLike, "*shape"],
    targets: Real[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The squared error of logarithms: a relative error, for positive quantities of many sizes.

    Formula: d² with d = log(1 + p) − log(1 + y), taken as ±log1p(|p − y|/(1 + min(p, y))), which keeps its digits where
    p ≈ y. Derivative: 2d/(1 + p); by y: −2d/(1 + y).

    Args:
        predictions: any shape, > −1; usually ≥ 0.
        targets: the shape of `predictions`, > −1.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, without a unit; inf where one of the two is −1, NaN where one is below.

    Raises:
        TypeError: `predictions` is not floating point, `targets` are no numbers, or `where` is not boolean.
        ValueError: the shapes differ, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.squared_log_error(jnp.array([1.0, 2.0]), jnp.array([1.0, 5.0])))
        [0.       0.480453]

    References:
        Tofallis, A Better Measure of Relative Prediction Accuracy for Model Selection and Model Estimation, 2015
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    where = _check.mask(where, predictions.shape, "predictions")
    for name, x in (("predictions", predictions), ("targets", targets)):
        _values.above(name, x, -1, where)
    return _squared_log_error(predictions, targets, where=where)


@partials(
    lambda predictions, targets: 2 * _special.log1p_ratio(predictions, targets) / (1 + predictions),
    lambda predictions, targets: -2 * _special.log1p_ratio(predictions, targets) / (1 + targets),
)
def _squared_log_error(predictions: Array, targets: Array) -> Array:
    return jnp.square(_special.log1p_ratio(predictions, targets))


def absolute_percentage_error(
    predictions: Float[ArrayLike, "*shape"],
    targets: Real[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    *,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The absolute error relative to the target: as a fraction, not in percent. 100 times its mean is the MAPE.

    Formula: |p − y|/|y|. Derivative: sign(p − y)/|y|, 0 at p = y; by y: −sign(p − y) sign(y) p/y². At y = 0 the loss is
    inf unless p = 0 too, which is a perfect prediction and costs 0; leave such targets out with `where`.

    Args:
        predictions: any shape.
        targets: the shape of `predictions`.
        where: which elements count; broadcasts to `predictions`.

    Returns:
        One loss an element, without a unit.

    Raises:
        TypeError: `predictions` is not floating point, `targets` are no numbers, or `where` is not boolean.
        ValueError: the shapes differ, or `where` does not broadcast.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.absolute_percentage_error(jnp.array([1.0, 2.0]), jnp.array([2.0, -4.0])))
        [0.5 1.5]

    References:
        Hyndman and Koehler, Another Look at Measures of Forecast Accuracy, 2006
    """
    predictions, targets = _check.with_truth("predictions", predictions, "targets", targets)
    return _absolute_percentage_error(predictions, targets, where=_check.mask(where, predictions.shape, "predictions"))


def _relative(x: Array, targets: Array) -> Array:
    """x / |y|, 0 for 0/0."""
    return jnp.where(x == 0, 0, x / jnp.abs(jnp.where(x == 0, 1, targets)))


@partials(
    lambda predictions, targets: _relative(jnp.sign(predictions - targets), targets),
    lambda predictions, targets: (
        -_relative(_relative(jnp.sign(predictions - targets), targets) * predictions, targets) * jnp.sign(targets)
    ),
)
def _absolute_percentage_error(predictions: Array, targets: Array) -> Array:
    return _relative(jnp.abs(predictions - targets), targets)
