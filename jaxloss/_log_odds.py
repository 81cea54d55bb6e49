"""The log-odds of a class, with the rounding error beside it: what the softmax focal losses are made of.

The margin of a class over the others together, log p/(1 − p), is its score less the log-sum-exp of the others. Powers of
1 − p, as the focal losses take, magnify every error in it: hence the shift is the maximum of the others, and what the
margin lost in rounding is handed on beside it, as a constant.

Notation and shapes as in `_exponentials`.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxloss import _rules
from jaxloss._exponentials import (
    at_label,
    cap_slope,
    columns_equal,
    difference_error,
    finite,
    first_maximum,
    is_exact,
    log_in_parts,
    maximum,
    others_exp,
    scores,
    shifted_exp,
    sum_by_largest,
)


@jax.custom_vjp
def label_margin(logits: Array, labels: Array, soft_cap: Any) -> tuple[Array, Array]:
    """s_y − log Σ_{k≠y} exp(s_k), inf where there is no other class, and its rounding error."""
    return _label_margin_value(logits, labels, soft_cap)


def _label_margin_value(logits: Array, labels: Array, soft_cap: Any) -> tuple[Array, Array]:
    return _margin_of_sum(scores(at_label(logits, labels), soft_cap), *sum_by_largest(logits, soft_cap, labels))


def _margin_of_sum(score: Array, total: Array, lost: Array, shift: Array) -> tuple[Array, Array]:
    """The margin of a score over others with Σ exp(s − shift) = total + lost, and its rounding error."""
    own, shift = finite(score), finite(shift)
    alone = total == 0
    total = jnp.where(alone, 1, total)
    high, low = log_in_parts(total)
    lead = own - shift
    rest = lead - high
    margin = rest - low
    error = difference_error(own, shift, lead) + difference_error(lead, high, rest) + difference_error(rest, low, margin)
    error = lax.stop_gradient(error - lost / total)
    return jnp.where(alone, jnp.inf, margin), jnp.where(alone | ~jnp.isfinite(error), 0, error)


def _label_margin_fwd(logits: Array, labels: Array, soft_cap: Any) -> tuple[Any, Any]:
    total, lost, largest = sum_by_largest(logits, soft_cap, labels)
    margin = _margin_of_sum(scores(at_label(logits, labels), soft_cap), total, lost, largest)
    return margin, (logits, labels, soft_cap, total, largest)


def _label_margin_bwd(residuals: Any, cotangents: Any) -> tuple[Array, None, Any]:
    logits, labels, soft_cap, total, largest = residuals
    logits, cotangent = lax.optimization_barrier(logits), cotangents[0]
    pull = cotangent / jnp.where(total == 0, 1, total)
    others = -pull[..., None] * others_exp(logits, soft_cap, labels, largest)
    gradient = jnp.where(columns_equal(labels, logits.shape[-1]), cotangent[..., None], others)
    if soft_cap is None:
        return gradient.astype(logits.dtype), None, None
    _, pullback = jax.vjp(lambda cap: _label_margin_value(logits, labels, cap), soft_cap)
    return (gradient * cap_slope(logits, soft_cap)).astype(logits.dtype), None, *pullback(cotangents)


label_margin.defvjp(_label_margin_fwd, functools.partial(_rules.compiled, _label_margin_bwd))


@jax.custom_vjp
def margins(logits: Array, soft_cap: Any) -> tuple[Array, Array]:
    """The margin of every class over the others together, and its rounding error."""
    return _margins_value(logits, soft_cap)


def _margins_value(logits: Array, soft_cap: Any) -> tuple[Array, Array]:
    is_top, (total, lost, largest), _, (below, lost_below) = _sums_of_others(logits, soft_cap)
    total = jnp.where(is_top, total[..., None], below)
    lost = jnp.where(is_top, lost[..., None], lost_below)
    shift = jnp.where(is_top, largest[..., None], maximum(logits, soft_cap)[..., None])
    return _margin_of_sum(scores(logits, soft_cap), total, lost, shift)


def _sums_of_others(logits: Array, soft_cap: Any) -> tuple[Array, tuple[Array, ...], Array, tuple[Array, Array]]:
    """Which class is the top, the first maximum; `sum_by_largest` of its others; e; and for each class Σ e over its others.

    The last with what it lost in rounding: below the top it is 1 + (R − e), with R = Σ e over all below; at the top, 1.
    """
    top, m = first_maximum(logits), maximum(logits, soft_cap)
    is_top = columns_equal(top, logits.shape[-1])
    total, lost, largest = sum_by_largest(logits, soft_cap, top)
    exact = is_exact(logits, soft_cap)
    e = shifted_exp(finite(scores(logits, soft_cap)), m[..., None], exact)
    of_top = shifted_exp(finite(scores(at_label(logits, top), soft_cap)), m, exact)  # 1, but its derivative is not 0
    rest = (total + lost) * shifted_exp(finite(largest), m, exact)
    of_top, rest = of_top[..., None], rest[..., None]
    without = rest - e
    below = of_top + without
    lost_below = difference_error(rest, e, without) + difference_error(of_top, -without, below)
    return is_top, (total, lost, largest), e, (jnp.where(is_top, 1, below), lost_below)


def _margins_fwd(logits: Array, soft_cap: Any) -> tuple[Any, Any]:
    return _margins_value(logits, soft_cap), (logits, soft_cap)


def _margins_bwd(residuals: Any, cotangents: Any) -> tuple[Array, Any]:
    logits, soft_cap = residuals
    cotangent = cotangents[0]
    is_top, (total, _lost, largest), e, (below, _lost_below) = _sums_of_others(logits, soft_cap)
    of_top = jnp.sum(jnp.where(is_top, cotangent, 0), axis=-1)
    others = others_exp(logits, soft_cap, first_maximum(logits), largest)
    from_top = (of_top / jnp.where(total == 0, 1, total))[..., None] * others
    # Each class below the top pulls on all others by its cotangent over the sum of its others.
    pull = jnp.where(is_top, 0, cotangent / below)
    all_pulls = jnp.sum(pull, axis=-1, keepdims=True)
    gradient = cotangent - e * (all_pulls - pull) - from_top
    gradient = jnp.where(is_top, of_top[..., None] - e * all_pulls, gradient)  # e is 1 at the top; its derivative is not 0
    if soft_cap is None:
        return gradient.astype(logits.dtype), None
    _, pullback = jax.vjp(lambda cap: _margins_value(logits, cap), soft_cap)
    return (gradient * cap_slope(logits, soft_cap)).astype(logits.dtype), *pullback(cotangents)


margins.defvjp(_margins_fwd, functools.partial(_rules.compiled, _margins_bwd))
