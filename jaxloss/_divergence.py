"""Divergences: how far a predicted distribution is from a target, class by class."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Real

from jaxloss import _check, _numerics, _rules, _values, _vectors
from jaxloss._rules import partials

# Distributions are [..., K], and each loss is one an example; `where` is over examples. They are not normalised here,
# and need not be. A class that cannot occur has a probability of 0, or a log-probability of −inf: 0 · log 0 is 0. A
# derivative that would be infinite, as those by a probability of 0 are, is 0.


def _distributions(
    name: str, predictions: Any, other_name: str, targets: Any, axis: Any, where: Any, hard: str = ""
) -> tuple[Array, Array, Array | None]:
    """Two distributions with their classes last, and the mask over examples, to be broadcast to them."""
    predictions, targets = _check.classes_and_truth(name, predictions, other_name, targets, axis, hard)
    where = _check.mask(where, predictions.shape[:-1], "the examples")
    return predictions, targets, None if where is None else where[..., None]


def kl_divergence(
    log_predictions: Float[ArrayLike, "*batch classes"],
    targets: Real[ArrayLike, "*batch classes"] | Bool[ArrayLike, "*batch classes"],
    *,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The Kullback-Leibler divergence: the nats lost by coding the targets with the predicted distribution.

    Predictions are log-probabilities, and targets are probabilities: `kl_divergence(jax.nn.log_softmax(logits), targets)`.

    Formula: Σₖ yₖ (log yₖ − log pₖ), 0 · log 0 = 0. Derivative: by log pₖ: −yₖ; by yₖ: log yₖ − log pₖ + 1, and 0 where
    that is infinite. The terms of equal probabilities cancel by nature, and the sum of distributions that add up to 1
    only up to rounding may be as far below 0 as they are: both within 4 units in the last place of
    Σₖ yₖ (|log yₖ| + |log pₖ|). `softmax_kl_divergence`, from logits, and `generalized_kl_divergence` are never negative.

    Args:
        log_predictions: log p, in nats.
        targets: the probabilities y, of the shape of `log_predictions`.
        axis: the class axis.
        where: which examples count.

    Returns:
        One loss an example, in nats; inf where a class of no probability has a target.

    Raises:
        TypeError: `log_predictions` is not floating point, `targets` are no numbers, or `where` is not boolean.
        ValueError: the shapes differ, `where` does not broadcast, or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.kl_divergence(jnp.log(jnp.array([0.25, 0.75])), jnp.array([0.5, 0.5])))
        0.143841

    References:
        Kullback and Leibler, On Information and Sufficiency, 1951
    """
    log_p, y, where = _distributions(
        "log_predictions", log_predictions, "targets", targets, axis, where, "nll_with_integer_labels"
    )
    _values.log_probabilities("log_predictions", log_p, where)
    _values.at_least_zero("targets", y, where)
    return jnp.sum(_kl_term(log_p, y, where=where), axis=-1)


def _log_excess(log_p: Array, y: Array) -> Array:
    """log y − log p, and 0 where it is infinite or p is 0."""
    usual = (y != 0) & (log_p != -jnp.inf)  # NaN is usual: it is not to be lost
    return jnp.where(usual, jnp.log(jnp.where(usual, y, 1)) - jnp.where(usual, log_p, 0), 0)


@partials(
    lambda log_p, y: -y,
    lambda log_p, y: jnp.where((y != 0) & (log_p != -jnp.inf), _log_excess(log_p, y) + 1, 0),
)
def _kl_term(log_p: Array, y: Array) -> Array:
    return jnp.where((y > 0) & (log_p == -jnp.inf), jnp.inf, y * _log_excess(log_p, y))


def kl_divergence_with_log_targets(
    log_predictions: Float[ArrayLike, "*batch classes"],
    log_targets: Float[ArrayLike, "*batch classes"],
    *,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The Kullback-Leibler divergence with both distributions given as log-probabilities. It is 0 where they are equal.

    Neither are probabilities: for targets that are, take `kl_divergence`.

    Formula: Σₖ yₖ (log yₖ − log pₖ), 0 · log 0 = 0. Derivative: by log pₖ: −yₖ; by log yₖ: yₖ (log yₖ − log pₖ + 1), and
    0 where that is infinite. Terms of both signs cancel by nature: within 4 units in the last place of
    Σₖ yₖ |log yₖ − log pₖ|. For logits take `softmax_kl_divergence`, which does not cancel.

    Args:
        log_predictions: log p, in nats.
        log_targets: log y, in nats, of the shape of `log_predictions`.
        axis: the class axis.
        where: which examples count.

    Returns:
        One loss an example, in nats; inf where a class of no probability has a target.

    Raises:
        TypeError: `log_predictions` or `log_targets` is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, `where` does not broadcast, or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> p, y = jnp.array([0.25, 0.75]), jnp.array([0.5, 0.5])
        >>> print(jaxloss.kl_divergence_with_log_targets(jnp.log(p), jnp.log(y)))
        0.143841

    References:
        Kullback and Leibler, On Information and Sufficiency, 1951
    """
    log_predictions, log_targets = _check.pair("log_predictions", log_predictions, "log_targets", log_targets)
    log_p, log_y, where = _distributions("log_predictions", log_predictions, "log_targets", log_targets, axis, where)
    _values.log_probabilities("log_predictions", log_p, where)
    _values.log_probabilities("log_targets", log_y, where)
    return jnp.sum(_kl_log_term(log_p, log_y, where=where), axis=-1)


def _occur(log_p: Array, log_y: Array) -> Array:
    return (log_p != -jnp.inf) & (log_y != -jnp.inf)


def _log_difference(log_p: Array, log_y: Array) -> Array:
    """log y − log p, and 0 where one of them is −inf."""
    usual = _occur(log_p, log_y)
    return jnp.where(usual, log_y, 0) - jnp.where(usual, log_p, 0)


@partials(
    lambda log_p, log_y: -jnp.exp(log_y),
    lambda log_p, log_y: jnp.where(_occur(log_p, log_y), jnp.exp(log_y) * (_log_difference(log_p, log_y) + 1), 0),
)
def _kl_log_term(log_p: Array, log_y: Array) -> Array:
    impossible = (log_y > -jnp.inf) & (log_p == -jnp.inf)
    return jnp.where(impossible, jnp.inf, jnp.exp(log_y) * _log_difference(log_p, log_y))


def generalized_kl_divergence(
    log_predictions: Float[ArrayLike, "*batch classes"],
    targets: Real[ArrayLike, "*batch classes"] | Bool[ArrayLike, "*batch classes"],
    *,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The Kullback-Leibler divergence of measures that need not add up to 1, the I-divergence: never negative.

    Formula: Σₖ yₖ (log yₖ − log pₖ) − yₖ + pₖ, 0 · log 0 = 0, taken as yₖ (e^−d − 1 + d) with d = log yₖ − log pₖ.
    Derivative: by log pₖ: pₖ − yₖ; by yₖ: log yₖ − log pₖ, and 0 where that is infinite. All are exact up to the rounding
    of d and of pₖ: for p ≈ y a difference by nature, within 4 units in the last place of |log yₖ| + |log pₖ|, and of pₖ.

    Args:
        log_predictions: log p, in nats.
        targets: the measure y ≥ 0, of the shape of `log_predictions`.
        axis: the class axis.
        where: which examples count.

    Returns:
        One loss an example, in nats; inf where a class of no probability has a target.

    Raises:
        TypeError: `log_predictions` is not floating point, `targets` are no numbers, or `where` is not boolean.
        ValueError: the shapes differ, `where` does not broadcast, or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.generalized_kl_divergence(jnp.log(jnp.array([1.0, 3.0])), jnp.array([2.0, 2.0])))
        0.575364

    References:
        Csiszár, Why Least Squares and Maximum Entropy? An Axiomatic Approach to Inference for Linear Inverse Problems,
        1991
    """
    log_p, y, where = _distributions("log_predictions", log_predictions, "targets", targets, axis, where)
    _values.at_least_zero("targets", y, where)
    return jnp.sum(_generalized_kl_term(log_p, y, where=where), axis=-1)


@partials(lambda log_p, y: jnp.exp(log_p) - y, _log_excess)
def _generalized_kl_term(log_p: Array, y: Array) -> Array:
    p = jnp.exp(log_p)
    none = y == 0
    excess = _numerics.weighted_excess(y, -_log_excess(log_p, y), jnp.where(none, 0, p))
    return jnp.where(none, p, jnp.where(log_p == -jnp.inf, jnp.inf, excess))


def js_divergence(
    predictions: Float[ArrayLike, "*batch classes"],
    targets: Real[ArrayLike, "*batch classes"] | Bool[ArrayLike, "*batch classes"],
    *,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The Jensen-Shannon divergence: symmetric, to the last bit; bounded by log 2; and 0 for equal distributions alone.

    Formula: ½ Σₖ pₖ log(pₖ/mₖ) + yₖ log(yₖ/mₖ) with m = (p + y)/2 and 0 · log 0 = 0; no term is negative, and none
    cancels for p ≈ y. Derivative: by pₖ: ½ log(pₖ/mₖ), and 0 at pₖ = 0, where it is −inf; by yₖ alike. Its square root
    is a metric.

    Args:
        predictions: class probabilities p, from 0 to 1.
        targets: class probabilities y, of the shape of `predictions`.
        axis: the class axis.
        where: which examples count.

    Returns:
        One loss an example, in nats.

    Raises:
        TypeError: `predictions` is not floating point, `targets` are no numbers, or `where` is not boolean.
        ValueError: the shapes differ, `where` does not broadcast, or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.js_divergence(jnp.array([0.25, 0.75]), jnp.array([0.5, 0.5])))
        0.033822

    References:
        Lin, Divergence Measures Based on the Shannon Entropy, 1991
    """
    p, y, where = _distributions("predictions", predictions, "targets", targets, axis, where)
    _values.probabilities(p, where)
    return jnp.sum(_js_term(p, y, where=where), axis=-1)


def _half_log_share(p: Array, y: Array) -> Array:
    """½ log(p/m) with m = (p + y)/2, and 0 for p = 0."""
    some = p != 0
    p = jnp.where(some, p, 1)
    x = jnp.where(some, (p - y) / (p + y), 0)
    near = x > -0.5
    far = jnp.log(jnp.where(near, 1, 2 * (p / (p + y))))
    return 0.5 * jnp.where(near, jnp.log1p(jnp.where(near, x, 0)), far)


# The rule keeps the two inputs as they came. In digits, autodiff would differentiate a polynomial.
@partials(_half_log_share, lambda p, y: _half_log_share(y, p))
def _js_term(p: Array, y: Array) -> Array:
    total = p + y
    some = total != 0
    total = jnp.where(some, total, 1)
    x = jnp.where(some, (p - y) / total, 0)
    near = jnp.abs(x) < 0.75
    square = jnp.square(jnp.where(near, x, 0))
    # Beyond, the first term is at least thrice the second.
    large, small = jnp.where(near, 0, jnp.maximum(p, y)), jnp.where(near, 0, jnp.minimum(p, y))
    far = 0.5 * (_xlog2share(large, total) + _xlog2share(small, total))
    return jnp.where(near, 0.25 * total * (square * _numerics.entropy_gap(square)), far)


def _xlog2share(x: Array, total: Array) -> Array:
    """x log(2x/total), and 0 for x = 0."""
    return _numerics.xlogy(x, jnp.where(x > 0, 2 * (x / total), 1))


def hellinger_distance(
    predictions: Float[ArrayLike, "*batch classes"],
    targets: Real[ArrayLike, "*batch classes"] | Bool[ArrayLike, "*batch classes"],
    *,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The Hellinger distance: a metric from 0 to 1, symmetric to the last bit, and gentle to rare classes.

    Formula: H = √(½ Σₖ (√pₖ − √yₖ)²), √p − √y taken as (p − y)/(√p + √y). Derivative by pₖ: (√pₖ − √yₖ)/(4 H √pₖ); it is
    0 at the kink p = y, as at pₖ = 0, where it is −inf. H² is 1 − Σₖ √(pₖ yₖ) for distributions that add up to 1.

    Args:
        predictions: class probabilities p, from 0 to 1.
        targets: class probabilities y, of the shape of `predictions`.
        axis: the class axis.
        where: which examples count.

    Returns:
        One loss an example.

    Raises:
        TypeError: `predictions` is not floating point, `targets` are no numbers, or `where` is not boolean.
        ValueError: the shapes differ, `where` does not broadcast, or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.hellinger_distance(jnp.array([0.25, 0.75]), jnp.array([0.5, 0.5])))
        0.184592

    References:
        Hellinger, Neue Begründung der Theorie quadratischer Formen von unendlichvielen Veränderlichen, 1909
    """
    p, y, where = _distributions("predictions", predictions, "targets", targets, axis, where)
    _values.probabilities(p, where)
    return _rules.call(_hellinger, p, y, where)


# Recomputed: the backward pass keeps the two inputs as they came.
@_rules.recomputed
def _hellinger(p: Array, y: Array, where: Any) -> Array:
    p, y = _rules.wide(p, y), _rules.wide(y, p)
    p, y = _rules.masked(where, p), _rules.masked(where, y)
    return _SQRT_HALF * _vectors.norm(_root_difference(p, y))


_SQRT_HALF = 0.5**0.5


@jax.custom_jvp
def _root_difference(p: Array, y: Array) -> Array:
    """√p − √y."""
    total = jnp.sqrt(p) + jnp.sqrt(y)
    return (p - y) / jnp.where(total == 0, 1, total)


def _root_slope(p: Array) -> Array:
    """The derivative of √p, and 0 at p = 0."""
    return jnp.where(p > 0, 0.5 / jnp.sqrt(jnp.where(p > 0, p, 1)), 0)


_root_difference.defjvps(lambda dp, _, p, y: dp * _root_slope(p), lambda dy, _, p, y: -dy * _root_slope(y))


def alpha_divergence(
    predictions: Float[ArrayLike, "*batch classes"],
    targets: Real[ArrayLike, "*batch classes"] | Bool[ArrayLike, "*batch classes"],
    *,
    alpha: Float[ArrayLike, "..."] = 0.5,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The α-divergence: from the reverse Kullback-Leibler divergence at α = 0, which seeks a mode, to the plain one at 1.

    Formula: Σₖ (α yₖ + (1−α) pₖ − yₖ^α pₖ^(1−α))/(α (1−α)), which is Amari's as Minka writes it; for α = 1 Σ y log(y/p) −
    y + p, and for α = 0 the same with p and y exchanged. No term is negative, and none cancels: with g = y^α p^(1−α) it
    is g ((e^u − 1 − u)/(1−α) + (e^v − 1 − v)/α), u = (1−α) log(y/p), v = −α log(y/p). At α = ½ it is 4 H² with the
    `hellinger_distance` H. Derivative: by pₖ: (1 − (yₖ/pₖ)^α)/α; by yₖ: (1 − (pₖ/yₖ)^(1−α))/(1−α); 0 where infinite.

    Args:
        predictions: class probabilities p, from 0 to 1.
        targets: class probabilities y, of the shape of `predictions`.
        alpha: α, from 0 to 1; broadcasts to the examples, differentiable.
        axis: the class axis.
        where: which examples count.

    Returns:
        One loss an example; inf for α = 1 where a class of no probability has a target, and for α = 0 the reverse.

    Raises:
        TypeError: `predictions` is not floating point, `targets` or `alpha` is no number, or `where` is not boolean.
        ValueError: the shapes differ, `alpha` or `where` does not broadcast, `alpha` is out of [0, 1], or `axis` is out
            of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.alpha_divergence(jnp.array([0.25, 0.75]), jnp.array([0.5, 0.5])))
        0.136297

    References:
        Amari, Differential-Geometrical Methods in Statistics, 1985
        Minka, Divergence Measures and Message Passing, 2005
    """
    p, y, where = _distributions("predictions", predictions, "targets", targets, axis, where)
    _values.probabilities(p, where)
    of_examples = None if where is None else where[..., 0]
    rate = _check.option("alpha", alpha, _check.examples(p), minimum=0, maximum=1, where=of_examples)
    return jnp.sum(_alpha_term(p, y, rate[..., None], where=where), axis=-1)


def _power_excess(p: Array, y: Array, rate: Array, other_rate: Array) -> Array:
    """(1 − (y/p)^rate)/rate, and 0 where that is infinite or both are 0. The rates add up to 1."""
    some = (p != 0) & (y != 0)
    some_p, some_y = jnp.where(some, p, 1), jnp.where(some, y, 1)
    x = _numerics.log_ratio(some_y, some_p)
    near = jnp.abs(rate * x) < 1
    # By the smaller of the rates: it is exact, where the other is 1 less it, rounded.
    high = rate > 0.5
    limits = jnp.finfo(x.dtype)
    ratio, inverse = (jnp.clip(r, limits.tiny, limits.max) for r in (some_y / some_p, some_p / some_y))
    power = jnp.where(high, ratio, 1) * _numerics.power(jnp.where(high, inverse, ratio), jnp.where(high, other_rate, rate))
    far = (1 - power) / jnp.where(near, 1, rate)
    both = jnp.where(near, -x * _numerics.expm1_ratio(jnp.where(near, rate * x, 0)), far)
    only_p = jnp.where((p > 0) & (rate > 0), 1 / jnp.where(rate > 0, rate, 1), 0)
    return jnp.where(some, both, only_p)


@partials(
    lambda p, y, alpha: _power_excess(p, y, alpha, 1 - alpha),
    lambda p, y, alpha: _power_excess(y, p, 1 - alpha, alpha),
    None,
)
def _alpha_term(p: Array, y: Array, alpha: Array) -> Array:
    some = (p != 0) & (y != 0)
    beta = 1 - alpha
    some_p, some_y = jnp.where(some, p, 1), jnp.where(some, y, 1)
    x = _numerics.log_ratio(some_y, some_p)
    # The mean from the side that it is nearer to: the exponent keeps its digits where the mean counts.
    from_p = alpha < 0.5
    mean = jnp.where(from_p, some_p, some_y) * jnp.exp(jnp.where(from_p, alpha, -beta) * x)
    both = _numerics.weighted_excess(mean, x, some_y, beta) + _numerics.weighted_excess(mean, -x, some_p, alpha)
    return jnp.where(some, both, jnp.where(y > 0, _over(y, beta), _over(p, alpha)))


def _over(x: Array, rate: Array) -> Array:
    """x / rate: 0 for x = 0, and else inf for rate = 0, with derivative 0."""
    usual = (x != 0) & (rate > 0)
    return jnp.where(usual, jnp.where(usual, x, 0) / jnp.where(usual, rate, 1), jnp.where(x != 0, jnp.inf, 0))
