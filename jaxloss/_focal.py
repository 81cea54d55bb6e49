"""Focal losses and their kin: cross-entropy weighted by how hard an example is."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from jaxloss import _check, _log_odds, _numerics, _rules, _softmax
from jaxloss._rules import partials

# The keywords label_smoothing, class_weights, z_loss, soft_cap, axis and where of the softmax losses are those of
# softmax_cross_entropy. With targets t made of the labels, each is Σₖ tₖ (its value for a hard label k) + λ lse².


def sigmoid_focal_loss(
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*shape"] | Int[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    *,
    alpha: Float[ArrayLike, "..."] | None = None,
    gamma: Float[ArrayLike, "..."] = 2.0,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The focal loss of yes-or-no labels: cross-entropy that turns away from what is already well predicted.

    Formula: α_t q^γ c with c the cross-entropy −y log p − (1−y) log(1−p) for p = σ(z), q = y(1−p) + (1−y)p the
    probability of a mistake, and α_t = αy + (1−α)(1−y), or 1; for a hard label −α_t (1−p_t)^γ log p_t. Derivative for a
    hard label and the margin s = ±z: −α_t q^γ (q + γ p_t c). Never dead for a confident mistake, finite for every γ ≥ 0.

    Args:
        logits: the log-odds of a yes, in nats, any shape.
        labels: the probability of a yes, of the shape of `logits`; 0 and 1 may be integers or booleans.
        alpha: the weight of a yes, from 0 to 1, against 1 − alpha; broadcasts, differentiable.
        gamma: γ ≥ 0; 0 is plain cross-entropy; broadcasts, differentiable.
        where: which elements count; broadcasts to `logits`.

    Returns:
        One loss an element, in nats.

    Raises:
        TypeError: `logits` or an option is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or an option or `where` does not broadcast or is out of its domain.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.sigmoid_focal_loss(jnp.array([2.0, -2.0]), jnp.array([1.0, 1.0])))
        [0.00180356 1.6500783 ]

    References:
        Lin et al., Focal Loss for Dense Object Detection, 2017
    """
    logits, labels = _check.binary("logits", logits, labels)
    where = _check.mask(where, logits.shape, "logits")
    alpha = _check.optional("alpha", alpha, logits, minimum=0, maximum=1, where=where)
    gamma = _check.option("gamma", gamma, logits, minimum=0, where=where)
    return _focal(logits, labels, alpha, gamma, where=where)


def _halves(x: Array) -> tuple[Array, Array]:
    """x as a sum of two numbers of half its digits (Veltkamp 1968)."""
    scaled = x * (2.0**12 + 1 if x.dtype == jnp.float32 else 2.0**27 + 1)
    high = scaled - (scaled - x)
    return high, x - high


def _sides(z: Array, y: Array) -> tuple[Array, Array, Array, Array, Array]:
    """The loss as a function of |z|: e, differs, a, sure, and (1 + e) q.

    e is exp(−|z|), σ(|z|) = 1/(1 + e). Of the label, `differs` is what it gives to the other side than that of z; if that
    is nothing, `sure` is 1, else 0, and a is 0, else |z|. q is the probability of a mistake: (1 + e) q = (1 − differs) e +
    differs; where the label is sure, it is divided by e, to be 1. A label off [0, 1] has the q of one inside. All without a
    select, and in few operations: XLA's CPU backend pays for each.
    """
    largest = jnp.finfo(z.dtype).max
    e, positive = jnp.exp(-jnp.abs(z)), _numerics.step(z)
    away = jnp.abs(positive - y)
    differs = (2 * positive - 1) * (positive - y)
    differs_at_all = jnp.minimum(away * largest, 2)  # 0 or 2
    a = jnp.minimum(jnp.abs(z), differs_at_all * largest)  # at most 0 or inf, so that differs · a is not 0 · inf
    sure = jnp.maximum(1 - differs_at_all, 0)
    return e, differs, a, sure, jnp.maximum((1 - away) * e + away, sure)


def _minus_log_mistake(z: Array, y: Array) -> tuple[Array, Array]:
    """−log q in two parts: |z| where the label is sure, which is exact, and a small rest."""
    e, _, _, sure, mistake = _sides(z, y)
    return _certain(z, sure), jnp.log1p(e) - jnp.log(mistake)


def _certain(z: Array, sure: Array) -> Array:
    """|z| where the label is sure, else 0; finite, so that γ = 0 makes it 0, and past where anything depends on it."""
    return sure * jnp.minimum(jnp.abs(z), 1e18)


def _power(x: Array, y: Array, gamma: Array) -> Array:
    """e^(−γ (x + y)) for x, y ≥ 0, with the rounding errors of the exponent put back.

    An exponent of 80 magnifies them eighty times. The halves of the factors multiply without one (Dekker 1971).
    """
    (gamma_high, gamma_low), (high, _) = _halves(-gamma), _halves(x + y)
    low = (jnp.maximum(x, y) - high) + jnp.minimum(x, y)
    large, rest = gamma_high * high, gamma_low * high - gamma * low
    exponent = large + rest
    power = jnp.exp(exponent)
    return power + power * (rest - (exponent - large))


@jax.custom_jvp
def _focus(z: Array, y: Array, gamma: Array) -> Array:
    """q^γ."""
    return _power(*_minus_log_mistake(z, y), gamma)


def _mistake_slope(z: Array, y: Array) -> Array:
    """−d log q/dz: σ(z) for a yes, −σ(−z) for a no."""
    hard = (y == 0) | (y == 1)
    p, not_p = _numerics.sigmoid(z), _numerics.sigmoid(-z)
    q = jnp.where(hard, 1, y * not_p + (1 - y) * p)
    return jnp.where(hard, jnp.where(y == 1, p, -not_p), (2 * y - 1) * p * not_p / q)


@jax.custom_jvp
def _log_focus(z: Array, y: Array) -> Array:
    """log q."""
    linear, small = _minus_log_mistake(z, y)
    return -(linear + small)


_log_focus.defjvps(
    lambda dz, _, z, y: -dz * _mistake_slope(z, y),
    # 1/q and q^(γ−1), at most e^80: both are unbounded for a hard label.
    lambda dy, log_q, z, y: dy * (_numerics.sigmoid(-z) - _numerics.sigmoid(z)) * jnp.exp(jnp.minimum(-log_q, 80)),
)


_focus.defjvps(
    lambda dz, power, z, y, gamma: dz * (-gamma * power * _mistake_slope(z, y)),
    lambda dy, power, z, y, gamma: (
        dy
        * (gamma * jnp.exp(jnp.minimum((gamma - 1) * _log_focus(z, y), 80)))
        * (_numerics.sigmoid(-z) - _numerics.sigmoid(z))
    ),
    lambda dgamma, power, z, y, gamma: dgamma * (power * _log_focus(z, y)),
)


@jax.custom_jvp
def _entropy(z: Array, y: Array) -> Array:
    """The cross-entropy; 0 · inf is 0. `_numerics.binary_entropy` in the terms of `_focus`, which XLA then forms once."""
    e, differs, a, *_ = _sides(z, y)
    return differs * a + jnp.log1p(e)


_entropy.defjvps(
    lambda dz, _, z, y: dz * _numerics.binary_entropy_slope(z, y, 1 - y),
    lambda dy, _, z, y: -dy * z,
)


def _balance(y: Array, alpha: Any) -> Any:
    return 1 if alpha is None else alpha * y + (1 - alpha) * (1 - y)


@jax.custom_jvp
def _focal_slope(z: Array, y: Array, alpha: Any, gamma: Array) -> Array:
    """The derivative by the logit, from one exp(−|z|): XLA makes one loop of it, and several of `_smooth_slope`."""
    e, differs, a, sure, mistake = _sides(z, y)
    agrees, log_sum = 1 - differs, _numerics.log1p_of_share(e)
    focus = _power(_certain(z, sure), log_sum - jnp.log(mistake), gamma)
    entropy = jnp.minimum(differs * a + log_sum, 1e30)  # inf · 0 is 0
    of_entropy = differs - agrees * e
    of_focus = (agrees - differs) * jnp.maximum(e, sure) / mistake
    slope = (2 * _numerics.step(z) - 1) * (of_entropy - gamma * (entropy * of_focus))
    return _balance(y, alpha) * focus * (slope / (1 + e))


def _smooth_slope(z: Array, y: Array, alpha: Any, gamma: Array) -> Array:
    """The same without |z|, whose derivative by JAX is wrong at 0."""
    entropy = jnp.minimum(_entropy(z, y), 1e30)  # inf · 0 in the second term is 0
    entropy_slope = _numerics.binary_entropy_slope(z, y, 1 - y)
    return _balance(y, alpha) * _focus(z, y, gamma) * (entropy_slope - gamma * (entropy * _mistake_slope(z, y)))


@_focal_slope.defjvp
def _focal_slope_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    z, *others = primals
    _, tangent = jax.jvp(_smooth_slope, (_numerics.within_range(z), *others), tangents)
    return _focal_slope(*primals), tangent


def _focal_label_slope(z: Array, y: Array, alpha: Any, gamma: Array) -> Array:
    entropy, focus = _entropy(z, y), _focus(z, y, gamma)
    steeper = jnp.where(entropy == 0, 0, _focus(z, y, gamma - 1))
    of_focus = gamma * steeper * (_numerics.sigmoid(-z) - _numerics.sigmoid(z))
    slope = _balance(y, alpha) * (_softmax.times(focus, -z) + entropy * of_focus)
    return slope if alpha is None else slope + (2 * alpha - 1) * focus * entropy


# One core on the margin, for sigmoid and softmax. No p_t, no power of a difference, no 0 · inf; autodiff of the usual
# formula gives zeros or NaN for confident predictions, and keeps four arrays.
@partials(
    _focal_slope,
    _focal_label_slope,
    lambda z, y, alpha, gamma: (2 * y - 1) * _focus(z, y, gamma) * _entropy(z, y),
    lambda z, y, alpha, gamma: _balance(y, alpha) * _focus(z, y, gamma) * _entropy(z, y) * _log_focus(z, y),
)
def _focal(z: Array, y: Array, alpha: Any, gamma: Array) -> Array:
    return _balance(y, alpha) * (_focus(z, y, gamma) * _entropy(z, y))


def softmax_focal_loss(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Float[ArrayLike, "*batch classes"],
    *,
    alpha: Float[ArrayLike, " classes"] | None = None,
    gamma: Float[ArrayLike, "..."] = 2.0,
    label_smoothing: Float[ArrayLike, "..."] = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    z_loss: Float[ArrayLike, "..."] = 0.0,
    soft_cap: Float[ArrayLike, ""] | None = None,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The focal loss of class probabilities: cross-entropy that turns away from what is already well predicted.

    Formula: −Σₖ αₖ tₖ (1−pₖ)^γ log pₖ + λ lse(s)², with p = softmax(s) and the scores s and targets t of
    `softmax_cross_entropy`. 1 − pₖ is taken from the other classes, not by subtraction. Derivative: by the margins
    log pₖ/(1−pₖ), −αₖ tₖ (1−pₖ)^γ ((1−pₖ) − γ pₖ log pₖ). In float32 within 8 ulp for γ up to 5 and thousands of classes.

    Args:
        logits: unnormalised log-probabilities, in nats; −inf for a class that cannot occur.
        labels: the probability of each class, of the shape of `logits`.
        alpha: α, a factor a class, ≥ 0, differentiable.
        gamma: γ ≥ 0; 0 is plain cross-entropy; broadcasts to the examples, differentiable.
        label_smoothing: ε, from 0 to 1, the part of the label spread over the classes that can occur.
        class_weights: w, a factor a class, ≥ 0; it multiplies `alpha`.
        z_loss: λ ≥ 0, the weight of lse².
        soft_cap: c > 0, the bound that tanh puts on the logits.
        axis: the class axis of `logits` and `labels`.
        where: which examples count.

    Returns:
        One loss an example, in nats.

    Raises:
        TypeError: `logits`, `labels` or an option is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, an option or `where` does not broadcast or is out of its domain, or `axis` is
            out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.softmax_focal_loss(jnp.array([2.0, 0.0]), jnp.array([0.0, 1.0])))
        1.6500783

    References:
        Lin et al., Focal Loss for Dense Object Detection, 2017
    """
    logits, labels = _check.pair("logits", logits, "labels", labels)
    return _softmax_focal(logits, labels, alpha, gamma, (label_smoothing, class_weights, z_loss, soft_cap), axis, where)


def softmax_focal_loss_with_integer_labels(
    logits: Float[ArrayLike, "*batch classes"],
    labels: Int[ArrayLike, "*batch"],
    *,
    alpha: Float[ArrayLike, " classes"] | None = None,
    gamma: Float[ArrayLike, "..."] = 2.0,
    label_smoothing: Float[ArrayLike, "..."] = 0.0,
    class_weights: Float[ArrayLike, " classes"] | None = None,
    z_loss: Float[ArrayLike, "..."] = 0.0,
    soft_cap: Float[ArrayLike, ""] | None = None,
    axis: int = -1,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*batch"]:
    """The focal loss of the labelled class: cross-entropy that turns away from what is already well predicted.

    Formula: −α_y (1−p_y)^γ log p_y, with p = softmax of the scores of `softmax_cross_entropy`; the other options as in
    `softmax_focal_loss`. Derivative by the margin s = log p_y/(1−p_y): −α_y (1−p_y)^γ ((1−p_y) − γ p_y log p_y); of the
    margin by a logit: 1 at the label, −pₖ/(1−p_y) elsewhere. In float32 within 8 ulp for γ up to 5 and thousands of
    classes; the gradient within 8 of its largest component.

    Args:
        logits: unnormalised log-probabilities, in nats; −inf for a class that cannot occur.
        labels: the index of the class of each example; out of range and not masked: NaN in loss and gradient.
        alpha: α, a factor a class, ≥ 0, differentiable.
        gamma: γ ≥ 0; 0 is plain cross-entropy; broadcasts to the examples, differentiable.
        label_smoothing: ε, from 0 to 1, the part of the label spread over the classes that can occur.
        class_weights: w, a factor a class, ≥ 0; it multiplies `alpha`.
        z_loss: λ ≥ 0, the weight of lse².
        soft_cap: c > 0, the bound that tanh puts on the logits.
        axis: the class axis of `logits`; `labels` are without it.
        where: which examples count.

    Returns:
        One loss an example, in nats.

    Raises:
        TypeError: `logits` or an option is not floating point, `labels` are not integers, or `where` is not boolean.
        ValueError: `labels` have another shape than `logits` without its class axis, an option or `where` does not
            broadcast or is out of its domain, or `axis` is out of range.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.softmax_focal_loss_with_integer_labels(jnp.array([2.0, 0.0]), jnp.array(1)))
        1.6500783

    References:
        Lin et al., Focal Loss for Dense Object Detection, 2017
    """
    logits = _check.floating("logits", logits)
    labels = _check.integer("labels", labels)
    return _softmax_focal(logits, labels, alpha, gamma, (label_smoothing, class_weights, z_loss, soft_cap), axis, where)


def _softmax_focal(
    logits: Array, labels: Array, alpha: Any, gamma: Any, options: tuple[Any, Any, Any, Any], axis: int, where: Any
) -> Array:
    logits, labels, where = _check.scores_and_labels(logits, labels, axis, where)
    smoothing, weights, z_loss, soft_cap = _check.softmax_options(logits, *options, where)
    alpha = _check.optional("alpha", alpha, logits, minimum=0, shape=logits.shape[-1:])
    gamma = _check.option("gamma", gamma, _check.examples(logits), minimum=0, where=where)
    if alpha is not None:
        weights = alpha if weights is None else weights * alpha
    return _rules.compiled(_softmax_focal_core, logits, labels, gamma, smoothing, weights, z_loss, soft_cap, where)


def _softmax_focal_core(
    logits: Array, labels: Array, gamma: Array, smoothing: Any, weights: Any, z_loss: Any, soft_cap: Any, where: Any
) -> Array:
    gamma = _rules.harmless(where, gamma)
    if smoothing is None and jnp.issubdtype(labels.dtype, jnp.integer):
        safe = _rules.masked(where, logits, 1)
        in_range, invalid = _softmax.in_range(labels, logits)
        margin, error = _rules.call(_log_odds.label_margin, safe, in_range, soft_cap)
        loss = _focal_of_margin(margin + invalid, error, gamma, where)
        loss = loss if weights is None else _softmax.times(_softmax.weight_of(weights, labels, loss), loss)
    else:
        loss = _softmax.expected(_focal_of_class, logits, labels, smoothing, weights, soft_cap, where, gamma)
    return _softmax.plus_z_loss(loss, z_loss, logits, soft_cap, where)


def _focal_of_class(logits: Array, soft_cap: Any, gamma: Array) -> Array:
    margins, errors = _rules.call(_log_odds.margins, logits, soft_cap)
    return _focal_of_margin(margins, errors, gamma[..., None], None)


def _focal_of_margin(margin: Array, error: Array, gamma: Array, where: Any) -> Array:
    """The loss of a hard label at margin + error: without the second term, e^−margin loses a digit where it is 50."""
    one = jnp.ones((), margin.dtype)
    correction = error * _focal_slope(margin, one, None, _rules.wide(gamma, margin))
    return _focal(margin, one, None, gamma, where=where) + _rules.masked(where, correction)


def asymmetric_loss(
    logits: Float[ArrayLike, "*shape"],
    labels: Float[ArrayLike, "*shape"] | Int[ArrayLike, "*shape"] | Bool[ArrayLike, "*shape"],
    *,
    gamma_positive: Float[ArrayLike, "..."] = 1.0,
    gamma_negative: Float[ArrayLike, "..."] = 4.0,
    clip: Float[ArrayLike, "..."] = 0.05,
    where: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "*shape"]:
    """The asymmetric loss for many labels with few positives: negatives are focused more, and easy ones dropped.

    Formula: −y (1−p)^γ₊ log p − (1−y) p_m^γ₋ log(1−p_m), with p = σ(z) and p_m = max(p − m, 0). Derivative: JAX's own of
    that formula, with (1−p) from σ(−z); 0 for a negative with p ≤ m.

    Args:
        logits: the log-odds of a yes, in nats, any shape.
        labels: the probability of a yes, of the shape of `logits`; 0 and 1 may be integers or booleans.
        gamma_positive: γ₊ ≥ 0, the focus on positives; broadcasts, differentiable.
        gamma_negative: γ₋ ≥ 0, the focus on negatives; broadcasts, differentiable.
        clip: m, from 0 to 1, the probability below which a negative costs nothing; broadcasts, differentiable.
        where: which elements count; broadcasts to `logits`.

    Returns:
        One loss an element, in nats.

    Raises:
        TypeError: `logits` or an option is not floating point, or `where` is not boolean.
        ValueError: the shapes differ, or an option or `where` does not broadcast or is out of its domain.

    Example:
        >>> import jax.numpy as jnp, jaxloss
        >>> print(jaxloss.asymmetric_loss(jnp.array([2.0, -4.0]), jnp.array([0.0, 0.0])))
        [0.8464145 0.       ]

    References:
        Ridnik et al., Asymmetric Loss for Multi-Label Classification, 2021
    """
    logits, labels = _check.binary("logits", logits, labels)
    where = _check.mask(where, logits.shape, "logits")
    gamma_positive = _check.option("gamma_positive", gamma_positive, logits, minimum=0, where=where)
    gamma_negative = _check.option("gamma_negative", gamma_negative, logits, minimum=0, where=where)
    clip = _check.option("clip", clip, logits, minimum=0, maximum=1, where=where)
    return _asymmetric(logits, labels, gamma_positive, gamma_negative, clip, where=where)


# A rule only so that nothing is kept but the arguments.
@partials(None, None, None, None, None)
def _asymmetric(z: Array, y: Array, gamma_positive: Array, gamma_negative: Array, clip: Array) -> Array:
    beyond = ((z == -jnp.inf) & (y > 0)) | ((z == jnp.inf) & (y < 1) & (clip == 0))
    z = _numerics.within_range(z)
    one = jnp.ones((), z.dtype)
    positive = _focus(z, one, gamma_positive) * _numerics.softplus(-z)
    unclipped = clip == 0
    shifted = jnp.where(unclipped, 0.5, _numerics.sigmoid(z) - clip)
    counts = shifted > 0
    shifted = jnp.where(counts, shifted, 0.5)
    clipped = jnp.where(counts, -jnp.exp(gamma_negative * jnp.log(shifted)) * jnp.log1p(-shifted), 0)
    plain = _focus(z, 0 * one, gamma_negative) * _numerics.softplus(z)
    return y * positive + (1 - y) * jnp.where(unclipped, plain, clipped) + jnp.where(beyond, jnp.inf, 0)
