"""What the softmax losses are made of: a few numbers a row, each with its rule, on the sums of `_exponentials`.

Notation as there: s are the scores, m their maximum in the row, e = exp(s − m), Z = Σ e, R = Z − 1 without the
subtraction, lse = m + log Z. Arrays are [..., K], the classes last; a logit of −inf is a class that cannot occur.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxloss import _numerics, _rules
from jaxloss._exponentials import (
    ONE_BLOCK,
    at_label,
    cap_slope,
    columns_equal,
    easy_shift,
    finite,
    gap,
    is_exact,
    maximum,
    scores,
    shifted_exp,
    sum_of_others,
    sum_of_rest,
)


def times(weight: Array, loss: Array) -> Array:
    """weight · loss, with 0 · inf = 0: what has no weight may be impossible."""
    return weight * jnp.where((weight == 0) & jnp.isinf(loss), 0, loss)


def in_range(labels: Array, scores: Array) -> tuple[Array, Array]:
    """The labels moved into the range of the classes, and what to add to a loss: 0, or NaN where a label was outside."""
    safe = jnp.clip(labels, 0, scores.shape[-1] - 1)
    return safe, jnp.where(labels == safe, 0, jnp.nan).astype(_rules.wide_dtype(scores))


def pick(x: Array, labels: Array, where: Any) -> tuple[Array, Array]:
    """x[..., label], and what to add to a loss: 0, or NaN where a label is out of range and not masked."""
    safe, invalid = in_range(labels, x)
    return at_label(x, safe), _rules.masked(where, invalid)


def weight_of(class_weights: Array, labels: Array, like: Array) -> Array:
    """w_y in the dtype of the losses; a label out of range takes some weight, its loss is NaN or masked."""
    class_weights = jnp.atleast_1d(class_weights).astype(like.dtype)
    return class_weights[jnp.clip(labels, 0, class_weights.shape[-1] - 1)]


# --- Integer labels -------------------------------------------------------------------------------------------------


@jax.custom_vjp
def integer_terms(logits: Array, labels: Array, uniform_weights: Any, soft_cap: Any, where: Any) -> Any:
    """The three numbers a row that the losses on integer labels are made of, 0 in a masked row.

    They are nll = lse − s_y, lse, and Σ_k w_k (lse − s_k)/K over the classes that can occur, which label smoothing takes;
    the last is None without `uniform_weights`.
    """
    return _integer_terms_value(logits, labels, uniform_weights, soft_cap, where)


def _integer_terms_value(logits: Array, labels: Array, uniform_weights: Any, soft_cap: Any, where: Any) -> Any:
    terms, _, _ = _integer_sums(logits, labels, uniform_weights, soft_cap, where, keep_exp=False)
    return terms


def _integer_sums(
    logits: Array, labels: Array, uniform_weights: Any, soft_cap: Any, where: Any, *, keep_exp: bool
) -> tuple[Any, Array | None, tuple[Any, ...]]:
    """The terms; e with 0 at the label, if it is to be kept; and the numbers of a row that the backward pass takes."""
    m, label_score, invalid = _maximum_and_label(logits, labels, soft_cap, where)
    safe, e, shift = in_range(labels, logits)[0], None, m
    if keep_exp:
        # Other roundings than without a gradient: values differ in the last place.
        s, shift = _rules.masked(where, logits, 1), easy_shift(m, logits.shape[-1])
        e = _with(shifted_exp(finite(s), shift[..., None], exact=True), safe, jnp.zeros_like(m))
        kept = jnp.sum(e, axis=-1)
        others = kept * shifted_exp(finite(shift), m, exact=True)
    else:
        kept = others = sum_of_others(logits, soft_cap, m, safe, where)
    log_sum = _log_sum(label_score, m, others)
    uniform = total = count = None
    if uniform_weights is not None:
        uniform, total, count = _uniform_term(logits, uniform_weights, soft_cap, m, log_sum, where)
    nll, lse = gap(m, label_score) + log_sum + invalid, m + log_sum + invalid
    terms = _rules.masked(where, nll), _rules.masked(where, lse), uniform
    # NaN is put into sums alone: XLA's CPU backend loses it in an exponential.
    return terms, e, (shift, label_score, kept + invalid, total, count)


def _maximum_and_label(logits: Array, labels: Array, soft_cap: Any, where: Any) -> tuple[Array, Array, Array]:
    """m, s_y, and what to add to a loss; harmless in a masked row."""
    own, invalid = pick(logits, labels, where)
    m, own = (_rules.masked(where, x) for x in (maximum(logits, soft_cap), own))
    return m, scores(own, soft_cap), invalid


def _log_sum(label_score: Array, m: Array, others: Array) -> Array:
    """log Z, exact for a label at the maximum, whose e is 1."""
    return _numerics.log1p(others - (1 - shifted_exp(finite(label_score), m)))


def _uniform_term(
    logits: Array, weights: Array, soft_cap: Any, m: Array, log_sum: Array, where: Any
) -> tuple[Array, Array, Array]:
    """Σ_k w_k (lse − s_k)/K over the K classes that can occur, Σ_k w_k over them, and K."""
    s = scores(lax.optimization_barrier(_rules.masked(where, logits, 1)), soft_cap)
    occurs = jnp.where(s > -jnp.inf, jnp.ones_like(s), 0)
    # By halves, and each a part of their mean: what is above the largest number in a gap or in the sum is not in the end.
    scale = 2.0 ** -math.ceil(math.log2(logits.shape[-1]))
    halves = jnp.where(s > -jnp.inf, times(scale * weights, gap(0.5 * m[..., None], 0.5 * s)), 0)
    halves, total, count = _sums(halves, weights * occurs, occurs)
    count = jnp.maximum(count, 1)
    uniform = halves * (2 / scale / count) + (total / count) * log_sum
    return _rules.masked(where, uniform), total, count


def _sums(*terms: Array) -> tuple[Array, ...]:
    """The sums over the classes: in one pass, since beside a select XLA fuses no sum that stands alone.

    Of few classes that pass would add one after another.
    """
    if terms[0].shape[-1] <= ONE_BLOCK:
        return tuple(jnp.sum(x, axis=-1) for x in terms)
    return _numerics.sums(-1, *terms)


def _keeps_exp(logits: Array, uniform_weights: Any, soft_cap: Any) -> bool:
    """Whether the forward pass keeps e in place of the logits for the backward pass.

    In float32, an exponential costs more than writing it to memory, where the gradient goes anyway. In 16 bits it
    would double the memory; under a cap or with smoothing, the logits themselves are needed.
    """
    return logits.dtype.itemsize >= 4 and uniform_weights is None and soft_cap is None


def _integer_terms_fwd(logits: Array, labels: Array, uniform_weights: Any, soft_cap: Any, where: Any) -> Any:
    keep_exp = _keeps_exp(logits, uniform_weights, soft_cap)
    # A few numbers a row beside one array of the logits' size: one alone, the log-sum-exp, would cost the digits of
    # large logits and of tiny losses.
    terms, e, of_rows = _integer_sums(logits, labels, uniform_weights, soft_cap, where, keep_exp=keep_exp)
    return terms, (None if keep_exp else logits, e, of_rows, labels, uniform_weights, soft_cap, where)


def _with(x: Array, labels: Array, value: Array) -> Array:
    """x with another value at the label."""
    if x.shape[-1] <= ONE_BLOCK:
        return jnp.where(columns_equal(labels, x.shape[-1]), value[..., None], x)
    return _in_place(x, labels, value)


@functools.partial(jnp.vectorize, signature="(k),(),()->(k)")
def _in_place(x: Array, label: Array, value: Array) -> Array:
    """As the select, without its pass over x: in float32, XLA writes to x itself. Row by row, so that it stays sharded."""
    return x.at[label].set(value, mode="promise_in_bounds")


def _integer_terms_bwd(residuals: Any, cotangents: Any) -> tuple[Any, ...]:
    logits, e, (shift, label_score, others, total, count), labels, uniform_weights, soft_cap, where = residuals
    keeps_exp = e is not None
    safe, _ = in_range(labels, e if keeps_exp else logits)
    # From here on, a masked row is one like any other, with cotangents of 0.
    nll_bar, lse_bar, uniform_bar = cotangents = jax.tree.map(lambda x: _rules.masked(where, x), cotangents)
    logits = None if keeps_exp else _rules.masked(where, logits, 1)
    label_e = shifted_exp(finite(label_score), shift, keeps_exp)
    z = others + label_e
    # The label's gradient is −others/Z, never p − 1. And p in full before its cotangent: Z may be as large as can be.
    at_others = nll_bar + lse_bar
    at_own = lse_bar * _numerics.ratio(label_e, z) - nll_bar * _numerics.ratio(others, z)
    if keeps_exp:
        p = _numerics.ratio(e, z[..., None])
        return _with(p * at_others[..., None], safe, at_own), None, None, None, None
    at_others = at_others / z

    logits = lax.optimization_barrier(logits)
    s = finite(scores(logits, soft_cap))
    e = shifted_exp(s, shift[..., None], is_exact(logits, soft_cap))
    gradient = jnp.where(columns_equal(safe, logits.shape[-1]), at_own[..., None], e * at_others[..., None])
    if uniform_weights is not None:
        pull = (total / z)[..., None] * e - uniform_weights
        gradient = gradient + jnp.where(s > -jnp.inf, (uniform_bar / count)[..., None] * pull, 0)
    if soft_cap is not None:
        gradient = gradient * cap_slope(logits, soft_cap)
    options = (uniform_weights, soft_cap)
    if any(option is not None for option in options):
        _, pullback = jax.vjp(
            lambda weights, cap: _integer_terms_value(logits, labels, weights, cap, where), uniform_weights, soft_cap
        )
        options = pullback(cotangents)
    return gradient.astype(logits.dtype), None, *options, None


integer_terms.defvjp(_integer_terms_fwd, functools.partial(_rules.compiled, _integer_terms_bwd))


# --- Soft labels ----------------------------------------------------------------------------------------------------


def targets(labels: Array, smoothing: Any, count: Any, class_weights: Any, s: Array) -> Array:
    """w((1 − ε) y + ε/K) over the K classes that can occur, of which `count` is the number."""
    t = _rules.wide(labels, s)
    if smoothing is not None:
        even = jnp.where(s > -jnp.inf, (smoothing / count)[..., None], 0)
        t = (1 - smoothing[..., None]) * t + even
    return t if class_weights is None else class_weights * t


def occurring(s: Array) -> Array:
    """How many classes can occur, or 1."""
    return jnp.maximum(jnp.sum(s > -jnp.inf, axis=-1), 1).astype(s.dtype)


@jax.custom_vjp
def soft_terms(logits: Array, labels: Array, smoothing: Any, class_weights: Any, soft_cap: Any, where: Any) -> Any:
    """Σ_k t_k (lse − s_k) for the targets t, and lse; 0 in a masked row. 0 · inf is 0."""
    return _soft_terms_value(logits, labels, smoothing, class_weights, soft_cap, where)


def _soft_terms_value(logits: Array, labels: Array, *options_and_where: Any) -> Any:
    terms, _ = _soft_sums(logits, labels, *options_and_where)
    return terms


def _soft_sums(
    logits: Array, labels: Array, smoothing: Any, class_weights: Any, soft_cap: Any, where: Any
) -> tuple[Any, tuple[Any, ...]]:
    """The terms, and the numbers of a row that the backward pass takes."""
    m = _rules.masked(where, maximum(logits, soft_cap))
    rest = sum_of_rest(logits, soft_cap, m, where)
    log_sum = _numerics.log1p(rest)
    s = scores(_rules.masked(where, logits, 1), soft_cap)
    t = targets(_rules.masked(where, labels, 1), None, None, class_weights, s)
    # By halves: a gap may be above the largest number, its part in the sum not.
    halves, total = _sums(times(t, gap(0.5 * m[..., None], 0.5 * s)), t)
    loss, count = 2 * halves + total * log_sum, None
    if smoothing is not None:
        weights = _rules.wide(1.0 if class_weights is None else class_weights, logits)
        uniform, even, count = _uniform_term(logits, weights, soft_cap, m, log_sum, where)
        loss = times(1 - smoothing, loss) + times(smoothing, uniform)
        total = (1 - smoothing) * total + smoothing * (even / count)
    return (_rules.masked(where, loss), _rules.masked(where, m + log_sum)), (m, rest, total, count)


def _soft_terms_fwd(logits: Array, labels: Array, *options_and_where: Any) -> Any:
    terms, of_rows = _soft_sums(logits, labels, *options_and_where)
    return terms, (logits, labels, *options_and_where, *of_rows)


def _soft_terms_bwd(residuals: Any, cotangents: Any) -> tuple[Any, ...]:
    logits, labels, smoothing, class_weights, soft_cap, where, m, rest, total, count = residuals
    loss_bar, lse_bar = cotangents = jax.tree.map(lambda x: _rules.masked(where, x), cotangents)
    logits, labels = _rules.masked(where, logits, 1), _rules.masked(where, labels, 1)
    logits = lax.optimization_barrier(logits)
    s = scores(logits, soft_cap)
    e = shifted_exp(finite(s), m[..., None], is_exact(logits, soft_cap))
    t = targets(labels, smoothing, count, class_weights, s)
    z = (1 + rest)[..., None]
    # p Σt − t as e·(Σt − t) − t·(Z − e), where Z − e is R + (1 − e): neither difference cancels for a hard label.
    pull = e * (total[..., None] - t) - t * (rest[..., None] + (1 - e))
    gradient = (loss_bar[..., None] * pull + lse_bar[..., None] * e) / z
    if soft_cap is not None:
        gradient = gradient * cap_slope(logits, soft_cap)
    label_gradient = loss_bar[..., None] * (gap(m[..., None], s) + _numerics.log1p(rest)[..., None])
    label_gradient = label_gradient if class_weights is None else class_weights * label_gradient
    label_gradient = label_gradient if smoothing is None else (1 - smoothing[..., None]) * label_gradient
    options = (smoothing, class_weights, soft_cap)
    if any(option is not None for option in options):
        _, pullback = jax.vjp(lambda *options: _soft_terms_value(logits, labels, *options, where), *options)
        options = pullback(cotangents)
    label_bar = label_gradient.astype(labels.dtype) if jnp.issubdtype(labels.dtype, jnp.floating) else None
    return gradient.astype(logits.dtype), label_bar, *options, None


soft_terms.defvjp(_soft_terms_fwd, functools.partial(_rules.compiled, _soft_terms_bwd))


# --- A function of every class's probability ------------------------------------------------------------------------


@jax.custom_vjp
def neg_log_softmax(logits: Array, soft_cap: Any) -> Array:
    """lse − s_k for every class, without a zero or a lost digit where p_k is near 1."""
    return _neg_log_softmax_value(logits, soft_cap)


def _neg_log_softmax_value(logits: Array, soft_cap: Any) -> Array:
    m = maximum(logits, soft_cap)
    return gap(m[..., None], scores(logits, soft_cap)) + _numerics.log1p(sum_of_rest(logits, soft_cap, m, None))[..., None]


def _neg_log_softmax_fwd(logits: Array, soft_cap: Any) -> tuple[Array, Any]:
    return _neg_log_softmax_value(logits, soft_cap), (logits, soft_cap)


def _neg_log_softmax_bwd(residuals: Any, cotangent: Array) -> tuple[Array, Any]:
    logits, soft_cap = residuals
    m = maximum(logits, soft_cap)
    rest = sum_of_rest(logits, soft_cap, m, None)[..., None]
    e = shifted_exp(finite(scores(logits, soft_cap)), m[..., None], is_exact(logits, soft_cap))
    total = jnp.sum(cotangent, axis=-1, keepdims=True)
    gradient = (e * (total - cotangent) - cotangent * (rest + (1 - e))) / (1 + rest)
    if soft_cap is None:
        return gradient.astype(logits.dtype), None
    _, pullback = jax.vjp(lambda cap: _neg_log_softmax_value(logits, cap), soft_cap)
    return (gradient * cap_slope(logits, soft_cap)).astype(logits.dtype), *pullback(cotangent)


neg_log_softmax.defvjp(_neg_log_softmax_fwd, functools.partial(_rules.compiled, _neg_log_softmax_bwd))


def expected(
    of_class: Any,
    logits: Array,
    labels: Array,
    smoothing: Any,
    class_weights: Any,
    soft_cap: Any,
    where: Any,
    *options: Any,
) -> Array:
    """Σ_k t_k of_class(logits, soft_cap, *options)_k for integer or soft labels, 0 in a masked row.

    Only the arguments are kept for the backward pass, which does the forward one again.
    """

    @_rules.recomputed
    def formula(
        logits: Array, labels: Array, where: Any, smoothing: Any, weights: Any, soft_cap: Any, *options: Any
    ) -> Array:
        logits = _rules.masked(where, logits, 1)
        smoothing, *options = (_rules.harmless(where, x) for x in (smoothing, *options))
        losses = of_class(logits, soft_cap, *options)
        s = scores(logits, soft_cap)
        count = None if smoothing is None else occurring(s)
        if not jnp.issubdtype(labels.dtype, jnp.integer):
            labels = _rules.masked(where, labels, 1)
            return jnp.sum(times(targets(labels, smoothing, count, weights, s), losses), axis=-1)
        own, invalid = pick(losses, labels, where)
        total = own + invalid if weights is None else times(weight_of(weights, labels, own), own) + invalid
        if smoothing is None:
            return total
        even = targets(jnp.zeros_like(s), jnp.ones_like(invalid), count, weights, s)
        return times(1 - smoothing, total) + smoothing * jnp.sum(times(even, losses), axis=-1)

    total = _rules.call(formula, logits, labels, where, smoothing, class_weights, soft_cap, *options)
    return _rules.masked(where, total)


# --- Losses made of these -------------------------------------------------------------------------------------------


def cross_entropy(
    logits: Array, labels: Array, smoothing: Any, weights: Any, z_loss: Any, soft_cap: Any, where: Any
) -> Array:
    """The cross-entropy for integer or soft labels. JAX differentiates what is made of the numbers of a row."""
    smoothing, z_loss = _rules.harmless(where, smoothing), _rules.harmless(where, z_loss)
    if jnp.issubdtype(labels.dtype, jnp.integer):
        uniform_weights = None
        if smoothing is not None:
            uniform_weights = _rules.wide(1.0 if weights is None else weights, logits)
        loss, lse, uniform = _rules.call(integer_terms, logits, labels, uniform_weights, soft_cap, where)
        if weights is not None:
            loss = times(weight_of(weights, labels, loss), loss)
        if smoothing is not None:
            loss = times(1 - smoothing, loss) + times(smoothing, uniform)
    else:
        loss, lse = _rules.call(soft_terms, logits, labels, smoothing, weights, soft_cap, where)
    return loss if z_loss is None else loss + z_loss * jnp.square(lse)


def of_neg_log(
    loss_of: Any,
    logits: Array,
    labels: Array,
    smoothing: Any,
    weights: Any,
    z_loss: Any,
    soft_cap: Any,
    where: Any,
    *options: Array,
) -> Array:
    """Σ_k t_k loss_of(−log p_k, *options) + λ lse² for a function with loss_of(0) = 0."""
    if smoothing is None and jnp.issubdtype(labels.dtype, jnp.integer):
        nll, lse, _ = _rules.call(integer_terms, logits, labels, None, soft_cap, where)
        loss = loss_of(nll, *(_rules.harmless(where, x) for x in options))
        loss = loss if weights is None else times(weight_of(weights, labels, loss), loss)
        return loss if z_loss is None else loss + _rules.harmless(where, z_loss) * jnp.square(lse)

    def of_class(logits: Array, soft_cap: Any, *options: Array) -> Array:
        return loss_of(_rules.call(neg_log_softmax, logits, soft_cap), *(x[..., None] for x in options))

    loss = expected(of_class, logits, labels, smoothing, weights, soft_cap, where, *options)
    return plus_z_loss(loss, z_loss, logits, soft_cap, where)


def plus_z_loss(loss: Array, z_loss: Any, logits: Array, soft_cap: Any, where: Any) -> Array:
    """loss + λ lse²."""
    if z_loss is None:
        return loss
    no_labels = jnp.zeros(logits.shape[:-1], jnp.int32)
    _, lse, _ = _rules.call(integer_terms, logits, no_labels, None, soft_cap, where)
    return loss + _rules.harmless(where, z_loss) * jnp.square(lse)
